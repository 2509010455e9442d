"""The cheapest way to and from nats-py, for calls and for publishing.

Sending does not wait: the command is built in one go and appended to the client's own pending list, which the
client's flusher writes, many at a time. Receiving has no queue and no task a subscription: the client hands
each message straight to a function. Both stand on few internals of nats-py (2.16), all of them in this file.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Callable

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import Error as NatsError

from frontdesk.kit.errors import Unavailable
from frontdesk.kit.subjects import encode_token

_log = logging.getLogger(__name__)

CONGESTED_BYTES = 1024 * 1024
MOST_PENDING_BYTES = 16 * 1024 * 1024

Receiver = Callable[[Msg], None]


class Tap:
    """Stands where nats-py expects the future of a one-off request, and hands every message to `receiver`."""

    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver

    def cancelled(self) -> bool:
        return False

    def set_result(self, message: Msg) -> None:
        try:
            self._receiver(message)
        except Exception:  # noqa: BLE001 - nats-py's read loop, where an error would end the connection
            _log.exception("a message could not be taken in")


class Wire:
    """One NATS connection, to send on without waiting."""

    def __init__(self, nc: Client) -> None:
        self.nc = nc
        self._loop = asyncio.get_running_loop()
        self._flushed: asyncio.Future[None] = self._loop.create_future()
        self._flushed.set_result(None)

    def send(self, subject: str, payload: bytes = b"", reply: str = "", headers: bytes = b"") -> None:
        """Give one message to the connection; raises Unavailable when it is closed or its buffer is full.

        While the connection is being re-made, messages wait in the buffer. The caller minds `max_payload`.
        """
        nc = self.nc
        size = len(payload)
        if headers:
            length = len(headers)
            head = f"HPUB {subject} {reply} {length} {length + size}\r\n".encode()
            command = b"".join((head, headers, payload, b"\r\n"))
        else:
            command = b"".join((f"PUB {subject} {reply} {size}\r\n".encode(), payload, b"\r\n"))
        queue = nc._flush_queue
        if queue is None or nc.is_closed or nc.is_draining_pubs:
            raise Unavailable("the connection to NATS is closed")
        if nc._pending_data_size + size > MOST_PENDING_BYTES:
            raise Unavailable("the connection to NATS does not keep up")
        nc._pending.append(command)
        nc._pending_data_size += len(command)
        nc.stats["out_msgs"] += 1
        nc.stats["out_bytes"] += size
        if queue.empty() and nc.is_connected:
            queue.put_nowait(self._flushed)

    @property
    def max_payload(self) -> int:
        """The server's limit for headers and payload together, bytes."""
        return self.nc.max_payload

    @property
    def congested(self) -> bool:
        """Much is waiting to be written; who can wait, should."""
        return self.nc.pending_data_size > CONGESTED_BYTES

    async def relieve(self) -> None:
        """Wait until what is pending was taken by the server; raises Unavailable when it is not."""
        if self.nc.is_connected:
            try:
                await self.nc.flush()
            except (NatsError, TimeoutError) as error:
                raise Unavailable("the connection to NATS does not keep up") from error

    async def listen(self, subject: str, receiver: Receiver, queue: str = "") -> Subscription:
        """Subscribe; `receiver` runs at once for each message and must not block."""
        # nats-py asks of `future` no more than Tap has; the annotation says more.
        return await self.nc.subscribe(subject, queue=queue, future=Tap(receiver))  # type: ignore[arg-type]


class Mailbox:
    """One wildcard inbox for all calls of a process; a call's messages go to its own receiver.

    `name` becomes a token of the address, so that the other side can say who calls.
    """

    def __init__(self, wire: Wire, name: str, strays: Receiver) -> None:
        self.started = False
        self._wire = wire
        self._strays = strays
        self._prefix = f"{wire.nc.new_inbox()}.{encode_token(name)}."
        self._receivers: dict[str, Receiver] = {}
        self._numbers = itertools.count()
        self._starting = asyncio.Lock()
        self._subscription: Subscription | None = None

    async def start(self) -> None:
        """Subscribe, once."""
        async with self._starting:
            if not self.started:
                self._subscription = await self._wire.listen(f"{self._prefix}*", self._deliver)
                self.started = True

    async def stop(self) -> None:
        """Unsubscribe; calls that still wait get nothing more."""
        subscription, self._subscription = self._subscription, None
        if subscription is not None and not self._wire.nc.is_closed and not self._wire.nc.is_draining:
            await subscription.unsubscribe()

    def open(self, receiver: Receiver) -> str:
        """A new address, whose messages go to `receiver` until it is closed."""
        address = f"{self._prefix}{next(self._numbers)}"
        self._receivers[address] = receiver
        return address

    def receivers(self) -> list[Receiver]:
        """Who still waits."""
        return list(self._receivers.values())

    def close(self, address: str) -> None:
        """Whatever still comes to `address` is a stray."""
        self._receivers.pop(address, None)

    def _deliver(self, message: Msg) -> None:
        receiver = self._receivers.get(message.subject)
        if receiver is None:
            self._strays(message)
        else:
            receiver(message)


def nobody_answered(message: Msg) -> bool:
    """Whether the NATS server itself answered that nobody listens there (status 503 without a body)."""
    headers = message.headers
    return headers is not None and not message.data and headers.get("Status") == "503"


def caller_of(address: str) -> str:
    """The name in an address that `Mailbox` made."""
    tokens = address.split(".")
    return tokens[-2] if len(tokens) > 2 else ""
