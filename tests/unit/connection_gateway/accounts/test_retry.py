"""When an ended connection is tried again, and when only a person can help."""

from __future__ import annotations

import pytest

from frontdesk.connection_gateway.accounts.retry import KICK_WINDOW_S, Retry, refused
from frontdesk.connection_gateway.platforms.errors import ErrorKind, PlatformError
from frontdesk.connection_gateway.platforms.model import CloseCause, Closed

DROPPED = Closed(CloseCause.PEER, 1006, PlatformError(ErrorKind.NETWORK, "closed with 1006"))
UNREACHED = refused(PlatformError(ErrorKind.NETWORK, "ConnectionRefusedError while connecting"))
REFUSED = refused(PlatformError(ErrorKind.CONNECTION, "upgrade refused with 400"))
KICKED = Closed(CloseCause.KICKED, 1006, PlatformError(ErrorKind.CONNECTION, "kicked out"))
RISK = refused(PlatformError(ErrorKind.RISK_CONTROL, "FAIL_SYS_USER_VALIDATE", url="https://x/punish"))
LOGIN = refused(PlatformError(ErrorKind.AUTHENTICATION, "token invalid"))


@pytest.fixture
def retry() -> Retry:
    return Retry(max_authentications=10, max_kicks=3, jitter=0)


@pytest.mark.parametrize(
    ("closed", "delays"),
    [
        (DROPPED, [3, 6, 9, 12, 15, 15]),
        (UNREACHED, [10, 20, 30, 40, 50, 60, 60]),
        (REFUSED, [5, 10, 15, 20, 25, 30, 30]),
    ],
)
def test_the_rows_of_the_waits(retry: Retry, closed: Closed, delays: list[float]) -> None:
    """X-06: each kind of failure waits by its own row (CG-14, CG-15, CG-16)."""
    assert [retry.delay(closed) for _ in delays] == delays


def test_the_waits_may_double() -> None:
    """CG-18: the same first waits and caps, doubled each time."""
    retry = Retry(10, 3, jitter=0, strategy="exponential")
    assert [retry.delay(UNREACHED) for _ in range(5)] == [10, 20, 40, 60, 60]


def test_a_success_begins_the_waits_again(retry: Retry) -> None:
    """CG-23: after a stable connection the first failure waits as the first did."""
    retry.delay(DROPPED)
    retry.delay(DROPPED)
    retry.succeeded()
    assert retry.delay(DROPPED) == 3


def test_an_outage_never_needs_a_person(retry: Retry) -> None:
    """X-07: the network may be away for as long as it likes."""
    assert not any(retry.hopeless(UNREACHED, now) or retry.hopeless(DROPPED, now) for now in range(1000))


def test_risk_control_needs_a_person_at_once(retry: Retry) -> None:
    """Risk control is never tried again."""
    assert retry.hopeless(RISK, 0)


def test_refused_logins_need_a_person_at_the_tenth(retry: Retry) -> None:
    """CG-20: the login is renewed and tried, up to the limit; a success starts the count again."""
    assert not any(retry.hopeless(LOGIN, 0) for _ in range(9))
    retry.succeeded()
    outcomes = [bool(retry.hopeless(LOGIN, 0)) for _ in range(10)]
    assert outcomes == [False] * 9 + [True]


def test_three_kicks_in_ten_minutes_need_a_person(retry: Retry) -> None:
    """Two logins that take the account from each other stop; kicks that are far apart do not count."""
    assert not retry.hopeless(KICKED, 0)
    assert not retry.hopeless(KICKED, KICK_WINDOW_S + 1)
    assert not retry.hopeless(KICKED, KICK_WINDOW_S + 2)
    assert retry.hopeless(KICKED, KICK_WINDOW_S + 3)


def test_jitter_stays_near_the_row() -> None:
    """A spread of 20 % keeps every wait within its row's cap."""
    spread = Retry(10, 3, jitter=0.2)
    assert all(2.4 <= Retry(10, 3, 0.2).delay(DROPPED) <= 3.6 for _ in range(100))
    assert all(spread.delay(DROPPED) <= 15 for _ in range(50))
