"""The list of cordons: who may be put on it, and what two callers at once make of it."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from frontdesk.kit import subjects
from frontdesk.kit.errors import FailedPrecondition, NotFound, Unavailable
from frontdesk.kit.shards.cordons import Cordons
from frontdesk.kit.shards.model import cordoned_members
from frontdesk.kit.shards.store import Conflict, Record

ALIVE = frozenset({"ada", "ben", "cid"})


class OneKey:
    """A key in memory with compare-and-swap; each call lets others run first."""

    def __init__(self) -> None:
        self.record: Record | None = None
        self.conflicts = 0

    async def read(self, key: str) -> Record | None:
        await asyncio.sleep(0)
        assert key == subjects.CORDONS_KEY
        return self.record

    async def swap(self, key: str, value: bytes, last: int) -> int:
        await asyncio.sleep(0)
        revision = self.record.revision if self.record is not None else 0
        if last != revision:
            self.conflicts += 1
            raise Conflict("another revision")
        self.record = Record(key, revision + 1, value)
        return revision + 1

    @property
    def members(self) -> frozenset[str]:
        return cordoned_members(self.record.value or b"") if self.record is not None else frozenset()


async def test_on_the_list_and_off_again() -> None:
    """Cordoning twice is cordoning once; so is uncordoning, and nothing is written for it."""
    store = OneKey()
    cordons = Cordons(store, lambda: ALIVE)
    assert await cordons.add("ada") == {"ada"}
    assert await cordons.add("ada") == {"ada"}
    assert store.record is not None
    assert store.record.revision == 1
    assert await cordons.add("ben") == {"ada", "ben"}
    assert await cordons.remove("ada") == {"ben"}
    assert await cordons.remove("ada") == {"ben"}
    assert store.record.revision == 3


async def test_a_deleted_list_is_written_again() -> None:
    """A key that was deleted has a revision that the next write expects."""
    store = OneKey()
    store.record = Record(subjects.CORDONS_KEY, 9, None)
    assert await Cordons(store, lambda: ALIVE).add("ada") == {"ada"}


async def test_nobody_cordons_a_stranger() -> None:
    """A name that is not in the fleet is NOT_FOUND; a member that went away cordoned can be uncordoned."""
    store, alive = OneKey(), set(ALIVE)
    cordons = Cordons(store, lambda: frozenset(alive))
    with pytest.raises(NotFound) as unknown:
        await cordons.add("eve")
    assert unknown.value.facts == {"replica": "eve"}
    with pytest.raises(NotFound):
        await cordons.remove("eve")
    await cordons.add("cid")
    alive.remove("cid")
    assert await cordons.add("cid") == {"cid"}
    assert await cordons.remove("cid") == frozenset()


async def test_the_last_one_stays_free() -> None:
    """The last member that is not cordoned is refused with what to do, whoever else is on the list."""
    store, alive = OneKey(), {"ada", "ben"}
    cordons = Cordons(store, lambda: frozenset(alive))
    await cordons.add("ada")
    with pytest.raises(FailedPrecondition, match="last replica"):
        await cordons.add("ben")
    alive.add("cid")
    assert await cordons.add("ben") == {"ada", "ben"}
    alive.discard("ada")
    with pytest.raises(FailedPrecondition):
        await cordons.add("cid")


async def test_a_list_that_never_rests() -> None:
    """After so many conflicts the caller hears UNAVAILABLE and may try again."""

    class Restless(OneKey):
        async def swap(self, key: str, value: bytes, last: int) -> int:
            raise Conflict("another revision")

    with pytest.raises(Unavailable):
        await Cordons(Restless(), lambda: ALIVE).add("ada")


@given(calls=st.lists(st.tuples(st.booleans(), st.sampled_from(sorted(ALIVE))), min_size=1, max_size=8))
def test_whatever_is_called_at_once_one_member_stays_free(calls: list[tuple[bool, str]]) -> None:
    """Callers that meet never cordon the whole fleet; each is obeyed or refused, none is lost."""

    async def run() -> None:
        store = OneKey()
        # Every caller is a replica of its own: they share nothing but the bucket.
        replicas = [Cordons(store, lambda: ALIVE) for _ in calls]
        outcomes = await asyncio.gather(
            *(
                replica.add(name) if adds else replica.remove(name)
                for replica, (adds, name) in zip(replicas, calls, strict=True)
            ),
            return_exceptions=True,
        )
        assert ALIVE - store.members
        for outcome in outcomes:
            assert isinstance(outcome, frozenset | FailedPrecondition)
        if {adds for adds, _ in calls} == {True} and len({name for _, name in calls}) < len(ALIVE):
            assert store.members == {name for _, name in calls}

    asyncio.run(run())
