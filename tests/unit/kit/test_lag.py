"""Rows of lag out of what the server says of consumers."""

from __future__ import annotations

from datetime import UTC, datetime

from nats.js import api

from frontdesk.kit.bus.lag import ConsumerLag, sum_up


def consumer(name: str, *figures: int | None, durable: bool = True) -> api.ConsumerInfo:
    pending, ack_pending, redelivered = figures
    return api.ConsumerInfo(
        name=name,
        stream_name="OUTBOUND",
        created=datetime(2026, 1, 1, tzinfo=UTC),
        config=api.ConsumerConfig(durable_name=name if durable else None),
        num_pending=pending,
        num_ack_pending=ack_pending,
        num_redelivered=redelivered,
    )


def test_consumers_of_shards_stand_together() -> None:
    """Those of all shards are one row; others stand alone, and watches without a name not at all."""
    rows = sum_up(
        [
            consumer("reply-engine", 5, 4, 3),
            consumer("connection-gateway-0", 1, 2, 0),
            consumer("connection-gateway-63", 1, 0, 1),
            consumer("connection-gateway-x", 9, 0, 0),
            consumer("watch", 7, 7, 7, durable=False),
            consumer("silent", None, None, None),
        ]
    )
    assert rows == [
        ConsumerLag("connection-gateway-*", 2, 2, 2, 1),
        ConsumerLag("connection-gateway-x", 1, 9, 0, 0),
        ConsumerLag("reply-engine", 1, 5, 4, 3),
        ConsumerLag("silent", 1, 0, 0, 0),
    ]
