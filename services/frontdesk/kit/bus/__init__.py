"""JetStream as the product uses it: declared streams, publishes with an id, supervised consumers, timers."""

from frontdesk.kit.bus.connection import Bus, BusSettings
from frontdesk.kit.bus.consumer import Consumer, Delivery, Later, Release
from frontdesk.kit.bus.timers import Timers
from frontdesk.kit.bus.topology import ConsumerSpec, StreamSpec

__all__ = [
    "Bus",
    "BusSettings",
    "Consumer",
    "ConsumerSpec",
    "Delivery",
    "Later",
    "Release",
    "StreamSpec",
    "Timers",
]
