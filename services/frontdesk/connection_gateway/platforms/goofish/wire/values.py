"""Reading untrusted values: the right type or an empty one, never an exception."""

from __future__ import annotations

import re
from typing import Any

from frontdesk.connection_gateway.platforms.errors import WireError
from frontdesk.connection_gateway.platforms.goofish.wire import payload

_MAX_INT = 2**63 - 1


def mapping(value: object, *path: str) -> dict[str, Any]:
    """The map at `path`, or an empty one."""
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value if isinstance(value, dict) else {}


def sequence(value: object) -> list[Any]:
    """The list, or an empty one."""
    return value if isinstance(value, list) else []


def text(value: object) -> str:
    """The text, or a number's text; empty for anything else."""
    if isinstance(value, str):
        return value
    return (
        str(value)
        if isinstance(value, int) and not isinstance(value, bool) and abs(value) <= _MAX_INT
        else ""
    )


def integer(value: object) -> int:
    """A number that fits 64 bits and is not negative, also from text; 0 for anything else."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 19:
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        return 0
    return value if 0 <= value <= _MAX_INT else 0


def embedded(value: object) -> dict[str, Any]:
    """The map inside a text of JSON (or the map itself); empty when there is none."""
    if isinstance(value, dict):
        return value
    if not isinstance(value, str) or value.lstrip()[:1] != "{":
        return {}
    try:
        return payload.decode(value)
    except WireError:
        return {}


def find(pattern: re.Pattern[str], value: object) -> str:
    """The first group of the first match in a text; empty when there is none."""
    match = pattern.search(value) if isinstance(value, str) else None
    return match.group(1) if match else ""
