"""Seconds online, by the hour."""

from __future__ import annotations

from frontdesk.connection_gateway.accounts.uptime import HOUR_MS, Uptime

START = 1_000 * HOUR_MS


def seconds(uptime: Uptime) -> dict[int, tuple[float, float]]:
    return {row["hour_ms"]: (row["connected_seconds"], row["enabled_seconds"]) for row in uptime.take()}


def test_time_is_split_at_the_hour() -> None:
    """X-34: a span over the full hour counts to both hours."""
    uptime = Uptime("a", "org", START + HOUR_MS - 10_000)
    uptime.account_for(START + HOUR_MS + 5_000, connected=True, enabled=True)
    assert seconds(uptime) == {START: (10.0, 10.0), START + HOUR_MS: (5.0, 5.0)}
    assert not uptime.take()


def test_only_enabled_time_counts() -> None:
    """A stopped account is neither up nor down; an enabled one that is not connected is down."""
    uptime = Uptime("a", "org", START)
    uptime.account_for(START + 1_000, connected=False, enabled=True)
    uptime.account_for(START + 3_000, connected=False, enabled=False)
    uptime.account_for(START + 7_000, connected=True, enabled=True)
    uptime.account_for(START + 6_000, connected=True, enabled=True)  # a clock that was set back
    assert seconds(uptime) == {START: (4.0, 5.0)}
