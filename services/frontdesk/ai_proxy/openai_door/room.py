"""What questions take of the memory while they are under way, estimated, and at most so much.

Four times its bytes for a body, which is there as it came, as values and as it goes out again. JSON of many
small values takes far more: each has an object of its own, so the signs between them are counted.
"""

from __future__ import annotations

from starlette.exceptions import HTTPException

from frontdesk.kit.errors import ResourceExhausted

_COPIES = 4
# Of a value or a pair, with what it is turned into.
_SIGN_BYTES = 200
_SIGNS = (b",", b"[", b"{")


class Room:
    """`most` bytes for all, of which an organization has at most half."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._share = most // 2
        self._taken = 0
        self._of: dict[str, int] = {}

    def place(self, organization_id: str) -> Place:
        """A place for one question, empty at first."""
        return Place(self, organization_id)

    def change(self, organization_id: str, size: int) -> None:
        """Take `size` bytes, or give them back; raises ResourceExhausted, and then nothing is changed."""
        mine = self._of.get(organization_id, 0) + size
        if size > 0 and (mine > self._share or self._taken + size > self._most):
            raise ResourceExhausted("too many large questions are under way", retry_after_s=1)
        self._taken += size
        if mine:
            self._of[organization_id] = mine
        else:
            self._of.pop(organization_id, None)

    def check(self, size: int) -> None:
        """Raises HTTPException for what would never have room."""
        if size > self._share:
            raise HTTPException(413, "the question is too large, or made of too many values")


class Place:
    """What one question takes."""

    __slots__ = ("_organization_id", "_room", "_size")

    def __init__(self, room: Room, organization_id: str) -> None:
        self._room = room
        self._organization_id = organization_id
        self._size = 0

    def arrived(self, size: int) -> None:
        """A part of the body came; raises ResourceExhausted while there is no room, HTTPException for what
        never has any."""
        self._grow(self._size + size * _COPIES)

    def whole(self, body: bytes) -> None:
        """The body is there; raises as `arrived`."""
        self._grow(len(body) * _COPIES + _SIGN_BYTES * sum(map(body.count, _SIGNS)))

    def end(self) -> None:
        """The question is answered."""
        self._room.change(self._organization_id, -self._size)
        self._size = 0

    def _grow(self, size: int) -> None:
        self._room.check(size)
        self._room.change(self._organization_id, size - self._size)
        self._size = size
