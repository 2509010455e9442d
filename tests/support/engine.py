"""A running reply-engine for tests: real NATS, a real database, and a gateway that only knows accounts."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Coroutine, Sequence
from typing import Any

import grpc.aio

from frontdesk.api.accounts.v1 import account_service_pb2 as accounts_pb
from frontdesk.api.accounts.v1 import platform_service_pb2 as platform_pb
from frontdesk.api.accounts.v1.account_service_pb2_grpc import (
    AccountServiceServicer,
    add_AccountServiceServicer_to_server,
)
from frontdesk.api.accounts.v1.platform_service_pb2_grpc import (
    PlatformServiceServicer,
    add_PlatformServiceServicer_to_server,
)
from frontdesk.api.chats.v1 import chat_service_pb2 as chats_pb
from frontdesk.api.chats.v1.chat_service_pb2_grpc import ChatServiceStub
from frontdesk.api.chats.v1.order_service_pb2_grpc import OrderServiceStub
from frontdesk.api.events.v1 import inbound_pb2
from frontdesk.api.events.v1.event_pb2 import Event, ReplyChanged, SendState
from frontdesk.api.events.v1.inbound_pb2 import Author, ChatMessage, Inbound
from frontdesk.api.events.v1.outbound_pb2 import Outbound
from frontdesk.api.replies.v1 import reply_service_pb2 as replies_pb
from frontdesk.api.replies.v1 import rule_pb2
from frontdesk.api.replies.v1 import rule_service_pb2 as rules_pb
from frontdesk.api.replies.v1.reply_service_pb2_grpc import ReplyServiceStub
from frontdesk.api.replies.v1.rule_service_pb2_grpc import RuleServiceStub
from frontdesk.kit import subjects
from frontdesk.kit.bus import Bus, BusSettings, Consumer, ConsumerSpec, Delivery
from frontdesk.kit.config import load
from frontdesk.kit.errors import NotFound
from frontdesk.kit.nats_server import NatsServer
from frontdesk.kit.principal import Principal, current_principal
from frontdesk.kit.rpc.channel import NatsChannel
from frontdesk.kit.rpc.server import RpcServer
from frontdesk.kit.secrets import generate_key
from frontdesk.reply_engine.config import ReplyEngineSettings
from frontdesk.reply_engine.service import ReplyEngine

ORGANIZATION = "org"
ACCOUNT = "acc1"


class KnownAccounts(AccountServiceServicer):
    """A gateway as far as the engine asks it: accounts by id."""

    def __init__(self) -> None:
        self.disabled: set[str] = set()

    async def GetAccount(
        self, request: accounts_pb.GetAccountRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> accounts_pb.GetAccountResponse:
        if not request.account_id.startswith("acc"):
            raise NotFound("no such account")
        account = accounts_pb.Account(
            account_id=request.account_id,
            organization_id=ORGANIZATION,
            name="shop",
            enabled=request.account_id not in self.disabled,
        )
        return accounts_pb.GetAccountResponse(account=account)


class KnownItems(PlatformServiceServicer):
    """The platform's items; those whose id begins with `gone` are not there."""

    def __init__(self) -> None:
        self.asked = 0

    async def GetItem(
        self, request: platform_pb.GetItemRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> platform_pb.GetItemResponse:
        self.asked += 1
        if request.item_id.startswith("gone"):
            raise NotFound("no such item")
        return platform_pb.GetItemResponse(
            item_id=request.item_id,
            title=f"title of {request.item_id}",
            price="9.90",
            description=f"description of {request.item_id}",
            skus=[platform_pb.Sku(spec="颜色:红", price="9.90", quantity=2)],
        )


class EngineBench:
    """Engines on one NATS and one database, and what they say."""

    def __init__(self, nats: NatsServer, database_url: str, **settings: str) -> None:
        self.nats_url = nats.url
        self._environ = {
            "FRONTDESK_NATS_URL": f"nats://127.0.0.1:{nats.port}",
            "FRONTDESK_NATS_USER": nats.user,
            "FRONTDESK_NATS_PASSWORD": nats.password,
            "FRONTDESK_DATABASE_URL": database_url,
            "FRONTDESK_SECRET_KEYS": generate_key(),
            "FRONTDESK_JWT_PUBLIC_KEYS": "not used here",
            "FRONTDESK_SWEEP_SECONDS": "1",
            **settings,
        }
        self._tasks: set[asyncio.Task[None]] = set()
        self._ids = itertools.count(1)
        self.engines: list[ReplyEngine] = []
        self.said: list[Outbound] = []
        self.alerts: list[Event] = []
        self.accounts = KnownAccounts()  # type: ignore[abstract]  # what the engine never calls
        self.items = KnownItems()  # type: ignore[abstract]
        self.confirm = True

    async def start(self, engines: int = 1) -> None:
        self.bus = await Bus.connect(BusSettings(self.nats_url))
        self.gateway = RpcServer(self.bus.nc, "connection-gateway")
        self.gateway.add(add_AccountServiceServicer_to_server, self.accounts)
        self.gateway.add(add_PlatformServiceServicer_to_server, self.items)
        await self.gateway.start()
        for shard in range(64):
            await self.gateway.own_shard(shard)
        spec = ConsumerSpec(subjects.OUTBOUND, "test-gateway", ("outbound.>",))
        self._listener = Consumer(self.bus, spec, self._heard)
        self._spawn("listener", self._listener.run())
        await self.bus.nc.subscribe(subjects.event_filter("alert"), cb=self._alerted)
        for _ in range(engines):
            await self.add_engine()

    async def add_engine(self) -> ReplyEngine:
        engine = ReplyEngine(load(ReplyEngineSettings, self._environ), self._spawn)
        await engine.start()
        self.engines.append(engine)
        return engine

    def _spawn(self, name: str, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        return task

    async def stop(self) -> None:
        for engine in self.engines:
            await engine.stop(5)
        await self._listener.drain(1)
        await self.gateway.drain(1)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.bus.close()

    async def _alerted(self, msg: Any) -> None:
        self.alerts.append(Event.FromString(msg.data))

    async def _heard(self, batch: Any) -> None:
        deliveries: list[Delivery] = list(batch)
        for delivery in deliveries:
            outbound = Outbound.FromString(delivery.data)
            self.said.append(outbound)
            if self.confirm:
                await self.report(outbound, SendState.SEND_STATE_CONFIRMED)

    async def report(self, outbound: Outbound, state: SendState.ValueType, reason: str = "") -> None:
        """Tell what became of a part, as a gateway does."""
        event = Event(
            event_id=f"{outbound.outgoing_id}:{state}",
            organization_id=outbound.organization_id,
            account_id=outbound.account_id,
            occurred_at_ms=now_ms(),
            reply=ReplyChanged(
                outgoing_id=outbound.outgoing_id,
                chat_id=outbound.chat_id,
                state=state,
                reason=reason,
                message_id=f"own-{outbound.outgoing_id}",
                created_at_ms=now_ms(),
                text=outbound.text,
            ),
        )
        await self.bus.publish(subjects.event("reply", outbound.account_id), event, msg_id=event.event_id)

    async def hear(
        self,
        text: str,
        *,
        chat: str = "chat1",
        author: Author.ValueType = inbound_pb2.AUTHOR_BUYER,
        message_id: str = "",
        created_at_ms: int = 0,
        item: str = "",
        account: str = ACCOUNT,
        history: bool = False,
        images: Sequence[str] = (),
        headers: dict[str, str] | None = None,
    ) -> str:
        """Publish what the platform said, as a gateway does; returns the message's id."""
        message_id = message_id or f"m{next(self._ids)}"
        inbound = Inbound(
            organization_id=ORGANIZATION,
            account_id=account,
            chat_id=chat,
            received_at_ms=now_ms(),
            history=history,
            message=ChatMessage(
                message_id=message_id,
                author=author,
                sender_id="buyer1",
                sender_name="小王",
                buyer_id="buyer1",
                text=text,
                image_urls=images,
                item_id=item,
                created_at_ms=created_at_ms or now_ms(),
            ),
        )
        msg_id = f"{account}:{message_id}"
        await self.bus.publish(subjects.inbound(account, chat), inbound, msg_id=msg_id, headers=headers)
        return message_id

    @property
    def texts(self) -> list[str]:
        return [outbound.text for outbound in self.said]


class Calls:
    """The engine's stubs as an owner of the organization uses them."""

    def __init__(self, bench: EngineBench) -> None:
        channel: Any = NatsChannel(bench.bus.nc, shards=64, caller="test")
        current_principal.set(Principal("owner", ORGANIZATION, "owner"))
        self.rules = RuleServiceStub(channel)
        self.replies = ReplyServiceStub(channel)
        self.chats = ChatServiceStub(channel)
        self.orders = OrderServiceStub(channel)

    async def rule(self, *keywords: str, says: str = "", **fields: Any) -> str:
        rule = rule_pb2.Rule(
            scope=fields.pop("scope", rule_pb2.SCOPE_GLOBAL),
            keywords=keywords,
            parts=[rule_pb2.Part(text=text) for text in says.split("|")] if says else [],
            enabled=True,
            **fields,
        )
        response = await self.rules.CreateRule(rules_pb.CreateRuleRequest(rule=rule))
        return str(response.rule.rule_id)

    async def settings(self, **changes: Any) -> None:
        current = await self.replies.GetReplySettings(replies_pb.GetReplySettingsRequest(account_id=ACCOUNT))
        settings = current.settings
        for name, value in changes.items():
            setattr(settings, name, value)
        await self.replies.UpdateReplySettings(replies_pb.UpdateReplySettingsRequest(settings=settings))

    async def chat(self, chat_id: str = "chat1") -> chats_pb.Chat:
        request = chats_pb.GetChatRequest(account_id=ACCOUNT, chat_id=chat_id)
        response = await self.chats.GetChat(request)
        return response.chat

    async def claim(self, *outgoing_ids: str) -> list[str]:
        response = await self.replies.Claim(replies_pb.ClaimRequest(outgoing_ids=outgoing_ids))
        return [v.reason if v.verdict == replies_pb.VERDICT_DROP else "send" for v in response.verdicts]


def now_ms() -> int:
    return time.time_ns() // 1_000_000
