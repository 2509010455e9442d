"""Budgets against a model of them: whatever order calls begin, end and get lost in, the sums are the same."""

from __future__ import annotations

import asyncio
import tempfile
from dataclasses import dataclass
from decimal import Decimal

from hypothesis import given, settings
from hypothesis import strategies as st

from frontdesk.ai_proxy.errors import BudgetExceeded
from frontdesk.ai_proxy.money import amount_text
from frontdesk.ai_proxy.periods import Period, period_start
from support.budgets import DAY_S, Replica, replicas

ZONE = "America/Havana"
LIMIT = Decimal(10)
EXPIRY_MS = 900_000

Step = tuple[str, int]
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("reserve"), st.integers(0, 6000)),
        st.tuples(st.just("settle"), st.integers(0, 7000)),
        st.tuples(st.just("again"), st.integers(0, 100)),
        st.tuples(st.just("stranger"), st.integers(0, 3000)),
        st.tuples(st.just("release"), st.integers(0, 100)),
        st.tuples(st.just("wait"), st.sampled_from([1, 600, 900, int(DAY_S // 3), int(DAY_S)])),
    ),
    min_size=4,
    max_size=24,
)


@dataclass
class Call:
    """What the model knows of a call: its period, what it set aside until when, what it used."""

    period: int
    amount: Decimal
    expires_ms: int
    used: Decimal | None = None


class Model:
    """Sums made anew from everything that happened."""

    def __init__(self) -> None:
        self.calls: dict[str, Call] = {}
        self.now = 0

    @property
    def period(self) -> int:
        return period_start(Period.DAY, ZONE, self.now)

    @property
    def sums(self) -> tuple[Decimal, Decimal]:
        """Used and set aside in this period."""
        spent, reserved = Decimal(0), Decimal(0)
        for call in self.calls.values():
            if call.period != self.period:
                continue
            if call.used is not None:
                spent += call.used
            elif call.expires_ms <= self.now:
                spent += call.amount
            else:
                reserved += call.amount
        return spent, reserved


async def try_steps(replica: Replica, steps: list[Step]) -> None:
    await replica.budget(str(LIMIT), time_zone=ZONE)
    model, events, open_calls = Model(), [], []
    for number, (what, size) in enumerate(steps):
        model.now = replica.clock.now_ms()
        name, amount = f"c{number}", Decimal(size) / 1000
        if what == "wait":
            await replica.clock.advance(size)
        elif what == "reserve":
            fits = sum(model.sums) + amount <= LIMIT
            try:
                await replica.reserve(name, size)
                assert fits
                model.calls[name] = Call(model.period, amount, model.now + EXPIRY_MS)
                open_calls.append(name)
            except BudgetExceeded:
                assert not fits
        elif what == "stranger":
            events.append(await replica.payload(name, size))
            await replica.writer.store(events[-1:])
            model.calls[name] = Call(model.period, Decimal(0), 0, amount)
        elif what == "again" and events:
            await replica.writer.store([events[size % len(events)]])
        elif what == "settle" and open_calls:
            name = open_calls.pop(size % len(open_calls))
            events.append(await replica.payload(name, size))
            await replica.writer.store(events[-1:])
            model.calls[name].used = amount
        elif what == "release" and open_calls:
            name = open_calls.pop(size % len(open_calls))
            await replica.budgets.release(name)
            del model.calls[name]
        model.now = replica.clock.now_ms()
        assert await replica.state() == [tuple(map(amount_text, model.sums))]


@settings(max_examples=15)
@given(STEPS)
def test_sums_are_those_of_a_model(steps: list[Step]) -> None:
    """Reserved, settled, repeated, released, expired and settled after all, over days of a strange clock."""

    async def run(folder: str) -> None:
        async with replicas(f"sqlite:///{folder}/ai.db") as ((replica,), _):
            await try_steps(replica, steps)

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(run(folder))
