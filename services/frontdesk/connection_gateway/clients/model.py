"""What a person asks on `/chat`, and what becomes of it; both wire protocols are made of these."""

from __future__ import annotations

from dataclasses import dataclass, field

from frontdesk.api.ai.v1.chat_pb2 import Outcome
from frontdesk.kit.errors import FrontdeskError
from frontdesk.kit.http import GENERIC_MESSAGE

AWAY_MESSAGE = "The AI does not answer just now. Try again in a moment."
RESTART_MESSAGE = "The service restarts. Ask again in a moment."
TOO_SLOW_MESSAGE = "The answer took too long. Try again."


@dataclass(frozen=True, slots=True)
class Ask:
    """A question. `ask_id` is the client's own word for it; `session` names a stored conversation."""

    text: str
    ask_id: str = ""
    model: str = ""
    session: str = ""


@dataclass(frozen=True, slots=True)
class Cancel:
    """The answer is not wanted any more."""

    answer_id: str


@dataclass(frozen=True, slots=True)
class Resume:
    """Read an answer on, after the piece `since`; -1 from its beginning."""

    answer_id: str
    since: int


@dataclass(frozen=True, slots=True)
class Ping:
    """Is anybody there?"""


Command = Ask | Cancel | Resume | Ping


@dataclass(frozen=True, slots=True)
class Piece:
    """More of an answer; `seq` counts from 0 without gaps."""

    seq: int
    text: str
    reasoning: str = ""


@dataclass(frozen=True, slots=True)
class Done:
    """The answer is whole. `length` is its text's, in characters."""

    outcome: Outcome
    length: int


@dataclass(frozen=True, slots=True)
class Failed:
    """The answer broke off. `message` is for people; `partial` is all that was said; `expected` is False for
    a fault of our own."""

    code: str
    message: str
    retryable: bool = False
    partial: str = ""
    expected: bool = True


End = Done | Failed
Event = Piece | End

INTERRUPTED = Failed("CANCELLED", "A new question interrupted this answer.")
CANCELLED = Failed("CANCELLED", "The answer was cancelled.")
ABANDONED = Failed("CANCELLED", "Nobody read this answer any more.")
RESTARTING = Failed("UNAVAILABLE", RESTART_MESSAGE, retryable=True)
BROKEN_OFF = Failed("UNAVAILABLE", AWAY_MESSAGE, retryable=True)
FAULT = Failed("INTERNAL", GENERIC_MESSAGE, expected=False)


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn of a conversation, the person's or the model's."""

    person: bool
    text: str = field(repr=False)


# What these say is for whoever runs the installation.
_INTERNAL = {
    "INTERNAL": GENERIC_MESSAGE,
    "DATA_LOSS": GENERIC_MESSAGE,
    "UNAVAILABLE": AWAY_MESSAGE,
    "DEADLINE_EXCEEDED": TOO_SLOW_MESSAGE,
}


def failed_of(error: FrontdeskError, partial: str = "") -> Failed:
    """What people are told of an error."""
    code = error.code
    message = _INTERNAL.get(code, error.message)
    return Failed(code, message, error.retryable, partial, expected=code != "INTERNAL")
