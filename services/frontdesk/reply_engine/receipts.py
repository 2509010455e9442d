"""What became of an answer: the gateway's reply events, stored once each.

A confirmed part becomes a message of the chat's history. A part that was refused or given up calls a person.
States only go forward: a late `sent` never undoes `confirmed`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from google.protobuf.message import DecodeError
from sqlalchemy import bindparam, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from frontdesk.api.events.v1 import event_pb2
from frontdesk.api.events.v1.event_pb2 import Event, ReplyChanged
from frontdesk.kit.database import any_of
from frontdesk.kit.errors import Poison
from frontdesk.kit.upserts import insert_ignoring
from frontdesk.reply_engine.model import SETTLED, MessageState, Origin, SendState
from frontdesk.reply_engine.tables import chats, messages, outgoing

STATES = {
    event_pb2.SEND_STATE_QUEUED: SendState.QUEUED,
    event_pb2.SEND_STATE_SENT: SendState.SENT,
    event_pb2.SEND_STATE_CONFIRMED: SendState.CONFIRMED,
    event_pb2.SEND_STATE_UNCONFIRMED: SendState.UNCONFIRMED,
    event_pb2.SEND_STATE_REJECTED: SendState.REJECTED,
    event_pb2.SEND_STATE_FAILED: SendState.FAILED,
    event_pb2.SEND_STATE_DROPPED: SendState.DROPPED,
}
_REPORT = (
    update(outgoing)
    .where(outgoing.c.outgoing_id == bindparam("id_"))
    .values(
        state=bindparam("new_state"),
        reason=bindparam("new_reason"),
        message_id=bindparam("new_message_id"),
        updated_at_ms=bindparam("new_updated"),
    )
)
_REPORTED = (
    select(
        outgoing.c.outgoing_id,
        outgoing.c.decision_id,
        outgoing.c.organization_id,
        outgoing.c.account_id,
        outgoing.c.chat_id,
        outgoing.c.chat_key,
        outgoing.c.origin,
        outgoing.c.text,
        outgoing.c.image,
        outgoing.c.state,
    )
    .where(outgoing.c.outgoing_id.in_(any_of("ids")))
    .order_by(outgoing.c.outgoing_id)
    .with_for_update()
)
UNDELIVERED = frozenset({SendState.REJECTED, SendState.FAILED})


@dataclass(slots=True)
class Receipts:
    """What a batch of reports led to: parts that could not be delivered, orders whose delivery moved on."""

    undelivered: list[tuple[Any, str]] = field(default_factory=list)
    delivery_decisions: set[str] = field(default_factory=set)


def parse_report(data: bytes) -> Event:
    """An event with a ReplyChanged; raises Poison otherwise."""
    try:
        event = Event.FromString(data)
    except DecodeError as error:
        raise Poison(f"payload: not an Event: {error}") from error
    if not event.HasField("reply") or not event.reply.outgoing_id:
        raise Poison("reply.outgoing_id: missing")
    return event


async def store_reports(connection: AsyncConnection, events: Sequence[Event], now_ms: int) -> Receipts:
    """Store a batch of reports in the caller's transaction."""
    receipts = Receipts()
    latest: dict[str, ReplyChanged] = {}
    for event in events:
        before = latest.get(event.reply.outgoing_id)
        if before is None or STATES.get(before.state) not in SETTLED:
            latest[event.reply.outgoing_id] = event.reply
    rows = await connection.execute(_REPORTED, {"ids": sorted(latest)})
    changes: list[dict[str, Any]] = []
    history: list[dict[str, Any]] = []
    for row in rows:
        report = latest[row.outgoing_id]
        state = STATES.get(report.state)
        if state is None or row.state in SETTLED:
            continue
        changes.append(
            {
                "id_": row.outgoing_id,
                "new_state": state,
                "new_reason": report.reason,
                "new_message_id": report.message_id,
                "new_updated": now_ms,
            }
        )
        if state is SendState.CONFIRMED:
            history.append(_history_row(row, report, now_ms))
        if state in UNDELIVERED:
            receipts.undelivered.append((row, report.reason))
        if row.origin == Origin.DELIVERY and state in SETTLED:
            receipts.delivery_decisions.add(row.decision_id)
    if changes:
        await connection.execute(_REPORT, changes)
    if history:
        await connection.execute(insert_ignoring(connection, messages), history)
    for row, _reason in receipts.undelivered:
        await connection.execute(
            update(chats)
            .where(chats.c.chat_key == row.chat_key, chats.c.waiting_since_ms == 0)
            .values(waiting_since_ms=now_ms, waiting_reason="send_failed")
        )
    return receipts


def _history_row(row: Any, report: ReplyChanged, now_ms: int) -> dict[str, Any]:
    return {
        "account_id": row.account_id,
        "message_id": report.message_id or f"out:{row.outgoing_id}",
        "organization_id": row.organization_id,
        "chat_key": row.chat_key,
        "author": "frontdesk",
        "sender_id": "",
        "sender_name": "",
        "text": row.text,
        "image_urls": [row.image["url"]] if row.image else [],
        "item_id": "",
        "created_at_ms": report.created_at_ms or now_ms,
        "received_at_ms": now_ms,
        "state": MessageState.STORED,
        "reason": "",
        "decision_id": row.decision_id,
    }
