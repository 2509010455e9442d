"""When a provider is not asked for a while.

    closed ── `failures` in a row, a wrong configuration, a long Retry-After ──► open
    open ── its time is over ──► half-open: one call tries it, all others go elsewhere
    half-open ── the trial got something ──► closed
    half-open ── the trial failed ──► open, twice as long as before up to a most
    half-open ── the trial said nothing about it (its caller left) ──► half-open, the next call tries it

A call asks `admit` before each try and gives the ticket back with exactly one verdict. A verdict of a call
that began before the last change counts for nothing: a slow failure of yesterday closes no door of today.
Nothing here waits or knows a clock; `now` is monotonic seconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    """Whether the provider is asked; the values are those of the protos."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


@dataclass(frozen=True, slots=True)
class BreakerSettings:
    """`cool_down_s` doubles with each trial that fails, up to `cool_down_most_s`, which is also the longest
    that a provider's Retry-After is believed. A Retry-After from `hold_from_s` on shuts out every call; a
    shorter one is between the provider and the call that got it."""

    failures: int = 5
    cool_down_s: float = 30.0
    cool_down_most_s: float = 300.0
    hold_from_s: float = 2.0


class Breaker:
    """The state of one provider on this replica."""

    __slots__ = ("_cool_down_s", "_epoch", "_failures", "_open_until", "_settings", "_state", "_trying")

    def __init__(self, settings: BreakerSettings) -> None:
        self._settings = settings
        self._state = State.CLOSED
        self._epoch = 1
        self._failures = 0
        self._cool_down_s = settings.cool_down_s
        self._open_until = 0.0
        self._trying = False

    def state(self, now: float) -> State:
        """The state; an open one whose time is over is half-open."""
        if self._state is State.OPEN and now >= self._open_until:
            return State.HALF_OPEN
        return self._state

    def open_for(self, now: float) -> float:
        """Seconds until it may be tried; 0 when it may now."""
        return max(0.0, self._open_until - now) if self._state is State.OPEN else 0.0

    def would_admit(self, now: float) -> bool:
        """Whether `admit` would give a ticket."""
        return self._state is State.CLOSED or (now >= self._open_until and not self._trying)

    def admit(self, now: float) -> int:
        """A ticket for one try; 0 when the provider is not asked now."""
        if self._state is not State.CLOSED:
            if not self.would_admit(now):
                return 0
            if self._state is State.OPEN:
                self._change(State.HALF_OPEN)
            self._trying = True
        return self._epoch

    def began(self, ticket: int) -> int:
        """The first piece of an answer came: a trial has succeeded. Returns the ticket for the verdict."""
        if ticket == self._epoch and self._state is State.HALF_OPEN:
            self._close()
            return self._epoch
        return ticket

    def succeeded(self, ticket: int) -> None:
        """The answer was whole, or the question was wrong: the provider is well."""
        if ticket == self._epoch:
            if self._state is State.HALF_OPEN:
                self._close()
            self._failures = 0

    def failed(self, ticket: int, now: float) -> None:
        """The provider failed."""
        if ticket != self._epoch:
            return
        self._failures += 1
        if self._state is State.HALF_OPEN or self._failures >= self._settings.failures:
            self._trip(now)

    def misconfigured(self, ticket: int, now: float) -> None:
        """No call can succeed until a person has mended it."""
        if ticket == self._epoch:
            self._trip(now)

    def limited(self, ticket: int, now: float, retry_after_s: float | None) -> None:
        """The provider refuses for a while. Without a time it is a failure as any other; a short one says
        nothing about other calls."""
        if retry_after_s is None:
            self.failed(ticket, now)
        elif retry_after_s < self._settings.hold_from_s:
            self.dropped(ticket)
        elif ticket == self._epoch:
            self._open(now + min(retry_after_s, self._settings.cool_down_most_s))

    def dropped(self, ticket: int) -> None:
        """The call ended without saying anything about the provider."""
        if ticket == self._epoch:
            self._trying = False

    def _trip(self, now: float) -> None:
        self._open(now + self._cool_down_s)
        self._cool_down_s = min(2 * self._cool_down_s, self._settings.cool_down_most_s)

    def _open(self, until: float) -> None:
        self._open_until = until
        self._change(State.OPEN)

    def _close(self) -> None:
        self._cool_down_s = self._settings.cool_down_s
        self._failures = 0
        self._change(State.CLOSED)

    def _change(self, state: State) -> None:
        self._state = state
        self._trying = False
        self._epoch += 1
