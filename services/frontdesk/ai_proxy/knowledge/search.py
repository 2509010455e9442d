"""The passages that fit a question, best first.

The database's full text index finds candidates: passages of the organization that hold the question's rarest
words. They are ranked here by BM25 with the organization's own counts, so that the order and the scores are
the same on SQLite and PostgreSQL, and one seller's words say nothing about another's (docs/adr/0013).
"""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import JSON, Row, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from frontdesk.ai_proxy.callers import api_key_id
from frontdesk.ai_proxy.knowledge.segment import words_of
from frontdesk.ai_proxy.knowledge.store import scope_word
from frontdesk.ai_proxy.knowledge.tables import knowledge_bases, passages
from frontdesk.ai_proxy.knowledge.tables import words as word_counts
from frontdesk.ai_proxy.knowledge.vectors import Embedder, VectorFiller, Vectors, find_nearest
from frontdesk.ai_proxy.model import Caller
from frontdesk.kit.database import Database, any_of
from frontdesk.kit.errors import FrontdeskError

log = logging.getLogger(__name__)

CANDIDATES = 200  # passages ranked for a question
QUERY_WORDS = 32  # the rarest of a question's words
HEAD_WEIGHT = 2.0  # of a word in title or headings, in the text it is 1
K1, B = 1.2, 0.5

_SQLITE = text(
    """SELECT p.document_id, p.title, p.headings, p.text, p.head_words, p.body_words, p.passage_number
    FROM passage_index JOIN passages p ON p.passage_number = passage_index.rowid
    WHERE passage_index MATCH :query AND p.organization_id = :organization_id
    AND p.account_id IN ('', :account_id) AND p.item_id IN ('', :item_id)
    ORDER BY bm25(passage_index, 0.0, 2.0, 1.0), p.passage_number LIMIT :most"""
).columns(headings=JSON)
_POSTGRESQL = text(
    """SELECT p.document_id, p.title, p.headings, p.text, p.head_words, p.body_words, p.passage_number
    FROM passages p
    WHERE p.word_index @@ CAST(:query AS tsquery) AND p.organization_id = :organization_id
    AND p.account_id IN ('', :account_id) AND p.item_id IN ('', :item_id)
    ORDER BY ts_rank(p.word_index, CAST(:query AS tsquery), 1) DESC, p.passage_number LIMIT :most"""
).columns(headings=JSON)
_BY_NUMBER = select(
    passages.c.document_id,
    passages.c.title,
    passages.c.headings,
    passages.c.text,
    passages.c.head_words,
    passages.c.body_words,
    passages.c.passage_number,
).where(passages.c.passage_number.in_(any_of("numbers")))
_BASE = select(knowledge_bases)
_COUNTS = select(word_counts.c.word, word_counts.c.passages).where(word_counts.c.word.in_(any_of("words")))


@dataclass(frozen=True, slots=True)
class Passage:
    """A part of a document, word for word. `headings`: the outermost first, an FAQ's question last.

    `score` is to be compared within one search only. `coverage`, 0 to 1: how much of the question is in it.
    """

    document_id: str
    title: str
    headings: tuple[str, ...]
    text: str
    score: float
    coverage: float = 0.0


@dataclass(frozen=True, slots=True)
class Question:
    """A question's words, each with its weight in an organization's knowledge: the rarer, the heavier."""

    weights: Mapping[str, float]
    passages: int = 0
    average: float = 1.0
    holding: Mapping[str, int] = field(default_factory=dict)

    def coverage(self, found: Collection[str]) -> float:
        """How much of the question is among the words `found`, 0 to 1. The characters of a longer word do not
        count: half a word is not what was asked."""
        longer = "".join(word for word in self.weights if len(word) > 1)
        whole = {w: weight for w, weight in self.weights.items() if len(w) > 1 or w not in longer}
        if not whole:
            return 0.0
        weight = sum(weight for word, weight in whole.items() if word in found) / sum(whole.values())
        # The thing asked about is often a common word, and what is asked a rare one: both have to be there.
        return min(weight, sum(word in found for word in whole) / len(whole))

    def score(self, head: Sequence[str], body: Sequence[str]) -> float:
        """BM25 of a passage, a word of its title or headings counted HEAD_WEIGHT times."""
        length = K1 * (1 - B + B * (len(head) + len(body)) / self.average)
        in_head, in_body = Counter(head), Counter(body)
        total = 0.0
        for word, weight in self.weights.items():
            often = HEAD_WEIGHT * in_head[word] + in_body[word]
            total += weight * often * (K1 + 1) / (often + length) if often else 0.0
        return total


class Knowledge:
    """What an organization's sellers wrote down, searched.

    With an `embedder`, passages near to the question in meaning are found too, for an organization that has a
    model for it; `filler` gives passages their vectors. `score` is then that of both orders together.
    """

    def __init__(
        self, database: Database, embedder: Embedder | None = None, filler: VectorFiller | None = None
    ) -> None:
        self._database = database
        self._embedder = embedder
        self._filler = filler

    async def search(
        self, organization_id: str, account_id: str, item_id: str, query: str, limit: int
    ) -> list[Passage]:
        """At most `limit` passages for all accounts or this one, about all items or this one, the best first.
        The account, and the key that calls now, pay for what a model is asked.

        Raises Unavailable.
        """
        found = await words_of(query)
        asked = await self._embed(organization_id, account_id, query)
        async with self._database.read() as connection:
            question = await _weigh(connection, organization_id, found)
            rows: Sequence[Row[Any]] = []
            if question.holding:
                rows = await _candidates(connection, organization_id, account_id, item_id, question)
            # In the order they were written where scores are equal, whatever order the database gave.
            ranked = {
                row.passage_number: _ranked(question, row)
                for row in sorted(rows, key=lambda row: int(row.passage_number))
            }
            order = sorted(ranked, key=lambda number: -ranked[number].score)
            if asked is None:
                return [ranked[number] for number in order[:limit]]
            near, missing = await find_nearest(connection, organization_id, account_id, item_id, asked)
            fused = _fused(order, [number for number, cosine in near if cosine > 0])
            best = dict(sorted(fused.items(), key=lambda pair: (-pair[1], pair[0]))[:limit])
            others = await connection.execute(_BY_NUMBER, {"numbers": [n for n in best if n not in ranked]})
            ranked |= {row.passage_number: _ranked(question, row) for row in others}
        if missing and self._filler is not None:
            self._filler.wake(organization_id, asked.model)
        return [replace(ranked[number], score=score) for number, score in best.items() if number in ranked]

    async def _embed(self, organization_id: str, account_id: str, query: str) -> Vectors | None:
        if self._embedder is None or not query.strip():
            return None
        caller = Caller(organization_id, account_id, api_key_id(), "embed")
        try:
            made = await self._embedder.embed(caller, [query])
        except FrontdeskError as error:
            log.warning("a search of %s goes by words alone: %s", organization_id, error.code)
            return None
        return made if made is not None and made.vectors else None

    async def weigh(self, organization_id: str, query: str) -> Question:
        """The words of a question and what they weigh for this organization; raises Unavailable."""
        found = await words_of(query)
        async with self._database.read() as connection:
            return await _weigh(connection, organization_id, found)


def _fused(*orders: Sequence[int]) -> dict[int, float]:
    """Reciprocal rank fusion (Cormack, Clarke and Büttcher 2009), whose constant is 60."""
    fused: dict[int, float] = {}
    for order in orders:
        for place, number in enumerate(order, 1):
            fused[number] = fused.get(number, 0.0) + 1 / (60 + place)
    return fused


def _ranked(question: Question, row: Any) -> Passage:
    head, body = row.head_words.split(), row.body_words.split()
    return Passage(
        document_id=row.document_id,
        title=row.title,
        headings=tuple(row.headings),
        text=row.text,
        score=question.score(head, body),
        coverage=question.coverage({*head, *body}),
    )


async def _weigh(connection: AsyncConnection, organization_id: str, found: Sequence[str]) -> Question:
    asked = list(dict.fromkeys(found))
    if not asked:
        return Question({})
    base = (
        await connection.execute(_BASE.where(knowledge_bases.c.organization_id == organization_id))
    ).one_or_none()
    rows = await connection.execute(
        _COUNTS.where(word_counts.c.organization_id == organization_id), {"words": asked}
    )
    holding = {row.word: row.passages for row in rows}
    passages = base.passages if base else 0
    # An unknown word is the rarest: what is asked about it is not in here.
    asked = sorted(asked, key=lambda word: holding.get(word, 0))[:QUERY_WORDS]
    weights = {word: _rarity(passages, holding.get(word, 0)) for word in asked}
    known = {word: holding[word] for word in asked if holding.get(word, 0) > 0}
    average = base.words / passages if base and passages else 1.0
    return Question(weights, passages, max(average, 1.0), known)


def _rarity(passages: int, holding: int) -> float:
    return math.log(1 + (passages - holding + 0.5) / (holding + 0.5))


async def _candidates(
    connection: AsyncConnection, organization_id: str, account_id: str, item_id: str, question: Question
) -> Sequence[Row[Any]]:
    wanted: list[str] = []
    expected = 0
    for word, holding in sorted(question.holding.items(), key=lambda pair: pair[1]):
        if wanted and expected + holding > CANDIDATES:
            break  # the words left are common ones: they rank candidates, they find none
        wanted.append(word)
        expected += holding
    scope = scope_word(organization_id)
    if connection.dialect.name == "sqlite":
        either = " OR ".join(f'"{word}"' for word in wanted)
        statement, query = _SQLITE, f"scope_word:{scope} AND {{head_words body_words}}: ({either})"
    else:
        either = " | ".join(f"'{word}'" for word in wanted)
        statement, query = _POSTGRESQL, f"'{scope}' & ({either})"
    values = {
        "query": query,
        "organization_id": organization_id,
        "account_id": account_id,
        "item_id": item_id,
        "most": CANDIDATES,
    }
    return (await connection.execute(statement, values)).all()
