"""A fleet of real processes on loopback, for benches, chaos and the tests of the whole.

nats-server, the simulators, and any number of replicas of each service, each its own process as in
production.
Data lies in a folder that the caller gives; every process that was started is ended by `stop`.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import nats
from nats.aio.client import Client

from frontdesk.kit.disconnect import disconnect
from frontdesk.kit.nats_server import NatsServer
from frontdesk.kit.rpc.channel import NatsChannel
from frontdesk.kit.secrets import generate_key
from frontdesk.kit.tokens import Role, generate_key_pair, mint
from support.marketplace import Marketplace

READY_S = 60.0


@dataclass
class Program:
    """One process, started again with the same words."""

    name: str
    words: list[str]
    environ: Mapping[str, str]
    log: Path
    process: asyncio.subprocess.Process | None = field(default=None, repr=False)

    async def start(self) -> None:
        """Run it; standard output is piped, errors go to its log."""
        log = await asyncio.to_thread(self.log.open, "ab")
        with log:
            self.process = await asyncio.create_subprocess_exec(
                *self.words,
                env={**os.environ, **self.environ},
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
            )

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.returncode is None

    def send(self, signum: signal.Signals) -> None:
        """Send it a signal, if it runs."""
        if self.process is not None and self.process.returncode is None:
            self.process.send_signal(signum)

    async def end(self, signum: signal.Signals, seconds: float = 30.0) -> None:
        """Send a signal and wait; what does not end in time is killed."""
        if self.process is None:
            return
        self.send(signum)
        try:
            async with asyncio.timeout(seconds):
                await self.process.communicate()
        except TimeoutError:
            self.send(signal.SIGKILL)
            await self.process.communicate()

    def rss_kib(self) -> int:
        """Resident memory in KiB."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") // 1024

    def cpu_s(self) -> float:
        """Seconds of CPU used so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Fleet(Marketplace):
    """nats-server, simulators, gateways, engines and ai-proxies."""

    def __init__(
        self,
        folder: Path,
        *,
        gateways: int = 1,
        engines: int = 1,
        ai_proxies: int = 0,
        models: bool = False,
        tls: tuple[Path, Path] | None = None,
        settings: Mapping[str, str] | None = None,
        databases: Mapping[str, str] | None = None,
    ) -> None:
        self.folder = folder
        self._counts = {"connection-gateway": gateways, "reply-engine": engines, "ai-proxy": ai_proxies}
        self._with_models = models
        self._tls = tls
        self._settings = dict(settings or {})
        self._databases = dict(databases or {})
        self.nats = NatsServer(store=folder / "nats")
        self.simulator: Program
        self.models: Program | None = None
        self.models_url = self.models_bench_url = ""
        self.programs: dict[str, Program] = {}
        self._addresses: dict[str, str] = {}
        self._private_key, self._public_key = generate_key_pair()
        self._secret = generate_key()

    async def start(self) -> None:
        """Start everything; returns when all services are ready."""
        self.folder.mkdir(parents=True, exist_ok=True)
        await self.nats.start()
        await self._start_simulator()
        if self._with_models:
            await self._start_models()
        self.nc: Client = await nats.connect(
            self.nats.url, max_reconnect_attempts=-1, reconnect_time_wait=0.2
        )
        self.channel = NatsChannel(self.nc, shards=64, caller="test")
        self.http = aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=False))
        for service, count in self._counts.items():
            for number in range(count):
                await self.add(service, f"{service}-{number}")
        for name in list(self.programs):
            await self.until_ready(name)

    async def _start_simulator(self) -> None:
        words = [sys.executable, "-m", "frontdesk.simulators.goofish", "--ws-port", "0", "--http-port", "0"]
        if self._tls:
            words += ["--tls-cert", str(self._tls[0]), "--tls-key", str(self._tls[1])]
        self.simulator = Program("simulator", words, {}, self.folder / "simulator.log")
        await self.simulator.start()
        self._addresses = await _first_line(self.simulator)
        self.control_url = f"{self._addresses['http_url']}/control"

    async def _start_models(self) -> None:
        words = [sys.executable, "-m", "frontdesk.simulators.models", "--port", "0"]
        self.models = Program("models", words, {}, self.folder / "models.log")
        await self.models.start()
        addresses = await _first_line(self.models)
        self.models_url, self.models_bench_url = addresses["url"], addresses["bench_url"]

    def token(self, organization_id: str, role: Role = Role.owner, subject: str = "test") -> str:
        """A token that opens the doors of this fleet."""
        return mint(
            self._private_key, subject=subject, organization_id=organization_id, role=role, ttl_s=3600
        )

    def http_port(self, name: str) -> int:
        """The port of a replica's HTTP door."""
        return int(self.programs[name].environ["FRONTDESK_HTTP_PORT"])

    def environ(self, name: str, service: str) -> dict[str, str]:
        """What a service is started with."""
        web = self._addresses["http_url"]
        found = {
            "FRONTDESK_NATS_URL": f"nats://127.0.0.1:{self.nats.port}",
            "FRONTDESK_NATS_USER": self.nats.user,
            "FRONTDESK_NATS_PASSWORD": self.nats.password,
            "FRONTDESK_DATABASE_URL": self._databases.get(service)
            or f"sqlite+aiosqlite:///{self.folder / service}.db",
            "FRONTDESK_SECRET_KEYS": self._secret,
            "FRONTDESK_JWT_PUBLIC_KEYS": self._public_key,
            "FRONTDESK_METRICS_PORT": str(free_port()),
            "FRONTDESK_HTTP_PORT": str(free_port()),
            "FRONTDESK_LOG_LEVEL": "INFO",
            "FRONTDESK_REPLICA": name,
            "FRONTDESK_GOOFISH_WS_URL": self._addresses["ws_url"],
            "FRONTDESK_GOOFISH_API_URL": web,
            "FRONTDESK_GOOFISH_PASSPORT_URL": web,
            "FRONTDESK_GOOFISH_UPLOAD_URL": f"{web}/api/upload.api",
            "OTEL_SDK_DISABLED": "true",
        }
        if self._with_models:
            found["FRONTDESK_AI_PRIVATE_UPSTREAMS"] = "true"
        if self._tls:
            found["FRONTDESK_GOOFISH_CA_FILE"] = str(self._tls[0])
        return {**found, **self._settings}

    async def add(self, service: str, name: str, **settings: str) -> Program:
        """Start one more replica; see `until_ready`."""
        words = [sys.executable, "-m", "frontdesk", service]
        environ = {**self.environ(name, service), **settings}
        program = Program(name, words, environ, self.folder / f"{name}.log")
        self.programs[name] = program
        await program.start()
        return program

    async def until_ready(self, name: str) -> None:
        """Wait until a replica says that it works."""
        program = self.programs[name]
        url = f"http://127.0.0.1:{program.environ['FRONTDESK_METRICS_PORT']}/readyz"
        end = time.monotonic() + READY_S
        while True:
            if not program.running or time.monotonic() > end:
                log = await asyncio.to_thread(program.log.read_text, errors="replace")
                raise RuntimeError(f"{name} is not ready:\n{log[-3000:]}")
            with suppress(aiohttp.ClientError):
                async with self.http.get(url) as response:
                    if response.status == 200:
                        return
            await asyncio.sleep(0.05)

    async def stop(self) -> None:
        """End every process, the services in order first."""
        await asyncio.gather(*(p.end(signal.SIGTERM) for p in self.programs.values()))
        if hasattr(self, "http"):
            await self.http.close()
            await self.channel.close()
            await disconnect(self.nc)
        if hasattr(self, "simulator"):
            await self.simulator.end(signal.SIGTERM, 5)
        if self.models is not None:
            await self.models.end(signal.SIGTERM, 5)
        await self.nats.stop()


async def _first_line(program: Program) -> dict[str, str]:
    """What a simulator prints first: its addresses."""
    assert program.process is not None
    assert program.process.stdout is not None
    found: dict[str, str] = json.loads(await program.process.stdout.readline())
    return found


def free_port() -> int:
    """A port of loopback that nobody uses now."""
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
