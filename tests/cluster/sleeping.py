"""Services that KEDA lets sleep: woken by a buyer, by a call and by a timer, and asleep again after each.

The reply-engine, and ai-proxy, which a buyer's question wakes by way of the reply-engine, and which stays up
for as long as it has a call, longer than KEDA would let it by what waits.

The seconds of a wake are those of the clocks of this machine and of the node, which have to agree:

    trigger_s   from what wakes it until KEDA has scaled; of a buyer for ai-proxy the reply-engine's wake too
    pod_s       until the service's process runs: scheduling, sandbox, container
    start_s     until the service says that it is ready, imports included; `cpu_s` are its CPU seconds by then
    first_s     until the buyer has the answer, or the caller; less than 0 when that was before it was ready
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from cluster.kube import CommandError
from cluster.models import SLOW_PIECES, SLOWLY
from cluster.release import AI, ENGINE, GATEWAY, Release
from frontdesk.api.accounts.v1 import account_service_pb2 as accounts_pb
from frontdesk.api.accounts.v1.account_service_pb2_grpc import AccountServiceStub
from frontdesk.api.chats.v1 import chat_service_pb2 as chats_pb
from frontdesk.api.chats.v1.chat_service_pb2_grpc import ChatServiceStub
from frontdesk.api.replies.v1 import reply_service_pb2 as replies_pb
from frontdesk.api.replies.v1.reply_service_pb2_grpc import ReplyServiceStub
from support.marketplace import AI_QUESTION, AI_SAYS, CHAIN, ORGANIZATION

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
# The same for a stream: when it began, when its first piece came, and all pieces of it that were whole.
_READER = """
import asyncio, os, time, nats
from frontdesk.api.ai.v1 import ai_service_pb2 as pb, chat_pb2
from frontdesk.api.ai.v1.ai_service_pb2_grpc import AiServiceStub
from frontdesk.kit import subjects
from frontdesk.kit.principal import Principal, current_principal
from frontdesk.kit.rpc.channel import NatsChannel

async def main():
    user = os.environ["FRONTDESK_NATS_USER"]
    nc = await nats.connect(os.environ["FRONTDESK_NATS_URL"], user=user,
                            password=os.environ["FRONTDESK_NATS_PASSWORD"],
                            inbox_prefix=subjects.inbox(user).encode())
    current_principal.set(Principal("test", "bench", "owner"))
    channel = NatsChannel(nc, shards=64, caller=user, default_timeout_s=30)
    message = chat_pb2.ModelMessage(role=chat_pb2.ROLE_USER, text="WORDS")
    request = pb.StreamCompleteRequest(organization_id="bench", prompt=chat_pb2.Prompt(messages=[message]))
    begun, first, deltas, end = time.time(), 0.0, 0, ""
    async for event in AiServiceStub(channel).StreamComplete(request, timeout=200):
        end = event.WhichOneof("event")
        deltas += end == "delta"
        first = first or time.time()
    print(begun, first, deltas, end)
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
    await until_asleep(release, ENGINE, COOLDOWN_S + RESERVE_S)
    if time.time() > due - 2:
        raise AssertionError("the service was still there when the timer came due")
    return due, (await _answer(release, shop, chat, due + 60))["created_at_ms"] / 1000


async def by_question(release: Release) -> tuple[float, float]:
    """A buyer asks what no rule answers: the reply-engine wakes, and its question wakes ai-proxy."""
    shop = (await release.control("accounts"))["accounts"][0]["user_id"]
    asked = {"account": shop, "buyer": "curious", "text": AI_QUESTION.replace("{n}", "1")}
    begun = time.time()
    chat = (await release.control("say", asked))["chat_id"]
    answer = await _answer(release, shop, chat, begun + 60)
    if not answer["text"].startswith(AI_SAYS):
        raise AssertionError(f"the buyer got {answer['text']!r}, not what the model said")
    return begun, answer["created_at_ms"] / 1000


async def by_reader(release: Release) -> tuple[float, float]:
    """A person's question by way of the gateway, whose answer takes longer than a wake counts."""
    pod = (await release.pods(GATEWAY))[0]["metadata"]["name"]
    words = ("exec", pod, "--", "python3", "-c", _READER.replace("WORDS", SLOWLY))
    begun, first, pieces, end = (await release.kube(*words, seconds=200)).split()
    if (int(pieces), end) != (SLOW_PIECES, "done"):
        raise AssertionError(f"after {pieces} pieces the stream ended with {end}")
    return float(begun), float(first)


async def _answer(release: Release, shop: str, chat: str, until: float) -> dict[str, Any]:
    """The first message of the seller in a chat; raises AssertionError when none comes."""
    while time.time() < until:
        messages = (await release.control(f"chats?account={shop}&chat={chat}"))["messages"]
        answered: list[dict[str, Any]] = [one for one in messages if one["author"] == "seller"]
        if answered:
            return answered[0]
        await asyncio.sleep(0.2)
    raise AssertionError("the buyer got no answer")


async def _paused(release: Release, chat: str) -> float:
    """Seconds until a chat is answered again; waits until it is paused."""
    async with release.doors(services=[ENGINE]) as doors, asyncio.timeout(20):
        stub = ChatServiceStub(doors)
        while True:
            request = chats_pb.ListChatsRequest(organization_id=ORGANIZATION, page_size=100)
            for one in (await stub.ListChats(request, timeout=10)).chats:
                if one.chat_id == chat and one.pause_seconds:
                    return float(one.pause_seconds)
            await asyncio.sleep(0.3)


async def _short_takeovers(release: Release) -> None:
    async with release.doors(services=[GATEWAY, ENGINE]) as doors:
        listed = await AccountServiceStub(doors).ListAccounts(
            accounts_pb.ListAccountsRequest(organization_id=ORGANIZATION, page_size=100), timeout=10
        )
        for account in listed.accounts:
            settings = replies_pb.ReplySettings(
                account_id=account.account_id,
                chain=CHAIN,
                ai_enabled=True,
                takeover_minutes=TAKEOVER_MINUTES,
                replies_per_minute=60,
                time_zone="Asia/Shanghai",
            )
            request = replies_pb.UpdateReplySettingsRequest(settings=settings)
            await ReplyServiceStub(doors).UpdateReplySettings(request, timeout=10)


@dataclass(frozen=True)
class Wake:
    """What wakes a service, for how long that counts before the cooldown begins, and what a wake may take.

    `sleeps`: whether it is watched until it sleeps again.
    """

    service: str
    waker: Waker
    counts_s: float = 0.0
    limit_s: float = 8.0
    sleeps: bool = True


WAKERS: Mapping[str, Wake] = {
    "woken_by_buyer": Wake(ENGINE, by_buyer),
    "woken_by_call": Wake(ENGINE, by_call, WAKE_S),
    "woken_by_timer": Wake(ENGINE, by_timer),
    # Its last lease is up to 20 s younger than the end of the answer.
    "ai_woken_by_reader": Wake(AI, by_reader, WAKE_S + 20),
    # Two wakes, one after the other.
    "ai_woken_by_buyer": Wake(AI, by_question, limit_s=14, sleeps=False),
}
# Lanes of wakes at the same time, as they mostly wait; each with the seconds after which it begins.
LANES: Sequence[Mapping[float, Sequence[str]]] = (
    {0: ("woken_by_buyer",)},
    {0: ("woken_by_call", "woken_by_timer"), 15: ("ai_woken_by_reader",)},
    {0: ("ai_woken_by_buyer",)},
)


async def woken(release: Release, name: str) -> dict[str, object]:
    """One wake and the sleep after it, in seconds."""
    wake = WAKERS[name]
    service = wake.service
    # Another wake may have woken it too, and count for a while.
    await until_asleep(release, service, WAKE_S + COOLDOWN_S + RESERVE_S)
    seen: list[tuple[float, int]] = []
    watching = asyncio.create_task(_watch(release, service, seen))
    try:
        begun, answered = await wake.waker(release)
        done = time.time()
        scaled = next(at for at, replicas in seen if replicas and at > begun - 1)
        slept = [at for at, replicas in seen if not replicas and at > scaled]
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
    started, ready, cpu_s = await _process(release, service)
    if wake.sleeps:
        await until_asleep(release, service, wake.counts_s + COOLDOWN_S + RESERVE_S)
    figures: dict[str, object] = {
        "step": name,
        "trigger_s": round(scaled - begun, 1),
        "pod_s": round(started - scaled, 1),
        "start_s": round(ready - started, 1),
        "cpu_s": round(cpu_s, 1),
        "first_s": round(answered - ready, 1),
        "total_s": round(answered - begun, 1),
        **({"asleep_s": round(time.time() - done, 1)} if wake.sleeps else {}),
    }
    wrong = []
    if answered - begun > wake.limit_s:
        wrong.append(f"it took longer than {wake.limit_s:g} s")
    if cpu_s > CPU_LIMIT_S:
        wrong.append(f"its start took more than {CPU_LIMIT_S:g} s of CPU")
    if slept:
        wrong.append(f"it was put to sleep {slept[0] - scaled:.1f} s later, with a call under way")
    return {**figures, "wrong": wrong}


async def until_asleep(release: Release, service: str, seconds: float) -> None:
    """Wait until no pod of the service is wanted, and none is left."""
    try:
        async with asyncio.timeout(seconds):
            while await _wanted(release, service):
                await asyncio.sleep(0.3)
    except TimeoutError:
        (scaled,) = await release.kube.get("scaledobject", name=release.name(service))
        raise AssertionError(f"it is awake after {seconds:g} s: {json.dumps(scaled['status'])}") from None
    async with asyncio.timeout(60):
        while await release.pods(service):
            await asyncio.sleep(0.3)


async def _wanted(release: Release, service: str) -> int:
    (deployment,) = await release.kube.get("deployment", name=release.name(service))
    return int(deployment["spec"]["replicas"])


async def _watch(release: Release, service: str, seen: list[tuple[float, int]]) -> None:
    """Note when KEDA changed how many replicas are wanted."""
    words = ("deployment", release.name(service), "--watch", "-o", r'jsonpath={.spec.replicas}{"\n"}')
    async with aclosing(release.kube.lines("get", *words)) as lines:
        async for line in lines:
            seen.append((time.time(), int(line)))  # noqa: PERF401 - the moment counts


async def _process(release: Release, service: str) -> tuple[float, float, float]:
    """When the newest pod's process began and when it was ready, Unix seconds, and its CPU seconds so far."""
    await release.until_ready(service, 1)
    (pod,) = await release.pods(service)
    name = str(pod["metadata"]["name"])
    started, cpu_s = (await release.kube("exec", name, "--", "python3", "-c", _PROCESS)).split()
    lines: list[dict[str, Any]] = [json.loads(one) for one in (await release.kube("logs", name)).splitlines()]
    ready = next(one["ts"] for one in lines if one["msg"] == f"{service} is ready")
    return float(started), datetime.fromisoformat(ready).timestamp(), float(cpu_s)
