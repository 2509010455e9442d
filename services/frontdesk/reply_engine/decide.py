"""Deciding: everything a chat waits for is answered by one decision, in one transaction.

    lock the chat row → take its waiting messages in the platform's order → walk the chain → store the
    decision with its outgoing parts and mark the messages → commit → publish (outbox.py)

When the chain comes to the AI, the first transaction only notes whose turn it is (`deciding_token`); the
model runs with no lock held; the second transaction checks that the answer is still wanted: same token, still
waiting, not paused, nothing from the seller meanwhile. A replica that dies in between leaves a token that
expires, and the sweep decides again.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import bindparam, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from frontdesk.kit.database import any_of
from frontdesk.kit.upserts import upsert
from frontdesk.reply_engine.chain import ChainResult, ChatView, walk
from frontdesk.reply_engine.facts import FactSource, Place
from frontdesk.reply_engine.model import Answer, MessageState, Snapshot, Switch, new_id
from frontdesk.reply_engine.outbox import Stored, store_answer
from frontdesk.reply_engine.snapshot import SnapshotCache
from frontdesk.reply_engine.statements import ChatRow, lock_chats, update_chats
from frontdesk.reply_engine.tables import chats, decisions, messages, rule_uses
from frontdesk.reply_engine.traces import decision_trace

MINUTE_MS = 60_000

_WAITING = (
    select(messages)
    .where(messages.c.chat_key.in_(any_of("keys")), messages.c.state == MessageState.WAITING)
    .order_by(messages.c.created_at_ms, messages.c.message_id)
)
_USES = select(rule_uses).where(rule_uses.c.chat_key.in_(any_of("keys")))
_MARK = (
    update(messages)
    .where(messages.c.chat_key == bindparam("key_"), messages.c.state == MessageState.WAITING)
    .values(
        state=bindparam("new_state"), reason=bindparam("new_reason"), decision_id=bindparam("new_decision_id")
    )
)


@dataclass(frozen=True, slots=True)
class AiTurn:
    """A chat that the chain left to the AI: the token that owns it and what the model needs."""

    chat_key: str
    token: str
    organization_id: str
    account_id: str
    chat_id: str
    item_id: str
    trace: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class AiOutcome:
    """What came of an AI turn: a text, or why there is none (`unavailable: …`, `needs a person`)."""

    turn: AiTurn
    text: str = ""
    reason: str = ""
    needs_person: bool = False


@dataclass(slots=True)
class Decided:
    """What a batch of decisions led to."""

    outgoing: list[Stored] = field(default_factory=list)
    ai_turns: list[AiTurn] = field(default_factory=list)
    for_person: list[tuple[ChatRow, str]] = field(default_factory=list)
    later: dict[str, int] = field(default_factory=dict)
    # Chats left undecided because their answers name facts that are not at hand: chat → account and item.
    lacking: dict[str, Place] = field(default_factory=dict)


class Decider:
    """Decides chats in the caller's transaction."""

    def __init__(self, snapshots: SnapshotCache, facts: FactSource, ai_seconds: float) -> None:
        self._snapshots = snapshots
        self._facts = facts
        self._ai_ms = int(ai_seconds * 1000) + 2_000

    async def decide(self, connection: AsyncConnection, keys: Collection[str], now_ms: int) -> Decided:
        """Decide every chat of `keys` that waits, is due and is nobody's turn; the others are left alone."""
        decided = Decided()
        rows = await lock_chats(connection, keys)
        ready = {key: row for key, row in rows.items() if _ready(row, now_ms, decided)}
        if ready:
            await self._decide(connection, ready, now_ms, decided, outcomes={})
        return decided

    async def conclude(
        self, connection: AsyncConnection, outcomes: Mapping[str, AiOutcome], now_ms: int
    ) -> Decided:
        """The second transaction of AI turns: use what is still wanted, go on with the chain after it."""
        decided = Decided()
        rows = await lock_chats(connection, outcomes.keys())
        mine = {key: row for key, row in rows.items() if row.deciding_token == outcomes[key].turn.token}
        wanted = {k: row for k, row in mine.items() if row.waiting_count and row.paused_until_ms <= now_ms}
        await update_chats(
            connection,
            [
                {
                    "chat_key": k,
                    "deciding_token": "",
                    "deciding_until_ms": 0,
                    "due_at_ms": max(r.due_at_ms, r.paused_until_ms),
                }
                for k, r in mine.items()
                if k not in wanted
            ],
        )
        if wanted:
            await self._decide(connection, wanted, now_ms, decided, outcomes)
        return decided

    async def _decide(
        self,
        connection: AsyncConnection,
        ready: Mapping[str, ChatRow],
        now_ms: int,
        decided: Decided,
        outcomes: Mapping[str, AiOutcome],
    ) -> None:
        configuration = await self._snapshots.get(connection, {r.organization_id for r in ready.values()})
        waiting = await _waiting_messages(connection, ready)
        uses = await _uses(connection, ready, configuration)
        changes: list[dict[str, Any]] = []
        answers: list[tuple[ChatRow, Answer, tuple[str, ...], Sequence[Any]]] = []
        marks: list[tuple[str, MessageState, str, str]] = []
        for key, row in ready.items():
            snapshot = configuration[row.organization_id]
            batch = waiting.get(key, [])
            view = ChatView(row, batch, uses.get(key, {}), now_ms)
            outcome = outcomes.get(key)
            result = walk(snapshot, view, outcome.turn.trace if outcome else (), outcome)
            if result.facts_wanted:
                known = self._facts.known(*view.place)
                if known is None:
                    decided.lacking[key] = view.place
                    continue
                result = walk(
                    snapshot, replace(view, facts=known), outcome.turn.trace if outcome else (), outcome
                )
            if result.ai_wanted:
                turn = _turn(row, result)
                decided.ai_turns.append(turn)
                changes.append(_change(row, token=turn.token, until=now_ms + self._ai_ms))
                continue
            if result.answer is None or not batch:
                changes.append(_change(row, settle=True, reason=result.reason if batch else ""))
                if batch:
                    marks.append((key, MessageState.PERSON, result.reason, ""))
                    decided.for_person.append((row, result.reason))
                continue
            observed = snapshot.effective_switch(row.account_id) is Switch.OBSERVE
            changes.append(
                _change(row, settle=True, reason="observed" if observed else "", answered_at=now_ms)
            )
            answers.append((row, result.answer, result.trace, batch))
        await update_chats(connection, changes)
        await _store(connection, answers, configuration, now_ms, marks, decided)
        if marks:
            names = ("key_", "new_state", "new_reason", "new_decision_id")
            await connection.execute(_MARK, [dict(zip(names, mark, strict=True)) for mark in marks])


async def _store(
    connection: AsyncConnection,
    answers: Sequence[tuple[ChatRow, Answer, tuple[str, ...], Sequence[Any]]],
    configuration: Mapping[str, Snapshot],
    now_ms: int,
    marks: list[tuple[str, MessageState, str, str]],
    decided: Decided,
) -> None:
    """Store decisions with their parts, and count the uses of limited rules."""
    counted: list[dict[str, Any]] = []
    decision_rows: list[dict[str, Any]] = []
    for row, answer, trace, batch in answers:
        decision_id = new_id(now_ms)
        observed = configuration[row.organization_id].effective_switch(row.account_id) is Switch.OBSERVE
        decision_rows.append(
            {
                "decision_id": decision_id,
                "organization_id": row.organization_id,
                "chat_key": row.chat_key,
                "origin": answer.origin,
                "step": answer.step,
                "rule_id": answer.rule_id,
                "trace": list(trace),
                "created_at_ms": now_ms,
                "request_id": None,
            }
        )
        marks.append((row.chat_key, MessageState.DECIDED, "observed" if observed else "", decision_id))
        decided.outgoing.extend(
            store_answer(
                decision_id=decision_id,
                chat=row,
                answer=answer,
                answers_until_ms=max(m.created_at_ms for m in batch),
                now_ms=now_ms,
                dropped_because="observed" if observed else "",
                traceparent=decision_trace(row.traceparent, answer),
            )
        )
        if answer.rule_id:
            counted.append(
                {
                    "chat_key": row.chat_key,
                    "rule_id": answer.rule_id,
                    "organization_id": row.organization_id,
                    "uses": 1,
                    "last_used_ms": now_ms,
                }
            )
    if decision_rows:
        await connection.execute(decisions.insert(), decision_rows)
    await Stored.insert(connection, decided.outgoing)
    if counted:
        statement = upsert(connection, rule_uses, ("chat_key", "rule_id"), ("last_used_ms",), add=("uses",))
        await connection.execute(statement, counted)


def _ready(row: ChatRow, now_ms: int, decided: Decided) -> bool:
    """Whether a locked chat is to be decided now; one that is early is left to its own timer."""
    if not row.waiting_since_ms or row.waiting_reason or not row.waiting_count:
        return False
    if row.deciding_token and row.deciding_until_ms > now_ms:
        decided.later[row.chat_key] = row.deciding_until_ms
        return False
    due = max(row.due_at_ms, row.paused_until_ms)
    if due > now_ms:
        decided.later[row.chat_key] = due
        return False
    return True


async def _waiting_messages(
    connection: AsyncConnection, ready: Mapping[str, ChatRow]
) -> dict[str, list[Any]]:
    rows = await connection.execute(_WAITING, {"keys": list(ready)})
    result: dict[str, list[Any]] = {}
    for row in rows:
        result.setdefault(row.chat_key, []).append(row)
    return result


async def _uses(
    connection: AsyncConnection, ready: Mapping[str, ChatRow], configuration: Mapping[str, Snapshot]
) -> dict[str, dict[str, tuple[int, int]]]:
    """How often limited rules were used in these chats: chat → rule → (uses, last used)."""
    if not any(_limited(snapshot) for snapshot in configuration.values()):
        return {}
    rows = await connection.execute(_USES, {"keys": list(ready)})
    result: dict[str, dict[str, tuple[int, int]]] = {}
    for row in rows:
        result.setdefault(row.chat_key, {})[row.rule_id] = (row.uses, row.last_used_ms)
    return result


def _limited(snapshot: Snapshot) -> bool:
    return any(r.cooldown_seconds or r.max_per_chat is not None for r in snapshot.rules) or any(
        d.max_per_chat is not None for d in snapshot.defaults
    )


def _turn(row: ChatRow, result: ChainResult) -> AiTurn:
    return AiTurn(
        chat_key=row.chat_key,
        token=new_id(),
        organization_id=row.organization_id,
        account_id=row.account_id,
        chat_id=row.chat_id,
        item_id=row.item_id,
        trace=result.trace,
    )


def _change(
    row: ChatRow,
    *,
    settle: bool = False,
    reason: str = "",
    token: str = "",
    until: int = 0,
    answered_at: int = 0,
) -> dict[str, Any]:
    """The chat after a decision; every change has the same columns, so that one statement writes all."""
    minute, count = row.minute_ms, row.minute_count
    if answered_at:
        fresh = answered_at - minute >= MINUTE_MS
        minute, count = (answered_at, 1) if fresh else (minute, count + 1)
    return {
        "chat_key": row.chat_key,
        "waiting_since_ms": 0 if settle and not reason else row.waiting_since_ms,
        "waiting_reason": reason,
        "waiting_count": 0 if settle else row.waiting_count,
        "due_at_ms": 0 if settle else row.due_at_ms,
        "deciding_token": token,
        "deciding_until_ms": until,
        "minute_ms": minute,
        "minute_count": count,
    }


async def chat_turns(connection: AsyncConnection, key: str, limit: int) -> list[tuple[str, str]]:
    """The last `limit` messages of a chat, oldest first, as (author, text) for a model."""
    rows = await connection.execute(
        select(messages.c.author, messages.c.text)
        .where(messages.c.chat_key == key, messages.c.author != "system", messages.c.text != "")
        .order_by(messages.c.created_at_ms.desc(), messages.c.message_id.desc())
        .limit(limit)
    )
    return [(row.author, row.text) for row in reversed(rows.all())]


async def due_chats(connection: AsyncConnection, now_ms: int, grace_ms: int, limit: int) -> list[str]:
    """Chats that wait for a machine and are overdue: their timer was lost or their turn expired."""
    rows = await connection.execute(
        select(chats.c.chat_key)
        .where(
            chats.c.due_at_ms > 0,
            chats.c.due_at_ms < now_ms - grace_ms,
            chats.c.waiting_count > 0,
            chats.c.waiting_reason == "",
            chats.c.paused_until_ms <= now_ms,
            chats.c.deciding_until_ms <= now_ms,
        )
        .order_by(chats.c.due_at_ms)
        .limit(limit)
    )
    return [row.chat_key for row in rows]
