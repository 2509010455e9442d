"""How an ended or refused connection is judged: when to try again, and when only a person can help.

The waits are the rows of X-06 (CG-14 to CG-18); which errors end in FAILED is CG-19 to CG-23 and X-07.
"""

from __future__ import annotations

import dataclasses

from frontdesk.connection_gateway.platforms.errors import ErrorKind, LoginGone, PlatformError
from frontdesk.connection_gateway.platforms.model import CloseCause, Closed
from frontdesk.kit import backoff

KICK_WINDOW_S = 600.0


class Retry:
    """Counts the failures of one account and says how long to wait.

    `strategy` lets the waits of a row grow evenly or double each time, `jitter` spreads them.
    """

    __slots__ = (
        "_jitter",
        "_kicks",
        "_max_authentications",
        "_max_kicks",
        "_strategy",
        "authentications",
        "failures",
    )

    def __init__(
        self,
        max_authentications: int,
        max_kicks: int,
        jitter: float,
        strategy: backoff.Strategy = "linear",
    ) -> None:
        self._strategy = strategy
        self._max_authentications = max_authentications
        self._max_kicks = max_kicks
        self._jitter = jitter
        self._kicks: tuple[float, ...] = ()
        self.failures = 0
        self.authentications = 0

    def succeeded(self) -> None:
        """The session is stable again: waits start from the beginning."""
        self.failures = self.authentications = 0

    def delay(self, closed: Closed) -> float:
        """Count one more failure; seconds until the next attempt."""
        self.failures += 1
        rule = dataclasses.replace(rule_of(closed), strategy=self._strategy, jitter=self._jitter)
        return rule.delay(self.failures)

    def hopeless(self, closed: Closed, now: float) -> str:
        """Why only a person can help now, or an empty string. `now` is monotonic seconds."""
        error = closed.error
        if error is not None and error.kind is ErrorKind.RISK_CONTROL:
            return "the platform asks for a person: open the page, pass its check, paste the new cookies"
        if isinstance(error, LoginGone):
            return "the login is gone: log in at the platform and paste new cookies"
        if closed.cause is CloseCause.KICKED:
            self._kicks = (*(at for at in self._kicks if now - at < KICK_WINDOW_S), now)
            if len(self._kicks) >= self._max_kicks:
                return f"another login took the account over {len(self._kicks)} times in 10 minutes"
        if error is not None and error.kind is ErrorKind.AUTHENTICATION:
            self.authentications += 1
            if self.authentications >= self._max_authentications:
                return f"the platform refused the login {self.authentications} times: paste new cookies"
        return ""


def rule_of(closed: Closed) -> backoff.Backoff:
    """Which row of X-06 a failure waits by."""
    if closed.cause is CloseCause.PEER and closed.code:
        return backoff.ACCOUNT_CLOSED
    if closed.error is not None and closed.error.kind is ErrorKind.NETWORK:
        return backoff.ACCOUNT_NETWORK
    return backoff.ACCOUNT_OTHER


def reason_of(closed: Closed) -> str:
    """The end of a connection in words."""
    return str(closed.error) if closed.error is not None else closed.cause.value


def code_of(closed: Closed) -> str:
    """The same as a reason code of session events."""
    if closed.cause is CloseCause.KICKED:
        return "kicked"
    if isinstance(closed.error, LoginGone):
        return "login_gone"
    return closed.error.kind.value if closed.error is not None else closed.cause.value


def refused(error: PlatformError) -> Closed:
    """An attempt that never became a connection, as the end of one."""
    return Closed(CloseCause.REJECTED, 0, error)
