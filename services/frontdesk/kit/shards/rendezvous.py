"""Which member should own a shard: rendezvous hashing (highest random weight).

Every member gets a score for every shard; the members in falling order of their scores are the shard's order
of succession. A member that leaves moves only its own shards, one that joins takes only what becomes its own.
The hash is part of the fleet's agreement: another one would move nearly every shard during a rolling update.
"""

from __future__ import annotations

import functools
import hashlib


def score(shard: int, member_id: str) -> int:
    """The weight of a member for a shard, 64 bits, the same on every machine and Python."""
    digest = hashlib.blake2b(f"{shard}/{member_id}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big")


def candidates(alive: frozenset[str], cordoned: frozenset[str]) -> frozenset[str]:
    """The members that shards are proposed to: those not cordoned.

    When only cordoned ones are alive their cordons count for nothing: a shard that nobody holds is worse.
    """
    return alive - cordoned or alive


@functools.lru_cache(maxsize=4096)
def order(shard: int, members: frozenset[str]) -> tuple[str, ...]:
    """All `members`, the one to own `shard` first, then who is next if it does not take it."""
    return tuple(sorted(members, key=lambda member: (-score(shard, member), member)))
