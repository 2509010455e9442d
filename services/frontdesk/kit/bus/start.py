"""What a start needs of NATS: a connection, and the streams, buckets and consumers that are to be there.

`frontdesk provision` makes those. What is not there yet is waited for. A wrong password, a wrong certificate
and a right that is missing end the start at once. A user that may make what is missing, as on a laptop, does.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import TypeVar

from frontdesk.kit.bus.connection import Bus, BusSettings
from frontdesk.kit.bus.topology import (
    MAKING,
    BucketSpec,
    ConsumerSpec,
    ensure_bucket,
    ensure_consumer,
    ensure_streams,
)
from frontdesk.kit.errors import PermissionDenied, Unavailable
from frontdesk.kit.patience import Patience

CONNECT_S = 5.0

T = TypeVar("T")


async def open_bus(
    settings: BusSettings,
    patience: Patience,
    *,
    consumers: Sequence[ConsumerSpec] = (),
    buckets: Sequence[BucketSpec] = (),
) -> Bus:
    """A connection, when all streams and the things named are there.

    Raises FailedPrecondition, InvalidArgument or PermissionDenied with what is wrong.
    """
    bounded = replace(settings, connect_patience=CONNECT_S)
    bus = await patience.until("NATS", lambda: Bus.connect(bounded, ensure=False))
    try:
        await patience.until("what NATS keeps", lambda: _present(bus, consumers, buckets))
    except BaseException:
        await bus.close()
        raise
    return bus


async def permitted(bus: Bus, attempt: Callable[[], Awaitable[T]]) -> T:
    """The outcome of `attempt`; raises PermissionDenied when NATS did not let this user ask."""
    try:
        return await attempt()
    except Unavailable as error:
        lacking = sorted(subject for subject in bus.denied if not subject.startswith(MAKING))
        if lacking:
            raise PermissionDenied(
                f"the NATS user {bus.settings.user or bus.settings.name} may not use {', '.join(lacking)}: "
                "give it the rights that docs/operations.md names",
                subjects=lacking,
            ) from error
        raise


async def _present(bus: Bus, consumers: Sequence[ConsumerSpec], buckets: Sequence[BucketSpec]) -> None:
    async def ensure(*, make: bool) -> None:
        copies = bus.settings.replicas
        await ensure_streams(bus.js, copies, make=make)
        for bucket in buckets:
            await ensure_bucket(bus.js, bucket, copies, make=make)
        for consumer in consumers:
            await ensure_consumer(bus.js, consumer, make=make)

    if not _may_not_make(bus):
        try:
            return await permitted(bus, lambda: ensure(make=True))
        except Unavailable:
            if not _may_not_make(bus):
                raise
    return await permitted(bus, lambda: ensure(make=False))


def _may_not_make(bus: Bus) -> bool:
    return any(subject.startswith(MAKING) for subject in bus.denied)
