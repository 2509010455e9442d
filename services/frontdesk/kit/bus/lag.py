"""What waits in each stream and how far its durable consumers are behind: one look, bounded in time."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from nats.errors import Error as NatsError
from nats.js import JetStreamContext, api

from frontdesk.kit import subjects
from frontdesk.kit.bus.topology import STREAMS, ConsumerSpec
from frontdesk.kit.errors import Unavailable

# The server's own limit for one list of consumers.
_PAGE = 256


@dataclass(frozen=True, slots=True)
class ConsumerLag:
    """A durable consumer, or those of all shards together: `consumers` says how many.

    `pending` are messages not delivered yet, `ack_pending` those delivered and not acknowledged,
    `redelivered` those of them that were delivered more than once.
    """

    name: str
    consumers: int
    pending: int
    ack_pending: int
    redelivered: int


@dataclass(frozen=True, slots=True)
class StreamLag:
    """A stream; `problem` says why it could not be read, empty when it was."""

    name: str
    messages: int = 0
    bytes: int = 0
    consumers: tuple[ConsumerLag, ...] = ()
    problem: str = ""


async def read_lag(js: JetStreamContext, seconds: float) -> list[StreamLag]:
    """Every stream of the product, in the order of its declaration, within `seconds`."""
    return await asyncio.gather(*(_stream(js, spec.name, seconds) for spec in STREAMS))


async def read_consumers(
    js: JetStreamContext, specs: Iterable[ConsumerSpec], seconds: float
) -> list[tuple[str, ConsumerLag]]:
    """Stream and lag of each durable consumer, by the right to look at just those; raises Unavailable."""
    try:
        async with asyncio.timeout(seconds):
            found = await asyncio.gather(*(js.consumer_info(spec.stream, spec.name) for spec in specs))
    except (NatsError, OSError) as error:
        raise Unavailable(f"NATS does not tell what waits: {error or type(error).__name__}") from error
    return [(info.stream_name, row) for info in found for row in sum_up([info])]


async def _stream(js: JetStreamContext, name: str, seconds: float) -> StreamLag:
    try:
        async with asyncio.timeout(seconds):
            info = await js.stream_info(name)
            consumers = await _consumers(js, name, info.state.consumer_count)
    except TimeoutError:
        return StreamLag(name, problem=f"NATS did not answer within {seconds:g} s")
    except (NatsError, OSError) as error:
        return StreamLag(name, problem=f"{type(error).__name__}: {error}".rstrip(": "))
    return StreamLag(name, info.state.messages, info.state.bytes, tuple(sum_up(consumers)))


async def _consumers(js: JetStreamContext, stream: str, count: int) -> list[api.ConsumerInfo]:
    found: list[api.ConsumerInfo] = []
    for offset in range(0, count, _PAGE):
        found += await js.consumers_info(stream, offset)
    return found


def sum_up(consumers: Iterable[api.ConsumerInfo]) -> Sequence[ConsumerLag]:
    """The durable ones by name, those of the shards in one row."""
    rows: dict[str, list[api.ConsumerInfo]] = {}
    for info in consumers:
        if info.config.durable_name:
            rows.setdefault(subjects.consumer_family(info.name), []).append(info)
    return [
        ConsumerLag(
            name,
            len(infos),
            sum(info.num_pending or 0 for info in infos),
            sum(info.num_ack_pending or 0 for info in infos),
            sum(info.num_redelivered or 0 for info in infos),
        )
        for name, infos in sorted(rows.items())
    ]
