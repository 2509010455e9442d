"""Replicas and callers of the echo service around one nats-server."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self

import nats
from nats.aio.client import Client

from frontdesk.kit.disconnect import disconnect
from frontdesk.kit.errors import Unauthenticated
from frontdesk.kit.principal import Principal
from frontdesk.kit.rpc.channel import NatsChannel
from frontdesk.kit.rpc.grpc_door import GrpcServer
from frontdesk.kit.rpc.server import RpcServer
from support.echo.servicer import EchoServicer
from support.echo.v1 import echo_pb2_grpc

SHARDS = 4


async def _quiet(_: Exception) -> None:
    """Connections are broken on purpose in some tests."""


async def eventually(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    """Return when `condition` holds; raises TimeoutError."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)


class TokenAuthenticator:
    """Takes `authorization: Bearer <subject>` at its word; `nobody` is refused."""

    async def authenticate(self, metadata: Mapping[str, str]) -> Principal:
        subject = metadata.get("authorization", "").removeprefix("Bearer ")
        if not subject or subject == "nobody":
            raise Unauthenticated("no valid token")
        return Principal(subject, organization_id="org1", role="owner")


class Fleet:
    """Makes replicas, doors and channels, each on a NATS connection of its own, and ends them all."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.connections: list[Client] = []
        self._servers: list[RpcServer] = []
        self._doors: list[GrpcServer] = []
        self._channels: list[NatsChannel] = []

    async def connect(self) -> Client:
        nc = await nats.connect(self.url, error_cb=_quiet, reconnect_time_wait=0, max_reconnect_attempts=-1)
        self.connections.append(nc)
        return nc

    async def replica(self, name: str = "a", **options: Any) -> tuple[EchoServicer, RpcServer]:
        """A started replica."""
        servicer = EchoServicer(name)
        server = RpcServer(await self.connect(), "echo", replica=name, **options)
        server.add(echo_pb2_grpc.add_EchoServiceServicer_to_server, servicer)
        await server.start()
        self._servers.append(server)
        return servicer, server

    async def channel(self, **options: Any) -> NatsChannel:
        channel = NatsChannel(await self.connect(), shards=SHARDS, caller="tests", **options)
        self._channels.append(channel)
        return channel

    async def stub(self, **options: Any) -> echo_pb2_grpc.EchoServiceStub:
        return echo_pb2_grpc.EchoServiceStub(await self.channel(**options))

    async def door(self, servicer: EchoServicer, **options: Any) -> GrpcServer:
        """A started gRPC door."""
        door = GrpcServer(TokenAuthenticator(), channel=await self.channel(), **options)
        door.add(echo_pb2_grpc.add_EchoServiceServicer_to_server, servicer)
        await door.start()
        self._doors.append(door)
        return door

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for door in self._doors:
            await door.drain(0)
        for channel in self._channels:
            await channel.close()
        for server in self._servers:
            await server.drain(0)
        for nc in self.connections:
            await disconnect(nc)
