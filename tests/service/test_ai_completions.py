"""Completions on real budgets: who races for the last of one, and who leaves, is counted all the same."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest

from frontdesk.ai_proxy.completions import Completions, CompletionSettings
from frontdesk.ai_proxy.errors import BudgetExceeded
from frontdesk.ai_proxy.model import Delta, Finish, FinishReason, Model, Price, Provider, Usage
from frontdesk.ai_proxy.router import Router, RouterSettings
from frontdesk.ai_proxy.spending import Spending
from frontdesk.ai_proxy.tokens import count_prompt
from support.budgets import Replica, replicas
from support.completions import CALLER, PROMPT, Quotes, Scripted, ScriptedShop, provider
from support.waiting import until

# A thousand tokens of an answer cost one yuan, those of a question nothing.
PRICE = Price(completion=Decimal(1000), currency="CNY")
MODEL = Model("default", "m", price=PRICE, max_tokens=1000)
ROUTING = RouterSettings(slot_wait_s=1e9)


class Wired:
    """Completions with real budgets and spending on one replica's database."""

    def __init__(self, replica: Replica, routing: RouterSettings) -> None:
        self.adapter = Scripted()
        self.replica = replica
        self.spending = Spending(replica.broker, replica.writer.store, replica.clock)
        self.providers: tuple[Provider, ...] = (provider("a", MODEL),)
        self.completions = Completions(
            shops=self._shop,
            latest=self._shop,
            router=Router({"openai": self.adapter}, replica.clock, routing),
            offline=Quotes(),
            budgets=replica.budgets,
            spending=self.spending,
            clock=replica.clock,
            settings=CompletionSettings(),
        )

    async def _shop(self, organization_id: str) -> ScriptedShop:
        return ScriptedShop(self.providers, await self.replica.configuration.get(organization_id))

    async def streamed(self) -> None:
        async for _ in self.completions.stream(CALLER, "", PROMPT):
            pass

    async def settled(self) -> tuple[str, str]:
        """What was used and set aside when every event was counted."""
        await self.completions.close()
        events = [event for event in self.replica.broker.events if event.HasField("usage")]
        await self.replica.writer.store([event.SerializeToString() for event in events])
        return (await self.replica.state())[0]


@asynccontextmanager
async def wired(url: str, routing: RouterSettings = ROUTING) -> AsyncIterator[Wired]:
    async with replicas(url) as ((replica,), _):
        yield Wired(replica, routing)


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "postgres":
        found: str = request.getfixturevalue("postgres")
        return found
    return f"sqlite:///{tmp_path}/ai.db"


async def test_fifty_calls_that_race_use_no_more_than_the_budget(url: str) -> None:
    """peers.md 15, 16: of ten yuan each call may use one; ten are let through, the others are refused."""
    async with wired(url) as bench:
        await bench.replica.budget("10")
        for _ in range(50):
            used = Usage(prompt_tokens=5, completion_tokens=1000)
            bench.adapter.plays("a", [[Delta("x")], [Finish(FinishReason.LENGTH, used)]])
        results = await asyncio.gather(*(bench.streamed() for _ in range(50)), return_exceptions=True)
        refused = [one for one in results if isinstance(one, BudgetExceeded)]
        assert len(refused) == 40
        assert results.count(None) == 10
        assert await bench.settled() == ("10", "0")
        rows = await bench.replica.rows()
        assert sorted(row.code for row in rows) == ["OK"] * 10 + ["RESOURCE_EXHAUSTED"] * 40


async def test_a_used_up_currency_leaves_the_rest_of_the_chain(url: str) -> None:
    """Fifty calls at once, twice: ten use one of ten yuan each, then ten one of ten dollars."""
    async with wired(url) as bench:
        dollars = Price(completion=Decimal(1000), currency="USD")
        other = provider("b", Model("default", "n", price=dollars, max_tokens=1000), priority=1)
        bench.providers = (*bench.providers, other)
        await bench.replica.budget("10")
        await bench.replica.budget("10", currency="USD")
        used = Usage(prompt_tokens=5, completion_tokens=1000)
        for name in ("a", "b"):
            for _ in range(50):
                bench.adapter.plays(name, [[Delta("x")], [Finish(FinishReason.LENGTH, used)]])
        for spent, asked in (("0", ["a"] * 10), ("10", ["a"] * 10 + ["b"] * 10)):
            results = await asyncio.gather(*(bench.streamed() for _ in range(50)), return_exceptions=True)
            assert results.count(None) == 10
            assert sum(isinstance(one, BudgetExceeded) for one in results) == 40
            assert bench.adapter.asked == asked
            await bench.settled()
            assert await bench.replica.state() == [("10", "0"), (spent, "0")]
        rows = await bench.replica.rows()
        assert sorted(row.currency for row in rows if row.code == "OK") == ["CNY"] * 10 + ["USD"] * 10


async def test_callers_who_leave_give_back_what_they_did_not_use(url: str) -> None:
    """What came is used, the rest of the reservation is free again; nothing stays set aside."""
    async with wired(url) as bench:
        await bench.replica.budget("10")
        for _ in range(8):
            bench.adapter.plays("a", [[Delta("four words of it")], asyncio.Event().wait])
            batches = bench.completions.stream(CALLER, "", PROMPT)
            await anext(batches)
            assert (await bench.replica.state())[0][1] == "1"
            await batches.aclose()
            await bench.replica.writer.store([bench.replica.broker.published[-1].payload])
        spent, reserved = await bench.settled()
        rows = await bench.replica.rows()
        assert [row.code for row in rows] == ["CANCELLED"] * 8
        assert all(row.counted and row.completion_tokens for row in rows)
        tokens = sum(row.completion_tokens for row in rows)
        assert (Decimal(spent), reserved) == (Decimal(tokens) / 1000, "0")


async def test_who_lost_a_race_counts_in_the_budget(url: str) -> None:
    """Once, however often its row is told, and what was set aside is settled by the answer's."""
    asked = Price(prompt=Decimal(1000), currency="CNY")
    async with wired(url, replace(ROUTING, hedge_after_s=2)) as bench:
        bench.providers = tuple(
            provider(name, Model("default", name, price=asked, max_tokens=1000), priority=priority)
            for priority, name in enumerate(("a", "b"))
        )
        await bench.replica.budget("10")
        bench.adapter.plays("a", [asyncio.Event().wait])
        bench.adapter.plays("b", [[Delta("x"), Finish(FinishReason.STOP, Usage(3000, 1))]])
        task = asyncio.create_task(bench.streamed())
        await until(lambda: bench.replica.clock.sleepers > 0)
        await bench.replica.clock.advance(2)
        await task
        tokens = count_prompt(PROMPT)
        for _ in range(2):
            assert await bench.settled() == (f"{Decimal(3000 + tokens) / 1000:f}", "0")
        rows = sorted(await bench.replica.rows(), key=lambda row: row.call_id)
        assert [(row.provider, row.code, row.prompt_tokens) for row in rows] == [
            ("b", "OK", 3000),
            ("a", "CANCELLED", tokens),
        ]
