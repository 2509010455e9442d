"""The connection to NATS that a service holds, and publishing on it.

The client reconnects for ever; while it is away a publish fails with Unavailable after its time-out, and the
caller keeps what it has. `Bus.on_reconnect` callbacks run after each reconnect, so that whoever holds a
subscription can make sure that it is not deaf.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from google.protobuf.message import Message
from nats.aio.client import Client
from nats.errors import Error as NatsError
from nats.js import JetStreamContext, api
from opentelemetry import propagate

from frontdesk.kit.bus.topology import ensure_streams
from frontdesk.kit.config import NatsSettings
from frontdesk.kit.errors import ResourceExhausted, Unavailable

log = logging.getLogger(__name__)

MSG_ID = "Nats-Msg-Id"
TRACEPARENT = "traceparent"


@dataclass(frozen=True, slots=True)
class BusSettings:
    """Where NATS is and how patient to be; times in seconds."""

    url: str
    name: str = "frontdesk"
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    creds: str | None = None
    replicas: int = 1
    publish_timeout: float = 5.0
    publishes_in_flight: int = 64
    reconnect_wait: float = 0.25
    ca_file: str | None = None


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One message to publish: subject, payload, deduplication id and headers."""

    subject: str
    payload: bytes
    msg_id: str | None = None
    headers: Mapping[str, str] | None = None


def bus_settings(settings: NatsSettings, name: str, replicas: int = 1) -> BusSettings:
    """What the environment says of NATS."""
    return BusSettings(
        url=settings.nats_url,
        name=name,
        user=settings.nats_user,
        password=settings.nats_password.get_secret_value() if settings.nats_password else None,
        creds=str(settings.nats_creds) if settings.nats_creds else None,
        replicas=replicas,
    )


class Bus:
    """A connection to NATS with JetStream. Make it with `Bus.connect`."""

    def __init__(self, nc: Client, settings: BusSettings) -> None:
        self.nc = nc
        self.settings = settings
        self.js: JetStreamContext = nc.jetstream(timeout=settings.publish_timeout)
        self._in_flight = asyncio.Semaphore(settings.publishes_in_flight)
        self._on_reconnect: list[Callable[[], None]] = []
        self._on_disconnect: list[Callable[[], None]] = []

    @classmethod
    async def connect(cls, settings: BusSettings, *, ensure: bool = True) -> Bus:
        """Connect, and with `ensure` make sure that all streams exist; raises Unavailable naming the
        server."""
        holder: list[Bus] = []

        async def reconnected() -> None:
            for bus in holder:
                bus._changed(bus._on_reconnect, "NATS is back")

        async def disconnected() -> None:
            for bus in holder:
                bus._changed(bus._on_disconnect, "NATS is gone")

        async def failed(error: Exception) -> None:
            log.warning("NATS client: %s", error)

        nc = Client()
        try:
            await nc.connect(
                settings.url.split(","),
                name=settings.name,
                user=settings.user,
                password=settings.password,
                user_credentials=settings.creds,
                allow_reconnect=True,
                max_reconnect_attempts=-1,
                reconnect_time_wait=settings.reconnect_wait,  # type: ignore[arg-type]  # seconds, a fraction works
                connect_timeout=3,
                ping_interval=10,
                max_outstanding_pings=2,
                pending_size=16 * 1024 * 1024,
                reconnected_cb=reconnected,
                disconnected_cb=disconnected,
                error_cb=failed,
                tls=_tls(settings.ca_file),
            )
        except (NatsError, OSError, TimeoutError) as error:
            raise Unavailable(f"NATS can't be reached: {error}") from error
        bus = cls(nc, settings)
        holder.append(bus)
        if ensure:
            await ensure_streams(bus.js, settings.replicas)
        return bus

    def _changed(self, callbacks: Sequence[Callable[[], None]], what: str) -> None:
        log.warning("%s", what)
        for callback in callbacks:
            callback()

    def on_reconnect(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call `callback` after each reconnect; returns a function that takes it off again."""
        self._on_reconnect.append(callback)
        return lambda: self._on_reconnect.remove(callback)

    def on_disconnect(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call `callback` when the connection is lost; returns a function that takes it off again."""
        self._on_disconnect.append(callback)
        return lambda: self._on_disconnect.remove(callback)

    @property
    def connected(self) -> bool:
        return self.nc.is_connected

    async def publish(
        self,
        subject: str,
        message: Message | bytes,
        *,
        msg_id: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> int:
        """Store a message in its stream and return its sequence; a repeat of `msg_id` is stored once.

        Raises Unavailable when NATS did not confirm, ResourceExhausted when the stream is full or the message
        too large; either way the caller still owns the message.
        """
        payload = message if isinstance(message, bytes) else message.SerializeToString()
        if len(payload) > self.nc.max_payload:
            raise ResourceExhausted(
                f"a message of {len(payload)} bytes is over the limit of {self.nc.max_payload}"
            )
        full: dict[str, str] = dict(headers) if headers else {}
        if msg_id:
            full[MSG_ID] = msg_id
        if TRACEPARENT not in full:
            propagate.inject(full)
        async with self._in_flight:
            try:
                ack = await self.js.publish(
                    subject, payload, timeout=self.settings.publish_timeout, headers=full or None
                )
            except (NatsError, TimeoutError, OSError) as error:
                raise Unavailable(
                    f"NATS did not store a message on {subject.split('.', 1)[0]}: {error}"
                ) from error
        return ack.seq

    async def publish_all(self, messages: Sequence[Outgoing]) -> None:
        """Store many messages, at most `publishes_in_flight` at a time; raises the first error after all
        ended."""
        results = await asyncio.gather(
            *(self.publish(m.subject, m.payload, msg_id=m.msg_id, headers=m.headers) for m in messages),
            return_exceptions=True,
        )
        for result in results:
            if isinstance(result, BaseException):
                raise result

    async def stream_info(self, stream: str) -> api.StreamInfo:
        """What the server says of a stream; raises Unavailable."""
        try:
            return await self.js.stream_info(stream)
        except (NatsError, TimeoutError) as error:
            raise Unavailable(f"stream {stream}: {error}") from error

    async def close(self) -> None:
        """Flush what is written and close."""
        if self.nc.is_connected:
            try:
                await self.nc.drain()
            except (NatsError, TimeoutError, OSError) as error:
                log.info("NATS closed in disorder: %s", error)
        if not self.nc.is_closed:
            await self.nc.close()


def _tls(ca_file: str | None) -> ssl.SSLContext | None:
    if ca_file is None:
        return None
    return ssl.create_default_context(cafile=ca_file)
