"""`frontdesk provision` against a real nats-server with permissions and a real PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import asyncpg
import nats
import pytest
from nats.aio.client import Client
from nats.errors import Error as NatsError
from nats.js import api
from sqlalchemy import make_url

from frontdesk import fleet
from frontdesk.kit import subjects
from frontdesk.kit.bus import Bus, BusSettings
from frontdesk.kit.bus.connection import bus_settings
from frontdesk.kit.bus.topology import BUCKETS, STREAMS, ensure_stream
from frontdesk.kit.config import ConfigError, NatsSettings, load
from frontdesk.kit.errors import DeadlineExceeded, FailedPrecondition, Unavailable
from frontdesk.kit.migrations import head
from frontdesk.kit.nats_server import NatsServer
from frontdesk.kit.shards.store import ShardStore
from frontdesk.provision import provision, run
from support.certificates import self_signed
from support.permissions import PASSWORD, configuration
from support.postgres import PostgresServer

GATEWAY, ENGINE = "FRONTDESK_CONNECTION_GATEWAY_DATABASE_URL", "FRONTDESK_REPLY_ENGINE_DATABASE_URL"
AI_PROXY = "FRONTDESK_AI_PROXY_DATABASE_URL"
WEIRD = 'it\'s "a" 100% $1 :pass\\word'
STREAM_NAMES = {spec.name for spec in STREAMS} | {f"KV_{spec.name}" for spec in BUCKETS}


def role_url(admin: str, user: str, password: str = WEIRD) -> str:
    return make_url(admin).set(username=user, password=password).render_as_string(hide_password=False)


@pytest.fixture
async def nats_server(tmp_path: Path) -> AsyncIterator[NatsServer]:
    """A nats-server that knows a user for each service, with the rights it needs."""
    server = NatsServer(store=tmp_path / "nats")
    server.extra_config = configuration((server.user, server.password))
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
def environ(nats_server: NatsServer, postgres: str) -> dict[str, str]:
    # Roles belong to the whole server, which other tests use too.
    own = make_url(postgres).database
    return {
        "FRONTDESK_NATS_URL": f"nats://127.0.0.1:{nats_server.port}",
        "FRONTDESK_NATS_USER": "provision",
        "FRONTDESK_NATS_PASSWORD": PASSWORD.format("provision"),
        "FRONTDESK_ADMIN_DATABASE_URL": postgres,
        GATEWAY: role_url(postgres, f'{own}-Gate"way'),
        ENGINE: role_url(postgres, f"{own}_engine"),
        AI_PROXY: role_url(postgres, f"{own}_ai_proxy"),
        "FRONTDESK_PROVISION_SECONDS": "15",
    }


async def connected(url: str) -> Any:
    parts = make_url(url)
    return await asyncpg.connect(
        host=parts.host,
        port=parts.port,
        user=parts.username,
        password=str(parts.password),
        database=parts.database,
    )


async def snapshot(admin: str, nc: Client) -> object:
    """All that provision makes, as the servers tell it."""
    connection = await connected(admin)
    try:
        rows = [
            await connection.fetch(statement)
            for statement in (
                "SELECT rolname, rolcanlogin, rolsuper, rolpassword FROM pg_authid ORDER BY 1",
                "SELECT nspname, nspowner, nspacl::text, xmin::text FROM pg_namespace ORDER BY 1",
                "SELECT oid, relname, relowner, relacl::text, xmin::text FROM pg_class ORDER BY 1",
                "SELECT datacl::text FROM pg_database WHERE datname = current_database()",
            )
        ]
    finally:
        await connection.close()
    js = nc.jetstream()
    streams = sorted(await js.streams_info(), key=lambda info: str(info.config.name))
    consumers = [
        (info.stream_name, info.name, info.config, info.created)
        for stream in streams
        for info in await js.consumers_info(str(stream.config.name))
    ]
    return rows, [(info.config, info.created) for info in streams], consumers


async def test_everything_is_made_and_again_changes_nothing(
    environ: dict[str, str], nats_server: NatsServer
) -> None:
    """Roles, schemas, streams, buckets, consumers and tables are there; a second run finds nothing to do."""
    said: list[str] = []
    await provision(environ, said.append)
    async with await nats.connect(nats_server.url) as nc:
        js = nc.jetstream()
        assert {info.config.name for info in await js.streams_info()} == STREAM_NAMES
        for name, entry in fleet.SERVICES.items():
            wake = await js.consumer_info(subjects.WAKE, f"wake-{name}")
            assert wake.config.filter_subject == f"wake.{name}"
            for spec in entry.consumers:
                assert (await js.consumer_info(spec.stream, spec.name)).config.max_deliver == -1
        before = await snapshot(environ["FRONTDESK_ADMIN_DATABASE_URL"], nc)
        said.clear()
        await provision(environ, said.append)
        assert said == []
        assert await snapshot(environ["FRONTDESK_ADMIN_DATABASE_URL"], nc) == before
    assert await run(environ, said.append) == 0


async def test_no_role_reads_anothers_schema(environ: dict[str, str]) -> None:
    """A service's role owns its own schema, and reads, uses and makes nothing in any other."""
    await provision(environ, print)
    for own, other in ((GATEWAY, "reply_engine"), (ENGINE, "ai_proxy"), (AI_PROXY, "connection_gateway")):
        connection = await connected(environ[own])
        try:
            for statement in (
                f"TABLE {other}.alembic_version",
                f"CREATE TABLE {other}.mine (id int)",
                "CREATE TABLE public.mine (id int)",
                "CREATE SCHEMA mine",
                "CREATE TEMPORARY TABLE mine (id int)",
                "CREATE ROLE mine",
            ):
                with pytest.raises(asyncpg.InsufficientPrivilegeError):
                    await connection.execute(statement)
        finally:
            await connection.close()


async def test_rights_that_were_given_by_hand_are_taken_back(environ: dict[str, str]) -> None:
    """A schema that somebody opened is closed again, and a restored table belongs to its service again."""
    await provision(environ, print)
    engine = make_url(environ[ENGINE]).username
    admin = await connected(environ["FRONTDESK_ADMIN_DATABASE_URL"])
    try:
        await admin.execute(f'GRANT USAGE ON SCHEMA connection_gateway TO "{engine}", PUBLIC')
        await admin.execute("ALTER TABLE reply_engine.chats OWNER TO CURRENT_USER")
        said: list[str] = []
        await provision(environ, said.append)
        assert said == [
            f"table reply_engine.chats: given to {engine}",
            f"schema connection_gateway: closed to {engine}",
        ]
        await admin.execute(f'CREATE ROLE "shared-{engine}"; GRANT "shared-{engine}" TO "{engine}"')
        await admin.execute(f'GRANT USAGE ON SCHEMA connection_gateway TO "shared-{engine}"')
        with pytest.raises(FailedPrecondition, match=r"as a member of another role: REVOKE"):
            await provision(environ, said.append)
        await admin.execute(f'DROP OWNED BY "shared-{engine}"; DROP ROLE "shared-{engine}"')
    finally:
        await admin.close()


async def test_a_new_password_is_set(environ: dict[str, str]) -> None:
    """A secret that was changed is the role's password after the next run."""
    await provision(environ, print)
    environ[ENGINE] = role_url(environ[ENGINE], str(make_url(environ[ENGINE]).username), "another")
    said: list[str] = []
    await provision(environ, said.append)
    assert said == [f"role {make_url(environ[ENGINE]).username}: password changed"]
    await (await connected(environ[ENGINE])).close()


async def test_an_administrator_need_not_be_a_superuser(environ: dict[str, str], postgres: str) -> None:
    """The database's owner with CREATEROLE is enough; whoever has less is told what is missing."""
    admin = await connected(postgres)
    owner = f"{make_url(postgres).database}_owner"
    try:
        await admin.execute(f"CREATE ROLE {owner} LOGIN PASSWORD 'x'")
        environ["FRONTDESK_ADMIN_DATABASE_URL"] = role_url(postgres, owner, "x")
        with pytest.raises(FailedPrecondition, match="the database's owner with CREATEROLE"):
            await provision(environ, print)
        await admin.execute(f"ALTER ROLE {owner} CREATEROLE")
        await admin.execute(f"ALTER DATABASE {make_url(postgres).database} OWNER TO {owner}")
        await provision(environ, print)
        said: list[str] = []
        await provision(environ, said.append)
        assert said == []
    finally:
        await admin.close()


@pytest.mark.parametrize(
    ("changes", "key", "problem"),
    [
        ({ENGINE: ""}, ENGINE, "missing"),
        ({ENGINE: "sqlite:///x.db"}, ENGINE, "must look like postgresql://"),
        ({ENGINE: "postgresql://engine@db/x"}, ENGINE, "a user and a password"),
        ({ENGINE: "postgresql://engine:ö@db/x"}, ENGINE, "of ASCII only"),
        ({ENGINE: "postgresql://engine:pw@db/elsewhere"}, ENGINE, "the same database"),
        ({ENGINE: "admin"}, ENGINE, "not that of FRONTDESK_ADMIN_DATABASE_URL"),
        ({ENGINE: "gateway"}, ENGINE, f"not that of {GATEWAY}"),
    ],
)
async def test_wrong_urls_are_named(changes: dict[str, str], key: str, problem: str) -> None:
    """Each problem is told with its key before anything is touched, and no password is shown."""
    environ = {
        "FRONTDESK_NATS_URL": "nats://127.0.0.1:1",
        "FRONTDESK_ADMIN_DATABASE_URL": "postgresql://admin:pw@db/x",
        GATEWAY: "postgresql://gateway:pw@db/x",
        ENGINE: "postgresql://engine:pw@db/x",
        AI_PROXY: "postgresql://ai_proxy:pw@db/x",
    }
    for name, value in changes.items():
        environ[name] = value if "/" in value or not value else f"postgresql://{value}:pw@db/x"
    with pytest.raises(ConfigError) as caught:
        await provision(environ, print)
    assert problem in caught.value.problems[key]
    assert "pw@" not in caught.value.message


async def test_what_is_away_is_waited_for_until_the_deadline(environ: dict[str, str]) -> None:
    """It says what it waits for, and after the deadline what did not come."""
    said: list[str] = []
    environ |= {"FRONTDESK_NATS_URL": "nats://127.0.0.1:1", "FRONTDESK_PROVISION_SECONDS": "0.5"}
    with pytest.raises(DeadlineExceeded, match=r"NATS did not come within 0.5 s \(FRONTDESK_PROVISION_SEC"):
        await provision(environ, said.append)
    assert "waiting for NATS: NATS can't be reached" in said[-1]


async def test_a_database_that_comes_late_is_waited_for(
    environ: dict[str, str], postgres_server: PostgresServer
) -> None:
    """PostgreSQL may start after provision does."""
    admin = postgres_server.url()
    environ |= {
        "FRONTDESK_ADMIN_DATABASE_URL": admin,
        GATEWAY: role_url(admin, "gateway"),
        ENGINE: role_url(admin, "engine"),
        AI_PROXY: role_url(admin, "ai_proxy"),
    }
    await asyncio.to_thread(postgres_server.kill)
    said: list[str] = []
    task = asyncio.create_task(provision(environ, said.append))
    while not said:
        await asyncio.sleep(0.01)
    assert "waiting for PostgreSQL at 127.0.0.1" in said[0]
    await asyncio.to_thread(postgres_server.start)
    await task
    assert f"schema reply_engine: migrated to {head(fleet.SERVICES['reply-engine'].versions)}" in said


async def test_a_wrong_login_is_told_at_once(environ: dict[str, str], postgres: str) -> None:
    """Waiting does not mend a wrong password."""
    environ["FRONTDESK_ADMIN_DATABASE_URL"] = role_url(postgres, "frontdesk", "wrong")
    with pytest.raises(FailedPrecondition, match="are user and password of FRONTDESK_ADMIN_DATABASE_URL"):
        await provision(environ, print)


def user(server: NatsServer, name: str) -> BusSettings:
    address = f"nats://127.0.0.1:{server.port}"
    return BusSettings(address, name=name, user=name, password=PASSWORD.format(name))


async def test_a_service_without_the_right_to_make_streams(nats_server: NatsServer) -> None:
    """It can't start before they exist, starts when they do, and when they are of another version."""
    settings = replace(user(nats_server, "reply-engine"), publish_timeout=0.5)
    with pytest.raises(Unavailable, match="`frontdesk provision` does"):
        await Bus.connect(settings)
    newer = replace(STREAMS[0], max_msgs_per_subject=7, max_bytes=2**24)
    admin = await Bus.connect(BusSettings(nats_server.url))
    assert await ensure_stream(admin.js, newer) == "changed"
    bus = await Bus.connect(settings)
    await bus.publish(subjects.outbound(1, "a"), b"")
    await bus.close()
    assert (await admin.stream_info(STREAMS[0].name)).config.max_msgs_per_subject == 7
    # One that has the right makes of it what its version declares, but for the size, which is not its own.
    await (await Bus.connect(BusSettings(nats_server.url))).close()
    config = (await admin.stream_info(STREAMS[0].name)).config
    assert (config.max_msgs_per_subject, config.max_bytes) == (-1, 2**24)
    await admin.close()


async def test_a_store_that_is_too_small_is_told_at_once(
    environ: dict[str, str], tmp_path: Path, postgres: str
) -> None:
    """Waiting makes no room: it says what to set, and fits with that setting."""
    server = NatsServer(store=tmp_path / "small")
    server.extra_config = f'jetstream {{ store_dir: "{tmp_path / "small"}", max_file_store: 900MB }}'
    await server.start()
    environ |= {
        "FRONTDESK_NATS_URL": f"nats://127.0.0.1:{server.port}",
        "FRONTDESK_NATS_USER": server.user,
        "FRONTDESK_NATS_PASSWORD": server.password,
    }
    try:
        with pytest.raises(FailedPrecondition, match="FRONTDESK_NATS_STREAM_MEGABYTES"):
            await provision(environ, print)
        await provision({**environ, "FRONTDESK_NATS_STREAM_MEGABYTES": "128"}, print)
    finally:
        await server.stop()


async def test_a_user_hears_and_reads_what_is_its_own_only(
    environ: dict[str, str], nats_server: NatsServer
) -> None:
    """The notifier reads no buyer's message: not the stream, not a consumer, not another's inbox."""
    await provision(environ, print)
    bus = await Bus.connect(user(nats_server, "notifier"))
    refused: list[str] = []

    async def denied(error: Exception) -> None:
        refused.append(str(error).lower())

    bus.nc._error_cb = denied
    js = bus.nc.jetstream(timeout=0.3)
    with pytest.raises((NatsError, TimeoutError)):
        await js.get_msg(subjects.INBOUND, 1)
    with pytest.raises((NatsError, TimeoutError)):
        await js.add_consumer(subjects.INBOUND, api.ConsumerConfig(durable_name="spy"))
    with pytest.raises((NatsError, TimeoutError)):
        await bus.nc.request("$JS.API.CONSUMER.MSG.NEXT.INBOUND.reply-engine", b"", timeout=0.3)
    for subject in ("inbound.>", "_INBOX.>", "_INBOX.reply-engine.>", ">", "rpc.>"):
        await bus.nc.subscribe(subject)
    await bus.nc.flush()
    await asyncio.sleep(0.1)
    assert len([line for line in refused if "subscription" in line]) == 5
    await bus.close()


async def test_the_bucket_of_shards_is_the_one_that_shards_would_make(nats_server: NatsServer) -> None:
    """Declared in two places, the two are the same."""
    admin = await Bus.connect(BusSettings(nats_server.url), ensure=False)
    configs = []
    for make in ("store", "provision"):
        if make == "store":
            store = ShardStore(
                admin.nc,
                timeout=2,
                storage="file",
                replicas=1,
                on_record=lambda _: None,
                on_contact=lambda: None,
            )
            await store.open()
        else:
            await admin.js.create_key_value(BUCKETS[0].config(1))
        configs.append((await admin.stream_info(f"KV_{subjects.SHARDS_BUCKET}")).config)
        await admin.js.delete_key_value(subjects.SHARDS_BUCKET)
    assert configs[0] == configs[1]
    await admin.close()


async def test_nats_with_an_authority_of_its_own(tmp_path: Path) -> None:
    """FRONTDESK_NATS_CA_FILE names whose certificates are trusted; without it those of the system are."""
    certificate, key = self_signed(tmp_path)
    server = NatsServer(store=tmp_path / "nats")
    server.extra_config = f'tls {{ cert_file: "{certificate}", key_file: "{key}" }}'
    await server.start()
    environ = {
        "FRONTDESK_NATS_URL": f"tls://127.0.0.1:{server.port}",
        "FRONTDESK_NATS_USER": server.user,
        "FRONTDESK_NATS_PASSWORD": server.password,
    }
    try:
        with pytest.raises(FailedPrecondition, match="CERTIFICATE_VERIFY_FAILED"):
            await Bus.connect(bus_settings(load(NatsSettings, environ), "x"))
        environ["FRONTDESK_NATS_CA_FILE"] = str(certificate)
        bus = await Bus.connect(bus_settings(load(NatsSettings, environ), "x"))
        await bus.publish(subjects.dead("X"), b"")
        await bus.close()
    finally:
        await server.stop()
