"""What a member makes of the records it hears of, in whatever order."""

from __future__ import annotations

from frontdesk.kit import subjects
from frontdesk.kit.clock import ManualClock
from frontdesk.kit.shards.model import Member, ShardSettings, cordons_value, lease_value
from frontdesk.kit.shards.store import Record
from frontdesk.kit.shards.view import View

SETTINGS = ShardSettings(ttl=10, margin=3)
LEASE = subjects.lease_key(1)


def held(revision: int, incarnation: str = "other") -> Record:
    return Record(LEASE, revision, lease_value("gateway-1", incarnation, "t"))


def make() -> tuple[View, ManualClock]:
    clock = ManualClock()
    view = View(SETTINGS, clock.monotonic)
    view.clocks.contact(clock.monotonic())
    return view, clock


async def test_a_late_message_does_not_turn_back() -> None:
    """An older revision that arrives later changes nothing, not even the clock."""
    view, clock = make()
    assert view.observe(held(5))
    await clock.advance(2)
    assert not view.observe(held(4))
    assert view.revision(1) == 5
    assert view.free_since(1, "me") == 10


async def test_when_a_lease_is_free() -> None:
    """Never written, deleted or own: at once; held by another process, of whatever name: after a ttl."""
    view, clock = make()
    assert view.free_since(1, "me") == 0
    await clock.advance(1)
    view.observe(held(1))
    assert view.free_since(1, "me") == 11
    await clock.advance(1)
    view.observe(held(2, "me"))
    assert view.free_since(1, "me") == 2
    await clock.advance(1)
    view.observe(Record(LEASE, 3, None))
    assert view.free_since(1, "me") == 3


async def test_a_value_that_is_none_of_ours_counts_as_held() -> None:
    """A lease with a value that can't be read runs out as any other."""
    view, _ = make()
    view.observe(Record(LEASE, 1, b"{broken"))
    assert view.free_since(1, "me") == 10


async def test_a_lease_that_vanished_must_run_out() -> None:
    """A purged lease may be in use until its owner notices; every further read leaves its clock alone."""
    view, clock = make()
    view.observe(held(5))
    await clock.advance(1)
    view.take_in([], upto=5)
    await clock.advance(1)
    view.take_in([], upto=6)
    assert view.revision(1) == 0
    assert view.free_since(1, "me") == 11


async def test_a_full_read_does_not_undo_what_is_newer() -> None:
    """A read from a replica that is behind neither removes nor turns back a newer record."""
    view, _ = make()
    view.observe(held(7))
    view.take_in([held(5)], upto=6)
    assert view.revision(1) == 7
    view.take_in([], upto=6)
    assert view.revision(1) == 7


async def test_a_full_read_is_right_about_a_bucket_made_anew() -> None:
    """Revisions that went back are believed when the read covers them, and the lease runs out first."""
    view, clock = make()
    view.observe(held(70))
    await clock.advance(1)
    view.take_in([held(50, "new")], upto=90)
    assert view.revision(1) == 50
    assert view.free_since(1, "me") == 11


async def test_members_alive() -> None:
    """A member is alive until its record stood for a ttl; deleted and unreadable records are no members."""
    view, clock = make()
    ada, ben = Member("ada", "1"), Member("ben", "2", since_ms=7)
    view.observe(Record(subjects.member_key("ben"), 1, ben.to_bytes()))
    view.observe(Record(subjects.member_key("ada"), 2, ada.to_bytes()))
    view.observe(Record(subjects.member_key("cid"), 3, b"[]"))
    assert view.members() == (ada, ben)
    for _ in range(3):
        await clock.advance(4)
        view.clocks.contact(clock.monotonic())
        view.observe(Record(subjects.member_key("ben"), view.newest + 1, ben.to_bytes()))
    assert view.members() == (ben,)
    view.observe(Record(subjects.member_key("ben"), view.newest + 1, None))
    assert view.members() == ()


async def test_cordons_outlive_their_members() -> None:
    """A member is cordoned as long as the list says so, alive or not; a list that can't be read is empty."""
    view, _ = make()
    view.observe(Record(subjects.member_key("ada"), 1, Member("ada", "1").to_bytes()))
    assert view.cordoned() == frozenset()
    view.observe(Record(subjects.CORDONS_KEY, 2, cordons_value(["ben", "ada"])))
    assert view.cordoned() == {"ada", "ben"}
    assert view.members() == (Member("ada", "1", cordoned=True),)
    view.observe(Record(subjects.member_key("ada"), 3, None))
    assert view.cordoned() == {"ada", "ben"}
    view.observe(Record(subjects.CORDONS_KEY, 4, b'{"members": 1}'))
    assert view.cordoned() == frozenset()
    view.observe(Record(subjects.CORDONS_KEY, 5, cordons_value(["ben"])))
    view.take_in([], upto=5)
    assert view.cordoned() == frozenset()


async def test_who_holds_a_shard() -> None:
    """A lease names its holder until it is deleted, vanishes or stands for a ttl."""
    view, clock = make()
    assert view.holders() == {}
    view.observe(held(1))
    assert view.holders() == {1: "gateway-1"}
    view.observe(Record(LEASE, 2, None))
    assert view.holders() == {}
    view.observe(held(3))
    for _ in range(3):
        await clock.advance(4)
        view.clocks.contact(clock.monotonic())
    assert view.holders() == {}
    view.observe(held(4))
    view.take_in([], upto=4)
    assert view.holders() == {}
