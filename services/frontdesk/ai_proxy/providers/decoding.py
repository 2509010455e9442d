"""What all decoders of answers share: text gathered a read, tool calls put in order, usage made sane."""

from __future__ import annotations

import math
from array import array
from base64 import b64decode
from collections.abc import Sequence
from sys import byteorder
from typing import Any

import orjson

from frontdesk.ai_proxy.errors import UpstreamError
from frontdesk.ai_proxy.model import (
    Answer,
    Delta,
    Embeddings,
    Finish,
    FinishReason,
    Piece,
    ToolCall,
    Usage,
)
from frontdesk.ai_proxy.providers import failures
from frontdesk.ai_proxy.providers.failures import Call
from frontdesk.ai_proxy.providers.sse import EventTooLong, SseParser

# What odd shapes of JSON raise where a field is read without looking.
_ODD = (AttributeError, IndexError, KeyError, TypeError, ValueError)

_MOST_CALLS = 2**31
# Of a vector, as many as may be asked for; what is searched by vectors pays for each.
MOST_DIMENSIONS = 16_384

FINISH_REASONS = {
    "stop": FinishReason.STOP,
    "length": FinishReason.LENGTH,
    "tool_calls": FinishReason.TOOL_CALLS,
    "function_call": FinishReason.TOOL_CALLS,
    "content_filter": FinishReason.CONTENT_FILTER,
}


class StreamDecoder:
    """Base of the decoders: a kind of API says in `_take` what an event means.

    `_take` calls `_say`, `_call` and `_finish`, sets `failure`, and may read fields without looking: an odd
    shape ends the answer as garbled.
    """

    def __init__(self, call: Call, event_bytes: int) -> None:
        self._of = call
        self._sse = SseParser(event_bytes)
        self._texts: list[str] = []
        self._reasonings: list[str] = []
        self._pieces: list[Piece] = []
        self._called = False
        self.done = False
        self.failure: UpstreamError | None = None

    def feed(self, data: bytes) -> list[Piece]:
        """The pieces that `data` completes."""
        return self._decode(data)

    def end(self) -> list[Piece]:
        """The pieces left at the end of the stream; `failure` is set when the answer was not whole."""
        pieces = self._decode(b"\n\n")
        if self.failure is None and not self.done:
            try:
                self._ended()
            except _ODD as error:
                self._garbled(error)
        if self.failure is None and not self.done:
            self.failure = failures.broken_off(self._of)
        return [*pieces, *self._taken()]

    def whole(self, body: bytes) -> list[Piece]:
        """The pieces of an answer that came in one."""
        try:
            answer = self.answer(body)
        except UpstreamError as error:
            self.failure = error
            return []
        self.done = True
        said = (Delta(answer.text, answer.reasoning),) if answer.text or answer.reasoning else ()
        return [*said, *answer.tool_calls, answer.finish]

    def answer(self, body: bytes) -> Answer:
        """The answer that came in one; raises UpstreamError."""
        told = parse(self._of, body)
        try:
            answer = self._answer(told)
            for call in answer.tool_calls:
                _check_call(call)
            if not (isinstance(answer.text, str) and isinstance(answer.reasoning, str)):
                raise TypeError
            return answer
        except _ODD as error:
            raise failures.garbled(self._of, type(error).__name__) from None

    def _decode(self, data: bytes) -> list[Piece]:
        try:
            for event, payload in self._sse.feed(data):
                try:
                    self._take(event, payload)
                except orjson.JSONDecodeError:
                    if b"\n" not in payload:
                        raise
                    # Events without the blank line between them, as some servers send them.
                    for line in payload.split(b"\n"):
                        self._take(event, line)
                if self.done or self.failure is not None:
                    break
        except EventTooLong as error:
            self.failure = failures.garbled(self._of, error.message)
        except _ODD as error:
            self._garbled(error)
        return self._taken()

    def _take(self, event: bytes, payload: bytes) -> None:
        raise NotImplementedError

    def _answer(self, told: Any) -> Answer:
        """The answer that came in one; may raise UpstreamError and read without looking."""
        raise NotImplementedError

    def _ended(self) -> None:
        """The stream ended: call `_finish` when the answer is whole all the same."""

    def _say(self, text: str | None, reasoning: str | None = None) -> None:
        if text:
            self._texts.append(text)
        if reasoning:
            self._reasonings.append(reasoning)

    def _call(self, call: ToolCall) -> None:
        _check_call(call)
        self._gather()
        self._called = True
        self._pieces.append(call)

    def _finish(self, reason: FinishReason, usage: Usage | None) -> None:
        """The answer is whole. Several servers say `stop` where tools are called."""
        self._gather()
        if self._called and reason is FinishReason.STOP:
            reason = FinishReason.TOOL_CALLS
        self._pieces.append(Finish(reason, usage))
        self.done = True

    def _garbled(self, error: Exception) -> None:
        # The exception's text would hold a part of the answer.
        self.failure = failures.garbled(self._of, type(error).__name__)

    def _gather(self) -> None:
        if self._texts or self._reasonings:
            texts, reasonings = self._texts, self._reasonings
            self._texts, self._reasonings = [], []
            self._pieces.append(Delta("".join(texts), "".join(reasonings)))

    def _taken(self) -> list[Piece]:
        try:
            self._gather()
        except TypeError as error:
            self._garbled(error)
        pieces, self._pieces = self._pieces, []
        return pieces


class ToolIndexes:
    """Gives each tool call of a stream its own index: several servers send none, or 0 for all."""

    def __init__(self) -> None:
        self._current: dict[int, int] = {}
        self._ids: list[str] = []

    def of(self, index: int | None, call_id: str) -> int:
        """The index of the call that a piece with these belongs to."""
        known = self._current.get(index or 0)
        if known is None or (call_id and self._ids[known] and call_id != self._ids[known]):
            known = len(self._ids)
            self._ids.append(call_id)
            self._current[index or 0] = known
        return known


def _check_call(call: ToolCall) -> None:
    """Raises TypeError for a call with fields of other types: whoever passes it on takes them for text."""
    if not all(isinstance(field, str) for field in (call.id, call.name, call.arguments)):
        raise TypeError
    if not isinstance(call.index, int) or not 0 <= call.index < _MOST_CALLS:
        raise TypeError


def parse(call: Call, body: bytes) -> Any:
    """A JSON object; raises UpstreamError for anything else and for an `error` in it."""
    try:
        told = orjson.loads(body)
    except ValueError:
        raise failures.garbled(call, "no JSON") from None
    if not isinstance(told, dict):
        raise failures.garbled(call, "no object")
    if told.get("error"):
        raise failures.in_band(call, told)
    return told


def usage(prompt: object, completion: object, cached: object = 0) -> Usage | None:
    """What a provider says it used, None when it says nothing usable; never negative, never more from the
    cache than there was."""
    prompt_tokens, completion_tokens = _tokens(prompt), _tokens(completion)
    if prompt_tokens is None and completion_tokens is None:
        return None
    prompt_tokens, completion_tokens = prompt_tokens or 0, completion_tokens or 0
    if not prompt_tokens and not completion_tokens:
        return None
    return Usage(prompt_tokens, completion_tokens, min(_tokens(cached) or 0, prompt_tokens))


def _tokens(value: object) -> int | None:
    """A number of tokens; what no call can use counts as nothing said."""
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**40:
        return value
    return None


def vectors(call: Call, told: Sequence[Any], texts: int) -> tuple[Sequence[float], ...]:
    """As many vectors as there were texts, of numbers or of base64; raises UpstreamError."""
    try:
        found = tuple(map(_vector, told))
    except _ODD as error:
        raise failures.garbled(call, type(error).__name__) from None
    if any(len(vector) > MOST_DIMENSIONS for vector in found):
        raise failures.garbled(call, "a vector is too long")
    # Callers get floats of 32 bits.
    if not all(math.isfinite(sum(map(abs, array("f", vector)))) for vector in found):
        raise failures.garbled(call, "a vector has no length")
    if len(found) != texts or not all(found):
        raise failures.garbled(call, f"{len(found)} vectors for {texts} texts")
    return found


def _vector(told: Any) -> Sequence[float]:
    """Base64 holds little-endian floats of 32 bits, as OpenAI's `encoding_format` has them."""
    if isinstance(told, str):
        numbers = array("f", b64decode(told, validate=True))
        if byteorder == "big":
            numbers.byteswap()
        return numbers
    return array("d", told)


def joined(parts: Sequence[Embeddings]) -> Embeddings:
    """The embeddings of several calls as one."""
    told = [part.usage for part in parts if part.usage is not None]
    whole = len(told) == len(parts)
    return Embeddings(
        tuple(vector for part in parts for vector in part.vectors),
        Usage(sum(part.prompt_tokens for part in told)) if whole else None,
    )


def text_of(content: Any) -> str:
    """A message's content: text, nothing, or parts of which some have text."""
    if isinstance(content, list):
        return "".join(part.get("text") or "" for part in content)
    if content is None or isinstance(content, str):
        return content or ""
    raise TypeError


def batches(texts: Sequence[str], size: int) -> list[Sequence[str]]:
    """`texts` in parts of at most `size`."""
    return [texts[start : start + size] for start in range(0, len(texts), size)]
