"""Break things under load, and count what buyers got: one JSON line a fault.

    python tools/chaos/run.py [--only gateway_killed,…] [--messages 1200] [--list]

Every fault has a fleet of its own on loopback, with 40 accounts whose buyers ask 60 times a second. The fault
strikes two seconds into the load. `lost` are questions that nobody answered within 90 s of the last one;
`answered_twice` those with more than one answer, both counted by the simulator. `recovered_s` is the time
from the fault to the last moment at which some question was older than two seconds without an answer; it
holds the time the thing was kept broken (`broken_s`). Where the AI answers, what it can't answer the default
reply does, and `by_ai` counts its answers. Exit code 1 when a line is not as it must be.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import signal
import sqlite3
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import uvloop

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from frontdesk.api.fleet.v1 import fleet_service_pb2 as pb  # noqa: E402 - the path is set above
from frontdesk.api.fleet.v1.fleet_service_pb2_grpc import FleetServiceStub  # noqa: E402 - the same
from frontdesk.simulators.models.asked import Asked  # noqa: E402 - the same
from frontdesk.simulators.models.script import Behaviour  # noqa: E402 - the same
from frontdesk.simulators.models.server import ModelsServer  # noqa: E402 - the same
from support.marketplace import ORGANIZATION  # noqa: E402 - the same
from support.postgres import PostgresServer, new_server  # noqa: E402 - the path is set above
from support.processes import Fleet, free_port  # noqa: E402
from support.upstreams import add_provider  # noqa: E402

ACCOUNTS = 40
RATE = 60.0
STRIKE_S = 2.0
PATIENCE_S = 90.0
OLD_S = 2.0
TAKEOVER_LIMIT_S = 15.0
# How long a model thinks, so that many calls are under way when a fault strikes.
THINKS_MS = 400
HERE = Path(__file__).resolve().parent


@dataclass
class Scene:
    """A fleet under load, and what a fault may break."""

    fleet: Fleet
    postgres: PostgresServer | None
    takeover_s: float | None = None
    models: Models | None = None


Strike = Callable[[Scene], Awaitable[None]]


class Models:
    """Models that answer a question with its number, on a port that stays theirs."""

    def __init__(self) -> None:
        self._port = free_port()
        self.url = f"http://127.0.0.1:{self._port}"
        self._server: ModelsServer | None = None

    async def start(self) -> None:
        self._server = ModelsServer(port=self._port)
        self._server.script.add(Behaviour(says=_number_said, head_ms=THINKS_MS))
        await self._server.start()

    async def stop(self) -> None:
        if self._server is not None:
            await self._server.stop()


def _number_said(asked: Asked) -> str:
    """The answer to what the buyer wrote since the shop spoke, in the form that ai-proxy wants."""
    numbers = " ".join(re.findall(r"#\d+", asked.last_words))
    return json.dumps({"text": f"yes: {numbers}", "intent": "other", "confidence": 1, "needs_person": False})


@dataclass(frozen=True)
class Fault:
    """A fault: how many replicas it needs, whether the AI answers, and how it strikes."""

    strike: Strike
    gateways: int = 1
    engines: int = 1
    ai_proxies: int = 0
    postgres: bool = False
    dies_at: str = ""


async def _connected(scene: Scene) -> None:
    """Wait until every account is connected again, and note how long that took."""
    scene.takeover_s = round(await scene.fleet.until_connected(ACCOUNTS), 1)


async def gateway_killed(scene: Scene) -> None:
    """kill -9, started again at once, as Kubernetes does."""
    gateway = scene.fleet.programs["connection-gateway-0"]
    await gateway.end(signal.SIGKILL)
    await gateway.start()
    await scene.fleet.until_ready(gateway.name)


async def gateway_killed_for_good(scene: Scene) -> None:
    """kill -9 of one of two: the other takes its shards."""
    await scene.fleet.programs["connection-gateway-0"].end(signal.SIGKILL)
    await asyncio.sleep(1)
    await _connected(scene)


async def gateway_paused(scene: Scene) -> None:
    """SIGSTOP longer than the lease, then SIGCONT."""
    gateway = scene.fleet.programs["connection-gateway-0"]
    gateway.send(signal.SIGSTOP)
    await asyncio.sleep(15)
    gateway.send(signal.SIGCONT)


async def membership_changes(scene: Scene) -> None:
    """A replica joins, another leaves in order, and comes back, under load."""
    fleet = scene.fleet
    await fleet.add("connection-gateway", "connection-gateway-2")
    await fleet.until_ready("connection-gateway-2")
    await asyncio.sleep(4)
    leaving = fleet.programs["connection-gateway-0"]
    await leaving.end(signal.SIGTERM)
    await asyncio.sleep(3)
    await leaving.start()
    await fleet.until_ready(leaving.name)


async def gateway_cordoned(scene: Scene) -> None:
    """Maintenance under load: cordon one of two, restart it empty, uncordon it."""
    stub = FleetServiceStub(scene.fleet.channel)
    gateway = scene.fleet.programs["connection-gateway-0"]

    async def until_shards(wanted: Callable[[int], bool]) -> None:
        async with asyncio.timeout(60):
            while True:
                fleet: pb.GetFleetResponse = await stub.GetFleet(pb.GetFleetRequest(), timeout=10)
                found = {one.replica: len(one.shards) for one in fleet.replicas}
                if wanted(found.get(gateway.name, 0)):
                    return
                await asyncio.sleep(0.2)

    await stub.Cordon(pb.CordonRequest(replica=gateway.name), timeout=10)
    await until_shards(lambda held: held == 0)
    await gateway.end(signal.SIGTERM)
    await gateway.start()
    await scene.fleet.until_ready(gateway.name)
    await stub.Uncordon(pb.UncordonRequest(replica=gateway.name), timeout=10)
    await until_shards(lambda held: held > 20)


async def engine_dies(scene: Scene) -> None:
    """The engine ends itself at a step; then a sound one is started."""
    engine = scene.fleet.programs["reply-engine-0"]
    process = engine.process
    assert process is not None
    async with asyncio.timeout(30):
        await process.wait()
    engine.words = [sys.executable, "-m", "frontdesk", "reply-engine"]
    await engine.start()
    await scene.fleet.until_ready(engine.name)


async def engine_killed(scene: Scene) -> None:
    """kill -9 of the only engine, started again at once."""
    engine = scene.fleet.programs["reply-engine-0"]
    await engine.end(signal.SIGKILL)
    await engine.start()
    await scene.fleet.until_ready(engine.name)


async def nats_killed(scene: Scene) -> None:
    """kill -9 of nats-server; it is back after two seconds, on the same disk."""
    await scene.fleet.nats.kill()
    await asyncio.sleep(2)
    await scene.fleet.nats.start()


async def database_locked(scene: Scene) -> None:
    """Somebody else holds the write lock of both services' files for ten seconds."""

    def hold() -> None:
        files = [scene.fleet.folder / f"{name}.db" for name in ("connection-gateway", "reply-engine")]
        connections = [sqlite3.connect(file, isolation_level=None, timeout=30) for file in files]
        for connection in connections:
            connection.execute("BEGIN IMMEDIATE")
        time.sleep(10)
        for connection in connections:
            connection.close()

    await asyncio.to_thread(hold)


async def database_gone(scene: Scene) -> None:
    """PostgreSQL is cut off for ten seconds."""
    assert scene.postgres is not None
    await asyncio.to_thread(scene.postgres.kill)
    await asyncio.sleep(10)
    await asyncio.to_thread(scene.postgres.start)


async def sockets_dropped(scene: Scene) -> None:
    """All sockets of the platform are cut, three times, each time with another code."""
    for code in (1006, 1000, 1012):
        await scene.fleet.control("sockets/close", {"code": code})
        await asyncio.sleep(4)


async def platform_slow(scene: Scene) -> None:
    """Answers come three seconds late, and some of sends never."""
    await scene.fleet.control("faults", {"slow_answers_ms": 3000, "drop_send_answers": 0.1})
    await asyncio.sleep(8)
    await scene.fleet.control("faults", method="DELETE")


async def ai_proxy_killed(scene: Scene) -> None:
    """kill -9 of the only ai-proxy, started again at once."""
    proxy = scene.fleet.programs["ai-proxy-0"]
    await proxy.end(signal.SIGKILL)
    await proxy.start()
    await scene.fleet.until_ready(proxy.name)


async def ai_proxy_killed_for_good(scene: Scene) -> None:
    """kill -9 of one of two: the other answers what it left."""
    await scene.fleet.programs["ai-proxy-0"].end(signal.SIGKILL)


async def ai_proxy_restarted(scene: Scene) -> None:
    """The only ai-proxy stops in order, is away for three seconds, and starts again."""
    proxy = scene.fleet.programs["ai-proxy-0"]
    await proxy.end(signal.SIGTERM)
    await asyncio.sleep(3)
    await proxy.start()
    await scene.fleet.until_ready(proxy.name)


async def models_away(scene: Scene) -> None:
    """The provider cuts its calls and is away for ten seconds."""
    assert scene.models is not None
    await scene.models.stop()
    await asyncio.sleep(10)
    await scene.models.start()


async def pushes_missed(scene: Scene) -> None:
    """A fifth of the pushes never come, some come twice or late; then the sockets are cut."""
    wrong = {"missed_pushes": 0.2, "duplicate_pushes": 0.2, "reorder_pushes": 0.2, "malformed_frames": 6}
    await scene.fleet.control("faults", wrong)
    await asyncio.sleep(10)
    await scene.fleet.control("faults", method="DELETE")
    await scene.fleet.control("sockets/close", {"code": 1006})


FAULTS = {
    "gateway_killed": Fault(gateway_killed),
    "gateway_killed_takeover": Fault(gateway_killed_for_good, gateways=2, postgres=True),
    "gateway_paused": Fault(gateway_paused, gateways=2, postgres=True),
    "membership_changes": Fault(membership_changes, gateways=2, postgres=True),
    "gateway_cordoned": Fault(gateway_cordoned, gateways=2, postgres=True),
    "engine_dies_before_commit": Fault(engine_dies, dies_at="before a commit"),
    "engine_dies_after_commit": Fault(engine_dies, dies_at="after a commit"),
    "engine_dies_before_publish": Fault(engine_dies, dies_at="before the outbox publishes"),
    "engine_dies_after_publish": Fault(engine_dies, dies_at="after the outbox published"),
    "engine_dies_before_ack": Fault(engine_dies, dies_at="before an acknowledgement"),
    "engine_dies_at_report": Fault(engine_dies, dies_at="while a report is stored"),
    "nats_killed": Fault(nats_killed),
    "ai_proxy_killed": Fault(ai_proxy_killed, ai_proxies=1),
    "ai_proxy_killed_takeover": Fault(ai_proxy_killed_for_good, ai_proxies=2),
    "ai_proxy_restarted": Fault(ai_proxy_restarted, ai_proxies=1),
    "models_away": Fault(models_away, ai_proxies=1),
    "ai_nats_killed": Fault(nats_killed, ai_proxies=1),
    "ai_engine_killed": Fault(engine_killed, ai_proxies=1),
    "database_locked": Fault(database_locked),
    "database_gone": Fault(database_gone, postgres=True),
    "sockets_dropped": Fault(sockets_dropped),
    "platform_slow": Fault(platform_slow),
    "pushes_missed": Fault(pushes_missed),
}


async def watch(fleet: Fleet, load: str, ages: list[tuple[float, float]]) -> None:
    """Note how old the oldest unanswered question is, five times a second."""
    while True:
        verdict = await fleet.control(f"verdict?load={load}")
        ages.append((time.monotonic(), verdict["oldest_waiting_s"]))
        await asyncio.sleep(0.2)


async def play(name: str, fault: Fault, messages: int, folder: Path) -> dict[str, object]:
    """One fault from an empty fleet to the verdict."""
    postgres = await asyncio.to_thread(new_server) if fault.postgres else None
    databases = {}
    if postgres is not None:
        for service in ("connection_gateway", "reply_engine"):
            await asyncio.to_thread(postgres.query, f"CREATE DATABASE {service}")
            databases[service.replace("_", "-")] = postgres.url(service)
    fleet = Fleet(
        folder,
        gateways=fault.gateways,
        engines=fault.engines,
        ai_proxies=fault.ai_proxies,
        databases=databases,
        settings={"FRONTDESK_AI_PRIVATE_UPSTREAMS": "true"} if fault.ai_proxies else {},
    )
    scene = Scene(fleet, postgres, models=Models() if fault.ai_proxies else None)
    try:
        await _set_up(scene, fault)
        text = "is #{n} available"
        load = await fleet.load(messages=messages, rate_per_s=RATE, chats_per_account=3, text=text)
        ages: list[tuple[float, float]] = []
        watching = asyncio.create_task(watch(fleet, load, ages))
        await asyncio.sleep(STRIKE_S)
        struck = time.monotonic()
        await fault.strike(scene)
        broken = time.monotonic() - struck
        await fleet.until_sent(load)
        verdict = await fleet.until_answered(load, PATIENCE_S)
        await asyncio.sleep(3)  # a second answer would come now
        verdict = await fleet.control(f"verdict?load={load}")
        watching.cancel()
        with suppress(asyncio.CancelledError):
            await watching
    finally:
        await fleet.stop()
        if scene.models is not None:
            await scene.models.stop()
        if postgres is not None:
            await asyncio.to_thread(postgres.remove)
    late = [at for at, age in ages if at > struck and age > OLD_S]
    line: dict[str, object] = {
        "fault": name,
        "messages": verdict["messages"],
        "lost": verdict["lost"],
        "answered_twice": verdict["answered_twice"],
        "broken_s": round(broken, 1),
        "recovered_s": round(max(late) - struck, 1) if late else 0.0,
    }
    if scene.takeover_s is not None:
        line["takeover_s"] = scene.takeover_s
    if scene.models is not None:
        line["by_ai"] = await asyncio.to_thread(_by_ai, folder / "reply-engine.db")
    return line


async def _set_up(scene: Scene, fault: Fault) -> None:
    fleet = scene.fleet
    await fleet.start()
    sellers = await fleet.add_accounts(ACCOUNTS, ai=bool(fault.ai_proxies))
    if scene.models is not None:
        await _let_the_ai_answer(scene, scene.models, sellers)
    else:
        await fleet.add_rule("available", "yes: {send_message}")
    if fault.dies_at:
        await _make_mortal(fleet, fault.dies_at)


async def _let_the_ai_answer(scene: Scene, models: Models, sellers: list[str]) -> None:
    fleet = scene.fleet
    await models.start()
    await add_provider(fleet.channel, ORGANIZATION, models.url)
    await fleet.add_default("wait: {send_message}")
    for seller in sellers:
        # So cheap that no number of a question is an offer under its price.
        await fleet.control("items", {"account": seller, "title": "thing", "price": "1"})


def _by_ai(database: Path) -> int:
    connection = sqlite3.connect(database)
    (count,) = connection.execute("SELECT count(*) FROM decisions WHERE origin = 'ai'").fetchone()
    connection.close()
    return int(count)


async def _make_mortal(fleet: Fleet, step: str) -> None:
    """Put an engine in place that will die at the step, some hundred times into the load."""
    engine = fleet.programs["reply-engine-0"]
    await engine.end(signal.SIGTERM)
    engine.words = [sys.executable, str(HERE / "dying_engine.py"), step, "100"]
    await engine.start()
    await fleet.until_ready(engine.name)


def as_it_must_be(line: dict[str, object]) -> bool:
    """Nothing lost, nothing twice, and a takeover in time."""
    takeover = line.get("takeover_s", 0.0)
    assert isinstance(takeover, float)
    return line["lost"] == 0 and line["answered_twice"] == 0 and takeover <= TAKEOVER_LIMIT_S


async def run(names: list[str], messages: int, keep: bool) -> int:
    wrong = 0
    for name in names:
        folder = Path(tempfile.mkdtemp(prefix=f"frontdesk-chaos-{name}-"))
        line = await play(name, FAULTS[name], messages, folder)
        print(json.dumps(line), flush=True)
        good = as_it_must_be(line)
        wrong += not good
        if good and not keep:
            import shutil

            shutil.rmtree(folder, ignore_errors=True)
        else:
            print(f"logs: {folder}", file=sys.stderr)
    return int(bool(wrong))


def main() -> int:
    """Run all faults, or some."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="", help="faults by comma")
    parser.add_argument("--messages", type=int, default=1200)
    parser.add_argument("--list", action="store_true", help="name the faults and end")
    parser.add_argument("--keep", action="store_true", help="keep the logs of good runs too")
    arguments = parser.parse_args()
    if arguments.list:
        print("\n".join(FAULTS))
        return 0
    names = arguments.only.split(",") if arguments.only else list(FAULTS)
    unknown = [name for name in names if name not in FAULTS]
    if unknown:
        parser.error(f"no fault {', '.join(unknown)}; --list names them")
    return uvloop.run(run(names, arguments.messages, arguments.keep))


if __name__ == "__main__":
    raise SystemExit(main())
