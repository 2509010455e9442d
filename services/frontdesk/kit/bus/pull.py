"""One durable consumer's feed: messages arrive as the server has them, and silence is noticed.

nats-py's `fetch` waits until a batch is full or its time is up, which costs either latency or two round trips
for each batch. The feed keeps pull requests outstanding instead, as the Go client's `Consume` does: it asks
for more when less than half of the batch is outstanding, counts what status messages say is left of a
request, and takes two missed idle heartbeats for a deaf subscription, which it makes anew.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import orjson
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import Error as NatsError

from frontdesk.kit.bus.connection import Bus
from frontdesk.kit.clock import Clock, SystemClock
from frontdesk.kit.errors import Unavailable

log = logging.getLogger(__name__)

STATUS = "Status"
HEARTBEAT = "100"
PENDING_LEFT = "Nats-Pending-Messages"


class ConsumerGone(Unavailable):
    """The durable consumer was deleted on the server."""


class PullFeed:
    """Keeps pull requests of one consumer outstanding and hands each message to `on_message`.

    `capacity` says how many more messages the owner can hold; the feed never asks for more than that.
    """

    def __init__(
        self,
        bus: Bus,
        stream: str,
        consumer: str,
        on_message: Callable[[Msg], None],
        capacity: Callable[[], int],
        *,
        batch: int = 100,
        expires: float = 30.0,
        heartbeat: float = 2.0,
        clock: Clock | None = None,
    ) -> None:
        self._bus = bus
        self._next = f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}"
        self._stream, self._consumer = stream, consumer
        self._on_message = on_message
        self._capacity = capacity
        self._batch = batch
        self._expires_ns = int(expires * 1e9)
        self._heartbeat = heartbeat
        self._clock = clock or SystemClock()
        self._pending = 0
        self._last_sign = self._clock.monotonic()
        self._changed = asyncio.Event()
        self._gone: str | None = None
        self._renew = False
        self._paused = False

    @property
    def healthy(self) -> bool:
        """Whether the server gave a sign of life lately."""
        silent = self._clock.monotonic() - self._last_sign
        return self._bus.connected and (self._pending == 0 or silent < 3 * self._heartbeat)

    def wake(self) -> None:
        """Tell the feed that there may be room for more; no matter while enough is asked for."""
        if self._pending <= self._batch // 2:
            self._changed.set()

    def pause(self) -> None:
        """Ask for nothing more; what was asked for may still arrive."""
        self._paused = True

    async def run(self) -> None:
        """Feed until cancelled; raises ConsumerGone when the server says that there is no such consumer."""
        off = self._bus.on_reconnect(self._reset)
        subscription: Subscription | None = None
        inbox = ""
        try:
            while True:
                if subscription is None or self._renew:
                    if subscription is not None:
                        await _quietly_unsubscribe(subscription)
                    inbox = self._bus.nc.new_inbox()
                    subscription = await self._bus.listen(inbox, self._receive)
                    self._renew, self._pending = False, 0
                    self._last_sign = self._clock.monotonic()
                if self._gone:
                    raise ConsumerGone(f"consumer {self._consumer} of {self._stream}: {self._gone}")
                await self._ask(inbox)
                await self._wait()
        finally:
            off()
            if subscription is not None:
                await _quietly_unsubscribe(subscription)

    async def _ask(self, inbox: str) -> None:
        room = min(self._batch, self._capacity()) - self._pending
        if self._paused or room <= 0 or self._pending > self._batch // 2 or not self._bus.connected:
            return
        request = {"batch": room, "expires": self._expires_ns, "idle_heartbeat": int(self._heartbeat * 1e9)}
        try:
            await self._bus.nc.publish(self._next, orjson.dumps(request), reply=inbox)
        except NatsError as error:
            log.info("pull request of %s: %s", self._consumer, error)
            return
        self._pending += room

    async def _wait(self) -> None:
        self._changed.clear()
        try:
            async with asyncio.timeout(self._heartbeat):
                await self._changed.wait()
        except TimeoutError:
            silent = self._clock.monotonic() - self._last_sign
            if self._pending and silent > 2.5 * self._heartbeat and self._bus.connected:
                log.warning("consumer %s of %s is deaf, subscribing anew", self._consumer, self._stream)
                self._reset()

    def _reset(self) -> None:
        self._renew = True
        self._changed.set()

    def _receive(self, msg: Msg) -> None:
        self._last_sign = self._clock.monotonic()
        headers = msg.headers
        if headers and not msg.data and (status := headers.get(STATUS)):
            self._status(status, headers)
            return
        self._pending -= 1
        self.wake()
        self._on_message(msg)

    def _status(self, status: str, headers: dict[str, str]) -> None:
        if status == HEARTBEAT:
            return
        description = headers.get("Description", "")
        if "Consumer Deleted" in description or status == "503":
            self._gone = description or "no such consumer"
        elif "Consumer is push" in description or status == "400":
            self._gone = description
        else:  # 404 no messages, 408 request timed out, 409 limits: the request is over
            self._pending = max(0, self._pending - int(headers.get(PENDING_LEFT, self._pending)))
        self._changed.set()


async def _quietly_unsubscribe(subscription: Subscription) -> None:
    try:
        await subscription.unsubscribe()
    except NatsError as error:
        log.debug("unsubscribe: %s", error)
