"""What was said before: stored under a session's name (X-28), or as long as the connection lasts (AI-02)."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Protocol

from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncConnection

from frontdesk.connection_gateway.clients.limits import ChatLimits
from frontdesk.connection_gateway.clients.model import Turn
from frontdesk.connection_gateway.model import new_id
from frontdesk.connection_gateway.tables import conversations, turns
from frontdesk.kit.clock import Clock
from frontdesk.kit.database import Database
from frontdesk.kit.principal import Principal
from frontdesk.kit.upserts import upsert

PRUNE_S = 3600.0
DAY_MS = 86_400_000
PRUNED_AT_ONCE = 500


class History(Protocol):
    """One conversation's."""

    async def read(self) -> Sequence[Turn]:
        """The newest turns, oldest first."""
        ...

    async def add(self, question: str, answer: str) -> None:
        """Add what was asked and said."""
        ...


class ConnectionHistory:
    """Lives as long as the connection."""

    def __init__(self, limits: ChatLimits) -> None:
        self._turns: deque[Turn] = deque(maxlen=limits.turns)
        self._most_bytes = limits.history_bytes

    async def read(self) -> Sequence[Turn]:
        return tuple(self._turns)

    async def add(self, question: str, answer: str) -> None:
        self._turns += (Turn(True, question), Turn(False, answer))
        # What would never be shown to the model is not kept either.
        kept = window(self._turns, len(self._turns), self._most_bytes)
        while len(self._turns) > len(kept):
            self._turns.popleft()


class StoredHistory:
    """One session of a person, in the database. Both methods raise Unavailable."""

    def __init__(self, histories: Histories, principal: Principal, session: str) -> None:
        self._histories = histories
        self._principal = principal
        self._session = session

    async def read(self) -> Sequence[Turn]:
        return await self._histories.read(self._principal, self._session)

    async def add(self, question: str, answer: str) -> None:
        await self._histories.add(self._principal, self._session, question, answer)


class Histories:
    """Stored conversations of all people. Methods raise Unavailable when the database is away."""

    def __init__(self, database: Database, clock: Clock, limits: ChatLimits) -> None:
        self._database = database
        self._clock = clock
        self._limits = limits

    def of(self, principal: Principal, session: str) -> StoredHistory:
        """One session's history; it need not exist."""
        return StoredHistory(self, principal, session)

    async def read(self, principal: Principal, session: str) -> list[Turn]:
        """The newest turns of a session, oldest first."""
        query = (
            select(turns.c.person, turns.c.text)
            .join(conversations, conversations.c.conversation_id == turns.c.conversation_id)
            .where(
                conversations.c.organization_id == principal.organization_id,
                conversations.c.subject == principal.subject,
                conversations.c.session_id == session,
            )
            .order_by(turns.c.number.desc())
            .limit(self._limits.turns)
        )
        async with self._database.read() as connection:
            found = [Turn(row.person, row.text) for row in await connection.execute(query)]
        found.reverse()
        return found

    async def add(self, principal: Principal, session: str, question: str, answer: str) -> None:
        """Store a question and its answer, and forget turns and sessions beyond the limits."""
        now = self._clock.now_ms()
        row = {
            "conversation_id": new_id(now),
            "organization_id": principal.organization_id,
            "subject": principal.subject,
            "session_id": session,
            "turns": 2,
            "created_at_ms": now,
            "updated_at_ms": now,
        }
        async with self._database.write() as connection:
            statement = upsert(
                connection,
                conversations,
                ("organization_id", "subject", "session_id"),
                replace=("updated_at_ms",),
                add=("turns",),
            ).returning(conversations.c.conversation_id, conversations.c.turns)
            conversation_id, count = (await connection.execute(statement, row)).one()
            said = ((True, question), (False, answer))
            await connection.execute(
                turns.insert(),
                [
                    {
                        "conversation_id": conversation_id,
                        "number": count - 2 + place,
                        "organization_id": principal.organization_id,
                        "person": person,
                        "text": text,
                        "created_at_ms": now,
                    }
                    for place, (person, text) in enumerate(said)
                ],
            )
            oldest = count - self._limits.stored_turns
            await connection.execute(
                delete(turns).where(turns.c.conversation_id == conversation_id, turns.c.number < oldest)
            )
            if count == 2:
                await self._bound_sessions(connection, principal)

    async def prune(self, before_ms: int) -> int:
        """Forget conversations in which nothing was said since `before_ms`; how many."""
        query = (
            select(conversations.c.conversation_id)
            .where(conversations.c.updated_at_ms < before_ms)
            .limit(PRUNED_AT_ONCE)
        )
        async with self._database.write() as connection:
            old = list((await connection.execute(query)).scalars())
            await _remove(connection, old)
        return len(old)

    async def _bound_sessions(self, connection: AsyncConnection, principal: Principal) -> None:
        """A person's oldest conversations beyond the limit, when a new one began."""
        query = (
            select(conversations.c.conversation_id)
            .where(
                conversations.c.organization_id == principal.organization_id,
                conversations.c.subject == principal.subject,
            )
            .order_by(conversations.c.updated_at_ms.desc(), conversations.c.conversation_id.desc())
            .offset(self._limits.sessions_per_user)
            .limit(PRUNED_AT_ONCE)
        )
        await _remove(connection, list((await connection.execute(query)).scalars()))


async def _remove(connection: AsyncConnection, conversation_ids: Sequence[str]) -> None:
    if conversation_ids:
        for table in (turns, conversations):
            await connection.execute(delete(table).where(table.c.conversation_id.in_(conversation_ids)))


def window(said: Iterable[Turn], most_turns: int, most_bytes: int) -> tuple[Turn, ...]:
    """The newest turns within both bounds, oldest first, from a person's turn on: models want that."""
    kept: list[Turn] = []
    size = 0
    for turn in reversed(list(said)):
        size += len(turn.text.encode())
        if len(kept) == most_turns or size > most_bytes:
            break
        kept.append(turn)
    while kept and not kept[-1].person:
        kept.pop()
    return tuple(reversed(kept))
