"""What waits in NATS, as gauges: the same metrics from every service, each telling of what it may look at."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from nats.js import JetStreamContext

from frontdesk.kit.bus.lag import ConsumerLag, StreamLag, read_consumers, read_lag
from frontdesk.kit.bus.topology import ConsumerSpec
from frontdesk.kit.errors import Unavailable
from frontdesk.kit.telemetry import names
from frontdesk.kit.telemetry.readings import Gauge, Sample

PATIENCE_S = 5.0

MESSAGES = Gauge(names.STREAM_MESSAGES, "{message}", "Messages in a stream.")
SIZE = Gauge(names.STREAM_SIZE, "By", "Bytes of a stream.")
WAITING = Gauge(names.CONSUMER_WAITING, "{message}", "Messages that a consumer has not been given yet.")
IN_WORK = Gauge(names.CONSUMER_IN_WORK, "{message}", "Messages given to a consumer and not acknowledged.")
OF_CONSUMERS = (WAITING, IN_WORK)
OF_STREAMS = (MESSAGES, SIZE, *OF_CONSUMERS)


async def all_streams(js: JetStreamContext) -> list[Sample]:
    """Every stream with its durable consumers; raises Unavailable when one does not answer."""
    lags = await read_lag(js, PATIENCE_S)
    if problems := [f"{lag.name}: {lag.problem}" for lag in lags if lag.problem]:
        raise Unavailable("; ".join(problems))
    return [sample for lag in lags for sample in _of_stream(lag)]


async def consumers(js: JetStreamContext, specs: Sequence[ConsumerSpec]) -> list[Sample]:
    """The consumers named; raises Unavailable."""
    rows = await read_consumers(js, specs, PATIENCE_S)
    return [sample for stream, row in rows for sample in _of_consumer(stream, row)]


def _of_stream(lag: StreamLag) -> Iterator[Sample]:
    of = {names.STREAM: lag.name}
    yield Sample(MESSAGES, lag.messages, of)
    yield Sample(SIZE, lag.bytes, of)
    for row in lag.consumers:
        yield from _of_consumer(lag.name, row)


def _of_consumer(stream: str, row: ConsumerLag) -> Iterator[Sample]:
    of = {names.STREAM: stream, names.CONSUMER: row.name}
    yield Sample(WAITING, row.pending, of)
    yield Sample(IN_WORK, row.ack_pending, of)
