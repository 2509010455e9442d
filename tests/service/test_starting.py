"""How a service starts as a process of its own: what it loads, what it waits for, and why it can't."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import asyncpg
import pytest
from sqlalchemy import make_url

from frontdesk import fleet
from frontdesk.fleet import SERVICES
from frontdesk.kit.bus import Bus, BusSettings
from frontdesk.kit.clock import SystemClock
from frontdesk.kit.errors import FailedPrecondition
from frontdesk.kit.nats_server import NatsServer
from frontdesk.kit.patience import Patience
from frontdesk.kit.secrets import generate_key
from frontdesk.kit.shards.manager import ShardManager
from frontdesk.kit.shards.model import ShardSettings
from frontdesk.kit.tokens import generate_key_pair
from frontdesk.provision import provision
from support.certificates import self_signed
from support.permissions import PASSWORD, RIGHTS, Rights, configuration
from support.processes import Program, free_port
from support.shards import Recorder
from support.waiting import until, until_async

COMMAND = "import sys; sys.argv[1:] = [{!r}]\nfrom frontdesk.__main__ import main\n"
NATS_AWAY = "waiting for NATS: NATS can't be reached"
NO_ROLE = "waiting for the database: PostgreSQL refuses the user"
NO_STREAM = "waiting for what NATS keeps: stream"


def started(service: str, environ: dict[str, str], after: str) -> subprocess.CompletedProcess[str]:
    program = f"{COMMAND.format(service)}try:\n    main()\nfinally:\n    {after}\n"
    return subprocess.run(
        [sys.executable, "-c", program], env=environ, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize("service", sorted(SERVICES))
def test_a_service_starts_without_the_command_line(service: str) -> None:
    """Neither the command line nor Alembic is loaded; a missing setting ends with 2 and its name."""
    done = started(service, {}, "print(*sys.modules)")
    assert done.returncode == 2
    assert "FRONTDESK_NATS_URL" in done.stderr
    assert not {"typer", "rich", "alembic", "frontdesk.cli"} & set(done.stdout.split())


def test_the_fleet_knows_services_without_loading_them() -> None:
    """What only prepares or lists services does not pay for their libraries."""
    program = "import frontdesk.fleet, sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert not {"fastapi", "grpc", "sqlalchemy", "aiohttp", "nats"} & set(done.stdout.split())


@dataclass
class Starting:
    """A service as a process, beside a nats-server and a database that may not be there yet."""

    folder: Path
    service: str
    nats: NatsServer
    environ: dict[str, str]
    port: int = field(default_factory=free_port)

    async def start(self, **changes: str) -> None:
        own = {
            "FRONTDESK_NATS_URL": f"nats://127.0.0.1:{self.nats.port}",
            "FRONTDESK_NATS_USER": self.service,
            "FRONTDESK_NATS_PASSWORD": PASSWORD.format(self.service),
            "FRONTDESK_METRICS_PORT": str(self.port),
            "FRONTDESK_GRPC_PORT": "0",
        }
        words = [sys.executable, "-m", "frontdesk", self.service]
        environ = {**self.environ, **own, **changes}
        self.program = Program(self.service, words, environ, self.folder / "service.log")
        await self.program.start()

    @property
    def log(self) -> list[str]:
        """What it logged from WARNING on."""
        lines = (self.folder / "service.log").read_text().splitlines()
        found = [json.loads(line) for line in lines if line.startswith("{")]
        return [one["msg"] for one in found if one["level"] in ("WARNING", "ERROR", "CRITICAL")]

    async def lacks(self) -> dict[str, str] | None:
        """What /readyz says is not ready: empty when all is, None while nobody answers."""
        try:
            async with (
                aiohttp.ClientSession() as session,
                session.get(f"http://127.0.0.1:{self.port}/readyz") as response,
            ):
                body = await response.json()
        except aiohttp.ClientError:
            return None
        found: dict[str, str] = body["failures"]
        assert response.status == (503 if found else 200)
        return found

    async def until_waiting(self, reason: str) -> None:
        """Wait until /readyz says that the service waits for this."""

        async def waiting() -> bool:
            assert self.program.running, self.log
            found = await self.lacks() or {}
            return reason in found.get(f"{self.service} works", "")

        await until_async(waiting, 30)

    async def end(self) -> tuple[int, str]:
        """The exit code of a service that ends by itself, and its last line."""
        assert self.program.process is not None
        async with asyncio.timeout(30):
            code = await self.program.process.wait()
        return code, self.log[-1]


@pytest.fixture
async def nats_server(tmp_path: Path) -> AsyncIterator[NatsServer]:
    """A nats-server that knows a user for each service, with the rights it needs."""
    server = NatsServer(store=tmp_path / "nats")
    rights = {**RIGHTS, "blind": Rights(("nothing",), ("_INBOX.>",))}
    server.extra_config = configuration((server.user, server.password), rights)
    await server.start()
    yield server
    await server.stop()


@pytest.fixture(params=sorted(SERVICES))
async def starting(
    request: pytest.FixtureRequest, tmp_path: Path, nats_server: NatsServer, postgres: str
) -> AsyncIterator[Starting]:
    environ = {
        "FRONTDESK_DATABASE_URL": database_url(postgres, request.param),
        "FRONTDESK_SECRET_KEYS": generate_key(),
        "FRONTDESK_JWT_PUBLIC_KEYS": generate_key_pair()[1],
        "FRONTDESK_REPLICA": "replica-0",
    }
    starting = Starting(tmp_path, request.param, nats_server, environ)
    yield starting
    await starting.program.end(signal.SIGKILL)


def database_url(admin: str, service: str) -> str:
    """The database as a role that is not there yet; roles belong to the server, which tests share."""
    user = f"{make_url(admin).database}_{service}"
    return make_url(admin).set(username=user, password="secret").render_as_string(hide_password=False)


def provisioning(nats: NatsServer, postgres: str) -> dict[str, str]:
    return {
        "FRONTDESK_NATS_URL": f"nats://127.0.0.1:{nats.port}",
        "FRONTDESK_NATS_USER": "provision",
        "FRONTDESK_NATS_PASSWORD": PASSWORD.format("provision"),
        "FRONTDESK_ADMIN_DATABASE_URL": postgres,
        "FRONTDESK_PROVISION_SECONDS": "20",
        **{
            f"FRONTDESK_{entry.schema.upper()}_DATABASE_URL": database_url(postgres, name)
            for name, entry in fleet.SERVICES.items()
        },
    }


async def test_a_service_that_starts_first_waits_for_everything(starting: Starting, postgres: str) -> None:
    """Without NATS, role, schema and streams it lives, is not ready and says why once; then it works."""
    await starting.nats.stop()
    await starting.start()
    await starting.until_waiting(NO_ROLE)
    admin = await asyncpg.connect(make_url(postgres).set(drivername="postgresql").render_as_string(False))
    role = make_url(starting.environ["FRONTDESK_DATABASE_URL"]).username
    await admin.execute(f"CREATE ROLE \"{role}\" LOGIN PASSWORD 'secret'")
    await starting.until_waiting("is missing, and this role may not make it: `frontdesk provision` does")
    schema = SERVICES[starting.service].schema
    await admin.execute(f'CREATE SCHEMA {schema} AUTHORIZATION "{role}"')
    await admin.close()
    await starting.until_waiting(NATS_AWAY)
    await starting.nats.start()
    await starting.until_waiting(NO_STREAM)
    await provision(provisioning(starting.nats, postgres), print)
    await until_async(lambda: ready(starting), 30)
    said = starting.log
    for words in (NO_ROLE, "the schema", NATS_AWAY, NO_STREAM):
        assert len([line for line in said if words in line]) == 1, said
    assert len(said) <= 12


async def ready(starting: Starting) -> bool:
    return await starting.lacks() == {}


@pytest.mark.parametrize("starting", ["reply-engine"], indirect=True)
async def test_consumers_are_waited_for(starting: Starting, postgres: str) -> None:
    """Streams of an earlier version alone are not enough: a service without its consumers is not ready."""
    environ = provisioning(starting.nats, postgres)
    await provision(environ, print)
    admin = await Bus.connect(BusSettings(starting.nats.url), ensure=False)
    await admin.js.delete_consumer("TIMERS", "reply-engine")
    await starting.start()
    await starting.until_waiting("consumer reply-engine of TIMERS is missing: `frontdesk provision` makes it")
    await provision(environ, print)
    await until_async(lambda: ready(starting), 30)
    await admin.close()


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
@pytest.mark.parametrize("starting", ["connection-gateway"], indirect=True)
async def test_a_service_that_waits_can_be_told_to_end(
    starting: Starting, database: str, tmp_path: Path
) -> None:
    """SIGTERM ends it at once and with 0."""
    await starting.nats.stop()
    sqlite = f"sqlite:///{tmp_path}/gateway.db"
    await starting.start(**({"FRONTDESK_DATABASE_URL": sqlite} if database == "sqlite" else {}))
    await starting.until_waiting(NATS_AWAY if database == "sqlite" else NO_ROLE)
    starting.program.send(signal.SIGTERM)
    code, _ = await starting.end()
    assert code == 0


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"FRONTDESK_NATS_PASSWORD": "wrong"}, "Are FRONTDESK_NATS_USER and FRONTDESK_NATS_PASSWORD right?"),
        (
            {"FRONTDESK_NATS_USER": "blind", "FRONTDESK_NATS_PASSWORD": PASSWORD.format("blind")},
            "may not use $js.api.stream.info.",
        ),
        ({"FRONTDESK_NATS_CA_FILE": "/nowhere"}, "nats_ca_file: can't be read"),
        ({"FRONTDESK_DATABASE_URL": "database"}, "make the database first"),
        ({"FRONTDESK_DATABASE_URL": "rights"}, "lacks a right: no schema has been selected"),
    ],
)
@pytest.mark.parametrize("starting", ["reply-engine"], indirect=True)
async def test_what_no_waiting_mends_ends_it(
    starting: Starting, postgres: str, changes: dict[str, str], problem: str
) -> None:
    """A wrong setting or a missing right is one clear line, and an exit with 1."""
    await provision(provisioning(starting.nats, postgres), print)
    if changes.get("FRONTDESK_DATABASE_URL") == "database":
        url = make_url(postgres).set(database="nowhere")
        changes = {"FRONTDESK_DATABASE_URL": url.render_as_string(hide_password=False)}
    if changes.get("FRONTDESK_DATABASE_URL") == "rights":
        changes = {"FRONTDESK_DATABASE_URL": database_url(postgres, "connection-gateway")}
    await starting.start(**changes)
    code, last = await starting.end()
    assert code == 1
    assert problem in last
    assert last.startswith("reply-engine could not start: ")


async def test_a_certificate_of_somebody_elses_ends_it(tmp_path: Path) -> None:
    """Whoever shows a certificate that nobody vouches for is not waited for."""
    (theirs := tmp_path / "theirs").mkdir()
    (ours := tmp_path / "ours").mkdir()
    certificate, key = self_signed(theirs)
    other, _ = self_signed(ours)
    server = NatsServer(store=tmp_path / "nats")
    server.extra_config = f'tls {{ cert_file: "{certificate}", key_file: "{key}" }}'
    await server.start()
    url = f"tls://127.0.0.1:{server.port}"
    settings = BusSettings(url, user=server.user, password=server.password, ca_file=str(other))
    with pytest.raises(FailedPrecondition, match="FRONTDESK_NATS_CA_FILE does not vouch"):
        await Bus.connect(settings)
    await server.stop()


async def test_a_silent_nats_is_waited_for_at_the_shards(nats_server: NatsServer) -> None:
    """A server that stands still while leases are read delays the start, and does not end it."""
    bus = await Bus.connect(BusSettings(nats_server.url))
    manager = ShardManager(bus.nc, "gateway-0", Recorder(), ShardSettings(ttl=0.8, margin=0.2))
    said: list[str] = []
    patience = Patience(said.append, SystemClock())
    assert nats_server.process is not None
    nats_server.process.send_signal(signal.SIGSTOP)
    starting = asyncio.create_task(patience.until("leases", manager.start))
    await until(lambda: bool(said))
    nats_server.process.send_signal(signal.SIGCONT)
    assert "waiting for leases: the bucket of shards can't be opened" in said[0]
    async with asyncio.timeout(20):
        await starting
    assert manager.problem() is None
    await manager.stop()
    await bus.close()
