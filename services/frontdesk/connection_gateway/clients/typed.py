"""The typed protocol `frontdesk.v1` (X-13): one JSON object a text frame; docs/chat.md describes it."""

from __future__ import annotations

from typing import Any

import orjson

from frontdesk.api.ai.v1.chat_pb2 import FinishReason, Usage
from frontdesk.connection_gateway.clients.model import (
    Ask,
    Cancel,
    Command,
    Done,
    End,
    Failed,
    Piece,
    Ping,
    Resume,
)
from frontdesk.connection_gateway.clients.protocol import MOST_NAME, Frames, question
from frontdesk.kit.errors import InvalidArgument

MOST_ANSWER_ID = 256
MOST_SINCE = 2**31 - 1
_FINISH = "FINISH_REASON_"


class TypedProtocol:
    """One connection's frames. Fields that are not known are ignored: a client may be newer."""

    resumes = True

    def __init__(self, most_chars: int) -> None:
        self._most_chars = most_chars

    def read(self, frame: str) -> Command:
        try:
            found = orjson.loads(frame)
        except (ValueError, UnicodeEncodeError):
            raise InvalidArgument("frame", "is no JSON") from None
        if not isinstance(found, dict):
            raise InvalidArgument("frame", "must be a JSON object")
        kind = found.get("type")
        if kind == "ask":
            return Ask(
                question(_text(found, "text"), self._most_chars),
                ask_id=_name(found, "id"),
                model=_name(found, "model"),
                session=_name(found, "session"),
            )
        if kind == "cancel":
            return Cancel(_answer_id(found))
        if kind == "resume":
            return Resume(_answer_id(found), _since(found))
        if kind == "ping":
            return Ping()
        raise InvalidArgument("type", "must be ask, cancel, resume or ping")

    def started(self, answer_id: str, ask_id: str) -> Frames:
        return (_frame("start", id=answer_id, **_given(ask=ask_id)),)

    def piece(self, answer_id: str, piece: Piece) -> Frames:
        thought = _given(reasoning=piece.reasoning)
        return (_frame("delta", id=answer_id, seq=piece.seq, text=piece.text, **thought),)

    def ended(self, answer_id: str, end: End) -> Frames:
        if isinstance(end, Failed):
            return (_error(end, id=answer_id, partial=end.partial),)
        return (_done(answer_id, end),)

    def refused(self, why: Failed, *, ask_id: str = "", answer_id: str = "", field: str = "") -> Frames:
        return (_error(why, **_given(id=answer_id, ask=ask_id, field=field)),)

    def pong(self) -> Frames:
        return (_frame("pong"),)


def _text(found: dict[str, Any], field: str) -> str:
    value = found.get(field)
    if not isinstance(value, str):
        raise InvalidArgument(field, "must be text")
    return value


def _name(found: dict[str, Any], field: str) -> str:
    """A short text that may be left out."""
    if found.get(field) is None:
        return ""
    value = _text(found, field)
    if len(value) > MOST_NAME or not value.isprintable():
        raise InvalidArgument(field, f"must be at most {MOST_NAME} printable characters")
    return value


def _answer_id(found: dict[str, Any]) -> str:
    value = _text(found, "id")
    if not 0 < len(value) <= MOST_ANSWER_ID:
        raise InvalidArgument("id", "must be the id of an answer")
    return value


def _since(found: dict[str, Any]) -> int:
    value = found.get("since")
    if isinstance(value, bool) or not isinstance(value, int) or not -1 <= value <= MOST_SINCE:
        raise InvalidArgument("since", "must be the seq of the last piece that came, or -1")
    return value


def _done(answer_id: str, end: Done) -> str:
    outcome = end.outcome
    reason = outcome.finish_reason
    # A newer ai-proxy may have reasons that are not known here.
    name = FinishReason.Name(reason) if reason in FinishReason.values() else "UNSPECIFIED"
    return _frame(
        "done",
        id=answer_id,
        finish_reason=name.removeprefix(_FINISH).lower(),
        usage=_usage(outcome.usage),
        provider=outcome.provider,
        model=outcome.model,
        cached=outcome.cached,
        text_length=end.length,
    )


def _usage(usage: Usage) -> dict[str, Any]:
    return {
        "prompt_tokens": usage.prompt_tokens,
        "cached_tokens": usage.cached_tokens,
        "completion_tokens": usage.completion_tokens,
        "counted": usage.counted,
        **_given(cost=usage.cost, currency=usage.currency),
    }


def _error(why: Failed, **more: str) -> str:
    return _frame("error", code=why.code, message=why.message, retryable=why.retryable, **more)


def _given(**fields: str) -> dict[str, str]:
    """What is not empty."""
    return {name: value for name, value in fields.items() if value}


def _frame(kind: str, **fields: Any) -> str:
    return orjson.dumps({"type": kind, **fields}).decode()
