"""What the shards of this process tell OpenTelemetry."""

from __future__ import annotations

from opentelemetry import metrics

_meter = metrics.get_meter("frontdesk.kit.shards")

owned = _meter.create_up_down_counter(
    "frontdesk.shards.owned", unit="{shard}", description="Shards whose lease this process has."
)
acquisitions = _meter.create_counter(
    "frontdesk.shards.acquisitions", unit="{shard}", description="Leases taken by this process."
)
losses = _meter.create_counter(
    "frontdesk.shards.losses",
    unit="{shard}",
    description="Leases that another member took from this process.",
)
