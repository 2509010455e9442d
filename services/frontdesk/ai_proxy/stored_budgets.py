"""Budgets as they lie in the database, and as the protos write them.

Whoever changes what a budget has used holds its row: `lock_standings` takes rows in the order of their ids,
so that two replicas never wait for each other. Reservations are only touched by who holds their budget.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from typing import Any, TypeVar

from sqlalchemy import Insert, bindparam, delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from frontdesk.ai_proxy.ledger import TOKENS, BudgetDefinition, Reservation, Scope, Standing
from frontdesk.ai_proxy.money import amount_text, parse_amount
from frontdesk.ai_proxy.periods import Period, check_time_zone
from frontdesk.ai_proxy.tables import budgets, reservations
from frontdesk.api.ai.v1 import budget_service_pb2 as pb
from frontdesk.kit.database import any_of
from frontdesk.kit.errors import InvalidArgument

log = logging.getLogger(__name__)

# Expired reservations that one transaction counts; the rest is for the next one.
MOST_EXPIRED = 500
_MODEL_LENGTH, _ID_LENGTH = 64, 128
_N = TypeVar("_N")
_E = TypeVar("_E")

SCOPES = {
    pb.BUDGET_SCOPE_ORGANIZATION: Scope.ORGANIZATION,
    pb.BUDGET_SCOPE_ACCOUNT: Scope.ACCOUNT,
    pb.BUDGET_SCOPE_API_KEY: Scope.API_KEY,
    pb.BUDGET_SCOPE_MODEL: Scope.MODEL,
}
PERIODS = {
    pb.BUDGET_PERIOD_DAY: Period.DAY,
    pb.BUDGET_PERIOD_MONTH: Period.MONTH,
    pb.BUDGET_PERIOD_TOTAL: Period.TOTAL,
}
_SCOPE_NUMBERS = {scope: number for number, scope in SCOPES.items()}
_PERIOD_NUMBERS = {period: number for number, period in PERIODS.items()}

_OF_ORGANIZATION = (
    select(budgets)
    .where(budgets.c.organization_id == bindparam("organization"))
    .order_by(budgets.c.budget_id)
)
_LOCKED = (
    select(budgets)
    .where(budgets.c.budget_id.in_(any_of("ids")))
    .order_by(budgets.c.budget_id)
    .with_for_update()
)
_SAVE = (
    update(budgets)
    .where(budgets.c.budget_id == bindparam("id_"))
    .values(
        period_start_ms=bindparam("new_period_start_ms"),
        spent=bindparam("new_spent"),
        reserved=bindparam("new_reserved"),
        warned_percent=bindparam("new_warned"),
        told_percent=bindparam("new_told"),
    )
)
_OF_CALLS = select(reservations).where(reservations.c.call_id.in_(any_of("calls")))
_OVERDUE = (
    select(reservations)
    .where(
        reservations.c.budget_id.in_(any_of("ids")),
        reservations.c.expired.is_(False),
        reservations.c.expires_at_ms <= bindparam("now"),
    )
    .order_by(reservations.c.expires_at_ms)
    .limit(MOST_EXPIRED)
)
_EXPIRE = (
    update(reservations)
    .where(reservations.c.call_id == bindparam("call"), reservations.c.budget_id == bindparam("id_"))
    .values(expired=True)
)
_DELETE = delete(reservations).where(reservations.c.call_id.in_(any_of("calls")))


@dataclass(frozen=True, slots=True)
class Directory:
    """The budgets of an organization by what they count."""

    by_subject: Mapping[tuple[Scope, str], tuple[BudgetDefinition, ...]]

    @classmethod
    def of(cls, definitions: Iterable[BudgetDefinition]) -> Directory:
        """Of all budgets of one organization."""
        found: dict[tuple[Scope, str], tuple[BudgetDefinition, ...]] = {}
        for budget in definitions:
            key = (budget.scope, budget.subject)
            found[key] = (*found.get(key, ()), budget)
        return cls(found)

    def covering(
        self, account_id: str, api_key_id: str, model: str, currency: str
    ) -> tuple[BudgetDefinition, ...]:
        """The budgets that a call belongs to, those that are switched off left out; the widest first."""
        if not self.by_subject:
            return ()
        keys = (
            (Scope.ORGANIZATION, ""),
            (Scope.ACCOUNT, account_id),
            (Scope.API_KEY, api_key_id),
            (Scope.MODEL, model),
        )
        return tuple(
            budget
            for key in keys
            for budget in self.by_subject.get(key, ())
            if not budget.disabled and budget.counts(currency)
        )


async def load_budgets(connection: AsyncConnection, organization_id: str) -> tuple[BudgetDefinition, ...]:
    """Every budget of an organization that this version knows, those that are switched off too."""
    rows = await connection.execute(_OF_ORGANIZATION, {"organization": organization_id})
    return tuple(definition_from_row(row) for row in rows if _is_known(row))


async def read_standings(connection: AsyncConnection, organization_id: str) -> list[Standing]:
    """Every budget of an organization that this version knows, with what was used, as last written."""
    rows = await connection.execute(_OF_ORGANIZATION, {"organization": organization_id})
    return [standing_from_row(row) for row in rows if _is_known(row)]


def _is_known(row: Any) -> bool:
    """Whether this version can count a budget that a replica of a newer one may have written."""
    if row.scope in _SCOPE_NUMBERS and row.period in _PERIOD_NUMBERS:
        return True
    log.warning("budget %s is left out: this version does not know its scope or period", row.budget_id)
    return False


async def lock_standings(
    connection: AsyncConnection, budget_ids: Collection[str], now_ms: int
) -> dict[str, Standing]:
    """These budgets in the period of `now_ms`, until the caller's transaction ends; those that were deleted
    are left out."""
    if not budget_ids:
        return {}
    rows = await connection.execute(_LOCKED, {"ids": sorted(budget_ids)})
    found = {row.budget_id: standing_from_row(row) for row in rows}
    for standing in found.values():
        standing.roll(now_ms)
    return found


async def save_standings(connection: AsyncConnection, standings: Iterable[Standing]) -> None:
    """Write what budgets have used."""
    changes = [
        {
            "id_": standing.budget.budget_id,
            "new_period_start_ms": standing.period_start_ms,
            "new_spent": amount_text(standing.spent),
            "new_reserved": amount_text(standing.reserved),
            "new_warned": standing.warned,
            "new_told": standing.told,
        }
        for standing in standings
    ]
    if changes:
        await connection.execute(_SAVE, changes)


async def reservations_of(
    connection: AsyncConnection, call_ids: Collection[str]
) -> dict[tuple[str, str], Reservation]:
    """What calls set aside, by call and budget; to change it, hold the budgets."""
    if not call_ids:
        return {}
    rows = await connection.execute(_OF_CALLS, {"calls": sorted(call_ids)})
    return {(row.call_id, row.budget_id): reservation_from_row(row) for row in rows}


async def add_reservations(connection: AsyncConnection, made: Sequence[Reservation]) -> None:
    """Write what calls set aside."""
    if made:
        rows = [
            {
                "call_id": one.call_id,
                "budget_id": one.budget_id,
                "organization_id": one.organization_id,
                "period_start_ms": one.period_start_ms,
                "amount": amount_text(one.amount),
                "expires_at_ms": one.expires_at_ms,
                "expired": one.expired,
            }
            for one in made
        ]
        await connection.execute(_insert_reservations(), rows)


@lru_cache(1)
def _insert_reservations() -> Insert:
    return insert(reservations)


async def drop_reservations(connection: AsyncConnection, call_ids: Collection[str]) -> None:
    """Forget what calls set aside."""
    if call_ids:
        await connection.execute(_DELETE, {"calls": sorted(call_ids)})


async def expire_overdue(connection: AsyncConnection, standings: Mapping[str, Standing], now_ms: int) -> int:
    """Count as used what nobody settled in time, in budgets that the caller holds; says how many it were."""
    if not standings:
        return 0
    rows = await connection.execute(_OVERDUE, {"ids": sorted(standings), "now": now_ms})
    overdue = [reservation_from_row(row) for row in rows]
    for reservation in overdue:
        standings[reservation.budget_id].expire(reservation)
    if overdue:
        await connection.execute(_EXPIRE, [{"call": one.call_id, "id_": one.budget_id} for one in overdue])
    return len(overdue)


def definition_from_row(row: Any) -> BudgetDefinition:
    """A stored budget."""
    return BudgetDefinition(
        budget_id=row.budget_id,
        organization_id=row.organization_id,
        scope=Scope(row.scope),
        subject=row.subject,
        period=Period(row.period),
        time_zone=row.time_zone,
        limit=Decimal(row.limit_amount),
        currency=row.currency,
        fallback_model=row.fallback_model,
        disabled=row.disabled,
    )


def standing_from_row(row: Any) -> Standing:
    """A stored budget with what was used."""
    return Standing(
        definition_from_row(row),
        row.period_start_ms,
        Decimal(row.spent),
        Decimal(row.reserved),
        row.warned_percent,
        row.told_percent,
    )


def reservation_from_row(row: Any) -> Reservation:
    """What a call set aside."""
    return Reservation(
        row.call_id,
        row.budget_id,
        row.organization_id,
        row.period_start_ms,
        Decimal(row.amount),
        row.expires_at_ms,
        row.expired,
    )


def definition_to_row(budget: BudgetDefinition) -> dict[str, Any]:
    """The columns that a person sets."""
    return {
        "budget_id": budget.budget_id,
        "organization_id": budget.organization_id,
        "scope": budget.scope,
        "subject": budget.subject,
        "currency": budget.currency,
        "period": budget.period,
        "time_zone": budget.time_zone,
        "limit_amount": amount_text(budget.limit),
        "fallback_model": budget.fallback_model,
        "disabled": budget.disabled,
    }


def budget_from_proto(
    budget: pb.Budget, organization_id: str, budget_id: str, prefix: str
) -> BudgetDefinition:
    """A budget as a caller wrote it; InvalidArgument names the field behind `prefix`."""
    scope = _known(SCOPES, budget.scope, f"{prefix}scope")
    subject, currency = budget.subject, budget.currency
    if scope is Scope.ORGANIZATION and subject:
        raise InvalidArgument(f"{prefix}subject", "must be empty for a budget of the organization")
    if scope is not Scope.ORGANIZATION:
        longest = _MODEL_LENGTH if scope is Scope.MODEL else _ID_LENGTH
        check_name(subject, f"{prefix}subject", longest)
    if currency != TOKENS and not (
        len(currency) == 3 and currency.isascii() and currency.isalpha() and currency.isupper()
    ):
        raise InvalidArgument(f"{prefix}currency", f"must be an ISO 4217 code, e.g. CNY, or {TOKENS}")
    limit = parse_amount(budget.limit, f"{prefix}limit")
    if currency == TOKENS and limit != limit.to_integral_value():
        raise InvalidArgument(f"{prefix}limit", "must be a whole number of tokens")
    if budget.fallback_model:
        check_name(budget.fallback_model, f"{prefix}fallback_model", _MODEL_LENGTH)
        if scope is Scope.MODEL and budget.fallback_model == subject:
            raise InvalidArgument(f"{prefix}fallback_model", "must be another model than the budget's own")
    return BudgetDefinition(
        budget_id=budget_id,
        organization_id=organization_id,
        scope=scope,
        subject=subject,
        period=_known(PERIODS, budget.period, f"{prefix}period"),
        time_zone=check_time_zone(budget.time_zone, f"{prefix}time_zone"),
        limit=limit,
        currency=currency,
        fallback_model=budget.fallback_model,
        disabled=budget.disabled,
    )


def budget_to_proto(standing: Standing) -> pb.Budget:
    """A budget with what was used."""
    budget = standing.budget
    return pb.Budget(
        budget_id=budget.budget_id,
        organization_id=budget.organization_id,
        scope=_SCOPE_NUMBERS[budget.scope],
        subject=budget.subject,
        period=_PERIOD_NUMBERS[budget.period],
        time_zone=budget.time_zone,
        limit=amount_text(budget.limit),
        currency=budget.currency,
        fallback_model=budget.fallback_model,
        disabled=budget.disabled,
        spent=amount_text(standing.spent),
        reserved=amount_text(standing.reserved),
        period_start_ms=standing.period_start_ms,
    )


def check_name(value: str, field: str, longest: int = _ID_LENGTH) -> str:
    """An id or a name that fits into its column; InvalidArgument names the field."""
    if not value:
        raise InvalidArgument(field, "is needed")
    if len(value) > longest:
        raise InvalidArgument(field, f"at most {longest} characters")
    if not value.isprintable():
        raise InvalidArgument(field, "has a character that no name has")
    return value


def _known(names: Mapping[_N, _E], number: _N, field: str) -> _E:
    """What an enum's number means; InvalidArgument for none and for one that this version does not know."""
    if number not in names:
        raise InvalidArgument(field, "is needed" if not number else f"{number} is not a value that is known")
    return names[number]
