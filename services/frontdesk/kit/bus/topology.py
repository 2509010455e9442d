"""Every stream and bucket of the product, the shape of a consumer, and how they come to exist.

`frontdesk provision` makes them before anything needs them. A service looks whether they are there as it
knows them, makes what is missing and changes what differs. Its NATS user may lack the right to: what is
missing is an error then, what differs is left to the version that provisioned it. A service's fixed consumers
are declared in its `topology.py`; consumers that belong to a shard are made by its owner.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Literal

from nats.errors import Error as NatsError
from nats.js import JetStreamContext, api
from nats.js.errors import APIError, NotFoundError

from frontdesk.kit import subjects
from frontdesk.kit.errors import FailedPrecondition, Unavailable

log = logging.getLogger(__name__)

# What an `ensure` did; None is nothing.
Change = Literal["made", "changed"]

# Subjects that only `frontdesk provision` need be allowed to use, in lower case, as refusals are told.
MAKING = ("$js.api.stream.create.", "$js.api.stream.update.", "$js.api.consumer.durable.create.")

DAY = 86_400.0
MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class StreamSpec:
    """A stream. Ages and windows in seconds, sizes in bytes."""

    name: str
    work_queue: bool = False
    max_age: float = 0
    max_bytes: int = 1024 * MIB
    max_msgs_per_subject: int = -1
    discard_new: bool = False
    schedules: bool = False
    duplicate_window: float = 300

    def config(self, replicas: int) -> api.StreamConfig:
        return api.StreamConfig(
            name=self.name,
            subjects=list(subjects.WILDCARDS[self.name]),
            retention=api.RetentionPolicy.WORK_QUEUE if self.work_queue else api.RetentionPolicy.LIMITS,
            max_age=self.max_age,
            max_bytes=self.max_bytes,
            max_msgs_per_subject=self.max_msgs_per_subject,
            discard=api.DiscardPolicy.NEW if self.discard_new else api.DiscardPolicy.OLD,
            storage=api.StorageType.FILE,
            num_replicas=replicas,
            duplicate_window=self.duplicate_window,
            allow_msg_schedules=self.schedules or None,
        )


@dataclass(frozen=True, slots=True)
class ConsumerSpec:
    """A durable pull consumer. `ack_wait` in seconds: how soon a crashed worker's messages come back.

    The server never gives up on a message (`max_deliver` unlimited): the kit decides what is dead. With
    `memory` the server keeps what was acknowledged in memory only: for consumers of work-queue streams that
    can be made anew at any time.
    """

    stream: str
    name: str
    filters: tuple[str, ...] = field(default=())
    ack_wait: float = 10
    max_ack_pending: int = 2_000
    memory: bool = False

    def config(self) -> api.ConsumerConfig:
        return api.ConsumerConfig(
            durable_name=self.name,
            filter_subjects=list(self.filters) if len(self.filters) > 1 else None,
            filter_subject=self.filters[0] if len(self.filters) == 1 else None,
            ack_policy=api.AckPolicy.EXPLICIT,
            deliver_policy=api.DeliverPolicy.ALL,
            ack_wait=self.ack_wait,
            max_ack_pending=self.max_ack_pending,
            max_deliver=-1,
            mem_storage=self.memory or None,
        )


# INBOUND and OUTBOUND refuse new messages when full: the writer keeps what it has, nothing is lost. The
# server does not allow that for a stream with schedules; a timer that a full TIMERS drops is found by the
# sweep.
STREAMS = (
    StreamSpec(subjects.INBOUND, work_queue=True, discard_new=True),
    StreamSpec(subjects.OUTBOUND, work_queue=True, discard_new=True),
    StreamSpec(subjects.TIMERS, work_queue=True, schedules=True),
    StreamSpec(subjects.EVENTS, max_age=7 * DAY),
    StreamSpec(subjects.NOTIFY, work_queue=True, discard_new=True),
    StreamSpec(subjects.DEAD, max_age=30 * DAY),
    StreamSpec(subjects.WAKE, max_age=60, max_msgs_per_subject=1, max_bytes=MIB, duplicate_window=60),
)


@dataclass(frozen=True, slots=True)
class BucketSpec:
    """A key-value bucket that keeps the newest value of each key, for `ttl` seconds (0: for good)."""

    name: str
    ttl: float = 0
    direct: bool = False

    def config(self, replicas: int) -> api.KeyValueConfig:
        return api.KeyValueConfig(
            bucket=self.name, history=1, ttl=self.ttl or None, replicas=replicas, direct=self.direct
        )


SHARDS_BUCKET = BucketSpec(subjects.SHARDS_BUCKET, direct=True)
CRASHES_BUCKET = BucketSpec(subjects.CRASHES_BUCKET, ttl=DAY)
BUCKETS = (SHARDS_BUCKET, CRASHES_BUCKET)


def wake_consumer(service: str) -> ConsumerSpec:
    """What tells KEDA that a service is wanted. Nobody takes from it: a message counts until it expires."""
    return ConsumerSpec(subjects.WAKE, subjects.wake_consumer(service), (subjects.wake(service),))


async def ensure_streams(js: JetStreamContext, replicas: int = 1, *, make: bool = True) -> None:
    """Make sure that every stream exists, all at a time; raises Unavailable naming one that does not.

    How large streams are and how many copies there are is left to whoever made them.
    """
    await asyncio.gather(*(ensure_stream(js, spec, replicas, resize=False, make=make) for spec in STREAMS))


async def ensure_stream(
    js: JetStreamContext, spec: StreamSpec, replicas: int = 1, *, resize: bool = True, make: bool = True
) -> Change | None:
    """Make or change one stream; says what it did. With `resize` also its size and the number of its copies.

    Raises Unavailable, without `make` also when it is missing; FailedPrecondition when NATS has no room.
    """
    wanted = spec.config(replicas)
    with _problems(f"stream {spec.name}", stream=spec.name):
        try:
            found = (await js.stream_info(spec.name)).config
        except NotFoundError:
            _demand(make, f"stream {spec.name}")
            await js.add_stream(wanted)
            return "made"
        if not resize:
            wanted = replace(wanted, **{name: getattr(found, name) for name in _SIZE_FIELDS})
        if not _differs(found, wanted, (*_STREAM_FIELDS, *_SIZE_FIELDS)):
            return None
        return await _change(f"stream {spec.name}", js.update_stream(wanted))


async def ensure_bucket(
    js: JetStreamContext, spec: BucketSpec, replicas: int = 1, *, make: bool = True
) -> Change | None:
    """Make a bucket, or change how many copies there are; says what it did. Raises Unavailable."""
    with _problems(f"bucket {spec.name}", bucket=spec.name):
        try:
            found = (await js.stream_info(f"KV_{spec.name}")).config
        except NotFoundError:
            _demand(make, f"bucket {spec.name}")
            await js.create_key_value(spec.config(replicas))
            return "made"
        if found.num_replicas == replicas or not make:
            return None
        return await _change(f"bucket {spec.name}", js.update_stream(replace(found, num_replicas=replicas)))


async def ensure_consumer(
    js: JetStreamContext, spec: ConsumerSpec, *, remake: bool = False, make: bool = True
) -> Change | None:
    """Make or change a consumer; says what it did. Raises Unavailable.

    With `remake` an existing one is deleted first, so that every message that an earlier owner holds comes
    back at once and its late acknowledgements mean nothing.
    """
    with _problems(f"consumer {spec.name}", consumer=spec.name):
        if remake:
            with contextlib.suppress(NotFoundError):
                await js.delete_consumer(spec.stream, spec.name)
            await js.add_consumer(spec.stream, spec.config())
            return "made"
        try:
            found = (await js.consumer_info(spec.stream, spec.name)).config
        except NotFoundError:
            _demand(make, f"consumer {spec.name} of {spec.stream}")
            await js.add_consumer(spec.stream, spec.config())
            return "made"
        if not _differs(found, spec.config(), _CONSUMER_FIELDS):
            return None
        return await _change(f"consumer {spec.name}", js.add_consumer(spec.stream, spec.config()))


def _demand(make: bool, what: str) -> None:
    if not make:
        raise Unavailable(f"{what} is missing: `frontdesk provision` makes it")


async def _change(what: str, work: Awaitable[object]) -> Change | None:
    """Do it; no answer means that this user may not, and whoever provisions knows better."""
    try:
        await work
    except TimeoutError:
        log.warning("%s is not as this version declares it; `frontdesk provision` changes it", what)
        return None
    return "changed"


@contextlib.contextmanager
def _problems(what: str, **facts: str) -> Iterator[None]:
    try:
        yield
    except TimeoutError as error:
        raise Unavailable(
            f"{what}: NATS gives no answer. Is it missing, and may this NATS user not make it? "
            "`frontdesk provision` does",
            **facts,
        ) from error
    except APIError as error:
        if error.err_code == _NO_ROOM:
            raise FailedPrecondition(
                f"{what}: NATS has no room to set aside for it. Give it a larger store, or make streams "
                "smaller with FRONTDESK_NATS_STREAM_MEGABYTES of `frontdesk provision`",
                **facts,
            ) from error
        raise Unavailable(f"{what} could not be made: {error.description}", **facts) from error
    except NatsError as error:
        raise Unavailable(f"{what} could not be made: {error}", **facts) from error


def _differs(found: object, wanted: object, names: Iterable[str]) -> bool:
    """Whether a field has another value; the server leaves out what is zero."""
    return any((getattr(found, name) or None) != (getattr(wanted, name) or None) for name in names)


_STREAM_FIELDS = (
    "subjects",
    "max_age",
    "max_msgs_per_subject",
    "discard",
    "duplicate_window",
    "allow_msg_schedules",
)
_SIZE_FIELDS = ("max_bytes", "num_replicas")
_NO_ROOM = 10047
_CONSUMER_FIELDS = ("filter_subject", "filter_subjects", "ack_wait", "max_ack_pending", "max_deliver")
