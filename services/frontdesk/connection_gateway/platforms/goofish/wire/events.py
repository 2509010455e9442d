"""What the session protocol tells its shell."""

from __future__ import annotations

from dataclasses import dataclass

from frontdesk.connection_gateway.platforms.errors import PlatformError
from frontdesk.connection_gateway.platforms.model import ChatEvent, Push


@dataclass(frozen=True, slots=True)
class Registered:
    """`/reg` was accepted; the ready signal is awaited."""

    session_id: str


@dataclass(frozen=True, slots=True)
class Ready:
    """Registered and synchronised: requests are possible."""


@dataclass(frozen=True, slots=True)
class Response:
    """The answer to a request of the shell; `mid` is the key `request` returned."""

    mid: str
    code: int
    body: object


@dataclass(frozen=True, slots=True)
class PushReceived:
    """A push with what all its data items say; acknowledge it when that is stored."""

    push: Push
    events: tuple[ChatEvent, ...]


@dataclass(frozen=True, slots=True)
class HeartbeatAnswered:
    """A heartbeat of ours was answered, or the peer sent one."""


@dataclass(frozen=True, slots=True)
class Rejected:
    """The platform refused to open the session."""

    error: PlatformError


@dataclass(frozen=True, slots=True)
class Kicked:
    """Another session took over, or heartbeats were missed (A22)."""


@dataclass(frozen=True, slots=True)
class SessionRemoved:
    """The platform's limit of connections (A22)."""


Event = Registered | Ready | Response | PushReceived | HeartbeatAnswered | Rejected | Kicked | SessionRemoved
