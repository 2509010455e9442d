"""What members say about themselves and about leases, how patient they are, and whom a manager tells.

Values in the bucket are JSON. A lease: `{"member", "incarnation", "take"}`, where `incarnation` is a random
token of one process and `take` one of one acquisition, so that a writer knows its own write from any other.
A member: `{"member", "incarnation", "since_ms"}`. The cordons: `{"members": [id, …]}`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, Protocol

import orjson

from frontdesk.kit.errors import InvalidArgument

# One read of the whole bucket is one request, and the server answers it for at most 1,024 keys.
MAX_SHARDS = 512


class ShardListener(Protocol):
    """Whoever holds the sockets. Calls for different shards overlap, calls for one shard never do.

    An error or a time-out of a call is logged and answered with `lost` for that shard.
    """

    async def acquired(self, shard: int, epoch: int) -> None:
        """The shard is ours: re-make its consumer, open its sessions. `holds` is true already.

        If it raises, `lost` is called, the lease is deleted and taken again after a back-off.
        """
        ...

    async def release(self, shard: int) -> None:
        """Finish sends in flight and close the sessions; the lease is renewed meanwhile, deleted afterwards.

        Cancelled after `drain_seconds`, or when the lease is lost; `lost` follows then.
        """
        ...

    async def lost(self, shard: int) -> None:
        """The shard is no longer ours, or its call failed: close what there is, send nothing more."""
        ...


@dataclass(frozen=True, slots=True)
class ShardSettings:
    """Times in seconds. All members of a fleet need the same `shards`, `ttl` and `margin`.

    `storage`: a lease in memory does not survive a restart of a single nats-server (all owners lose their
    shards and take them again, and epochs start again), so memory is for three replicas.
    """

    shards: int = 64
    ttl: float = 10.0
    margin: float = 3.0
    handover_pause: float = 0.1
    drain_seconds: float = 5.0
    acquire_seconds: float = 60.0
    close_seconds: float = 2.0
    stop_seconds: float = 15.0
    storage: Literal["file", "memory"] = "file"
    replicas: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.shards <= MAX_SHARDS:
            raise InvalidArgument("shards", f"must be from 1 to {MAX_SHARDS}")
        if not self.ttl > 0:
            raise InvalidArgument("ttl", "must be more than 0 seconds")
        if not 0 < self.margin < self.ttl - 2 * self.renew_every:
            raise InvalidArgument("margin", "must be more than 0 and less than half of ttl")
        for name in ("drain_seconds", "acquire_seconds", "close_seconds", "stop_seconds"):
            if not getattr(self, name) > 0:
                raise InvalidArgument(name, "must be more than 0 seconds")
        if self.handover_pause < 0:
            raise InvalidArgument("handover_pause", "must not be negative")

    @property
    def renew_every(self) -> float:
        """Between two renewals of a lease; two of them fit before the deadline, so one may fail."""
        return self.ttl / 4

    @property
    def retry_every(self) -> float:
        """Between two attempts of what NATS did not confirm, and between two looks at the clocks."""
        return min(self.ttl / 20, 0.25)

    @property
    def request_timeout(self) -> float:
        """How long NATS may take to confirm one write."""
        return min(self.ttl / 4, 2.0)

    @property
    def contact_gap(self) -> float:
        """The longest silence of NATS in which the observer's clocks still run."""
        return self.ttl / 2


@dataclass(frozen=True, slots=True)
class Member:
    """A replica that takes part since `since_ms` (Unix milliseconds; 0: it did not say).

    A cordoned one takes no shards and gives its own away. That is not in its own record but in the list of
    cordons, which outlives it.
    """

    id: str
    incarnation: str
    since_ms: int = 0
    cordoned: bool = False

    def to_bytes(self) -> bytes:
        """The value of its record."""
        return orjson.dumps({"member": self.id, "incarnation": self.incarnation, "since_ms": self.since_ms})

    @classmethod
    def from_bytes(cls, value: bytes) -> Member | None:
        """The member of a record; None when it is not one."""
        match _parse(value):
            case {"member": str(member), "incarnation": str(incarnation), **more}:
                since_ms = more.get("since_ms", 0)
                return cls(member, incarnation, since_ms if isinstance(since_ms, int) else 0)
        return None


def cordons_value(member_ids: Iterable[str]) -> bytes:
    """The value of the list of cordons."""
    return orjson.dumps({"members": sorted(member_ids)})


def cordoned_members(value: bytes) -> frozenset[str]:
    """The ids in a list of cordons; none when the value is not one."""
    match _parse(value):
        case {"members": list(members)}:
            return frozenset(member for member in members if isinstance(member, str))
    return frozenset()


def lease_value(member_id: str, incarnation: str, take: str) -> bytes:
    """The value of a lease."""
    return orjson.dumps({"member": member_id, "incarnation": incarnation, "take": take})


def lease_member(value: bytes) -> str | None:
    """Which member wrote this lease; None when the value is not one of ours."""
    match _parse(value):
        case {"member": str(member)}:
            return member
    return None


def lease_incarnation(value: bytes) -> str | None:
    """Which process wrote this lease; None when the value is not one of ours."""
    match _parse(value):
        case {"incarnation": str(incarnation)}:
            return incarnation
    return None


def _parse(value: bytes) -> object:
    try:
        parsed: object = orjson.loads(value)
    except orjson.JSONDecodeError:
        return None
    return parsed
