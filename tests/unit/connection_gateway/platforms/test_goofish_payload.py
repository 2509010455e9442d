"""The coding of data items."""

from __future__ import annotations

import base64
import json
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from frontdesk.connection_gateway.platforms.errors import WireError
from frontdesk.connection_gateway.platforms.goofish.wire import payload


def _packed(value: object) -> str:
    return base64.b64encode(msgpack.packb(value, use_bin_type=False)).decode()


def test_three_codings_mean_the_same() -> None:
    """JSON text, base64 of JSON and base64 of MessagePack with integer keys decode to one dict."""
    expected = {"1": "x", "2": {"3": [1, None, True]}}
    as_json = json.dumps(expected)
    assert payload.decode(as_json) == expected
    assert payload.decode(base64.b64encode(as_json.encode()).decode()) == expected
    assert payload.decode(_packed({1: "x", 2: {3: [1, None, True]}})) == expected
    assert payload.decode({1: "x", 2: {3: [1, None, True]}}) == expected


def test_old_and_new_msgpack_strings_decode() -> None:
    """Texts of 32 to 255 bytes are raw16 in the old spec and str8 in the new."""
    text = "长" * 40
    for use_bin_type in (False, True):
        raw = msgpack.packb({1: text}, use_bin_type=use_bin_type)
        assert payload.decode(base64.b64encode(raw).decode()) == {"1": text}


def test_base64url_and_dirt_in_base64_are_accepted() -> None:
    """Decoders of the field strip foreign characters and map base64url."""
    raw = msgpack.packb({1: b"\xfb\xef\xff\x00" * 3}, use_bin_type=False)
    clean = base64.b64encode(raw).decode().rstrip("=")
    dirty = "\n ".join(clean.replace("+", "-").replace("/", "_"))
    assert payload.decode(dirty) == payload.decode(clean)


def test_half_a_surrogate_pair_does_not_lose_the_message() -> None:
    """A nickname cut inside an emoji becomes a replacement character."""
    decoded = payload.decode('{"1":"a\\ud83d","2":"在吗"}')
    assert decoded == {"1": "a\ufffd", "2": "在吗"}
    decoded["1"].encode()


@pytest.mark.parametrize(
    "data",
    [
        None,
        5,
        "",
        "x",
        "[]",
        "{",
        "A" * (payload.MAX_BYTES + 1),
        _packed([1]),
        base64.b64encode(b"\x81\x80\x01").decode(),  # a map as the key of a map
        base64.b64encode(b"\x91" * 2000).decode(),
        "[" * 100_000,
        '{"a":' * 100_000,
    ],
)
def test_what_is_no_map_raises_wire_error(data: object) -> None:
    """Neither type, size nor nesting gets past as something else than WireError."""
    with pytest.raises(WireError):
        payload.decode(data)


def test_depth_is_bounded() -> None:
    """A payload nested deeper than the bound is refused, one at the bound is read."""

    def nest(levels: int) -> dict[str, Any]:
        value: dict[str, Any] = {"v": 1}
        for _ in range(levels - 1):
            value = {"1": value}
        return value

    assert payload.decode(json.dumps(nest(payload.MAX_DEPTH)))
    with pytest.raises(WireError):
        payload.decode(json.dumps(nest(payload.MAX_DEPTH + 1)))


@given(st.text() | st.binary().map(lambda raw: base64.b64encode(raw).decode()))
def test_garbage_raises_nothing_but_wire_error(data: str) -> None:
    """Any text is either a dict with text keys that JSON can hold, or a WireError."""
    try:
        decoded = payload.decode(data)
    except WireError:
        return
    assert all(isinstance(key, str) for key in decoded)


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text() | st.binary(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.integers(0, 99) | st.text(), inner, max_size=4)
    ),
    max_leaves=20,
)


@given(st.dictionaries(st.integers(0, 99), _VALUES, max_size=5))
def test_every_packed_map_decodes_to_what_json_can_hold(value: dict[int, Any]) -> None:
    """Integer keys become text and the result encodes as JSON."""
    decoded = payload.decode(_packed(value))
    assert set(decoded) == {str(key) for key in value}
    payload.dumps(decoded)
