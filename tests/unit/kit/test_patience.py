"""Waiting for what others make: told once, bounded, and not for what waiting does not mend."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from frontdesk.kit.clock import ManualClock
from frontdesk.kit.errors import DeadlineExceeded, PermissionDenied, Unavailable
from frontdesk.kit.patience import Patience


def failing(*errors: Exception) -> Callable[[], Awaitable[str]]:
    """An attempt that raises these one after the other, and then succeeds."""
    left = list(errors)

    async def attempt() -> str:
        if left:
            raise left.pop(0)
        return "there"

    return attempt


async def test_each_reason_is_told_once() -> None:
    """However long it takes, a reason is one line; another reason is another, and the end is told too."""
    said: list[str] = []
    clock = ManualClock()
    patience = Patience(said.append, clock)
    away, busy = Unavailable("away"), Unavailable("busy")
    waiting = asyncio.create_task(patience.until("NATS", failing(away, away, busy, away, busy)))
    await clock.advance(0.5)
    assert patience.waits_for == "waiting for NATS: away"
    await clock.advance(600)
    assert await waiting == "there"
    assert said == ["waiting for NATS: away", "waiting for NATS: busy", "NATS: there after 5.0 s"]
    assert patience.waits_for is None


async def test_what_is_there_is_not_spoken_of() -> None:
    """A start with everything in its place logs nothing."""
    said: list[str] = []
    assert await Patience(said.append, ManualClock()).until("NATS", failing()) == "there"
    assert said == []


async def test_what_waiting_does_not_mend_is_raised_at_once() -> None:
    """Only Unavailable is waited for."""
    clock = ManualClock()
    patience = Patience(print, clock)
    with pytest.raises(PermissionDenied):
        await patience.until("NATS", failing(PermissionDenied("no")))
    assert clock.monotonic() == 0
    assert patience.waits_for is None


async def test_one_deadline_for_everything() -> None:
    """The second thing gets what the first one left; a reason is told again from time to time."""
    said: list[str] = []
    clock = ManualClock()
    patience = Patience(said.append, clock, seconds=30, setting="HOW_LONG", again_s=10)

    async def never() -> None:
        raise Unavailable("away")

    async def both() -> None:
        await patience.until("first", failing(Unavailable("away"), Unavailable("away")))
        await patience.until("second", never)

    waiting = asyncio.create_task(both())
    await clock.advance(29.5)
    assert not waiting.done()
    assert said.count("waiting for second: away") == 3
    await clock.advance(1)
    with pytest.raises(DeadlineExceeded, match=r"second did not come within 30 s \(HOW_LONG\): away"):
        await waiting
