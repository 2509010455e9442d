"""What a service stands on: its own database, and NATS."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from frontdesk.kit.bus.connection import Bus, BusSettings
from frontdesk.kit.bus.start import open_bus
from frontdesk.kit.bus.topology import BucketSpec, ConsumerSpec
from frontdesk.kit.database import Database, DatabaseOptions
from frontdesk.kit.migrations import open_database
from frontdesk.kit.patience import Patience


async def open_stores(
    options: DatabaseOptions,
    versions: Path,
    nats: BusSettings,
    patience: Patience,
    *,
    consumers: Sequence[ConsumerSpec] = (),
    buckets: Sequence[BucketSpec] = (),
) -> tuple[Database, Bus]:
    """Both or neither, when they are there and provisioned; raises as `open_database` and `open_bus` do."""
    database = await open_database(options, versions, patience)
    try:
        return database, await open_bus(nats, patience, consumers=consumers, buckets=buckets)
    except BaseException:
        await database.close()
        raise
