"""Two providers at once: the first piece wins, the other call is really cancelled."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from frontdesk.ai_proxy.errors import (
    UpstreamMisconfigured,
    UpstreamRefused,
    UpstreamTimeout,
)
from support.completions import ROUTER_SETTINGS as SETTINGS
from support.completions import RouterBench as Bench
from support.completions import Step, forever, provider, says

HEDGED = replace(SETTINGS, hedge_after_s=2)


async def test_hedging_asks_a_second_provider_and_cancels_the_loser() -> None:
    bench = Bench(provider("a"), provider("b", priority=1), settings=HEDGED)
    bench.adapter.plays("a", [forever])
    task = asyncio.create_task(bench.stream())
    await bench.clock.advance(1.9)
    assert bench.adapter.asked == ["a"]
    await bench.clock.advance(0.1)
    held = await task
    assert held.candidate.provider.name == "b"
    assert bench.adapter.ended == [("a", "left")]
    assert bench.in_flight() == [0, 1]
    held.end()
    assert bench.clock.sleepers == 0


async def test_hedging_keeps_the_first_when_it_speaks_first() -> None:
    """The second is cancelled though it was asked last."""
    bench = Bench(provider("a"), provider("b", priority=1), settings=HEDGED)
    bench.adapter.plays("a", [lambda: bench.clock.sleep(3), *says("ok")])
    bench.adapter.plays("b", [forever])
    task = asyncio.create_task(bench.stream())
    await bench.clock.advance(3)
    held = await task
    assert (held.candidate.provider.name, bench.adapter.ended) == ("a", [("b", "left")])
    held.end()
    assert bench.in_flight() == [0, 0]


async def test_without_hedging_nobody_else_is_asked() -> None:
    bench = Bench(provider("a"), provider("b", priority=1))
    bench.adapter.plays("a", [lambda: bench.clock.sleep(50), *says("ok")])
    task = asyncio.create_task(bench.stream())
    await bench.clock.advance(50)
    (await task).end()
    assert bench.adapter.asked == ["a"]


async def test_of_two_that_speak_at_once_one_is_closed() -> None:
    """Also one that has begun is really cancelled."""
    bench = Bench(provider("a"), provider("b", priority=1), settings=HEDGED)
    late: list[Step] = [lambda: bench.clock.sleep(3), *says("ok", "more")]
    bench.adapter.plays("a", late)
    bench.adapter.plays("b", [lambda: bench.clock.sleep(1), *says("ok", "more")])
    task = asyncio.create_task(bench.stream())
    await bench.clock.advance(3)
    held = await task
    assert [how for _, how in bench.adapter.ended] == ["left"]
    held.end()
    assert bench.in_flight() == [0, 0]


async def test_hedging_ends_when_all_have_failed_or_the_question_is_wrong() -> None:
    bench = Bench(provider("a"), provider("b", priority=1), settings=HEDGED)
    bench.adapter.plays("a", [lambda: bench.clock.sleep(3), UpstreamTimeout("a")])
    bench.adapter.plays("b", [UpstreamMisconfigured("b", status=404)])
    task = asyncio.create_task(bench.stream())
    await bench.clock.advance(3)
    with pytest.raises(UpstreamTimeout):
        await task
    bench.adapter.plays("a", [forever])
    bench.adapter.plays("b", [UpstreamRefused("too long")])
    bench.providers = (bench.providers[0], replace(bench.providers[1], weight=2))
    task = asyncio.create_task(bench.stream())
    await bench.clock.advance(2)
    with pytest.raises(UpstreamRefused):
        await task
    assert bench.in_flight() == [0, 0]


async def test_leaving_a_hedged_call_ends_both() -> None:
    bench = Bench(provider("a"), provider("b", priority=1), settings=HEDGED)
    for name in ("a", "b"):
        bench.adapter.plays(name, [forever])
    task = asyncio.create_task(bench.stream())
    await bench.clock.advance(2)
    assert bench.in_flight() == [1, 1]
    task.cancel()
    await bench.clock.advance(0)
    assert task.cancelled()
    assert bench.in_flight() == [0, 0]
    assert sorted(bench.adapter.ended) == [("a", "left"), ("b", "left")]


async def test_leaving_while_the_loser_ends_keeps_no_place() -> None:
    """Neither that of the loser, which takes its time, nor that of the winner, which nobody got."""
    bench = Bench(provider("a"), provider("b", priority=1), settings=HEDGED)
    release = asyncio.Event()

    async def lingers() -> None:
        try:
            await forever()
        finally:
            await release.wait()

    bench.adapter.plays("a", [lingers])
    task = asyncio.create_task(bench.stream())
    await bench.clock.advance(2)
    assert bench.in_flight() == [1, 1]
    task.cancel()
    await bench.clock.advance(0)
    release.set()
    await bench.clock.advance(0)
    assert task.cancelled()
    assert bench.in_flight() == [0, 0]
    assert sorted(bench.adapter.ended) == [("a", "left"), ("b", "left")]
