"""Waiting for what somebody else makes first: tried again, told once, never for what waiting does not mend.

A service that starts before its schema, its streams or NATS itself is there is not broken, and a restart
would bring it no nearer. An attempt that raises Unavailable is made again; any other error, such as a wrong
setting or a right that is missing, goes on to the caller at once.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from frontdesk.kit.clock import Clock
from frontdesk.kit.errors import DeadlineExceeded, Unavailable

RETRY_S = 1.0

T = TypeVar("T")


class Patience:
    """Tries again while something is not there yet. `say` hears what is waited for: each reason once, and
    again after `again_s` seconds of it.

    With `seconds` there is one deadline for all that is waited for, which the setting `setting` names;
    without, whoever started the process bounds it.
    """

    def __init__(
        self,
        say: Callable[[str], None],
        clock: Clock,
        *,
        seconds: float | None = None,
        setting: str = "",
        again_s: float = float("inf"),
    ) -> None:
        self._say = say
        self._clock = clock
        self._seconds = seconds
        self._setting = setting
        self._again_s = again_s
        self._begun = clock.monotonic()
        self._waits_for: str | None = None

    @property
    def waits_for(self) -> str | None:
        """What is waited for now and why; None while nothing is."""
        return self._waits_for

    async def until(self, what: str, attempt: Callable[[], Awaitable[T]]) -> T:
        """The outcome of `attempt`; raises DeadlineExceeded, or whatever waiting does not mend."""
        told: dict[str, float] = {}
        begun = self._clock.monotonic()
        try:
            while True:
                try:
                    outcome = await attempt()
                except Unavailable as error:
                    self._tell(what, error, told)
                else:
                    if told:
                        self._say(f"{what}: there after {self._clock.monotonic() - begun:.1f} s")
                    return outcome
                await self._clock.sleep(RETRY_S)
        finally:
            self._waits_for = None

    def _tell(self, what: str, error: Unavailable, told: dict[str, float]) -> None:
        now = self._clock.monotonic()
        self._waits_for = f"waiting for {what}: {error.message}"
        if now - told.get(self._waits_for, float("-inf")) >= self._again_s or self._waits_for not in told:
            self._say(self._waits_for)
            told[self._waits_for] = now
        if self._seconds is not None and now - self._begun >= self._seconds:
            raise DeadlineExceeded(
                f"{what} did not come within {self._seconds:g} s ({self._setting}): {error.message}"
            ) from error
