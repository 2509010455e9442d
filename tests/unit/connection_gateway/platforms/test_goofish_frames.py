"""Frames in and out."""

from __future__ import annotations

import base64
import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from frontdesk.connection_gateway.platforms.errors import WireError
from frontdesk.connection_gateway.platforms.goofish.wire import frames
from frontdesk.connection_gateway.platforms.goofish.wire.ids import send_uuid
from frontdesk.connection_gateway.platforms.model import UploadedImage


def test_register_carries_token_device_and_no_body() -> None:
    """`/reg` has the documented headers."""
    frame = json.loads(frames.register("tok", "DID-1", "11700000000000 0"))
    assert frame["lwp"] == "/reg"
    assert "body" not in frame
    headers = frame["headers"]
    assert (headers["token"], headers["did"], headers["mid"]) == ("tok", "DID-1", "11700000000000 0")
    assert headers["app-key"] == "444e9908a51d1cb236a27862abc769c9"
    assert headers["cache-header"] == "app-key token ua wv"
    assert "DingTalk(2.1.5)" in headers["ua"]
    assert (headers["dt"], headers["wv"], headers["sync"]) == ("j", "im:3,au:3,sy:6", "0,0;0;0;")


def test_heartbeat_is_bare() -> None:
    """`/!` has a mid and nothing else."""
    assert json.loads(frames.heartbeat("1 0")) == {"lwp": "/!", "headers": {"mid": "1 0"}}


def test_ack_echoes_every_header() -> None:
    """An acknowledgement returns all headers of the push with code 200."""
    headers: dict[str, object] = {"mid": "7 0", "sid": "s", "app-key": "k", "ua": "u", "dt": "j", "new": 1}
    assert json.loads(frames.ack(headers)) == {"code": 200, "headers": headers}


def test_send_names_both_receivers_and_wraps_the_content() -> None:
    """Body of a text: wrapped content, both people, the uuid of its outgoing id."""
    message, receivers = frames.send_body("5", "22", "33", frames.text_content("在吗"), "d.1")
    assert message["uuid"] == send_uuid("d.1")
    assert message["cid"] == "5@goofish"
    assert message["content"]["contentType"] == 101
    inner = json.loads(base64.b64decode(message["content"]["custom"]["data"]))
    assert inner == {"contentType": 1, "text": {"text": "在吗"}}
    assert set(receivers["actualReceivers"]) == {"22@goofish", "33@goofish"}


def test_image_content_has_address_and_size() -> None:
    """Content of an image."""
    assert frames.image_content(UploadedImage("u", 3, 4)) == {
        "contentType": 2,
        "image": {"pics": [{"type": 0, "url": "u", "width": 3, "height": 4}]},
    }


def test_bodies_of_pages_and_chats() -> None:
    """No cursor means the newest; a cursor of 0 is a cursor; the pair of a chat is sorted."""
    assert frames.history_body("5", 20, None) == ["5@goofish", False, 9007199254740991, 20, False]
    assert frames.history_body("5", 20, 0) == ["5@goofish", False, 0, 20, False]
    assert frames.conversations_body(10, 7) == [7, 10]
    (body,) = frames.create_chat_body("2200000000001", "900", "9")
    assert (body["pairFirst"], body["pairSecond"], body["bizType"]) == (
        "900@goofish",
        "2200000000001@goofish",
        "1",
    )
    assert body["extension"]["itemId"] == "9"


def test_answers_and_pushes_are_told_apart() -> None:
    """A frame with `lwp` and no code is a push; anything else with a mid is an answer."""
    push = frames.parse('{"lwp":"/s/sync","headers":{"mid":"7 0"},"body":{}}')
    assert isinstance(push, frames.LwpRequest)
    assert (push.lwp, push.push(resync=True).headers, push.push(resync=True).resync) == (
        "/s/sync",
        {"mid": "7 0"},
        True,
    )
    answer = frames.parse(b'{"headers":{"mid":"7 0"},"code":400,"body":[1]}')
    assert answer == frames.LwpResponse("7", {"mid": "7 0"}, 400, [1])


@pytest.mark.parametrize(("code", "expected"), [("", 200), (',"code":"401"', 401), (',"code":null', 200)])
def test_code_may_be_missing_or_text(code: str, expected: int) -> None:
    """A data answer without a code counts as 200."""
    answer = frames.parse('{"headers":{"mid":5}' + code + "}")
    assert isinstance(answer, frames.LwpResponse)
    assert (answer.mid, answer.code) == ("5", expected)


@pytest.mark.parametrize(
    "text",
    ["", "x", "[]", "1", "{}", '{"headers":[]}', '{"headers":{}}', '{"headers":{"mid":true}}', "{" * 5000,
     '{"headers":{"mid":"1"},"code":"x"}', '{"headers":{"mid":"1"},"code":[]}', b"\xff\xfe"],
)  # fmt: skip
def test_what_is_no_frame_raises_wire_error(text: str | bytes) -> None:
    """Garbage is a WireError."""
    with pytest.raises(WireError):
        frames.parse(text)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["lwp", "headers", "mid", "code", "body"]) | st.text(), inner, max_size=4
        )
    ),
    max_leaves=15,
)


@given(st.binary() | st.text() | _JSON.map(json.dumps))
def test_any_text_is_a_frame_or_a_wire_error(text: Any) -> None:
    """Nothing else is raised."""
    with contextlib.suppress(WireError):
        frames.parse(text)
