"""A bounded cache whose values grow old."""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, TypeVar

from frontdesk.kit.clock import Clock

V = TypeVar("V")


class ExpiringCache(Generic[V]):
    """At most `limit` values, each for `seconds`; the least recently used goes first."""

    def __init__(self, limit: int, seconds: float, clock: Clock) -> None:
        self._limit = limit
        self._seconds = seconds
        self._clock = clock
        self._values: OrderedDict[str, tuple[float, V]] = OrderedDict()

    def get(self, key: str) -> V | None:
        found = self._values.get(key)
        if found is None or found[0] < self._clock.monotonic():
            return None
        self._values.move_to_end(key)
        return found[1]

    def put(self, key: str, value: V) -> None:
        self._values[key] = (self._clock.monotonic() + self._seconds, value)
        self._values.move_to_end(key)
        while len(self._values) > self._limit:
            self._values.popitem(last=False)
