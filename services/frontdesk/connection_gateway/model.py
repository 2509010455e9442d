"""What the gateway keeps: accounts, how their sessions stand, and what became of each send.

Times are Unix milliseconds, 0 when never, unless said otherwise.
"""

from __future__ import annotations

import enum
import hashlib
import secrets
import time
from dataclasses import dataclass, field

from frontdesk.api.events.v1 import event_pb2

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


class State(enum.StrEnum):
    """State of an account's session; accounts/states.py has the arrows."""

    DISCONNECTED = "disconnected"
    CONNECTING = "connecting"
    CONNECTED = "connected"
    RECONNECTING = "reconnecting"
    FAILED = "failed"
    CLOSED = "closed"


STATE_NUMBERS = {
    State.DISCONNECTED: event_pb2.SESSION_STATE_DISCONNECTED,
    State.CONNECTING: event_pb2.SESSION_STATE_CONNECTING,
    State.CONNECTED: event_pb2.SESSION_STATE_CONNECTED,
    State.RECONNECTING: event_pb2.SESSION_STATE_RECONNECTING,
    State.FAILED: event_pb2.SESSION_STATE_FAILED,
    State.CLOSED: event_pb2.SESSION_STATE_CLOSED,
}


class SendState(enum.StrEnum):
    """How far a send got, as the ledger keeps it."""

    SENDING = "sending"
    """About to be written, or written without an answer yet."""
    UNCONFIRMED = "unconfirmed"
    """Written, and the answer did not come: only the chat's history knows."""
    CONFIRMED = "confirmed"
    REJECTED = "rejected"
    FAILED = "failed"
    DROPPED = "dropped"


SEND_NUMBERS = {
    SendState.SENDING: event_pb2.SEND_STATE_SENT,
    SendState.UNCONFIRMED: event_pb2.SEND_STATE_UNCONFIRMED,
    SendState.CONFIRMED: event_pb2.SEND_STATE_CONFIRMED,
    SendState.REJECTED: event_pb2.SEND_STATE_REJECTED,
    SendState.FAILED: event_pb2.SEND_STATE_FAILED,
    SendState.DROPPED: event_pb2.SEND_STATE_DROPPED,
}

TERMINAL = frozenset({SendState.CONFIRMED, SendState.REJECTED, SendState.FAILED, SendState.DROPPED})


@dataclass(slots=True)
class Account:
    """An account as its row has it, without its secrets.

    `synced_until_ms` is the platform's time up to which everything is stored, None before the first login
    ended its read-back. `replica` and `epoch` say who may write the session's columns.
    """

    account_id: str
    organization_id: str
    platform: str
    platform_user_id: str
    name: str
    enabled: bool
    device_id: str
    shard: int
    state: State = State.DISCONNECTED
    reason: str = ""
    reason_code: str = ""
    action_url: str = ""
    state_since_ms: int = 0
    failures: int = 0
    last_heartbeat_ms: int = 0
    replica: str = ""
    epoch: int = 0
    synced_until_ms: int | None = None
    accounted_until_ms: int = 0
    created_at_ms: int = 0
    updated_at_ms: int = 0


@dataclass(slots=True)
class Login:
    """The secrets of an account; the token is empty when there is none."""

    cookies: str = field(repr=False)
    token: str = field(default="", repr=False)
    token_expires_at_ms: int = 0


@dataclass(slots=True)
class Send:
    """A row of the ledger: one outgoing id.

    `started_at_ms` is on the platform's clock and never later than the first write: what the platform dates
    before it is not this send. `attempts` counts writes that were begun.
    """

    outgoing_id: str
    organization_id: str
    account_id: str
    chat_id: str
    decision_id: str
    part: int
    state: SendState
    digest: str
    started_at_ms: int = 0
    platform_message_id: str | None = None
    platform_created_at_ms: int = 0
    attempts: int = 0
    reason: str = ""
    updated_at_ms: int = 0

    @property
    def terminal(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.state in TERMINAL


def digest(text: str, *, image: bool = False) -> str:
    """What two messages of equal content have in common.

    The platform may move an image to another address, so all images are alike here; ids tell them apart.
    """
    content = "image" if image and not text.strip() else f"text:{text.strip()}"
    return hashlib.sha256(content.encode("utf-8", "surrogatepass")).hexdigest()


def new_id(now_ms: int | None = None) -> str:
    """A ULID: 48 bits of Unix milliseconds, 80 of chance; sorts by time."""
    value = ((now_ms if now_ms is not None else time.time_ns() // 1_000_000) << 80) | secrets.randbits(80)
    return "".join(_ALPHABET[(value >> shift) & 31] for shift in range(125, -1, -5))
