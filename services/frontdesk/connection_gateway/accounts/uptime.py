"""The service level of an account: seconds CONNECTED of the seconds enabled, by the hour (X-34)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

HOUR_MS = 3_600_000


class Uptime:
    """Adds up an account's seconds until they are stored."""

    __slots__ = ("_account_id", "_hours", "_organization_id", "_until_ms")

    def __init__(self, account_id: str, organization_id: str, since_ms: int) -> None:
        self._account_id = account_id
        self._organization_id = organization_id
        self._until_ms = since_ms
        self._hours: dict[int, list[float]] = {}

    def account_for(self, now_ms: int, *, connected: bool, enabled: bool) -> None:
        """Count the time since the last call as `connected` and `enabled`; split at each full hour."""
        while enabled and self._until_ms < now_ms:
            hour = self._until_ms - self._until_ms % HOUR_MS
            end = min(now_ms, hour + HOUR_MS)
            seconds = (end - self._until_ms) / 1000
            sums = self._hours.setdefault(hour, [0.0, 0.0])
            sums[0] += seconds if connected else 0.0
            sums[1] += seconds
            self._until_ms = end
        self._until_ms = max(self._until_ms, now_ms)

    def take(self) -> list[Mapping[str, Any]]:
        """Rows of the table `uptime` to add, and forget them."""
        hours, self._hours = self._hours, {}
        return [
            {
                "account_id": self._account_id,
                "hour_ms": hour,
                "organization_id": self._organization_id,
                "connected_seconds": connected,
                "enabled_seconds": enabled,
            }
            for hour, (connected, enabled) in hours.items()
        ]
