"""Closing connections to NATS while it is away, stands still or works: nothing of them goes on."""

from __future__ import annotations

import asyncio
import signal
import time
from collections import Counter

import nats
from nats.aio.client import Client, Srv

from frontdesk.kit.bus import Bus, BusSettings
from frontdesk.kit.disconnect import disconnect
from frontdesk.kit.nats_server import NatsServer
from support.waiting import until


async def quiet(_: Exception) -> None:
    return


def left() -> Counter[str]:
    """What nats-py still runs."""
    running = asyncio.all_tasks() - {asyncio.current_task()}
    return Counter(name for task in running if (name := task.get_coro().__qualname__).startswith("Client."))  # type: ignore[union-attr]


class Deaf(Client):
    """A client whose connection attempts lose cancellations, as `asyncio.wait_for` of Python 3.11 can."""

    lost = 0
    trying = False

    async def _connect_to_server(self, s: Srv) -> None:
        if not self.lost:
            await super()._connect_to_server(s)
            return
        self.trying = True
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            self.lost -= 1
            raise ConnectionRefusedError from None


async def test_a_reconnect_that_loses_its_cancellation_is_ended(nats_server: NatsServer) -> None:
    """It is asked again until it is done: nothing reconnects after the close."""
    nc = Deaf()
    await nc.connect(nats_server.url, max_reconnect_attempts=-1, reconnect_time_wait=1, error_cb=quiet)
    nc.lost = 2
    await nats_server.kill()
    await until(lambda: nc.trying)
    await disconnect(nc)
    assert nc.is_closed
    assert left() == Counter()


async def test_many_that_reconnect_are_all_closed(nats_server: NatsServer) -> None:
    """Whenever in its attempts a client is closed."""
    clients = [
        await nats.connect(
            nats_server.url,
            max_reconnect_attempts=-1,
            reconnect_time_wait=0.01 + 0.0005 * number,
            error_cb=quiet,
        )
        for number in range(60)
    ]
    await nats_server.kill()
    await until(lambda: all(nc.is_reconnecting for nc in clients))
    await asyncio.gather(*map(disconnect, clients))
    assert all(nc.is_closed for nc in clients)
    assert left() == Counter()


async def test_a_server_that_stands_still_does_not_hold_it(nats_server: NatsServer) -> None:
    """What it does not read is dropped after a while; so is what a bus waits for."""
    bus = await Bus.connect(BusSettings(nats_server.url, publish_timeout=1))
    nc = await nats.connect(nats_server.url, pending_size=64 * 1024 * 1024, error_cb=quiet)
    assert nats_server.process is not None
    nats_server.process.send_signal(signal.SIGSTOP)
    for _ in range(16):
        await nc.publish("inbound.a.b", b"x" * 1_000_000)
    await asyncio.sleep(0.1)
    begun = time.monotonic()
    await asyncio.gather(disconnect(nc, 0.5), bus.close())
    took = time.monotonic() - begun
    nats_server.process.send_signal(signal.SIGCONT)
    assert took < 9
    assert left() == Counter()


async def test_a_server_that_stands_still_is_ended(nats_server: NatsServer) -> None:
    """It can't hear SIGTERM, so it is killed, or a test that fails over it would hang at its end."""
    process = nats_server.process
    assert process is not None
    process.send_signal(signal.SIGSTOP)
    nats_server.end_seconds = 0.2
    async with asyncio.timeout(5):
        await nats_server.stop()
    assert process.returncode == -signal.SIGKILL


async def test_a_connection_that_works_is_closed_in_order(nats_server: NatsServer) -> None:
    """What was written arrives; a second close changes nothing."""
    heard = await nats.connect(nats_server.url)
    told = await nats.connect(nats_server.url)
    subscription = await heard.subscribe("news")
    await heard.flush()
    await told.publish("news", b"1")
    await disconnect(told)
    await disconnect(told)
    assert (await subscription.next_msg(2)).data == b"1"
    await disconnect(heard)
    assert left() == Counter()
