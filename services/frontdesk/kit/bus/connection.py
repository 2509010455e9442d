"""The connection to NATS that a service holds, and publishing on it.

The client reconnects for ever; while it is away a publish fails with Unavailable after its time-out, and the
caller keeps what it has. `Bus.on_reconnect` callbacks run after each reconnect, so that whoever holds a
subscription can make sure that it is not deaf.
"""

from __future__ import annotations

import asyncio
import logging
import re
import ssl
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import orjson
from google.protobuf.message import Message
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import Error as NatsError
from nats.js import JetStreamContext, api

from frontdesk.kit import subjects, tasks
from frontdesk.kit.bus.topology import MAKING, ensure_streams
from frontdesk.kit.config import NatsSettings
from frontdesk.kit.disconnect import disconnect
from frontdesk.kit.errors import (
    FailedPrecondition,
    FrontdeskError,
    InvalidArgument,
    ResourceExhausted,
    Unavailable,
)
from frontdesk.kit.telemetry.propagation import inject
from frontdesk.kit.wire import Mailbox, Wire, nobody_answered

log = logging.getLogger(__name__)

MSG_ID = "Nats-Msg-Id"
MOST_SUBJECT = 1024
# What the server says when a stream is full: of bytes or messages, of a subject's messages.
_FULL = frozenset({10047, 10077})
TRACEPARENT = "traceparent"
DRAIN_S = 5.0
_DENIED = re.compile(r'permissions violation for (?:publish|subscription) to "([^"]+)"', re.IGNORECASE)
_REFUSALS = ("authorization violation", "user authentication", "account authentication")


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


class _Contact:
    """What the client tells of its connection, before there is a `Bus` and after."""

    def __init__(self) -> None:
        self.bus: Bus | None = None
        self.denied: set[str] = set()
        self._last: Exception | None = None
        self._wrong: asyncio.Future[FailedPrecondition] = asyncio.get_running_loop().create_future()

    async def made(self, connecting: asyncio.Future[None], patience: float | None) -> None:
        """Return when the connection is there; the client itself goes on trying for ever."""
        try:
            await asyncio.wait(
                (connecting, self._wrong), timeout=patience, return_when=asyncio.FIRST_COMPLETED
            )
            if self._wrong.done():
                raise self._wrong.result()
            if not connecting.done():
                raise Unavailable(
                    f"NATS can't be reached: {self._last or 'it does not answer'}"
                ) from self._last
            await connecting
        except (NatsError, OSError, ValueError) as error:  # not of a server, which is tried again
            raise FailedPrecondition(f"NATS can't be used, is FRONTDESK_NATS_URL right? {error}") from error
        finally:
            await tasks.end([connecting])

    async def reconnected(self) -> None:
        if self.bus is not None:
            self.bus._changed(self.bus._on_reconnect, "NATS is back")

    async def disconnected(self) -> None:
        if self.bus is not None and not self.bus._closing:
            self.bus._changed(self.bus._on_disconnect, "NATS is gone")

    async def failed(self, error: Exception) -> None:
        if (denied := _DENIED.search(str(error))) is not None:
            if denied[1] not in self.denied:
                # Who may not make what is missing waits for whoever may; any other refusal is a fault.
                level = logging.INFO if denied[1].startswith(MAKING) else logging.WARNING
                log.log(level, "NATS client: %s", error)
            self.denied.add(denied[1])
            return
        if self.bus is None:
            # Why it can't be reached is for whoever waits to tell.
            self._last = error
            if (wrong := _never(error)) is not None and not self._wrong.done():
                self._wrong.set_result(wrong)
            return
        log.warning("NATS client: %s", error)


def _never(error: Exception) -> FailedPrecondition | None:
    """What is wrong, when trying again does not mend it."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return FailedPrecondition(
            f"NATS shows a certificate that FRONTDESK_NATS_CA_FILE does not vouch for: {error}"
        )
    if any(words in str(error).lower() for words in _REFUSALS):
        return FailedPrecondition(
            f"NATS refuses this user: {error}. Are FRONTDESK_NATS_USER and FRONTDESK_NATS_PASSWORD right?"
        )
    return None


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
        self._denied: set[str] = set()

    @classmethod
    async def connect(cls, settings: BusSettings, *, ensure: bool = True) -> Bus:
        """Connect, and with `ensure` make sure that all streams exist.

        Raises Unavailable naming the server; FailedPrecondition or InvalidArgument at once for what no
        waiting mends: a wrong password, a certificate of somebody else's, an address that is none.
        """
        contact = _Contact()
        client = Client()
        tls = _tls(settings)
        connecting = asyncio.ensure_future(
            client.connect(
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
                reconnected_cb=contact.reconnected,
                disconnected_cb=contact.disconnected,
                error_cb=contact.failed,
                tls=tls,
            )
        )
        try:
            await contact.made(connecting, settings.connect_patience)
        except BaseException:
            await disconnect(client)
            raise
        bus = cls(client, settings)
        bus._denied = contact.denied
        contact.bus = bus
        if ensure:
            try:
                await ensure_streams(bus.js, settings.replicas)
            except BaseException:
                await bus.close()
                raise
        return bus

    @property
    def denied(self) -> frozenset[str]:
        """Subjects in lower case that the server did not let this user publish to or hear."""
        return frozenset(self._denied)

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
        """Flush what is written, for a few seconds at most, and close."""
        self._closing = True
        if self.nc.is_connected:
            draining = asyncio.ensure_future(self.nc.drain())
            await asyncio.wait((draining,), timeout=DRAIN_S)
            if not draining.done():
                log.warning("NATS does not take what was written last: it is dropped")
            elif not draining.cancelled() and (error := draining.exception()) is not None:
                log.info("NATS closed in disorder: %s", error)
            await tasks.end([draining])
        await disconnect(self.nc)


def _tls(settings: BusSettings) -> ssl.SSLContext | None:
    """Raises InvalidArgument when a file that is named can't be read."""
    try:
        if settings.creds is not None:
            Path(settings.creds).read_bytes()
        return None if settings.ca_file is None else ssl.create_default_context(cafile=settings.ca_file)
    except OSError as error:
        what = "nats_ca_file" if settings.ca_file is not None else "nats_creds"
        raise InvalidArgument(what, f"can't be read: {error}") from error


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
