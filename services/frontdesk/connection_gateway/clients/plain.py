"""The plain protocol of source 003 (AI-01…AI-09, AI-14, X-13): text in is a question, text out is the answer.

Each frame holds only what is new of the answer, a blank one ends it. A failed answer is `Error: <message>`
(AI-06), a fault of our own `Error processing response: …` (AI-08, X-12); then comes the blank frame too, so
that the client stops waiting.
"""

from __future__ import annotations

from frontdesk.connection_gateway.clients.model import Ask, Command, Done, End, Failed, Piece
from frontdesk.connection_gateway.clients.protocol import Frames, question

END = ""
UNKNOWN = "Unknown error"


class PlainProtocol:
    """One connection's frames."""

    resumes = False

    def __init__(self, most_chars: int) -> None:
        self._most_chars = most_chars
        self._held = ""

    def read(self, frame: str) -> Command:
        return Ask(question(frame, self._most_chars))

    def started(self, answer_id: str, ask_id: str) -> Frames:
        self._held = ""
        return ()

    def piece(self, answer_id: str, piece: Piece) -> Frames:
        """A frame of white space only would end the answer, so such a piece waits for the next one."""
        text = self._held + piece.text
        if is_blank(text):
            self._held = text
            return ()
        self._held = ""
        return (text,)

    def ended(self, answer_id: str, end: End) -> Frames:
        self._held = ""
        # An answer that its reader interrupted just ends.
        if isinstance(end, Done) or end.code == "CANCELLED":
            return (END,)
        return (_error(end), END)

    def refused(self, why: Failed, *, ask_id: str = "", answer_id: str = "", field: str = "") -> Frames:
        return (_error(why), END)

    def pong(self) -> Frames:
        return ()


def is_blank(text: str) -> bool:
    """Whether a client that trims a frame finds nothing in it; JavaScript's `trim` takes U+FEFF too."""
    return not text.replace("\ufeff", "").strip()


def _error(why: Failed) -> str:
    if not why.expected:
        return f"Error processing response: {why.message or UNKNOWN}"
    return f"Error: {why.message or UNKNOWN}"
