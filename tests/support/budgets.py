"""Replicas of ai-proxy's budgets on one real database: what sets aside, what settles, what a person sets."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Sequence
from decimal import Decimal
from typing import Any

from sqlalchemy import select

from frontdesk.ai_proxy.budget_alerts import BudgetAlerts
from frontdesk.ai_proxy.budgets import BudgetLimits, Budgets, Directories
from frontdesk.ai_proxy.configuration import Configuration
from frontdesk.ai_proxy.model import Caller, Model, Price, Usage
from frontdesk.ai_proxy.rpc.budgets import BudgetServicer
from frontdesk.ai_proxy.spend_writer import SpendWriter
from frontdesk.ai_proxy.spending import Spending, SpendRecord
from frontdesk.ai_proxy.stored_budgets import load_budgets
from frontdesk.ai_proxy.tables import budgets, metadata, reservations, spend
from frontdesk.api.ai.v1 import budget_service_pb2 as pb
from frontdesk.api.events.v1.event_pb2 import Event
from frontdesk.kit.bus.connection import Outgoing
from frontdesk.kit.clock import ManualClock
from frontdesk.kit.database import Database, DatabaseOptions
from frontdesk.kit.errors import Unavailable

ORGANIZATION = "org"
CALLER = Caller(ORGANIZATION, "acc1", "key1")
# A thousand tokens of an answer cost one yuan, those of a question nothing.
YUAN = Model("big", "big-1", price=Price(completion=Decimal(1000), currency="CNY"))
# 2026-11-20, noon in Greenwich.
NOON = 1_795_176_000_000
DAY_S = 86_400.0


class Broker:
    """Keeps what is published; `down` refuses everything."""

    def __init__(self) -> None:
        self.down = False
        self.published: list[Outgoing] = []

    async def publish_all(self, messages: Sequence[Outgoing]) -> None:
        await asyncio.sleep(0)
        if self.down:
            raise Unavailable("NATS is away")
        self.published.extend(messages)

    @property
    def events(self) -> list[Event]:
        return [Event.FromString(message.payload) for message in self.published]

    @property
    def alerts(self) -> list[tuple[str, str]]:
        """Codes and event ids, in order."""
        return [(event.alert.code, event.event_id) for event in self.events if event.HasField("alert")]


class Replica:
    """One process's budgets, on a database that others use too."""

    def __init__(self, options: DatabaseOptions, clock: ManualClock, broker: Broker) -> None:
        self.database = Database(options)
        self.broker = broker
        self.clock = clock
        self.configuration = Configuration(self.database, load_budgets, clock, fresh_s=0)
        directories = Directories(self.configuration.get)
        self.alerts = BudgetAlerts(broker, self.database, clock)
        self.budgets = Budgets(self.database, directories, self.alerts, clock, BudgetLimits())
        self.writer = SpendWriter(self.database, directories, self.alerts, clock)
        self.service = BudgetServicer(self.database, self.configuration, self.alerts, clock)
        self._ids = itertools.count()

    async def close(self) -> None:
        await self.budgets.close()
        await self.configuration.close()
        await self.database.close()

    async def budget(self, limit: str, **fields: Any) -> pb.Budget:
        """Make a budget; of the organization, in yuan a day, unless said otherwise."""
        fields = {
            "scope": pb.BUDGET_SCOPE_ORGANIZATION,
            "period": pb.BUDGET_PERIOD_DAY,
            "currency": "CNY",
            **fields,
        }
        budget = pb.Budget(organization_id=ORGANIZATION, limit=limit, **fields)
        await self.clock.advance(0.001)  # ids sort by the millisecond they were made in
        made = await self.service.CreateBudget(pb.CreateBudgetRequest(budget=budget), NO_CONTEXT)
        return made.budget

    async def update(self, budget: pb.Budget, **changes: Any) -> pb.Budget:
        changed = pb.Budget()
        changed.CopyFrom(budget)
        for name, value in changes.items():
            setattr(changed, name, value)
        done = await self.service.UpdateBudget(pb.UpdateBudgetRequest(budget=changed), NO_CONTEXT)
        return done.budget

    async def listed(self) -> list[pb.Budget]:
        request = pb.ListBudgetsRequest(organization_id=ORGANIZATION)
        return list((await self.service.ListBudgets(request, NO_CONTEXT)).budgets)

    async def state(self) -> list[tuple[str, str]]:
        """What was used and set aside, of all budgets in the order they were made."""
        return [(budget.spent, budget.reserved) for budget in await self.listed()]

    async def reserve(
        self, call_id: str, tokens: int = 1000, caller: Caller = CALLER, model: Model = YUAN
    ) -> None:
        await self.budgets.reserve(call_id, caller, model, 0, tokens)

    def record(self, call_id: str, tokens: int, **fields: Any) -> SpendRecord:
        """What a call used; a yuan a thousand tokens, unless said otherwise."""
        values: dict[str, Any] = {
            "caller": CALLER,
            "provider": "p",
            "requested_model": "big",
            "model": "big-1",
            "started_at_ms": self.clock.now_ms(),
            "duration_ms": 1200,
            "first_token_ms": 300,
            "code": "OK",
            "usage": Usage(0, tokens),
            "cost": Decimal(tokens) / 1000,
            "currency": "CNY",
        }
        return SpendRecord(call_id=call_id, **{**values, **fields})

    async def payload(self, call_id: str, tokens: int, **fields: Any) -> bytes:
        """The event of a call, as `Spending` publishes it."""
        broker = Broker()
        await Spending(broker, self.writer.store, self.clock).record(self.record(call_id, tokens, **fields))
        return broker.published[0].payload

    async def settle(self, call_id: str, tokens: int, **fields: Any) -> None:
        await self.writer.store([await self.payload(call_id, tokens, **fields)])

    async def rows(self) -> list[Any]:
        async with self.database.read() as connection:
            return list(await connection.execute(select(spend).order_by(spend.c.call_id)))

    async def counts(self) -> tuple[int, int, int]:
        """Rows of budgets, reservations and the spend log."""
        async with self.database.read() as connection:
            lengths = [
                len((await connection.execute(select(t))).all()) for t in (budgets, reservations, spend)
            ]
        return lengths[0], lengths[1], lengths[2]


NO_CONTEXT: Any = None  # the servicers take what they need from the current principal


@contextlib.asynccontextmanager
async def replicas(url: str, count: int = 1) -> AsyncIterator[tuple[list[Replica], Broker]]:
    """Replicas that share a database, a clock and a broker."""
    options = DatabaseOptions(url, "public")
    clock, broker = ManualClock(NOON), Broker()
    database = Database(options)
    async with database.write() as connection:
        await connection.run_sync(metadata.create_all)
    await database.close()
    made = [Replica(options, clock, broker) for _ in range(count)]
    try:
        yield made, broker
    finally:
        for replica in made:
            await replica.close()
