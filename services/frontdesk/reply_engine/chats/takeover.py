"""People in chats: a person's own words, pauses, and their end.

What a person sends is a decision like any other, under the request's id, so a repeat speaks once. It settles
what waits and pauses the chat as typing by hand does. A pause is a time in the chat's row: it outlives every
process, gates every automatic answer twice (when deciding and right before the write), and ends by itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from frontdesk.kit.bus import Timers
from frontdesk.kit.clock import Clock
from frontdesk.kit.database import Database
from frontdesk.kit.errors import NotFound
from frontdesk.reply_engine.model import Answer, MessageState, Origin, new_id
from frontdesk.reply_engine.outbox import Outbox, Stored, store_answer
from frontdesk.reply_engine.rules.model import Part
from frontdesk.reply_engine.snapshot import SnapshotCache
from frontdesk.reply_engine.statements import lock_chats
from frontdesk.reply_engine.tables import chats, decisions, messages, outgoing

MINUTE_MS = 60_000


class Takeover:
    """Sends for people, pauses and resumes chats."""

    def __init__(
        self,
        database: Database,
        snapshots: SnapshotCache,
        outbox: Outbox,
        timers: Timers,
        clock: Clock,
    ) -> None:
        self._database = database
        self._snapshots = snapshots
        self._outbox = outbox
        self._timers = timers
        self._clock = clock

    async def send(
        self, key: str, request_id: str, parts: Sequence[Part], pause_minutes: int | None
    ) -> list[str]:
        """Say `parts` in a chat; returns the outgoing ids, the same ones for the same request."""
        now = self._clock.now_ms()
        async with self._database.write() as connection:
            chat = await _locked(connection, key)
            stored = await _earlier(connection, chat.organization_id, request_id)
            if not stored:
                decision_id = new_id(now)
                await connection.execute(
                    decisions.insert().values(
                        decision_id=decision_id,
                        organization_id=chat.organization_id,
                        chat_key=key,
                        origin=Origin.PERSON,
                        step="person",
                        rule_id="",
                        trace=["a person answered"],
                        created_at_ms=now,
                        request_id=request_id,
                    )
                )
                answer = Answer(Origin.PERSON, "person", tuple(parts))
                until = chat.last_message_at_ms
                stored = store_answer(
                    decision_id=decision_id, chat=chat, answer=answer, answers_until_ms=until, now_ms=now
                )
                await Stored.insert(connection, stored)
                snapshot = (await self._snapshots.get(connection, [chat.organization_id]))[
                    chat.organization_id
                ]
                minutes = snapshot.account(chat.account_id).takeover_minutes
                minutes = minutes if pause_minutes is None else pause_minutes
                await _settle(connection, chat, now, minutes)
        await self._outbox.publish(stored)
        return [str(p.row["outgoing_id"]) for p in stored]

    async def pause(self, key: str, minutes: int, reason: str) -> None:
        """Keep automatic answers out of a chat for `minutes` from now."""
        until = self._clock.now_ms() + minutes * MINUTE_MS
        async with self._database.write() as connection:
            chat = await _locked(connection, key)
            waits = chat.waiting_count > 0
            await _set(
                connection,
                key,
                paused_until_ms=until,
                pause_reason=reason,
                due_at_ms=until if waits else chat.due_at_ms,
            )
        if waits:
            await self._timers.set("chat", key, until)

    async def resume(self, key: str, *, skip_waiting: bool) -> None:
        """End a pause; what waits is decided now, or left to a person."""
        now = self._clock.now_ms()
        async with self._database.write() as connection:
            chat = await _locked(connection, key)
            values: dict[str, Any] = {"paused_until_ms": 0, "pause_reason": ""}
            waits = chat.waiting_count > 0 and not skip_waiting
            if waits:
                values["due_at_ms"] = now
            elif chat.waiting_count:
                values |= {"waiting_count": 0, "waiting_reason": "skipped", "due_at_ms": 0}
                await connection.execute(
                    update(messages)
                    .where(messages.c.chat_key == key, messages.c.state == MessageState.WAITING)
                    .values(state=MessageState.PERSON, reason="skipped")
                )
            await _set(connection, key, **values)
        if waits:
            await self._timers.set("chat", key, now)


async def _settle(connection: AsyncConnection, chat: Any, now: int, minutes: int) -> None:
    """A person answered: nothing of this chat waits any more, and automatic answers keep out for a while."""
    values: dict[str, Any] = {
        "last_seller_at_ms": max(chat.last_seller_at_ms, chat.last_message_at_ms),
        "waiting_since_ms": 0,
        "waiting_reason": "",
        "waiting_count": 0,
        "due_at_ms": 0,
        "called_at_ms": 0,
        "called_reason": "",
    }
    if minutes and now + minutes * MINUTE_MS > chat.paused_until_ms:
        values |= {"paused_until_ms": now + minutes * MINUTE_MS, "pause_reason": "a person answered"}
    await _set(connection, chat.chat_key, **values)
    await connection.execute(
        update(messages)
        .where(messages.c.chat_key == chat.chat_key, messages.c.state == MessageState.WAITING)
        .values(state=MessageState.PERSON, reason="answered")
    )


async def _earlier(connection: AsyncConnection, organization_id: str, request_id: str) -> list[Stored]:
    """The parts that an earlier try of this request stored."""
    rows = await connection.execute(
        select(outgoing)
        .join(decisions, decisions.c.decision_id == outgoing.c.decision_id)
        .where(decisions.c.organization_id == organization_id, decisions.c.request_id == request_id)
        .order_by(outgoing.c.part)
    )
    return [Stored(dict(row._mapping)) for row in rows]


async def _locked(connection: AsyncConnection, key: str) -> Any:
    rows = await lock_chats(connection, [key])
    if key not in rows:
        raise NotFound("no such chat")
    return rows[key]


async def _set(connection: AsyncConnection, key: str, **values: Any) -> None:
    await connection.execute(update(chats).where(chats.c.chat_key == key).values(**values))
