"""Reserve before, settle after: no call begins that its budgets have no room for.

A call belongs to the budgets of its organization, its account, its API key and its model by the name that was
asked for, as far as they count the currency it is priced in, or tokens. What it can use at most is set aside
in all of them or in none. Calls that come together share one transaction, which holds the budgets' rows, so
that replicas that race for the last of a budget meet at its row. spend_writer.py settles.

Where providers of several currencies may answer, it is set aside in each that has room, and counts in the one
that it cost; those of a currency without room are not asked.
A call without a reservation (its budget was made after it began) counts as used when it is settled. A
reservation that nobody settles expires: it counts as used. That changes nothing for the next call, as used
and set aside weigh the same, so expiry waits for whoever settles or lists.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal

from frontdesk.ai_proxy.budget_alerts import BudgetAlerts, anew_text, subject_text
from frontdesk.ai_proxy.errors import BudgetExceeded
from frontdesk.ai_proxy.ledger import TOKENS, BudgetDefinition, Reservation, Standing
from frontdesk.ai_proxy.model import Caller, Model, Usage
from frontdesk.ai_proxy.money import rounded
from frontdesk.ai_proxy.stored_budgets import (
    Directory,
    add_reservations,
    drop_reservations,
    expire_overdue,
    lock_standings,
    read_standings,
    reservations_of,
    save_standings,
)
from frontdesk.kit import tasks
from frontdesk.kit.batch import Batcher
from frontdesk.kit.clock import Clock
from frontdesk.kit.database import Database
from frontdesk.kit.errors import FrontdeskError

log = logging.getLogger(__name__)

BudgetsOf = Callable[[str], Awaitable[tuple[BudgetDefinition, ...]]]


class Directories:
    """Each organization's budgets by what they count, made again when they change."""

    def __init__(self, budgets_of: BudgetsOf, most: int = 512) -> None:
        self._budgets_of = budgets_of
        self._most = most
        self._known: OrderedDict[str, tuple[tuple[BudgetDefinition, ...], Directory]] = OrderedDict()

    async def get(self, organization_id: str) -> Directory:
        """The budgets that hold now; raises Unavailable."""
        definitions = await self._budgets_of(organization_id)
        known = self._known.get(organization_id)
        if known is None or known[0] is not definitions:
            known = (definitions, Directory.of(definitions))
            self._known[organization_id] = known
        self._known.move_to_end(organization_id)
        while len(self._known) > self._most:
            self._known.popitem(last=False)
        return known[1]


@dataclass(frozen=True, slots=True)
class BudgetLimits:
    """Numbers of reserving. `reservation_ms`: when a call that nobody settled is taken for lost; longer than
    any call lasts."""

    reservation_ms: int = 900_000
    batch: int = 100
    waiting: int = 1_000


@dataclass(frozen=True, slots=True)
class _Reserve:
    """What one call can use at most: for each currency, by budget."""

    call_id: str
    amounts: Mapping[str, Mapping[str, Decimal]]


@dataclass(frozen=True, slots=True)
class _Release:
    call_id: str


_Wish = _Reserve | _Release


@dataclass(slots=True)
class _Round:
    """One transaction's work."""

    standings: dict[str, Standing]
    stored: dict[tuple[str, str], Reservation]
    made: dict[str, list[Reservation]] = field(default_factory=dict)
    released: set[str] = field(default_factory=set)


class Budgets:
    """Sets aside and gives back. `admit` raises when no call may begin, whatever its budgets say."""

    def __init__(
        self,
        database: Database,
        directories: Directories,
        alerts: BudgetAlerts,
        clock: Clock,
        limits: BudgetLimits | None = None,
        admit: Callable[[], None] = lambda: None,
    ) -> None:
        self._database = database
        self._directories = directories
        self._alerts = alerts
        self._clock = clock
        self._limits = limits = limits or BudgetLimits()
        self._admit = admit
        self._telling: asyncio.Task[None] | None = None
        self._wishes: Batcher[_Wish, Collection[str]] = Batcher(
            self._handle, max_size=limits.batch, max_pending=limits.waiting, gather_s=0
        )

    async def reserve(
        self,
        call_id: str,
        caller: Caller,
        model: Model,
        prompt_tokens: int,
        completion_tokens: int,
        others: Sequence[tuple[Model, int]] = (),
    ) -> Collection[str]:
        """Set aside what a call can use at most; `call_id` is new, or was refused or released before.

        `others` are models of other currencies that may answer in its place, with the tokens of their answer.
        Returns the currencies of the models whose budgets have room: these may be asked. Raises
        BudgetExceeded when there are none, and then has set nothing aside: of the first model, with
        `budget_id`, `scope` and `fallback_model` (the model to ask instead, may be empty) among its facts. A
        fall-back is a call as any other: it must find room too. Raises Unavailable when the database is away.
        """
        self._admit()
        directory = await self._directories.get(caller.organization_id)
        amounts: dict[str, dict[str, Decimal]] = {}
        for one, answer_tokens in ((model, completion_tokens), *others):
            price = one.price
            cost = rounded(price.cost(Usage(prompt_tokens, answer_tokens)))
            tokens = Decimal(prompt_tokens + answer_tokens)
            covering = directory.covering(caller.account_id, caller.api_key_id, one.name, price.currency)
            amounts[price.currency] = {
                budget.budget_id: tokens if budget.currency == TOKENS else cost for budget in covering
            }
        if not any(amounts.values()):
            return amounts.keys()
        try:
            return await self._wishes.submit(_Reserve(call_id, amounts))
        except asyncio.CancelledError:
            # It may be in a batch already; behind it in the queue comes that nothing was used.
            tasks.background(self._release_quietly(call_id))
            raise

    async def release(self, call_id: str) -> None:
        """Give back what a call set aside, as nothing was used; no fault when it set nothing aside."""
        async with self._database.read() as connection:
            held = await reservations_of(connection, (call_id,))
        if held:
            await self._wishes.submit(_Release(call_id))

    async def _release_quietly(self, call_id: str) -> None:
        try:
            await self._wishes.submit(_Release(call_id))
        except FrontdeskError as error:
            log.info("what a call set aside was not given back, and will expire: %s", error.message)

    async def close(self) -> None:
        """Finish what is under way."""
        await self._wishes.close()
        if self._telling is not None:
            await asyncio.wait((self._telling,))

    async def _handle(self, wishes: list[_Wish]) -> Sequence[Exception | Collection[str]]:
        now = self._clock.now_ms()
        releases = [wish.call_id for wish in wishes if isinstance(wish, _Release)]
        reserves = [wish for wish in wishes if isinstance(wish, _Reserve)]
        wanted = {
            budget_id for wish in reserves for amounts in wish.amounts.values() for budget_id in amounts
        }
        async with self._database.write() as connection:
            held = await reservations_of(connection, releases)
            standings = await lock_standings(connection, wanted.union(key[1] for key in held), now)
            if held:  # what was read before the rows were held may have expired or been settled since
                held = await reservations_of(connection, releases)
            work = _Round(standings, held)
            results = [self._grant(work, wish, now) for wish in wishes]
            await drop_reservations(connection, work.released)
            await add_reservations(connection, [one for made in work.made.values() for one in made])
            await save_standings(connection, standings.values())
        self._tell(standings.values())
        return results

    def _grant(self, work: _Round, wish: _Wish, now_ms: int) -> Exception | Collection[str]:
        if isinstance(wish, _Release):
            _give_back(work, wish.call_id)
            return ()
        paid: set[str] = set()
        held: dict[str, Decimal] = {}
        exceeded: BudgetExceeded | None = None
        for currency, amounts in wish.amounts.items():
            # One model will answer: a budget that counts several sets aside for the dearest.
            wanted = {
                budget_id: max(amount, held.get(budget_id, amount))
                for budget_id, amount in amounts.items()
                if budget_id in work.standings and not work.standings[budget_id].budget.disabled
            }
            standings = ((work.standings[budget_id], amount) for budget_id, amount in wanted.items())
            full = [standing for standing, amount in standings if not standing.has_room(amount)]
            if full:
                for standing in full:
                    standing.refuse()
                exceeded = exceeded or _exceeded(full, now_ms)
            else:
                paid.add(currency)
                held |= wanted
        if exceeded and not paid:
            return exceeded
        expires = now_ms + self._limits.reservation_ms
        work.made[wish.call_id] = [
            work.standings[budget_id].set_aside(wish.call_id, amount, expires)
            for budget_id, amount in held.items()
        ]
        return paid

    def _tell(self, standings: Collection[Standing]) -> None:
        """Tell people that calls are refused, without making the callers wait for it."""
        due = [standing for standing in standings if standing.warned > standing.told]
        if due and (self._telling is None or self._telling.done()):
            self._telling = asyncio.create_task(self._tell_quietly(due), name="budget alerts")

    async def _tell_quietly(self, due: Sequence[Standing]) -> None:
        try:
            await self._alerts.tell(due)
        except FrontdeskError as error:
            log.warning("a warning of a budget waits: %s", error.message)


def _give_back(work: _Round, call_id: str) -> None:
    """What was set aside before this transaction, or in it."""
    stored = [one for (call, _), one in work.stored.items() if call == call_id]
    if stored and call_id not in work.released:
        work.released.add(call_id)
        for one in stored:
            if one.budget_id in work.standings:
                work.standings[one.budget_id].give_back(one)
    for one in work.made.pop(call_id, ()):
        work.standings[one.budget_id].give_back(one)


def _exceeded(full: Sequence[Standing], now_ms: int) -> BudgetExceeded:
    """Of several budgets without room the one that knows no fall-back decides."""
    budget = min((standing.budget for standing in full), key=lambda one: bool(one.fallback_model))
    return BudgetExceeded(
        f"the budget for {subject_text(budget)} has no room for this call; {anew_text(budget, now_ms)}",
        budget_id=budget.budget_id,
        scope=budget.scope.value,
        fallback_model=budget.fallback_model,
    )


async def current_standings(
    database: Database, alerts: BudgetAlerts, organization_id: str, now_ms: int
) -> list[Standing]:
    """Every budget of an organization in the period of `now_ms`, what expired counted as used."""
    async with database.read() as connection:
        found = await read_standings(connection, organization_id)
    if not any(standing.reserved for standing in found):
        for standing in found:
            standing.roll(now_ms)
        return found
    ids = [standing.budget.budget_id for standing in found]
    async with database.write() as connection:
        standings = await lock_standings(connection, ids, now_ms)
        if await expire_overdue(connection, standings, now_ms):
            await save_standings(connection, standings.values())
    try:
        await alerts.tell(standings.values())
    except FrontdeskError as error:
        log.warning("a warning of a budget waits: %s", error.message)
    return list(standings.values())
