"""What a transaction of decisions writes: chats, decisions with their parts, counted uses, messages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import bindparam, update
from sqlalchemy.ext.asyncio import AsyncConnection

from frontdesk.kit.database import any_of
from frontdesk.kit.upserts import upsert
from frontdesk.reply_engine.model import AiOutcome, Answer, MessageState, Origin, new_id
from frontdesk.reply_engine.outbox import Stored, store_answer
from frontdesk.reply_engine.statements import ChatRow, update_chats
from frontdesk.reply_engine.tables import OF_AI, decisions, messages, rule_uses
from frontdesk.reply_engine.traces import decision_trace

_MARK = (
    update(messages)
    .where(messages.c.chat_key == bindparam("key_"), messages.c.state == MessageState.WAITING)
    .values(
        state=bindparam("new_state"), reason=bindparam("new_reason"), decision_id=bindparam("new_decision_id")
    )
)
_MARK_ONLY = _MARK.where(messages.c.message_id.in_(any_of("ids")))


@dataclass(frozen=True, slots=True)
class Answered:
    """A decision to be stored; `batch` are the messages that it settles.

    `reason` says why a person is needed nevertheless; an answer without parts says nothing else.
    """

    row: ChatRow
    answer: Answer
    trace: tuple[str, ...]
    batch: Sequence[Any]
    observed: bool
    reason: str = ""
    outcome: AiOutcome | None = None


@dataclass(slots=True)
class Writes:
    """What a transaction still has to write."""

    changes: list[dict[str, Any]] = field(default_factory=list)
    answers: list[Answered] = field(default_factory=list)
    # Chat, new state, reason, decision; all waiting messages, or with ids in `only` those.
    marks: list[tuple[str, MessageState, str, str]] = field(default_factory=list)
    only: dict[str, list[str]] = field(default_factory=dict)

    async def store(self, connection: AsyncConnection, now_ms: int) -> list[Stored]:
        """Write everything in the caller's transaction; returns the parts to publish after it."""
        if not any(change["called_at_ms"] for change in self.changes):
            for change in self.changes:  # nobody was called, as ever: two columns less to write
                del change["called_at_ms"], change["called_reason"]
        await update_chats(connection, self.changes)
        parts = await self._store_answers(connection, now_ms)
        await self._mark(connection)
        return parts

    async def _store_answers(self, connection: AsyncConnection, now_ms: int) -> list[Stored]:
        """Store decisions with their parts, and count the uses of limited rules."""
        parts: list[Stored] = []
        counted: list[dict[str, Any]] = []
        decision_rows: list[dict[str, Any]] = []
        for answered in self.answers:
            row, answer = answered.row, answered.answer
            decision_id = new_id(now_ms)
            decision_rows.append(_decision_row(decision_id, answered, now_ms))
            state = MessageState.DECIDED if answer.parts else MessageState.PERSON
            self.marks.append((row.chat_key, state, answered.reason, decision_id))
            parts.extend(
                store_answer(
                    decision_id=decision_id,
                    chat=row,
                    answer=answer,
                    answers_until_ms=max(m.created_at_ms for m in answered.batch),
                    now_ms=now_ms,
                    dropped_because="observed" if answered.observed else "",
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
        if any(answered.outcome is not None for answered in self.answers):
            for decision, answered in zip(decision_rows, self.answers, strict=True):
                decision.update(_of_ai(answered))
        if decision_rows:
            await connection.execute(decisions.insert(), decision_rows)
        await Stored.insert(connection, parts)
        if counted:
            statement = upsert(
                connection, rule_uses, ("chat_key", "rule_id"), ("last_used_ms",), add=("uses",)
            )
            await connection.execute(statement, counted)
        return parts

    async def _mark(self, connection: AsyncConnection) -> None:
        """Write what became of the messages."""
        names = ("key_", "new_state", "new_reason", "new_decision_id")
        whole = [dict(zip(names, mark, strict=True)) for mark in self.marks if mark[0] not in self.only]
        if whole:
            await connection.execute(_MARK, whole)
        for mark in self.marks:
            if mark[0] in self.only:
                values = {**dict(zip(names, mark, strict=True)), "ids": self.only[mark[0]]}
                await connection.execute(_MARK_ONLY, values)


def _decision_row(decision_id: str, answered: Answered, now_ms: int) -> dict[str, Any]:
    row, answer = answered.row, answered.answer
    return {
        "decision_id": decision_id,
        "organization_id": row.organization_id,
        "chat_key": row.chat_key,
        "origin": answer.origin,
        "step": answer.step,
        "rule_id": answer.rule_id,
        "trace": list(answered.trace),
        "created_at_ms": now_ms,
        "request_id": None,
    }


def _of_ai(answered: Answered) -> dict[str, str]:
    """The columns of a decision about which the AI was asked; an offer is one when its answer leaves."""
    outcome = answered.outcome
    if outcome is None:
        return dict.fromkeys(OF_AI, "")
    return {
        "item_id": outcome.turn.item_id,
        "intent": outcome.intent,
        "offered_price": outcome.offered_price if answered.answer.origin is Origin.AI else "",
        "provider": outcome.provider,
        "model": outcome.model,
    }
