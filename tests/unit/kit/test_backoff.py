"""kit/backoff.py: the formula rows of X-06, caps and jitter."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from frontdesk.kit import backoff


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (backoff.ACCOUNT_CLOSED, {1: 3, 3: 9, 5: 15, 6: 15, 1000: 15}),
        (backoff.ACCOUNT_NETWORK, {1: 10, 3: 30, 5: 50, 6: 60, 7: 60}),
        (backoff.ACCOUNT_OTHER, {1: 5, 3: 15, 5: 25, 6: 30, 7: 30}),
        (backoff.AUDIO, {1: 2, 2: 4, 14: 28, 15: 30, 16: 30}),
        (backoff.BROWSER, {1: 2, 2: 4, 3: 8, 4: 16, 5: 30, 5000: 30}),
    ],
)
def test_formula_rows_are_exact(rule: backoff.Backoff, expected: dict[int, float]) -> None:
    """Each row of X-06 gives exactly the delays written there."""
    assert {n: rule.delay(n) for n in expected} == expected


@given(st.integers(1, 10_000), st.floats(0, 0.999999))
def test_jitter_stays_within_its_fraction_and_the_cap(failures: int, drawn: float) -> None:
    """±20 % jitter never leaves ±20 % of the plain delay and never passes the cap."""
    plain = backoff.exponential(2, 30).delay(failures)
    delay = backoff.exponential(2, 30, jitter=0.2, rng=lambda: drawn).delay(failures)
    assert plain * 0.8 <= delay <= min(plain * 1.2, 30)


def test_jitter_uses_the_given_random_numbers() -> None:
    """The lowest random number gives the shortest delay, the middle one the plain delay."""
    assert backoff.linear(10, 60, jitter=0.2, rng=lambda: 0.0).delay(2) == 16
    assert backoff.linear(10, 60, jitter=0.2, rng=lambda: 0.5).delay(2) == 20


@pytest.mark.parametrize(("first", "cap", "jitter"), [(0, 10, 0), (11, 10, 0), (1, 10, 1), (1, 10, -0.1)])
def test_senseless_rules_are_refused(first: float, cap: float, jitter: float) -> None:
    """A rule that could not wait, or could wait less than nothing, is a ValueError."""
    with pytest.raises(ValueError, match=r"back-off|jitter"):
        backoff.linear(first, cap, jitter=jitter)


def test_failures_count_from_one() -> None:
    """Asking for the delay after no failure is a ValueError."""
    with pytest.raises(ValueError, match="from 1"):
        backoff.AUDIO.delay(0)
