"""Gauges that are read at an interval: never by a scrape, and gone when they can't be read."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from frontdesk.kit.clock import ManualClock
from frontdesk.kit.config import TelemetrySettings
from frontdesk.kit.errors import Unavailable
from frontdesk.kit.telemetry.readings import Gauge, Readings, Sample
from support.metrics import Metrics

ROOMS = Gauge("test.rooms", "{room}", "Rooms.")
GUESTS = Gauge("test.guests", "{guest}", "Guests.")


class Hotel:
    """What is read: how often it was asked, and what it says."""

    def __init__(self) -> None:
        self.asked = 0
        self.guests = 1
        self.error: Exception | None = None

    async def read(self) -> list[Sample]:
        self.asked += 1
        if self.error is not None:
            raise self.error
        return [Sample(ROOMS, 7), Sample(GUESTS, self.guests, {"floor": "2"})]


@asynccontextmanager
async def running(hotel: Hotel, metrics: Metrics, clock: ManualClock) -> AsyncIterator[Readings]:
    readings = Readings(10, clock, metrics.meter)
    readings.add("hotel", [ROOMS, GUESTS], hotel.read)
    task = asyncio.create_task(readings.run())
    await clock.advance(0)
    yield readings
    readings.stop()
    await clock.advance(10)
    await task


async def test_a_scrape_reads_nothing() -> None:
    """However often Prometheus comes, what is measured is asked once an interval."""
    hotel, metrics, clock = Hotel(), Metrics(), ManualClock()
    async with running(hotel, metrics, clock):
        for _ in range(50):
            assert metrics.value("test_rooms") == 7
        assert hotel.asked == 1
        hotel.guests = 5
        assert metrics.value("test_guests", floor="2") == 1
        await clock.advance(10)
        assert metrics.value("test_guests", floor="2") == 5
        assert hotel.asked == 2
    await clock.advance(100)
    assert hotel.asked == 2


@pytest.mark.parametrize("error", [Unavailable("closed"), RuntimeError("a bug")])
async def test_what_can_not_be_read_has_no_value(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    """Its last values are not shown on; its age grows; the log says it once, and when it is over."""
    caplog.set_level(logging.INFO)
    hotel, metrics, clock = Hotel(), Metrics(), ManualClock()
    async with running(hotel, metrics, clock):
        hotel.error = error
        await clock.advance(45)
        assert metrics.value("test_rooms") is None
        assert metrics.value("frontdesk_reading_age_seconds", frontdesk_reading="hotel") == 45
        assert [r.getMessage() for r in caplog.records] == [f"hotel can't be read for the metrics: {error}"]
        hotel.error = None
        await clock.advance(10)
        assert metrics.value("test_rooms") == 7
        assert metrics.value("frontdesk_reading_age_seconds", frontdesk_reading="hotel") == 5
        assert caplog.records[-1].getMessage() == "hotel is read again for the metrics"


def test_nothing_is_read_where_nobody_looks() -> None:
    """Neither a port nor an exporter, or the SDK switched off: a service asks for nothing."""
    assert not TelemetrySettings().measures
    assert TelemetrySettings(metrics_port=0).measures
    assert TelemetrySettings(otel_endpoint="http://collector:4318").measures
    assert not TelemetrySettings(otel_endpoint="http://c:4318", otel_metrics_exporter="none").measures
    assert not TelemetrySettings(metrics_port=0, otel_sdk_disabled=True).measures
