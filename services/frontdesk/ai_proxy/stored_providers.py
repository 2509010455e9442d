"""Providers as they lie in the database and as the protos write them.

A provider's body is JSON: kind, base_url, models, priority, weight, limits, disabled. A limit of 0 is kept as
0: it means the installation's default, whatever that is later.
"""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from google.protobuf.message import Message
from sqlalchemy import Row, select
from sqlalchemy.ext.asyncio import AsyncConnection

from frontdesk.ai_proxy.base_url import check_new_base_url
from frontdesk.ai_proxy.model import OFFLINE, Model, Price, Provider, ProviderLimits
from frontdesk.ai_proxy.tables import UNREADABLE, providers
from frontdesk.api.ai.v1 import provider_service_pb2 as pb
from frontdesk.kit.errors import FrontdeskError, InvalidArgument
from frontdesk.kit.secrets import SecretBox, SecretError

log = logging.getLogger(__name__)

KINDS: Mapping[pb.ProviderKind.ValueType, str] = {
    pb.PROVIDER_KIND_OPENAI: "openai",
    pb.PROVIDER_KIND_DASHSCOPE: "dashscope",
    pb.PROVIDER_KIND_ANTHROPIC: "anthropic",
    pb.PROVIDER_KIND_GEMINI: "gemini",
}
_KIND_NUMBERS = {name: number for number, name in KINDS.items()}

MOST_MODELS = 64
NAME_LENGTH = 64
UPSTREAM_NAME_LENGTH = 128
KEY_LENGTH = 4096
# The largest values that a caller may set; milliseconds.
MOST = {
    "concurrency": 100,
    "connect_ms": 60_000,
    "first_token_ms": 600_000,
    "idle_ms": 600_000,
    "attempts": 10,
}
MOST_PRIORITY, MOST_WEIGHT = 100, 1000
MOST_TOKENS = 10_000_000

_MODEL_NAME = re.compile(r"[A-Za-z0-9._:/-]{1,64}")
# Below a million for a million tokens, exact to what a call's cost is kept in (10^-12).
_PRICE = re.compile(r"[0-9]{1,6}(\.[0-9]{1,6})?")
_CURRENCY = re.compile(r"[A-Z]{3}")


@dataclass(frozen=True, slots=True)
class LimitDefaults:
    """What holds for a provider that says nothing about it."""

    concurrency: int = 32
    connect_ms: int = 5_000
    first_token_ms: int = 20_000
    idle_ms: int = 20_000
    attempts: int = 2


class UnreadableProvider(FrontdeskError):
    """A stored provider can't be used; the message says why and holds nothing of what it said."""


def key_context(provider_id: str) -> str:
    """What a provider's encrypted key is bound to."""
    return f"providers:api_key:{provider_id}"


async def load_providers(
    connection: AsyncConnection, organization_id: str, secrets: SecretBox, defaults: LimitDefaults
) -> tuple[Provider, ...]:
    """An organization's providers by priority and name; one that can't be read is left out."""
    rows = await connection.execute(select(providers).where(providers.c.organization_id == organization_id))
    found = []
    for row in rows:
        try:
            found.append(provider_from_row(row, secrets, defaults))
        except UnreadableProvider as error:
            # It must not take the other providers along.
            log.warning("provider %s is left out: %s", row.provider_id, error.message)
    return tuple(sorted(found, key=lambda provider: (provider.priority, provider.name)))


def provider_from_row(row: Row[tuple[Any, ...]], secrets: SecretBox, defaults: LimitDefaults) -> Provider:
    """A stored provider; raises UnreadableProvider. Fields that this version does not know are left out."""
    try:
        key = secrets.decrypt_text(row.api_key, key_context(row.provider_id)) if row.api_key else ""
        return _provider(row, key, defaults)
    except SecretError as error:
        raise UnreadableProvider(error.message) from error
    except UNREADABLE as error:
        # By its kind alone: the error's own text may quote what is in the row.
        raise UnreadableProvider(f"its row can't be read ({type(error).__name__})") from None


def _provider(row: Row[tuple[Any, ...]], key: str, defaults: LimitDefaults) -> Provider:
    body = row.body
    return Provider(
        provider_id=row.provider_id,
        organization_id=row.organization_id,
        name=row.name,
        kind=body["kind"],
        base_url=body["base_url"],
        api_key=key,
        models=tuple(_model(model) for model in body["models"]),
        limits=_limits(body["limits"], defaults),
        priority=body["priority"],
        weight=body["weight"],
        disabled=body["disabled"],
    )


def _model(body: Mapping[str, Any]) -> Model:
    cached = body["cached_price"]
    return Model(
        name=body["name"],
        upstream_name=body["upstream_name"] or body["name"],
        embeds=body["embeds"],
        price=Price(
            prompt=Decimal(body["prompt_price"] or 0),
            completion=Decimal(body["completion_price"] or 0),
            cached=Decimal(cached) if cached else None,
            currency=body["currency"],
        ),
        max_tokens=body["max_tokens"],
    )


def _limits(body: Mapping[str, int], defaults: LimitDefaults) -> ProviderLimits:
    return ProviderLimits(
        concurrency=body["concurrency"] or defaults.concurrency,
        connect_s=(body["connect_ms"] or defaults.connect_ms) / 1000,
        first_token_s=(body["first_token_ms"] or defaults.first_token_ms) / 1000,
        idle_s=(body["idle_ms"] or defaults.idle_ms) / 1000,
        attempts=body["attempts"] or defaults.attempts,
    )


def body_from_proto(provider: pb.Provider, prefix: str) -> dict[str, Any]:
    """A provider's body as a caller wrote it; InvalidArgument names the field behind `prefix`."""
    if provider.kind not in KINDS:
        raise InvalidArgument(f"{prefix}kind", "must be one of those that this version knows")
    check_new_base_url(provider.base_url, f"{prefix}base_url")
    if not 1 <= len(provider.models) <= MOST_MODELS:
        raise InvalidArgument(f"{prefix}models", f"1 to {MOST_MODELS} of them")
    models = [
        _model_to_body(model, f"{prefix}models[{number}].") for number, model in enumerate(provider.models)
    ]
    seen: set[str] = set()
    for number, model in enumerate(models):
        if model["name"] in seen:
            raise InvalidArgument(f"{prefix}models[{number}].name", "stands there twice")
        seen.add(model["name"])
    limits = {name: getattr(provider.limits, name) for name in MOST}
    for name, most in MOST.items():
        _check_range(limits[name], 0, most, f"{prefix}limits.{name}")
    _check_range(provider.priority, 0, MOST_PRIORITY, f"{prefix}priority")
    _check_range(provider.weight, 0, MOST_WEIGHT, f"{prefix}weight")
    return {
        "kind": KINDS[provider.kind],
        "base_url": provider.base_url,
        "models": models,
        "priority": provider.priority,
        "weight": provider.weight or 1,
        "limits": limits,
        "disabled": provider.disabled,
    }


def check_provider_name(name: str, field: str) -> str:
    """A provider's name; raises InvalidArgument."""
    if not 1 <= len(name) <= NAME_LENGTH or not name.isprintable() or name != name.strip():
        raise InvalidArgument(field, f"1 to {NAME_LENGTH} characters, no blanks around them")
    if name.casefold() == OFFLINE:
        raise InvalidArgument(field, f"{OFFLINE} is the name of what answers without a model")
    return name


def check_key(key: str, field: str) -> str:
    """A provider's key, which travels in a header; raises InvalidArgument."""
    if len(key) > KEY_LENGTH or not (key.isascii() and key.isprintable()) or " " in key:
        raise InvalidArgument(field, f"at most {KEY_LENGTH} ASCII characters without blanks")
    return key


def row_to_proto(row: Row[tuple[Any, ...]]) -> pb.Provider:
    """A stored provider as callers see it: without its key, without fields that this version does not know,
    and with little more than its name when the rest can't be read."""
    provider = pb.Provider(
        provider_id=row.provider_id,
        organization_id=row.organization_id,
        name=row.name,
        has_api_key=bool(row.api_key),
    )
    with contextlib.suppress(*UNREADABLE):
        provider.MergeFrom(_body_to_proto(row.body))
    return provider


def _body_to_proto(body: Mapping[str, Any]) -> pb.Provider:
    return pb.Provider(
        kind=_KIND_NUMBERS.get(body["kind"], pb.PROVIDER_KIND_UNSPECIFIED),
        base_url=body["base_url"],
        models=[pb.Model(**_known(pb.Model, model)) for model in body["models"]],
        priority=body["priority"],
        weight=body["weight"],
        limits=pb.ProviderLimits(**_known(pb.ProviderLimits, body["limits"])),
        disabled=body["disabled"],
    )


def _known(kind: type[Message], body: Mapping[str, Any]) -> dict[str, Any]:
    names = kind.DESCRIPTOR.fields_by_name
    return {name: value for name, value in body.items() if name in names}


def _model_to_body(model: pb.Model, prefix: str) -> dict[str, Any]:
    if not _MODEL_NAME.fullmatch(model.name):
        raise InvalidArgument(f"{prefix}name", "1 to 64 letters, digits, `-`, `_`, `.`, `:` and `/`")
    if model.name == OFFLINE:
        raise InvalidArgument(f"{prefix}name", f"{OFFLINE} is the name of what answers without a model")
    if len(model.upstream_name) > UPSTREAM_NAME_LENGTH or not model.upstream_name.isprintable():
        raise InvalidArgument(f"{prefix}upstream_name", f"at most {UPSTREAM_NAME_LENGTH} characters")
    prices = {name: getattr(model, name) for name in ("prompt_price", "cached_price", "completion_price")}
    for name, price in prices.items():
        if price and not _PRICE.fullmatch(price):
            raise InvalidArgument(
                f"{prefix}{name}", "must be a decimal number from 0 to 999999 with at most six places"
            )
    if any(prices.values()) and not model.currency:
        raise InvalidArgument(f"{prefix}currency", "is needed with a price")
    if model.currency and not _CURRENCY.fullmatch(model.currency):
        raise InvalidArgument(f"{prefix}currency", "must be three capital letters (ISO 4217)")
    _check_range(model.max_tokens, 0, MOST_TOKENS, f"{prefix}max_tokens")
    return {
        "name": model.name,
        "upstream_name": model.upstream_name,
        "embeds": model.embeds,
        **prices,
        "currency": model.currency,
        "max_tokens": model.max_tokens,
    }


def _check_range(value: int, least: int, most: int, field: str) -> None:
    if not least <= value <= most:
        raise InvalidArgument(field, f"must be {least} to {most}")
