"""What questions may take of the memory together."""

from __future__ import annotations

import pytest
from starlette.exceptions import HTTPException

from frontdesk.ai_proxy.openai_door.room import Place, Room
from frontdesk.kit.errors import ResourceExhausted

MIB = 1024 * 1024


def taken(room: Room, organization_id: str, megabytes: int) -> Place:
    """A question with a picture of so many megabytes."""
    place = room.place(organization_id)
    place.whole(b"x" * megabytes * MIB)
    return place


def test_an_organization_has_half_of_it() -> None:
    """However much it asks, another one's pictures have room; what ended gives its room back."""
    room = Room(64 * MIB)
    first = [taken(room, "a", 4), taken(room, "a", 4)]
    with pytest.raises(ResourceExhausted):
        taken(room, "a", 1)
    others = [taken(room, "b", 8)]
    with pytest.raises(ResourceExhausted):
        taken(room, "c", 1)
    for place in first + others:
        place.end()
        place.end()
    assert [taken(room, name, 8) for name in ("c", "d")]


def test_only_what_came_takes_room() -> None:
    """A caller that announces much and sends little shuts out nobody."""
    room = Room(64 * MIB)
    slow = [room.place("a") for _ in range(1_000)]
    for place in slow:
        place.arrived(79)
    assert taken(room, "a", 7)


def test_many_small_values_weigh_more_than_their_bytes() -> None:
    """A million empty objects are three megabytes of body, and hundreds of memory."""
    with pytest.raises(HTTPException) as refused:
        Room(256 * MIB).place("a").whole(b"[" + b"{}," * 1_000_000 + b"{}]")
    assert refused.value.status_code == 413
    Room(256 * MIB).place("a").whole(b"{}," * 100_000)


def test_what_was_refused_takes_no_room() -> None:
    """It can be asked again, and is known to nobody."""
    room = Room(8 * MIB)
    for _ in range(10):
        place = room.place("a")
        with pytest.raises(HTTPException):
            place.whole(b"x" * 2 * MIB)
        place.end()
    assert taken(room, "a", 1)
