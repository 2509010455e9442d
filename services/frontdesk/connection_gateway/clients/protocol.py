"""What a wire protocol of `/chat` is: text frames to commands, events to text frames, without I/O."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from frontdesk.connection_gateway.clients.model import Command, End, Failed, Piece
from frontdesk.kit.errors import InvalidArgument

Frames = Sequence[str]
MOST_NAME = 128


class ChatProtocol(Protocol):
    """One connection's. `resumes` says whether a client can come back for an answer."""

    resumes: bool

    def read(self, frame: str) -> Command:
        """The command; raises InvalidArgument."""
        ...

    def started(self, answer_id: str, ask_id: str) -> Frames:
        """The question was taken; its answer has this id."""
        ...

    def piece(self, answer_id: str, piece: Piece) -> Frames:
        """More of the answer."""
        ...

    def ended(self, answer_id: str, end: End) -> Frames:
        """The answer is over."""
        ...

    def refused(self, why: Failed, *, ask_id: str = "", answer_id: str = "", field: str = "") -> Frames:
        """Nothing was done."""
        ...

    def pong(self) -> Frames:
        """The answer to a ping."""
        ...


def question(text: str, most_chars: int) -> str:
    """A question that may be asked; raises InvalidArgument."""
    if not text.strip():
        raise InvalidArgument("text", "must not be blank")
    if len(text) > most_chars:
        raise InvalidArgument("text", f"must have at most {most_chars} characters")
    if "\x00" in text or any("\ud800" <= char <= "\udfff" for char in text):
        raise InvalidArgument("text", "must not hold NUL or half a character")
    return text
