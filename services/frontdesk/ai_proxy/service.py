"""ai-proxy, wired: the only place that chooses real parts."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any

from starlette.types import ASGIApp

from frontdesk.ai_proxy.answers.answer import AnswerLimits, Answers
from frontdesk.ai_proxy.answers.policy import StoredPolicy
from frontdesk.ai_proxy.breaker import BreakerSettings
from frontdesk.ai_proxy.budget_alerts import BudgetAlerts
from frontdesk.ai_proxy.budgets import BudgetLimits, Budgets, Directories
from frontdesk.ai_proxy.cache import AnswerCache
from frontdesk.ai_proxy.completions import Completions, CompletionSettings
from frontdesk.ai_proxy.config import AiProxySettings
from frontdesk.ai_proxy.configuration import Configuration
from frontdesk.ai_proxy.embedder import ModelEmbedder
from frontdesk.ai_proxy.knowledge.fetch import FetchLimits, PageFetcher
from frontdesk.ai_proxy.knowledge.search import Knowledge
from frontdesk.ai_proxy.knowledge.store import KnowledgeLimits, KnowledgeStore
from frontdesk.ai_proxy.knowledge.vectors import VectorFiller
from frontdesk.ai_proxy.ledger import BudgetDefinition
from frontdesk.ai_proxy.openai_door.door import DoorLimits, OpenAiDoor
from frontdesk.ai_proxy.providers.http import ProviderHttp
from frontdesk.ai_proxy.providers.kinds import adapters
from frontdesk.ai_proxy.providers.offline import Offline
from frontdesk.ai_proxy.readings import add_readings
from frontdesk.ai_proxy.retention import Retention
from frontdesk.ai_proxy.router import Router, RouterSettings
from frontdesk.ai_proxy.rpc.ai import AiServicer
from frontdesk.ai_proxy.rpc.budgets import BudgetServicer
from frontdesk.ai_proxy.rpc.knowledge import KnowledgeServicer
from frontdesk.ai_proxy.rpc.policies import PolicyServicer
from frontdesk.ai_proxy.rpc.providers import ProviderServicer
from frontdesk.ai_proxy.shop import Shop, shop_loader
from frontdesk.ai_proxy.spend_writer import SpendWriter
from frontdesk.ai_proxy.spending import Spending, SpendingLimits
from frontdesk.ai_proxy.stored_providers import LimitDefaults
from frontdesk.ai_proxy.topology import CONSUMERS, NAME, SPEND
from frontdesk.api.ai.v1.ai_service_pb2_grpc import add_AiServiceServicer_to_server
from frontdesk.api.ai.v1.budget_service_pb2_grpc import add_BudgetServiceServicer_to_server
from frontdesk.api.ai.v1.knowledge_service_pb2_grpc import add_KnowledgeServiceServicer_to_server
from frontdesk.api.ai.v1.policy_service_pb2_grpc import add_PolicyServiceServicer_to_server
from frontdesk.api.ai.v1.provider_service_pb2_grpc import add_ProviderServiceServicer_to_server
from frontdesk.kit import tasks
from frontdesk.kit.bus import Consumer
from frontdesk.kit.bus.awake import StaysAwake
from frontdesk.kit.bus.connection import bus_settings
from frontdesk.kit.clock import Clock, SystemClock
from frontdesk.kit.database import DatabaseOptions
from frontdesk.kit.patience import Patience
from frontdesk.kit.rpc.channel import NatsChannel
from frontdesk.kit.rpc.server import RpcServer
from frontdesk.kit.secrets import SecretBox
from frontdesk.kit.stores import open_stores
from frontdesk.kit.telemetry.readings import Readings

SCHEMA = "ai_proxy"
VERSIONS = Path(__file__).parent / "migrations" / "versions"
MIB = 1024 * 1024
# Behind a busy batch the next one waits for company: what was used stays set aside so much longer.
SETTLE_S = 0.2

log = logging.getLogger(__name__)

Spawn = Callable[[str, Coroutine[Any, Any, None]], "asyncio.Task[None]"]
Registration = tuple[Callable[[Any, Any], None], Any]


class AiProxy:
    """A component: start it, mount its doors, stop it."""

    name = NAME

    def __init__(self, settings: AiProxySettings, spawn: Spawn, clock: Clock | None = None) -> None:
        self._settings = settings
        self._spawn = spawn
        self._clock = clock or SystemClock()
        self._patience = Patience(log.warning, self._clock)
        self._started = False
        self._readings: Readings | None = None
        self._seen = 0
        self.registrations: list[Registration] = []

    async def start(self) -> None:
        """Connect, migrate, and begin to answer."""
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
        # It calls nobody; the gRPC door passes on by it what another replica has to answer.
        self.channel = NatsChannel(self.bus.nc, shards=1, caller=NAME)
        self._wire(settings, self._clock)
        await self._http.start()
        self.rpc = RpcServer(self.bus.nc, NAME, limit=settings.ai_calls)
        for register, servicer in self.registrations:
            self.rpc.add(register, servicer)
        await self.rpc.start()
        self._consumer = Consumer(
            self.bus, SPEND, self._writer.on_spend, max_batch=500, parallel=1, gather_s=SETTLE_S
        )
        self._spawn(f"{NAME} {SPEND.stream}", self._consumer.run())
        self._beside = [
            self._spawn(f"{NAME} retention", self._retention.run()),
            self._spawn(f"{NAME} lease", StaysAwake(self.bus, NAME, self._worked, self._clock).run()),
        ]
        if settings.measures:
            self._readings = Readings(settings.readings_seconds, self._clock)
            add_readings(self._readings, self.bus, self.completions, self._router, self._spending)
            self._spawn(f"{NAME} readings", self._readings.run())
        self._started = True

    def _wire(self, settings: AiProxySettings, clock: Clock) -> None:
        """Make the parts that need a database and a connection."""
        secrets = SecretBox(settings.secret_key_list())
        defaults = _provider_limits(settings)
        self._shops: Configuration[Shop] = Configuration(
            self.database,
            shop_loader(secrets, defaults),
            clock,
            fresh_s=settings.ai_fresh_milliseconds / 1000,
        )
        self._spend(settings, clock)
        self._http = ProviderHttp(
            connections=settings.ai_connections,
            share=max(1, settings.ai_connections * settings.ai_connections_share_percent // 100),
            private=settings.ai_private_upstreams,
            body_bytes=settings.ai_body_megabytes * MIB,
            stream_bytes=settings.ai_stream_megabytes * MIB,
            clock=clock,
        )
        self._router = Router(
            adapters(self._http, event_bytes=settings.ai_event_megabytes * MIB),
            clock,
            _router_settings(settings),
        )
        self._serve(settings, clock, secrets, defaults)

    def _serve(
        self, settings: AiProxySettings, clock: Clock, secrets: SecretBox, defaults: LimitDefaults
    ) -> None:
        """Make what callers meet: the way of every call, answers, servicers, the OpenAI door."""
        # By words alone: its margins are those of that scale.
        offline = Offline(Knowledge(self.database))
        self.completions = Completions(
            shops=self._shops.get,
            latest=self._shops.latest,
            router=self._router,
            offline=offline,
            budgets=self._budgets,
            spending=self._spending,
            clock=clock,
            settings=CompletionSettings(
                settings.ai_call_seconds, settings.ai_answer_tokens, settings.ai_answer_characters
            ),
            cache=_cache(settings, clock),
        )
        embedder = ModelEmbedder(self.completions)
        self._filler = VectorFiller(self.database, embedder, clock)
        knowledge = Knowledge(self.database, embedder, self._filler)
        answers = Answers(self._policies_of, self.completions, knowledge, offline, _answer_limits(settings))
        fetcher = PageFetcher(_fetch_limits(settings)) if settings.knowledge_import_urls else None
        store = KnowledgeStore(self.database, clock, _knowledge_limits(settings), self._filler)
        self.registrations = [
            (
                add_AiServiceServicer_to_server,
                AiServicer(self.completions, answers, self.database, clock),
            ),
            (
                add_ProviderServiceServicer_to_server,
                ProviderServicer(
                    self.database, self._shops, secrets, defaults, self._router, self.completions, clock
                ),
            ),
            (
                add_BudgetServiceServicer_to_server,
                BudgetServicer(self.database, self._shops, self._alerts, clock, settings.budgets),
            ),
            (add_KnowledgeServiceServicer_to_server, KnowledgeServicer(store, knowledge, fetcher)),
            (
                add_PolicyServiceServicer_to_server,
                PolicyServicer(self.database, self._shops, clock, settings.policies),
            ),
        ]
        self.http_doors: Mapping[str, ASGIApp] = {"/v1/": _openai_door(settings, self.completions, clock)}

    def _spend(self, settings: AiProxySettings, clock: Clock) -> None:
        """Make what counts: reservations before a call, what it used after it."""
        directories = Directories(self._budgets_of)
        self._alerts = BudgetAlerts(self.bus, self.database, clock)
        self._writer = SpendWriter(self.database, directories, self._alerts, clock)
        self._spending = Spending(
            self.bus,
            self._writer.store,
            clock,
            SpendingLimits(settings.spend_hold_milliseconds / 1000, settings.spend_waiting),
        )
        self._budgets = Budgets(
            self.database,
            directories,
            self._alerts,
            clock,
            BudgetLimits(settings.reservation_seconds * 1000),
            self._spending.check_room,
        )
        self._retention = Retention(self.database, clock, settings.spend_days)

    def _worked(self) -> bool:
        """Whether models were asked since this was, or are being asked."""
        before, self._seen = self._seen, self.completions.begun
        return self._seen > before or self.completions.under_way > 0

    async def _budgets_of(self, organization_id: str) -> tuple[BudgetDefinition, ...]:
        return (await self._shops.get(organization_id)).budgets

    async def _policies_of(self, organization_id: str) -> tuple[StoredPolicy, ...]:
        return (await self._shops.get(organization_id)).policies

    def not_ready(self) -> str | None:
        """Why this replica can't do its work now; None when it can."""
        if not self._started:
            return self._patience.waits_for or "starting"
        if not self.bus.connected:
            return "NATS is away"
        return None if self._consumer.healthy else f"no sign of life from {SPEND.stream}"

    async def stop(self, deadline_s: float) -> None:
        """Let calls end, tell what they used, close."""
        if self._readings is not None:
            self._readings.stop()
        await tasks.end(self._beside)
        await self.rpc.drain(deadline_s * 0.5)
        await self._filler.close()
        await self.completions.close()
        await self._spending.stop(deadline_s * 0.2)
        await self._consumer.drain(deadline_s * 0.2)
        await self._budgets.close()
        await self._shops.close()
        await self._http.stop()
        await self.channel.close()
        await self.bus.close()
        await self.database.close()


def _openai_door(settings: AiProxySettings, completions: Completions, clock: Clock) -> OpenAiDoor:
    limits = DoorLimits(
        write_s=settings.ai_write_seconds,
        body_bytes=settings.ai_request_megabytes * MIB,
        room_bytes=settings.ai_requests_megabytes * MIB,
    )
    return OpenAiDoor(completions, clock, limits)


def _provider_limits(settings: AiProxySettings) -> LimitDefaults:
    return LimitDefaults(
        concurrency=settings.ai_concurrency,
        connect_ms=settings.ai_connect_milliseconds,
        first_token_ms=settings.ai_first_token_milliseconds,
        idle_ms=settings.ai_idle_milliseconds,
        attempts=settings.ai_attempts,
    )


def _router_settings(settings: AiProxySettings) -> RouterSettings:
    return RouterSettings(
        slot_wait_s=settings.ai_slot_seconds,
        slot_waiters=settings.ai_slot_waiters,
        retry_after_most_s=settings.ai_retry_after_seconds,
        hedge_after_s=settings.ai_hedge_milliseconds / 1000 or None,
        breaker=BreakerSettings(
            failures=settings.ai_breaker_failures,
            cool_down_s=settings.ai_breaker_seconds,
            cool_down_most_s=settings.ai_breaker_most_seconds,
        ),
    )


def _cache(settings: AiProxySettings, clock: Clock) -> AnswerCache | None:
    if not settings.ai_cache_megabytes:
        return None
    return AnswerCache(settings.ai_cache_megabytes * MIB, settings.ai_cache_seconds, clock)


def _answer_limits(settings: AiProxySettings) -> AnswerLimits:
    return AnswerLimits(
        turns=settings.buyer_answer_turns,
        passages=settings.buyer_answer_passages,
        answer_chars=settings.buyer_answer_characters,
        answer_tokens=settings.buyer_answer_tokens,
        attempts=settings.buyer_answer_attempts,
    )


def _knowledge_limits(settings: AiProxySettings) -> KnowledgeLimits:
    return KnowledgeLimits(
        document_bytes=settings.knowledge_document_bytes,
        documents=settings.knowledge_documents,
        document_passages=settings.knowledge_document_passages,
        passages=settings.knowledge_passages,
        passage_chars=settings.knowledge_passage_chars,
    )


def _fetch_limits(settings: AiProxySettings) -> FetchLimits:
    return FetchLimits(
        page_bytes=settings.knowledge_page_bytes,
        seconds=settings.knowledge_page_seconds,
    )
