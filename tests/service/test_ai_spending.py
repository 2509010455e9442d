"""What calls used reaches the database once, whatever NATS does meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Sequence
from decimal import Decimal
from pathlib import Path

import pytest

from frontdesk.ai_proxy.spending import Spending, SpendingLimits
from frontdesk.ai_proxy.topology import SPEND
from frontdesk.kit.backoff import linear
from frontdesk.kit.bus import Bus, BusSettings, Consumer, Delivery
from frontdesk.kit.bus.connection import Outgoing
from frontdesk.kit.clock import ManualClock, SystemClock
from frontdesk.kit.errors import FrontdeskError, InvalidArgument, Unavailable
from frontdesk.kit.nats_server import NatsServer
from support.budgets import Broker, Replica, replicas
from support.waiting import until, until_async


@pytest.fixture
async def one(tmp_path: Path) -> AsyncIterator[Replica]:
    async with replicas(f"sqlite:///{tmp_path}/ai.db") as ((replica,), _):
        yield replica


@pytest.fixture
async def bus(nats_server: NatsServer) -> AsyncIterator[Bus]:
    bus = await Bus.connect(BusSettings(nats_server.url, name="ai-proxy", publish_timeout=0.5))
    yield bus
    await bus.close()


@contextlib.asynccontextmanager
async def consuming(bus: Bus, replica: Replica) -> AsyncIterator[list[Delivery]]:
    """Run the consumer; what it was given is listed."""
    given: list[Delivery] = []

    async def handle(batch: list[Delivery]) -> None:
        given.extend(batch)
        await replica.writer.on_spend(batch)

    consumer = Consumer(bus, SPEND, handle, retry_cap=0.2)  # type: ignore[arg-type]
    task = asyncio.create_task(consumer.run())
    try:
        yield given
    finally:
        await consumer.drain(1)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def spending(bus: Bus, replica: Replica, **limits: float) -> Spending:
    numbers = SpendingLimits(
        hold_s=limits.get("hold_s", 2), waiting=int(limits.get("waiting", 1000)), batch=8
    )
    return Spending(bus, replica.writer.store, SystemClock(), numbers, linear(0.05, 0.2))


async def test_every_row_arrives_once_while_nats_restarts(
    nats_server: NatsServer, bus: Bus, one: Replica
) -> None:
    """Answers are not held up while it is away; each call has one row and the budget the exact sum."""
    await one.budget("1000")
    teller = spending(bus, one, hold_s=0.2)
    async with consuming(bus, one) as given:
        await asyncio.gather(*(teller.record(one.record(f"a{n}", 10)) for n in range(40)))
        assert teller.waiting == 0  # NATS had stored each when its call heard the end
        await nats_server.kill()
        began = time.monotonic()
        await asyncio.gather(*(teller.record(one.record(f"b{n}", 10)) for n in range(40)))
        assert time.monotonic() - began < 1
        assert teller.waiting == 40
        await nats_server.start()
        await asyncio.gather(*(teller.record(one.record(f"c{n}", 10)) for n in range(40)))
        await until(lambda: teller.waiting == 0)

        async def all_there() -> bool:
            return len(await one.rows()) == 120

        await until_async(all_there)
        await one.writer.on_spend(given)  # once more, all of it
    assert await one.state() == [("1.2", "0")]
    assert len(await one.rows()) == 120
    assert given[0].subject == "event.usage.acc1"


async def test_a_crash_between_the_event_and_the_row_loses_nothing(bus: Bus, one: Replica) -> None:
    """What NATS has stored is settled by whoever consumes next, and once more by nobody."""
    await one.budget("10")
    await one.reserve("a", 2000)
    await spending(bus, one).record(one.record("a", 1500))
    assert await one.state() == [("0", "2")]
    one.broker.down = True  # the row is stored, and then the process dies before it has acknowledged
    await one.settle("big", 8000 - 1500, started_at_ms=one.clock.now_ms())
    with pytest.raises(Unavailable):
        await one.writer.store([await one.payload("a", 1500)])
    one.broker.down = False
    async with consuming(bus, one) as given:
        await until(lambda: bool(given))
        await until(lambda: len(one.broker.alerts) == 1)
    assert await one.state() == [("8", "0")]
    assert [row.cost_pico for row in await one.rows()] == [1_500_000_000_000, 6_500_000_000_000]


async def test_what_waits_at_the_end_goes_to_the_database(
    nats_server: NatsServer, bus: Bus, one: Replica
) -> None:
    """A service that stops while NATS is away loses nothing, and what NATS got too counts once."""
    await one.budget("10")
    teller = spending(bus, one, hold_s=0.05)
    await teller.record(one.record("a", 1000))
    await nats_server.kill()
    for name in ("b", "c"):
        await teller.record(one.record(name, 1000))
    await teller.stop(0.4)
    assert teller.waiting == 0
    assert [row.call_id for row in await one.rows()] == ["b", "c"]
    await nats_server.start()
    async with consuming(bus, one) as given:
        await until(lambda: bool(given))

        async def all_there() -> bool:
            return len(await one.rows()) == 3

        await until_async(all_there)
    assert await one.state() == [("3", "0")]


async def test_no_call_begins_when_too_much_waits(one: Replica) -> None:
    """What can't be counted must not be spent: new calls are refused, ended ones wait, nothing is lost."""
    broker, clock = Broker(), ManualClock()
    broker.down = True
    teller = Spending(broker, one.writer.store, clock, SpendingLimits(waiting=3), linear(1, 1))
    for number in range(2):
        await teller.record(one.record(f"a{number}", 1))
        teller.check_room()
    third = asyncio.create_task(teller.record(one.record("a2", 1)))
    given_up = asyncio.create_task(teller.record(one.record("a3", 1)))
    await clock.advance(5)
    assert not third.done()
    with pytest.raises(Unavailable, match="no call begins"):
        teller.check_room()
    given_up.cancel()
    broker.down = False
    await clock.advance(5)
    await third
    teller.check_room()
    assert sorted(event.usage.call_id for event in broker.events) == ["a0", "a1", "a2", "a3"]


async def test_a_caller_that_gives_up_is_counted_all_the_same(one: Replica) -> None:
    """Its call was made, and NATS was slow to say that it has the event."""

    class Silent(Broker):
        asked = 0

        async def publish_all(self, messages: Sequence[Outgoing]) -> None:
            self.asked += 1
            if self.asked == 1:
                await asyncio.Event().wait()
            await super().publish_all(messages)

    broker = Silent()
    teller = Spending(broker, one.writer.store, ManualClock())
    task = asyncio.create_task(teller.record(one.record("a", 1)))
    await until(lambda: broker.asked == 1)
    task.cancel()
    await until(lambda: bool(broker.events) and teller.waiting == 0)
    assert [event.usage.call_id for event in broker.events] == ["a"]


async def test_an_event_that_nats_will_never_take_does_not_stop_the_others(one: Replica) -> None:
    """It goes straight to the database."""

    class Choosy(Broker):
        async def publish_all(self, messages: object) -> None:
            raise InvalidArgument("subject", "at most 1024 characters")

    clock = ManualClock()
    teller = Spending(Choosy(), one.writer.store, clock)
    await teller.record(one.record("a", 1, cost=Decimal("0.5")))
    await until(lambda: teller.waiting == 0)
    assert [row.call_id for row in await one.rows()] == ["a"]


async def test_an_event_that_the_database_will_never_take_takes_no_other_along(
    one: Replica, caplog: pytest.LogCaptureFixture
) -> None:
    """At the end, and where NATS takes none of a batch: each of the others is stored, and what is lost is
    said."""

    async def store(payloads: Sequence[bytes]) -> None:
        if any(b"bad" in payload for payload in payloads):
            raise FrontdeskError("what the organization set up can't be read")
        await one.writer.store(payloads)

    broker, clock = Broker(), ManualClock()
    broker.down = True
    teller = Spending(broker, store, clock, SpendingLimits(batch=3), linear(1, 1))
    for name in ("a", "bad", "b", "c", "d"):
        await teller.record(one.record(name, 1))
    await teller.stop(0.2)
    assert [row.call_id for row in await one.rows()] == ["a", "b", "c", "d"]
    assert teller.waiting == 1
    assert "what 1 calls used is lost" in caplog.text


async def test_an_event_that_nobody_takes_waits_behind_the_others(one: Replica) -> None:
    """NATS refuses all of a batch for good and the database one of it: the others are stored, and those that
    come later are published."""

    class Choosy(Broker):
        async def publish_all(self, messages: Sequence[Outgoing]) -> None:
            await super().publish_all(messages)
            if any(b"bad" in message.payload for message in messages):
                raise InvalidArgument("subject", "at most 1024 characters")

    async def store(payloads: Sequence[bytes]) -> None:
        if any(b"bad" in payload for payload in payloads):
            raise FrontdeskError("what the organization set up can't be read")
        await one.writer.store(payloads)

    broker, clock = Choosy(), ManualClock()
    broker.down = True
    teller = Spending(broker, store, clock, SpendingLimits(batch=3), linear(1, 1))
    for name in ("bad", "a", "b", "c"):
        await teller.record(one.record(name, 1))
    broker.down = False
    await clock.advance(1)
    await until(lambda: teller.waiting == 1)
    assert [row.call_id for row in await one.rows()] == ["a", "b", "c"]
    await teller.stop(0)
