"""Reply templates: `{send_user_name}` and its kind, filled in once.

A template is split into messages when the rule is stored and before anything is filled in, and a value is
never looked at again, so nothing a buyer writes can add a message, a placeholder or a control character.
`{{` and `}}` stand for the braces themselves.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, fields

from frontdesk.kit.errors import InvalidArgument
from frontdesk.reply_engine.rules.model import ImagePart, Part, Reply, TextPart

SEPARATOR = "###"
VALUE_LENGTH = 200
RENDERED_LENGTH = 4_000

_TOKEN = re.compile(r"\{\{|\}\}|\{[ ]*([^\W\d]\w*)[ ]*\}")
_BLANK = re.compile("[\t\n\r\v\f\x85\u2028\u2029]")
# Control characters, halves of surrogate pairs, and direction marks, which would reorder the seller's own
# words on the buyer's screen.
_UNSEEN = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")


@dataclass(frozen=True, slots=True)
class Values:
    """What placeholders stand for; empty when unknown."""

    send_user_name: str = ""
    send_user_id: str = ""
    send_message: str = ""
    item_id: str = ""
    item_title: str = ""
    item_price: str = ""
    account_name: str = ""


PLACEHOLDERS = tuple(field.name for field in fields(Values))


def check_template(template: str, field: str) -> None:
    """InvalidArgument names `field` when a `{word}` is not a placeholder."""
    for found in _TOKEN.finditer(template):
        if found.group(1) is not None and found.group()[1:-1] not in PLACEHOLDERS:
            raise InvalidArgument(
                field,
                f"unknown placeholder {found.group()[:60]} at position {found.start()}; known are "
                + ", ".join(f"{{{name}}}" for name in PLACEHOLDERS)
                + "; write {{ and }} for braces",
            )


def split_parts(template: str) -> tuple[str, ...]:
    """The messages of a template: cut at lines that are only `###`, trimmed, empty ones left out."""
    pieces: list[list[str]] = [[]]
    for line in template.replace("\r\n", "\n").replace("\r", "\n").split("\n"):
        if line.strip() == SEPARATOR:
            pieces.append([])
        else:
            pieces[-1].append(line)
    texts = ("\n".join(piece).strip() for piece in pieces)
    return tuple(text for text in texts if text)


def render_text(template: str, values: Values) -> str:
    """One text filled in; what is no placeholder stays as it is. At most RENDERED_LENGTH characters."""

    def fill(found: re.Match[str]) -> str:
        token = found.group()
        if token in ("{{", "}}"):
            return token[0]
        name = token[1:-1]
        return clean_value(getattr(values, name)) if name in PLACEHOLDERS else token

    return _TOKEN.sub(fill, template)[:RENDERED_LENGTH].strip()


def render(reply: Reply, values: Values) -> tuple[Part, ...]:
    """The messages to send, in order; a text that comes out empty is left out, so there may be none."""
    parts: list[Part] = []
    for part in reply.parts:
        if isinstance(part, ImagePart):
            parts.append(part)
            continue
        for template in split_parts(part.text):
            text = render_text(template, values)
            if text:
                parts.append(TextPart(text))
    return tuple(parts)


def clean_value(value: str) -> str:
    """A value safe to insert: one line, no control or direction characters, at most VALUE_LENGTH long."""
    # Far more than can survive, so that a huge message costs nothing.
    text = _UNSEEN.sub("", _BLANK.sub(" ", value[: VALUE_LENGTH * 4]))
    return text[:VALUE_LENGTH].strip()
