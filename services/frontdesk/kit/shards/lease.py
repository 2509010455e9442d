"""The two clocks of a lease, without I/O. Times are seconds of a monotonic clock of the one who looks.

The owner may use a lease until `asked + ttl - margin`, where `asked` is the time before it sent the renewal.
An observer may take a lease whose revision it has not seen change for `ttl` while it was connected. It saw
the renewal no earlier than the owner asked for it, so the owner's time is over at least `margin` before.

"Connected" is proven, not assumed: by answers of the server. A longer gap between two proofs (a broken or
hanging connection, a hanging server, this process stopped) is time in which nobody may have been able to
renew, so all clocks start again after it. An owner that comes back after an outage finds its lease untouched.
"""

from __future__ import annotations

import math


def deadline(asked: float, ttl: float, margin: float) -> float:
    """Until when the owner may use the lease whose write it sent out at `asked`."""
    return asked + ttl - margin


class ObserverClocks:
    """For how long each key has not changed, counting only time in which the observer was connected."""

    def __init__(self, ttl: float, gap: float, now: float) -> None:
        self._ttl = ttl
        self._gap = gap
        self._start = now
        self._contact = -math.inf
        self._changed: dict[str, float] = {}

    def contact(self, now: float) -> None:
        """The server answered; after a gap in which it did not, all clocks start again."""
        if now - self._contact > self._gap:
            self.restart(now)
        self._contact = now

    def restart(self, now: float) -> None:
        """Start all clocks again."""
        self._start = now

    def changed(self, key: str, now: float) -> None:
        """The revision of `key` is another one than before."""
        self._changed[key] = now

    def forget(self, key: str) -> None:
        """`key` is no more."""
        self._changed.pop(key, None)

    def since(self, key: str) -> float:
        """From when on the clock of `key` runs."""
        return max(self._changed.get(key, self._start), self._start)

    def connected(self, now: float) -> bool:
        """Whether the last proof of a connection is young enough to judge anything."""
        return now - self._contact <= self._gap

    def expired(self, key: str, now: float) -> bool:
        """Whether `key` stood unchanged for `ttl` while this observer was connected."""
        return self.connected(now) and now - self.since(key) >= self._ttl
