"""The manual clock: time moves only when a test moves it."""

from __future__ import annotations

import asyncio

from frontdesk.kit.clock import ManualClock, iso


async def test_sleepers_wake_in_the_order_of_their_deadlines() -> None:
    """Advancing over several deadlines runs each sleeper at its own time."""
    clock = ManualClock()
    woke: list[tuple[str, float]] = []

    async def sleeper(name: str, seconds: float) -> None:
        await clock.sleep(seconds)
        woke.append((name, clock.monotonic()))

    tasks = [asyncio.create_task(sleeper("late", 5)), asyncio.create_task(sleeper("early", 2))]
    await clock.advance(1)
    assert not woke
    assert clock.sleepers == 2
    await clock.advance(10)
    assert woke == [("early", 2.0), ("late", 5.0)]
    assert clock.monotonic() == 11.0
    await asyncio.gather(*tasks)


async def test_a_sleep_inside_an_advance_is_timed_from_there() -> None:
    """What a woken task sleeps next is due relative to the time at which it woke."""
    clock = ManualClock()
    ticks: list[float] = []

    async def ticker() -> None:
        for _ in range(3):
            await clock.sleep(1)
            ticks.append(clock.monotonic())

    task = asyncio.create_task(ticker())
    await clock.advance(10)
    assert ticks == [1.0, 2.0, 3.0]
    await task


def test_iso_writes_utc_with_milliseconds() -> None:
    """Times leave in RFC 3339, in UTC."""
    assert iso(1_700_000_000_007) == "2023-11-14T22:13:20.007Z"
