"""The only place that knows all services: how each is made, and how they run, alone or all in one process.

A service is a lifecycle component with `registrations` (gRPC servicers), `not_ready()` and, where it has any,
HTTP routes or doors. Alone, it opens its own doors on the ports of its settings. In one process (`frontdesk
up`) all services share one HTTP port, whose paths are routed as the ingress does, and one gRPC port.
"""

from __future__ import annotations

import asyncio
import importlib
import sys
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, runtime_checkable

from frontdesk.ai_proxy.config import AiProxySettings
from frontdesk.connection_gateway.config import GatewaySettings
from frontdesk.kit.config import (
    AuthSettings,
    DatabaseSettings,
    DoorSettings,
    Settings,
    TelemetrySettings,
    load,
)
from frontdesk.kit.errors import FrontdeskError
from frontdesk.kit.lifecycle import Service, Spawn, run_program
from frontdesk.reply_engine.config import ReplyEngineSettings

if TYPE_CHECKING:
    from fastapi import APIRouter
    from starlette.types import ASGIApp

    from frontdesk.kit.bus.topology import ConsumerSpec
    from frontdesk.kit.http_server import HttpServer
    from frontdesk.kit.rpc.channel import NatsChannel
    from frontdesk.kit.rpc.grpc_door import GrpcServer

SETTINGS: tuple[type[Settings], ...] = (GatewaySettings, ReplyEngineSettings, AiProxySettings)

Registration = tuple[Callable[[Any, Any], None], Any]
S = TypeVar("S")


class Part(Protocol):
    """A service as the fleet runs it."""

    name: str
    channel: NatsChannel

    @property
    def registrations(self) -> Sequence[Registration]:
        """Its gRPC servicers, once it has started."""
        ...

    async def start(self) -> None:
        """Connect and begin to work."""
        ...

    async def stop(self, deadline_s: float) -> None:
        """Finish and close."""
        ...

    def not_ready(self) -> str | None:
        """Why it can't do its work now."""
        ...


@runtime_checkable
class HasRoutes(Protocol):
    """A part with routes of the one API."""

    router: APIRouter


@runtime_checkable
class HasHttpDoors(Protocol):
    """A part that speaks other protocols over HTTP: applications by the path that they are below."""

    http_doors: Mapping[str, ASGIApp]


@runtime_checkable
class HoldsSockets(Protocol):
    """A part whose sockets stay open for long, and have to be sent away before the doors close."""

    async def close_sockets(self, deadline_s: float) -> None:
        """Take no more and close all, as gently as the time allows."""
        ...


@dataclass(frozen=True, slots=True)
class Entry:
    """A service: its settings, its schema, and where its code is (imported when it is run)."""

    name: str
    settings: type[Settings]
    schema: str
    module: str
    attribute: str

    def make(self, settings: Settings, spawn: Spawn) -> Part:
        """The service's component."""
        part: Part = getattr(importlib.import_module(self.module), self.attribute)(settings, spawn)
        return part

    @property
    def consumers(self) -> tuple[ConsumerSpec, ...]:
        """Its fixed durable consumers, which must exist before it runs."""
        found: tuple[ConsumerSpec, ...] = importlib.import_module(
            f"frontdesk.{self.schema}.topology"
        ).CONSUMERS
        return found

    @property
    def versions(self) -> Path:
        """Where its migrations lie."""
        return Path(__file__).parent / self.schema / "migrations" / "versions"


SERVICES = {
    entry.name: entry
    for entry in (
        Entry(
            "connection-gateway",
            GatewaySettings,
            "connection_gateway",
            "frontdesk.connection_gateway.service",
            "ConnectionGateway",
        ),
        Entry(
            "reply-engine",
            ReplyEngineSettings,
            "reply_engine",
            "frontdesk.reply_engine.service",
            "ReplyEngine",
        ),
        Entry(
            "ai-proxy",
            AiProxySettings,
            "ai_proxy",
            "frontdesk.ai_proxy.service",
            "AiProxy",
        ),
    )
}


@dataclass(frozen=True, slots=True)
class DoorPlan:
    """Where doors open; a port of None opens none, 0 takes a free one."""

    http_host: str = "127.0.0.1"
    http_port: int | None = None
    grpc_host: str = "127.0.0.1"
    grpc_port: int | None = None


class Doors:
    """The HTTP and gRPC doors of the services in this process, as a component that starts after them."""

    name = "doors"

    def __init__(self, service: Service, parts: Sequence[Part], plan: DoorPlan, auth: AuthSettings) -> None:
        self._service = service
        self._parts = parts
        self._plan = plan
        from frontdesk.kit.tokens import JwtAuthenticator

        self._authenticator = JwtAuthenticator.from_settings(auth)
        self.http: HttpServer | None = None
        self.grpc: GrpcServer | None = None

    async def start(self) -> None:
        """Open the doors."""
        from frontdesk.kit.http import Beside, create_app
        from frontdesk.kit.http_server import HttpServer
        from frontdesk.kit.rpc.grpc_door import GrpcServer

        plan = self._plan
        if plan.grpc_port is not None:
            self.grpc = GrpcServer(
                self._authenticator, channel=self._parts[0].channel, host=plan.grpc_host, port=plan.grpc_port
            )
            for part in self._parts:
                for register, servicer in part.registrations:
                    self.grpc.add(register, servicer)
            await self.grpc.start()
        if plan.http_port is not None:
            app = create_app("Frontdesk", self._authenticator, readiness=self._service.readiness)
            doors: dict[str, ASGIApp] = {}
            for part in self._parts:
                if isinstance(part, HasRoutes):
                    app.include_router(part.router)
                if isinstance(part, HasHttpDoors):
                    doors.update(part.http_doors)
            self.http = HttpServer(
                "http",
                Beside(app, doors),
                host=plan.http_host,
                port=plan.http_port,
                spawn=self._service.spawn,
            )
            await self.http.start()

    async def stop(self, deadline_s: float) -> None:
        """Close the doors, letting calls under way finish."""
        closing: list[Coroutine[Any, Any, None]] = []
        if self.http is not None:
            closing.append(self._stop_http(self.http, deadline_s * 0.9))
        if self.grpc is not None:
            closing.append(self.grpc.drain(deadline_s * 0.9))
        await asyncio.gather(*closing)

    async def _stop_http(self, server: HttpServer, deadline_s: float) -> None:
        """uvicorn cuts every socket at once, so they are sent away before."""
        holders = [part for part in self._parts if isinstance(part, HoldsSockets)]
        begun = asyncio.get_running_loop().time()
        await asyncio.gather(*(part.close_sockets(deadline_s * 0.5) for part in holders))
        await server.stop(deadline_s - (asyncio.get_running_loop().time() - begun))


def add_parts(
    service: Service, names: Sequence[str], environ: Callable[[str], Mapping[str, str]]
) -> list[Part]:
    """Make services and add them to `service`; raises ConfigError with every problem of a service's
    settings."""
    parts = []
    for name in names:
        entry = SERVICES[name]
        part = entry.make(load(entry.settings, environ(name)), service.spawn)
        service.add(part)
        service.readiness.add(f"{name} works", part.not_ready)
        parts.append(part)
    return parts


def build(name: str, environ: Mapping[str, str]) -> Service:
    """One service alone, with its telemetry, its doors and its operations port."""
    from frontdesk.kit.telemetry.setup import setup_telemetry

    # A service waits for what others make as long as it takes; a startup probe bounds it.
    service = Service(name, start_s=None)
    settings = load(SERVICES[name].settings, environ)
    operations = _as(settings, TelemetrySettings)
    telemetry = setup_telemetry(name, operations)
    service.add(telemetry)
    if operations.metrics_port is not None:
        from frontdesk.kit.http import ops_app
        from frontdesk.kit.http_server import HttpServer

        # First, so that /readyz says what a start waits for.
        app = ops_app(service.readiness, telemetry.prometheus)
        service.add(
            HttpServer(
                "operations",
                app,
                host=operations.metrics_host,
                port=operations.metrics_port,
                spawn=service.spawn,
            )
        )
    parts = add_parts(service, [name], lambda _: environ)
    doors = _as(settings, DoorSettings)
    plan = DoorPlan(doors.http_host, doors.http_port, doors.grpc_host, doors.grpc_port)
    service.add(Doors(service, parts, plan, _as(settings, AuthSettings)))
    return service


def run_service(name: str, environ: Mapping[str, str]) -> int:
    """Run one service as this process until it is told to stop; returns the exit code, 2 when its settings
    do not let it start."""
    try:
        return run_program(lambda: build(name, environ).run())
    except FrontdeskError as error:
        sys.stderr.write(f"{error.message}\n")
        return 2


async def migrate_all(names: Sequence[str], environ: Callable[[str], Mapping[str, str]]) -> None:
    """Bring every schema up to date."""
    from frontdesk.kit.database import Database, DatabaseOptions
    from frontdesk.kit.migrations import migrate

    for name in names:
        entry = SERVICES[name]
        settings = _as(load(entry.settings, environ(name)), DatabaseSettings)
        database = Database(DatabaseOptions(settings.database_url.get_secret_value(), entry.schema))
        try:
            await migrate(database, entry.versions)
        finally:
            await database.close()


def _as(settings: Settings, kind: type[S]) -> S:
    """`settings` as one of the classes it joins."""
    if not isinstance(settings, kind):
        raise TypeError(f"{type(settings).__name__} has no {kind.__name__}")
    return settings
