"""The life of an owned shard on a manual clock, with a lease that behaves as the server's does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from frontdesk.kit.clock import ManualClock
from frontdesk.kit.errors import InvalidArgument, Unavailable
from frontdesk.kit.shards.holding import Holding, State
from frontdesk.kit.shards.model import ShardSettings
from frontdesk.kit.shards.store import Conflict, Record

SETTINGS = ShardSettings(ttl=10, margin=3)


class OneLease:
    """A lease in memory: compare-and-swap, an outage, and answers that get lost."""

    def __init__(self) -> None:
        self.record = Record("lease.1", 1, b"mine")
        self.away = False
        self.lose_answers = False

    async def swap(self, key: str, value: bytes, last: int) -> int:
        return self._write(key, value, last)

    async def delete(self, key: str, last: int) -> None:
        self._write(key, None, last)

    async def read(self, key: str) -> Record | None:
        if self.away:
            raise Unavailable("away")
        return self.record

    def _write(self, key: str, value: bytes | None, last: int) -> int:
        if self.away:
            raise Unavailable("away")
        if last != self.record.revision:
            raise Conflict("another revision")
        self.record = Record(key, last + 1, value)
        if self.lose_answers:
            raise Unavailable("no answer")
        return self.record.revision


class Listener:
    """Notes its calls; can fail to open and can hang in a release."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.broken = False
        self.hanging = False

    async def acquired(self, shard: int, epoch: int) -> None:
        self.calls.append(f"acquired {shard} {epoch}")
        if self.broken:
            raise RuntimeError("no")

    async def release(self, shard: int) -> None:
        self.calls.append(f"release {shard}")
        if self.hanging:
            await asyncio.Event().wait()

    async def lost(self, shard: int) -> None:
        self.calls.append(f"lost {shard}")


class World:
    """A holding with its surroundings."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.lease = OneLease()
        self.listener = Listener()
        self.holding = Holding(
            1,
            value=b"mine",
            epoch=1,
            asked=self.clock.monotonic(),
            store=self.lease,
            listener=self.listener,
            settings=SETTINGS,
            clock=self.clock,
        )

    @asynccontextmanager
    async def living(self) -> AsyncIterator[asyncio.Task[None]]:
        """The holding lives for the length of the block."""
        task = asyncio.create_task(self.holding.live())
        try:
            await self.clock.advance(0)
            yield task
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def test_renewed_for_as_long_as_it_lives() -> None:
    """A holding whose renewals succeed holds at every moment of a minute."""
    world = World()
    async with world.living():
        for _ in range(120):
            await world.clock.advance(0.5)
            assert world.holding.holds()
    assert world.lease.record.revision > 20


async def test_handed_over_in_order() -> None:
    """Leaving drains, then deletes the lease."""
    world = World()
    async with world.living() as life:
        assert world.holding.state is State.OPEN
        world.holding.leave()
        await life
    assert world.listener.calls == ["acquired 1 1", "release 1"]
    assert world.lease.record.value is None
    assert not world.holding.holds()


async def test_an_outage_stops_use_but_not_ownership() -> None:
    """Past the deadline nothing may be used, the sessions stay, and a renewal that succeeds goes on."""
    world = World()
    async with world.living():
        world.lease.away = True
        await world.clock.advance(6.9)
        assert world.holding.holds()
        await world.clock.advance(0.2)
        assert not world.holding.holds()
        await world.clock.advance(300)
        assert world.holding.owned
        world.lease.away = False
        await world.clock.advance(0.5)
        assert world.holding.holds()
    assert world.listener.calls == ["acquired 1 1"]


async def test_a_lease_that_another_wrote_is_lost() -> None:
    """A conflict with somebody else's value closes the shard and touches the lease no more."""
    world = World()
    theirs = Record("lease.1", 9, b"theirs")
    async with world.living() as life:
        world.lease.record = theirs
        await world.clock.advance(2.5)
        await life
    assert world.holding.lost
    assert not world.holding.holds()
    assert world.listener.calls == ["acquired 1 1", "lost 1"]
    assert world.lease.record == theirs


async def test_an_own_write_without_answer_is_not_a_loss() -> None:
    """Renewals that are stored while their answers get lost neither lose the lease nor extend its use."""
    world = World()
    async with world.living():
        world.lease.lose_answers = True
        await world.clock.advance(7.1)
        assert not world.holding.holds()
        assert world.holding.owned
        world.lease.lose_answers = False
        await world.clock.advance(0.5)
        assert world.holding.holds()
    assert world.listener.calls == ["acquired 1 1"]


async def test_what_did_not_open_is_closed_and_given_back() -> None:
    """A listener that fails to open is told `lost`, and the lease is deleted."""
    world = World()
    world.listener.broken = True
    async with world.living() as life:
        await life
    assert not world.holding.opened
    assert world.listener.calls == ["acquired 1 1", "lost 1"]
    assert world.lease.record.value is None


async def test_a_hurried_drain_is_cut_short() -> None:
    """Hurry ends a release that hangs; the shard is closed by `lost` and its lease deleted."""
    world = World()
    world.listener.hanging = True
    async with world.living() as life:
        world.holding.leave()
        await world.clock.advance(0)
        assert world.holding.state is State.DRAINING
        assert world.holding.holds()
        world.holding.hurry()
        await life
    assert world.listener.calls == ["acquired 1 1", "release 1", "lost 1"]
    assert world.lease.record.value is None


async def test_a_lease_that_can_not_be_deleted_runs_out() -> None:
    """Without NATS the end of a handover waits no longer than the lease's own deadline."""
    world = World()
    async with world.living() as life:
        world.lease.away = True
        world.holding.leave()
        await world.clock.advance(7)
        await life
    assert world.lease.record.value == b"mine"
    assert not world.holding.owned


@pytest.mark.parametrize(
    ("field", "value"),
    [("shards", 0), ("shards", 513), ("ttl", 0.0), ("margin", 0.0), ("margin", 5.0), ("drain_seconds", 0.0)],
)
def test_settings_name_the_wrong_field(field: str, value: float) -> None:
    """Settings that can't work are refused with the field's name."""
    with pytest.raises(InvalidArgument) as caught:
        ShardSettings(**{field: value})  # type: ignore[arg-type]
    assert caught.value.field == field
