"""The ledger of sends: what makes a repeat look before it speaks.

A row is committed before the socket is written and settled after; many sends share a commit. `bind` is the
one rule by which a message of our own in the platform's books belongs to a send: by platform id; without one
to the oldest unbound send of the chat with equal content whose start is not later, one that was given up
last. One id binds one send.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import and_, bindparam, delete, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from frontdesk.connection_gateway.model import TERMINAL, Send, SendState
from frontdesk.connection_gateway.tables import sends
from frontdesk.kit.batch import Batcher
from frontdesk.kit.clock import Clock
from frontdesk.kit.database import Database, any_of
from frontdesk.kit.errors import AlreadyExists, FrontdeskError

# The platform's machines do not agree to the millisecond on what time it is.
SKEW_MS = 2_000
_OPEN = (SendState.SENDING, SendState.UNCONFIRMED)
# A send that was given up may still show up for so long; the same words later are the seller's own.
GIVEN_UP_MS = 600_000
_CHANGED = ("state", "platform_message_id", "platform_created_at_ms", "attempts", "reason", "updated_at_ms")
_KNOWN = select(sends.c.outgoing_id).where(sends.c.outgoing_id.in_(any_of("ids")))
_NAMED = select(sends.c.account_id, sends.c.platform_message_id, sends.c.outgoing_id).where(
    sends.c.account_id.in_(any_of("accounts")), sends.c.platform_message_id.in_(any_of("messages"))
)
_SETTLE = (
    update(sends)
    .where(sends.c.outgoing_id == bindparam("id_"))
    .values({name: bindparam(f"new_{name}") for name in _CHANGED})
)


@dataclass(frozen=True, slots=True)
class OwnMessage:
    """A message that the account itself wrote, as the platform shows it."""

    account_id: str
    chat_id: str
    message_id: str
    digest: str
    created_at_ms: int


@dataclass(frozen=True, slots=True)
class Bound:
    """The send that a message belongs to. `was` is its state before; `row` as it is now."""

    row: Send
    was: SendState


@dataclass(frozen=True, slots=True)
class _Insert:
    row: Send


@dataclass(frozen=True, slots=True)
class _Settle:
    row: Send


_Write = _Insert | _Settle | OwnMessage


class Ledger:
    """Rows of `sends`. Each method raises Unavailable when the database is away; nothing has changed then."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._writes: Batcher[_Write, Any] = Batcher(self._write, clock=clock)

    async def get(self, outgoing_id: str) -> Send | None:
        """The row of an outgoing id."""
        return await self._one(sends.c.outgoing_id == outgoing_id)

    async def part(self, decision_id: str, part: int) -> Send | None:
        """The row of one part of a decision."""
        return await self._one(and_(sends.c.decision_id == decision_id, sends.c.part == part))

    async def insert(self, row: Send) -> Send:
        """Commit a new row; raises AlreadyExists when somebody else has sent or is sending it."""
        stamped = replace(row, updated_at_ms=self._clock.now_ms())
        await self._writes.submit(_Insert(stamped))
        return stamped

    async def settle(self, row: Send) -> Send:
        """Commit a row's new state, ids, reason and attempts; it must exist."""
        stamped = replace(row, updated_at_ms=self._clock.now_ms())
        result: Send = await self._writes.submit(_Settle(stamped))
        return result

    async def bind(self, message: OwnMessage) -> Bound | None:
        """The send that this message is, which is confirmed by it; None when it is no send of ours."""
        result: Bound | None = await self._writes.submit(message)
        return result

    async def prune(self, before_ms: int) -> None:
        """Forget settled sends that did not change since `before_ms`."""
        async with self._database.write() as connection:
            await connection.execute(
                delete(sends).where(sends.c.updated_at_ms < before_ms, sends.c.state.in_(sorted(TERMINAL)))
            )

    async def close(self) -> None:
        """Finish what is in work."""
        await self._writes.close()

    async def _one(self, condition: Any) -> Send | None:
        async with self._database.read() as connection:
            row = (await connection.execute(select(sends).where(condition))).first()
        return _send(row) if row is not None else None

    async def _write(self, batch: list[_Write]) -> Sequence[Any]:
        results: list[Any] = [None] * len(batch)
        async with self._database.write() as connection:
            inserts = {i: w.row for i, w in enumerate(batch) if isinstance(w, _Insert)}
            if inserts:
                for index, error in (await _insert(connection, inserts)).items():
                    results[index] = error
            settles = {i: w.row for i, w in enumerate(batch) if isinstance(w, _Settle)}
            if settles:
                results = await _settle(connection, settles, results)
            for index, message in enumerate(batch):
                if isinstance(message, OwnMessage):
                    results[index] = await _bind(connection, message, self._clock.now_ms())
        return results


async def _insert(connection: AsyncConnection, rows: dict[int, Send]) -> dict[int, FrontdeskError]:
    found = await connection.execute(_KNOWN, {"ids": [row.outgoing_id for row in rows.values()]})
    known = {row.outgoing_id for row in found}
    new = {row.outgoing_id: _values(row) for row in rows.values() if row.outgoing_id not in known}
    if new:
        await connection.execute(sends.insert(), list(new.values()))
    return {
        index: AlreadyExists("this outgoing id is in the ledger")
        for index, row in rows.items()
        if row.outgoing_id in known
    }


async def _settle(connection: AsyncConnection, rows: dict[int, Send], results: list[Any]) -> list[Any]:
    """Write rows back. A platform id that another send has already stays with that one."""
    wanted = {(r.account_id, r.platform_message_id) for r in rows.values() if r.platform_message_id}
    taken: dict[tuple[str, str], str] = {}
    if wanted:
        found = await connection.execute(
            _NAMED,
            {
                "accounts": sorted({account for account, _ in wanted}),
                "messages": sorted(str(message) for _, message in wanted),
            },
        )
        taken = {(row.account_id, row.platform_message_id): row.outgoing_id for row in found}
    changes = []
    for index, row in rows.items():
        key = (row.account_id, row.platform_message_id or "")
        own = (
            row
            if taken.get(key, row.outgoing_id) == row.outgoing_id
            else replace(row, platform_message_id=None)
        )
        if row.platform_message_id:
            taken.setdefault(key, row.outgoing_id)
        results[index] = own
        changes.append({"id_": own.outgoing_id} | {f"new_{name}": getattr(own, name) for name in _CHANGED})
    await connection.execute(_SETTLE, changes)
    return results


async def _bind(connection: AsyncConnection, message: OwnMessage, now_ms: int) -> Bound | None:
    by_id = sends.c.platform_message_id == message.message_id
    by_content = and_(
        sends.c.platform_message_id.is_(None),
        sends.c.chat_id == message.chat_id,
        sends.c.digest == message.digest,
        or_(
            sends.c.state.in_(_OPEN),
            and_(sends.c.state == SendState.FAILED, sends.c.updated_at_ms > now_ms - GIVEN_UP_MS),
        ),
        sends.c.attempts > 0,
        sends.c.started_at_ms <= message.created_at_ms + SKEW_MS,
    )
    found = await connection.execute(
        select(sends)
        .where(sends.c.account_id == message.account_id, or_(by_id, by_content))
        # A send that was given up comes last: the message is more likely one that is still looked for.
        .order_by(sends.c.state == SendState.FAILED, sends.c.started_at_ms, sends.c.outgoing_id)
        .with_for_update()
    )
    rows = [_send(row) for row in found]
    for row in rows:
        if row.platform_message_id == message.message_id:
            return Bound(row, row.state)
    if not rows:
        return None
    oldest = rows[0]
    bound = replace(
        oldest,
        state=SendState.CONFIRMED,
        platform_message_id=message.message_id,
        platform_created_at_ms=message.created_at_ms,
        reason="",
        updated_at_ms=now_ms,
    )
    await connection.execute(
        update(sends)
        .where(sends.c.outgoing_id == oldest.outgoing_id)
        .values({name: getattr(bound, name) for name in _CHANGED})
    )
    return Bound(bound, oldest.state)


def _values(row: Send) -> dict[str, Any]:
    return {column.name: getattr(row, column.name) for column in sends.c}


def _send(row: Any) -> Send:
    values = dict(row._mapping)
    values["state"] = SendState(values["state"])
    return Send(**values)
