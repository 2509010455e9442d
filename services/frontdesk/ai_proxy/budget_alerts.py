"""Telling people that a budget runs out: once a period at 80, 95 and 100 percent, as Alert events.

What is to be told is written with what was used, in the same transaction; what was told is written after the
event is stored. A replica that dies in between leaves a warning that whoever touches the budget next tells:
the event's id is the same, so it is one alert.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Protocol

from sqlalchemy import bindparam, update

from frontdesk.ai_proxy.ledger import USED_UP, BudgetDefinition, Scope, Standing
from frontdesk.ai_proxy.money import amount_text
from frontdesk.ai_proxy.periods import Period, in_zone, next_period
from frontdesk.ai_proxy.tables import budgets
from frontdesk.api.events.v1.event_pb2 import Alert, AlertLevel, Event
from frontdesk.kit import subjects
from frontdesk.kit.bus.connection import Outgoing
from frontdesk.kit.clock import Clock
from frontdesk.kit.database import Database

_TOLD = (
    update(budgets)
    .where(
        budgets.c.budget_id == bindparam("id_"),
        budgets.c.period_start_ms == bindparam("start"),
        budgets.c.limit_amount == bindparam("limit_"),
        budgets.c.told_percent < bindparam("told"),
    )
    .values(told_percent=bindparam("told"))
)
_EVERY = {Period.DAY: " a day", Period.MONTH: " a month", Period.TOTAL: ""}


class Publisher(Protocol):
    """As much of the bus as is needed here."""

    async def publish_all(self, messages: Sequence[Outgoing]) -> None:
        """Store messages in their streams; raises Unavailable."""
        ...


class BudgetAlerts:
    """Publishes what is to be told."""

    def __init__(self, bus: Publisher, database: Database, clock: Clock) -> None:
        self._bus = bus
        self._database = database
        self._clock = clock

    async def tell(self, standings: Iterable[Standing]) -> None:
        """Tell the warnings that were not told yet, of each budget the highest; raises Unavailable, and then
        the next to call this tells them."""
        due = [standing for standing in standings if standing.warned > standing.told]
        if not due:
            return
        now = self._clock.now_ms()
        await self._bus.publish_all([_message(standing, now) for standing in due])
        async with self._database.write() as connection:
            await connection.execute(_TOLD, [_told(standing) for standing in due])


def _told(standing: Standing) -> dict[str, object]:
    return {
        "id_": standing.budget.budget_id,
        "start": standing.period_start_ms,
        "limit_": amount_text(standing.budget.limit),
        "told": standing.warned,
    }


def _message(standing: Standing, now_ms: int) -> Outgoing:
    budget = standing.budget
    used_up = standing.warned >= USED_UP
    event = Event(
        # A limit that was raised begins a new row of warnings.
        event_id=(
            f"budget:{budget.budget_id}:{standing.period_start_ms}:{amount_text(budget.limit)}"
            f":{standing.warned}"
        ),
        organization_id=budget.organization_id,
        account_id=budget.subject if budget.scope is Scope.ACCOUNT else "",
        occurred_at_ms=now_ms,
        alert=Alert(
            level=AlertLevel.ALERT_LEVEL_ERROR if used_up else AlertLevel.ALERT_LEVEL_WARNING,
            code=f"budget_{standing.warned}",
            text=warning_text(standing, now_ms),
        ),
    )
    subject = subjects.event("alert", event.account_id or subjects.NO_ACCOUNT)
    return Outgoing(subject, event.SerializeToString(), msg_id=event.event_id)


def warning_text(standing: Standing, now_ms: int) -> str:
    """What a person is told, in a sentence."""
    budget = standing.budget
    what = f"The AI budget of {_limit(budget)} for {subject_text(budget)}"
    if standing.warned < USED_UP:
        percent = int(standing.spent * 100 / budget.limit)
        return f"{what} is {percent} % used."
    if standing.spent >= budget.limit:
        state = "is used up"
    else:
        state = f"has too little left for a call ({_amount(budget, budget.limit - standing.spent)})"
    follows = "calls that it counts are refused"
    if budget.fallback_model:
        follows = f"calls go to the model {budget.fallback_model}, as far as its budgets allow"
    return f"{what} {state}: {follows}; {anew_text(budget, now_ms)}."


def anew_text(budget: BudgetDefinition, now_ms: int) -> str:
    """When there is room again in a budget that is used up."""
    then = next_period(budget.period, budget.time_zone, now_ms)
    if then is None:
        return "it does not begin anew, so its limit has to be raised"
    return f"it begins anew at {in_zone(budget.time_zone, then)}"


def subject_text(budget: BudgetDefinition) -> str:
    """Whom a budget is for, e.g. `the account acc1`."""
    name = {Scope.API_KEY: "API key"}.get(budget.scope, budget.scope.value)
    return f"the {name} {budget.subject}".rstrip()


def _limit(budget: BudgetDefinition) -> str:
    return f"{_amount(budget, budget.limit)}{_EVERY[budget.period]}"


def _amount(budget: BudgetDefinition, amount: Decimal) -> str:
    return f"{amount_text(amount)} {budget.currency}"
