"""Search by meaning, with a model that knows which words mean the same, on both databases."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import select

from frontdesk.ai_proxy.errors import UpstreamUnavailable
from frontdesk.ai_proxy.knowledge.documents import DocumentFormat
from frontdesk.ai_proxy.knowledge.search import Knowledge
from frontdesk.ai_proxy.knowledge.store import Document, KnowledgeStore
from frontdesk.ai_proxy.knowledge.tables import passages
from frontdesk.ai_proxy.knowledge.vectors import PAUSE_SECONDS, VectorFiller, Vectors, likeness, nearest, pack
from frontdesk.ai_proxy.model import Caller
from frontdesk.kit.clock import ManualClock
from frontdesk.kit.database import Database
from frontdesk.kit.principal import Principal, current_principal
from support.recall import open_knowledge
from support.waiting import until, until_async

MEANINGS = (("自行车", "捷安特"), ("运费", "邮费", "包邮"), ("退货", "退款"), ("电池", "续航"))


class Meanings:
    """A model: one dimension a meaning, and one for what it does not know."""

    def __init__(self) -> None:
        self.model = "m1"
        self.known = True
        self.fails = False
        self.texts: list[str] = []
        self.callers: list[Caller] = []
        self.meanwhile: Callable[[], Awaitable[None]] | None = None

    async def embed(self, caller: Caller, texts: Sequence[str]) -> Vectors | None:
        self.texts += texts
        self.callers.append(caller)
        if self.meanwhile is not None:
            await self.meanwhile()
        if self.fails:
            raise UpstreamUnavailable("away, and this was asked: " + texts[0])
        if not self.known:
            return None
        return Vectors(self.model, tuple(self._vector(text) for text in texts))

    def _vector(self, text: str) -> list[float]:
        found = [1.0 if any(word in text for word in words) else -0.01 for words in MEANINGS]
        return [*found, 0.02 if max(found) > 0 else 1.0]


@dataclass
class Bench:
    """A knowledge base with a model."""

    database: Database
    model: Meanings
    clock: ManualClock
    filler: VectorFiller
    store: KnowledgeStore
    knowledge: Knowledge

    async def write(self, *texts: str, account_id: str = "") -> Document:
        document = Document("o", "说明", DocumentFormat.TEXT, "\n\n".join(texts), account_id=account_id)
        return await self.store.create(document)

    async def find(self, query: str, account: str = "", limit: int = 5) -> list[str]:
        return [p.text for p in await self.knowledge.search("o", account, "", query, limit)]

    async def models(self) -> list[str]:
        async with self.database.read() as connection:
            found = await connection.execute(
                select(passages.c.vector_model).order_by(passages.c.passage_number)
            )
            return [str(model) for model in found.scalars()]

    async def filled(self) -> None:
        """Return when every passage has a vector of the model."""

        async def done() -> bool:
            return set(await self.models()) == {self.model.model}

        await until_async(done)


@pytest.fixture(params=["sqlite", "postgresql"])
async def bench(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Bench]:
    sqlite = request.param == "sqlite"
    database = await open_knowledge(
        f"sqlite:///{tmp_path}/ai.db" if sqlite else request.getfixturevalue("postgres")
    )
    model, clock = Meanings(), ManualClock()
    filler = VectorFiller(database, model, clock)
    store = KnowledgeStore(database, clock, filler=filler)
    yield Bench(database, model, clock, filler, store, Knowledge(database, model, filler))
    await filler.close()
    await database.close()


async def test_what_means_the_same_is_found(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    """Words and meaning are ranked together; scopes hold; a change of the model is caught up with."""
    await bench.write("自行车要自己装前轮。", "满五十元包邮。", "电池都是原装的。")
    await bench.write("别家的自行车不卖。", account_id="a")
    await bench.filled()
    assert (await bench.find("捷安特好骑吗"))[0] == "自行车要自己装前轮。"
    assert "别家的自行车不卖。" in await bench.find("捷安特好骑吗", "a")
    assert "别家的自行车不卖。" not in await bench.find("捷安特好骑吗", "b")
    assert (await bench.find("邮费 电池"))[0] in ("满五十元包邮。", "电池都是原装的。")
    assert len(await bench.find("邮费 电池", limit=1)) == 1
    assert await bench.find("  ") == []
    bench.model.model = "m2"
    assert "自行车要自己装前轮。" not in await bench.find("捷安特好骑吗")
    await bench.filled()
    assert (await bench.find("捷安特好骑吗"))[0] == "自行车要自己装前轮。"
    assert not caplog.records


async def test_who_asks_pays_and_passages_are_paid_by_the_organization(bench: Bench) -> None:
    """Also where a key wrote them or found that they have no vector."""
    token = current_principal.set(Principal("key-1", "o", "manager", "api_key"))
    await bench.write("自行车要自己装前轮。")
    await bench.filled()
    own, asked = Caller("o", operation="embed"), Caller("o", "a", "key-1", "embed")
    assert set(bench.model.callers) == {own}
    bench.model.callers.clear()
    bench.model.model = "m2"
    await bench.find("捷安特好骑吗", "a")
    await bench.filled()
    assert (bench.model.callers[0], set(bench.model.callers[1:])) == (asked, {own})
    current_principal.reset(token)
    await bench.find("捷安特好骑吗")
    assert bench.model.callers[-1] == own


async def test_a_model_that_fails_leaves_the_words(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    """The log says so without what was asked; after a pause the passages are caught up with."""
    bench.model.fails = True
    with caplog.at_level(logging.WARNING):
        await bench.write("自行车要自己装前轮。")
        await until(lambda: "no vectors for now: UNAVAILABLE" in caplog.text)
        assert await bench.find("自行车") == ["自行车要自己装前轮。"]
    assert "by words alone" in caplog.text
    assert "前轮" not in caplog.text
    bench.model.fails = False
    asked = len(bench.model.texts)
    await bench.find("捷安特")
    assert bench.model.texts[asked:] == ["捷安特"]  # the pause holds
    await bench.clock.advance(PAUSE_SECONDS + 1)
    await bench.find("捷安特")
    await bench.filled()
    assert await bench.find("捷安特") == ["自行车要自己装前轮。"]


async def test_without_a_model_nothing_is_made(bench: Bench) -> None:
    """An organization that has none searches by words, and one that gets one is caught up with."""
    bench.model.known = False
    await bench.write("自行车要自己装前轮。")
    assert await bench.find("捷安特") == []
    assert await bench.find("自行车") == ["自行车要自己装前轮。"]
    assert await bench.models() == [""]
    bench.model.known = True
    await bench.find("捷安特")
    await bench.filled()
    assert await bench.find("捷安特") == ["自行车要自己装前轮。"]


def test_packed_vectors_keep_their_likeness() -> None:
    """Length does not count, signs order what is near, other lengths are unlike."""
    one, bits = pack([3.0, -4.0, 0.0])
    assert likeness(one, pack([6.0, -8.0, 0.0])[0]) == pytest.approx(1)
    assert likeness(one, pack([-3.0, 4.0, 0.0])[0]) == pytest.approx(-1)
    assert likeness(one, pack([3.0, -4.0])[0]) == 0
    assert likeness(pack([0.0])[0], pack([1.0])[0]) == 0
    known = {7: pack([-1.0, 1.0, 1.0])[1], 8: pack([1.0, -1.0, 1.0])[1], 9: pack([1.0, -1.0, -1.0])[1]}
    assert nearest(bits, known, 2) == [9, 8]


async def test_a_vector_is_kept_for_its_own_organization_only(bench: Bench) -> None:
    """SQLite gives a deleted passage's number to the next one, which may say the same for somebody else."""
    others = KnowledgeStore(bench.database, bench.clock)
    mine = await others.create(Document("o", "说明", DocumentFormat.TEXT, "全国包邮"))
    swapped = asyncio.Event()

    async def swap() -> None:
        if not swapped.is_set():
            await others.delete(mine.document_id, "o")
            await others.create(Document("p", "说明", DocumentFormat.TEXT, "全国包邮"))
            swapped.set()

    bench.model.meanwhile = swap
    bench.filler.wake("o")
    await until(lambda: swapped.is_set() and not bench.filler._running)
    assert await bench.models() == [""]


async def test_a_write_behind_the_last_look_is_looked_at_too() -> None:
    """It wakes a filler that has seen everything and has not ended yet."""

    class Late(VectorFiller):
        looked = 0

        async def _batch(self, organization_id: str, model: str, most: int) -> str:
            self.looked += 1
            if self.looked == 1:
                self.wake(organization_id)
            return ""

    filler = Late(None, Meanings(), ManualClock())  # type: ignore[arg-type]  # asks no database
    filler.wake("o")
    await until(lambda: not filler._running)
    assert filler.looked == 2
