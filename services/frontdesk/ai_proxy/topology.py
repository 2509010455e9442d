"""What ai-proxy consumes, one durable for all its replicas."""

from __future__ import annotations

from frontdesk.kit import subjects
from frontdesk.kit.bus.topology import ConsumerSpec

NAME = "ai-proxy"

SPEND = ConsumerSpec(subjects.EVENTS, NAME, (subjects.event_filter("usage"),))
CONSUMERS = (SPEND,)
