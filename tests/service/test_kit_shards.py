"""Shards of several members against a real nats-server: sticky, handed over in order, never two owners."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import nats
import pytest
from nats.aio.client import Client

from frontdesk.kit import subjects
from frontdesk.kit.errors import Unavailable
from frontdesk.kit.nats_server import NatsServer
from frontdesk.kit.shards import Member, ShardManager, ShardSettings
from frontdesk.kit.shards.rendezvous import order

SHARDS = 16
SETTINGS = ShardSettings(
    shards=SHARDS,
    ttl=1.0,
    margin=0.3,
    handover_pause=0.0,
    drain_seconds=1.0,
    acquire_seconds=5.0,
    close_seconds=0.5,
    stop_seconds=4.0,
)
CHILD = Path(__file__).with_name("test_kit_shards.py")


async def until(condition: Callable[[], bool], timeout: float = 10.0) -> None:
    """Wait for a condition; fails with TimeoutError."""
    async with asyncio.timeout(timeout):
        while not condition():
            await asyncio.sleep(0.01)


class Recorder:
    """A listener that notes what it is told, and can be slow or broken for a while."""

    def __init__(self) -> None:
        self.open: dict[int, int] = {}
        self.acquisitions: list[tuple[int, int]] = []
        self.losses: list[int] = []
        self.releases: list[int] = []
        self.draining = 0
        self.most_draining = 0
        self.drain: float = 0.0
        self.failures_left = 0

    async def acquired(self, shard: int, epoch: int) -> None:
        self.acquisitions.append((shard, epoch))
        if self.failures_left:
            self.failures_left -= 1
            raise RuntimeError("a scripted failure")
        self.open[shard] = epoch

    async def release(self, shard: int) -> None:
        self.draining += 1
        self.most_draining = max(self.most_draining, self.draining)
        try:
            await asyncio.sleep(self.drain)
        finally:
            self.draining -= 1
        self.releases.append(shard)
        del self.open[shard]

    async def lost(self, shard: int) -> None:
        self.losses.append(shard)
        self.open.pop(shard, None)


class Node:
    """A member with its own connection."""

    def __init__(self, nc: Client, member_id: str, settings: ShardSettings) -> None:
        self.nc = nc
        self.id = member_id
        self.listener = Recorder()
        self.manager = ShardManager(nc, member_id, self.listener, settings)

    @property
    def held(self) -> set[int]:
        return {shard for shard in range(SHARDS) if self.manager.holds(shard)}


class Fleet:
    """Members of one test, watched all the time for a shard that two of them hold."""

    def __init__(self, server: NatsServer) -> None:
        self.server = server
        self.nodes: list[Node] = []
        self.twice: list[tuple[int, list[str]]] = []
        self.samples = 0

    async def join(
        self, member_id: str, settings: ShardSettings = SETTINGS, url: str | None = None, start: bool = True
    ) -> Node:
        async def quiet(_: Exception) -> None:
            return

        nc = await nats.connect(
            url or self.server.url, max_reconnect_attempts=-1, reconnect_time_wait=0.05, error_cb=quiet
        )
        node = Node(nc, member_id, settings)
        self.nodes.append(node)
        if start:
            await node.manager.start()
        return node

    async def sample(self) -> None:
        while True:
            for shard in range(SHARDS):
                holders = [node.id for node in self.nodes if node.manager.holds(shard)]
                if len(holders) > 1:
                    self.twice.append((shard, holders))
            self.samples += 1
            await asyncio.sleep(0.002)

    def as_proposed(self, *nodes: Node) -> bool:
        """Whether these nodes hold all shards, each what is proposed to it, all sessions open."""
        ids = frozenset(node.id for node in nodes)
        return all(
            node.held == set(node.listener.open) == {s for s in range(SHARDS) if order(s, ids)[0] == node.id}
            for node in nodes
        )


@pytest.fixture
async def fleet(nats_server: NatsServer) -> AsyncIterator[Fleet]:
    """An empty fleet; at its end no shard may ever have had two holders."""
    fleet = Fleet(nats_server)
    sampling = asyncio.create_task(fleet.sample())
    yield fleet
    await asyncio.gather(*(node.manager.stop(1.0) for node in fleet.nodes))
    sampling.cancel()
    await asyncio.gather(*(node.nc.close() for node in fleet.nodes))
    assert fleet.samples > 0
    assert fleet.twice == []


class Gate:
    """A TCP way to a server that can be shut: what is sent meanwhile waits, as behind a broken network."""

    def __init__(self, server: NatsServer) -> None:
        self._target = server.port
        self._credentials = f"{server.user}:{server.password}"
        self._open = asyncio.Event()
        self._open.set()
        self._server: asyncio.Server | None = None
        self._writers: list[asyncio.StreamWriter] = []

    @property
    def url(self) -> str:
        assert self._server is not None
        return f"nats://{self._credentials}@127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Gate]:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        try:
            yield self
        finally:
            self._server.close()
            self._open.set()
            for writer in self._writers:
                writer.transport.abort()

    def shut(self) -> None:
        self._open.clear()

    def reopen(self) -> None:
        self._open.set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", self._target)
        self._writers += [writer, back]
        await asyncio.gather(self._pump(reader, back), self._pump(there, writer))

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        try:
            while data := await source.read(65536):
                await self._open.wait()
                sink.write(data)
                await sink.drain()
        except OSError:
            pass
        sink.close()


async def test_a_single_member_takes_everything_at_once(fleet: Fleet) -> None:
    """64 free shards are acquired and open in well under a second."""
    node = await fleet.join("solo", ShardSettings())
    begun = time.monotonic()
    await until(lambda: len(node.listener.open) == 64)
    assert time.monotonic() - begun < 1.0
    assert node.manager.owned == frozenset(range(64))
    assert {shard: node.manager.epoch(shard) for shard in range(64)} == node.listener.open
    assert node.manager.problem() is None


async def test_joining_and_leaving_moves_only_what_must(fleet: Fleet) -> None:
    """Newcomers get their share one by one, drained; a leaver's shards go to the others, epochs rise."""
    ada = await fleet.join("ada")
    await until(lambda: fleet.as_proposed(ada))
    first = dict(ada.listener.open)
    ada.listener.drain = 0.02
    ben = await fleet.join("ben")
    await until(lambda: fleet.as_proposed(ada, ben))
    cid = await fleet.join("cid")
    await until(lambda: fleet.as_proposed(ada, ben, cid))
    assert ada.listener.most_draining == 1
    assert all(ada.listener.open[shard] == first[shard] for shard in ada.listener.open)
    assert all(epoch > first[shard] for node in (ben, cid) for shard, epoch in node.listener.open.items())
    assert [member.id for member in ada.manager.members()] == ["ada", "ben", "cid"]
    await cid.manager.stop()
    assert cid.manager.owned == frozenset()
    await until(lambda: fleet.as_proposed(ada, ben), timeout=SETTINGS.ttl)
    assert [node.listener.losses for node in (ada, ben, cid)] == [[], [], []]


async def test_a_killed_process_is_replaced_within_a_ttl(fleet: Fleet) -> None:
    """After kill -9 another member has all shards a ttl later, and not before the leases ran out."""
    ben = await fleet.join("ben")
    async with child(fleet.server, "ada") as ada:
        await ada.says(f"owned {ada.share('ben')}")
        await until(lambda: len(ben.held) == SHARDS - ada.share("ben"))
        ada.process.kill()
        died = time.monotonic()
        await until(lambda: fleet.as_proposed(ben))
        took = time.monotonic() - died
    assert SETTINGS.ttl - SETTINGS.renew_every - 0.1 < took < SETTINGS.ttl + 1.0


async def test_a_restarted_process_waits_for_its_own_leases(fleet: Fleet) -> None:
    """A member that was killed and comes back under its id takes its shards when the old leases ran out."""
    async with child(fleet.server, "ada") as ada:
        await ada.says(f"owned {SHARDS}")
        ada.process.kill()
        died = time.monotonic()
    again = await fleet.join("ada")
    await until(lambda: fleet.as_proposed(again))
    assert SETTINGS.ttl - SETTINGS.renew_every - 0.1 < time.monotonic() - died < SETTINGS.ttl * 2 + 1.0


async def test_a_stopped_process_wakes_up_holding_nothing(fleet: Fleet) -> None:
    """A process that slept over its deadline knows at once that it may not act, and loses what was taken."""
    ben = await fleet.join("ben")
    async with child(fleet.server, "ada") as ada:
        share = ada.share("ben")
        await ada.says(f"owned {share}")
        ada.process.send_signal(signal.SIGSTOP)
        await until(lambda: len(ben.held) == SHARDS)
        ada.process.send_signal(signal.SIGCONT)
        assert "held 0" in await ada.says("woke")
        await ada.says(f"lost {share}")
        # It is alive again, so it gets its share back, in order.
        await ada.says(f"owned {share}")
        await until(lambda: len(ben.held) == SHARDS - share)


async def test_a_restart_of_nats_costs_no_shard(fleet: Fleet) -> None:
    """Owners stop while NATS is away longer than a ttl, and go on with the same epochs when it is back."""
    ada, ben = await fleet.join("ada"), await fleet.join("ben")
    await until(lambda: fleet.as_proposed(ada, ben))
    before = {**ada.listener.open, **ben.listener.open}
    await fleet.server.kill()
    await until(lambda: not ada.held and not ben.held)
    assert ada.manager.owned | ben.manager.owned == frozenset(range(SHARDS))
    assert ada.manager.problem() is not None
    await asyncio.sleep(SETTINGS.ttl)  # the outage itself: leases would have run out by wall time
    await fleet.server.start()
    await until(lambda: fleet.as_proposed(ada, ben))
    assert {**ada.listener.open, **ben.listener.open} == before
    assert ada.listener.losses == ben.listener.losses == []
    # The watch works again, too: a leaver's shards move at once.
    await ben.manager.stop()
    await until(lambda: fleet.as_proposed(ada), timeout=SETTINGS.ttl)
    assert ada.manager.problem() is None


async def test_a_hanging_nats_costs_no_shard(fleet: Fleet) -> None:
    """A server that hangs without breaking connections lets no lease run out."""
    ada, ben = await fleet.join("ada"), await fleet.join("ben")
    await until(lambda: fleet.as_proposed(ada, ben))
    assert fleet.server.process is not None
    fleet.server.process.send_signal(signal.SIGSTOP)
    await until(lambda: not ada.held and not ben.held)
    await asyncio.sleep(SETTINGS.ttl)  # the outage itself
    fleet.server.process.send_signal(signal.SIGCONT)
    await until(lambda: fleet.as_proposed(ada, ben))
    assert ada.listener.losses == ben.listener.losses == []


async def test_a_member_cut_off_for_longer_than_a_ttl_loses(fleet: Fleet) -> None:
    """Behind a dead network a member stops by its own clock, is replaced, and hears of it when it is back."""
    async with Gate(fleet.server).running() as gate:
        ada, ben = await fleet.join("ada", url=gate.url), await fleet.join("ben")
        await until(lambda: fleet.as_proposed(ada, ben))
        share = ada.held
        gate.shut()
        await until(lambda: not ada.held, timeout=SETTINGS.ttl)
        assert set(ada.listener.open) == share
        await until(lambda: fleet.as_proposed(ben))
        gate.reopen()
        await until(lambda: set(ada.listener.losses) == share)
        await until(lambda: fleet.as_proposed(ada, ben))
        await ada.manager.stop()


async def test_a_cordoned_member_owns_nothing_and_everyone_sees_it(fleet: Fleet) -> None:
    """Cordoning drains a member in order and shows in its record; uncordoning brings its share back."""
    ada, ben = await fleet.join("ada"), await fleet.join("ben")
    await until(lambda: fleet.as_proposed(ada, ben))
    share, before = ada.held, len(ada.listener.releases)
    await ada.manager.cordon()
    await until(lambda: fleet.as_proposed(ben) and not ada.listener.open)
    assert {member.id: member.cordoned for member in ben.manager.members()} == {"ada": True, "ben": False}
    assert (set(ada.listener.releases[before:]), ada.listener.losses) == (share, [])
    assert ada.manager.cordoned
    await ada.manager.uncordon()
    await until(lambda: fleet.as_proposed(ada, ben))


async def test_what_fails_to_open_is_tried_again(fleet: Fleet) -> None:
    """A callback that raises costs a back-off, not the shard."""
    ada = await fleet.join("ada", start=False)
    ada.listener.failures_left = 5
    await ada.manager.start()
    await until(lambda: fleet.as_proposed(ada))
    assert len(ada.listener.acquisitions) == SHARDS + 5
    assert len(ada.listener.losses) == 5


async def test_the_next_in_order_takes_what_the_first_leaves_free(fleet: Fleet) -> None:
    """A shard whose proposed member never opens it is with the other a ttl later, and stays there."""
    ada = await fleet.join("ada", start=False)
    ada.listener.failures_left = 1_000_000
    await ada.manager.start()
    ben = await fleet.join("ben")
    await until(lambda: len(ben.held) == SHARDS)
    kept = dict(ben.listener.open)
    await asyncio.sleep(SETTINGS.ttl)  # time in which it would be handed back
    assert ben.listener.open == kept


async def test_a_release_that_hangs_is_cut_short(fleet: Fleet) -> None:
    """A drain ends after its time, the listener is told to close, and the shard moves on."""
    ada = await fleet.join("ada")
    await until(lambda: fleet.as_proposed(ada))
    ada.listener.drain = 60.0
    ben = await fleet.join("ben", start=False)
    begun = time.monotonic()
    stopping = asyncio.create_task(ada.manager.stop())
    await ben.manager.start()
    await stopping
    assert time.monotonic() - begun < SETTINGS.stop_seconds + 1.0
    assert sorted(ada.listener.losses) == list(range(SHARDS))
    await until(lambda: fleet.as_proposed(ben), timeout=SETTINGS.ttl)


async def test_a_bucket_that_vanished_is_made_again(fleet: Fleet) -> None:
    """Owners whose leases are gone lose their shards, and the fleet settles again in a new bucket."""
    ada, ben = await fleet.join("ada"), await fleet.join("ben")
    await until(lambda: fleet.as_proposed(ada, ben))
    await ada.nc.jetstream().delete_stream(f"KV_{subjects.SHARDS_BUCKET}")
    await until(lambda: len({*ada.listener.losses, *ben.listener.losses}) == SHARDS)
    await until(lambda: fleet.as_proposed(ada, ben))


async def test_two_processes_with_one_id_are_told_of(fleet: Fleet, caplog: pytest.LogCaptureFixture) -> None:
    """A second process of the same member id is an error in the log, and still nothing has two holders."""
    await fleet.join("ada")
    await fleet.join("ada")
    await until(lambda: "ids must be unique" in caplog.text)


async def test_start_without_nats_says_so(fleet: Fleet) -> None:
    """Starting while NATS is away raises Unavailable and starts nothing."""
    ada = await fleet.join("ada", start=False)
    await fleet.server.kill()
    await until(lambda: not ada.nc.is_connected)
    with pytest.raises(Unavailable):
        await ada.manager.start()
    assert ada.manager.problem() == "not running"
    assert ada.manager.members() == ()


async def test_members_are_values() -> None:
    """A member's record survives the way through the bucket; anything else is no member."""
    member = Member("ada", "token", cordoned=True)
    assert Member.from_bytes(member.to_bytes()) == member
    assert Member.from_bytes(b'{"member": 1}') is None


class Child:
    """This file run as a process: a member that says on its standard output what happens to it."""

    def __init__(self, member_id: str, process: asyncio.subprocess.Process) -> None:
        self.id = member_id
        self.process = process

    def share(self, other: str) -> int:
        """How many shards are proposed to it beside `other`."""
        return sum(order(shard, frozenset({self.id, other}))[0] == self.id for shard in range(SHARDS))

    async def says(self, words: str) -> str:
        """Wait for a line that begins with `words`; fails with TimeoutError."""
        assert self.process.stdout is not None
        async with asyncio.timeout(15):
            while True:
                line = (await self.process.stdout.readline()).decode()
                assert line, "the process ended"
                if line.startswith(words):
                    return line


@asynccontextmanager
async def child(server: NatsServer, member_id: str) -> AsyncIterator[Child]:
    """Run a member as a process of its own; it is killed at the end."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(CHILD), server.url, member_id, stdout=asyncio.subprocess.PIPE
    )
    try:
        yield Child(member_id, process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def member_process(url: str, member_id: str) -> None:
    """Own shards and tell of it: `owned N`, `lost N` (altogether), `woke held N`."""
    nc = await nats.connect(url)
    listener = Recorder()
    manager = ShardManager(nc, member_id, listener, SETTINGS)
    await manager.start()
    last, told = time.monotonic(), (0, 0)
    while True:
        now = time.monotonic()
        if now - last > SETTINGS.ttl / 2:
            say(f"woke held {sum(manager.holds(shard) for shard in range(SHARDS))}")
        last = now
        state = (len(listener.open), len(listener.losses))
        if state[1] != told[1]:
            say(f"lost {state[1]}")
        if state != told:
            say(f"owned {state[0]}")
            told = state
        await asyncio.sleep(0.005)


def say(words: str) -> None:
    sys.stdout.write(f"{words}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(member_process(*sys.argv[1:3]))
