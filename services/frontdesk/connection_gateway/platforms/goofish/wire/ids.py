"""Ids a client makes up (A19)."""

from __future__ import annotations

import hashlib
import uuid
from random import Random, SystemRandom

from frontdesk.kit.clock import Clock

SUFFIX = "@goofish"


class Mids:
    """Message ids of one connection: `<0..999><ms> 0` (A19).

    The first part counts from a random start instead of being drawn, so that a thousand requests of one
    millisecond keep apart.
    """

    __slots__ = ("_clock", "_next")

    def __init__(self, clock: Clock, random: Random) -> None:
        self._clock = clock
        self._next = random.randrange(1000)

    def new(self) -> str:
        """A mid no other request of this connection has."""
        number, self._next = self._next, (self._next + 1) % 1000
        return f"{number}{self._clock.now_ms()} 0"


def mid_key(mid: str) -> str:
    """The part before the space: answers are matched by it (A6)."""
    return mid.partition(" ")[0]


def send_uuid(outgoing_id: str) -> str:
    """The client's uuid of a send, `-<digits>1` (A19).

    The same outgoing id gives the same uuid, so a repeat is recognisable as one. 17 digits keep the
    number within 64 bits, and a collision within 100,000 sends below one in ten million.
    """
    digest = hashlib.sha256(outgoing_id.encode("utf-8", "surrogatepass")).digest()
    return f"-{int.from_bytes(digest[:8], 'big') % 10**17:017d}1"


def device_id(user_id: str, random: Random | None = None) -> str:
    """A new device id: upper-case UUIDv4, `-`, the user id (A19).

    It belongs to the token asked for with it (A4).
    """
    source = random or SystemRandom()
    return f"{uuid.UUID(int=source.getrandbits(128), version=4)}".upper() + f"-{user_id}"


def address(user_or_chat_id: str) -> str:
    """`2200000000001` as the IM writes it: `2200000000001@goofish`."""
    return user_or_chat_id if user_or_chat_id.endswith(SUFFIX) else user_or_chat_id + SUFFIX


def bare(value: object) -> str:
    """The id before `@`; empty for anything that is no text or number."""
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        return ""
    return str(value).partition("@")[0]


def ordered_pair(one: str, other: str) -> tuple[str, str]:
    """Two user ids by number, as creating a chat wants them (A17)."""

    def key(user_id: str) -> tuple[int, str]:
        return (int(user_id) if user_id.isdecimal() else 0, user_id)

    first, second = sorted((one, other), key=key)
    return first, second
