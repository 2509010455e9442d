"""What the connection-gateway consumes: the OUTBOUND consumers of its shards, which each owner makes anew."""

from __future__ import annotations

from frontdesk.kit.bus.topology import ConsumerSpec

CONSUMERS: tuple[ConsumerSpec, ...] = ()
