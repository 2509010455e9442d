"""Every stream and every fixed consumer of the product, and how they come to exist.

`ensure_streams` and `ensure_consumer` may be called by any replica at any time: they create what is missing,
update what differs and leave the rest alone. Consumers that belong to a shard are made by its owner.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field

from nats.errors import Error as NatsError
from nats.js import JetStreamContext, api
from nats.js.errors import BadRequestError, NotFoundError

from frontdesk.kit import subjects
from frontdesk.kit.errors import Unavailable

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


async def ensure_streams(js: JetStreamContext, replicas: int = 1) -> None:
    """Create or update every stream; raises Unavailable when JetStream does not answer."""
    for spec in STREAMS:
        config = spec.config(replicas)
        try:
            try:
                await js.add_stream(config)
            except BadRequestError:  # it exists with another configuration
                await js.update_stream(config)
        except (NatsError, TimeoutError) as error:
            raise Unavailable(f"stream {spec.name} could not be made: {error}", stream=spec.name) from error


async def ensure_consumer(js: JetStreamContext, spec: ConsumerSpec, *, remake: bool = False) -> None:
    """Create or update a consumer. With `remake` an existing one is deleted first, so that every message that
    an earlier owner holds comes back at once and its late acknowledgements mean nothing."""
    try:
        if remake:
            with contextlib.suppress(NotFoundError):
                await js.delete_consumer(spec.stream, spec.name)
        await js.add_consumer(spec.stream, spec.config())
    except (NatsError, TimeoutError) as error:
        raise Unavailable(f"consumer {spec.name} could not be made: {error}", consumer=spec.name) from error
