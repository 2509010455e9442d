"""A running ai-proxy for tests: real NATS, a real database, real doors, and the models simulator upstream."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import nats
from nats.aio.client import Client

from frontdesk.ai_proxy.config import AiProxySettings
from frontdesk.ai_proxy.service import AiProxy
from frontdesk.api.ai.v1.ai_service_pb2_grpc import AiServiceStub
from frontdesk.api.ai.v1.budget_service_pb2_grpc import BudgetServiceStub
from frontdesk.api.ai.v1.knowledge_service_pb2_grpc import KnowledgeServiceStub
from frontdesk.api.ai.v1.policy_service_pb2_grpc import PolicyServiceStub
from frontdesk.api.ai.v1.provider_service_pb2_grpc import ProviderServiceStub
from frontdesk.kit.config import load
from frontdesk.kit.disconnect import disconnect
from frontdesk.kit.http import Beside, create_app
from frontdesk.kit.http_server import HttpServer
from frontdesk.kit.lifecycle import Readiness
from frontdesk.kit.nats_server import NatsServer
from frontdesk.kit.rpc.channel import NatsChannel
from frontdesk.kit.rpc.grpc_door import GrpcServer
from frontdesk.kit.secrets import generate_key
from frontdesk.kit.tokens import JwtAuthenticator, Role, generate_key_pair, mint
from frontdesk.simulators.models.server import ModelsServer

ORGANIZATION = "org"


class AiBench:
    """ai-proxies on one NATS and one database, and the models behind them."""

    def __init__(self, nats_server: NatsServer, database_url: str, **settings: str) -> None:
        self._nats = nats_server
        self._private, public = generate_key_pair()
        self._environ = {
            "FRONTDESK_NATS_URL": f"nats://127.0.0.1:{nats_server.port}",
            "FRONTDESK_NATS_USER": nats_server.user,
            "FRONTDESK_NATS_PASSWORD": nats_server.password,
            "FRONTDESK_DATABASE_URL": database_url,
            "FRONTDESK_SECRET_KEYS": generate_key(),
            "FRONTDESK_JWT_PUBLIC_KEYS": public,
            "FRONTDESK_AI_PRIVATE_UPSTREAMS": "true",
            "FRONTDESK_AI_FRESH_MILLISECONDS": "0",
            **settings,
        }
        self._tasks: set[asyncio.Task[None]] = set()
        self._doors: list[HttpServer] = []
        self._grpc: GrpcServer | None = None
        self.proxies: list[AiProxy] = []
        self.models = ModelsServer()

    async def start(self, proxies: int = 1) -> None:
        """Start everything."""
        await self.models.start()
        self.nc: Client = await nats.connect(
            self._nats.url, max_reconnect_attempts=-1, reconnect_time_wait=0.1
        )
        self.channel = NatsChannel(self.nc, shards=64, caller="test")
        self.ai = AiServiceStub(self.channel)
        self.providers = ProviderServiceStub(self.channel)
        self.budgets = BudgetServiceStub(self.channel)
        self.knowledge = KnowledgeServiceStub(self.channel)
        self.policies = PolicyServiceStub(self.channel)
        for _ in range(proxies):
            await self.add()

    async def add(self) -> AiProxy:
        """One more replica, with an HTTP door."""
        settings = load(AiProxySettings, self._environ)
        proxy = AiProxy(settings, self._spawn)
        await proxy.start()
        self.proxies.append(proxy)
        app = create_app("test", JwtAuthenticator.from_settings(settings), readiness=Readiness())
        door = HttpServer("http", Beside(app, proxy.http_doors), spawn=self._spawn)
        await door.start()
        self._doors.append(door)
        return proxy

    async def open_grpc(self) -> str:
        """Open the first replica's gRPC door; its address."""
        settings = load(AiProxySettings, self._environ)
        door = GrpcServer(JwtAuthenticator.from_settings(settings), port=0)
        for register, servicer in self.proxies[0].registrations:
            door.add(register, servicer)
        await door.start()
        self._grpc = door
        return f"127.0.0.1:{door.port}"

    @property
    def url(self) -> str:
        """Where the first replica's OpenAI door is."""
        return f"http://127.0.0.1:{self._doors[0].port}/v1"

    def key(self, organization_id: str = ORGANIZATION, role: Role = Role.owner, subject: str = "key") -> str:
        """A token that opens it."""
        return mint(
            self._private,
            subject=subject,
            organization_id=organization_id,
            role=role,
            kind="api_key",
            ttl_s=3600,
        )

    def _spawn(self, name: str, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        return task

    async def stop(self) -> None:
        """Stop everything; raises what a task of the services raised."""
        if self._grpc is not None:
            await self._grpc.drain(3)
        for door in self._doors:
            await door.stop(3)
        for proxy in self.proxies:
            await proxy.stop(3)
        await self.channel.close()
        await disconnect(self.nc)
        await self.models.stop()
        for task in self._tasks:
            task.cancel()
        done = await asyncio.gather(*self._tasks, return_exceptions=True)
        failures = [e for e in done if isinstance(e, Exception)]
        if failures:
            raise failures[0]
