"""The labelled set of tests/data/recall: a second-hand shop's knowledge, and what buyers ask about it."""

from __future__ import annotations

import csv
import json
from pathlib import Path

from frontdesk.ai_proxy import migrations
from frontdesk.ai_proxy.answers.facts import ItemFacts
from frontdesk.ai_proxy.knowledge.documents import DocumentFormat
from frontdesk.ai_proxy.knowledge.store import Document, KnowledgeStore
from frontdesk.kit.clock import SystemClock
from frontdesk.kit.database import Database, DatabaseOptions
from frontdesk.kit.migrations import migrate

FOLDER = Path(__file__).parent.parent / "data" / "recall"
ORGANIZATION = "shop"
_FORMATS = {".md": DocumentFormat.MARKDOWN, ".txt": DocumentFormat.TEXT, ".csv": DocumentFormat.FAQ_CSV}
_DOCUMENTS = (
    "shipping.md",
    "returns.md",
    "phones.md",
    "clothes.txt",
    "games.csv",
    "books.txt",
    "pickup.md",
    "home.md",
    "english.md",
)


def documents(organization_id: str = ORGANIZATION) -> list[Document]:
    """What the shop wrote down."""
    return [
        Document(organization_id, path.stem, _FORMATS[path.suffix], path.read_text(encoding="utf-8"))
        for path in (FOLDER / name for name in _DOCUMENTS)
    ]


def rows(name: str) -> list[dict[str, str]]:
    """A table of questions: `question`, `item` and `expects`, of which any may be what is said; empty: a
    person has to answer."""
    with (FOLDER / f"{name}.csv").open(encoding="utf-8", newline="") as table:
        return list(csv.DictReader(table))


def items() -> dict[str, ItemFacts]:
    """The items that questions are about, by their id."""
    found = json.loads((FOLDER / "items.json").read_text(encoding="utf-8"))
    return {item_id: ItemFacts(**facts) for item_id, facts in found.items()}


def fits(text: str, expects: str) -> bool:
    """Whether `text` holds what a question expects."""
    return any(expected in text for expected in expects.split("|") if expected)


async def open_knowledge(url: str) -> Database:
    """A migrated database of ai-proxy."""
    database = Database(DatabaseOptions(url, "ai_proxy"))
    await migrate(database, Path(str(migrations.__file__)).parent / "versions")
    return database


async def fill(database: Database, organization_id: str = ORGANIZATION) -> int:
    """Store the shop's documents; how many passages they have."""
    store = KnowledgeStore(database, SystemClock())
    stored = [await store.create(document) for document in documents(organization_id)]
    return sum(document.passages for document in stored)
