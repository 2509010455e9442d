"""A service with calls stays up: its leases in WAKE, with a clock that is moved."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from frontdesk.kit.bus.awake import StaysAwake
from frontdesk.kit.clock import ManualClock
from frontdesk.kit.errors import Unavailable
from frontdesk.kit.tasks import end


class Leases:
    """Notes when a lease was published; `away` refuses."""

    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock
        self.away = False
        self.at: list[tuple[float, str]] = []

    async def publish(self, subject: str, message: bytes) -> int:
        if self.away:
            raise Unavailable("NATS is away")
        self.at.append((self.clock.monotonic(), subject))
        return 1


class Bench:
    """A service that works when it is told to."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.leases = Leases(self.clock)
        self.works = False
        self.awake = StaysAwake(self.leases, "ai-proxy", lambda: self.works, self.clock, 20, 2)

    async def pass_by(self, seconds: float, *, works: bool) -> None:
        self.works = works
        await self.clock.advance(seconds)


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    bench = Bench()
    task = asyncio.create_task(bench.awake.run())
    yield bench
    await end([task])


async def test_work_is_told_at_once_and_then_now_and_again(bench: Bench) -> None:
    await bench.pass_by(45, works=True)
    assert bench.leases.at == [(2.0, "wake.ai-proxy"), (22.0, "wake.ai-proxy"), (42.0, "wake.ai-proxy")]


async def test_a_service_without_work_may_sleep(bench: Bench) -> None:
    await bench.pass_by(500, works=False)
    assert bench.leases.at == []


async def test_work_between_two_leases_is_in_the_next(bench: Bench) -> None:
    """However short it was: the last lease is not older than the last work, but for the pause between two."""
    await bench.pass_by(4, works=True)
    await bench.pass_by(4, works=False)
    await bench.pass_by(2, works=True)
    await bench.pass_by(100, works=False)
    assert [at for at, _ in bench.leases.at] == [2.0, 22.0]


async def test_nats_that_is_away_ends_nothing(bench: Bench) -> None:
    bench.leases.away = True
    await bench.pass_by(30, works=True)
    bench.leases.away = False
    await bench.pass_by(20, works=True)
    assert [at for at, _ in bench.leases.at] == [42.0]
