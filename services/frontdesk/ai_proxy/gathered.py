"""What a model has said so far, put together of its pieces."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from io import StringIO

from frontdesk.ai_proxy.errors import UpstreamUnavailable
from frontdesk.ai_proxy.model import Answer, Delta, Finish, Piece, ToolCall
from frontdesk.ai_proxy.tokens import count_text

# Batches that are kept as they came: most answers are never looked into, as their provider says what it used.
_UNREAD = 256


class Gathered:
    """The text, the reasoning and the tool calls of one answer of at most `most` characters."""

    __slots__ = ("_arguments", "_calls", "_length", "_most", "_reasoning", "_text", "_unread")

    def __init__(self, most: int) -> None:
        self._most = most
        self._length = 0
        self._unread: list[Sequence[Piece]] = []
        self._text = StringIO()
        self._reasoning = StringIO()
        self._calls: dict[int, ToolCall] = {}
        self._arguments: dict[int, StringIO] = {}

    def add(self, batch: Sequence[Piece]) -> None:
        """More of it; raises UpstreamUnavailable when it is too long, which is looked at now and then."""
        self._unread.append(batch)
        if len(self._unread) >= _UNREAD:
            self._read()
            if self._length > self._most:
                raise UpstreamUnavailable(f"the answer is longer than {self._most} characters")

    def add_answer(self, answer: Answer) -> None:
        """All of it."""
        self.add((Delta(answer.text, answer.reasoning), *answer.tool_calls))

    def text(self) -> str:
        """What was said."""
        self._read()
        return self._text.getvalue()

    def tokens(self) -> int:
        """Tokens of all of it, counted here."""
        self._read()
        calls = (call.name + self._arguments[index].getvalue() for index, call in self._calls.items())
        said = (self._text.getvalue(), self._reasoning.getvalue(), *calls)
        return sum(count_text(text) for text in said if text)

    def joined(self, finish: Finish) -> Answer:
        """The answer, whole."""
        self._read()
        calls = (
            replace(call, arguments=self._arguments[index].getvalue())
            for index, call in sorted(self._calls.items())
        )
        return Answer(self._text.getvalue(), self._reasoning.getvalue(), tuple(calls), finish)

    def _read(self) -> None:
        for batch in self._unread:
            for piece in batch:
                if isinstance(piece, Delta):
                    self._text.write(piece.text)
                    self._reasoning.write(piece.reasoning)
                    self._length += len(piece.text) + len(piece.reasoning)
                elif isinstance(piece, ToolCall):
                    self._add_call(piece)
        self._unread.clear()

    def _add_call(self, piece: ToolCall) -> None:
        known = self._calls.get(piece.index)
        if known is None:
            self._calls[piece.index] = piece
            self._arguments[piece.index] = StringIO()
        else:
            self._calls[piece.index] = replace(known, id=known.id or piece.id, name=known.name or piece.name)
        self._arguments[piece.index].write(piece.arguments)
        # A call costs something also without a word in it.
        self._length += len(piece.arguments) + 64
