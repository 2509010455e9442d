"""Parts of an answer as callers write them."""

from __future__ import annotations

from collections.abc import Sequence

from frontdesk.api.replies.v1 import rule_pb2
from frontdesk.kit.errors import InvalidArgument
from frontdesk.reply_engine.rules.model import LIMITS, ImagePart, Part, TextPart
from frontdesk.reply_engine.rules.validate import is_web_address


def check_id(value: str, field: str) -> str:
    """An id that fits into a column and a subject; InvalidArgument names the field.

    A subject over the broker's limit of 4 KiB would cost the whole connection.
    """
    if not value:
        raise InvalidArgument(field, "is needed")
    if len(value) > LIMITS.id_length:
        raise InvalidArgument(field, f"at most {LIMITS.id_length} characters")
    if not value.isprintable():
        raise InvalidArgument(field, "has a character that no id has")
    return value


def number_of(token: str, field: str = "page_token") -> int:
    """A number in a page's token; InvalidArgument when it is none that we wrote."""
    if not (token.isascii() and token.removeprefix("-").isdigit() and len(token) <= 18):
        raise InvalidArgument(field, "is not one of ours")
    return int(token)


def words_from_proto(parts: Sequence[rule_pb2.Part], field: str) -> list[Part]:
    """What a person says, as it is: no placeholders, no separators. InvalidArgument names the field."""
    if not 1 <= len(parts) <= LIMITS.parts:
        raise InvalidArgument(field, f"1 to {LIMITS.parts} of them")
    return [_part(part, f"{field}[{number}]") for number, part in enumerate(parts)]


def _part(part: rule_pb2.Part, field: str) -> Part:
    if part.HasField("image"):
        if not is_web_address(part.image.url) or len(part.image.url) > LIMITS.url_length:
            raise InvalidArgument(f"{field}.image.url", "must be a web address")
        sides = (part.image.width, part.image.height)
        if not all(0 <= side <= LIMITS.image_side for side in sides):
            raise InvalidArgument(f"{field}.image", f"width and height must be 0 to {LIMITS.image_side}")
        return ImagePart(part.image.url, *sides)
    if not part.text.strip() or len(part.text) > LIMITS.text_length:
        raise InvalidArgument(f"{field}.text", f"1 to {LIMITS.text_length} characters")
    if "\x00" in part.text:
        raise InvalidArgument(f"{field}.text", "has a NUL in it")
    return TextPart(part.text)
