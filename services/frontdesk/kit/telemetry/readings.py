"""Gauges of what lies in NATS, a database or memory: read by the service at an interval, never by a scrape.

    readings = Readings(settings.readings_seconds, clock)
    readings.add("database", gauges, read)     # `read` asks once and returns all samples
    spawn("readings", readings.run())

A scrape, which comes on a thread of its own and as often as anybody likes, gets the samples of the last
reading. One that failed leaves no samples behind, for figures that are no longer true are worse than none;
its age says since when nothing is known.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from opentelemetry import metrics
from opentelemetry.metrics import CallbackOptions, Observation

from frontdesk.kit.clock import Clock
from frontdesk.kit.errors import FrontdeskError
from frontdesk.kit.telemetry import names

log = logging.getLogger(__name__)

# Of the interval. A reading that takes longer counts as failed.
_PATIENCE = 0.8


@dataclass(frozen=True, slots=True)
class Gauge:
    """A metric, as OpenTelemetry describes it."""

    name: str
    unit: str
    description: str


@dataclass(frozen=True, slots=True)
class Sample:
    """A value of a gauge, with its attributes."""

    gauge: Gauge
    value: float
    attributes: Mapping[str, str] = field(default_factory=dict)


Read = Callable[[], Awaitable[Iterable[Sample]]]

AGE = Gauge(names.READING_AGE, "s", "Time since what waits was last read.")


class Readings:
    """Reads every `every_s` seconds what was added; `meter` is the process's own unless one is given."""

    def __init__(self, every_s: float, clock: Clock, meter: metrics.Meter | None = None) -> None:
        self._every_s = every_s
        self._clock = clock
        self._meter = meter or metrics.get_meter(names.READINGS_SCOPE)
        self._sources: dict[str, Read] = {}
        self._latest: dict[str, Sequence[Sample]] = {}
        self._read_at: dict[str, float] = {}
        self._failing: set[str] = set()
        self._stopping = asyncio.Event()
        self._make(AGE, self._ages)

    def add(self, what: str, gauges: Iterable[Gauge], read: Read) -> None:
        """Have `read` called once an interval for the samples of `gauges`; before `run`. Two sources may not
        have the same gauge."""
        self._sources[what] = read
        self._read_at[what] = self._clock.monotonic()
        for gauge in gauges:
            self._make(gauge, self._samples(what, gauge))

    async def run(self) -> None:
        """Read until `stop`."""
        while not self._stopping.is_set():
            await self.read()
            await self._clock.sleep(self._every_s)

    async def read(self) -> None:
        """Read everything once."""
        await asyncio.gather(*(self._read(what) for what in self._sources))

    def stop(self) -> None:
        """Begin no other reading: what it would ask is about to be closed."""
        self._stopping.set()

    async def _read(self, what: str) -> None:
        try:
            async with asyncio.timeout(self._every_s * _PATIENCE):
                samples = tuple(await self._sources[what]())
        except (FrontdeskError, TimeoutError) as error:
            self._fail(what, error)
        except Exception as error:  # the boundary of a reading: no service ends over its metrics
            log.debug("a reading of %s failed", what, exc_info=True)
            self._fail(what, error)
        else:
            if what in self._failing:
                log.info("%s is read again for the metrics", what)
                self._failing.discard(what)
            self._latest[what] = samples
            self._read_at[what] = self._clock.monotonic()

    def _fail(self, what: str, error: Exception) -> None:
        self._latest.pop(what, None)
        if what not in self._failing and not self._stopping.is_set():
            self._failing.add(what)
            log.warning("%s can't be read for the metrics: %s", what, str(error) or type(error).__name__)

    def _make(self, gauge: Gauge, callback: Callable[[CallbackOptions], Iterable[Observation]]) -> None:
        self._meter.create_observable_gauge(
            gauge.name, [callback], unit=gauge.unit, description=gauge.description
        )

    def _samples(self, what: str, gauge: Gauge) -> Callable[[CallbackOptions], Iterable[Observation]]:
        def observe(_: CallbackOptions) -> Iterable[Observation]:
            latest = self._latest.get(what, ())
            return [Observation(one.value, one.attributes) for one in latest if one.gauge is gauge]

        return observe

    def _ages(self, _: CallbackOptions) -> Iterable[Observation]:
        now = self._clock.monotonic()
        return [
            Observation(now - read_at, {names.READING: what}) for what, read_at in list(self._read_at.items())
        ]
