"""Times and states as tables tell them."""

from __future__ import annotations

import time

from frontdesk.api.events.v1 import event_pb2
from frontdesk.cli.words import moment, state_name


def test_a_moment_is_local_time() -> None:
    """To the second, without the year; what never was is told by nothing."""
    assert moment(round(time.mktime((2026, 1, 2, 3, 4, 5, 0, 0, -1)) * 1000)) == "01-02 03:04:05"
    assert moment(0) == ""


def test_a_state_is_named_without_its_type() -> None:
    """As documents name it."""
    assert state_name(event_pb2.SESSION_STATE_RECONNECTING) == "RECONNECTING"
