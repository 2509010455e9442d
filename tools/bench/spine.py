"""The main job, measured: a buyer asks on a socket and has the answer on the socket.

    python tools/bench/spine.py [--accounts 500] [--messages 8000] [--memory-accounts 2000]

nats-server, the simulator, one gateway and one engine are four processes on loopback, SQLite under both
services, a keyword rule, debounce 0. Four measurements in one run:

- floor: bare JetStream hops with nats-py on uvloop, 64 publishes in flight with `Nats-Msg-Id`, fetch of 100,
  an ack each; a message has four, as in the product: INBOUND, OUTBOUND and the report on EVENTS are read, the
  message's own event on EVENTS is stored for whoever watches
- rate: as many messages as the fleet takes with 384 in flight; lost and duplicated are the simulator's count
- latency: the same at 50 messages/s, from the push's write to the answer in the chat
- memory: resident memory of a gateway with 2,000 accounts connected, less that of one with none, by account,
  without and with TLS

Prints one line of JSON. `ratio` is rate to floor; the floor is measured before and after.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from pathlib import Path

import nats
import nats.errors
import uvloop
from nats.js import api

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from frontdesk.kit.nats_server import NatsServer  # noqa: E402
from support.certificates import self_signed  # noqa: E402 - the path is set above
from support.processes import Fleet  # noqa: E402

READ_HOPS = 3
IN_FLIGHT = 64
FETCH = 100
BUYERS_IN_FLIGHT = 384
PAYLOAD = b"x" * 300
SETTLE_S = 60.0


async def floor(folder: Path, messages: int) -> float:
    """Messages a second that bare hops would allow."""
    server = NatsServer(store=folder / "floor")
    await server.start()
    nc = await nats.connect(server.url)
    js = nc.jetstream()
    await js.add_stream(
        name="FLOOR",
        subjects=["floor.>"],
        storage=api.StorageType.FILE,
        retention=api.RetentionPolicy.WORK_QUEUE,
    )
    subscription = await js.pull_subscribe("floor.>", durable="floor")
    await js.add_stream(name="WATCHED", subjects=["watched.>"], storage=api.StorageType.FILE)
    total = messages * READ_HOPS
    numbers = iter(range(messages))

    async def publish() -> None:
        for number in numbers:
            for hop in range(READ_HOPS):
                key = {"Nats-Msg-Id": f"{number}.{hop}"}
                await js.publish(f"floor.{number % 500}", PAYLOAD, headers=key)
            await js.publish(f"watched.{number % 500}", PAYLOAD, headers={"Nats-Msg-Id": str(number)})

    async def consume() -> None:
        taken = 0
        while taken < total:
            for message in await subscription.fetch(FETCH, timeout=30):
                await message.ack()
                taken += 1

    begun = time.perf_counter()
    await asyncio.gather(consume(), *(publish() for _ in range(IN_FLIGHT)))
    spent = time.perf_counter() - begun
    await nc.close()
    await server.stop()
    return messages / spent


async def spine(folder: Path, accounts: int, messages: int) -> dict[str, float]:
    """Rate, latency and what the buyers got."""
    fleet = Fleet(folder / "spine")
    await fleet.start()
    try:
        await fleet.add_accounts(accounts)
        await fleet.add_rule("available", "yes: {send_message}")
        text = "is #{n} available"
        warm = await fleet.load(messages=200, in_flight=32, text=text)
        await fleet.until_answered(warm, SETTLE_S)
        load = await fleet.load(messages=messages, in_flight=BUYERS_IN_FLIGHT, chats_per_account=4, text=text)
        await fleet.until_sent(load)
        fast = await fleet.until_answered(load, SETTLE_S)
        calm_load = await fleet.load(messages=500, rate_per_s=50, chats_per_account=4, text=text)
        await fleet.until_sent(calm_load)
        calm = await fleet.until_answered(calm_load, SETTLE_S)
    finally:
        await fleet.stop()
    return {
        "messages": messages,
        "answered": fast["answered"],
        "lost": fast["lost"] + calm["lost"],
        "duplicated": fast["answered_twice"] + calm["answered_twice"],
        "rate_per_s": round(fast["rate_per_s"], 1),
        "busy_p50_ms": round(fast["p50_ms"], 1),
        "busy_p99_ms": round(fast["p99_ms"], 1),
        "p50_ms": round(calm["p50_ms"], 1),
        "p99_ms": round(calm["p99_ms"], 1),
    }


async def memory(folder: Path, accounts: int, tls: tuple[Path, Path] | None) -> float:
    """KiB of resident memory that a connected account costs the gateway."""
    fleet = Fleet(folder / ("tls" if tls else "plain"), engines=0, tls=tls)
    await fleet.start()
    try:
        gateway = fleet.programs["connection-gateway-0"]
        # A few accounts first, so that what is loaded once is not counted.
        await fleet.add_accounts(20, debounce_ms=None)
        before = gateway.rss_kib()
        await fleet.add_accounts(accounts, connect=False, debounce_ms=None)
        await fleet.until_connected(accounts + 20)
        await asyncio.sleep(3)
        return (gateway.rss_kib() - before) / accounts
    finally:
        await fleet.stop()


async def run(arguments: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory(prefix="frontdesk-bench-") as name:
        folder = Path(name)
        before = await floor(folder / "before", arguments.messages)
        line: dict[str, object] = {"bench": "spine", "accounts": arguments.accounts}
        line |= await spine(folder, arguments.accounts, arguments.messages)
        # Half of it before and half after, as a shared machine is not equally fast all the time.
        after = await floor(folder / "after", arguments.messages)
        floor_rate = 2 / (1 / before + 1 / after)
        line["floor_rate_per_s"] = round(floor_rate, 1)
        line["ratio"] = round(float(str(line["rate_per_s"])) / floor_rate, 3)
        if arguments.memory_accounts:
            certificate = self_signed(folder)
            line["memory_accounts"] = arguments.memory_accounts
            line["rss_kib_per_account"] = round(await memory(folder, arguments.memory_accounts, None), 1)
            line["rss_kib_per_account_tls"] = round(
                await memory(folder, arguments.memory_accounts, certificate), 1
            )
        print(json.dumps(line), flush=True)


def main() -> None:
    """Run the bench."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--accounts", type=int, default=500)
    parser.add_argument("--messages", type=int, default=8000)
    parser.add_argument("--memory-accounts", type=int, default=2000, help="0 leaves memory out")
    uvloop.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
