"""The reply-engine, wired: the only place that chooses real parts."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any

from fastapi import APIRouter

from frontdesk.api.accounts.v1.account_service_pb2_grpc import AccountServiceStub
from frontdesk.api.accounts.v1.platform_service_pb2_grpc import PlatformServiceStub
from frontdesk.api.ai.v1.ai_service_pb2_grpc import AiServiceStub
from frontdesk.api.chats.v1.chat_service_pb2_grpc import add_ChatServiceServicer_to_server
from frontdesk.api.chats.v1.order_service_pb2_grpc import add_OrderServiceServicer_to_server
from frontdesk.api.replies.v1.reply_service_pb2_grpc import add_ReplyServiceServicer_to_server
from frontdesk.api.replies.v1.rule_service_pb2_grpc import add_RuleServiceServicer_to_server
from frontdesk.kit.bus import Consumer, Timers
from frontdesk.kit.bus.connection import bus_settings
from frontdesk.kit.bus.start import permitted
from frontdesk.kit.clock import Clock, SystemClock
from frontdesk.kit.database import DatabaseOptions
from frontdesk.kit.patience import Patience
from frontdesk.kit.rpc.channel import NatsChannel
from frontdesk.kit.rpc.server import RpcServer
from frontdesk.kit.secrets import SecretBox
from frontdesk.kit.stores import open_stores
from frontdesk.kit.telemetry.readings import Readings
from frontdesk.reply_engine.accounts import Accounts, GatewayPlatform
from frontdesk.reply_engine.ai import Ai
from frontdesk.reply_engine.chats.takeover import Takeover
from frontdesk.reply_engine.config import ReplyEngineSettings
from frontdesk.reply_engine.decide import Decider
from frontdesk.reply_engine.doors import reply_router
from frontdesk.reply_engine.engine import Engine, EngineLimits
from frontdesk.reply_engine.events import Events
from frontdesk.reply_engine.facts import FactSource
from frontdesk.reply_engine.intake import IntakeLimits
from frontdesk.reply_engine.orders.delivery import Deliveries
from frontdesk.reply_engine.outbox import Outbox
from frontdesk.reply_engine.previews import Previews
from frontdesk.reply_engine.readings import add_readings
from frontdesk.reply_engine.rpc.chats import ChatServicer
from frontdesk.reply_engine.rpc.orders import OrderServicer
from frontdesk.reply_engine.rpc.replies import ReplyServicer
from frontdesk.reply_engine.rpc.rules import RuleServicer
from frontdesk.reply_engine.rules.model import LIMITS
from frontdesk.reply_engine.rules.patterns import Patterns
from frontdesk.reply_engine.snapshot import SnapshotCache
from frontdesk.reply_engine.sweep import SweepTimer
from frontdesk.reply_engine.topology import CONSUMERS, DUE, INBOUND, NAME, REPORTS

SCHEMA = "reply_engine"
VERSIONS = Path(__file__).parent / "migrations" / "versions"

log = logging.getLogger(__name__)

Spawn = Callable[[str, Coroutine[Any, Any, None]], "asyncio.Task[None]"]
Registration = tuple[Callable[[Any, Any], None], Any]


class ReplyEngine:
    """A component: start it, mount its doors, stop it."""

    name = NAME

    def __init__(self, settings: ReplyEngineSettings, spawn: Spawn, clock: Clock | None = None) -> None:
        self._settings = settings
        self._spawn = spawn
        self._clock = clock or SystemClock()
        self._patience = Patience(log.warning, self._clock)
        self._started = False
        self._readings: Readings | None = None
        self._consumers: list[Consumer] = []
        self.registrations: list[Registration] = []

    async def start(self) -> None:
        """Connect, migrate, and begin to consume."""
        settings = self._settings
        await self._connect()
        self.channel = NatsChannel(self.bus.nc, shards=settings.shards, caller=NAME)
        self._wire(settings, self._clock)
        self.rpc = RpcServer(self.bus.nc, NAME)
        for register, servicer in self.registrations:
            self.rpc.add(register, servicer)
        await self.rpc.start()
        await self._consume()
        if settings.measures:
            self._readings = Readings(settings.readings_seconds, self._clock)
            unreported_ms = settings.unreported_seconds * 1000
            add_readings(self._readings, self.bus, self.database, self._clock, unreported_ms)
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
        )

    def _wire(self, settings: ReplyEngineSettings, clock: Clock) -> None:
        """Make the parts that need a database and a connection: the engine, its servicers, its routes."""
        limits = _limits(settings)
        snapshots = SnapshotCache(patterns=Patterns(limits=limits.rules))
        timers, events = Timers(self.bus), Events(self.bus)
        sweep = SweepTimer(timers, clock, settings.sweep_seconds * 1000)
        outbox = Outbox(self.bus, settings.shards, sweep)
        platform = GatewayPlatform(PlatformServiceStub(self.channel), clock)
        accounts = Accounts(AccountServiceStub(self.channel), clock)
        secrets = SecretBox(settings.secret_key_list())
        deliveries = Deliveries(
            database=self.database,
            platform=platform,
            outbox=outbox,
            events=events,
            timers=timers,
            secrets=secrets,
            clock=clock,
        )
        facts = FactSource(accounts, platform, clock)
        ai = self._new_ai(facts, clock)
        decider = Decider(snapshots, facts, settings.ai_seconds, settings.ai_again_seconds * 1000)
        self.engine = Engine(
            timers=timers,
            sweep=sweep,
            database=self.database,
            snapshots=snapshots,
            decider=decider,
            outbox=outbox,
            ai=ai,
            facts=facts,
            deliveries=deliveries,
            events=events,
            clock=clock,
            limits=limits,
        )
        takeover = Takeover(self.database, snapshots, outbox, timers, clock)
        previews = Previews(facts, ai)
        replies = ReplyServicer(
            self.database, snapshots, accounts, previews, clock, max_age_ms=limits.intake.max_age_ms
        )
        self.registrations = [
            (add_ReplyServiceServicer_to_server, replies),
            (
                add_RuleServiceServicer_to_server,
                RuleServicer(self.database, snapshots, accounts, previews, clock, limits.rules),
            ),
            (add_ChatServiceServicer_to_server, ChatServicer(self.database, self.bus, takeover, clock)),
            (
                add_OrderServiceServicer_to_server,
                OrderServicer(self.database, accounts, timers, secrets, clock),
            ),
        ]
        self.router: APIRouter = reply_router(replies)

    def _new_ai(self, facts: FactSource, clock: Clock) -> Ai:
        settings = self._settings
        return Ai(
            AiServiceStub(self.channel),
            self.database,
            facts,
            clock,
            seconds=settings.ai_seconds,
            parallel=settings.ai_parallel,
        )

    async def _consume(self) -> None:
        settings, engine = self._settings, self.engine
        # At once: later it might wake a service that sleeps again.
        await self._patience.until("TIMERS", lambda: permitted(self.bus, engine.sweep_timer.now))
        self._consumers = [
            Consumer(
                self.bus,
                INBOUND,
                engine.on_inbound,
                max_batch=settings.inbound_batch,
                parallel=settings.inbound_parallel,
            ),
            Consumer(self.bus, DUE, engine.on_due, max_batch=settings.inbound_batch, parallel=2),
            Consumer(self.bus, REPORTS, engine.on_reports, max_batch=settings.inbound_batch, parallel=1),
        ]
        for consumer in self._consumers:
            self._spawn(f"{NAME} {consumer.spec.stream}", consumer.run())

    def not_ready(self) -> str | None:
        """Why this replica can't do its work now; None when it can."""
        if not self._started:
            return self._patience.waits_for or "starting"
        if not self.bus.connected:
            return "NATS is away"
        deaf = [c.spec.stream for c in self._consumers if not c.healthy]
        return f"no sign of life from {', '.join(deaf)}" if deaf else None

    async def stop(self, deadline_s: float) -> None:
        """Finish what is in work, give back the rest, close."""
        if self._readings is not None:
            self._readings.stop()
        await asyncio.gather(*(c.drain(deadline_s * 0.4) for c in self._consumers))
        await self.engine.drain(deadline_s * 0.3)
        await self.rpc.drain(deadline_s * 0.2)
        await self.channel.close()
        await self.bus.close()
        await self.database.close()


def _limits(settings: ReplyEngineSettings) -> EngineLimits:
    return EngineLimits(
        intake=IntakeLimits(
            max_age_ms=settings.reply_max_age_seconds * 1000,
            debounce_cap_ms=settings.debounce_cap_seconds * 1000,
            debounce_cap_messages=settings.debounce_cap_messages,
        ),
        unreported_ms=settings.unreported_seconds * 1000,
        ai_turns=settings.ai_parallel + settings.ai_waiting,
        rules=replace(
            LIMITS,
            regex_seconds=settings.regex_milliseconds / 1000,
            decision_seconds=2 * settings.regex_milliseconds / 1000,
            import_bytes=settings.import_kilobytes * 1024,
        ),
    )
