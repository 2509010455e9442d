"""Pages of lists: sizes within bounds, and tokens that say where to go on."""

from __future__ import annotations

import base64
import binascii

from frontdesk.kit.errors import InvalidArgument


def page_size(asked: int, *, default: int, most: int) -> int:
    """The size to use; raises InvalidArgument for a size below 0 or above `most`."""
    if asked < 0 or asked > most:
        raise InvalidArgument("page_size", f"must be 1 to {most}, or 0 for {default}")
    return asked or default


def encode(*values: str | int) -> str:
    """A token of the last row's sort keys."""
    return base64.urlsafe_b64encode("\x00".join(map(str, values)).encode()).decode()


def decode(token: str, count: int) -> tuple[str, ...] | None:
    """The sort keys in a token, None for the first page; raises InvalidArgument for anything else."""
    if not token:
        return None
    try:
        values = tuple(base64.urlsafe_b64decode(token.encode()).decode().split("\x00"))
    except (binascii.Error, ValueError) as error:
        raise InvalidArgument("page_token", "is not one of ours") from error
    if len(values) != count:
        raise InvalidArgument("page_token", "is not one of ours")
    return values
