"""Rendezvous hashing: stable, even, and moving no more than it must."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from frontdesk.kit.shards.rendezvous import candidates, order, score

SHARDS = range(64)
MEMBERS = st.frozensets(st.text(min_size=1, max_size=12), min_size=1, max_size=8)


def owner(shard: int, members: frozenset[str]) -> str:
    return order(shard, members)[0]


def test_the_hash_never_changes() -> None:
    """The scores are those of the first release: another hash would move nearly every shard."""
    assert score(0, "gateway-0") == 3719297181551642037
    assert score(63, "gateway-1") == 17354714344640542936


@given(members=MEMBERS, shard=st.integers(0, 511))
def test_order_has_every_member_once(members: frozenset[str], shard: int) -> None:
    """The order of succession has all members, each once."""
    assert sorted(order(shard, members)) == sorted(members)


@given(members=MEMBERS, joining=st.text(min_size=1, max_size=12))
def test_joining_moves_shards_to_the_newcomer_only(members: frozenset[str], joining: str) -> None:
    """A newcomer takes shards; none moves between the members that were there."""
    for shard in SHARDS:
        before, after = owner(shard, members), owner(shard, members | {joining})
        assert after in (before, joining)


@given(members=MEMBERS.filter(lambda members: len(members) > 1), data=st.data())
def test_leaving_moves_its_own_shards_to_the_next_in_order(
    members: frozenset[str], data: st.DataObject
) -> None:
    """Only the leaver's shards move, each to the member that was second in order."""
    leaver = data.draw(st.sampled_from(sorted(members)))
    for shard in SHARDS:
        first, second = order(shard, members)[:2]
        assert owner(shard, members - {leaver}) == (second if first == leaver else first)


@given(alive=MEMBERS, cordoned=st.frozensets(st.text(min_size=1, max_size=12), max_size=8), data=st.data())
def test_cordoned_members_are_proposed_nothing(
    alive: frozenset[str], cordoned: frozenset[str], data: st.DataObject
) -> None:
    """Shards are proposed to members alive and free; to cordoned ones only when nobody else is alive."""
    cordoned |= data.draw(st.frozensets(st.sampled_from(sorted(alive))))
    chosen = candidates(alive, cordoned)
    assert chosen
    assert chosen <= alive
    assert not chosen & cordoned or alive <= cordoned


@given(alive=MEMBERS.filter(lambda members: len(members) > 1), data=st.data())
def test_a_cordon_moves_only_the_shards_of_the_cordoned(alive: frozenset[str], data: st.DataObject) -> None:
    """Each of its shards goes to the next free member in order, no other shard moves, all come back after."""
    others = st.frozensets(st.sampled_from(sorted(alive)), max_size=len(alive) - 2)
    cordoned = data.draw(others)
    one = data.draw(st.sampled_from(sorted(alive - cordoned)))
    before, during = candidates(alive, cordoned), candidates(alive, cordoned | {one})
    for shard in SHARDS:
        first = owner(shard, before)
        moved = order(shard, before)[1] if first == one else first
        assert owner(shard, during) == moved
        assert owner(shard, candidates(alive, (cordoned | {one}) - {one})) == first


@given(prefix=st.text(max_size=12), count=st.integers(2, 6))
def test_shards_are_spread_evenly(prefix: str, count: int) -> None:
    """Of 2,048 shards every member gets its fair share, give or take seven standard deviations."""
    members = frozenset(f"{prefix}{i}" for i in range(count))
    owned = Counter(owner(shard, members) for shard in range(2048))
    fair = 2048 / count
    assert all(abs(owned[member] - fair) < 7 * (fair * (1 - 1 / count)) ** 0.5 for member in members)
