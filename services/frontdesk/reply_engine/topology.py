"""What the reply-engine consumes, one durable for all its replicas, and its kinds of timers."""

from __future__ import annotations

from frontdesk.kit import subjects
from frontdesk.kit.bus.topology import ConsumerSpec

NAME = "reply-engine"

CHAT_TIMER = "chat"
ORDER_TIMER = "order"
SWEEP_TIMER = "sweep"

INBOUND = ConsumerSpec(subjects.INBOUND, NAME, subjects.WILDCARDS[subjects.INBOUND])
DUE = ConsumerSpec(
    subjects.TIMERS,
    NAME,
    tuple(subjects.due_filter(what) for what in (CHAT_TIMER, ORDER_TIMER, SWEEP_TIMER)),
)
REPORTS = ConsumerSpec(subjects.EVENTS, NAME, (subjects.event_filter("reply"),))
CONSUMERS = (INBOUND, DUE, REPORTS)
