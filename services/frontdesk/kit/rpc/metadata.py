"""gRPC's own header names and encodings, on NATS headers.

Names and encodings are those of the gRPC over HTTP/2 protocol (PROTOCOL-HTTP2.md of grpc/grpc):
`grpc-timeout` is at most eight digits and a unit, `grpc-message` is percent-encoded, keys that end in `-bin`
carry base64 without padding. What means nothing is left out: no `grpc-status` means OK. A key given twice is
joined by a comma.

Reserved are `grpc-*` and `fd-*`. The latter carry what HTTP/2 carries elsewhere: `fd-window` the first credit
of a stream, `fd-initial-<key>` initial metadata, `fd-subject`, `fd-organization`, `fd-role`, `fd-kind` the
principal.
"""

from __future__ import annotations

import base64
import binascii
import functools
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from urllib.parse import quote, unquote

from grpc import StatusCode
from grpc.aio import Metadata

from frontdesk.kit.principal import Principal

TIMEOUT = "grpc-timeout"
STATUS = "grpc-status"
MESSAGE = "grpc-message"
DETAILS = "grpc-status-details-bin"
WINDOW = "fd-window"
INITIAL = "fd-initial-"

RESERVED = ("grpc-", "fd-")

_SUBJECT = "fd-subject"
_ORGANIZATION = "fd-organization"
_ROLE = "fd-role"
_KIND = "fd-kind"

MetadataLike = Metadata | Sequence[tuple[str, str | bytes]]
Lines = list[tuple[str, str]]

_KEY = re.compile(r"[0-9a-z_.\-]+")
_TEXT = re.compile(r"[\x20-\x7e]*")
_TIMEOUT = re.compile(r"([0-9]{1,8})([HMSmun])")
_UNITS = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}
_PRINTABLE = "".join(chr(byte) for byte in range(0x20, 0x7F) if chr(byte) != "%")
_CODES = {str(code.value[0]): code for code in StatusCode}
_MOST_DIGITS = 99_999_999


def block(lines: Iterable[tuple[str, str]]) -> bytes:
    """A NATS header block of `lines`; empty when there are none."""
    text = "".join([f"{key}: {value}\r\n" for key, value in lines])
    return f"NATS/1.0\r\n{text}\r\n".encode() if text else b""


@functools.lru_cache(maxsize=1024)
def encode_timeout(seconds: float) -> str:
    """`seconds` as `grpc-timeout`, rounded up to milliseconds."""
    milliseconds = max(0, math.ceil(seconds * 1000))
    if milliseconds <= _MOST_DIGITS:
        return f"{milliseconds}m"
    return f"{min(math.ceil(seconds), _MOST_DIGITS)}S"


@functools.lru_cache(maxsize=1024)
def decode_timeout(text: str) -> float:
    """Seconds of a `grpc-timeout`; raises ValueError."""
    found = _TIMEOUT.fullmatch(text)
    if found is None:
        raise ValueError(f"not a grpc-timeout: {text!r}")
    return int(found[1]) * _UNITS[found[2]]


@functools.lru_cache(maxsize=1024)
def timeout_block(seconds: float) -> bytes:
    """The header block of a call that has nothing but a timeout: most of them."""
    return block([(TIMEOUT, encode_timeout(seconds))])


@functools.lru_cache(maxsize=1024)
def principal_lines(principal: Principal) -> tuple[tuple[str, str], ...]:
    """The principal as headers."""
    named = (
        (_SUBJECT, principal.subject),
        (_ORGANIZATION, principal.organization_id),
        (_ROLE, principal.role),
        (_KIND, principal.kind),
    )
    return tuple((key, percent(value)) for key, value in named if value)


def principal_of(headers: Mapping[str, str]) -> Principal | None:
    """The principal in `headers`, or None."""
    subject = headers.get(_SUBJECT)
    if subject is None:
        return None
    return Principal(
        subject=unquote(subject),
        organization_id=unquote(headers.get(_ORGANIZATION, "")),
        role=unquote(headers.get(_ROLE, "")),
        kind=unquote(headers.get(_KIND, "")),
    )


def percent(text: str) -> str:
    """`text` percent-encoded as `grpc-message` is."""
    return quote(text, safe=_PRINTABLE)


def status_lines(code: StatusCode, details: str, trailing: MetadataLike) -> Lines:
    """The headers that end a call; none for a plain OK."""
    lines: Lines = []
    if code is not StatusCode.OK:
        lines.append((STATUS, str(code.value[0])))
    if details:
        lines.append((MESSAGE, percent(details)))
    lines += custom_lines(trailing, allow=DETAILS)
    return lines


def status_of(headers: Mapping[str, str]) -> tuple[StatusCode, str]:
    """Code and details in `headers`; a code nobody knows is UNKNOWN."""
    code = _CODES.get(headers.get(STATUS, "0"), StatusCode.UNKNOWN)
    return code, unquote(headers.get(MESSAGE, ""))


def custom_lines(metadata: MetadataLike, *, prefix: str = "", allow: str = "") -> Lines:
    """A caller's metadata as headers; raises ValueError naming a key that is malformed or reserved.

    `allow` is the one reserved key that may pass.
    """
    joined: dict[str, str] = {}
    for key, value in metadata:
        if not _KEY.fullmatch(key) or (key.startswith(RESERVED) and key != allow):
            raise ValueError(f"not a key of metadata, or a reserved one: {key!r}")
        text = _encode_value(key, value)
        joined[key] = f"{joined[key]},{text}" if key in joined else text
    return [(prefix + key, text) for key, text in joined.items()]


def _encode_value(key: str, value: str | bytes) -> str:
    if key.endswith("-bin"):
        data = value if isinstance(value, bytes) else value.encode()
        return base64.b64encode(data).decode().rstrip("=")
    text = value.decode("ascii", "replace") if isinstance(value, bytes) else value
    if not _TEXT.fullmatch(text):
        raise ValueError(f"metadata {key!r} is not printable ASCII; name it {key}-bin to send bytes")
    return text


def metadata_of(headers: Mapping[str, str] | None, *, prefix: str = "") -> Metadata:
    """The custom metadata in `headers`: all that is not reserved, or all below `prefix`."""
    found = Metadata()
    for name, text in (headers or {}).items():
        if prefix:
            if not name.startswith(prefix):
                continue
            key = name[len(prefix) :]
        else:
            key = name
            if key.startswith(RESERVED) and key != DETAILS:
                continue
        for value in _decode_values(key, text):
            found.add(key, value)
    return found


def _decode_values(key: str, text: str) -> list[str] | list[bytes]:
    if not key.endswith("-bin"):
        return [text]
    try:
        return [base64.b64decode(part + "=" * (-len(part) % 4)) for part in text.split(",")]
    except binascii.Error:
        return [b""]
