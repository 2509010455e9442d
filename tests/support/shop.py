"""The whole of Frontdesk in one process for tests: real NATS, the simulator, gateways and an engine."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from frontdesk.api.accounts.v1 import account_service_pb2 as accounts_pb
from frontdesk.api.accounts.v1.account_service_pb2_grpc import AccountServiceStub
from frontdesk.api.accounts.v1.platform_service_pb2_grpc import PlatformServiceStub
from frontdesk.api.chats.v1.order_service_pb2_grpc import OrderServiceStub
from frontdesk.api.events.v1.event_pb2 import Event, SessionState
from frontdesk.api.replies.v1 import reply_service_pb2, rule_pb2, rule_service_pb2
from frontdesk.api.replies.v1.reply_service_pb2_grpc import ReplyServiceStub
from frontdesk.api.replies.v1.rule_service_pb2_grpc import RuleServiceStub
from frontdesk.connection_gateway.accounts.session import Session
from frontdesk.connection_gateway.config import GatewaySettings
from frontdesk.connection_gateway.service import ConnectionGateway
from frontdesk.kit import subjects
from frontdesk.kit.config import load
from frontdesk.kit.nats_server import NatsServer
from frontdesk.kit.rpc.channel import NatsChannel
from frontdesk.kit.secrets import generate_key
from frontdesk.reply_engine.config import ReplyEngineSettings
from frontdesk.reply_engine.service import ReplyEngine
from frontdesk.simulators.goofish.server import GoofishSimulator, SimulatorSettings
from frontdesk.simulators.goofish.state import Seller
from support.waiting import until

ORGANIZATION = "org"


class Shop:
    """Start it, `open` accounts, let buyers `ask`, look at `answers`."""

    def __init__(self, nats: NatsServer, folder: Path, **settings: str) -> None:
        self._nats = nats
        self._settings = settings
        self._folder = folder
        self._secret = generate_key()
        self._tasks: set[asyncio.Task[None]] = set()
        self.crashes: list[BaseException] = []
        self.gateways: list[ConnectionGateway] = []
        self.engines: list[ReplyEngine] = []
        self.events: list[Event] = []
        self.simulator = GoofishSimulator(SimulatorSettings())

    async def start(self) -> None:
        """Start the simulator, one gateway and one engine."""
        await self.simulator.start()
        await self.add_engine()
        await self.add_gateway("gateway-0")
        nc = self.gateways[0].bus.nc
        await nc.subscribe(subjects.event_filter(), cb=self._heard)
        self.channel = NatsChannel(nc, shards=64, caller="test")
        self.accounts = AccountServiceStub(self.channel)
        self.platform = PlatformServiceStub(self.channel)
        self.rules = RuleServiceStub(self.channel)
        self.replies = ReplyServiceStub(self.channel)
        self.orders = OrderServiceStub(self.channel)

    async def stop(self) -> None:
        """Stop everything in order."""
        for gateway in self.gateways:
            await gateway.stop(5)
        for engine in self.engines:
            await engine.stop(3)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.simulator.stop(1)

    @property
    def only_session(self) -> Session:
        """The session of the one account that the first gateway runs."""
        (session,) = self.gateways[0].supervisor.sessions()
        return session

    def _environ(self, service: str, **settings: str) -> dict[str, str]:
        return {
            "FRONTDESK_NATS_URL": f"nats://127.0.0.1:{self._nats.port}",
            "FRONTDESK_NATS_USER": self._nats.user,
            "FRONTDESK_NATS_PASSWORD": self._nats.password,
            "FRONTDESK_DATABASE_URL": f"sqlite:///{self._folder}/{service}.db",
            "FRONTDESK_SECRET_KEYS": self._secret,
            "FRONTDESK_JWT_PUBLIC_KEYS": "not used here",
            "FRONTDESK_SWEEP_SECONDS": "1",
            "FRONTDESK_LEASE_SECONDS": "2",
            "FRONTDESK_BACKOFF_JITTER": "0",
            "FRONTDESK_AI_FRESH_MILLISECONDS": "0",
            "FRONTDESK_GOOFISH_WS_URL": self.simulator.ws_url,
            "FRONTDESK_GOOFISH_API_URL": self.simulator.http_url,
            "FRONTDESK_GOOFISH_PASSPORT_URL": self.simulator.http_url,
            "FRONTDESK_GOOFISH_UPLOAD_URL": f"{self.simulator.http_url}/api/upload.api",
            **self._settings,
            **settings,
        }

    async def add_gateway(self, name: str, **settings: str) -> ConnectionGateway:
        """One more gateway."""
        environ = self._environ("gateway", FRONTDESK_REPLICA=name, **settings)
        gateway = ConnectionGateway(load(GatewaySettings, environ), self._spawn)
        await gateway.start()
        self.gateways.append(gateway)
        return gateway

    async def add_engine(self) -> ReplyEngine:
        """One more engine."""
        engine = ReplyEngine(load(ReplyEngineSettings, self._environ("engine")), self._spawn)
        await engine.start()
        self.engines.append(engine)
        return engine

    def _spawn(self, name: str, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self.crashes.append(error)

    async def _heard(self, msg: Any) -> None:
        self.events.append(Event.FromString(msg.data))

    # What a seller does.

    async def open(
        self, name: str = "shop", *, wait: bool = True, ai: bool = False
    ) -> tuple[Seller, accounts_pb.Account]:
        """An account at the platform, connected here, that answers without delay; with `ai` the AI too."""
        seller = self.simulator.world.add_seller(nickname=name)
        created = await self.accounts.CreateAccount(
            accounts_pb.CreateAccountRequest(
                organization_id=ORGANIZATION, name=name, cookies=seller.cookies, wait=wait
            ),
            timeout=30,
        )
        settings = reply_service_pb2.ReplySettings(
            account_id=created.account.account_id,
            debounce_ms=0,
            chain=["account", "global", "ai", "default"] if ai else ["account", "global", "default"],
            ai_enabled=ai,
            takeover_minutes=10,
            replies_per_minute=60,
            time_zone="Asia/Shanghai",
        )
        await self.replies.UpdateReplySettings(
            reply_service_pb2.UpdateReplySettingsRequest(settings=settings), timeout=10
        )
        return seller, created.account

    async def rule(self, keyword: str = "price", says: str = "it is 5: {send_message}") -> None:
        """A rule for everything the organization sells."""
        rule = rule_pb2.Rule(
            organization_id=ORGANIZATION,
            name=keyword,
            keywords=[keyword],
            parts=[rule_pb2.Part(text=part) for part in says.split("|")],
            enabled=True,
        )
        await self.rules.CreateRule(rule_service_pb2.CreateRuleRequest(rule=rule), timeout=10)

    async def account(self, account_id: str) -> accounts_pb.Account:
        """The account as it is stored."""
        response = await self.accounts.GetAccount(
            accounts_pb.GetAccountRequest(account_id=account_id), timeout=5
        )
        return response.account

    async def until_state(self, account_id: str, state: SessionState.ValueType, timeout: float = 15) -> None:
        """Wait until the account's session is in a state."""
        async with asyncio.timeout(timeout):
            while (await self.account(account_id)).session.state != state:
                await asyncio.sleep(0.02)

    # What buyers do and see.

    def ask(self, seller: Seller, text: str, buyer: str = "anna") -> None:
        """A buyer says something."""
        world = self.simulator.world
        world.buyer_says(seller, world.chat(seller, buyer), text)

    def answers(self, seller: Seller, buyer: str = "anna") -> list[str]:
        """What clients of the seller said in the chat, without what was typed by hand."""
        chat = self.simulator.world.chat(seller, buyer)
        return [m.text for m in chat.messages if m.sender_id == seller.user_id and not m.hand and not m.order]

    async def answered(self, seller: Seller, count: int, buyer: str = "anna", timeout: float = 15) -> None:
        """Wait for so many answers."""
        await until(lambda: len(self.answers(seller, buyer)) >= count, timeout)

    def replies_of(self, kind: str = "reply") -> list[Event]:
        """Events of a kind so far."""
        return [event for event in self.events if event.WhichOneof("kind") == kind]
