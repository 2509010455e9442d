"""Words of the rules: what a seller wrote, what a buyer sent, what a chat has used up.

All values are immutable. A `Rule` made by `validate.validate_rule` is in its one normal form: trimmed
texts, no repeated keyword, no separator line inside a part. Zero and "not set" are different everywhere:
`None` is "no limit", and a limit of 0 is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeAlias


class Scope(StrEnum):
    """Where a rule or default reply holds; the narrower wins."""

    GLOBAL = "global"
    ACCOUNT = "account"
    ITEM = "item"


class Match(StrEnum):
    """How a keyword is compared, after case, width and outer blanks are made equal."""

    CONTAINS = "contains"
    EXACT = "exact"
    REGEX = "regex"
    ANY = "any"


@dataclass(frozen=True, slots=True)
class TextPart:
    """One message of text; a template in a rule, final words in an answer."""

    text: str


@dataclass(frozen=True, slots=True)
class ImagePart:
    """One image; `width` and `height` in pixels, 0 when unknown."""

    url: str
    width: int = 0
    height: int = 0


Part: TypeAlias = TextPart | ImagePart


@dataclass(frozen=True, slots=True)
class Reply:
    """What to say, in order, one message a part. No parts: the buyer is deliberately not answered."""

    parts: tuple[Part, ...] = ()

    @property
    def silent(self) -> bool:
        """Whether this reply swallows the message."""
        return not self.parts


@dataclass(frozen=True, slots=True)
class Rule:
    """A keyword rule.

    Any of `keywords` hits. With `Match.ANY` there are none: it hits every message and is the weakest of its
    scope and priority. An ITEM rule without `account_id` holds for its items in every account.
    """

    id: str
    organization_id: str
    scope: Scope = Scope.GLOBAL
    account_id: str | None = None
    item_ids: tuple[str, ...] = ()
    keywords: tuple[str, ...] = ()
    match: Match = Match.CONTAINS
    reply: Reply = Reply()
    name: str = ""
    priority: int = 0  # higher first
    enabled: bool = True
    cooldown_seconds: int = 0  # not again in the same chat for this long; 0 for no wait
    max_per_chat: int | None = None  # None for no limit
    active_hours: tuple[str, ...] = ()  # `HH:MM-HH:MM` in the account's time zone; none means always
    updated_at_ms: int = 0
    problem: str = ""  # why a stored rule can't be read; it is off, and shown so that it can be corrected


@dataclass(frozen=True, slots=True)
class DefaultReply:
    """What is said when no rule hits; for one account, one item, or everything."""

    id: str
    organization_id: str
    scope: Scope = Scope.GLOBAL
    account_id: str | None = None
    item_id: str | None = None
    reply: Reply = Reply()
    enabled: bool = True
    max_per_chat: int | None = None  # None for no limit


@dataclass(frozen=True, slots=True)
class Incoming:
    """A buyer's message as rules see it.

    `text` is empty for an image alone. `utc_offset_minutes` is the account's, at `now_ms`
    (`hours.utc_offset_minutes` finds it).
    """

    organization_id: str
    account_id: str
    chat_id: str
    text: str
    now_ms: int
    item_id: str | None = None
    sender_id: str = ""
    sender_name: str = ""
    has_image: bool = False
    utc_offset_minutes: int = 480


@dataclass(frozen=True, slots=True)
class ChatCounters:
    """What a chat has used: id of a rule or default reply → (how often, last time in Unix milliseconds)."""

    uses: Mapping[str, tuple[int, int]] = field(default_factory=dict)

    def count(self, rule_id: str) -> int:
        """How often this rule or default reply answered in the chat."""
        return self.uses.get(rule_id, (0, 0))[0]

    def last_used_ms(self, rule_id: str) -> int | None:
        """When it answered last; None for never."""
        use = self.uses.get(rule_id)
        return use[1] if use and use[0] else None


@dataclass(frozen=True, slots=True)
class Limits:
    """How big a rule may be, and how long matching may take."""

    keywords: int = 50
    keyword_length: int = 200
    regex_length: int = 300
    regex_size: int = 1_000  # nodes after repeats are written out; about 0.3 KiB each
    parts: int = 5
    text_length: int = 2_000
    url_length: int = 2_048
    image_side: int = 20_000
    items: int = 200
    id_length: int = 128
    name_length: int = 100
    priority: int = 1_000_000
    cooldown_seconds: int = 30 * 86_400
    max_per_chat: int = 1_000_000
    active_hours: int = 10
    import_bytes: int = 900 * 1024
    import_rows: int = 10_000
    import_errors: int = 200
    match_text_length: int = 4_000  # of a message, the rest is not looked at
    regex_seconds: float = 0.05
    decision_seconds: float = 0.1  # all regular expressions of one decision


LIMITS = Limits()
