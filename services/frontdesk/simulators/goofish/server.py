"""The simulator as a server: the platform's socket on one port, its HTTP and the control API on another.

simulator = GoofishSimulator(SimulatorSettings())
await simulator.start()
simulator.ws_url, simulator.http_url, simulator.world
await simulator.stop()
"""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web
from websockets.asyncio.server import Server, serve

from frontdesk.kit.clock import Clock, SystemClock
from frontdesk.kit.errors import InvalidArgument
from frontdesk.simulators.goofish import demo
from frontdesk.simulators.goofish.control import Control
from frontdesk.simulators.goofish.faults import FaultBook
from frontdesk.simulators.goofish.load import Loads
from frontdesk.simulators.goofish.sessions import Hub
from frontdesk.simulators.goofish.state import World
from frontdesk.simulators.goofish.web import MAX_UPLOAD, PlatformWeb

MAX_FRAME = 1024 * 1024
LOOPBACK = ("127.0.0.1", "::1", "localhost")


@dataclass(frozen=True, slots=True)
class SimulatorSettings:
    """Where it listens. A port of 0 takes a free one; TLS when a certificate is given."""

    host: str = "127.0.0.1"
    ws_port: int = 0
    http_port: int = 0
    tls_cert: Path | None = None
    tls_key: Path | None = None
    control_token: str = ""
    accounts: int = 0
    demo: bool = False


class GoofishSimulator:
    """A marketplace on two ports; a lifecycle component."""

    name = "goofish simulator"

    def __init__(self, settings: SimulatorSettings, clock: Clock | None = None) -> None:
        if settings.host not in LOOPBACK and not settings.control_token:
            raise InvalidArgument("control_token", "is needed on another address than loopback")
        if (settings.tls_cert is None) != (settings.tls_key is None):
            raise InvalidArgument("tls_key", "goes with tls_cert")
        self._settings = settings
        self._clock = clock or SystemClock()
        self.world = World(self._clock)
        self.faults = FaultBook()
        self._sockets: Server | None = None
        self._web: web.AppRunner | None = None
        self._living: asyncio.Task[None] | None = None
        self.ws_url = self.http_url = ""

    async def start(self) -> None:
        """Open both ports."""
        settings = self._settings
        self.hub = Hub(self.world, self.faults, self._clock)
        self.loads = Loads(self.world)
        self.hub.spawn(self.hub.repush())
        tls = _tls(settings)
        self._sockets = await serve(
            self.hub.serve,
            settings.host,
            settings.ws_port,
            ssl=tls,
            process_request=self.hub.greet,
            compression=None,
            ping_interval=None,
            close_timeout=1,
            max_size=MAX_FRAME,
            max_queue=4,
            write_limit=64 * 1024,
            server_header=None,
        )
        app = web.Application(client_max_size=2 * MAX_UPLOAD)
        app.add_routes(PlatformWeb(self.hub).routes())
        app.add_routes(Control(self.hub, self.loads, self.faults, settings.control_token).routes())
        self._web = web.AppRunner(app, access_log=None, shutdown_timeout=1)
        await self._web.setup()
        site = web.TCPSite(self._web, settings.host, settings.http_port, ssl_context=tls)
        await site.start()
        secure = "s" if tls else ""
        ws_port = next(iter(self._sockets.sockets)).getsockname()[1]
        self.ws_url = f"ws{secure}://{settings.host}:{ws_port}/"
        self.http_url = f"http{secure}://{settings.host}:{self._web.addresses[0][1]}"
        for _ in range(settings.accounts):
            self.world.add_seller()
        if settings.demo:
            self._living = asyncio.create_task(demo.live(self.world, demo.build(self.world)))

    async def stop(self, deadline_s: float = 5.0) -> None:
        """Close everything."""
        if self._living is not None:
            self._living.cancel()
        for load in self.loads.loads.values():
            self.loads.stop(load)
        if self._sockets is not None:
            self._sockets.close(close_connections=True)
            await asyncio.wait({asyncio.ensure_future(self._sockets.wait_closed())}, timeout=deadline_s / 2)
        if self._web is not None:
            await self._web.cleanup()
        for task in list(self.hub.tasks):
            task.cancel()


def _tls(settings: SimulatorSettings) -> ssl.SSLContext | None:
    if settings.tls_cert is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(settings.tls_cert, settings.tls_key)
    return context
