"""`frontdesk up`: everything in one process, from nothing, on one port.

NATS runs as a child process on a port of its own, each service as a component, data under one folder. With
`--demo` the platform's simulator runs too, with a few shops and buyers who ask, so that the way of a message
can be watched.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from frontdesk import fleet
from frontdesk.cli.demo import Demo, marketplace
from frontdesk.cli.local import Local, free_port
from frontdesk.kit.config import AuthSettings, TelemetrySettings, environment, load
from frontdesk.kit.lifecycle import Service
from frontdesk.kit.nats_server import NatsServer
from frontdesk.kit.telemetry.setup import setup_telemetry


@dataclass(frozen=True, slots=True)
class UpOptions:
    """What `frontdesk up` was asked for."""

    data: Path
    http_port: int = 8000
    grpc_port: int = 50051
    demo: bool = False


class NatsChild:
    """nats-server as a component of this process."""

    name = "nats-server"

    def __init__(self, server: NatsServer, service: Service) -> None:
        self._server = server
        self._service = service
        self._stopping = False

    async def start(self) -> None:
        """Start the server and watch it: without it nothing works, so its end is ours."""
        await self._server.start()
        self._service.spawn("nats-server", self._watch())

    async def _watch(self) -> None:
        process = self._server.process
        if process is not None:
            code = await process.wait()
            if not self._stopping:
                raise RuntimeError(f"nats-server ended with code {code}")

    async def stop(self, deadline_s: float) -> None:
        """End the server."""
        self._stopping = True
        await self._server.stop()


class Endpoints:
    """Tells the other commands where the doors are, for as long as they are open."""

    name = "endpoints"

    def __init__(self, local: Local, doors: fleet.Doors) -> None:
        self._local = local
        self._doors = doors

    async def start(self) -> None:
        """Write the file."""
        assert self._doors.http is not None
        assert self._doors.grpc is not None
        self._local.write_endpoints(
            {
                "http": f"http://127.0.0.1:{self._doors.http.port}",
                "grpc": f"127.0.0.1:{self._doors.grpc.port}",
            }
        )

    async def stop(self, deadline_s: float) -> None:
        """Remove the file."""
        self._local.endpoints_file.unlink(missing_ok=True)


class Greeting:
    """The last component: everything works, so say where."""

    name = "greeting"

    def __init__(self, console: Console, options: UpOptions, local: Local, *, first: bool) -> None:
        self._console = console
        self._options = options
        self._local = local
        self._first = first

    async def start(self) -> None:
        """Print what a person needs next."""
        console, endpoints = self._console, self._local.endpoints()
        console.print("[bold green]Frontdesk is up.[/]")
        console.print(
            f"  HTTP  {endpoints['http']}   gRPC  {endpoints['grpc']}   data  {self._options.data}/",
            highlight=False,
        )
        if self._first:
            console.print("  A key pair was made in the data folder; `frontdesk token` gives you a token.")
        console.print("  Next: `frontdesk account list`, `frontdesk chat tail`, `frontdesk rule list`")
        if not self._options.demo:
            console.print("  `frontdesk account add <name>` connects a real account by its cookies.")
        console.print("  Ctrl-C stops.")

    async def stop(self, deadline_s: float) -> None:
        """Say goodbye."""
        self._console.print("Stopping.")


async def run(options: UpOptions, console: Console) -> int:
    """Run until Ctrl-C; returns the exit code."""
    local = Local(options.data)
    first = local.prepare()
    service = Service("frontdesk")
    service.add(setup_telemetry("frontdesk", load(TelemetrySettings, _telemetry(options))))
    password = local.keys()["FRONTDESK_NATS_PASSWORD"]
    nats = NatsServer(store=options.data / "nats", password=password, port=free_port())
    service.add(NatsChild(nats, service))
    extra: dict[str, str] = {}
    if options.demo:
        platform, extra = marketplace()
        service.add(platform)

    def environ(name: str) -> Mapping[str, str]:
        return {**local.environment(name, f"nats://127.0.0.1:{nats.port}"), **environment(), **extra}

    parts = fleet.add_parts(service, list(fleet.SERVICES), environ)
    plan = fleet.DoorPlan(http_port=options.http_port, grpc_port=options.grpc_port)
    doors = fleet.Doors(service, parts, plan, load(AuthSettings, environ("")))
    service.add(doors)
    service.add(Endpoints(local, doors))
    service.add(Greeting(console, options, local, first=first))
    if options.demo:
        service.add(Demo(console, platform, parts[0]))
    return await service.run()


def _telemetry(options: UpOptions) -> dict[str, str]:
    # People read this terminal: with the live view on, only what went wrong is logged.
    level = "ERROR" if options.demo else "INFO"
    return {"FRONTDESK_LOG_FORMAT": "console", "FRONTDESK_LOG_LEVEL": level, **environment()}
