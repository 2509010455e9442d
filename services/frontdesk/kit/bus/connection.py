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

import orjson
from google.protobuf.message import Message
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import Error as NatsError
from nats.js import JetStreamContext, api

from frontdesk.kit import subjects
from frontdesk.kit.bus.topology import ensure_streams
from frontdesk.kit.config import NatsSettings
from frontdesk.kit.errors import FrontdeskError, InvalidArgument, ResourceExhausted, Unavailable
from frontdesk.kit.telemetry.propagation import inject
from frontdesk.kit.wire import Mailbox, Wire, nobody_answered

log = logging.getLogger(__name__)

MSG_ID = "Nats-Msg-Id"
MOST_SUBJECT = 1024
# What the server says when a stream is full: of bytes or messages, of a subject's messages.
_FULL = frozenset({10047, 10077})
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
    connect_patience: float | None = None  # None: for ever
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
        ca_file=str(settings.nats_ca_file) if settings.nats_ca_file else None,
    )


@dataclass(slots=True)
class _Sent:
    """A message on its way into its stream."""

    subject: str
    address: str
    answer: asyncio.Future[Msg]
    error: FrontdeskError | None = None


class Bus:
    """A connection to NATS with JetStream. Make it with `Bus.connect`."""

    def __init__(self, nc: Client, settings: BusSettings) -> None:
        self.nc = nc
        self.settings = settings
        self.js: JetStreamContext = nc.jetstream(timeout=settings.publish_timeout)
        self._in_flight = asyncio.Semaphore(settings.publishes_in_flight)
        self._wire = Wire(nc)
        self._acks = Mailbox(self._wire, settings.name, _stray)
        self._on_reconnect: list[Callable[[], None]] = []
        self._on_disconnect: list[Callable[[], None]] = []
        self._closing = False

    @classmethod
    async def connect(cls, settings: BusSettings, *, ensure: bool = True) -> Bus:
        """Connect, and with `ensure` make sure that all streams exist; raises Unavailable naming the
        server."""
        holder: list[Bus] = []
        last: list[Exception] = []

        async def reconnected() -> None:
            for bus in holder:
                bus._changed(bus._on_reconnect, "NATS is back")

        async def disconnected() -> None:
            for bus in holder:
                if bus._closing:
                    continue
                bus._changed(bus._on_disconnect, "NATS is gone")

        async def failed(error: Exception) -> None:
            if holder or not last or str(error) != str(last[0]):  # before the first contact each only once
                log.warning("NATS client: %s", error)
            last[:] = [error]

        nc = Client()
        try:
            async with asyncio.timeout(settings.connect_patience):
                await nc.connect(
                    settings.url.split(","),
                    name=settings.name,
                    user=settings.user,
                    password=settings.password,
                    user_credentials=settings.creds,
                    inbox_prefix=subjects.inbox(settings.name),
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
            raise Unavailable(f"NATS can't be reached: {last[0] if last else error}") from error
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
        if not self._acks.started:
            await self._acks.start()
        async with self._in_flight:
            return await self._settle([self._send(Outgoing(subject, payload, msg_id, headers))])

    async def publish_all(self, messages: Sequence[Outgoing]) -> None:
        """Store many messages, at most `publishes_in_flight` at a time, in their order.

        Raises the first error after all ended; which ones were stored is not known then.
        """
        if messages and not self._acks.started:
            await self._acks.start()
        most = self.settings.publishes_in_flight
        error: FrontdeskError | None = None
        for start in range(0, len(messages), most):
            async with self._in_flight:
                sent = [self._send(message) for message in messages[start : start + most]]
                try:
                    await self._settle(sent)
                except FrontdeskError as failed:
                    error = error or failed
        if error is not None:
            raise error

    def _send(self, message: Outgoing) -> _Sent:
        """Hand a message to the connection; its acknowledgement comes to an address of its own."""
        log.debug("publishes on %s", message.subject)
        headers = dict(message.headers) if message.headers else {}
        if message.msg_id:
            headers[MSG_ID] = message.msg_id
        if TRACEPARENT not in headers:
            inject(headers)
        block = _header_block(headers)
        answer: asyncio.Future[Msg] = asyncio.get_running_loop().create_future()

        def receive(msg: Msg) -> None:
            if not answer.done():
                answer.set_result(msg)

        address = self._acks.open(receive)
        sent = _Sent(message.subject, address, answer)
        size = len(block) + len(message.payload)
        if len(message.subject) > MOST_SUBJECT:
            # The server ends the connection over a control line that is too long.
            sent.error = InvalidArgument("subject", f"at most {MOST_SUBJECT} characters")
            return sent
        if size > self.nc.max_payload:
            sent.error = ResourceExhausted(
                f"a message of {size} bytes is over the limit of {self.nc.max_payload}"
            )
            return sent
        try:
            self._wire.send(message.subject, message.payload, address, block)
        except Unavailable as error:
            sent.error = error
        return sent

    async def _settle(self, sent: Sequence[_Sent]) -> int:
        """Wait for the acknowledgements; returns the last sequence, raises the first error after all."""
        sequence, failed = 0, None
        try:
            async with asyncio.timeout(self.settings.publish_timeout):
                for one in sent:
                    try:
                        sequence = _stored(one.subject, one.error or await one.answer)
                    except FrontdeskError as error:
                        failed = failed or error
        except TimeoutError:
            what = sent[0].subject.split(".", 1)[0]
            failed = failed or Unavailable(f"NATS did not store a message on {what} in time")
        finally:
            for one in sent:
                self._acks.close(one.address)
        if failed is not None:
            raise failed
        return sequence

    def tell(self, subject: str, payload: bytes) -> None:
        """Hand a message to the connection; nobody says whether it arrived. Raises Unavailable."""
        self._wire.send(subject, payload)

    async def listen(self, subject: str, receiver: Callable[[Msg], None]) -> Subscription:
        """Subscribe; `receiver` runs at once for each message and must not block."""
        return await self._wire.listen(subject, receiver)

    async def stream_info(self, stream: str) -> api.StreamInfo:
        """What the server says of a stream; raises Unavailable."""
        try:
            return await self.js.stream_info(stream)
        except (NatsError, TimeoutError) as error:
            raise Unavailable(f"stream {stream}: {error}") from error

    async def close(self) -> None:
        """Flush what is written and close."""
        self._closing = True
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


def _header_block(headers: Mapping[str, str]) -> bytes:
    """Headers as NATS writes them, nothing for none. A line break in one would begin another: ValueError."""
    if not headers:
        return b""
    lines = ["NATS/1.0"]
    for name, value in headers.items():
        line = f"{name}: {value}"
        if "\r" in line or "\n" in line:
            raise ValueError("a header can't hold a line break")
        lines.append(line)
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def _stored(subject: str, answer: Msg | FrontdeskError) -> int:
    """The sequence in an acknowledgement; raises what it says instead."""
    if isinstance(answer, FrontdeskError):
        raise answer
    what = subject.split(".", 1)[0]
    if nobody_answered(answer):
        raise Unavailable(f"no stream takes messages on {what}")
    try:
        said = orjson.loads(answer.data)
    except orjson.JSONDecodeError as error:
        raise Unavailable(f"NATS acknowledged a message on {what} with what is no JSON") from error
    if (refused := said.get("error")) is not None:
        text = f"NATS did not store a message on {what}: {refused.get('description', refused)}"
        raise ResourceExhausted(text) if refused.get("err_code") in _FULL else Unavailable(text)
    return int(said["seq"])


def _stray(msg: Msg) -> None:
    log.debug("an acknowledgement came too late on %s", msg.subject)
