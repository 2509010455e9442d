"""The breaker's arrows, as breaker.py draws them; times are arguments."""

from __future__ import annotations

import pytest

from frontdesk.ai_proxy.breaker import Breaker, BreakerSettings, State

SETTINGS = BreakerSettings(failures=3, cool_down_s=30, cool_down_most_s=100, hold_from_s=2)


def opened(now: float = 0.0) -> Breaker:
    breaker = Breaker(SETTINGS)
    for _ in range(3):
        breaker.failed(breaker.admit(now), now)
    return breaker


def test_failures_in_a_row_open_it() -> None:
    """A success between them begins the count anew."""
    breaker = Breaker(SETTINGS)
    for _ in range(2):
        breaker.failed(breaker.admit(0), 0)
    breaker.succeeded(breaker.admit(0))
    for _ in range(2):
        breaker.failed(breaker.admit(0), 0)
        assert breaker.state(0) is State.CLOSED
    breaker.failed(breaker.admit(0), 0)
    assert (breaker.state(0), breaker.admit(0), breaker.open_for(0)) == (State.OPEN, 0, 30)


def test_after_the_cool_down_one_call_tries() -> None:
    """Open admits nobody; half-open admits one, and the others go elsewhere."""
    breaker = opened()
    assert not breaker.would_admit(29.9)
    assert breaker.state(30) is State.HALF_OPEN
    assert breaker.admit(30)
    assert not breaker.would_admit(30)
    assert breaker.admit(31) == 0


def test_a_trial_that_succeeds_closes_it() -> None:
    breaker = opened()
    breaker.succeeded(breaker.admit(30))
    assert breaker.state(30) is State.CLOSED
    for _ in range(2):
        breaker.failed(breaker.admit(31), 31)
    assert breaker.state(31) is State.CLOSED


def test_a_trial_closes_it_with_its_first_piece() -> None:
    """A long answer does not keep all other calls away; how it ends still counts."""
    breaker = opened()
    ticket = breaker.began(breaker.admit(30))
    assert breaker.state(30) is State.CLOSED
    breaker.failed(ticket, 40)
    for _ in range(2):
        breaker.failed(breaker.admit(41), 41)
    assert breaker.state(41) is State.OPEN


def test_a_trial_that_fails_opens_it_for_longer_up_to_a_most() -> None:
    breaker = opened()
    waits = []
    now = 30.0
    for _ in range(3):
        breaker.failed(breaker.admit(now), now)
        waits.append(breaker.open_for(now))
        now += breaker.open_for(now)
    assert waits == [60, 100, 100]
    breaker.succeeded(breaker.admit(now))
    for _ in range(3):
        breaker.failed(breaker.admit(now), now)
    assert breaker.open_for(now) == 30


def test_a_trial_that_says_nothing_leaves_it_to_the_next_call() -> None:
    breaker = opened()
    breaker.dropped(breaker.admit(30))
    assert breaker.state(30) is State.HALF_OPEN
    assert breaker.admit(30)


def test_late_verdicts_of_earlier_calls_count_for_nothing() -> None:
    """Neither does a success close an open breaker, nor a failure end somebody else's trial."""
    breaker = Breaker(SETTINGS)
    early = [breaker.admit(0) for _ in range(6)]
    for ticket in early[:3]:
        breaker.failed(ticket, 0)
    breaker.succeeded(early[3])
    assert breaker.state(1) is State.OPEN
    trial = breaker.admit(30)
    breaker.failed(early[4], 30)
    breaker.dropped(early[5])
    assert not breaker.would_admit(30)
    breaker.succeeded(trial)
    assert breaker.state(30) is State.CLOSED


def test_a_wrong_configuration_opens_it_at_once() -> None:
    breaker = Breaker(SETTINGS)
    breaker.misconfigured(breaker.admit(0), 0)
    assert breaker.open_for(0) == 30


@pytest.mark.parametrize(("retry_after_s", "open_for"), [(1.9, 0), (2, 2), (60, 60), (3600, 100)], ids=str)
def test_a_long_retry_after_opens_it_for_so_long(retry_after_s: float, open_for: float) -> None:
    """A short one is between the provider and the call that got it; none is believed for ever."""
    breaker = Breaker(SETTINGS)
    for _ in range(9):
        breaker.limited(breaker.admit(0), 0, retry_after_s)
    assert breaker.open_for(0) == open_for


def test_a_limit_without_a_time_is_a_failure() -> None:
    breaker = Breaker(SETTINGS)
    for _ in range(3):
        breaker.limited(breaker.admit(0), 0, None)
    assert breaker.open_for(0) == 30


def test_a_trial_that_is_limited_shortly_leaves_it_to_the_next_call() -> None:
    breaker = opened()
    breaker.limited(breaker.admit(30), 30, 0.5)
    assert breaker.admit(30)
