"""What all sessions of a replica share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from frontdesk.connection_gateway.accounts.journal import Journal
from frontdesk.connection_gateway.accounts.ledger import Ledger
from frontdesk.connection_gateway.accounts.pace import Pace
from frontdesk.connection_gateway.platforms.base import Platform
from frontdesk.connection_gateway.store import AccountStore, SessionStore
from frontdesk.kit.backoff import Strategy
from frontdesk.kit.bus import Bus
from frontdesk.kit.clock import Clock

HoldsShard = Callable[[int, int], bool]
"""Whether this replica may use a shard right now, and took it at that epoch."""


@dataclass(frozen=True, slots=True)
class SessionLimits:
    """Numbers of the configuration that a session goes by; seconds where it is a time."""

    messages_in_work: int = 100
    max_authentications: int = 10
    max_kicks: int = 3
    token_margin: float = 600.0
    token_pause: float = 60.0
    read_back_every: float = 600.0
    jitter: float = 0.2
    strategy: Strategy = "linear"


@dataclass(frozen=True, slots=True)
class Shared:
    """The parts that a session stands on."""

    platform: Platform
    store: AccountStore
    sessions: SessionStore
    ledger: Ledger
    journal: Journal
    bus: Bus
    pace: Pace
    clock: Clock
    limits: SessionLimits
    holds: HoldsShard
