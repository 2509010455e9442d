"""Rows of the spend log and what budgets have used, from the events of calls: one transaction a batch.

A row is unique by its call, and only a call whose row is new is settled, in the same transaction: an event
that is delivered twice counts once. Warnings are told after it; what the first delivery did not come to tell,
its repeat tells.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from typing import Any

from google.protobuf.message import DecodeError
from sqlalchemy import Executable
from sqlalchemy.ext.asyncio import AsyncConnection

from frontdesk.ai_proxy.budget_alerts import BudgetAlerts
from frontdesk.ai_proxy.budgets import Directories
from frontdesk.ai_proxy.ledger import TOKENS, BudgetDefinition, Standing
from frontdesk.ai_proxy.money import MOST_COST, parse_amount, to_pico
from frontdesk.ai_proxy.stored_budgets import (
    drop_reservations,
    expire_overdue,
    lock_standings,
    reservations_of,
    save_standings,
)
from frontdesk.ai_proxy.tables import spend as spend_table
from frontdesk.api.events.v1.event_pb2 import Event
from frontdesk.kit.bus import Delivery
from frontdesk.kit.clock import Clock
from frontdesk.kit.database import Database
from frontdesk.kit.errors import InvalidArgument, Poison
from frontdesk.kit.upserts import insert_ignoring

_MOST_TOKENS = 2**53


@dataclass(frozen=True, slots=True)
class _Call:
    """A call that is over, and what it used."""

    event: Event
    cost: Decimal

    @property
    def call_id(self) -> str:
        return self.event.usage.call_id

    def used(self, budget: BudgetDefinition) -> Decimal:
        """In the budget's unit."""
        usage = self.event.usage.usage
        if self.event.usage.cached:
            return Decimal(0)
        return (
            Decimal(usage.prompt_tokens + usage.completion_tokens) if budget.currency == TOKENS else self.cost
        )


class SpendWriter:
    """The handler of SPEND."""

    def __init__(
        self, database: Database, directories: Directories, alerts: BudgetAlerts, clock: Clock
    ) -> None:
        self._database = database
        self._directories = directories
        self._alerts = alerts
        self._clock = clock

    async def on_spend(self, batch: Sequence[Delivery]) -> None:
        """Store a batch of events; raises Poison for one that can't be read, Unavailable to get it again."""
        await self.store([delivery.data for delivery in batch])

    async def store(self, payloads: Sequence[bytes]) -> None:
        """Store events that may have been stored before, in part or all."""
        calls = {call.call_id: call for call in map(_parse, payloads)}
        organizations = sorted({call.event.organization_id for call in calls.values()})
        directories = {one: await self._directories.get(one) for one in organizations}
        covering = {}
        for call in calls.values():
            spend = call.event.usage
            covering[call.call_id] = directories[call.event.organization_id].covering(
                spend.account_id, spend.api_key_id, spend.requested_model, spend.usage.currency
            )
        now = self._clock.now_ms()
        async with self._database.write() as connection:
            new = await _insert(connection, list(calls.values()))
            standings: dict[str, Standing] = {}
            if any(directory.by_subject for directory in directories.values()):
                standings = await _settle(connection, calls, new, covering, now)
        await self._alerts.tell(standings.values())


async def _settle(
    connection: AsyncConnection,
    calls: dict[str, _Call],
    new: set[str],
    covering: dict[str, tuple[BudgetDefinition, ...]],
    now_ms: int,
) -> dict[str, Standing]:
    """Count what new calls used; returns the budgets that they and the repeated ones belong to."""
    ids = {budget.budget_id for found in covering.values() for budget in found}
    ids |= {budget_id for _, budget_id in await reservations_of(connection, new)}
    standings = await lock_standings(connection, ids, now_ms)
    # Read again: what the read before named is held only now.
    reservations = await reservations_of(connection, new)
    for call_id in sorted(new):
        call = calls[call_id]
        counted = {budget.budget_id for budget in covering[call_id]}
        for budget_id in counted | {key[1] for key in reservations if key[0] == call_id}:
            standing = standings.get(budget_id)
            if standing is None:
                continue
            # Set aside for a dearer candidate in a currency that the call did not cost in the end.
            used = call.used(standing.budget) if budget_id in counted else Decimal(0)
            reservation = reservations.get((call_id, budget_id))
            standing.use(used, reservation, call.event.usage.started_at_ms)
    await drop_reservations(connection, new)
    await expire_overdue(connection, standings, now_ms)
    await save_standings(connection, standings.values())
    return standings


async def _insert(connection: AsyncConnection, calls: list[_Call]) -> set[str]:
    """Insert the rows of calls; returns the calls that were not there before."""
    # In one order, or two deliveries of the same calls could wait for each other.
    rows = [_row(call) for call in sorted(calls, key=lambda call: call.call_id)]
    found = await connection.execute(_insert_new(connection), rows, execution_options=_FEW_AT_ONCE)
    return set(found.scalars())


# Every count of rows is a statement of its own that the driver keeps: these are eight, and not five hundred.
_FEW_AT_ONCE = {"insertmanyvalues_page_size": 8}


def _insert_new(connection: AsyncConnection) -> Executable:
    return _returning(connection.dialect.name, insert_ignoring(connection, spend_table))


@lru_cache(4)
def _returning(_dialect: str, statement: Any) -> Executable:
    returning: Executable = statement.returning(spend_table.c.call_id)
    return returning


def _parse(data: bytes) -> _Call:
    """Raises Poison for what is no event of a call."""
    try:
        event = Event.FromString(data)
    except DecodeError as error:
        raise Poison(f"payload: not an Event: {error}") from error
    spend = event.usage
    if not event.HasField("usage") or not spend.call_id or not event.organization_id:
        raise Poison("usage.call_id or organization_id: missing")
    usage = spend.usage
    if not all(
        0 <= count <= _MOST_TOKENS
        for count in (usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens)
    ):
        raise Poison("usage.usage: tokens out of range")
    try:
        cost = parse_amount(usage.cost or "0", "usage.usage.cost")
    except InvalidArgument as error:
        raise Poison(error.message) from error
    if cost > MOST_COST:
        raise Poison("usage.usage.cost: out of range")
    return _Call(event, cost)


def _row(call: _Call) -> dict[str, Any]:
    event, spend, usage = call.event, call.event.usage, call.event.usage.usage
    return {
        "call_id": _fit("call_id", spend.call_id),
        "organization_id": _fit("organization_id", event.organization_id),
        "account_id": _fit("account_id", spend.account_id),
        "api_key_id": _fit("api_key_id", spend.api_key_id),
        "provider": _fit("provider", spend.provider),
        "requested_model": _fit("requested_model", spend.requested_model),
        "model": _fit("model", spend.model),
        "operation": _fit("operation", spend.operation),
        "started_at_ms": spend.started_at_ms,
        "duration_ms": spend.duration_ms,
        "first_token_ms": spend.first_token_ms,
        "code": _fit("code", spend.code),
        "prompt_tokens": usage.prompt_tokens,
        "cached_tokens": usage.cached_tokens,
        "completion_tokens": usage.completion_tokens,
        "counted": usage.counted,
        "cost_pico": to_pico(call.cost),
        "currency": _fit("currency", usage.currency),
        "cached": spend.cached,
    }


def _fit(column: str, text: str) -> str:
    """What a column takes of a text: PostgreSQL refuses one that is longer, and NUL."""
    length: int = spend_table.c[column].type.length  # type: ignore[attr-defined]
    return text.replace("\x00", "")[:length]
