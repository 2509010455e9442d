"""Sticky shards: each has one owner in the fleet, moved one by one, never two at a time."""

from frontdesk.kit.shards.manager import ShardManager
from frontdesk.kit.shards.model import Member, ShardListener, ShardSettings

__all__ = ["Member", "ShardListener", "ShardManager", "ShardSettings"]
