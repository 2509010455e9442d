"""Ids handled lately."""

from __future__ import annotations

from frontdesk.connection_gateway.accounts.intake import SEEN_MS, Seen
from frontdesk.kit.clock import ManualClock


async def test_forgets_by_age_and_by_number() -> None:
    """X-35: five minutes and a bounded number, the oldest first; a repeat within is known."""
    clock = ManualClock()
    seen = Seen(clock, limit=2)
    seen.add("a")
    await clock.advance(SEEN_MS / 1000 - 1)
    assert "a" in seen
    seen.add("b")
    seen.add("c")
    assert ("a" in seen, "b" in seen, "c" in seen) == (False, True, True)
    await clock.advance(SEEN_MS / 1000)
    assert "c" not in seen
    seen.add("d")
    assert len(seen._ids) == 1
