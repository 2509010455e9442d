"""What an organization set up, as calls see it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from frontdesk.ai_proxy.configuration import Configuration
from frontdesk.ai_proxy.service import VERSIONS
from frontdesk.ai_proxy.shop import shop_loader
from frontdesk.ai_proxy.stored_providers import LimitDefaults, body_from_proto, row_to_proto
from frontdesk.ai_proxy.tables import budgets, policies, providers
from frontdesk.api.ai.v1 import provider_service_pb2 as pb
from frontdesk.kit.clock import ManualClock
from frontdesk.kit.database import Database, DatabaseOptions
from frontdesk.kit.errors import FrontdeskError, InvalidArgument
from frontdesk.kit.migrations import migrate
from frontdesk.kit.secrets import SecretBox, generate_key

URL = "https://a.example"


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    database = Database(DatabaseOptions(f"sqlite:///{tmp_path}/ai.db", "ai_proxy"))
    await migrate(database, VERSIONS)
    yield database
    await database.close()


class Replica(Configuration[int]):
    """Counts what it loads: the value of an organization is which load it was."""

    def __init__(self, database: Database, clock: ManualClock) -> None:
        super().__init__(database, self._count, clock)
        self.loads: list[str] = []
        self.gates: list[asyncio.Event] = []

    async def _count(self, connection: AsyncConnection, organization_id: str) -> int:
        self.loads.append(organization_id)
        number = len(self.loads)
        if self.gates:
            await self.gates.pop().wait()
        return number


async def test_a_change_counts_within_its_time(database: Database) -> None:
    """Nobody looks while what is known is fresh; then one look sees what another replica changed of that
    organization."""
    clock = ManualClock()
    one, other = Replica(database, clock), Replica(database, clock)
    assert [await one.get("a"), await one.get("b")] == [1, 2]
    async with other.change("a"):
        pass
    assert await one.get("a") == 1
    await clock.advance(1.0)
    assert [await one.get("a"), await one.get("b")] == [3, 2]
    assert one.loads == ["a", "b", "a"]
    await clock.advance(1.0)
    assert await one.get("a") == 3


async def test_an_own_change_counts_at_once(database: Database) -> None:
    """Also where it is made while what was before is being read; one that is rolled back changes nothing."""
    replica = Replica(database, ManualClock())
    assert [await replica.get("a"), await replica.get("b")] == [1, 2]
    async with replica.change("a"):
        pass
    assert [await replica.get("a"), await replica.get("b")] == [3, 2]
    with contextlib.suppress(InvalidArgument):
        async with replica.change("a"):
            raise InvalidArgument("name", "is wrong")
    assert await replica.get("a") == 3
    gate = asyncio.Event()
    replica.gates = [gate]
    before = asyncio.create_task(replica.get("c"))
    while replica.gates:
        await asyncio.sleep(0)
    async with replica.change("c"):
        pass
    gate.set()
    assert [await before, await replica.get("c"), await replica.get("c")] == [4, 5, 5]


async def test_a_look_for_the_latest_is_bounded(database: Database) -> None:
    """It sees what another replica changed a tenth of a second later, however often somebody looks."""
    clock = ManualClock()
    one, other = Replica(database, clock), Replica(database, clock)
    assert await one.get("a") == 1
    async with other.change("a"):
        pass
    assert [await one.latest("a") for _ in range(3)] == [1, 1, 1]
    await clock.advance(0.1)
    assert [await one.get("a"), await one.latest("a"), await one.get("a")] == [1, 2, 2]
    async with other.change("a"):
        pass
    assert await one.latest("a") == 2


async def test_what_one_set_up_wrong_touches_no_other(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    """Read in one batch, each has its own answer; what can't be read is not quoted, and read again when it
    was changed."""
    broken = {"bad"}

    async def load(connection: AsyncConnection, organization_id: str) -> str:
        if organization_id in broken:
            raise ValueError("what a seller wrote")
        return organization_id.upper()

    configuration = Configuration(database, load, ManualClock())
    reads = (configuration.get(name) for name in ("a", "bad", "c"))
    first, bad, third = await asyncio.gather(*reads, return_exceptions=True)
    assert (first, third) == ("A", "C")
    assert isinstance(bad, FrontdeskError)
    assert ["organization bad" in record.getMessage() for record in caplog.records] == [True]
    assert "a seller wrote" not in f"{bad} {caplog.text}"
    broken.clear()
    async with configuration.change("bad"):
        pass
    assert await configuration.get("bad") == "BAD"


async def test_what_cant_be_read_is_read_once_a_version(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    """A busy organization that is broken costs what another does; each of its calls has its own error."""
    loads = []

    async def load(connection: AsyncConnection, organization_id: str) -> str:
        loads.append(organization_id)
        raise ValueError

    clock = ManualClock()
    configuration = Configuration(database, load, clock)

    async def failed(look: Callable[[str], Awaitable[str]]) -> FrontdeskError:
        with pytest.raises(FrontdeskError, match="can't be read") as caught:
            await look("bad")
        return caught.value

    errors: list[FrontdeskError] = []
    for _ in range(3):
        errors += await asyncio.gather(failed(configuration.get), failed(configuration.get))
        errors.append(await failed(configuration.latest))
        await clock.advance(1)
    assert len({id(error) for error in errors}) == len(errors)
    assert (loads, len(caplog.records)) == (["bad"], 1)
    async with configuration.change("bad"):
        pass
    await failed(configuration.get)
    assert (loads, len(caplog.records)) == (["bad", "bad"], 2)


async def test_what_a_newer_version_wrote_is_read_as_far_as_it_is_known(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    """In a rolling upgrade the newer replica may write fields, scopes and keys that the older does not
    know: it leaves them out, says once which provider it can't read, and goes on with the rest."""
    secrets = SecretBox([generate_key()])
    wanted = pb.Provider(kind=pb.PROVIDER_KIND_OPENAI, base_url=URL, models=[pb.Model(name="m")])
    body = body_from_proto(wanted, "") | {"region": "eu"}
    body["models"][0]["sees"] = body["limits"]["tokens_a_minute"] = 5
    rows: list[dict[str, Any]] = [
        {"provider_id": "p1", "name": "one", "body": body, "api_key": None},
        {"provider_id": "p2", "name": "two", "body": body, "api_key": b"another key's"},
        {"provider_id": "p3", "name": "three", "body": {"base_url": ["sk-x"]}, "api_key": None},
    ]
    said = {"persona": "a shop", "floor_price": "5", "tone": "kind"}
    budget = {"currency": "CNY", "period": "day", "limit_amount": "5", "organization_id": "o"}
    async with database.write() as connection:
        await connection.execute(insert(providers), [row | {"organization_id": "o"} for row in rows])
        await connection.execute(
            insert(policies), [{"organization_id": "o", "account_id": "", "item_id": "", "body": said}]
        )
        await connection.execute(
            insert(budgets),
            [
                budget | {"budget_id": "b1", "scope": "organization"},
                budget | {"budget_id": "b2", "scope": "a scope of tomorrow"},
            ],
        )
    configuration = Configuration(database, shop_loader(secrets, LimitDefaults()), ManualClock())
    shop = await configuration.get("o")
    assert [(one.name, one.models[0].name, one.limits.attempts) for one in shop.providers] == [
        ("one", "m", 2)
    ]
    assert [(one.persona, one.floor_price) for one in shop.policies] == [("a shop", "5")]
    assert [one.budget_id for one in shop.budgets] == ["b1"]
    said_of = [record.getMessage().split(":")[0] for record in caplog.records]
    assert said_of == ["provider p2 is left out", "provider p3 is left out", "budget b2 is left out"]
    assert "sk-x" not in caplog.text
    async with database.read() as connection:
        shown = [row_to_proto(row) for row in await connection.execute(select(providers))]
    assert {one.name: (one.base_url, len(one.models)) for one in shown} == {
        "one": (URL, 1),
        "two": (URL, 1),
        "three": ("", 0),
    }
