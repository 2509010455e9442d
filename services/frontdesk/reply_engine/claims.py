"""Claims: right before the gateway writes, is this still wanted?

A person's words always are. An automatic answer is dropped when the chat is paused, when the seller wrote
after the buyer's message, when it is older than the limit, or when a switch stops or observes; the chat is
then shown as waiting for a person, unless the seller answered. Cards of a paid order are not held by a pause:
the buyer paid for them. A verdict SEND changes nothing, so asking again is safe.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from frontdesk.kit.database import any_of
from frontdesk.reply_engine.model import SETTLED, Origin, SendState, Snapshot, Switch
from frontdesk.reply_engine.snapshot import SnapshotCache
from frontdesk.reply_engine.tables import chats, outgoing

CALLS_A_PERSON = frozenset({"paused", "stopped", "observed", "too_old"})
_JUDGED = (
    select(
        outgoing.c.outgoing_id,
        outgoing.c.organization_id,
        outgoing.c.account_id,
        outgoing.c.chat_key,
        outgoing.c.origin,
        outgoing.c.state,
        outgoing.c.reason,
        outgoing.c.decided_at_ms,
        outgoing.c.answers_until_ms,
        chats.c.paused_until_ms,
        chats.c.last_seller_at_ms,
    )
    .select_from(outgoing.outerjoin(chats, chats.c.chat_key == outgoing.c.chat_key))
    .where(outgoing.c.outgoing_id.in_(any_of("ids")))
)


@dataclass(frozen=True, slots=True)
class Claim:
    """The verdict on one outgoing id: empty `drop` means send."""

    outgoing_id: str
    drop: str = ""
    chat_key: str = ""


async def judge(
    connection: AsyncConnection,
    outgoing_ids: Sequence[str],
    snapshots: SnapshotCache,
    max_age_ms: int,
    now_ms: int,
) -> list[Claim]:
    """Verdicts in the order of `outgoing_ids`, reading only."""
    rows = await connection.execute(_JUDGED, {"ids": list(outgoing_ids)})
    found = {row.outgoing_id: row for row in rows}
    configuration = await snapshots.get(connection, {row.organization_id for row in found.values()})
    claims = []
    for outgoing_id in outgoing_ids:
        row = found.get(outgoing_id)
        if row is None:
            claims.append(Claim(outgoing_id, "unknown"))
        else:
            drop = _verdict(row, configuration[row.organization_id], max_age_ms, now_ms)
            claims.append(Claim(outgoing_id, drop, row.chat_key))
    return claims


def _verdict(row: Any, snapshot: Snapshot, max_age_ms: int, now_ms: int) -> str:
    if row.state in SETTLED:
        return row.reason or "answered"
    if row.origin == Origin.PERSON:
        return ""
    switch = snapshot.effective_switch(row.account_id)
    if switch is not Switch.ON:
        return "stopped" if switch is Switch.STOP else "observed"
    if row.origin == Origin.DELIVERY:
        return ""
    if row.answers_until_ms and (row.last_seller_at_ms or 0) >= row.answers_until_ms:
        return "answered"
    if (row.paused_until_ms or 0) > now_ms:
        return "paused"
    if now_ms - row.decided_at_ms > max_age_ms:
        return "too_old"
    if row.answers_until_ms < snapshot.effective_answer_after(row.account_id):
        return "superseded"
    return ""


async def store_drops(connection: AsyncConnection, drops: Sequence[Claim], now_ms: int) -> None:
    """Mark dropped parts, and the chats in which a person is now needed."""
    for claim in drops:
        if not claim.chat_key:
            continue
        await connection.execute(
            update(outgoing)
            .where(outgoing.c.outgoing_id == claim.outgoing_id, outgoing.c.state.not_in(list(SETTLED)))
            .values(state=SendState.DROPPED, reason=claim.drop, updated_at_ms=now_ms)
        )
        if claim.drop in CALLS_A_PERSON:
            await connection.execute(
                update(chats)
                .where(chats.c.chat_key == claim.chat_key, chats.c.waiting_since_ms == 0)
                .values(waiting_since_ms=now_ms, waiting_reason=claim.drop)
            )
