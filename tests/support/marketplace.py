"""The simulated marketplace as a test steers it, and what a seller sets up there and here.

Used by fleets of processes on loopback and by clusters: whoever inherits says where the simulator's control
API and the services are.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

import aiohttp

from frontdesk.api.accounts.v1 import account_service_pb2 as accounts_pb
from frontdesk.api.accounts.v1.account_service_pb2_grpc import AccountServiceStub
from frontdesk.api.ai.v1 import provider_service_pb2 as providers_pb
from frontdesk.api.ai.v1.provider_service_pb2_grpc import ProviderServiceStub
from frontdesk.api.replies.v1 import reply_service_pb2, rule_pb2, rule_service_pb2
from frontdesk.api.replies.v1.reply_service_pb2_grpc import ReplyServiceStub
from frontdesk.api.replies.v1.rule_service_pb2_grpc import RuleServiceStub

ORGANIZATION = "bench"
CHAIN = ("account", "global", "ai", "default")
# No rule of the tests answers it, and no number of days is a price, which an answer may not name.
AI_QUESTION = "will it be here within #{n} days"
# What the models simulator says, so that a load sees which question it is for; as fast as a quick model.
AI_SAYS = "AI:"
AI_ECHO = {
    "text": f'{{"text": "{AI_SAYS} {{echo}}", "confidence": 0.9}}',
    "echo": r"#\d+ days",
    "first_ms": 200,
}
DEFAULT_REPLY = "one moment: {send_message}"


class Marketplace:
    """Needs `http`, `control_url` and a `channel` to the services; the rest follows from them."""

    http: aiohttp.ClientSession
    control_url: str
    control_token: str = ""
    channel: Any

    async def control(self, path: str, body: object | None = None, method: str = "") -> Any:
        """Call the simulator's control API."""
        method = method or ("GET" if body is None else "POST")
        headers = {"Authorization": f"Bearer {self.control_token}"} if self.control_token else {}
        url = f"{self.control_url}/{path}"
        async with self.http.request(method, url, json=body, headers=headers) as response:
            answer = await response.json()
            if response.status >= 300:
                raise RuntimeError(f"{method} {path}: {response.status} {answer}")
            return answer

    # What a seller sets up.

    async def add_accounts(
        self, count: int, *, connect: bool = True, debounce_ms: int | None = 0, ai: bool = False
    ) -> list[str]:
        """Make accounts at the platform and in the gateway; returns their ids at the platform.

        `debounce_ms` None leaves their reply settings alone (no engine runs); `ai` turns their AI step on.
        """
        made = (await self.control("accounts", {"count": count, "prefix": "shop"}))["accounts"]
        stub, replies = AccountServiceStub(self.channel), ReplyServiceStub(self.channel)
        room = asyncio.Semaphore(64)

        async def add(account: dict[str, str]) -> None:
            async with room:
                created = await stub.CreateAccount(
                    accounts_pb.CreateAccountRequest(
                        organization_id=ORGANIZATION,
                        name=account["nickname"],
                        cookies=account["cookies"],
                    ),
                    timeout=30,
                )
                if debounce_ms is not None:
                    settings = reply_service_pb2.ReplySettings(
                        account_id=created.account.account_id,
                        debounce_ms=debounce_ms,
                        chain=CHAIN,
                        ai_enabled=ai,
                        takeover_minutes=10,
                        replies_per_minute=60,
                        time_zone="Asia/Shanghai",
                    )
                    await replies.UpdateReplySettings(
                        reply_service_pb2.UpdateReplySettingsRequest(settings=settings), timeout=30
                    )

        await asyncio.gather(*(add(account) for account in made))
        if connect:
            await self.until_connected(count)
        return [account["user_id"] for account in made]

    async def until_connected(self, count: int, seconds: float = 120.0) -> float:
        """Wait until so many accounts are connected; seconds that it took."""
        begun = time.monotonic()
        while (await self.control("status"))["connected"] < count:
            if time.monotonic() - begun > seconds:
                raise RuntimeError(f"not {count} accounts connected: {await self.control('status')}")
            await asyncio.sleep(0.05)
        return time.monotonic() - begun

    async def add_rule(self, keyword: str, text: str) -> None:
        """A keyword rule of the organization."""
        rule = rule_pb2.Rule(
            organization_id=ORGANIZATION,
            name=keyword,
            keywords=[keyword],
            parts=[rule_pb2.Part(text=text)],
            enabled=True,
        )
        await RuleServiceStub(self.channel).CreateRule(
            rule_service_pb2.CreateRuleRequest(rule=rule), timeout=30
        )

    async def answer_by_ai(self, url: str) -> None:
        """A model at `url`, the simulator, for what no rule answers; a default reply for what it doesn't."""
        model = providers_pb.Model(name="default", upstream_name="sim")
        provider = providers_pb.Provider(
            organization_id=ORGANIZATION,
            name="simulated",
            kind=providers_pb.PROVIDER_KIND_OPENAI,
            base_url=f"{url}/v1",
            api_key="sk-simulated",
            models=[model],
        )
        await ProviderServiceStub(self.channel).CreateProvider(
            providers_pb.CreateProviderRequest(provider=provider), timeout=30
        )
        await self.add_default(DEFAULT_REPLY)

    async def add_default(self, text: str) -> None:
        """What the organization says where nothing else answers."""
        reply = rule_pb2.DefaultReply(
            organization_id=ORGANIZATION,
            scope=rule_pb2.SCOPE_GLOBAL,
            parts=[rule_pb2.Part(text=text)],
            enabled=True,
        )
        await RuleServiceStub(self.channel).SetDefaultReply(
            rule_service_pb2.SetDefaultReplyRequest(default_reply=reply), timeout=30
        )

    async def load(self, **wanted: object) -> str:
        """Begin a load; returns its id."""
        return str((await self.control("load", wanted))["load_id"])

    async def until_sent(self, load: str, seconds: float = 300.0) -> None:
        """Wait until the buyers have said all they had to say."""
        async with asyncio.timeout(seconds):
            while not (await self.control(f"loads/{load}"))["done"]:
                await asyncio.sleep(0.1)

    async def until_answered(self, load: str, seconds: float, words: str = "") -> dict[str, Any]:
        """The verdict, once nothing waits any more or the time is up; `saying` counts answers by `words`."""
        end = time.monotonic() + seconds
        while True:
            verdict: dict[str, Any] = await self.control(f"verdict?load={load}&words={words}")
            if not verdict["waiting"] or time.monotonic() > end:
                return verdict
            await asyncio.sleep(0.1)
