"""A release of the chart under test: installed from nothing, with the simulated marketplace."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, cast

import aiohttp
import grpc.aio

from cluster import models
from cluster.kube import ROOT, Kube
from frontdesk.cli.client import Target
from frontdesk.kit.tokens import Role, mint
from support.marketplace import ORGANIZATION, Marketplace

CHART = ROOT / "charts" / "frontdesk"
VALUES = Path(__file__).resolve().parent / "values.yaml"
NAME = "fd"
GATEWAY = "connection-gateway"
ENGINE = "reply-engine"
AI = "ai-proxy"
# Which service answers the calls of which packages.
PACKAGES = {
    "/frontdesk.api.accounts.": GATEWAY,
    "/frontdesk.api.fleet.": GATEWAY,
    "/frontdesk.api.replies.": ENGINE,
    "/frontdesk.api.chats.": ENGINE,
    "/frontdesk.api.ai.": AI,
}


class Doors:
    """A channel to all services: each call goes where its service is."""

    def __init__(self, channels: Mapping[str, grpc.aio.Channel]) -> None:
        self._channels = channels

    def unary_unary(self, method: str, *words: Any, **options: Any) -> Any:
        """The call of a generated stub."""
        service = next(name for prefix, name in PACKAGES.items() if method.startswith(prefix))
        return self._channels[service].unary_unary(method, *words, **options)

    def __getattr__(self, kind: str) -> Any:
        """What stubs make of methods that stream, which nobody calls here."""
        return getattr(next(iter(self._channels.values())), kind)


class Release(Marketplace):
    """The fleet in a namespace; enter it to have it installed, leave it to have it gone."""

    def __init__(
        self, namespace: str, image: str, *, keep: bool = False, values: list[str] | None = None
    ) -> None:
        self.kube = Kube(namespace)
        self.image = image
        self._first_tag = image.rpartition(":")[2]
        self._keep = keep
        self._values = values or []
        self._stack = AsyncExitStack()
        self.installed_s = 0.0

    def name(self, component: str) -> str:
        """The name of a component's objects."""
        return f"{NAME}-frontdesk-{component}"

    async def __aenter__(self) -> Release:
        await self.kube("create", "namespace", self.kube.namespace)
        if not self._keep:
            self._stack.push_async_callback(self._remove)
        try:
            begun = time.monotonic()
            await self.upgrade("--install", "--wait", "--wait-for-jobs", "--timeout", "5m")
            self.installed_s = time.monotonic() - begun
            await self._connect()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def upgrade(self, *words: str) -> None:
        """helm upgrade with the values of the tests, and more."""
        repository, _, tag = self.image.rpartition(":")
        given = [word for values in (str(VALUES), *self._values) for word in ("--values", values)]
        tags = f"image.repository={repository},image.tag={tag},simulator.tag={self._first_tag}"
        await self.kube.helm("upgrade", NAME, str(CHART), *given, "--set", tags, *words)

    async def _remove(self) -> None:
        await self.kube("delete", "namespace", self.kube.namespace, "--wait=true", seconds=180)

    async def _connect(self) -> None:
        """Open ways to the simulator and to the doors."""
        enter = self._stack.enter_async_context
        simulator = await enter(self.kube.forward(f"service/{self.name('simulator')}", 8080))
        self.http = await enter(aiohttp.ClientSession())
        self.control_url = f"http://127.0.0.1:{simulator}/control"
        secret = await self.kube.secret(self.name("simulator"))
        self.control_token = secret["control-token"]

    async def token(self, role: Role = Role.owner, organization_id: str = ORGANIZATION) -> str:
        """A token that the doors take."""
        key = (await self.kube.secret(self.name("jwt")))["jwt-private.pem"]
        return mint(key, subject="test", organization_id=organization_id, role=role, ttl_s=3600)

    @asynccontextmanager
    async def doors(
        self, organization_id: str = ORGANIZATION, services: Iterable[str] = (GATEWAY, ENGINE, AI)
    ) -> AsyncIterator[grpc.aio.Channel]:
        """The gRPC doors of services that are awake, for an owner of the organization."""
        async with AsyncExitStack() as stack:
            token = await self.token(organization_id=organization_id)
            channels = {}
            for component in services:
                forward = self.kube.forward(f"service/{self.name(component)}", 50051)
                port = await stack.enter_async_context(forward)
                channel = Target(address=f"127.0.0.1:{port}", token=token).channel()
                channels[component] = await stack.enter_async_context(channel)
            yield cast("grpc.aio.Channel", Doors(channels))

    async def set_up(self, accounts: int) -> None:
        """Accounts, a rule that answers their buyers, and a model for what the rule does not."""
        self.models = await self._stack.enter_async_context(models.deployed(self.kube, self.image, self.http))
        async with self.doors() as self.channel:
            await self.add_accounts(accounts, ai=True)
            await self.add_rule("available", "yes: {send_message}")
            await self.answer_by_ai(models.URL)

    async def pods(self, component: str) -> list[dict[str, Any]]:
        """The pods of a component, by name."""
        selector = f"app.kubernetes.io/instance={NAME},app.kubernetes.io/component={component}"
        pods = await self.kube.get("pods", selector)
        return sorted(pods, key=lambda pod: str(pod["metadata"]["name"]))

    async def until_ready(self, component: str, count: int, seconds: float = 180.0) -> None:
        """Wait until so many pods of a component, and no others, are there and ready."""
        async with asyncio.timeout(seconds):
            while True:
                pods = await self.pods(component)
                if len(pods) == count and all(_ready(pod) for pod in pods):
                    return
                await asyncio.sleep(0.5)

    async def events(self) -> str:
        """What the cluster says of the namespace, for a failure's log."""
        listed = await self.kube("get", "pods,events", "-o", "wide")
        logs = []
        for component in (GATEWAY, ENGINE, AI, "provision"):
            selector = f"app.kubernetes.io/component={component}"
            logs.append(await self.kube("logs", "-l", selector, "--tail=40", "--prefix", "--all-containers"))
        return "\n".join([listed, *logs])


def _ready(pod: dict[str, Any]) -> bool:
    if "deletionTimestamp" in pod["metadata"]:
        return False
    conditions = pod["status"].get("conditions", [])
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


def line(**figures: object) -> None:
    """Print the figures of a step as one line of JSON."""
    print(json.dumps(figures), flush=True)
