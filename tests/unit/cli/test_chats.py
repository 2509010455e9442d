"""Lines of `frontdesk chat tail`."""

from __future__ import annotations

from frontdesk.api.events.v1.event_pb2 import AiChanged, AiState, Event
from frontdesk.cli.chats import describe


def test_how_far_the_ai_is() -> None:
    """AI-20: who works on an answer, and why there is none; `offline` is named."""
    lines = []
    for changed in (
        AiChanged(state=AiState.AI_STATE_PROCESSING),
        AiChanged(state=AiState.AI_STATE_FAILED, reason="low_confidence", provider="offline", model="bm25"),
    ):
        line = describe(Event(account_id="acc1", occurred_at_ms=0, ai=changed))
        assert line is not None
        lines.append(line.plain)
    assert lines == [
        "00:00:00 acc1           … AI processing",
        "00:00:00 acc1           … AI failed by offline bm25 (low_confidence)",
    ]
