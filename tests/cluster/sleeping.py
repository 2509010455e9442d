"""A service that KEDA lets sleep: woken by a buyer, by a call and by a timer, and asleep again after each.

The seconds of a wake are those of the clocks of this machine and of the node, which have to agree:

    trigger_s   from what wakes it until KEDA has scaled
    pod_s       until the service's process runs: scheduling, sandbox, container
    start_s     until the service says that it is ready, imports included; `cpu_s` are its CPU seconds by then
    first_s     until the buyer has the answer, or the caller; less than 0 when that was before it was ready
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import aclosing
from datetime import datetime
from typing import Any

from cluster.kube import CommandError
from cluster.release import ENGINE, GATEWAY, Release
from frontdesk.api.accounts.v1 import account_service_pb2 as accounts_pb
from frontdesk.api.accounts.v1.account_service_pb2_grpc import AccountServiceStub
from frontdesk.api.chats.v1 import chat_service_pb2 as chats_pb
from frontdesk.api.chats.v1.chat_service_pb2_grpc import ChatServiceStub
from frontdesk.api.replies.v1 import reply_service_pb2 as replies_pb
from frontdesk.api.replies.v1.reply_service_pb2_grpc import ReplyServiceStub
from support.marketplace import ORGANIZATION

COOLDOWN_S = 15.0
# A wake message counts until it expires.
WAKE_S = 60.0
WAKE_LIMIT_S = 8.0
CPU_LIMIT_S = 2.0
# What may pass until it sleeps, besides the cooldown: polls, the last acknowledgements, a busy machine.
RESERVE_S = 15.0
TAKEOVER_MINUTES = 1

# Each returns when the wake began and when it had done its work, Unix seconds.
Waker = Callable[[Release], Awaitable[tuple[float, float]]]

# A caller with the gateway's identity, in a gateway's pod: a call of the fleet, over NATS.
_CALLER = """
import asyncio, os, time, nats
from frontdesk.api.replies.v1.reply_service_pb2 import GetSwitchRequest
from frontdesk.api.replies.v1.reply_service_pb2_grpc import ReplyServiceStub
from frontdesk.kit import subjects
from frontdesk.kit.principal import Principal, current_principal
from frontdesk.kit.rpc.channel import NatsChannel

async def main():
    user = os.environ["FRONTDESK_NATS_USER"]
    nc = await nats.connect(os.environ["FRONTDESK_NATS_URL"], user=user,
                            password=os.environ["FRONTDESK_NATS_PASSWORD"],
                            inbox_prefix=subjects.inbox(user).encode())
    current_principal.set(Principal("test", "bench", "owner"))
    channel = NatsChannel(nc, shards=64, caller=user)
    begun = time.time()
    await ReplyServiceStub(channel).GetSwitch(GetSwitchRequest(organization_id="bench"), timeout=30)
    print(begun, time.time())
    await channel.close()
    await nc.close()

asyncio.run(main())
"""
# Process 1 of the pod: when it began, and its CPU seconds.
_PROCESS = """
import os, time
fields = open("/proc/1/stat").read().rpartition(") ")[2].split()
tick = os.sysconf("SC_CLK_TCK")
age = float(open("/proc/uptime").read().split()[0]) - int(fields[19]) / tick
print(time.time() - age, (int(fields[11]) + int(fields[12])) / tick)
"""


async def keda_is_there(release: Release) -> bool:
    """Whether the cluster has KEDA."""
    try:
        await release.kube("get", "crd", "scaledobjects.keda.sh")
    except CommandError:
        return False
    return True


async def begin(release: Release) -> None:
    """From here on KEDA scales; a seller who types pauses a chat for a minute."""
    await _short_takeovers(release)
    await release.upgrade("--set", "keda.enabled=true", "--wait", "--timeout", "5m")


async def by_buyer(release: Release) -> tuple[float, float]:
    """A buyer asks, and is answered."""
    begun = time.time()
    load = await release.load(messages=1, text="is #{n} available")
    verdict = await release.until_answered(load, 60)
    if verdict["waiting"] or verdict["answered_twice"]:
        raise AssertionError(f"the buyer who woke the service got {verdict}")
    return begun, begun + float(verdict["max_ms"]) / 1000


async def by_call(release: Release) -> tuple[float, float]:
    """Another service calls it over NATS."""
    pod = (await release.pods(GATEWAY))[0]["metadata"]["name"]
    begun, ended = (await release.kube("exec", pod, "--", "python3", "-c", _CALLER)).split()
    return float(begun), float(ended)


async def by_timer(release: Release) -> tuple[float, float]:
    """A buyer wrote while the seller's own words paused the chat: the answer is due when the pause ends."""
    shop = (await release.control("accounts"))["accounts"][0]["user_id"]
    buyer = {"account": shop, "buyer": "patience"}
    chat = (await release.control("type", {**buyer, "text": "I am looking for it"}))["chat_id"]
    await release.until_ready(ENGINE, 1)
    due = time.time() + await _paused(release, chat)
    await release.control("say", {**buyer, "text": "is #1 available"})
    await until_asleep(release, COOLDOWN_S + RESERVE_S)
    if time.time() > due - 2:
        raise AssertionError("the service was still there when the timer came due")
    while time.time() < due + 60:
        messages = (await release.control(f"chats?account={shop}&chat={chat}"))["messages"]
        answered = [one["created_at_ms"] for one in messages if one["author"] == "seller"]
        if answered:
            return due, answered[0] / 1000
        await asyncio.sleep(0.2)
    raise AssertionError("the buyer of a paused chat got no answer")


async def _paused(release: Release, chat: str) -> float:
    """Seconds until a chat is answered again; waits until it is paused."""
    async with release.doors() as doors, asyncio.timeout(20):
        stub = ChatServiceStub(doors)
        while True:
            request = chats_pb.ListChatsRequest(organization_id=ORGANIZATION, page_size=100)
            for one in (await stub.ListChats(request, timeout=10)).chats:
                if one.chat_id == chat and one.pause_seconds:
                    return float(one.pause_seconds)
            await asyncio.sleep(0.3)


async def _short_takeovers(release: Release) -> None:
    async with release.doors() as doors:
        listed = await AccountServiceStub(doors).ListAccounts(
            accounts_pb.ListAccountsRequest(organization_id=ORGANIZATION, page_size=100), timeout=10
        )
        for account in listed.accounts:
            settings = replies_pb.ReplySettings(
                account_id=account.account_id,
                chain=["account", "global", "default"],
                takeover_minutes=TAKEOVER_MINUTES,
                replies_per_minute=60,
                time_zone="Asia/Shanghai",
            )
            request = replies_pb.UpdateReplySettingsRequest(settings=settings)
            await ReplyServiceStub(doors).UpdateReplySettings(request, timeout=10)


# What wakes it, and for how long that counts before the cooldown begins.
WAKERS: Mapping[str, tuple[Waker, float]] = {
    "woken_by_buyer": (by_buyer, 0.0),
    "woken_by_call": (by_call, WAKE_S),
    "woken_by_timer": (by_timer, 0.0),
}


async def woken(release: Release, name: str) -> dict[str, object]:
    """One wake and the sleep after it, in seconds."""
    waker, counts_s = WAKERS[name]
    await until_asleep(release, COOLDOWN_S + RESERVE_S)
    seen: list[tuple[float, int]] = []
    watching = asyncio.create_task(_watch(release, seen))
    try:
        begun, done = await waker(release)
        scaled = next(at for at, replicas in seen if replicas and at > begun - 1)
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
    started, ready, cpu_s = await _process(release)
    await until_asleep(release, counts_s + COOLDOWN_S + RESERVE_S)
    figures: dict[str, object] = {
        "step": name,
        "trigger_s": round(scaled - begun, 1),
        "pod_s": round(started - scaled, 1),
        "start_s": round(ready - started, 1),
        "cpu_s": round(cpu_s, 1),
        "first_s": round(done - ready, 1),
        "total_s": round(done - begun, 1),
        "asleep_s": round(time.time() - done, 1),
    }
    wrong = []
    if done - begun > WAKE_LIMIT_S:
        wrong.append(f"it took longer than {WAKE_LIMIT_S:g} s")
    if cpu_s > CPU_LIMIT_S:
        wrong.append(f"its start took more than {CPU_LIMIT_S:g} s of CPU")
    return {**figures, "wrong": wrong}


async def until_asleep(release: Release, seconds: float) -> None:
    """Wait until no pod of the service is wanted, and none is left."""
    try:
        async with asyncio.timeout(seconds):
            while await _wanted(release):
                await asyncio.sleep(0.3)
    except TimeoutError:
        (scaled,) = await release.kube.get("scaledobject", name=release.name(ENGINE))
        raise AssertionError(f"it is awake after {seconds:g} s: {json.dumps(scaled['status'])}") from None
    async with asyncio.timeout(60):
        while await release.pods(ENGINE):
            await asyncio.sleep(0.3)


async def _wanted(release: Release) -> int:
    (deployment,) = await release.kube.get("deployment", name=release.name(ENGINE))
    return int(deployment["spec"]["replicas"])


async def _watch(release: Release, seen: list[tuple[float, int]]) -> None:
    """Note when KEDA changed how many replicas are wanted."""
    words = ("deployment", release.name(ENGINE), "--watch", "-o", r'jsonpath={.spec.replicas}{"\n"}')
    async with aclosing(release.kube.lines("get", *words)) as lines:
        async for line in lines:
            seen.append((time.time(), int(line)))  # noqa: PERF401 - the moment counts


async def _process(release: Release) -> tuple[float, float, float]:
    """When the newest pod's process began and when it was ready, Unix seconds, and its CPU seconds so far."""
    await release.until_ready(ENGINE, 1)
    (pod,) = await release.pods(ENGINE)
    name = str(pod["metadata"]["name"])
    started, cpu_s = (await release.kube("exec", name, "--", "python3", "-c", _PROCESS)).split()
    lines: list[dict[str, Any]] = [json.loads(one) for one in (await release.kube("logs", name)).splitlines()]
    ready = next(one["ts"] for one in lines if one["msg"] == f"{ENGINE} is ready")
    return float(started), datetime.fromisoformat(ready).timestamp(), float(cpu_s)
