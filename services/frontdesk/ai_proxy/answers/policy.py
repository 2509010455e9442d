"""How buyers are answered: what a seller said for each scope, and what holds in effect.

A policy is of an organization, of one of its accounts, or of one item of an account. None means that nothing
was said; zero, an empty text and an empty list are something said, and then count.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from decimal import Decimal
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from frontdesk.ai_proxy.answers.defaults import AFTER_SALE, OTHER, PERSON_WORDS, PRICE, TECHNICAL
from frontdesk.ai_proxy.model import DEFAULT_MODEL
from frontdesk.ai_proxy.tables import policies
from frontdesk.api.ai.v1 import policy_service_pb2 as pb
from frontdesk.kit.errors import InvalidArgument

MIN_CONFIDENCE = 0.5
MAX_ID = 128
MAX_TEXT = 4_000
MAX_STATEMENT = 500
MAX_STATEMENTS = 100
MAX_WORD = 64
MAX_WORDS = 300
MAX_TOTAL = 20_000
MAX_ROUNDS = 100

_MODEL = re.compile(r"[A-Za-z0-9._:/-]{1,64}")
_PLATFORM_PRICE = re.compile(r"[0-9]{1,12}(?:\.[0-9]{0,8})?|\.[0-9]{1,8}")
_DECIMAL = re.compile(r"[0-9]{1,9}(\.[0-9]{1,4})?")


@dataclass(frozen=True, slots=True)
class StoredPolicy:
    """What was said for one scope; money and percents are decimal text."""

    organization_id: str
    account_id: str = ""
    item_id: str = ""
    model: str | None = None
    temperature: float | None = None
    persona: str | None = None
    price_prompt: str | None = None
    technical_prompt: str | None = None
    after_sale_prompt: str | None = None
    other_prompt: str | None = None
    statements: tuple[str, ...] | None = None
    min_confidence: float | None = None
    max_rounds: int | None = None
    max_discount_percent: str | None = None
    max_discount_amount: str | None = None
    floor_price: str | None = None
    blocked_words: tuple[str, ...] | None = None
    contacts_allowed: bool | None = None
    person_words: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Policy:
    """What holds in a scope. A discount of None was said nowhere; where neither is said there is none."""

    model: str = DEFAULT_MODEL
    temperature: float | None = None
    persona: str = ""
    price_prompt: str = PRICE
    technical_prompt: str = TECHNICAL
    after_sale_prompt: str = AFTER_SALE
    other_prompt: str = OTHER
    statements: tuple[str, ...] = ()
    min_confidence: float = MIN_CONFIDENCE
    max_rounds: int = 0
    max_discount_percent: Decimal | None = None
    max_discount_amount: Decimal | None = None
    floor_price: Decimal | None = None
    blocked_words: tuple[str, ...] = ()
    contacts_allowed: bool = False
    person_words: tuple[str, ...] = PERSON_WORDS


SCOPE = ("organization_id", "account_id", "item_id")
SAID = tuple(field.name for field in fields(StoredPolicy) if field.name not in SCOPE)
LISTS = ("statements", "blocked_words", "person_words")
MONEY = ("max_discount_percent", "max_discount_amount", "floor_price")


def effective(stored: Iterable[StoredPolicy], account_id: str, item_id: str) -> Policy:
    """What holds for an item of an account, both may be empty: of each field, what the narrowest says."""
    scopes = [("", "")]
    if account_id:
        scopes.append((account_id, ""))
        if item_id:
            scopes.append((account_id, item_id))
    by_scope = {(policy.account_id, policy.item_id): policy for policy in stored}
    said: dict[str, Any] = {}
    for policy in (by_scope[scope] for scope in scopes if scope in by_scope):
        said |= {name: value for name in SAID if (value := getattr(policy, name)) is not None}
    for name in MONEY:
        if name in said:
            said[name] = Decimal(said[name])
    return Policy(**said)


async def load_policies(connection: AsyncConnection, organization_id: str) -> tuple[StoredPolicy, ...]:
    """Every policy of an organization."""
    rows = await connection.execute(select(policies).where(policies.c.organization_id == organization_id))
    return tuple(policy_from_row(row) for row in rows)


def policy_from_row(row: Any) -> StoredPolicy:
    """A stored policy; a field of a newer version, which a replica of it may have written, is left out."""
    body: dict[str, Any] = {
        name: tuple(value) if name in LISTS else value for name, value in row.body.items() if name in SAID
    }
    return StoredPolicy(row.organization_id, row.account_id, row.item_id, **body)


def policy_to_body(policy: StoredPolicy) -> dict[str, Any]:
    """What the JSON column keeps: only what was said."""
    return {name: value for name in SAID if (value := getattr(policy, name)) is not None}


def policy_from_proto(policy: pb.Policy, organization_id: str, prefix: str = "policy.") -> StoredPolicy:
    """A policy as a caller wrote it; InvalidArgument names the field behind `prefix`."""
    if policy.account_id:
        check_id(policy.account_id, f"{prefix}account_id")
    if policy.item_id:
        check_id(policy.item_id, f"{prefix}item_id")
        if not policy.account_id:
            raise InvalidArgument(f"{prefix}account_id", "is needed with an item")
    said: dict[str, Any] = {}
    for name in SAID:
        if policy.HasField(name):  # type: ignore[arg-type]  # SAID are the names of its optional fields
            value = getattr(policy, name)
            said[name] = _CHECKS[name](list(value.words) if name in LISTS else value, prefix + name)
    total = sum(len(text) for value in said.values() for text in _texts(value))
    if total > MAX_TOTAL:
        raise InvalidArgument(
            prefix.rstrip("."), f"has {total} characters, at most {MAX_TOTAL} are allowed in one policy"
        )
    return StoredPolicy(organization_id, policy.account_id, policy.item_id, **said)


def policy_to_proto(policy: StoredPolicy) -> pb.Policy:
    """What was said, and nothing else."""
    return _proto({name: getattr(policy, name) for name in (*SCOPE, *SAID)})


def effective_to_proto(policy: Policy, organization_id: str, account_id: str, item_id: str) -> pb.Policy:
    """What holds in a scope, with every default."""
    values = {name: getattr(policy, name) for name in SAID}
    for name in MONEY:
        values[name] = None if values[name] is None else f"{values[name]:f}"
    return _proto({"organization_id": organization_id, "account_id": account_id, "item_id": item_id} | values)


def _proto(values: Mapping[str, Any]) -> pb.Policy:
    given = {name: value for name, value in values.items() if value is not None}
    for name in LISTS:
        if name in given:
            given[name] = pb.Words(words=given[name])
    return pb.Policy(**given)


def check_id(value: str, field: str) -> str:
    """An id that fits into a column; InvalidArgument names the field."""
    if not value or len(value) > MAX_ID or not value.isprintable():
        raise InvalidArgument(field, f"must be 1 to {MAX_ID} printable characters")
    return value


def _texts(value: object) -> Sequence[str]:
    if isinstance(value, str):
        return (value,)
    return value if isinstance(value, tuple) else ()


def _text(most: int, *, least: int = 0) -> Callable[[str, str], str]:
    def check(value: str, field: str) -> str:
        text = value.replace("\r\n", "\n").strip()
        if not least <= len(text) <= most:
            raise InvalidArgument(field, f"has {len(text)} characters, must have {least} to {most}")
        if any(not char.isprintable() and char not in "\n\t" and ord(char) < 0xA0 for char in text):
            raise InvalidArgument(field, "has a control character in it")
        return text

    return check


def _words(most: int, longest: int) -> Callable[[Sequence[str], str], tuple[str, ...]]:
    one = _text(longest, least=1)

    def check(values: Sequence[str], field: str) -> tuple[str, ...]:
        if len(values) > most:
            raise InvalidArgument(field, f"has {len(values)} entries, at most {most} are allowed")
        checked = (one(value, f"{field}.words[{number}]") for number, value in enumerate(values))
        return tuple(dict.fromkeys(checked))

    return check


def _decimal(most: Decimal) -> Callable[[str, str], str]:
    def check(value: str, field: str) -> str:
        if not _DECIMAL.fullmatch(value) or Decimal(value) > most:
            raise InvalidArgument(field, f"must be a decimal number from 0 to {most}, such as 12.50")
        return value

    return check


def _between(least: float, most: float) -> Callable[[float, str], float]:
    def check(value: float, field: str) -> float:
        if not (math.isfinite(value) and least <= value <= most):
            raise InvalidArgument(field, f"must be {least:g} to {most:g}")
        return value

    return check


def _rounds(value: int, field: str) -> int:
    if not 0 <= value <= MAX_ROUNDS:
        raise InvalidArgument(field, f"must be 0 to {MAX_ROUNDS}")
    return value


def _model(value: str, field: str) -> str:
    if value and not _MODEL.fullmatch(value):
        raise InvalidArgument(field, "1 to 64 letters, digits, `-`, `_`, `.`, `:` and `/`")
    return value or DEFAULT_MODEL


_MOST_MONEY = Decimal("999999999")
_CHECKS: dict[str, Callable[[Any, str], Any]] = {
    "model": _model,
    "temperature": _between(0, 2),
    "persona": _text(MAX_TEXT),
    "price_prompt": _text(MAX_TEXT),
    "technical_prompt": _text(MAX_TEXT),
    "after_sale_prompt": _text(MAX_TEXT),
    "other_prompt": _text(MAX_TEXT),
    "statements": _words(MAX_STATEMENTS, MAX_STATEMENT),
    "min_confidence": _between(0, 1),
    "max_rounds": _rounds,
    "max_discount_percent": _decimal(Decimal(100)),
    "max_discount_amount": _decimal(_MOST_MONEY),
    "floor_price": _decimal(_MOST_MONEY),
    "blocked_words": _words(MAX_WORDS, MAX_WORD),
    "contacts_allowed": lambda value, _field: bool(value),
    "person_words": _words(MAX_WORDS, MAX_WORD),
}


def money(text: str) -> Decimal | None:
    """A price as a platform writes it, in yuan; None when it says none."""
    cleaned = text.strip().removeprefix("¥").removeprefix("￥").removesuffix("元").replace(",", "").strip()
    # Nothing like 1E+999999, which is a megabyte of digits in a prompt.
    if not _PLATFORM_PRICE.fullmatch(cleaned):
        return None
    return Decimal(cleaned) or None
