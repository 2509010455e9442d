"""What befalls the fleet under load: each step a fault or a change, as Kubernetes does it."""

from __future__ import annotations

import asyncio
import os
import shlex
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass

from cluster.kube import run
from cluster.release import AI, ENGINE, GATEWAY, Release
from frontdesk.api.fleet.v1 import fleet_service_pb2 as fleet_pb
from frontdesk.api.fleet.v1.fleet_service_pb2_grpc import FleetServiceStub
from support.marketplace import AI_QUESTION, AI_SAYS

# A command that runs another on the node; without it, a gateway is not cut from NATS.
NODE_SHELL = "FRONTDESK_NODE_SHELL"
OPERATORS = "default"
REPLICAS = 3
ACCOUNTS = 60
RATE = 20.0
STRIKE_S = 2.0
PATIENCE_S = 120.0
BACK_LIMIT_S = 20.0
LEAST_BY_AI = 0.95

Strike = Callable[[Release], Awaitable[None]]


async def nothing(release: Release) -> None:
    """Only the load."""


async def gateway_deleted(release: Release) -> None:
    """A gateway pod is deleted: it hands its shards over, and comes back."""
    await _delete(release, GATEWAY, 0)


async def gateway_killed(release: Release) -> None:
    """A gateway pod is gone without a word."""
    await _delete(release, GATEWAY, 1, "--grace-period=0", "--force")


async def engine_deleted(release: Release) -> None:
    """A reply-engine pod is deleted."""
    await _delete(release, ENGINE, 0)


async def ai_killed(release: Release) -> None:
    """An ai-proxy is gone without a word, with the answers it worked on: the process, where the node can be
    reached, else its pod, which has a moment then."""
    if NODE_SHELL not in os.environ:
        await _delete(release, AI, 0, "--grace-period=0", "--force")
        return
    pods = await release.pods(AI)
    # systemd's cgroups write a uid with underscores.
    group = "pod" + pods[0]["metadata"]["uid"].replace("-", "[-_]")
    await _on_node(
        "sh",
        "-c",
        f"for at in $(grep -l {group} /proc/[0-9]*/cgroup); do at=${{at%/cgroup}};"
        f' if tr "\\0" " " < $at/cmdline | grep -q "frontdesk {AI}"; then kill -9 ${{at#/proc/}}; fi; done',
    )
    await asyncio.sleep(3)
    await release.until_ready(AI, len(pods))


async def nats_deleted(release: Release) -> None:
    """The NATS pod is deleted and starts on its volume again."""
    await _delete(release, "nats", 0)


async def postgresql_deleted(release: Release) -> None:
    """The PostgreSQL pod is deleted and starts on its volume again."""
    await _delete(release, "postgresql", 0)


async def image_rolled(release: Release) -> None:
    """helm upgrade to another image, pod by pod."""
    release.image = f"{release.image}-next"
    await release.upgrade("--wait", "--timeout", "5m")
    await release.until_ready(GATEWAY, REPLICAS)


async def scaled(release: Release) -> None:
    """The gateway goes to five replicas and then to two."""
    for count in (5, 2):
        await release.kube("scale", f"statefulset/{release.name(GATEWAY)}", f"--replicas={count}")
        await release.until_ready(GATEWAY, count)
        await asyncio.sleep(5)


async def scaled_back(release: Release) -> None:
    """And to three again."""
    await release.kube("scale", f"statefulset/{release.name(GATEWAY)}", f"--replicas={REPLICAS}")
    await release.until_ready(GATEWAY, REPLICAS)


async def cordoned(release: Release) -> None:
    """A gateway replica is cordoned until it holds no shard, and uncordoned."""
    replica = (await release.pods(GATEWAY))[0]["metadata"]["name"]
    async with release.doors(OPERATORS, [GATEWAY]) as doors:
        fleet = FleetServiceStub(doors)
        await fleet.Cordon(fleet_pb.CordonRequest(replica=replica), timeout=10)
        async with asyncio.timeout(60):
            while await _shards_of(fleet, replica):
                await asyncio.sleep(0.5)
        await asyncio.sleep(3)
        await fleet.Uncordon(fleet_pb.UncordonRequest(replica=replica), timeout=10)
        async with asyncio.timeout(60):
            while not await _shards_of(fleet, replica):
                await asyncio.sleep(0.5)


async def _shards_of(fleet: FleetServiceStub, replica: str) -> int:
    response = await fleet.GetFleet(fleet_pb.GetFleetRequest(), timeout=10)
    (found,) = (one for one in response.replicas if one.replica == replica)
    return len(found.shards)


async def cut_from_nats(release: Release) -> None:
    """A gateway loses NATS for twice its lease, while its sockets to the marketplace live on."""
    gateway = (await release.pods(GATEWAY))[0]["status"]["podIP"]
    nats = (await release.pods("nats"))[0]["status"]["podIP"]
    ways = ((gateway, nats), (nats, gateway))
    for source, target in ways:
        await _on_node("iptables", "-w", "-I", "FORWARD", "1", "-s", source, "-d", target, "-j", "DROP")
    try:
        await asyncio.sleep(20)
    finally:
        for source, target in ways:
            await _on_node("iptables", "-w", "-D", "FORWARD", "-s", source, "-d", target, "-j", "DROP")


async def _on_node(*words: str) -> None:
    await run(*shlex.split(os.environ[NODE_SHELL]), *words)


async def _delete(release: Release, component: str, number: int, *words: str) -> None:
    pods = await release.pods(component)
    name = pods[number]["metadata"]["name"]
    await release.kube("delete", "pod", name, "--wait=false", *words)
    await asyncio.sleep(3)
    await release.until_ready(component, len(pods))


@dataclass(frozen=True)
class Step:
    """A step: how it strikes, how many questions are asked meanwhile, which, by how many buyers an account.

    A question for the AI is the only one of its buyer: what a model is told of a chat may lack what was
    answered a moment ago, and then it answers that too.
    """

    strike: Strike
    messages: int = 600
    question: str = "is #{n} available"
    chats: int = 2


STEPS = {
    "answered": Step(nothing),
    "gateway_deleted": Step(gateway_deleted),
    "gateway_killed": Step(gateway_killed),
    "engine_deleted": Step(engine_deleted),
    "ai_killed": Step(ai_killed, question=AI_QUESTION, chats=10),
    "nats_deleted": Step(nats_deleted),
    "postgresql_deleted": Step(postgresql_deleted),
    # Every service is replaced while the AI answers.
    "image_rolled": Step(image_rolled, 1600, question=AI_QUESTION, chats=27),
    "gateway_scaled": Step(scaled, 1400),
    "gateway_scaled_back": Step(scaled_back),
    "gateway_cordoned": Step(cordoned, 1000),
    "gateway_cut_from_nats": Step(cut_from_nats, 1000),
}


class Watch:
    """Notes for how long accounts were offline, five times a second."""

    def __init__(self, release: Release) -> None:
        self._release = release
        self._since: dict[str, float] = {}
        self.longest_s = 0.0
        self.last_short = 0.0

    async def run(self) -> None:
        """Watch until it is cancelled."""
        while True:
            listed = await self._release.control("accounts")
            now = time.monotonic()
            offline = {one["user_id"] for one in listed["accounts"] if not one["connected"]}
            self._since = {user: self._since.get(user, now) for user in offline}
            for since in self._since.values():
                self.longest_s = max(self.longest_s, now - since)
            if offline:
                self.last_short = now
            await asyncio.sleep(0.2)


async def play(release: Release, name: str, step: Step) -> dict[str, object]:
    """One step under load; its figures."""
    before = await release.control("status")
    load = await release.load(
        messages=step.messages, rate_per_s=RATE, chats_per_account=step.chats, text=step.question
    )
    watch = Watch(release)
    watching = asyncio.create_task(watch.run())
    await asyncio.sleep(STRIKE_S)
    struck = time.monotonic()
    await step.strike(release)
    done_s = time.monotonic() - struck
    await release.until_sent(load)
    await release.until_answered(load, PATIENCE_S)
    with suppress(RuntimeError):
        await release.until_connected(ACCOUNTS, PATIENCE_S)
    await asyncio.sleep(3)  # a second answer would come now
    verdict = await release.control(f"verdict?load={load}&words={AI_SAYS}")
    after = await release.control("status")
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
    return {
        "step": name,
        "messages": verdict["messages"],
        "lost": verdict["lost"],
        "answered_twice": verdict["answered_twice"],
        **({"by_ai": verdict["saying"]} if step.question == AI_QUESTION else {}),
        "back_s": round(watch.longest_s, 1),
        "calm_s": round(max(watch.last_short - struck, 0.0), 1),
        "logins": after["registrations"] - before["registrations"],
        "kicks": after["kicks"] - before["kicks"],
        "done_s": round(done_s, 1),
        "p99_ms": round(verdict["p99_ms"]),
        "offline": ACCOUNTS - after["connected"],
    }


def as_it_must_be(figures: dict[str, object]) -> bool:
    """Nothing lost, nothing twice, everybody back in time; what is for the AI answered by it, nearly all."""
    wrong = figures["lost"] or figures["answered_twice"] or figures["offline"]
    if "by_ai" in figures and int(str(figures["by_ai"])) < LEAST_BY_AI * int(str(figures["messages"])):
        return False
    return not wrong and float(str(figures["back_s"])) <= BACK_LIMIT_S
