"""What ai-proxy costs: direct, a bare relay, Frontdesk's `/v1` and LiteLLM's proxy, one upstream for all.

    python tools/bench/ai.py [--rounds 7] [--streams 20000] [--without-litellm]

The upstream (`simulators/models`, its fast model) answers with 50 pieces as fast as they are taken; its own
limit is printed. Everything is a process of its own on loopback: nats-server, upstream, relay, ai-proxy with
SQLite, a budget and its spend log, LiteLLM with one worker (installed by this bench only, under `.bench/`).
Targets take turns, round by round:

- latency: one caller, JSON and streams; `added` is the median less the median of asking directly
- rate and CPU: 16 callers; CPU of the target's own process by call, ratios of the median round
- the same streams over the NATS stub
- memory of ai-proxy after 2,000 streamed calls and after 20,000

Prints one line of JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

import uvloop

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tests"))
sys.path.insert(0, str(ROOT / "tools"))

from bench.ai_parts import litellm  # noqa: E402
from bench.ai_parts.load import Load, Target, joined, run_load  # noqa: E402
from frontdesk.api.ai.v1 import ai_service_pb2 as ai  # noqa: E402
from frontdesk.api.ai.v1 import budget_service_pb2 as budgets  # noqa: E402
from frontdesk.api.ai.v1 import chat_pb2 as chat  # noqa: E402
from frontdesk.api.ai.v1.ai_service_pb2_grpc import AiServiceStub  # noqa: E402
from frontdesk.api.ai.v1.budget_service_pb2_grpc import BudgetServiceStub  # noqa: E402
from support.processes import Fleet, Program  # noqa: E402
from support.upstreams import FAST_MODEL, add_provider  # noqa: E402

ORGANIZATION = "bench"
THRIFTY = "thrifty"
CALLERS = 16
ALONE_CALLS = 100
BUSY_CALLS = 600
# LiteLLM is slower by a factor; fewer calls take as long.
FEWER = 10
WARM_CALLS = 30


@dataclass
class Measured:
    """What a target did, all rounds together."""

    json_alone: list[Load] = field(default_factory=list)
    streams_alone: list[Load] = field(default_factory=list)
    json_busy: list[Load] = field(default_factory=list)
    streams_busy: list[Load] = field(default_factory=list)
    json_cpu_s: list[float] = field(default_factory=list)
    streams_cpu_s: list[float] = field(default_factory=list)

    def cpu_ms(self, *, stream: bool) -> float:
        """CPU of the target's process by call, milliseconds; the median round."""
        return statistics.median(self.cpu_by_round(stream=stream))

    def cpu_by_round(self, *, stream: bool) -> list[float]:
        """The same of each round."""
        loads, seconds = (
            (self.streams_busy, self.streams_cpu_s) if stream else (self.json_busy, self.json_cpu_s)
        )
        return [cpu_s * 1000 / load.calls for load, cpu_s in zip(loads, seconds, strict=True)]


@dataclass
class Side:
    """A target, the process whose CPU counts (None: not counted), and how many calls it can take."""

    target: Target
    pid: int | None
    share: int = 1
    measured: Measured = field(default_factory=Measured)

    async def round(self) -> None:
        """One turn."""
        alone, busy = ALONE_CALLS // self.share, BUSY_CALLS // self.share
        found = self.measured
        found.json_alone.append(await run_load(self.target, stream=False, callers=1, calls=alone))
        found.streams_alone.append(await run_load(self.target, stream=True, callers=1, calls=alone))
        begun = _cpu_s(self.pid)
        found.json_busy.append(await run_load(self.target, stream=False, callers=CALLERS, calls=busy))
        between = _cpu_s(self.pid)
        found.streams_busy.append(await run_load(self.target, stream=True, callers=CALLERS, calls=busy))
        found.json_cpu_s.append(between - begun)
        found.streams_cpu_s.append(_cpu_s(self.pid) - between)


def _cpu_s(pid: int | None) -> float:
    """Seconds of CPU that a process used, from the scheduler: finer than clock ticks."""
    if pid is None:
        return 0.0
    spent = [int(path.read_text().split()[0]) for path in Path(f"/proc/{pid}/task").glob("*/schedstat")]
    return sum(spent) / 1e9


async def over_nats(stub: AiServiceStub, calls: int, callers: int) -> Load:
    """Streams over the NATS stub, whole ones only."""
    request = ai.StreamCompleteRequest(
        organization_id=ORGANIZATION,
        prompt=chat.Prompt(
            messages=[chat.ModelMessage(role=chat.ROLE_USER, text="Is this still available? 还在吗")]
        ),
    )
    load, left = Load(), iter(range(calls))

    async def work() -> None:
        for _ in left:
            begun = time.perf_counter()
            first = 0.0
            done = False
            async for response in stub.StreamComplete(request, timeout=60):
                first = first or time.perf_counter()
                done = response.HasField("done")
            if not done:
                raise RuntimeError("a stream did not end with done")
            load.first_ms.append((first - begun) * 1000)
            load.whole_ms.append((time.perf_counter() - begun) * 1000)

    begun = time.perf_counter()
    await asyncio.gather(*(work() for _ in range(callers)))
    load.seconds = time.perf_counter() - begun
    return load


async def relay(stack: AsyncExitStack, folder: Path, upstream: str) -> tuple[int, int]:
    """Start the bare relay; its port and process."""
    words = [sys.executable, str(ROOT / "tools" / "bench" / "ai_parts" / "relay.py"), upstream]
    program = Program("relay", words, {}, folder / "relay.log")
    await program.start()
    stack.push_async_callback(program.end, signal.SIGTERM, 5)
    assert program.process is not None
    assert program.process.stdout is not None
    return int(await program.process.stdout.readline()), program.pid


async def memory(target: Target, pid: Callable[[], int], streams: int) -> dict[str, float]:
    """Resident memory after a tenth of the streams, and after all."""
    await run_load(target, stream=True, callers=CALLERS, calls=streams // 10)
    early = pid()
    await run_load(target, stream=True, callers=CALLERS, calls=streams - streams // 10)
    late = pid()
    return {
        "rss_mib_early": round(early / 1024, 1),
        "rss_mib_late": round(late / 1024, 1),
        "rss_growth": round(late / early - 1, 4),
    }


async def set_up(fleet: Fleet, upstream: str) -> None:
    """A provider with a price; and the same with a budget, for another organization."""
    await add_provider(fleet.channel, ORGANIZATION, upstream, FAST_MODEL)
    await add_provider(fleet.channel, THRIFTY, upstream, FAST_MODEL)
    budget = budgets.Budget(
        organization_id=THRIFTY,
        scope=budgets.BUDGET_SCOPE_ORGANIZATION,
        period=budgets.BUDGET_PERIOD_MONTH,
        limit="1000000",
        currency="CNY",
    )
    await BudgetServiceStub(fleet.channel).CreateBudget(budgets.CreateBudgetRequest(budget=budget))


async def measure(arguments: argparse.Namespace, folder: Path) -> dict[str, object]:
    """The bench's line."""
    async with AsyncExitStack() as stack:
        fleet = Fleet(folder / "fleet", gateways=0, engines=0, ai_proxies=1, models=True)
        stack.push_async_callback(fleet.stop)
        await fleet.start()
        proxy = fleet.programs["ai-proxy-0"]
        upstream = fleet.models_bench_url
        await set_up(fleet, upstream)
        port, pid = await relay(stack, folder, upstream)
        direct = Target("direct", int(upstream.rsplit(":", 1)[1]), "sk-upstream", FAST_MODEL)
        ours = Target("frontdesk", fleet.http_port("ai-proxy-0"), fleet.token(ORGANIZATION), "default")
        sides = {
            "direct": Side(direct, None),
            "relay": Side(Target("relay", port, "sk-upstream", FAST_MODEL), pid),
            "frontdesk": Side(ours, proxy.pid),
        }
        if not arguments.without_litellm:
            command = await asyncio.to_thread(litellm.installed, ROOT / ".bench" / "litellm")
            peer = litellm.LiteLlm(command, folder, upstream, FAST_MODEL)
            await asyncio.to_thread(peer.start)
            stack.callback(peer.stop)
            sides["litellm"] = Side(
                Target("litellm", peer.port, litellm.KEY, "default"), peer.process.pid, FEWER
            )
        stub = AiServiceStub(fleet.channel)
        alone: list[Load] = []
        busy: list[Load] = []
        over_nats_cpu_ms: list[float] = []
        for side in sides.values():
            for stream in (False, True):
                await run_load(side.target, stream=stream, callers=4, calls=WARM_CALLS)
        await over_nats(stub, WARM_CALLS, 4)
        for _ in range(arguments.rounds):
            for side in sides.values():
                await side.round()
            alone.append(await over_nats(stub, ALONE_CALLS, 1))
            begun = _cpu_s(proxy.pid)
            busy.append(await over_nats(stub, BUSY_CALLS, CALLERS))
            over_nats_cpu_ms.append((_cpu_s(proxy.pid) - begun) * 1000 / BUSY_CALLS)
        line = report({name: side.measured for name, side in sides.items()})
        floor = joined(sides["direct"].measured.streams_alone)
        bare = sides["relay"].measured.cpu_ms(stream=True)
        line |= {
            "nats_added_ttft_p50_ms": _added(joined(alone).first_ms, floor.first_ms),
            "nats_streams_per_s": round(joined(busy).rate, 1),
            "nats_cpu_ratio_to_relay": round(statistics.median(over_nats_cpu_ms) / bare, 2),
        }
        if arguments.streams:
            line |= {"streams": arguments.streams, **await memory(ours, proxy.rss_kib, arguments.streams)}
        return line


def report(found: dict[str, Measured]) -> dict[str, object]:
    """Ratios first, then what they are made of."""
    ours, bare, direct = found["frontdesk"], found["relay"], found["direct"]
    streams = joined(ours.streams_busy).rate
    line: dict[str, object] = {
        "bench": "ai",
        "added_ttft_p50_ms": _added(
            joined(ours.streams_alone).first_ms, joined(direct.streams_alone).first_ms
        ),
        "added_p50_ms": _added(joined(ours.json_alone).whole_ms, joined(direct.json_alone).whole_ms),
        "streams_per_s": round(streams, 1),
        "cpu_ratio_to_relay": _cpu_ratio(ours, bare, stream=True),
        "cpu_ratio_to_relay_json": _cpu_ratio(ours, bare, stream=False),
    }
    if (peer := found.get("litellm")) is not None:
        line |= {
            "streams_ratio_to_litellm": round(streams / joined(peer.streams_busy).rate, 1),
            "cpu_ratio_to_litellm": _cpu_ratio(ours, peer, stream=True),
            "cpu_ratio_to_litellm_json": _cpu_ratio(ours, peer, stream=False),
        }
    for name, measured in found.items():
        line |= {
            f"{name}_streams_per_s": round(joined(measured.streams_busy).rate, 1),
            f"{name}_json_per_s": round(joined(measured.json_busy).rate, 1),
            f"{name}_ttft_p50_ms": round(statistics.median(joined(measured.streams_alone).first_ms), 2),
        }
        if name != "direct":
            line[f"{name}_cpu_ms"] = round(measured.cpu_ms(stream=True), 3)
            line[f"{name}_json_cpu_ms"] = round(measured.cpu_ms(stream=False), 3)
    return line


def _cpu_ratio(ours: Measured, other: Measured, *, stream: bool) -> float:
    """The median of the rounds' ratios: the two of a round ran one after the other, on the same machine."""
    rounds = zip(ours.cpu_by_round(stream=stream), other.cpu_by_round(stream=stream), strict=True)
    return round(statistics.median(mine / theirs for mine, theirs in rounds), 3)


def _added(with_it: list[float], without: list[float]) -> float:
    return round(statistics.median(with_it) - statistics.median(without), 2)


async def run(arguments: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory(prefix="frontdesk-bench-") as name:
        print(json.dumps(await measure(arguments, Path(name))), flush=True)


def main() -> None:
    """Run the bench."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--streams", type=int, default=20_000, help="0 leaves memory out")
    parser.add_argument("--without-litellm", action="store_true", help="for a quick look")
    uvloop.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
