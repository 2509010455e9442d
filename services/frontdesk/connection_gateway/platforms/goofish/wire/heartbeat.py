"""When to send a heartbeat, and when a link is dead (A9, CG-31 to CG-36).

Two signs of death, because a link dies in two ways: nothing at all arrives for `timeout` seconds (half-
open), or frames arrive but `max_missed` heartbeats in a row get no answer of their own (the far side
forgot the session). Any frame proves that the link is not half-open; only the answer to a heartbeat's
own mid, or a heartbeat of the peer, proves the session (taking any `code 200` for an answer is a known
trap of A9).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class HeartbeatSettings:
    """Seconds between heartbeats, seconds of silence and unanswered heartbeats in a row that mean death."""

    interval: float = 15.0
    timeout: float = 30.0
    max_missed: int = 3


class Heartbeat:
    """The judge of one link. All times are monotonic seconds given by the caller."""

    __slots__ = ("_heard_at", "_next_at", "_settings", "missed")

    def __init__(self, settings: HeartbeatSettings, now: float) -> None:
        self._settings = settings
        self._heard_at = now
        self._next_at = now + settings.interval
        self.missed = 0

    def heard(self, now: float) -> None:
        """A frame of any kind arrived."""
        self._heard_at = now

    def confirmed(self) -> None:
        """A heartbeat was answered, or the peer sent one."""
        self.missed = 0

    def excuse(self, now: float) -> None:
        """We were not reading, so nothing that is missing is the peer's fault."""
        self._heard_at = now
        self.missed = 0

    def due(self, now: float) -> bool:
        """Whether a heartbeat is to be sent now."""
        return now >= self._next_at

    def sent(self, now: float) -> None:
        """A heartbeat was sent; it counts as missed until `confirmed`."""
        self._next_at = now + self._settings.interval
        self.missed += 1

    def dead(self, now: float) -> str:
        """Why the link is dead, or an empty string."""
        silence = now - self._heard_at
        if silence >= self._settings.timeout:
            return f"nothing arrived for {silence:.0f} s"
        if self.missed >= self._settings.max_missed and self.due(now):
            return f"{self.missed} heartbeats without an answer"
        return ""

    def wait(self, now: float) -> float:
        """Seconds until the next look; never zero, so that a caller cannot spin."""
        return max(0.001, min(self._next_at, self._heard_at + self._settings.timeout) - now)
