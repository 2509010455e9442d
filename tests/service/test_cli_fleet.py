"""`frontdesk fleet …` as a process, against two gateways and a server that behaves as Kubernetes's API."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from frontdesk.cli.cluster import NO_CLIENT, NO_CLUSTER
from frontdesk.kit.clock import SystemClock
from frontdesk.kit.nats_server import NatsServer
from frontdesk.kit.rpc.grpc_door import GrpcServer
from frontdesk.kit.shards.rendezvous import order
from frontdesk.kit.tokens import JwtAuthenticator, Role, StaticKeys, Verifier, generate_key_pair, mint
from support.kubernetes_api import KubernetesApi
from support.shop import Shop
from support.waiting import until

OPERATOR, NAMESPACE = "ops", "shops"
LABELS = {"app.kubernetes.io/part-of": "frontdesk"}
MAIN = "from frontdesk.__main__ import main; main()"
WITHOUT_CLIENT = f"import sys; sys.modules['kubernetes'] = None; {MAIN}"


@dataclass
class Terminal:
    """Runs the command with an environment of its own."""

    environ: dict[str, str]
    program: str = MAIN
    code: int = 0
    said: str = ""
    complained: str = ""
    processes: list[asyncio.subprocess.Process] = field(default_factory=list)

    async def begin(self, *words: str, stdout: int = asyncio.subprocess.PIPE) -> asyncio.subprocess.Process:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", self.program, "fleet", *words),
            env=self.environ,
            stdout=stdout,
            stderr=asyncio.subprocess.PIPE,
        )
        self.processes.append(process)
        return process

    async def run(self, *words: str) -> str:
        """The whole output; see `code` and `complained` too."""
        out, err = await (process := await self.begin(*words)).communicate()
        self.code, self.said, self.complained = process.returncode or 0, out.decode(), err.decode()
        return self.said


@pytest.fixture
async def shop(nats_server: NatsServer, tmp_path: Path) -> AsyncIterator[Shop]:
    """Two gateways that share all shards."""
    shop = Shop(nats_server, tmp_path, FRONTDESK_OPERATOR_ORGANIZATION=OPERATOR, FRONTDESK_LEASE_SECONDS="4")
    await shop.start()
    second = await shop.add_gateway("gateway-1")
    first = shop.gateways[0]
    both = frozenset({"gateway-0", "gateway-1"})
    share = {shard for shard in range(64) if order(shard, both)[0] == "gateway-1"}
    await until(lambda: second.shards.owned == share and len(first.shards.owned) == 64 - len(share), 20)
    yield shop
    await shop.stop()
    assert not shop.crashes


@pytest.fixture
async def terminal(shop: Shop, tmp_path: Path) -> AsyncIterator[Terminal]:
    """A terminal of the operator's; its home has no kubeconfig."""
    private, public = generate_key_pair()
    keys = StaticKeys(public)
    verifier = Verifier(keys, issuer="frontdesk", audience="frontdesk", clock=SystemClock())
    door = GrpcServer(JwtAuthenticator(verifier), channel=shop.gateways[0].channel)
    for register, servicer in shop.gateways[0].registrations:
        door.add(register, servicer)
    await door.start()
    terminal = Terminal(
        {
            "HOME": str(tmp_path),
            "COLUMNS": "160",
            "FRONTDESK_ADDRESS": f"127.0.0.1:{door.port}",
            "FRONTDESK_TOKEN": mint(private, subject="me", organization_id=OPERATOR, role=Role.admin),
        }
    )
    yield terminal
    for process in terminal.processes:
        if process.returncode is None:
            process.kill()
        await process.communicate()
    await door.drain(0)


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[KubernetesApi]:
    folder = tmp_path / "cluster"
    folder.mkdir()
    async with KubernetesApi(folder).running() as api:
        for name, component in (("gateway-0", "connection-gateway"), ("engine-x", "reply-engine")):
            api.add(
                NAMESPACE,
                name,
                labels={**LABELS, "app.kubernetes.io/component": component},
                containerStatuses=[
                    {"name": "main", "ready": True, "restartCount": 3, "image": "i", "imageID": "i"}
                ],
            )
        api.add(NAMESPACE, "pending-0", labels=LABELS, phase="Pending", node=None)
        api.add(NAMESPACE, "somebody-elses")
        api.add("other", "gateway-9", labels=LABELS)
        yield api


def replicas(said: str) -> dict[str, dict[str, Any]]:
    return {one["replica"]: one for one in json.loads(said)["replicas"]}


async def test_the_fleet_with_its_pods(shop: Shop, terminal: Terminal, api: KubernetesApi) -> None:
    """Replicas, shards, sessions, lag, and beside them what kubectl shows of the pods; nothing of others."""
    await shop.open()
    terminal.environ["KUBECONFIG"] = str(api.kubeconfig(NAMESPACE))
    said = await terminal.run("show")
    assert (terminal.code, terminal.complained) == (0, "")
    for words in ("gateway-0", "gateway-1", "live", "1 connected", "64 shards, all held", "nothing in DEAD"):
        assert words in said
    for words in (
        "INBOUND",
        "reply-engine",
        "connection-gateway-* (64)",
        "engine-x",
        "node-1",
        "Pending",
        "3",
    ):
        assert words in said
    assert "somebody-elses" not in said
    assert "gateway-9" not in said
    whole = json.loads(await terminal.run("show", "--json"))
    assert [one["presence"] for one in whole["replicas"]] == ["LIVE", "LIVE"]
    held = [shard["shard"] for one in whole["replicas"] for shard in one["shards"]]
    assert sorted(held) == list(range(64))
    assert [row for one in whole["replicas"] for row in one["sessions"]] == [
        {"state": "CONNECTED", "count": 1}
    ]
    assert whole["pods"][1] == {
        "name": "gateway-0",
        "component": "connection-gateway",
        "phase": "Running",
        "ready": "1/1",
        "restarts": 3,
        "node": "node-1",
    }
    assert [pod["name"] for pod in whole["pods"]] == ["engine-x", "gateway-0", "pending-0"]
    assert whole["pods"][2]["ready"] == "0/1"
    assert whole["pods_note"] == ""
    other = json.loads(await terminal.run("show", "--json", "--namespace", "other"))
    assert [pod["name"] for pod in other["pods"]] == ["gateway-9"]
    none = json.loads(await terminal.run("show", "--json", "--selector", "a=b"))
    assert "a=b" in none["pods_note"]


async def test_without_pods_one_line_says_why(terminal: Terminal, api: KubernetesApi, tmp_path: Path) -> None:
    """No kubeconfig, no client, no right, no cluster: the fleet is shown all the same."""
    assert NO_CLUSTER in await terminal.run("show")
    terminal.environ["KUBECONFIG"] = str(api.kubeconfig(NAMESPACE))
    terminal.program = WITHOUT_CLIENT
    assert NO_CLIENT in await terminal.run("show")
    assert terminal.code == 0
    terminal.program = MAIN
    api.answers = [403]
    assert "answered 403" in json.loads(await terminal.run("show", "--json"))["pods_note"]
    api.token = "another"
    assert "answered 401" in json.loads(await terminal.run("show", "--json"))["pods_note"]
    unknown = json.loads(await terminal.run("show", "--json", "--context", "nowhere"))
    assert "nowhere" in unknown["pods_note"]
    port, api.port = api.port, 1
    terminal.environ["KUBECONFIG"] = str(api.kubeconfig(NAMESPACE))
    api.port = port
    assert "can't be asked" in await terminal.run("show")
    (tmp_path / "broken").write_text("{")
    terminal.environ["KUBECONFIG"] = str(tmp_path / "broken")
    assert json.loads(await terminal.run("show", "--json"))["pods_note"]
    assert (terminal.code, terminal.complained) == (0, "")


async def test_cordon_and_uncordon(shop: Shop, terminal: Terminal) -> None:
    """A replica is emptied and takes its shards again; what is refused ends with 1 and one sentence."""
    said = await terminal.run("cordon", "gateway-1", "--wait", "30")
    assert (terminal.code, said) == (0, "gateway-1 is cordoned and holds no shards\n")
    shown = replicas(await terminal.run("show", "--json"))
    assert (shown["gateway-1"]["cordoned"], shown["gateway-1"]["shards"]) == (True, [])
    assert "cordoned" in await terminal.run("show")
    await terminal.run("cordon", "gateway-0")
    assert terminal.code == 1
    assert "FAILED_PRECONDITION" in terminal.complained
    await terminal.run("cordon", "gateway-7")
    assert (terminal.code, "NOT_FOUND" in terminal.complained) == (1, True)
    await terminal.run("uncordon", "gateway-1")
    assert terminal.code == 0
    second = shop.gateways[1]
    await until(lambda: len(second.shards.owned) > 20, timeout=20)


async def test_a_watch_goes_on_until_it_is_stopped(terminal: Terminal) -> None:
    """One picture after the other, a line each; Ctrl-C ends it."""
    process = await terminal.begin("show", "--watch", "--json")
    assert process.stdout is not None
    async with asyncio.timeout(20):
        first = json.loads(await process.stdout.readline())
        second = json.loads(await process.stdout.readline())
    assert first["at_ms"] < second["at_ms"]
    process.send_signal(signal.SIGINT)
    await process.communicate()
    assert process.returncode == 130
    reading, writing = os.openpty()
    terminal.environ["TERM"] = "xterm"
    drawing = await terminal.begin("show", "--watch", stdout=writing)
    os.close(writing)
    drawn = b""
    async with asyncio.timeout(20):
        while drawn.count(b"nothing in DEAD") < 2:
            drawn += await asyncio.to_thread(os.read, reading, 65536)
    drawing.send_signal(signal.SIGINT)
    await drawing.wait()
    os.close(reading)
    assert drawing.returncode == 130
