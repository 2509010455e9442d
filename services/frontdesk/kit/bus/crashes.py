"""How often handling a message did not come to an end, kept outside the process that may die over it.

Only messages delivered for the third time or later are counted, so the usual path pays nothing.
"""

from __future__ import annotations

import logging

from nats.errors import Error as NatsError
from nats.js.errors import BadRequestError, KeyNotFoundError, NotFoundError
from nats.js.kv import KeyValue

from frontdesk.kit.bus.connection import Bus
from frontdesk.kit.bus.topology import CRASHES_BUCKET, ConsumerSpec

log = logging.getLogger(__name__)


class CrashLog:
    """A counter for each suspicious message in a KV bucket; entries expire after a day."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._bucket: KeyValue | None = None

    async def _kv(self) -> KeyValue:
        if self._bucket is None:
            js = self._bus.js
            try:
                self._bucket = await js.key_value(CRASHES_BUCKET.name)
            except NotFoundError:
                try:
                    self._bucket = await js.create_key_value(
                        CRASHES_BUCKET.config(self._bus.settings.replicas)
                    )
                except BadRequestError:  # another replica was faster
                    self._bucket = await js.key_value(CRASHES_BUCKET.name)
        return self._bucket

    async def begin(self, spec: ConsumerSpec, sequence: int) -> int:
        """Note that handling begins; returns how often it began before without an end."""
        try:
            kv = await self._kv()
            try:
                entry = await kv.get(_key(spec, sequence))
                before = int(entry.value or b"0")
            except KeyNotFoundError:
                before = 0
            await kv.put(_key(spec, sequence), str(before + 1).encode())
            return before
        except (NatsError, TimeoutError) as error:
            log.warning("crash count of %s: %s", spec.name, error)
            return 0

    async def end(self, spec: ConsumerSpec, sequence: int) -> None:
        """Note that handling came to an end."""
        try:
            await (await self._kv()).purge(_key(spec, sequence))
        except (NatsError, TimeoutError) as error:
            log.warning("crash count of %s: %s", spec.name, error)


def _key(spec: ConsumerSpec, sequence: int) -> str:
    return f"{spec.stream}.{spec.name}.{sequence}"
