"""The one back-off: how long to wait before attempt n is repeated.

`linear(step, cap)` waits min(step · n, cap), `exponential(base, cap)` waits min(base · 2^(n-1), cap) seconds,
where n counts failures in a row from 1. The rows of requirement X-06 stand below as constants.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Strategy = Literal["linear", "exponential"]


@dataclass(frozen=True, slots=True)
class Backoff:
    """A rule of waiting; make one with `linear` or `exponential`.

    `jitter` is a fraction: 0.2 spreads each delay evenly over ±20 %, but never beyond the cap.
    `rng` returns numbers in [0, 1).
    """

    strategy: Strategy
    first_s: float
    cap_s: float
    jitter: float = 0.0
    rng: Callable[[], float] = random.random

    def __post_init__(self) -> None:
        if not 0 < self.first_s <= self.cap_s:
            raise ValueError("a back-off needs 0 < first delay <= cap")
        if not 0 <= self.jitter < 1:
            raise ValueError("jitter is a fraction from 0 to below 1")

    def delay(self, failures: int) -> float:
        """Seconds to wait after `failures` failures in a row; raises ValueError below 1."""
        if failures < 1:
            raise ValueError("failures count from 1")
        if self.strategy == "linear":
            plain = self.first_s * failures
        else:
            # 2^64 times any sane first delay is beyond any cap, and a float can still hold it.
            plain = self.first_s * 2.0 ** min(failures - 1, 64)
        plain = min(plain, self.cap_s)
        if not self.jitter:
            return plain
        return min(plain * (1 + self.jitter * (2 * self.rng() - 1)), self.cap_s)


def linear(
    step_s: float, cap_s: float, *, jitter: float = 0.0, rng: Callable[[], float] = random.random
) -> Backoff:
    """min(step · n, cap) seconds."""
    return Backoff("linear", step_s, cap_s, jitter, rng)


def exponential(
    base_s: float, cap_s: float, *, jitter: float = 0.0, rng: Callable[[], float] = random.random
) -> Backoff:
    """min(base · 2^(n-1), cap) seconds."""
    return Backoff("exponential", base_s, cap_s, jitter, rng)


# The formula rows of X-06. Accounts: the socket closed unexpectedly (CG-14), the network failed (CG-15),
# anything else (CG-16). Then the audio link and the browser.
ACCOUNT_CLOSED = linear(3, 15)
ACCOUNT_NETWORK = linear(10, 60)
ACCOUNT_OTHER = linear(5, 30)
AUDIO = linear(2, 30)
BROWSER = exponential(2, 30)
