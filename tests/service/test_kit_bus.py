"""The bus against a real nats-server: consumers, retries, DEAD, timers, restarts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence

import pytest

from frontdesk.api.events.v1.dead_pb2 import DeadLetter
from frontdesk.kit import subjects
from frontdesk.kit.batch import BUSY
from frontdesk.kit.bus import Bus, BusSettings, Consumer, ConsumerSpec, Delivery, Release, Timers
from frontdesk.kit.clock import SystemClock
from frontdesk.kit.errors import InvalidArgument, Poison, Unavailable
from frontdesk.kit.nats_server import NatsServer

SPEC = ConsumerSpec(subjects.INBOUND, "test-engine", ("inbound.>",), ack_wait=1.5)


@pytest.fixture
async def bus(nats_server: NatsServer) -> AsyncIterator[Bus]:
    bus = await Bus.connect(BusSettings(nats_server.url))
    yield bus
    await bus.close()


async def until(condition: Callable[[], bool], timeout: float = 10.0) -> None:
    """Wait for a condition; fails with TimeoutError."""
    async with asyncio.timeout(timeout):
        while not condition():
            await asyncio.sleep(0.01)


class Running:
    """A consumer that runs for the length of a block and is drained at its end."""

    def __init__(self, consumer: Consumer) -> None:
        self.consumer = consumer

    async def __aenter__(self) -> Consumer:
        self.task = asyncio.create_task(self.consumer.run())
        return self.consumer

    async def __aexit__(self, *_: object) -> None:
        await self.consumer.drain(1)
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


async def fill(bus: Bus, count: int, start: int = 0) -> None:
    await asyncio.gather(
        *(
            bus.publish(subjects.inbound("a", f"c{i}"), str(i).encode(), msg_id=f"a:{i}")
            for i in range(start, start + count)
        )
    )


async def left(bus: Bus, stream: str) -> int:
    return int((await bus.stream_info(stream)).state.messages)


async def emptied(bus: Bus, stream: str) -> None:
    """Wait for the server to take in the last acknowledgements, which nobody answers."""
    async with asyncio.timeout(5):
        while await left(bus, stream):
            await asyncio.sleep(0.01)


async def test_every_message_is_handled_and_leaves_the_stream(bus: Bus) -> None:
    """Each stored message reaches the handler once and is gone after its ack."""
    seen: list[bytes] = []

    async def handle(batch: Sequence[Delivery]) -> None:
        seen.extend(d.data for d in batch)

    await fill(bus, 500)
    await fill(bus, 500)  # the same ids: dropped by the server
    async with Running(Consumer(bus, SPEC, handle)):
        await until(lambda: len(seen) >= 500)
        await fill(bus, 50, start=500)
        await until(lambda: len(seen) >= 550)
    assert sorted(map(int, seen)) == list(range(550))
    await emptied(bus, subjects.INBOUND)


async def test_an_idle_consumer_gets_a_message_at_once(bus: Bus) -> None:
    """A single message reaches an idle consumer in milliseconds, not at the end of a fetch."""
    clock = SystemClock()
    arrived: list[float] = []

    async def handle(batch: Sequence[Delivery]) -> None:
        arrived.append(clock.monotonic())

    async with Running(Consumer(bus, SPEC, handle)):
        await fill(bus, 1)
        await until(lambda: bool(arrived))
        before = clock.monotonic()
        await fill(bus, 1, start=1)
        await until(lambda: len(arrived) == 2)
    assert arrived[1] - before < 0.25


async def test_behind_a_busy_batch_messages_gather(bus: Bus) -> None:
    """What trickles in behind a busy batch is handled together, and what comes after that at once."""
    batches: list[int] = []
    first = 3 * BUSY

    async def handle(batch: Sequence[Delivery]) -> None:
        await asyncio.sleep(
            0.1 if not batches else 0
        )  # all that was stored is here when the first one is done
        batches.append(len(batch))

    await fill(bus, first)
    async with Running(Consumer(bus, SPEC, handle, gather_s=0.5)):
        await until(lambda: sum(batches) == first)
        assert batches[-1] >= BUSY
        del batches[:-1]
        for number in range(3):
            await fill(bus, 1, start=first + number)
        await until(lambda: len(batches) > 1)
        assert batches[1:] == [3]
        async with asyncio.timeout(0.4):
            await fill(bus, 1, start=first + 3)
            await until(lambda: len(batches) == 3)


async def test_a_dependency_that_is_gone_keeps_the_messages(bus: Bus) -> None:
    """Retryable errors are tried again in place, are never dead-lettered and never redelivered meanwhile."""
    calls = 0
    deliveries: list[int] = []
    done: set[bytes] = set()

    async def handle(batch: Sequence[Delivery]) -> None:
        nonlocal calls
        calls += 1
        deliveries.extend(d.deliveries for d in batch)
        if calls < 8:
            raise Unavailable("the database is away")
        done.update(d.data for d in batch)

    await fill(bus, 3)
    async with Running(Consumer(bus, SPEC, handle, retry_cap=0.4)):
        await until(lambda: len(done) == 3)  # the first batch may hold one of them only
    assert set(deliveries) == {1}
    assert await left(bus, subjects.DEAD) == 0
    await emptied(bus, subjects.INBOUND)


async def test_poison_goes_to_dead_without_its_neighbours(bus: Bus) -> None:
    """A non-retryable error takes one message to DEAD with the reason; the others of the batch are
    handled."""
    good: set[bytes] = set()

    async def handle(batch: Sequence[Delivery]) -> None:
        if any(d.data == b"7" for d in batch):
            raise Poison("payload: not a message")
        good.update(d.data for d in batch)

    await fill(bus, 20)
    async with Running(Consumer(bus, SPEC, handle)):
        await until(lambda: len(good) == 19)
    info = await bus.js.get_msg(subjects.DEAD, seq=1)
    letter = DeadLetter.FromString(info.data or b"")
    assert (letter.subject, letter.payload) == (subjects.inbound("a", "c7"), b"7")
    assert letter.reason == "payload: not a message"
    await emptied(bus, subjects.INBOUND)


async def test_a_bug_is_tried_again_then_dead(bus: Bus) -> None:
    """An unexpected exception is tried again with back-off and goes to DEAD after the last try."""
    tries = 0

    async def handle(batch: Sequence[Delivery]) -> None:
        nonlocal tries
        tries += 1
        raise KeyError("bug")

    await fill(bus, 1)
    async with Running(Consumer(bus, SPEC, handle, max_crashes=2, retry_cap=0.1)):
        async with asyncio.timeout(10):
            while await left(bus, subjects.DEAD) == 0:
                await asyncio.sleep(0.02)
    assert tries == 4  # two unsuspicious deliveries, then max_crashes counted ones


async def test_release_gives_the_message_to_another(bus: Bus) -> None:
    """A released message is delivered again at once."""
    counts: list[int] = []

    async def handle(batch: Sequence[Delivery]) -> None:
        counts.append(batch[0].deliveries)
        if len(counts) == 1:
            raise Release

    await fill(bus, 1)
    async with Running(Consumer(bus, SPEC, handle)):
        await until(lambda: len(counts) == 2, 3)
    assert counts == [1, 2]


async def test_long_work_is_kept_in_progress(bus: Bus) -> None:
    """A handler that takes longer than ack_wait is not handed its message twice."""
    release = asyncio.Event()
    counts: list[int] = []

    async def handle(batch: Sequence[Delivery]) -> None:
        counts.append(batch[0].deliveries)
        await release.wait()

    await fill(bus, 1)
    async with Running(Consumer(bus, SPEC, handle, parallel=4)):
        await until(lambda: bool(counts))
        with pytest.raises(TimeoutError):
            await until(lambda: len(counts) > 1, SPEC.ack_wait * 2)
        release.set()


async def test_consumers_hear_again_after_a_server_restart(bus: Bus, nats_server: NatsServer) -> None:
    """After nats-server died and came back on its port, the consumer gets what is stored and what is new."""
    seen: set[bytes] = set()

    async def handle(batch: Sequence[Delivery]) -> None:
        seen.update(d.data for d in batch)

    async with Running(Consumer(bus, SPEC, handle)) as consumer:
        await fill(bus, 5)
        await until(lambda: len(seen) == 5)
        await nats_server.kill()
        await until(lambda: not consumer.healthy)
        await nats_server.start()
        await until(lambda: bus.connected)
        await fill(bus, 5, start=5)
        await until(lambda: len(seen) == 10, 8)
        await until(lambda: consumer.healthy)


async def test_a_deleted_consumer_is_made_again(bus: Bus) -> None:
    """A durable consumer that somebody deleted is made again and goes on."""
    seen: set[bytes] = set()

    async def handle(batch: Sequence[Delivery]) -> None:
        seen.update(d.data for d in batch)

    async with Running(Consumer(bus, SPEC, handle)):
        await fill(bus, 1)
        await until(lambda: len(seen) == 1)
        await bus.js.delete_consumer(SPEC.stream, SPEC.name)
        await fill(bus, 1, start=1)
        await until(lambda: len(seen) == 2, 12)


async def test_timers_fire_are_replaced_and_cancelled(bus: Bus) -> None:
    """A timer fires once at its time; setting it again moves it; a cancelled one stays silent."""
    fired: dict[str, int] = {}
    spec = ConsumerSpec(subjects.TIMERS, "test-due", (subjects.due_filter("debounce"),))
    clock = SystemClock()
    timers = Timers(bus)

    async def handle(batch: Sequence[Delivery]) -> None:
        for delivery in batch:
            timer_id = subjects.timer_id_of(delivery.subject)
            assert timer_id not in fired
            fired[timer_id] = clock.now_ms()

    start = clock.now_ms()
    await timers.set("debounce", "a/1", start + 300)
    await timers.set("debounce", "a/2", start + 300)
    await timers.set("debounce", "a/2", start + 1500)
    await timers.set("debounce", "a/3", start + 600)
    await timers.cancel("debounce", "a/3")
    async with Running(Consumer(bus, spec, handle)):
        await until(lambda: len(fired) == 2, 8)
    assert fired["a/1"] - start >= 300
    assert fired["a/2"] - start >= 1500


async def test_an_endless_subject_is_refused(nats_server: NatsServer) -> None:
    """A subject that the server would end the connection over never reaches it; its neighbour does."""
    bus = await Bus.connect(BusSettings(nats_server.url))
    with pytest.raises(InvalidArgument):
        await bus.publish("event.message." + "x" * 5000, b"")
    assert await bus.publish("event.message.x", b"") > 0
    await bus.close()


async def test_a_cancelled_consumer_begins_nothing_more(bus: Bus) -> None:
    """A handler that ends because its consumer is cancelled makes no room for the next message."""
    begun: list[bytes] = []
    ended = 0

    async def handle(batch: Sequence[Delivery]) -> None:
        nonlocal ended
        begun.extend(d.data for d in batch)
        try:
            await asyncio.Event().wait()
        finally:
            ended += 1

    await fill(bus, 10)
    consumer = Consumer(bus, SPEC, handle, max_batch=1, parallel=2)
    running = asyncio.create_task(consumer.run())
    await until(lambda: len(begun) == 2 and len(consumer._waiting) > 0)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert (len(begun), ended) == (2, 2)
