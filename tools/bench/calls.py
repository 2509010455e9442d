"""Calls a second over NATS and over grpc.aio: same stubs, same servicer, same machine, one run.

    python tools/bench/calls.py [--seconds 2] [--rounds 3]

Server, client and nats-server are three processes; both Python ones run on uvloop. 64 calls are in flight,
or 64 streams of 500 small responses each. The transports take turns, round by round; each number is the
median of its rounds. Prints one line of JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import grpc
import nats
import uvloop

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from frontdesk.kit.nats_server import NatsServer  # noqa: E402
from frontdesk.kit.rpc.channel import NatsChannel  # noqa: E402
from frontdesk.kit.rpc.server import RpcServer  # noqa: E402
from support.echo.servicer import EchoServicer  # noqa: E402 - the path is set above
from support.echo.v1 import echo_pb2, echo_pb2_grpc  # noqa: E402

IN_FLIGHT = 64
STREAM_LENGTH = 500
TEXT = "Is this still available? 还在吗"


async def serve(url: str) -> None:
    """The server's process: both transports; prints the port of grpc.aio, ends with its input."""
    nc = await nats.connect(url)
    servicer = EchoServicer()
    server = RpcServer(nc, "echo", replica="bench")
    server.add(echo_pb2_grpc.add_EchoServiceServicer_to_server, servicer)
    await server.start()
    door = grpc.aio.server()
    echo_pb2_grpc.add_EchoServiceServicer_to_server(servicer, door)
    port = door.add_insecure_port("127.0.0.1:0")
    await door.start()
    print(port, flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await door.stop(None)
    await server.drain()
    await nc.close()


async def unary(stub: echo_pb2_grpc.EchoServiceStub, seconds: float, latencies: list[float]) -> float:
    """Calls a second; each call's latency in ms goes to `latencies`."""
    end = time.perf_counter() + seconds
    request = echo_pb2.SayRequest(text=TEXT)

    async def caller() -> int:
        calls = 0
        while (start := time.perf_counter()) < end:
            await stub.Say(request, timeout=10)
            latencies.append((time.perf_counter() - start) * 1000)
            calls += 1
        return calls

    began = time.perf_counter()
    calls = sum(await asyncio.gather(*(caller() for _ in range(IN_FLIGHT))))
    return calls / (time.perf_counter() - began)


async def stream(stub: echo_pb2_grpc.EchoServiceStub, seconds: float, latencies: list[float]) -> float:
    """Responses a second over streams; `latencies` stays as it is."""
    end = time.perf_counter() + seconds
    request = echo_pb2.CountRequest(count=STREAM_LENGTH, padding=len(TEXT.encode()))

    async def caller() -> int:
        responses = 0
        while time.perf_counter() < end:
            async for _ in stub.Count(request, timeout=30):
                responses += 1
        return responses

    began = time.perf_counter()
    responses = sum(await asyncio.gather(*(caller() for _ in range(IN_FLIGHT))))
    return responses / (time.perf_counter() - began)


Measure = Callable[[echo_pb2_grpc.EchoServiceStub, float, list[float]], Awaitable[float]]


async def compare(url: str, port: int, seconds: float, rounds: int) -> dict[str, float | str]:
    """The client's side: every measure on both transports, taking turns."""
    nc = await nats.connect(url)
    channel = NatsChannel(nc, shards=64, caller="bench")
    latencies: dict[str, list[float]] = {"nats": [], "grpc": []}
    rates: dict[tuple[str, str], list[float]] = {}
    measures: dict[str, Measure] = {"unary": unary, "stream": stream}
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as over_grpc:
        stubs = {
            "nats": echo_pb2_grpc.EchoServiceStub(channel),
            "grpc": echo_pb2_grpc.EchoServiceStub(over_grpc),
        }
        for name, measure in measures.items():
            for transport, stub in stubs.items():
                await measure(stub, 0.3, [])  # warm-up
                rates[name, transport] = []
            for _ in range(rounds):
                for transport, stub in stubs.items():
                    rates[name, transport].append(await measure(stub, seconds, latencies[transport]))
    await channel.close()
    await nc.close()
    rate = {key: statistics.median(values) for key, values in rates.items()}
    return {
        "bench": "calls",
        "unary_per_s_nats": round(rate["unary", "nats"]),
        "unary_per_s_grpc": round(rate["unary", "grpc"]),
        "unary_ratio": round(rate["unary", "nats"] / rate["unary", "grpc"], 2),
        "stream_msgs_per_s_nats": round(rate["stream", "nats"]),
        "stream_msgs_per_s_grpc": round(rate["stream", "grpc"]),
        "stream_ratio": round(rate["stream", "nats"] / rate["stream", "grpc"], 2),
        "p50_ms_nats": round(statistics.median(latencies["nats"]), 2),
        "p50_ms_grpc": round(statistics.median(latencies["grpc"]), 2),
    }


async def bench(seconds: float, rounds: int) -> dict[str, float | str]:
    with tempfile.TemporaryDirectory() as store:
        broker = NatsServer(store=Path(store))
        await broker.start()
        server = subprocess.Popen(  # noqa: ASYNC220 - nothing else runs yet
            [sys.executable, __file__, "--serve", broker.url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert server.stdout is not None
        try:
            port = int(await asyncio.to_thread(server.stdout.readline))
            return await compare(broker.url, port, seconds, rounds)
        finally:
            await asyncio.to_thread(server.communicate)
            await broker.stop()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=2.0, help="of each round")
    parser.add_argument("--rounds", type=int, default=3, help="of each measure and transport")
    parser.add_argument("--serve", metavar="URL", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    if arguments.serve:
        uvloop.run(serve(arguments.serve))
    else:
        print(json.dumps(uvloop.run(bench(arguments.seconds, arguments.rounds))))


if __name__ == "__main__":
    main()
