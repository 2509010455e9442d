"""Vectors of passages, for an organization that has a model for embeddings.

A vector is kept whole and as one bit a dimension, its sign. A question's nearest passages are first looked
for among the bits, which costs well under a microsecond each, and the best of them are compared whole: no
library for numbers is needed.

Passages get their vectors behind the writer's back, a batch at a time for an organization, after a write and
after a search that met passages without one. What fails is logged, tried again after a pause, and search goes
on by words alone.
"""

from __future__ import annotations

import array
import asyncio
import logging
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import mul
from typing import Protocol

from sqlalchemy import bindparam, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from frontdesk.ai_proxy.knowledge.tables import passages
from frontdesk.ai_proxy.model import Caller
from frontdesk.kit.clock import Clock
from frontdesk.kit.database import Database
from frontdesk.kit.errors import FrontdeskError, Unavailable

log = logging.getLogger(__name__)

BATCH = 32  # passages a call
COMPARED = 5_000  # passages in scope, those written last, whose signs are compared
NEAREST = 100  # passages whose whole vectors are compared
PAUSE_SECONDS = 60.0  # after a failure
MAX_TEXT = 1_000  # characters of a passage with its title and headings


@dataclass(frozen=True, slots=True)
class Vectors:
    """Vectors of texts, in order. `model` says what made them: vectors of two models are not compared."""

    model: str
    vectors: tuple[Sequence[float], ...]


class Embedder(Protocol):
    """Makes vectors."""

    async def embed(self, caller: Caller, texts: Sequence[str]) -> Vectors | None:
        """A vector a text, paid by `caller`; None when its organization has no model for it. Raises
        FrontdeskError."""
        ...


def pack(vector: Sequence[float]) -> tuple[bytes, bytes]:
    """A vector of length one as 32 bit floats, little endian, and its signs, a bit each."""
    length = math.sqrt(sum(map(mul, vector, vector))) or 1.0
    floats = array.array("f", (value / length for value in vector))
    bits = sum(1 << at for at, value in enumerate(vector) if value > 0)
    if sys.byteorder == "big":
        floats.byteswap()
    return floats.tobytes(), bits.to_bytes((len(vector) + 7) // 8, "little")


def likeness(one: bytes, other: bytes) -> float:
    """The cosine of two packed vectors; 0 when they are of different lengths."""
    if len(one) != len(other):
        return 0.0
    first, second = array.array("f", one), array.array("f", other)
    if sys.byteorder == "big":
        first.byteswap()
        second.byteswap()
    return float(sum(map(mul, first, second)))


def nearest(bits: bytes, known: Mapping[int, bytes], most: int) -> list[int]:
    """The keys of at most `most` vectors whose signs agree best, the best first."""
    asked = int.from_bytes(bits, "little")
    apart = ((asked ^ int.from_bytes(other, "little")).bit_count() for other in known.values())
    return [key for _, key in sorted(zip(apart, known, strict=True))[:most]]


class VectorFiller:
    """Gives passages their vectors."""

    def __init__(self, database: Database, embedder: Embedder, clock: Clock, at_once: int = 2) -> None:
        self._database = database
        self._embedder = embedder
        self._clock = clock
        self._turns = asyncio.Semaphore(at_once)
        self._running: dict[str, asyncio.Task[None]] = {}
        # Those that were woken while they ran: what came may be behind where they looked.
        self._again: set[str] = set()
        self._not_before: dict[str, float] = {}

    def wake(self, organization_id: str, model: str = "") -> None:
        """Give vectors of `model` to passages without, unless that is being done or failed a moment ago."""
        now = self._clock.monotonic()
        self._not_before = {name: until for name, until in self._not_before.items() if until > now}
        if organization_id in self._running:
            self._again.add(organization_id)
        elif organization_id not in self._not_before:
            work = self._fill(organization_id, model)
            self._running[organization_id] = asyncio.create_task(work, name=f"vectors of {organization_id}")

    async def close(self) -> None:
        """End what is under way; the next search goes on with it."""
        for task in (running := list(self._running.values())):
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    async def _fill(self, organization_id: str, model: str) -> None:
        try:
            async with self._turns:
                await self._passages(organization_id, model)
                while organization_id in self._again:
                    self._again.discard(organization_id)
                    await self._passages(organization_id, "")
        except FrontdeskError as error:
            # Only the kind: a provider's message may hold what was sent.
            log.warning("passages of %s get no vectors for now: %s", organization_id, error.code)
            self._not_before[organization_id] = self._clock.monotonic() + PAUSE_SECONDS
        finally:
            # In the step of the last look, so that a wake is seen by this task or makes the next.
            self._again.discard(organization_id)
            self._running.pop(organization_id, None)

    async def _passages(self, organization_id: str, model: str) -> None:
        if not model:
            model = await self._batch(organization_id, "", 1)
        # Two providers that take turns would never come to an end.
        while model and await self._batch(organization_id, model, BATCH) == model:
            pass

    async def _batch(self, organization_id: str, model: str, most: int) -> str:
        """Embed at most `most` passages whose vectors are not of `model`; what made them, empty for none."""
        table = passages.c
        query = (
            select(table.passage_number, table.title, table.headings, table.text)
            .where(
                table.organization_id == organization_id,
                table.vector_model != model if model else table.vector_model == "",
            )
            .order_by(table.passage_number)
            .limit(most)
        )
        async with self._database.read() as connection:
            rows = (await connection.execute(query)).all()
        texts = ["\n".join([row.title, *row.headings, row.text])[:MAX_TEXT] for row in rows]
        # Whoever wrote them: passages are the organization's.
        caller = Caller(organization_id, operation="embed")
        made = await self._embedder.embed(caller, texts) if texts else None
        if made is None:
            return ""
        if len(made.vectors) != len(rows):
            raise Unavailable("the model made another number of vectors than there were texts")
        packed = await asyncio.to_thread(lambda: [pack(vector) for vector in made.vectors])
        values = [
            {
                "owner": organization_id,
                "number": row.passage_number,
                "said": row.text,
                "whole": whole,
                "signs": signs,
            }
            for row, (whole, signs) in zip(rows, packed, strict=True)
        ]
        async with self._database.write() as connection:
            await connection.execute(_KEEP.values(vector_model=made.model), values)
        return made.model


# The owner and the text too: a number may belong to another passage by now.
_KEEP = (
    update(passages)
    .where(
        passages.c.passage_number == bindparam("number"),
        passages.c.organization_id == bindparam("owner"),
        passages.c.text == bindparam("said"),
    )
    .values(vector=bindparam("whole"), vector_bits=bindparam("signs"))
)


async def find_nearest(
    connection: AsyncConnection, organization_id: str, account_id: str, item_id: str, asked: Vectors
) -> tuple[list[tuple[int, float]], bool]:
    """Numbers and cosines of the passages in scope that are nearest to the first vector of `asked`, the
    nearest first; and whether passages are without a vector of its model."""
    table = passages.c
    scope = (
        table.organization_id == organization_id,
        table.account_id.in_(("", account_id)),
        table.item_id.in_(("", item_id)),
    )
    whole, bits = pack(asked.vectors[0])
    rows = await connection.execute(
        select(table.passage_number, table.vector_bits, table.vector_model)
        .where(*scope)
        .order_by(table.passage_number.desc())
        .limit(COMPARED)
    )
    known, missing = {}, False
    for row in rows:
        if row.vector_model == asked.model and row.vector_bits is not None:
            known[row.passage_number] = row.vector_bits
        else:
            missing = True
    close = await asyncio.to_thread(nearest, bits, known, NEAREST)
    found = await connection.execute(
        select(table.passage_number, table.vector).where(
            table.organization_id == organization_id, table.passage_number.in_(close)
        )
    )
    near = found.all()
    # Long vectors take a part of a second.
    likely = await asyncio.to_thread(
        lambda: [(row.passage_number, likeness(whole, row.vector)) for row in near]
    )
    return sorted(likely, key=lambda pair: -pair[1]), missing
