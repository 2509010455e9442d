"""What the platform said, onto INBOUND: once each, acknowledged to the platform only when NATS has it.

A frame is handled in a task of its own, so that the socket is read on; at most `in_work` of them at once,
then reading waits. A message that the account itself wrote is ours when the ledger knows it, and otherwise
typed by the seller by hand.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from opentelemetry import trace

from frontdesk.api.events.v1 import inbound_pb2
from frontdesk.api.events.v1.inbound_pb2 import Inbound
from frontdesk.connection_gateway.accounts.lanes import Lanes
from frontdesk.connection_gateway.accounts.ledger import Ledger, OwnMessage
from frontdesk.connection_gateway.model import Account, digest
from frontdesk.connection_gateway.platforms.base import PlatformConnection
from frontdesk.connection_gateway.platforms.errors import PlatformError
from frontdesk.connection_gateway.platforms.model import (
    ChatEvent,
    ChatMessage,
    Notice,
    OrderStatus,
    OrderUpdate,
    Push,
)
from frontdesk.kit import subjects
from frontdesk.kit.bus import Bus
from frontdesk.kit.bus.connection import Outgoing
from frontdesk.kit.clock import Clock
from frontdesk.kit.errors import FrontdeskError, ResourceExhausted
from frontdesk.kit.telemetry import names

T = TypeVar("T")

log = logging.getLogger(__name__)
_tracer = trace.get_tracer(names.GATEWAY_SCOPE)

_STATUSES = {
    OrderStatus.UNKNOWN: inbound_pb2.ORDER_STATUS_UNSPECIFIED,
    OrderStatus.CREATED: inbound_pb2.ORDER_STATUS_CREATED,
    OrderStatus.PAID: inbound_pb2.ORDER_STATUS_PAID,
    OrderStatus.SHIPPED: inbound_pb2.ORDER_STATUS_SHIPPED,
    OrderStatus.DONE: inbound_pb2.ORDER_STATUS_DONE,
    OrderStatus.CLOSED: inbound_pb2.ORDER_STATUS_CLOSED,
    OrderStatus.REFUND_REQUESTED: inbound_pb2.ORDER_STATUS_REFUNDING,
    OrderStatus.REFUNDED: inbound_pb2.ORDER_STATUS_REFUNDED,
}
MAX_ID = 128
SEEN_LIMIT = 10_000
SEEN_MS = 300_000
_CHATS = 1_000
_PATIENCE_S = 5.0


class Seen:
    """Ids that were handled lately: at most `limit`, each for `age_ms` (X-35). It saves work; the database
    decides."""

    __slots__ = ("_age_ms", "_clock", "_ids", "_limit")

    def __init__(self, clock: Clock, limit: int = SEEN_LIMIT, age_ms: int = SEEN_MS) -> None:
        self._clock = clock
        self._limit = limit
        self._age_ms = age_ms
        self._ids: OrderedDict[str, int] = OrderedDict()

    def __contains__(self, key: str) -> bool:
        return self._ids.get(key, 0) > self._clock.now_ms() - self._age_ms

    def add(self, key: str) -> None:
        """Remember an id."""
        now = self._clock.now_ms()
        self._ids[key] = now
        self._ids.move_to_end(key)
        while self._ids:
            oldest, at = next(iter(self._ids.items()))
            if len(self._ids) <= self._limit and at > now - self._age_ms:
                return
            del self._ids[oldest]


class Intake:
    """The ear of one account. `told` is called when the platform hints at messages that were not pushed."""

    __slots__ = (
        "_account",
        "_ahead_ms",
        "_bus",
        "_clock",
        "_hand_typed",
        "_heard",
        "_lanes",
        "_ledger",
        "_own",
        "_room",
        "_seen",
        "_tasks",
        "_told",
        "connection",
        "history_before_ms",
    )

    def __init__(
        self,
        account: Account,
        *,
        bus: Bus,
        ledger: Ledger,
        lanes: Lanes,
        clock: Clock,
        in_work: int,
        told: Callable[[], None],
    ) -> None:
        self._account = account
        self._bus = bus
        self._ledger = ledger
        self._lanes = lanes
        self._clock = clock
        self._room = asyncio.Semaphore(in_work)
        self._told = told
        self._seen = Seen(clock)
        self._heard = Seen(clock)
        self._own = Seen(clock, limit=1_000)
        self._ahead_ms: int | None = None
        self._hand_typed: OrderedDict[str, int] = OrderedDict()
        self._tasks: set[asyncio.Task[None]] = set()
        self.connection: PlatformConnection | None = None
        self.history_before_ms = 0

    def hand_typed_at(self, chat_id: str) -> int:
        """Platform time of the newest message that the seller typed by hand in the chat, 0 for none."""
        return self._hand_typed.get(chat_id, 0)

    def knows_own(self, message_id: str) -> None:
        """The platform said that this message is one of our sends."""
        self._own.add(message_id)

    def has_heard(self, message: ChatMessage) -> bool:
        """Whether a message was pushed or taken in lately; one that waits for NATS was."""
        return message.message_id in self._heard or message.message_id in self._seen

    @property
    def ahead_ms(self) -> int | None:
        """How far our clock is at most ahead of the platform's, milliseconds; None when nothing was heard."""
        return self._ahead_ms

    async def on_push(self, push: Push, said: Sequence[ChatEvent]) -> None:
        """Take a frame (platforms.base.OnPush); returns when there is room for the next."""
        connection = self.connection
        self._listen(said)
        if said and all(isinstance(event, ChatMessage) and event.own for event in said):
            await asyncio.sleep(0)  # the answer to our send came just before its echo: let it be noted
            if all(isinstance(event, ChatMessage) and event.message_id in self._own for event in said):
                await self._acknowledge(connection, push)
                return
        await self._room.acquire()
        task = asyncio.create_task(self._take(connection, push, said))
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _listen(self, said: Sequence[ChatEvent]) -> None:
        """Note which messages were pushed, and the shortest time that one took."""
        now = self._clock.now_ms()
        for event in said:
            if isinstance(event, ChatMessage) and not event.own:
                self._heard.add(event.message_id)
                if event.created_at_ms:
                    took = now - event.created_at_ms
                    self._ahead_ms = took if self._ahead_ms is None else min(took, self._ahead_ms)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._room.release()
        if not task.cancelled() and (error := task.exception()) is not None:
            # The frame stays unacknowledged: the platform, or the next read-back, says it again.
            log.error("a frame of %s was not taken in", self._account.account_id, exc_info=error)

    def stop(self) -> None:
        """Give up what is in work; the platform has no acknowledgement for it."""
        for task in self._tasks:
            task.cancel()

    async def _take(
        self, connection: PlatformConnection | None, push: Push, said: Sequence[ChatEvent]
    ) -> None:
        worth = [event for event in said if isinstance(event, ChatMessage | OrderUpdate) and _named(event)]
        if worth:
            with _tracer.start_as_current_span(names.GATEWAY_TAKE_IN):
                await self.store(worth, history_before_ms=self.history_before_ms)
        if push.resync or any(_hints(event) for event in said):
            self._told()
        await self._acknowledge(connection, push)

    async def _acknowledge(self, connection: PlatformConnection | None, push: Push) -> None:
        """Tell the platform that the frame is stored, if its connection still lives."""
        if connection is None:
            return
        try:
            await connection.ack(push)
        except PlatformError as error:
            log.debug("a frame was not acknowledged: %s", error)

    async def store(self, events: Sequence[ChatMessage | OrderUpdate], *, history_before_ms: int = 0) -> None:
        """Bring messages and orders to INBOUND, however long that takes; returns when NATS has them.

        What is dated before `history_before_ms` is stored only, never answered.
        """
        events = [event for event in events if self._fits(event)]
        others = [e for e in events if not (isinstance(e, ChatMessage) and e.own)]
        await self._publish([self._inbound(e, history_before_ms) for e in others])
        for event in events:
            if isinstance(event, ChatMessage) and event.own and not await self.is_ours(event):
                self._typed_by_hand(event)
                await self._publish([self._inbound(event, history_before_ms)])

    def _fits(self, event: ChatMessage | OrderUpdate) -> bool:
        """Whether its ids can be ids. What can't be stored anywhere must not stop what can."""
        if max(len(event.chat_id), len(event.message_id)) <= MAX_ID and event.chat_id:
            return True
        log.warning("account %s: a message with impossible ids is left out", self._account.account_id)
        return False

    async def is_ours(self, message: ChatMessage) -> bool:
        """Whether an own message is one of our sends; what the seller typed is not."""
        if message.message_id in self._own:
            return True
        async with self._lanes.hold(message.chat_id):
            if message.message_id in self._own:
                return True
            bound = await self._patiently(lambda: self._ledger.bind(own_message(self._account, message)))
        if bound is not None:
            self._own.add(message.message_id)
        return bound is not None

    def _typed_by_hand(self, message: ChatMessage) -> None:
        newest = max(message.created_at_ms, self.hand_typed_at(message.chat_id))
        self._hand_typed[message.chat_id] = newest
        self._hand_typed.move_to_end(message.chat_id)
        while len(self._hand_typed) > _CHATS:
            self._hand_typed.popitem(last=False)

    async def _publish(self, messages: Sequence[tuple[str, Outgoing]]) -> None:
        new = [(key, outgoing) for key, outgoing in messages if key not in self._seen]
        if new:
            await self._patiently(lambda: self._bus.publish_all([outgoing for _, outgoing in new]))
        for key, _ in new:
            self._seen.add(key)

    async def _patiently(self, work: Callable[[], Awaitable[T]]) -> T:
        """Do it until the dependency takes it: what the platform said must not be lost."""
        delay = 0.1
        while True:
            try:
                return await work()
            except FrontdeskError as error:
                if not error.retryable:
                    raise
                if isinstance(error, ResourceExhausted):
                    log.error("a message of %s can't be stored: %s", self._account.account_id, error.message)
                await self._clock.sleep(delay)
                delay = min(delay * 2, _PATIENCE_S)

    def _inbound(self, event: ChatMessage | OrderUpdate, history_before_ms: int) -> tuple[str, Outgoing]:
        account = self._account
        inbound = Inbound(
            organization_id=account.organization_id,
            account_id=account.account_id,
            chat_id=event.chat_id,
            received_at_ms=self._clock.now_ms(),
            history=event.created_at_ms < history_before_ms,
        )
        if isinstance(event, ChatMessage):
            key = event.message_id
            _fill_message(inbound, event)
        else:
            key = f"order:{event.message_id or _order_key(event)}"
            _fill_order(inbound, event)
        return key, Outgoing(
            subjects.inbound(account.account_id, event.chat_id),
            inbound.SerializeToString(),
            msg_id=f"{account.account_id}:{key}",
        )


def own_message(account: Account, message: ChatMessage) -> OwnMessage:
    """An own message as the ledger compares it."""
    return OwnMessage(
        account.account_id,
        message.chat_id,
        message.message_id,
        digest(message.text, image=bool(message.image_urls)),
        message.created_at_ms,
    )


def _named(event: ChatMessage | OrderUpdate) -> bool:
    """Whether it says which message or order it is about; a bare reminder does not (A14)."""
    return bool(event.message_id or (isinstance(event, OrderUpdate) and event.order_id))


def _hints(event: ChatEvent) -> bool:
    """Whether the history has more to say than this did."""
    if isinstance(event, OrderUpdate):
        return not _named(event)
    return isinstance(event, Notice) and event.kind == "new_message"


def _order_key(update: OrderUpdate) -> str:
    """An id of an update that came without one."""
    return f"{update.chat_id}:{update.order_id}:{update.status.value}:{update.created_at_ms}"


def _fill_message(inbound: Inbound, message: ChatMessage) -> None:
    author = inbound_pb2.AUTHOR_BUYER
    if message.system:
        author = inbound_pb2.AUTHOR_SYSTEM
    elif message.own:
        author = inbound_pb2.AUTHOR_SELLER
    inbound.message.message_id = message.message_id
    inbound.message.author = author
    inbound.message.sender_id = message.sender_id
    inbound.message.sender_name = message.sender_name
    inbound.message.buyer_id = message.peer_id
    inbound.message.text = message.text
    inbound.message.image_urls.extend(message.image_urls)
    inbound.message.item_id = message.item_id
    inbound.message.created_at_ms = message.created_at_ms or inbound.received_at_ms


def _fill_order(inbound: Inbound, update: OrderUpdate) -> None:
    inbound.order.message_id = update.message_id
    inbound.order.order_id = update.order_id
    inbound.order.status = _STATUSES[update.status]
    inbound.order.item_id = update.item_id
    inbound.order.buyer_id = update.buyer_id
    inbound.order.text = update.text
    inbound.order.created_at_ms = update.created_at_ms or inbound.received_at_ms
