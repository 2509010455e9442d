"""The states of an account's session and every arrow between them (CG-02 to CG-09, X-04, X-09).

DISCONNECTED ─start─▶ CONNECTING ─ready─▶ CONNECTED
                          │  ▲               │
                   failed │  │ again         │ lost
                          ▼  │               ▼
                        RECONNECTING ◀───────┘
CONNECTING, CONNECTED, RECONNECTING ─needs a person─▶ FAILED ─restart─▶ CONNECTING
any ─stopped on purpose─▶ CLOSED ─started─▶ CONNECTING
CONNECTING, CONNECTED, RECONNECTING ─handed over─▶ DISCONNECTED
"""

from __future__ import annotations

from frontdesk.connection_gateway.model import State

ARROWS: dict[State, frozenset[State]] = {
    State.DISCONNECTED: frozenset({State.CONNECTING, State.CLOSED}),
    State.CONNECTING: frozenset(
        {State.CONNECTED, State.RECONNECTING, State.FAILED, State.CLOSED, State.DISCONNECTED}
    ),
    State.CONNECTED: frozenset({State.RECONNECTING, State.FAILED, State.CLOSED, State.DISCONNECTED}),
    State.RECONNECTING: frozenset({State.CONNECTING, State.FAILED, State.CLOSED, State.DISCONNECTED}),
    State.FAILED: frozenset({State.CONNECTING, State.CLOSED}),
    State.CLOSED: frozenset({State.CONNECTING}),
}
