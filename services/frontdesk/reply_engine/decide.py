"""Deciding: everything a chat waits for is answered by one decision, in one transaction.

    lock the chat row → take its waiting messages in the platform's order → walk the chain → store the
    decision with its outgoing parts and mark the messages → commit → publish (outbox.py)

When the chain comes to the AI, the first transaction only notes whose turn it is (`deciding_token`); the
model runs with no lock held (turns.py); the second transaction checks that the answer is still wanted: same
token, still waiting, not paused, nothing from the seller meanwhile, and no more words of the buyer than it
answers. A buyer who wrote more is decided anew, with all words, but not for ever: after `again_ms` the answer
leaves for what it has seen, and what came later waits for its own. A replica that dies in between leaves a
token that expires, and the sweep decides again.

A person whom the AI calls stays called (`called_at_ms`) until one writes, whatever is answered meanwhile, and
is told once an hour at most.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from frontdesk.kit.database import any_of
from frontdesk.reply_engine.chain import ChainResult, ChatView, walk
from frontdesk.reply_engine.conversation import words_of
from frontdesk.reply_engine.facts import FactSource, Place
from frontdesk.reply_engine.model import (
    AiOutcome,
    AiTurn,
    Answer,
    MessageState,
    Origin,
    Snapshot,
    Switch,
    new_id,
)
from frontdesk.reply_engine.outbox import Stored
from frontdesk.reply_engine.snapshot import SnapshotCache
from frontdesk.reply_engine.statements import ChatRow, lock_chats, update_chats
from frontdesk.reply_engine.tables import chats, messages, rule_uses
from frontdesk.reply_engine.writes import Answered, Writes

MINUTE_MS = 60_000
# How long a person who was called for a chat is not called again for the same.
INCIDENT_MS = 60 * MINUTE_MS
# What storing an answer may take before another replica decides the chat.
STORING_MS = 5_000

_WAITING = (
    select(messages)
    .where(messages.c.chat_key.in_(any_of("keys")), messages.c.state == MessageState.WAITING)
    .order_by(messages.c.created_at_ms, messages.c.message_id)
)
_USES = select(rule_uses).where(rule_uses.c.chat_key.in_(any_of("keys")))


@dataclass(frozen=True, slots=True)
class Call:
    """A person is to be told that a chat waits; `event_id` is the same for the same incident."""

    chat: ChatRow
    text: str
    event_id: str


@dataclass(frozen=True, slots=True)
class AiEnd:
    """An AI turn is over; `reason` says why its answer is not used, empty when it is."""

    outcome: AiOutcome
    reason: str = ""


@dataclass(slots=True)
class Decided:
    """What a batch of decisions led to."""

    outgoing: list[Stored] = field(default_factory=list)
    ai_turns: list[AiTurn] = field(default_factory=list)
    ai_ends: list[AiEnd] = field(default_factory=list)
    for_person: list[Call] = field(default_factory=list)
    later: dict[str, int] = field(default_factory=dict)
    # Chats left undecided because their answers name facts that are not at hand: chat → account and item.
    lacking: dict[str, Place] = field(default_factory=dict)


class Decider:
    """Decides chats in the caller's transaction.

    `ai_seconds` is how long an AI turn may take, `again_ms` how long a buyer who goes on writing makes the AI
    begin anew.
    """

    def __init__(
        self, snapshots: SnapshotCache, facts: FactSource, ai_seconds: float, again_ms: int = 30_000
    ) -> None:
        self._snapshots = snapshots
        self._facts = facts
        self._ai_ms = int(ai_seconds * 1000) + STORING_MS
        self._again_ms = again_ms

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
        wanted: dict[str, ChatRow] = {}
        dropped: list[dict[str, Any]] = []
        for key, outcome in outcomes.items():
            row = rows.get(key)
            if row is None or row.deciding_token != outcome.turn.token:
                decided.ai_ends.append(AiEnd(outcome, "late"))
            elif row.waiting_count and row.paused_until_ms <= now_ms:
                wanted[key] = row
            else:
                decided.ai_ends.append(AiEnd(outcome, "paused" if row.waiting_count else "answered"))
                dropped.append(_release(row))
        await update_chats(connection, dropped)
        if wanted:
            await self._decide(connection, wanted, now_ms, decided, outcomes)
        return decided

    async def release(self, connection: AsyncConnection, turns: Mapping[str, AiTurn]) -> list[str]:
        """Give AI turns back undone, by chat; returns the chats that now wait for another replica."""
        rows = await lock_chats(connection, turns.keys())
        mine = [row for key, row in rows.items() if row.deciding_token == turns[key].token]
        await update_chats(connection, [_release(row) for row in mine])
        return [row.chat_key for row in mine if row.waiting_count]

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
        writes = Writes()
        for key, row in ready.items():
            view = ChatView(row, waiting.get(key, []), uses.get(key, {}), now_ms)
            outcome = outcomes.get(key)
            if outcome is not None:
                seen = [m for m in view.waiting if m.message_id in outcome.turn.message_ids]
                if not seen or (len(seen) < len(view.waiting) and self._may_ask_again(row, now_ms)):
                    decided.ai_ends.append(AiEnd(outcome, "asked_again"))
                    if row.due_at_ms > now_ms:
                        writes.changes.append(_change(row))
                        decided.later[key] = row.due_at_ms
                        continue
                    outcome = None
            self._decide_one(configuration[row.organization_id], view, outcome, decided, writes)
        decided.outgoing += await writes.store(connection, now_ms)

    def _may_ask_again(self, row: ChatRow, now_ms: int) -> bool:
        return bool(now_ms - row.waiting_since_ms < self._again_ms)

    def _decide_one(
        self,
        snapshot: Snapshot,
        view: ChatView,
        outcome: AiOutcome | None,
        decided: Decided,
        writes: Writes,
    ) -> None:
        """Walk the chain for one chat and note what is to be written."""
        row, now_ms, left = view.row, view.now_ms, 0
        if outcome is not None:
            seen = [m for m in view.waiting if m.message_id in outcome.turn.message_ids]
            view, left = replace(view, waiting=seen), len(view.waiting) - len(seen)
        before = outcome.turn.trace if outcome else ()
        result = walk(snapshot, view, before, outcome)
        if result.facts_wanted:
            known = self._facts.known(*view.place)
            if known is None:
                decided.lacking[row.chat_key] = view.place
                return
            result = walk(snapshot, replace(view, facts=known), before, outcome)
        if outcome is not None:
            decided.ai_ends.append(AiEnd(outcome, _unused(outcome, result)))
        if result.ai_wanted:
            turn = _turn(view, result)
            decided.ai_turns.append(turn)
            writes.changes.append(_change(row, token=turn.token, until=now_ms + self._ai_ms))
            return
        if not view.waiting:
            writes.changes.append(_change(row, settle=True))
            return
        observed = snapshot.effective_switch(row.account_id) is Switch.OBSERVE
        answer = result.answer
        reason = result.reason or ("observed" if observed else "")
        called_at = 0
        if result.reason:
            called_at = _call(row, result.reason, outcome, now_ms, decided)
        writes.changes.append(
            _change(
                row,
                settle=True,
                reason=reason,
                answered_at=now_ms if answer else 0,
                called_at=called_at,
                left=left,
                now_ms=now_ms,
            )
        )
        if left:
            decided.later[row.chat_key] = max(row.due_at_ms, now_ms)
            writes.only[row.chat_key] = [m.message_id for m in view.waiting]
        if answer is None and outcome is None:
            writes.marks.append((row.chat_key, MessageState.PERSON, reason, ""))
            return
        said = answer or Answer(Origin.AI, "person", ())
        writes.answers.append(Answered(row, said, result.trace, view.waiting, observed, reason, outcome))


def _unused(outcome: AiOutcome, result: ChainResult) -> str:
    """Why an outcome's text does not leave; empty when it does."""
    if result.answer is not None and result.answer.origin is Origin.AI:
        return ""
    if outcome.reason:
        return outcome.reason
    return result.reason if result.reason in ("stopped", "throttled") else "turned_off"


def _call(row: ChatRow, reason: str, outcome: AiOutcome | None, now_ms: int, decided: Decided) -> int:
    """Have a person told, once for an incident; returns since when the AI has called one, 0 if it has not."""
    text = f"A buyer waits for a person: {reason}."
    if outcome is None or not outcome.needs_person:
        decided.for_person.append(Call(row, text, f"waiting:{row.chat_key}:{row.waiting_since_ms}"))
        return 0
    if row.called_at_ms and now_ms - row.called_at_ms < INCIDENT_MS:
        return int(row.called_at_ms)
    if outcome.reason_text:
        text = f"A buyer waits for a person: {outcome.reason_text}"
    decided.for_person.append(Call(row, text, f"waiting:{row.chat_key}:{now_ms}"))
    return now_ms


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


def _turn(view: ChatView, result: ChainResult) -> AiTurn:
    row = view.row
    words = [words_of(m.text, bool(m.image_urls)) for m in view.waiting]
    return AiTurn(
        chat_key=row.chat_key,
        token=new_id(),
        organization_id=row.organization_id,
        account_id=row.account_id,
        chat_id=row.chat_id,
        item_id=view.place[1],
        text="\n".join(word for word in words if word),
        message_ids=frozenset(m.message_id for m in view.waiting),
        trace=result.trace,
        traceparent=row.traceparent,
    )


def _release(row: ChatRow) -> dict[str, Any]:
    """The chat after an AI turn whose answer is not wanted."""
    due = max(row.due_at_ms, row.paused_until_ms) if row.waiting_count else row.due_at_ms
    return {"chat_key": row.chat_key, "deciding_token": "", "deciding_until_ms": 0, "due_at_ms": due}


def _change(
    row: ChatRow,
    *,
    settle: bool = False,
    reason: str = "",
    token: str = "",
    until: int = 0,
    answered_at: int = 0,
    called_at: int = 0,
    left: int = 0,
    now_ms: int = 0,
) -> dict[str, Any]:
    """The chat after a decision; every change has the same columns, so that one statement writes all.

    With `left` that many messages go on waiting. A person whom the AI called before is called still.
    """
    minute, count = row.minute_ms, row.minute_count
    if answered_at:
        fresh = answered_at - minute >= MINUTE_MS
        minute, count = (answered_at, 1) if fresh else (minute, count + 1)
    called_reason = reason if called_at else row.called_reason
    called_at = called_at or row.called_at_ms
    since, due, waits = row.waiting_since_ms, row.due_at_ms, row.waiting_count
    if settle and left:
        reason, since, waits = "", now_ms, left
    elif settle:
        reason = reason or called_reason
        since, due, waits = (called_at or since) if reason else 0, 0, 0
    return {
        "chat_key": row.chat_key,
        "waiting_since_ms": since,
        "waiting_reason": reason,
        "waiting_count": waits,
        "due_at_ms": due,
        "called_at_ms": called_at,
        "called_reason": called_reason,
        "deciding_token": token,
        "deciding_until_ms": until,
        "minute_ms": minute,
        "minute_count": count,
    }


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
