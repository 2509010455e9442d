"""Who is cordoned: one list in the bucket, changed by compare-and-swap.

Any member changes it for any other; all hear of it by their watch. It is one key, so that of two calls at
once one sees the other: a fleet can't be cordoned to its last member.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Protocol

from frontdesk.kit import subjects
from frontdesk.kit.errors import FailedPrecondition, NotFound, Unavailable
from frontdesk.kit.shards.model import cordoned_members, cordons_value
from frontdesk.kit.shards.store import Conflict, Record

log = logging.getLogger(__name__)

_ATTEMPTS = 10


class CordonStore(Protocol):
    """The reads and writes of the list; `kit.shards.store.ShardStore` says what they promise."""

    async def swap(self, key: str, value: bytes, last: int) -> int: ...
    async def read(self, key: str) -> Record | None: ...


class Cordons:
    """Changes the list. `alive` tells which members are alive now."""

    def __init__(self, store: CordonStore, alive: Callable[[], frozenset[str]]) -> None:
        self._store = store
        self._alive = alive

    async def add(self, member_id: str) -> frozenset[str]:
        """Cordon a member; see `ShardManager.cordon`."""

        def change(cordoned: frozenset[str]) -> frozenset[str]:
            alive = self._alive()
            if member_id in cordoned:
                return cordoned
            if member_id not in alive:
                raise NotFound(f"no replica {member_id} is alive", replica=member_id)
            if not alive - cordoned - {member_id}:
                raise FailedPrecondition(
                    f"{member_id} is the last replica that is not cordoned: uncordon or add another first",
                    replica=member_id,
                )
            return cordoned | {member_id}

        return await self._change(change)

    async def remove(self, member_id: str) -> frozenset[str]:
        """Uncordon a member; see `ShardManager.uncordon`."""

        def change(cordoned: frozenset[str]) -> frozenset[str]:
            if member_id not in cordoned and member_id not in self._alive():
                raise NotFound(f"no replica {member_id} is alive or cordoned", replica=member_id)
            return cordoned - {member_id}

        return await self._change(change)

    async def _change(self, change: Callable[[frozenset[str]], frozenset[str]]) -> frozenset[str]:
        for _ in range(_ATTEMPTS):
            record = await self._store.read(subjects.CORDONS_KEY)
            before = cordoned_members(record.value) if record is not None and record.value else frozenset()
            after = change(before)
            if after == before:
                return after
            try:
                await self._store.swap(
                    subjects.CORDONS_KEY, cordons_value(after), record.revision if record is not None else 0
                )
            except Conflict:
                continue
            log.info("cordoned now: %s", ", ".join(sorted(after)) or "nobody")
            return after
        raise Unavailable("the list of cordons changes all the time")
