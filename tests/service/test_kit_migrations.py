"""Alembic scripts of a service, on SQLite and on a real PostgreSQL."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from alembic.script import ScriptDirectory
from sqlalchemy import text

from frontdesk.fleet import SERVICES
from frontdesk.kit.database import Database, DatabaseOptions
from frontdesk.kit.errors import Unavailable
from frontdesk.kit.migrations import current, head, migrate

STEP = '''"""{what}."""

import sqlalchemy as sa
from alembic import op

revision = "{revision}"
down_revision = {before!r}
branch_labels = None
depends_on = None


def upgrade() -> None:
{body}
'''
FIRST = '    op.create_table("things", sa.Column("id", sa.Integer, primary_key=True))'
SECOND = """    with op.batch_alter_table("things") as table:
        table.add_column(sa.Column("name", sa.String(20), nullable=False, server_default="none"))
    op.execute("INSERT INTO things (id) VALUES (1)")"""
BROKEN = """    op.create_table("others", sa.Column("id", sa.Integer, primary_key=True))
    op.execute("SELECT 1 FROM nowhere")"""


def add(versions: Path, revision: str, before: str | None, body: str) -> None:
    versions.mkdir(parents=True, exist_ok=True)
    script = STEP.format(what="A step", revision=revision, before=before, body=body)
    (versions / f"{revision}.py").write_text(script)


@pytest.fixture
def versions(tmp_path: Path) -> Path:
    folder = tmp_path / "migrations" / "versions"
    add(folder, "0001", None, FIRST)
    return folder


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/test.db"
    address: str = request.getfixturevalue("postgres")
    return address


@contextlib.asynccontextmanager
async def opened(url: str, schema: str = "engine") -> AsyncIterator[Database]:
    database = Database(DatabaseOptions(url, schema, busy_timeout=2.0))
    try:
        yield database
    finally:
        await database.close()


async def names(database: Database) -> list[str]:
    async with database.read() as connection:
        return [str(name) for name in (await connection.execute(text("SELECT name FROM things"))).scalars()]


async def test_migrating_brings_the_newest_revision_and_again_changes_nothing(
    url: str, versions: Path
) -> None:
    """An empty database gets every step once; a second call finds nothing to do."""
    async with opened(url) as database:
        assert (await current(database), head(versions)) == (None, "0001")
        await migrate(database, versions)
        assert await current(database) == "0001"
        add(versions, "0002", "0001", SECOND)
        assert head(versions) == "0002"
        await migrate(database, versions)
        await migrate(database, versions)
        assert await current(database) == "0002"
        assert await names(database) == ["none"]


async def test_replicas_that_start_together_migrate_once(url: str, versions: Path) -> None:
    """Four replicas migrate at the same time: each step runs once and all of them go on."""
    add(versions, "0002", "0001", SECOND)
    async with contextlib.AsyncExitStack() as stack:
        replicas = [await stack.enter_async_context(opened(url)) for _ in range(4)]
        await asyncio.gather(*(migrate(replica, versions) for replica in replicas))
        assert await names(replicas[0]) == ["none"]


async def test_processes_that_start_together_migrate_once(url: str, versions: Path) -> None:
    """Another process's migration is waited for by the database's own lock."""
    add(versions, "0002", "0001", SECOND)
    program = (
        "import asyncio, sys; from pathlib import Path\n"
        "from frontdesk.kit.database import Database, DatabaseOptions\n"
        "from frontdesk.kit.migrations import migrate\n"
        "async def main():\n"
        "    database = Database(DatabaseOptions(sys.argv[1], 'engine'))\n"
        "    await migrate(database, Path(sys.argv[2]))\n"
        "    await database.close()\n"
        "asyncio.run(main())\n"
    )
    processes = [
        await asyncio.create_subprocess_exec(sys.executable, "-c", program, url, str(versions))
        for _ in range(3)
    ]
    assert [await process.wait() for process in processes] == [0, 0, 0]
    async with opened(url) as database:
        assert await names(database) == ["none"]


async def test_services_of_one_process_migrate_beside_each_other(postgres: str, tmp_path: Path) -> None:
    """Two services with different schemas and scripts may start at the same moment."""
    one, two = tmp_path / "one" / "versions", tmp_path / "two" / "versions"
    add(one, "0001", None, FIRST)
    add(two, "0009", None, FIRST.replace("things", "articles"))
    async with opened(postgres, "one") as first, opened(postgres, "two") as second:
        await asyncio.gather(migrate(first, one), migrate(second, two))
        assert (await current(first), await current(second)) == ("0001", "0009")
        async with second.read() as connection:
            found = await connection.execute(
                text("SELECT table_schema, table_name FROM information_schema.tables")
            )
            tables = {tuple(row) for row in found if row.table_schema in ("one", "two")}
    assert tables == {
        ("one", "things"),
        ("one", "alembic_version"),
        ("two", "articles"),
        ("two", "alembic_version"),
    }


async def test_a_step_that_fails_changes_nothing(url: str, versions: Path) -> None:
    """All steps of a start are one transaction."""
    add(versions, "0002", "0001", BROKEN)
    async with opened(url) as database:
        with pytest.raises(Exception, match="nowhere"):
            await migrate(database, versions)
        assert await current(database) is None
        (versions / "0002.py").unlink()
        await migrate(database, versions)
        assert await current(database) == "0001"


async def test_a_database_that_is_away_is_told_soon(versions: Path) -> None:
    """Nobody at the address gives Unavailable, not a long wait."""
    async with opened("postgresql://nobody:none@127.0.0.1:1/x") as database, asyncio.timeout(5):
        with pytest.raises(Unavailable):
            await migrate(database, versions)


async def test_a_schema_of_a_newer_version_is_left_alone(url: str, versions: Path) -> None:
    """While an upgrade rolls, a replica of the version before starts on the newer schema."""
    add(versions, "0002", "0001", SECOND)
    async with opened(url) as database:
        assert await migrate(database, versions)
        (versions / "0002.py").unlink()
        assert not await migrate(database, versions)
        assert await current(database) == "0002"


async def test_a_current_schema_needs_no_alembic(url: str, versions: Path) -> None:
    """A service whose schema is current starts without the time that Alembic takes to load."""
    async with opened(url) as database:
        await migrate(database, versions)
    program = (
        "import asyncio, sys; from pathlib import Path\n"
        "from frontdesk.kit.database import Database, DatabaseOptions\n"
        "from frontdesk.kit.migrations import migrate\n"
        "async def main():\n"
        "    database = Database(DatabaseOptions(sys.argv[1], 'engine'))\n"
        "    assert not await migrate(database, Path(sys.argv[2]))\n"
        "    await database.close()\n"
        "asyncio.run(main())\n"
        "assert 'alembic' not in sys.modules\n"
    )
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", program, url, str(versions))
    assert await process.wait() == 0


@pytest.mark.parametrize("service", sorted(SERVICES))
def test_revisions_sort_in_their_order(service: str) -> None:
    """What the file names say is what Alembic says, of every service."""
    versions = SERVICES[service].versions
    scripts = ScriptDirectory(str(versions.parent), version_locations=[str(versions)])
    in_order = [script.revision for script in scripts.walk_revisions()][::-1]
    assert in_order == sorted(path.stem.partition("_")[0] for path in versions.glob("[0-9]*.py"))
    assert in_order[-1] == head(versions)
