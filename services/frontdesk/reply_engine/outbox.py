"""What was decided and must reach the platform: stored in the decision's transaction, published after it.

`Nats-Msg-Id` is `out:<outgoing id>`, so a repeat within the server's window is dropped, and the gateway's own
row for each outgoing id drops the others: publishing again is always safe.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from frontdesk.api.events.v1 import outbound_pb2
from frontdesk.api.events.v1.outbound_pb2 import Image, Outbound
from frontdesk.kit import subjects
from frontdesk.kit.bus import Bus
from frontdesk.kit.bus.connection import Outgoing
from frontdesk.reply_engine.model import UNREPORTED, Answer, SendState
from frontdesk.reply_engine.rules.model import ImagePart
from frontdesk.reply_engine.sweep import SweepTimer
from frontdesk.reply_engine.tables import outgoing

ORIGINS = {
    "rule": outbound_pb2.ORIGIN_RULE,
    "ai": outbound_pb2.ORIGIN_AI,
    "default": outbound_pb2.ORIGIN_DEFAULT,
    "delivery": outbound_pb2.ORIGIN_DELIVERY,
    "person": outbound_pb2.ORIGIN_PERSON,
}


@dataclass(frozen=True, slots=True)
class Stored:
    """An outgoing part as stored."""

    row: dict[str, Any]

    @staticmethod
    async def insert(connection: AsyncConnection, parts: Sequence[Stored]) -> None:
        """Store parts in the caller's transaction."""
        if parts:
            await connection.execute(outgoing.insert(), [p.row for p in parts])


def store_answer(
    *,
    decision_id: str,
    chat: Any,
    answer: Answer,
    answers_until_ms: int,
    now_ms: int,
    dropped_because: str = "",
    traceparent: str = "",
) -> list[Stored]:
    """The parts of an answer as rows; `chat` has organization_id, account_id, chat_id, chat_key, buyer_id."""
    state = SendState.DROPPED if dropped_because else SendState.QUEUED
    return [
        Stored(
            {
                "outgoing_id": f"{decision_id}.{number}",
                "decision_id": decision_id,
                "part": number,
                "organization_id": chat.organization_id,
                "account_id": chat.account_id,
                "chat_id": chat.chat_id,
                "chat_key": chat.chat_key,
                "buyer_id": chat.buyer_id,
                "origin": answer.origin,
                "text": "" if isinstance(part, ImagePart) else part.text,
                "image": _image_json(part) if isinstance(part, ImagePart) else None,
                "answers_until_ms": answers_until_ms,
                "decided_at_ms": now_ms,
                "state": state,
                "reason": dropped_because,
                "message_id": "",
                "traceparent": traceparent,
                "updated_at_ms": now_ms,
            }
        )
        for number, part in enumerate(answer.parts, 1)
    ]


def _image_json(part: ImagePart) -> dict[str, Any]:
    return {"url": part.url, "width": part.width, "height": part.height}


async def stuck(connection: AsyncConnection, before_ms: int, limit: int) -> list[Stored]:
    """Parts that nobody reported on since `before_ms`: never published, or their report was lost."""
    rows = await connection.execute(
        select(outgoing)
        .where(
            outgoing.c.state.in_(UNREPORTED),
            outgoing.c.updated_at_ms < before_ms,
        )
        .order_by(outgoing.c.updated_at_ms, outgoing.c.outgoing_id)
        .limit(limit)
    )
    return [Stored(dict(row._mapping)) for row in rows]


async def queued_in_chats(connection: AsyncConnection, chat_keys: Iterable[str]) -> list[Stored]:
    """Parts of these chats that were stored and perhaps never published, in order."""
    rows = await connection.execute(
        select(outgoing)
        .where(outgoing.c.chat_key.in_(sorted(chat_keys)), outgoing.c.state == SendState.QUEUED)
        .order_by(outgoing.c.outgoing_id)
    )
    return [Stored(dict(row._mapping)) for row in rows]


class Outbox:
    """Publishes stored parts to the shard of their account."""

    def __init__(self, bus: Bus, shards: int, sweep: SweepTimer) -> None:
        self._bus = bus
        self._shards = shards
        self._sweep = sweep

    async def publish(self, parts: Sequence[Stored]) -> None:
        """Publish the parts that are queued; raises Unavailable, after which publishing again is safe."""
        messages = [
            Outgoing(
                subject=subjects.outbound(
                    subjects.shard_of(p.row["account_id"], self._shards), p.row["account_id"]
                ),
                payload=_outbound(p.row).SerializeToString(),
                msg_id=f"out:{p.row['outgoing_id']}",
                headers={"traceparent": p.row["traceparent"]} if p.row["traceparent"] else None,
            )
            for p in parts
            if p.row["state"] != SendState.DROPPED
        ]
        if messages:
            await self._sweep.keep()  # until each part is reported on
            await self._bus.publish_all(messages)


def _outbound(row: dict[str, Any]) -> Outbound:
    message = Outbound(
        outgoing_id=row["outgoing_id"],
        decision_id=row["decision_id"],
        part=row["part"],
        organization_id=row["organization_id"],
        account_id=row["account_id"],
        chat_id=row["chat_id"],
        buyer_id=row["buyer_id"],
        origin=ORIGINS[row["origin"]],
        answers_until_ms=row["answers_until_ms"],
        decided_at_ms=row["decided_at_ms"],
    )
    if row["image"]:
        message.image.CopyFrom(Image(**row["image"]))
    else:
        message.text = row["text"]
    return message
