"""The plain protocol of source 003: blank frames end answers, so no piece may be one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from frontdesk.api.ai.v1.chat_pb2 import Outcome
from frontdesk.connection_gateway.clients.model import (
    FAULT,
    INTERRUPTED,
    Ask,
    Done,
    Failed,
    Piece,
)
from frontdesk.connection_gateway.clients.plain import PlainProtocol, is_blank
from frontdesk.kit.errors import InvalidArgument
from frontdesk.kit.http import GENERIC_MESSAGE

pieces = st.lists(st.text(st.sampled_from("a \n\t\ufeff\u3000好"), min_size=1, max_size=3), max_size=12)


@given(pieces)
def test_no_piece_is_blank_and_nothing_is_lost(texts: list[str]) -> None:
    """White space waits for what follows; all of it but that at the end arrives."""
    protocol = PlainProtocol(100)
    frames = [frame for n, text in enumerate(texts) for frame in protocol.piece("a", Piece(n, text))]
    assert not any(map(is_blank, frames))
    rest = "".join(texts)[len("".join(frames)) :]
    assert "".join(frames) + rest == "".join(texts)
    assert is_blank(rest)
    assert protocol.ended("a", Done(Outcome(), 0)) == ("",)
    protocol.started("b", "")
    assert protocol.piece("b", Piece(0, "x")) == ("x",)


def test_ends() -> None:
    """Every end has a blank frame; what failed says so first, but not what its reader interrupted."""
    protocol = PlainProtocol(100)
    assert protocol.ended("a", INTERRUPTED) == ("",)
    assert protocol.ended("a", Failed("UNAVAILABLE", "It broke off.")) == ("Error: It broke off.", "")
    assert protocol.ended("a", Failed("UNAVAILABLE", "")) == ("Error: Unknown error", "")
    assert protocol.ended("a", FAULT) == (f"Error processing response: {GENERIC_MESSAGE}", "")
    assert protocol.refused(Failed("INVALID_ARGUMENT", "text: no")) == ("Error: text: no", "")


def test_what_a_model_thinks_is_not_sent() -> None:
    """Only text."""
    protocol = PlainProtocol(100)
    assert protocol.piece("a", Piece(0, "", "hm")) == ()
    assert not protocol.pong()


def test_questions() -> None:
    """Any text is a question, JSON too, but for blank, long and broken ones."""
    protocol = PlainProtocol(5)
    assert protocol.read('{"a":') == Ask('{"a":')
    for wrong in ("", " \n", "123456", "a\x00", "\ud800"):
        with pytest.raises(InvalidArgument) as caught:
            protocol.read(wrong)
        assert caught.value.field == "text"
