"""Slots of the pool: who gets one, who waits for whom, and that nobody is remembered for nothing."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from frontdesk.ai_proxy.providers.slots import Slots
from frontdesk.kit.clock import ManualClock

LONG_S = 600.0


async def settled() -> None:
    """Every task that can go on has done so."""
    await ManualClock().advance(0)


class Bench:
    """Slots, and the calls that hold or want one, by organization in the order in which they came."""

    def __init__(self, most: int, share: int) -> None:
        self.slots = Slots(most, share)
        self.got: list[str] = []
        self.waiting: list[tuple[str, asyncio.Task[None]]] = []

    async def want(self, *organizations: str) -> None:
        """A call each, one after the other."""
        for organization in organizations:
            self.waiting.append((organization, asyncio.create_task(self._take(organization))))
            await settled()
        self.waiting = [one for one in self.waiting if not one[1].done()]

    async def end(self, organization: str) -> None:
        """A call that holds a slot ends."""
        self.got.remove(organization)
        self.slots.give_back(organization)
        await settled()
        self.waiting = [one for one in self.waiting if not one[1].done()]

    async def leave(self, number: int) -> None:
        """A call that waits is cancelled."""
        _, task = self.waiting.pop(number)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    async def _take(self, organization: str) -> None:
        await self.slots.take(organization, LONG_S)
        self.got.append(organization)

    @property
    def remembered(self) -> set[str]:
        """Whom the slots know."""
        return {*self.slots._held, *self.slots._waiting}


async def test_an_organization_at_its_share_stands_before_nobody() -> None:
    """Its calls wait for its own; others pass them by, and take what is free at once."""
    bench = Bench(5, 2)
    await bench.want("a", "a", "a", "a", "b", "b", "b", "c")
    assert bench.got == ["a", "a", "b", "b", "c"]
    assert [organization for organization, _ in bench.waiting] == ["a", "a", "b"]
    await bench.end("c")
    assert bench.got == ["a", "a", "b", "b"]
    await bench.end("b")
    assert bench.got == ["a", "a", "b", "b"]
    await bench.want("d")
    assert bench.got == ["a", "a", "b", "b", "d"]


async def test_who_holds_the_fewest_is_next() -> None:
    """A crowd that came first waits behind its own calls; equals take turns, each in the order it came."""
    bench = Bench(4, 3)
    await bench.want("a", "a", "a", "b", *("a",) * 5, *("b",) * 3, "c", "c")
    assert bench.got == ["a", "a", "a", "b"]
    for _ in range(3):
        await bench.end("a")
    assert bench.got == ["b", "c", "a", "b"]
    await bench.end("b")
    assert bench.got == ["c", "a", "b", "c"]


async def test_a_slot_is_never_lost_with_who_waited_for_it() -> None:
    """Left before, and left as it came."""
    bench = Bench(1, 1)
    await bench.want("a", "b", "c", "d")
    await bench.leave(0)
    _, second = bench.waiting[0]
    bench.got.remove("a")
    bench.slots.give_back("a")
    second.cancel()
    await settled()
    assert bench.got == ["d"]
    await bench.end("d")
    assert bench.remembered == set()


async def test_waiting_ends() -> None:
    """With TimeoutError, and nothing is kept of who waited."""
    slots = Slots(1, 1)
    await slots.take("a", LONG_S)
    for organization in ("a", "b"):
        with pytest.raises(TimeoutError):
            await slots.take(organization, 0.001)
    assert slots.has_share("a")
    assert not slots.has_share("b")
    slots.give_back("a")
    await slots.take("b", 0.001)
    assert not slots.has_share("a")


STEPS = st.lists(
    st.tuples(st.sampled_from(["want", "want", "end", "leave"]), st.integers(0, 100)), max_size=60
)


@given(st.integers(1, 4), st.integers(1, 4), STEPS)
def test_whatever_order_calls_come_and_go_in(most: int, share: int, steps: list[tuple[str, int]]) -> None:
    """Never more than all and each one's share; nobody waits for what is free; in the end nobody is known."""

    async def run() -> None:
        bench = Bench(most, share)
        for what, number in steps:
            if what == "want":
                await bench.want("abc"[number % 3])
            elif what == "end" and bench.got:
                await bench.end(bench.got[number % len(bench.got)])
            elif what == "leave" and bench.waiting:
                await bench.leave(number % len(bench.waiting))
            held = Counter(bench.got)
            waiting = {organization for organization, _ in bench.waiting}
            assert held.total() <= most
            assert all(count <= share for count in held.values())
            assert held.total() == most or all(held[organization] == share for organization in waiting)
            assert bench.remembered == held.keys() | waiting
        while bench.waiting:
            await bench.leave(0)
        while bench.got:
            await bench.end(bench.got[0])
        assert bench.remembered == set()

    asyncio.run(run())
