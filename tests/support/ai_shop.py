"""The whole of Frontdesk in one process for tests, with an ai-proxy and models."""

from __future__ import annotations

from pathlib import Path

from frontdesk.ai_proxy.config import AiProxySettings
from frontdesk.ai_proxy.service import AiProxy
from frontdesk.api.replies.v1 import rule_pb2, rule_service_pb2
from frontdesk.kit.config import load
from frontdesk.kit.nats_server import NatsServer
from frontdesk.simulators.models.server import ModelsServer
from support.shop import ORGANIZATION, Shop


class AiShop(Shop):
    """A shop whose accounts may be opened with `ai`; `models` are there for providers to be."""

    def __init__(self, nats: NatsServer, folder: Path, **settings: str) -> None:
        super().__init__(nats, folder, **settings)
        self.models = ModelsServer()
        own = {"FRONTDESK_AI_PRIVATE_UPSTREAMS": "true", "FRONTDESK_AI_FRESH_MILLISECONDS": "0"}
        self.ai_proxy = AiProxy(load(AiProxySettings, self._environ("ai", **own)), self._spawn)

    async def start(self) -> None:
        """Start everything; ai-proxy first, as questions may come with the accounts."""
        await self.models.start()
        await self.ai_proxy.start()
        await super().start()

    async def stop(self) -> None:
        """Stop everything in order."""
        await self.ai_proxy.stop(3)
        await super().stop()
        await self.models.stop(1)

    async def default_reply(self, says: str) -> None:
        """What is said where nothing else answers."""
        reply = rule_pb2.DefaultReply(
            organization_id=ORGANIZATION,
            scope=rule_pb2.SCOPE_GLOBAL,
            enabled=True,
            parts=[rule_pb2.Part(text=says)],
        )
        request = rule_service_pb2.SetDefaultReplyRequest(default_reply=reply)
        await self.rules.SetDefaultReply(request, timeout=10)
