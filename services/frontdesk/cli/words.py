"""How tables of the command line tell times and states of sessions."""

from __future__ import annotations

import time

from frontdesk.api.events.v1.event_pb2 import SessionState


def moment(ms: int) -> str:
    """Unix milliseconds as local time without the year, e.g. `01-02 03:04:05`; nothing for 0."""
    return time.strftime("%m-%d %H:%M:%S", time.localtime(ms / 1000)) if ms else ""


def state_name(state: SessionState.ValueType) -> str:
    """A session's state without its type, e.g. `CONNECTED`."""
    return SessionState.Name(state).removeprefix("SESSION_STATE_")
