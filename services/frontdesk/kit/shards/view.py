"""What one member knows of the bucket: the newest record of each key and how long it has not changed."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

from frontdesk.kit import subjects
from frontdesk.kit.shards.lease import ObserverClocks
from frontdesk.kit.shards.model import (
    Member,
    ShardSettings,
    cordoned_members,
    lease_incarnation,
    lease_member,
)
from frontdesk.kit.shards.store import Record

_MEMBERS = "member."
_LEASES = "lease."


class View:
    """Records by key, in the order of revisions whatever the order of arrival. `monotonic` gives seconds."""

    def __init__(self, settings: ShardSettings, monotonic: Callable[[], float]) -> None:
        self._settings = settings
        self._monotonic = monotonic
        self._records: dict[str, Record] = {}
        self.clocks = ObserverClocks(settings.ttl, settings.contact_gap, monotonic())
        self.newest = 0

    def observe(self, record: Record) -> bool:
        """Take in a record; returns False when it tells nothing new."""
        known = self._records.get(record.key)
        self.newest = max(self.newest, record.revision)
        if known is not None and record.revision <= known.revision:
            return False
        self._set(record)
        return True

    def take_in(self, records: Sequence[Record], upto: int) -> None:
        """Take in a full read: up to revision `upto` it is right, beyond it says nothing."""
        read = {record.key: record for record in records}
        for known in list(self._records.values()):
            if 0 < known.revision <= upto and known.key not in read:
                self._vanished(known.key)
        for key, record in read.items():
            now_known = self._records.get(key)
            if now_known is None or (now_known.revision <= upto and now_known.revision != record.revision):
                self._set(record)
        self.newest = max(self.newest, upto)

    def _set(self, record: Record) -> None:
        self._records[record.key] = record
        self.clocks.changed(record.key, self._monotonic())

    def begin_anew(self) -> None:
        """Forget everything: the bucket was made again and its revisions count from 1."""
        for key in list(self._records):
            self._vanished(key)
        self.newest = 0

    def _vanished(self, key: str) -> None:
        """A lease gone without a delete may be in use until its owner notices: it must run out first."""
        if not key.startswith(_LEASES):
            del self._records[key]
            self.clocks.forget(key)
        else:
            self._set(Record(key, 0, b""))

    def revision(self, shard: int) -> int:
        """The revision that a write of this lease must expect; 0 when it was never written."""
        record = self._records.get(subjects.lease_key(shard))
        return record.revision if record is not None else 0

    def free_since(self, shard: int, incarnation: str) -> float:
        """From when on a lease is free, in the future for one that somebody holds.

        A lease of `incarnation` itself is free to it: an acquisition whose answer got lost.
        """
        key = subjects.lease_key(shard)
        record = self._records.get(key)
        since = self.clocks.since(key)
        if record is None or record.value is None or lease_incarnation(record.value) == incarnation:
            return since
        return since + self._settings.ttl

    def members(self) -> tuple[Member, ...]:
        """The members alive, by id."""
        now, cordoned = self._monotonic(), self.cordoned()
        found = (
            Member.from_bytes(record.value)
            for key, record in self._records.items()
            if key.startswith(_MEMBERS) and record.value is not None and not self.clocks.expired(key, now)
        )
        members = (
            dataclasses.replace(member, cordoned=member.id in cordoned)
            for member in found
            if member is not None
        )
        return tuple(sorted(members, key=lambda member: member.id))

    def cordoned(self) -> frozenset[str]:
        """The ids that are cordoned, of members alive or not."""
        record = self._records.get(subjects.CORDONS_KEY)
        return cordoned_members(record.value) if record is not None and record.value else frozenset()

    def holders(self) -> dict[int, str]:
        """Who holds each shard, by the leases that have not run out."""
        now = self._monotonic()
        found: dict[int, str] = {}
        for shard in range(self._settings.shards):
            key = subjects.lease_key(shard)
            record = self._records.get(key)
            if record is not None and record.value and not self.clocks.expired(key, now):
                found[shard] = lease_member(record.value) or ""
        return found
