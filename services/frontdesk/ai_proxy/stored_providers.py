"""Providers as they lie in the database."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from sqlalchemy import Row, select
from sqlalchemy.ext.asyncio import AsyncConnection

from frontdesk.ai_proxy.model import Model, Price, Provider, ProviderLimits
from frontdesk.ai_proxy.tables import providers
from frontdesk.kit.secrets import SecretBox


@dataclass(frozen=True, slots=True)
class LimitDefaults:
    """What holds for a provider that says nothing about it."""

    concurrency: int = 32
    connect_ms: int = 5_000
    first_token_ms: int = 20_000
    idle_ms: int = 20_000
    attempts: int = 2


def key_context(provider_id: str) -> str:
    """What a provider's encrypted key is bound to."""
    return f"providers:api_key:{provider_id}"


async def load_providers(
    connection: AsyncConnection, organization_id: str, secrets: SecretBox, defaults: LimitDefaults
) -> tuple[Provider, ...]:
    """Every provider of an organization, by priority and name, with its key."""
    rows = await connection.execute(select(providers).where(providers.c.organization_id == organization_id))
    found = (provider_from_row(row, secrets, defaults) for row in rows)
    return tuple(sorted(found, key=lambda provider: (provider.priority, provider.name)))


def provider_from_row(row: Row[tuple[Any, ...]], secrets: SecretBox, defaults: LimitDefaults) -> Provider:
    """A stored provider; raises SecretError when its key can't be read."""
    body = row.body
    key = secrets.decrypt(row.api_key, key_context(row.provider_id)).decode() if row.api_key else ""
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
