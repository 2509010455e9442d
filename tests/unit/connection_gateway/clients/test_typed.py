"""The typed protocol: frames to commands and back, and whatever strangers send."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from frontdesk.api.ai.v1.chat_pb2 import FINISH_REASON_LENGTH, Outcome, Usage
from frontdesk.connection_gateway.clients.model import (
    Ask,
    Cancel,
    Done,
    Failed,
    Piece,
    Ping,
    Resume,
)
from frontdesk.connection_gateway.clients.typed import TypedProtocol
from frontdesk.kit.errors import InvalidArgument

protocol = TypedProtocol(10)
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
names = st.sampled_from(["type", "id", "text", "model", "session", "since", "other"])
kinds = st.sampled_from(["ask", "cancel", "resume", "ping", "x"])


def read(**fields: Any) -> object:
    return protocol.read(json.dumps(fields))


def test_commands() -> None:
    """Each kind with all its fields; those that are not known are ignored."""
    assert read(type="ask", text="hi", id="q", model="m", session="s", newer=1) == Ask("hi", "q", "m", "s")
    assert read(type="ask", text="hi", id=None) == Ask("hi")
    assert read(type="cancel", id="a@r") == Cancel("a@r")
    assert read(type="resume", id="a@r", since=-1) == Resume("a@r", -1)
    assert read(type="ping") == Ping()


@pytest.mark.parametrize(
    ("frame", "field"),
    [
        ("", "frame"),
        ("no json", "frame"),
        ("[1]", "frame"),
        ('"ask"', "frame"),
        ("{}", "type"),
        ('{"type": "tell"}', "type"),
        ('{"type": ["ask"]}', "type"),
        ('{"type": "ask"}', "text"),
        ('{"type": "ask", "text": 1}', "text"),
        ('{"type": "ask", "text": "12345678901"}', "text"),
        ('{"type": "ask", "text": "a", "id": 1}', "id"),
        ('{"type": "ask", "text": "a", "model": "a\\u0000"}', "model"),
        (json.dumps({"type": "ask", "text": "a", "session": "s" * 129}), "session"),
        ('{"type": "cancel"}', "id"),
        ('{"type": "cancel", "id": ""}', "id"),
        ('{"type": "resume", "id": "a"}', "since"),
        ('{"type": "resume", "id": "a", "since": true}', "since"),
        ('{"type": "resume", "id": "a", "since": -2}', "since"),
        ('{"type": "resume", "id": "a", "since": 1.5}', "since"),
        ('{"type": "resume", "id": "a", "since": 2147483648}', "since"),
    ],
)
def test_wrong_frames(frame: str, field: str) -> None:
    """The field that is wrong is named."""
    with pytest.raises(InvalidArgument) as caught:
        protocol.read(frame)
    assert caught.value.field == field


@given(st.text() | st.dictionaries(names, scalars | kinds).map(json.dumps))
def test_strangers(frame: str) -> None:
    """Any text is a command or InvalidArgument."""
    try:
        assert isinstance(protocol.read(frame), Ask | Cancel | Resume | Ping)
    except InvalidArgument as error:
        assert error.field


def test_events() -> None:
    """Everything the other way; what is empty is left out but where clients count on it."""
    outcome = Outcome(
        finish_reason=FINISH_REASON_LENGTH,
        usage=Usage(prompt_tokens=1, completion_tokens=2, counted=True),
        provider="offline",
        model="m",
    )
    said = [
        *protocol.started("a", ""),
        *protocol.piece("a", Piece(3, "", "hm")),
        *protocol.ended("a", Done(outcome, 7)),
        *protocol.ended("a", Failed("UNAVAILABLE", "no", retryable=True, partial="x")),
        *protocol.refused(Failed("INVALID_ARGUMENT", "no"), ask_id="q", field="text"),
    ]
    usage = {"prompt_tokens": 1, "cached_tokens": 0, "completion_tokens": 2, "counted": True}
    error = {"type": "error", "message": "no"}
    assert [json.loads(frame) for frame in said] == [
        {"type": "start", "id": "a"},
        {"type": "delta", "id": "a", "seq": 3, "text": "", "reasoning": "hm"},
        {"type": "done", "id": "a", "finish_reason": "length", "usage": usage}
        | {"provider": "offline", "model": "m", "cached": False, "text_length": 7},
        error | {"id": "a", "code": "UNAVAILABLE", "retryable": True, "partial": "x"},
        error | {"ask": "q", "field": "text", "code": "INVALID_ARGUMENT", "retryable": False},
    ]


def test_a_reason_of_a_newer_version() -> None:
    """It is not said, and the end is an end."""
    (frame,) = protocol.ended("a", Done(Outcome(finish_reason=99), 0))  # type: ignore[arg-type]
    assert json.loads(frame)["finish_reason"] == "unspecified"
