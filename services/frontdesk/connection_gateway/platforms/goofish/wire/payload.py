"""The coding of a push's data items (A12): JSON text, base64 of JSON or of MessagePack; there is no cipher.

Whatever comes in, the result is a plain dict with text keys, of bounded depth, whose texts are valid Unicode;
anything else raises WireError.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from typing import Any

import msgpack
import orjson

from frontdesk.connection_gateway.platforms.errors import WireError

MAX_BYTES = 256 * 1024
MAX_DEPTH = 24

_NUMBERS: dict[object, str] = {number: str(number) for number in range(128)}
# Bytes that begin no map or array of MessagePack; the others may, or stand inside of a text.
_NO_CONTAINERS = bytes({*range(256)} - {*range(0x80, 0xA0), *range(0xDC, 0xE0)})
_PLAIN = frozenset({str, int, float, bool, type(None), dict, list})
_URL_SAFE = str.maketrans("-_", "+/")
_NOT_BASE64 = re.compile(r"[^A-Za-z0-9+/]+")


def loads(data: str | bytes) -> Any:
    """JSON to values. Halves of surrogate pairs, which the platform cuts nicknames into, become U+FFFD."""
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        pass
    try:
        text = data.decode("utf-8", "replace") if isinstance(data, bytes) else data
        return _plain(json.loads(text), MAX_DEPTH)
    except (ValueError, RecursionError):
        raise WireError("no JSON") from None


def dumps(value: object) -> str:
    """Values to JSON text. Raises WireError for what JSON cannot hold."""
    try:
        return orjson.dumps(value).decode()
    except orjson.JSONEncodeError as exc:
        raise WireError(f"not expressible as JSON: {exc}") from None


def decode(data: object) -> dict[str, Any]:
    """The payload of one data item; `data` is its text, or the dict some frames carry in place."""
    if isinstance(data, dict):
        return _mapping(_plain(data, MAX_DEPTH))
    if not isinstance(data, str):
        raise WireError("data item is no text")
    if len(data) > MAX_BYTES:
        raise WireError(f"data item of {len(data)} characters")
    if data.lstrip()[:1] == "{":
        return _mapping(loads(data), data.count("{") + data.count("["))
    raw = unbase64(data)
    if raw[:1] == b"{" or raw.lstrip()[:1] == b"{":
        # 0x7b is also a MessagePack integer, but no payload is a bare number.
        return _mapping(loads(raw), raw.count(b"{") + raw.count(b"["))
    return _mapping(_unpack(raw), len(raw.translate(None, _NO_CONTAINERS)))


def unbase64(text: str) -> bytes:
    """Base64 or base64url to bytes; characters of neither are dropped, padding is not needed (A12)."""
    if len(text) > MAX_BYTES:
        raise WireError(f"base64 of {len(text)} characters")
    try:
        return binascii.a2b_base64(text, strict_mode=True)  # as the platform writes it
    except ValueError:  # binascii.Error is one, and so is a text with characters beyond ASCII
        pass
    clean = _NOT_BASE64.sub("", text.translate(_URL_SAFE))
    try:
        return base64.b64decode(clean + "=" * (-len(clean) % 4))
    except binascii.Error:
        raise WireError("no base64") from None


def base64_json(value: object) -> str:
    """A value as base64 of its JSON, as the content of a send wants it (A16)."""
    return base64.b64encode(dumps(value).encode()).decode()


def _unpack(raw: bytes) -> object:
    try:
        return msgpack.unpackb(
            raw,
            raw=False,
            strict_map_key=False,
            unicode_errors="replace",
            object_pairs_hook=_text_keys,
            list_hook=_list,
            ext_hook=_nothing,
            max_str_len=MAX_BYTES,
            max_bin_len=MAX_BYTES,
            max_ext_len=1024,
        )
    except (ValueError, TypeError, OverflowError, RecursionError, msgpack.UnpackException) as exc:
        # TypeError: a map as the key of a map.
        raise WireError(f"no MessagePack: {type(exc).__name__}") from None


def _text_keys(pairs: list[tuple[Any, Any]]) -> dict[str, Any]:
    """A map of MessagePack, `1` as "1". Built here, it needs no second walk."""
    return {
        key if type(key) is str else _NUMBERS.get(key) or _key(key): (
            value if type(value) in _PLAIN else _leaf(value)
        )
        for key, value in pairs
    }


def _list(values: list[Any]) -> list[Any]:
    return [value if type(value) in _PLAIN else _leaf(value) for value in values]


def _nothing(code: int, data: bytes) -> None:
    return None


def _leaf(value: object) -> str | None:
    """What JSON has no word for: bytes are text, a timestamp is nothing."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else None


def _mapping(value: object, most: int = MAX_BYTES) -> dict[str, Any]:
    """A payload of bounded depth with at most `most` containers; raises WireError for anything else."""
    if not isinstance(value, dict):
        raise WireError("payload is no map")
    if most > MAX_DEPTH:
        _check_depth(value, MAX_DEPTH)
    return value


def _check_depth(value: dict[str, Any] | list[Any], depth: int) -> None:
    if not depth:
        raise WireError(f"deeper than {MAX_DEPTH}")
    for inner in value.values() if isinstance(value, dict) else value:
        if type(inner) is dict or type(inner) is list:
            _check_depth(inner, depth - 1)


def _plain(value: object, depth: int) -> Any:
    """Text keys (`1` becomes "1"), text for bytes, nothing that JSON could not hold."""
    if isinstance(value, str):
        return _text(value)
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if depth <= 0:
        raise WireError(f"deeper than {MAX_DEPTH}")
    if isinstance(value, dict):
        return {_key(key): _plain(item, depth - 1) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item, depth - 1) for item in value]
    return None


def _key(key: object) -> str:
    if isinstance(key, str):
        return _text(key)
    return key.decode("utf-8", "replace") if isinstance(key, bytes) else str(key)


def _text(value: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError:
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return value
