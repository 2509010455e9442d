"""Taking in: store what the platform said, once, and say which chats now wait for a decision.

One transaction for a batch: every message under its unique key, each chat's waiting state with it. Only after
the commit are timers set or decisions made, and only after that is the batch acknowledged; a crash between
repeats the batch, whose messages are then duplicates and whose chats are looked at again.

A buyer's message begins as `waiting`. It goes to a person instead (`person`, with the reason) when it is
older than `max_age_ms`, dated before `answer_after`, or the switch is on STOP. What the seller typed by hand
settles every earlier message of the chat and pauses it. History of a first login is stored and nothing else.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from google.protobuf.message import DecodeError, Message
from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from frontdesk.api.events.v1.inbound_pb2 import (
    AUTHOR_BUYER,
    AUTHOR_FRONTDESK,
    AUTHOR_SELLER,
    AUTHOR_SYSTEM,
    Inbound,
)
from frontdesk.kit.database import any_of
from frontdesk.kit.errors import Poison
from frontdesk.kit.upserts import insert_ignoring
from frontdesk.reply_engine.model import MessageState, Snapshot, Switch, chat_key
from frontdesk.reply_engine.orders.intake import store_orders
from frontdesk.reply_engine.rules.model import LIMITS
from frontdesk.reply_engine.snapshot import SnapshotCache
from frontdesk.reply_engine.statements import ChatRow, lock_chats, update_chats
from frontdesk.reply_engine.tables import chats, messages

log = logging.getLogger(__name__)

AUTHORS = {
    AUTHOR_BUYER: "buyer",
    AUTHOR_SELLER: "seller",
    AUTHOR_FRONTDESK: "frontdesk",
    AUTHOR_SYSTEM: "system",
}
MINUTE_MS = 60_000

_KNOWN = select(messages.c.account_id, messages.c.message_id).where(
    messages.c.account_id.in_(any_of("accounts")), messages.c.message_id.in_(any_of("ids"))
)


@dataclass(frozen=True, slots=True)
class IntakeLimits:
    """When a buyer waits no longer for a machine; milliseconds."""

    max_age_ms: int = 30 * MINUTE_MS
    debounce_cap_ms: int = 10_000
    debounce_cap_messages: int = 20


@dataclass(slots=True)
class Taken:
    """What a batch led to: messages that are new, chats due now, chats due later, paid orders."""

    new: list[Inbound] = field(default_factory=list)
    due_now: set[str] = field(default_factory=set)
    due_later: dict[str, int] = field(default_factory=dict)
    repeated: set[str] = field(default_factory=set)
    waiting: set[str] = field(default_factory=set)
    due_orders: set[tuple[str, str]] = field(default_factory=set)


def parse(data: bytes) -> Inbound:
    """An Inbound that can be stored; raises Poison naming the field otherwise."""
    try:
        inbound = Inbound.FromString(data)
    except DecodeError as error:
        raise Poison(f"payload: not an Inbound: {error}") from error
    kind = inbound.WhichOneof("content")
    if not kind:
        raise Poison("content: missing")
    _check_id("organization_id", inbound.organization_id)
    _check_id("account_id", inbound.account_id)
    if kind == "message":
        _check_id("chat_id", inbound.chat_id)
        _check_id("message.message_id", inbound.message.message_id)
        if inbound.message.author not in AUTHORS:
            raise Poison("message.author: unknown")
        _without_nul(inbound.message, ("sender_id", "sender_name", "buyer_id", "text", "item_id"))
    else:
        _check_id("order.order_id", inbound.order.order_id or inbound.order.message_id)
        _without_nul(inbound.order, ("order_id", "item_id", "buyer_id"))
    return inbound


def _without_nul(message: Message, names: Iterable[str]) -> None:
    """PostgreSQL stores no NUL in a text; a buyer who sends one is answered all the same."""
    for name in names:
        if "\x00" in (value := getattr(message, name)):
            setattr(message, name, value.replace("\x00", ""))


def _check_id(name: str, value: str) -> None:
    """An id must fit into its column and into the subject of a timer, or it would be tried for ever."""
    if not value:
        raise Poison(f"{name}: missing")
    if len(value) > LIMITS.id_length or not value.isprintable():
        raise Poison(f"{name}: not an id")


async def take_in(
    connection: AsyncConnection,
    batch: Sequence[Inbound],
    snapshots: SnapshotCache,
    limits: IntakeLimits,
    now_ms: int,
    traces: Mapping[int, str] | None = None,
) -> Taken:
    """Store a batch in the caller's transaction; `traces` has the traceparent of an Inbound by its `id()`."""
    taken = Taken()
    configuration = await snapshots.get(connection, {i.organization_id for i in batch})
    talk = [i for i in batch if i.HasField("message")]
    if talk:
        await _store_messages(connection, talk, configuration, limits, now_ms, taken, traces or {})
    updates = [i for i in batch if i.HasField("order")]
    if updates:
        await store_orders(connection, updates, now_ms, taken.due_orders)
    return taken


async def _store_messages(
    connection: AsyncConnection,
    batch: Sequence[Inbound],
    configuration: dict[str, Snapshot],
    limits: IntakeLimits,
    now_ms: int,
    taken: Taken,
    traces: Mapping[int, str],
) -> None:
    keys = {chat_key(i.account_id, i.chat_id) for i in batch}
    rows = await lock_chats(connection, keys)
    missing = keys - rows.keys()
    if missing:
        first = {chat_key(i.account_id, i.chat_id): i for i in batch}
        await connection.execute(
            insert_ignoring(connection, chats),
            [
                {
                    "chat_key": key,
                    "organization_id": first[key].organization_id,
                    "account_id": first[key].account_id,
                    "chat_id": first[key].chat_id,
                }
                for key in sorted(missing)
            ],
        )
        rows = await lock_chats(connection, keys)
    ordered = sorted(batch, key=lambda i: (i.message.created_at_ms, i.message.message_id))
    known = await _known(connection, ordered)
    states = {key: _ChatState(row) for key, row in rows.items()}
    inserts: list[dict[str, Any]] = []
    for inbound in ordered:
        key = chat_key(inbound.account_id, inbound.chat_id)
        identity = (inbound.account_id, inbound.message.message_id)
        if identity in known:
            taken.repeated.add(key)
            continue
        known.add(identity)
        snapshot = configuration[inbound.organization_id]
        state, reason = states[key].take(inbound, snapshot, limits, now_ms)
        states[key].traceparent = traces.get(id(inbound)) or states[key].traceparent
        inserts.append(_message_row(inbound, key, state, reason))
        taken.new.append(inbound)
    if inserts:
        await connection.execute(insert_ignoring(connection, messages), inserts)
    await _settle_earlier(connection, states.values())
    called = any(s.row.called_at_ms for s in states.values())
    await update_chats(connection, [s.changes(called=called) for s in states.values() if s.touched])
    for key, chat in states.items():
        _schedule(key, chat, now_ms, taken)


def _schedule(key: str, state: _ChatState, now_ms: int, taken: Taken) -> None:
    """A chat that waits for a machine is due now or has its timer set, again for a duplicate."""
    if not state.waiting_since or state.waiting_reason:
        return
    taken.waiting.add(key)
    if state.due_at <= now_ms:
        taken.due_now.add(key)
    else:
        taken.due_later[key] = state.due_at


async def _known(connection: AsyncConnection, batch: Iterable[Inbound]) -> set[tuple[str, str]]:
    by_account: dict[str, list[str]] = {}
    for inbound in batch:
        by_account.setdefault(inbound.account_id, []).append(inbound.message.message_id)
    ids = [message_id for group in by_account.values() for message_id in group]
    rows = await connection.execute(_KNOWN, {"accounts": sorted(by_account), "ids": ids})
    return {(row.account_id, row.message_id) for row in rows}


async def _settle_earlier(connection: AsyncConnection, states: Iterable[_ChatState]) -> None:
    """What the seller answered by hand waits no longer."""
    for state in states:
        if state.settled_until:
            await connection.execute(
                update(messages)
                .where(
                    messages.c.chat_key == state.row.chat_key,
                    messages.c.state == MessageState.WAITING,
                    messages.c.created_at_ms <= state.settled_until,
                )
                .values(state=MessageState.PERSON, reason="answered")
            )


def _message_row(inbound: Inbound, key: str, state: MessageState, reason: str) -> dict[str, Any]:
    message = inbound.message
    return {
        "account_id": inbound.account_id,
        "message_id": message.message_id,
        "organization_id": inbound.organization_id,
        "chat_key": key,
        "author": AUTHORS[message.author],
        "sender_id": message.sender_id,
        "sender_name": message.sender_name,
        "text": message.text,
        "image_urls": list(message.image_urls),
        "item_id": message.item_id,
        "created_at_ms": message.created_at_ms,
        "received_at_ms": inbound.received_at_ms,
        "state": state,
        "reason": reason,
        "decision_id": "",
    }


class _ChatState:
    """A locked chat as the batch changes it."""

    def __init__(self, row: ChatRow) -> None:
        self.row = row
        self.touched = False
        self.buyer_id: str = row.buyer_id
        self.buyer_name: str = row.buyer_name
        self.item_id: str = row.item_id
        self.last_text: str = row.last_text
        self.last_message_at: int = row.last_message_at_ms
        self.last_seller_at: int = row.last_seller_at_ms
        self.waiting_since: int = row.waiting_since_ms
        self.waiting_reason: str = row.waiting_reason
        self.waiting_count: int = row.waiting_count
        self.due_at: int = row.due_at_ms
        self.paused_until: int = row.paused_until_ms
        self.pause_reason: str = row.pause_reason
        self.called_at: int = row.called_at_ms
        self.called_reason: str = row.called_reason
        self.traceparent: str = row.traceparent
        self.settled_until = 0

    def take(
        self, inbound: Inbound, snapshot: Snapshot, limits: IntakeLimits, now_ms: int
    ) -> tuple[MessageState, str]:
        """Apply one new message; returns the state it begins in and why."""
        self.touched = True
        message = inbound.message
        self.buyer_id = message.buyer_id or self.buyer_id
        self.item_id = message.item_id or self.item_id
        if message.created_at_ms >= self.last_message_at:
            self.last_message_at = message.created_at_ms
            self.last_text = message.text or ("[图片]" if message.image_urls else "")
        if message.author == AUTHOR_SELLER and not inbound.history:
            self._seller(message.created_at_ms, snapshot.account(inbound.account_id).takeover_minutes, now_ms)
        elif message.author == AUTHOR_SELLER:
            self.last_seller_at = max(self.last_seller_at, message.created_at_ms)
        if message.author != AUTHOR_BUYER:
            return MessageState.STORED, ""
        self.buyer_id = message.buyer_id or message.sender_id
        self.buyer_name = message.sender_name or self.buyer_name
        if inbound.history:
            return MessageState.STORED, "history"
        return self._buyer(inbound, snapshot, limits, now_ms)

    def _seller(self, at_ms: int, takeover_minutes: int, now_ms: int) -> None:
        self.last_seller_at = max(self.last_seller_at, at_ms)
        self.settled_until = max(self.settled_until, at_ms)
        self.waiting_since, self.waiting_reason, self.waiting_count, self.due_at = 0, "", 0, 0
        self.called_at, self.called_reason = 0, ""
        if takeover_minutes:
            until = now_ms + takeover_minutes * MINUTE_MS
            if until > self.paused_until:
                self.paused_until, self.pause_reason = until, "typed by hand"

    def _buyer(
        self, inbound: Inbound, snapshot: Snapshot, limits: IntakeLimits, now_ms: int
    ) -> tuple[MessageState, str]:
        at_ms = inbound.message.created_at_ms
        if at_ms <= self.last_seller_at:
            return MessageState.PERSON, "answered"
        reason = ""
        if now_ms - at_ms > limits.max_age_ms:
            reason = "too_old"
        elif at_ms < snapshot.effective_answer_after(inbound.account_id):
            reason = "before_answer_after"
        elif snapshot.effective_switch(inbound.account_id) is Switch.STOP:
            reason = "stopped"
        self.waiting_since = self.waiting_since or now_ms
        if reason:
            # A person is called unless a newer message of this chat is still to be answered by us.
            if not self.waiting_count:
                self.waiting_reason = reason
            return MessageState.PERSON, reason
        self.waiting_reason = ""
        self.waiting_count += 1
        first = self.waiting_since if self.waiting_count > 1 else now_ms
        if self.waiting_count == 1:
            self.waiting_since = now_ms
        debounce = snapshot.account(inbound.account_id).debounce_ms
        due = min(now_ms + debounce, first + limits.debounce_cap_ms)
        if self.waiting_count >= limits.debounce_cap_messages:
            due = now_ms
        self.due_at = max(due, self.paused_until)
        return MessageState.WAITING, ""

    def changes(self, *, called: bool) -> dict[str, Any]:
        """What is written back; `called` when a person was called in a chat of the batch."""
        of_calls = {"called_at_ms": self.called_at, "called_reason": self.called_reason} if called else {}
        return {
            "chat_key": self.row.chat_key,
            "buyer_id": self.buyer_id,
            "buyer_name": self.buyer_name,
            "item_id": self.item_id,
            "last_text": self.last_text,
            "last_message_at_ms": self.last_message_at,
            "last_seller_at_ms": self.last_seller_at,
            "waiting_since_ms": self.waiting_since,
            "waiting_reason": self.waiting_reason,
            "waiting_count": self.waiting_count,
            "due_at_ms": self.due_at,
            "paused_until_ms": self.paused_until,
            "pause_reason": self.pause_reason,
            "traceparent": self.traceparent,
            **of_calls,
        }
