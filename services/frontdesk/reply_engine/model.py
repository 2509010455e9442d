"""Words of the reply-engine: settings, what a chat waits for, what was decided."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass, field
from enum import StrEnum

from frontdesk.reply_engine.rules.match import Matcher
from frontdesk.reply_engine.rules.model import DefaultReply, Part, Rule


class Switch(StrEnum):
    """Whether automatic answers leave."""

    ON = "on"
    OBSERVE = "observe"
    STOP = "stop"


class Origin(StrEnum):
    """Where an answer comes from; the lower-case names of `events.v1.Origin`."""

    RULE = "rule"
    AI = "ai"
    DEFAULT = "default"
    DELIVERY = "delivery"
    PERSON = "person"


class MessageState(StrEnum):
    """What became of a message."""

    WAITING = "waiting"
    DECIDED = "decided"
    PERSON = "person"
    STORED = "stored"


class SendState(StrEnum):
    """How far an outgoing part got; the lower-case names of `events.v1.SendState`."""

    QUEUED = "queued"
    SENT = "sent"
    CONFIRMED = "confirmed"
    UNCONFIRMED = "unconfirmed"
    REJECTED = "rejected"
    FAILED = "failed"
    DROPPED = "dropped"


SETTLED = frozenset({SendState.CONFIRMED, SendState.REJECTED, SendState.FAILED, SendState.DROPPED})
UNREPORTED = (SendState.QUEUED, SendState.SENT, SendState.UNCONFIRMED)

# States of an order's delivery in which a step is still to come.
OPEN_DELIVERIES = ("pending", "delivered")

STEPS = ("account", "global", "ai", "default")


@dataclass(frozen=True, slots=True)
class AccountSettings:
    """How an account answers; the defaults are those of the sources."""

    account_id: str
    organization_id: str
    switch: Switch = Switch.ON
    debounce_ms: int = 1_000
    chain: tuple[str, ...] = STEPS
    ai_enabled: bool = False
    takeover_minutes: int = 10
    replies_per_minute: int = 20
    answer_after_ms: int = 0
    time_zone: str = "Asia/Shanghai"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """An organization's configuration as of `version`; read whole, replaced whole."""

    organization_id: str
    version: int
    switch: Switch = Switch.ON
    answer_after_ms: int = 0
    accounts: dict[str, AccountSettings] = field(default_factory=dict)
    rules: tuple[Rule, ...] = ()
    matcher: Matcher = field(default_factory=lambda: Matcher(()))
    defaults: tuple[DefaultReply, ...] = ()

    def account(self, account_id: str) -> AccountSettings:
        """The account's settings, defaults where nothing was set."""
        return self.accounts.get(account_id) or AccountSettings(account_id, self.organization_id)

    def effective_switch(self, account_id: str) -> Switch:
        """The stricter of the organization's and the account's switch."""
        both = {self.switch, self.account(account_id).switch}
        return Switch.STOP if Switch.STOP in both else Switch.OBSERVE if Switch.OBSERVE in both else Switch.ON

    def effective_answer_after(self, account_id: str) -> int:
        return max(self.answer_after_ms, self.account(account_id).answer_after_ms)


@dataclass(frozen=True, slots=True)
class Answer:
    """What one chat is answered with: parts in order, and where they come from."""

    origin: Origin
    step: str
    parts: tuple[Part, ...]
    rule_id: str = ""


@dataclass(frozen=True, slots=True)
class AiTurn:
    """A chat that the chain left to the AI: the token that owns it, and what is to be answered.

    `message_ids` are the waiting messages whose words `text` merges; empty for a preview.
    """

    chat_key: str
    token: str
    organization_id: str
    account_id: str
    chat_id: str
    item_id: str
    text: str
    message_ids: frozenset[str] = frozenset()
    trace: tuple[str, ...] = ()
    traceparent: str = ""


@dataclass(frozen=True, slots=True)
class AiOutcome:
    """What came of an AI turn: a text, or `reason` (for programs) why there is none.

    With `needs_person` the AI leaves the answer to a person, as `reason_text` says for people; else it could
    not be asked: `busy`, or the name of a gRPC status in lower case.
    """

    turn: AiTurn
    text: str = ""
    reason: str = ""
    reason_text: str = ""
    needs_person: bool = False
    intent: str = ""
    offered_price: str = ""
    provider: str = ""
    model: str = ""

    @property
    def by(self) -> str:
        """Who answered, for people: `<provider>/<model>`; empty when nobody did."""
        return "/".join(name for name in (self.provider, self.model) if name)


def chat_key(account_id: str, chat_id: str) -> str:
    return f"{account_id}/{chat_id}"


_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_PAIRS = [high + low for high in _ALPHABET for low in _ALPHABET]


def new_id(now_ms: int | None = None) -> str:
    """A ULID: 48 bits of Unix milliseconds, 80 of chance; sorts by time."""
    return new_ids(1, now_ms)[0]


def new_ids(count: int, now_ms: int | None = None) -> list[str]:
    """ULIDs of one moment that sort in their order, as the specification's monotonic ones do."""
    moment = now_ms if now_ms is not None else time.time_ns() // 1_000_000
    first = (moment << 80) | secrets.randbits(79)  # the top bit is room to count on
    return [
        "".join([_PAIRS[(value >> shift) & 1023] for shift in range(120, -1, -10)])
        for value in range(first, first + count)
    ]
