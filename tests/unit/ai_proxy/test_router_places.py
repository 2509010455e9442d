"""Calls at once of one provider: passed by when full, waited for when all are, never lost."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest

from frontdesk.ai_proxy.model import Provider
from frontdesk.ai_proxy.router import Begun, Held
from frontdesk.kit.errors import ResourceExhausted
from support.completions import RouterBench as Bench
from support.completions import provider


def narrow(name: str, **fields: int) -> Provider:
    """A provider for one call at once."""
    one = provider(name, **fields)
    return replace(one, limits=replace(one.limits, concurrency=1))


async def holding(bench: Bench, count: int) -> Sequence[Held[Begun]]:
    """Streams that have begun and hold their places."""
    return [await bench.stream() for _ in range(count)]


async def test_a_full_provider_is_passed_by() -> None:
    bench = Bench(narrow("a"), narrow("b", priority=1))
    held = await holding(bench, 2)
    assert [one.candidate.provider.name for one in held] == ["a", "b"]
    assert bench.in_flight() == [1, 1]


async def test_when_all_are_full_the_first_place_that_gets_free_is_taken() -> None:
    """In the order of waiting, and each place by one call."""
    bench = Bench(narrow("a"), narrow("b", priority=1))
    held = await holding(bench, 2)
    tasks = [asyncio.create_task(bench.complete()) for _ in range(2)]
    await bench.clock.advance(1)
    assert not any(task.done() for task in tasks)
    held[1].end()
    await bench.clock.advance(0)
    assert await tasks[0] == "b"
    assert await tasks[1] == "b"
    held[0].end()
    assert bench.in_flight() == [0, 0]


async def test_fewer_places_than_are_taken_are_not_given_on() -> None:
    """A provider that was narrowed while calls were under way: they end, the next waits for its own place."""
    bench = Bench(provider("a"))
    held = await holding(bench, 2)
    bench.providers = (narrow("a"),)
    task = asyncio.create_task(bench.complete())
    await bench.clock.advance(0)
    held[0].end()
    await bench.clock.advance(0)
    assert (task.done(), bench.in_flight()) == (False, [1])
    held[1].end()
    assert await task == "a"
    assert bench.in_flight() == [0]


async def test_waiting_for_a_place_is_bounded() -> None:
    """In time, and in how many wait."""
    bench = Bench(narrow("a"))
    (held,) = await holding(bench, 1)
    tasks = [asyncio.create_task(bench.complete()) for _ in range(2)]
    await bench.clock.advance(0)
    with pytest.raises(ResourceExhausted, match="too many"):
        await bench.complete()
    await bench.clock.advance(5)
    for task in tasks:
        with pytest.raises(ResourceExhausted, match="busy"):
            await task
    held.end()
    assert await bench.complete() == "a"


async def test_a_place_is_not_lost_on_a_caller_who_left() -> None:
    """Neither one who waits, nor one who was just given it."""
    bench = Bench(narrow("a"))
    (held,) = await holding(bench, 1)
    left, stays = (asyncio.create_task(bench.complete()) for _ in range(2))
    await bench.clock.advance(0)
    held.end()
    left.cancel()
    await bench.clock.advance(0)
    assert left.cancelled()
    assert await stays == "a"
    assert bench.in_flight() == [0]
