"""Members that share shards: a fleet watched for double owners, a gate to shut, members as processes.

`python -m support.shards <url> <member>` is such a process; it says on its standard output what happens.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import nats
from nats.aio.client import Client

from frontdesk.kit.errors import Unavailable
from frontdesk.kit.nats_server import NatsServer
from frontdesk.kit.shards import ShardManager, ShardSettings
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
TESTS = Path(__file__).parent.parent


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

    async def cordon(self, member_id: str) -> frozenset[str]:
        """By this member; again while NATS does not keep up, as a person would."""
        while True:
            with suppress(Unavailable):
                return await self.manager.cordon(member_id)

    async def uncordon(self, member_id: str) -> frozenset[str]:
        """The same."""
        while True:
            with suppress(Unavailable):
                return await self.manager.uncordon(member_id)

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


class Child:
    """This module run as a process: a member that says on its standard output what happens to it."""

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
        *(sys.executable, "-m", "support.shards", server.url, member_id),
        stdout=asyncio.subprocess.PIPE,
        cwd=TESTS,
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
