"""The connection-gateway, wired: the only place that chooses real parts."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from fastapi import APIRouter

from frontdesk.api.accounts.v1.account_service_pb2_grpc import (
    AccountServiceStub,
    add_AccountServiceServicer_to_server,
)
from frontdesk.api.accounts.v1.platform_service_pb2_grpc import add_PlatformServiceServicer_to_server
from frontdesk.api.ai.v1.ai_service_pb2_grpc import AiServiceStub
from frontdesk.api.clients.v1.client_service_pb2_grpc import (
    ClientServiceStub,
    add_ClientServiceServicer_to_server,
)
from frontdesk.api.fleet.v1.fleet_service_pb2_grpc import (
    FleetServiceStub,
    add_FleetServiceServicer_to_server,
)
from frontdesk.api.replies.v1.reply_service_pb2_grpc import ReplyServiceStub
from frontdesk.connection_gateway.accounts.book import AccountBook
from frontdesk.connection_gateway.accounts.claims import Claims
from frontdesk.connection_gateway.accounts.journal import Journal
from frontdesk.connection_gateway.accounts.ledger import Ledger
from frontdesk.connection_gateway.accounts.monitor import Monitor
from frontdesk.connection_gateway.accounts.outbound import Speaker
from frontdesk.connection_gateway.accounts.pace import Pace
from frontdesk.connection_gateway.accounts.shared import SessionLimits, Shared
from frontdesk.connection_gateway.accounts.supervisor import Supervisor
from frontdesk.connection_gateway.clients.answers import Answers
from frontdesk.connection_gateway.clients.chat import ChatDoor, chat_router
from frontdesk.connection_gateway.clients.conversation import Services
from frontdesk.connection_gateway.clients.history import Histories
from frontdesk.connection_gateway.clients.reach import Reach
from frontdesk.connection_gateway.config import GatewaySettings
from frontdesk.connection_gateway.doors import cookies_router
from frontdesk.connection_gateway.fleet.annotate import Annotator
from frontdesk.connection_gateway.fleet.census import Census
from frontdesk.connection_gateway.fleet.report import Reporter
from frontdesk.connection_gateway.platforms.goofish.adapter import Goofish
from frontdesk.connection_gateway.readings import add_chat_readings, add_readings
from frontdesk.connection_gateway.rpc.accounts import AccountServicer
from frontdesk.connection_gateway.rpc.clients import ClientServicer
from frontdesk.connection_gateway.rpc.fleet import FleetServicer
from frontdesk.connection_gateway.rpc.platform import PlatformServicer
from frontdesk.connection_gateway.store import AccountStore, SessionStore
from frontdesk.connection_gateway.topology import CONSUMERS
from frontdesk.kit.bus.connection import bus_settings
from frontdesk.kit.bus.start import permitted
from frontdesk.kit.bus.topology import SHARDS_BUCKET
from frontdesk.kit.clock import Clock, SystemClock
from frontdesk.kit.database import DatabaseOptions
from frontdesk.kit.patience import Patience
from frontdesk.kit.rpc.channel import NatsChannel
from frontdesk.kit.rpc.server import RpcServer
from frontdesk.kit.secrets import SecretBox
from frontdesk.kit.shards.manager import ShardManager
from frontdesk.kit.shards.model import ShardSettings
from frontdesk.kit.stores import open_stores
from frontdesk.kit.telemetry.readings import Readings

NAME = "connection-gateway"
SCHEMA = "connection_gateway"
VERSIONS = Path(__file__).parent / "migrations" / "versions"
CONNECTS_AT_ONCE = 64
PEOPLE_HEARTBEAT_S, PEOPLE_DEAD_S = 2.0, 10.0
log = logging.getLogger(__name__)

Spawn = Callable[[str, Coroutine[Any, Any, None]], "asyncio.Task[None]"]
Registration = tuple[Callable[[Any, Any], None], Any]


class ConnectionGateway:
    """A component: start it, mount its doors, stop it."""

    name = NAME

    def __init__(self, settings: GatewaySettings, spawn: Spawn, clock: Clock | None = None) -> None:
        self._settings = settings
        self._spawn = spawn
        self._clock = clock or SystemClock()
        self._patience = Patience(log.warning, self._clock)
        self._started = False
        self._readings: Readings | None = None
        self.registrations: list[Registration] = []
        self.shards: ShardManager

    async def start(self) -> None:
        """Connect, migrate, and begin to take shards."""
        settings, clock = self._settings, self._clock
        await self._connect()
        self.channel = NatsChannel(self.bus.nc, shards=settings.shards, caller=NAME)
        self.rpc = RpcServer(self.bus.nc, NAME, replica=settings.replica_name)
        self.platform = Goofish(settings.goofish(), clock)
        self.sessions = SessionStore(self.database, clock)
        self.ledger = Ledger(self.database, clock)
        self.journal = Journal(self.bus, self.sessions, clock)
        self.claims = Claims(ReplyServiceStub(self.channel), clock)
        store = AccountStore(self.database, SecretBox(settings.secret_key_list()), settings.shards, clock)
        self.supervisor = self._supervisor(store)
        self.supervisor.speaker = Speaker(
            find=self.supervisor.find,
            ledger=self.ledger,
            claims=self.claims,
            bus=self.bus,
            clock=clock,
            max_waiting=settings.sends_waiting,
        )
        self.monitor = Monitor(
            supervisor=self.supervisor,
            store=self.sessions,
            ledger=self.ledger,
            journal=self.journal,
            clock=clock,
            keep_days=settings.history_days,
        )
        owners = AccountServiceStub(self.channel)
        book = AccountBook(
            store=store, supervisor=self.supervisor, platform=self.platform, owners=owners, clock=clock
        )
        self.registrations = [
            (
                add_AccountServiceServicer_to_server,
                AccountServicer(book, store, self.sessions, self.bus, clock),
            ),
            (add_PlatformServiceServicer_to_server, PlatformServicer(self.supervisor)),
            (add_FleetServiceServicer_to_server, self._fleet()),
            (add_ClientServiceServicer_to_server, self._chat()),
        ]
        self.router = APIRouter()
        self.router.include_router(cookies_router(book, owners))
        self.router.include_router(chat_router(self.chat))
        for register, servicer in self.registrations:
            self.rpc.add(register, servicer)
        await self.rpc.start()
        self._spawn(f"{NAME} journal", self.journal.run())
        await self._patience.until("the shards' leases", lambda: permitted(self.bus, self.shards.start))
        self._spawn(f"{NAME} monitor", self.monitor.run())
        self._spawn(f"{NAME} chat", self.chat.run())
        if (pod := settings.pod()) is not None:
            self._spawn(f"{NAME} annotations", Annotator(pod, self.reporter.held, clock).run())
        if settings.measures:
            self._readings = Readings(settings.readings_seconds, clock)
            add_readings(self._readings, self.bus, self.reporter)
            add_chat_readings(self._readings, self.chat, self.answers)
            self._spawn(f"{NAME} readings", self._readings.run())
        self._started = True

    async def _connect(self) -> None:
        """Database and NATS, when they are there and provisioned."""
        settings = self._settings
        options = DatabaseOptions(
            settings.database_url.get_secret_value(), SCHEMA, pool_size=settings.database_pool
        )
        self.database, self.bus = await open_stores(
            options,
            VERSIONS,
            bus_settings(settings, NAME, settings.nats_replicas),
            self._patience,
            consumers=CONSUMERS,
            buckets=[SHARDS_BUCKET],
        )

    def _supervisor(self, store: AccountStore) -> Supervisor:
        """The supervisor and the manager of shards, which need each other."""
        settings, clock = self._settings, self._clock
        shared = Shared(
            platform=self.platform,
            store=store,
            sessions=self.sessions,
            ledger=self.ledger,
            journal=self.journal,
            bus=self.bus,
            pace=Pace(settings.connects_per_second, CONNECTS_AT_ONCE, clock),
            clock=clock,
            limits=_limits(settings),
            holds=self._holds,
        )
        supervisor = Supervisor(
            shared,
            bus=self.bus,
            rpc=self.rpc,
            replica=settings.replica_name,
            shards=settings.shards,
            sends_in_work=settings.sends_in_work,
            max_accounts=settings.max_accounts,
        )
        self.shards = ShardManager(
            self.bus.nc,
            settings.replica_name,
            supervisor,
            ShardSettings(
                shards=settings.shards, ttl=settings.lease_seconds, margin=settings.lease_seconds * 0.3
            ),
            clock,
        )
        return supervisor

    def _fleet(self) -> FleetServicer:
        """What is told of the fleet, and the cordon."""
        settings = self._settings
        self.reporter = Reporter(settings.replica_name, self.shards, self.supervisor, self.not_ready)
        census = Census(
            self.reporter,
            shards=self.shards,
            peers=FleetServiceStub(self.channel),
            bus=self.bus,
            count=settings.shards,
            clock=self._clock,
        )
        return FleetServicer(census, self.reporter, self.shards, settings.operator_organization)

    def _chat(self) -> ClientServicer:
        """`/chat`, and its answers for the other replicas."""
        settings, clock = self._settings, self._clock
        limits = settings.chat_limits()
        # Apart from the other calls: an ai-proxy that was scaled to zero takes longer to come than they wait,
        # and a person who watches an answer wants to know soon that it stands still.
        self.people = NatsChannel(
            self.bus.nc,
            shards=settings.shards,
            caller=NAME,
            default_timeout_s=settings.chat_wake_seconds,
            heartbeat_s=PEOPLE_HEARTBEAT_S,
            dead_after_s=PEOPLE_DEAD_S,
        )
        self.answers = Answers(AiServiceStub(self.people), settings.replica_name, limits, clock)
        reach = Reach(
            self.answers,
            ClientServiceStub(self.channel),
            settings.replica_name,
            lambda: [member.id for member in self.shards.members()],
        )
        services = Services(self.answers, reach, Histories(self.database, clock, limits), limits)
        self.chat = ChatDoor(settings.chat_access(), services, clock)
        return ClientServicer(self.answers)

    async def close_sockets(self, deadline_s: float) -> None:
        """Send people's sockets away, before the doors close."""
        await self.chat.close_sockets(deadline_s)

    def _holds(self, shard: int, epoch: int) -> bool:
        return self.shards.holds(shard) and self.shards.epoch(shard) == epoch

    def not_ready(self) -> str | None:
        """Why this replica can't do its work now; None when it can."""
        if not self._started:
            return self._patience.waits_for or "starting"
        if not self.bus.connected:
            return "NATS is away"
        if (problem := self.shards.problem()) is not None:
            return problem
        deaf = self.supervisor.deaf()
        return f"no sign of life from the consumers of shards {deaf}" if deaf else None

    async def stop(self, deadline_s: float) -> None:
        """Hand over all shards, write what was counted, close."""
        if self._readings is not None:
            self._readings.stop()
        # Answers go on meanwhile: people whose socket was closed here read them on at other replicas.
        await asyncio.gather(self.shards.stop(deadline_s * 0.7), self.answers.drain(deadline_s * 0.6))
        await self.supervisor.stop()
        await self.rpc.drain(deadline_s * 0.1)
        await self.monitor.stop(deadline_s * 0.05)
        await self.journal.flush(deadline_s * 0.1)
        await self.claims.close()
        await self.ledger.close()
        await self.sessions.close()
        await self.platform.close()
        await self.people.close()
        await self.channel.close()
        await self.bus.close()
        await self.database.close()


def _limits(settings: GatewaySettings) -> SessionLimits:
    return SessionLimits(
        messages_in_work=settings.messages_in_work,
        max_authentications=settings.max_authentications,
        max_kicks=settings.max_kicks,
        token_margin=settings.token_margin_seconds,
        token_pause=settings.token_pause_seconds,
        read_back_every=settings.read_back_seconds,
        jitter=settings.backoff_jitter,
        strategy=settings.backoff_strategy,
    )
