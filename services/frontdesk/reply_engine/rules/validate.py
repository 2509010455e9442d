"""Raw values from a caller or a file → a `Rule` or `DefaultReply` in normal form, and back.

The raw form is what JSON can say, with the field names of `frontdesk.api.replies.v1`:

    {"id": "", "organization_id": "o1", "name": "price", "scope": "item", "account_id": null,
     "item_ids": ["1"], "keywords": ["多少钱"], "match": "contains",
     "parts": [{"text": "hello {send_user_name}"}, {"image": {"url": "https://…", "width": 8, "height": 6}}],
     "priority": 0, "enabled": true, "cooldown_seconds": 0, "max_per_chat": null,
     "active_hours": ["09:00-18:00"], "updated_at_ms": 0}

What is missing has the default of the dataclass. Every problem is an InvalidArgument whose field is a path
like `keywords[2]` or `parts[0].image.url`, with `prefix` in front.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Any, NoReturn, TypeVar
from urllib.parse import urlsplit

from frontdesk.kit.errors import InvalidArgument
from frontdesk.reply_engine.rules.hours import format_interval, parse_interval
from frontdesk.reply_engine.rules.model import (
    LIMITS,
    DefaultReply,
    ImagePart,
    Limits,
    Match,
    Part,
    Reply,
    Rule,
    Scope,
    TextPart,
)
from frontdesk.reply_engine.rules.patterns import compile_pattern, normalize
from frontdesk.reply_engine.rules.template import check_template, split_parts

_E = TypeVar("_E", bound=StrEnum)

RULE_FIELDS = frozenset(f.name for f in fields(Rule)) - {"reply", "problem"} | {"parts"}
DEFAULT_FIELDS = frozenset(f.name for f in fields(DefaultReply)) - {"reply"} | {"parts"}
MAX_INT64 = 2**63 - 1


def validate_rule(raw: Mapping[str, object], limits: Limits = LIMITS, prefix: str = "") -> Rule:
    """The rule that `raw` describes; `id` may be empty for a new one. InvalidArgument: the first problem."""
    read = _Reader(raw, limits, prefix)
    read.known(RULE_FIELDS)
    scope = read.choice("scope", Scope, Scope.GLOBAL)
    match = read.choice("match", Match, Match.CONTAINS)
    keywords = read.keywords(match)
    account_id, item_ids = read.place(scope, read.ids("item_ids"), "item_ids")
    return Rule(
        id=read.identifier("id") or "",
        organization_id=read.organization(),
        name=read.text("name", limits.name_length),
        scope=scope,
        account_id=account_id,
        item_ids=item_ids,
        keywords=keywords,
        match=match,
        reply=read.reply(),
        priority=read.integer("priority", 0, -limits.priority, limits.priority),
        enabled=read.boolean("enabled", True),
        cooldown_seconds=read.integer("cooldown_seconds", 0, 0, limits.cooldown_seconds),
        max_per_chat=read.limit("max_per_chat"),
        active_hours=read.hours(),
        updated_at_ms=read.integer("updated_at_ms", 0, 0, MAX_INT64),
    )


def validate_default(raw: Mapping[str, object], limits: Limits = LIMITS, prefix: str = "") -> DefaultReply:
    """The default reply that `raw` describes; the same form with one `item_id`, and at least one part."""
    read = _Reader(raw, limits, prefix)
    read.known(DEFAULT_FIELDS)
    scope = read.choice("scope", Scope, Scope.GLOBAL)
    item_id = read.identifier("item_id")
    account_id, item_ids = read.place(scope, (item_id,) if item_id else (), "item_id")
    reply = read.reply()
    if reply.silent:
        read.fail("parts", "says nothing; switch it off instead")
    return DefaultReply(
        id=read.identifier("id") or "",
        organization_id=read.organization(),
        scope=scope,
        account_id=account_id,
        item_id=item_ids[0] if item_ids else None,
        reply=reply,
        enabled=read.boolean("enabled", True),
        max_per_chat=read.limit("max_per_chat"),
    )


def rule_to_raw(rule: Rule) -> dict[str, Any]:
    """The raw form of a rule; `validate_rule` of it gives the rule again."""
    return {
        "id": rule.id,
        "organization_id": rule.organization_id,
        "name": rule.name,
        "scope": rule.scope.value,
        "account_id": rule.account_id,
        "item_ids": list(rule.item_ids),
        "keywords": list(rule.keywords),
        "match": rule.match.value,
        "parts": parts_to_raw(rule.reply.parts),
        "priority": rule.priority,
        "enabled": rule.enabled,
        "cooldown_seconds": rule.cooldown_seconds,
        "max_per_chat": rule.max_per_chat,
        "active_hours": list(rule.active_hours),
        "updated_at_ms": rule.updated_at_ms,
    }


def default_to_raw(default: DefaultReply) -> dict[str, Any]:
    """The raw form of a default reply; `validate_default` of it gives the same again."""
    return {
        "id": default.id,
        "organization_id": default.organization_id,
        "scope": default.scope.value,
        "account_id": default.account_id,
        "item_id": default.item_id,
        "parts": parts_to_raw(default.reply.parts),
        "enabled": default.enabled,
        "max_per_chat": default.max_per_chat,
    }


def parts_to_raw(parts: tuple[Part, ...]) -> list[dict[str, Any]]:
    """The raw form of parts."""
    return [
        {"image": {"url": part.url, "width": part.width, "height": part.height}}
        if isinstance(part, ImagePart)
        else {"text": part.text}
        for part in parts
    ]


@dataclass(slots=True)
class _Values:
    """Typed access to a raw mapping; problems name the field's path."""

    raw: Mapping[str, object]
    limits: Limits
    prefix: str

    def fail(self, field: str, problem: str) -> NoReturn:
        raise InvalidArgument(self.prefix + field, problem)

    def known(self, names: frozenset[str]) -> None:
        for name in self.raw:
            if name not in names:
                self.fail(str(name)[:60], "is not a field")

    def choice(self, field: str, kind: type[_E], default: _E) -> _E:
        value = self.raw.get(field)
        if value is None:
            return default
        if not isinstance(value, str) or value not in set(kind):
            self.fail(field, f"must be one of {', '.join(kind)}")
        return kind(value)

    def integer(self, field: str, default: int, least: int, most: int) -> int:
        value = self.raw.get(field)
        if value is None:
            return default
        if not isinstance(value, int) or isinstance(value, bool):
            self.fail(field, "must be a whole number")
        if not least <= value <= most:
            self.fail(field, f"must be {least} to {most}")
        return value

    def boolean(self, field: str, default: bool) -> bool:
        value = self.raw.get(field)
        if value is None:
            return default
        if not isinstance(value, bool):
            self.fail(field, "must be true or false")
        return value

    def array(self, field: str, most: int) -> list[object]:
        value = self.raw.get(field)
        if value is None:
            return []
        if not isinstance(value, list | tuple):
            self.fail(field, "must be a list")
        if len(value) > most:
            self.fail(field, f"has {len(value)} entries, at most {most} are allowed")
        return list(value)

    def string(self, value: object, field: str, most: int, *, lines: bool = False) -> str:
        """A trimmed text without control characters; with `lines` line feeds and tabs may stay."""
        if not isinstance(value, str):
            self.fail(field, "must be a text")
        text = value.replace("\r\n", "\n").replace("\r", "\n") if lines else value
        text = text.strip()
        if len(text) > most:
            self.fail(field, f"has {len(text)} characters, at most {most} are allowed")
        for position, char in enumerate(text):
            bad = char in "\u2028\u2029" or unicodedata.category(char) in ("Cc", "Cs")
            if bad and not (lines and char in "\n\t"):
                self.fail(field, f"has a control character (U+{ord(char):04X}) at position {position}")
        return text


class _Reader(_Values):
    """The parts that rules and default replies are made of."""

    def organization(self) -> str:
        value = self.identifier("organization_id")
        if value is None:
            self.fail("organization_id", "is missing")
        return value

    def text(self, field: str, most: int) -> str:
        value = self.raw.get(field)
        return "" if value is None else self.string(value, field, most)

    def limit(self, field: str) -> int | None:
        """None for no limit. Zero is refused: it could be read as either."""
        if self.raw.get(field) == 0:
            self.fail(field, "must be at least 1; leave it out for no limit, or switch the rule off")
        return self.integer(field, 0, 1, self.limits.max_per_chat) or None

    def identifier(self, field: str) -> str | None:
        value = self.raw.get(field)
        return None if value is None or value == "" else self._identifier(value, field)

    def ids(self, field: str) -> tuple[str, ...]:
        values = self.array(field, self.limits.items)
        return tuple(dict.fromkeys(self._identifier(v, f"{field}[{i}]") for i, v in enumerate(values)))

    def _identifier(self, value: object, field: str) -> str:
        text = self.string(value, field, self.limits.id_length)
        if not text or any(char.isspace() for char in text):
            self.fail(field, "is not an id: it is empty or has blanks in it")
        return text

    def place(
        self, scope: Scope, items: tuple[str, ...], items_field: str
    ) -> tuple[str | None, tuple[str, ...]]:
        """Account and items that agree with the scope."""
        account_id = self.identifier("account_id")
        if scope is Scope.GLOBAL and account_id:
            self.fail("account_id", "must be empty in scope global")
        if scope is Scope.ACCOUNT and not account_id:
            self.fail("account_id", "is missing in scope account")
        if scope is Scope.ITEM and not items:
            self.fail(items_field, "names no item in scope item")
        if scope is not Scope.ITEM and items:
            self.fail(items_field, f"must be empty in scope {scope}")
        return account_id, items

    def keywords(self, match: Match) -> tuple[str, ...]:
        values = self.array("keywords", self.limits.keywords)
        if match is Match.ANY:
            if values:
                self.fail("keywords", "must be empty when anything matches")
            return ()
        if not values:
            self.fail("keywords", "names no keyword; to match anything set match to any")
        kept: dict[str, str] = {}
        for position, value in enumerate(values):
            field = f"keywords[{position}]"
            is_regex = match is Match.REGEX
            word = self.string(
                value, field, self.limits.regex_length if is_regex else self.limits.keyword_length
            )
            compared = word if is_regex else normalize(word)
            if not compared:
                self.fail(field, "is empty")
            if is_regex:
                compile_pattern(word, self.prefix + field, self.limits)
            kept.setdefault(compared, word)
        return tuple(kept.values())

    def hours(self) -> tuple[str, ...]:
        texts = []
        for position, value in enumerate(self.array("active_hours", self.limits.active_hours)):
            field = f"active_hours[{position}]"
            text = self.string(value, field, 40)
            texts.append(format_interval(parse_interval(text, self.prefix + field)))
        return tuple(dict.fromkeys(texts))

    def reply(self) -> Reply:
        """The parts; a text with separator lines becomes several."""
        parts: list[Part] = []
        for position, value in enumerate(self.array("parts", self.limits.parts)):
            field = f"parts[{position}]"
            if not isinstance(value, Mapping) or len(value) != 1 or not set(value) <= {"text", "image"}:
                self.fail(field, "must have exactly one of text and image")
            parts += (
                [self._image(value["image"], field)]
                if "image" in value
                else self._texts(value["text"], field)
            )
        if len(parts) > self.limits.parts:
            self.fail("parts", f"are {len(parts)} messages, at most {self.limits.parts} are allowed")
        return Reply(tuple(parts))

    def _texts(self, value: object, field: str) -> list[Part]:
        field += ".text"
        most = self.limits.text_length
        # The separator lines don't count, so the whole may be longer than one message.
        whole = self.string(value, field, (most + 10) * self.limits.parts, lines=True)
        texts = split_parts(whole)
        if not texts:
            self.fail(field, "is empty; give no parts at all to stay silent")
        for text in texts:
            if len(text) > most:
                self.fail(field, f"has {len(text)} characters in one message, at most {most} are allowed")
            check_template(text, self.prefix + field)
        return [TextPart(text) for text in texts]

    def _image(self, value: object, field: str) -> ImagePart:
        if not isinstance(value, Mapping):
            self.fail(f"{field}.image", "must be an object with url, width and height")
        image = _Values(value, self.limits, f"{self.prefix}{field}.image.")
        image.known(frozenset(("url", "width", "height")))
        url = image.string(value.get("url", ""), "url", self.limits.url_length)
        if not is_web_address(url):
            image.fail("url", "must be a web address that begins with https:// or http://")
        side = self.limits.image_side
        return ImagePart(url, image.integer("width", 0, 0, side), image.integer("height", 0, 0, side))


def is_web_address(url: str) -> bool:
    """Whether it is an http(s) address with a host and no blanks."""
    try:
        parts = urlsplit(url)
        _port = parts.port  # raises for a port that is none
    except ValueError:
        return False
    return (
        parts.scheme in ("http", "https") and bool(parts.hostname) and not any(char.isspace() for char in url)
    )
