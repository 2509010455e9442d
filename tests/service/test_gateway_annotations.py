"""The annotations of a gateway's own pod, against a server that behaves as the API server does."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from frontdesk.connection_gateway.config import GatewaySettings
from frontdesk.connection_gateway.fleet.address import PodAddress
from frontdesk.connection_gateway.fleet.annotate import DELETION_COST, EVERY_S, MOST_WAIT_S, SHARDS, Annotator
from frontdesk.kit.clock import ManualClock
from frontdesk.kit.config import ConfigError, load
from frontdesk.kit.errors import Unavailable
from frontdesk.kit.nats_server import NatsServer
from support.kubernetes_api import KubernetesApi
from support.shop import Shop
from support.waiting import until

NAMESPACE, POD = "shops", "frontdesk-gateway-0"
LEAST = {
    "FRONTDESK_NATS_URL": "nats://127.0.0.1:4222",
    "FRONTDESK_DATABASE_URL": "sqlite:///x.db",
    "FRONTDESK_SECRET_KEYS": "x",
    "FRONTDESK_JWT_PUBLIC_KEYS": "x",
}


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[KubernetesApi]:
    async with KubernetesApi(tmp_path).running() as api:
        api.add(NAMESPACE, POD)
        yield api


class Replica:
    """An annotator with figures to change and a clock to turn."""

    def __init__(self, api: KubernetesApi, pod: str = POD) -> None:
        self.api = api
        self.clock = ManualClock()
        self.held = (0, 0)
        address = PodAddress("127.0.0.1", api.port, NAMESPACE, pod, api.account())
        self.annotator = Annotator(address, lambda: self.held, self.clock)

    def told(self) -> tuple[str | None, str | None]:
        annotations = self.api.annotations(NAMESPACE, POD)
        return annotations.get(DELETION_COST), annotations.get(SHARDS)

    async def round(self, seconds: float) -> None:
        """Let the loop come to rest, then turn the clock on."""
        await until(lambda: self.clock.sleepers == 1)
        await self.clock.advance(seconds)
        await until(lambda: self.clock.sleepers == 1)


async def test_only_what_is_different_is_written(api: KubernetesApi) -> None:
    """The first figures are written, then only other ones; annotations of others stay."""
    replica = Replica(api)
    assert await replica.annotator.tell()
    assert replica.told() == ("0", "0")
    assert not await replica.annotator.tell()
    replica.held = (60, 21)
    assert await replica.annotator.tell()
    assert replica.told() == ("60", "21")
    assert api.annotations(NAMESPACE, POD)["kept"] == "1"
    assert api.requests["PATCH"] == 2


async def test_at_most_every_ten_seconds(api: KubernetesApi) -> None:
    """However often the figures change, the API server hears of them every ten seconds."""
    replica = Replica(api)
    running = asyncio.create_task(replica.annotator.run())
    for second in range(30):
        replica.held = (second, second)
        await replica.round(1.0)
    assert api.requests["PATCH"] == 1 + 30 / EVERY_S
    running.cancel()


async def test_what_goes_wrong_is_told_once_and_tried_again(
    api: KubernetesApi, caplog: pytest.LogCaptureFixture
) -> None:
    """Refusals end nothing and warn once each kind; the waits grow; the first success says so."""
    caplog.set_level(logging.INFO)
    replica = Replica(api)
    replica.held = (3, 2)
    api.answers = [500, 500, 500, 403]
    running = asyncio.create_task(replica.annotator.run())
    for _ in range(5):
        await replica.round(MOST_WAIT_S)
    assert replica.told() == ("3", "2")
    assert not running.done()
    warnings = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    assert [("answered 500" in text, "answered 403" in text) for text in warnings] == [
        (True, False),
        (False, True),
    ]
    assert "annotated again" in caplog.text
    running.cancel()


async def test_the_token_is_rotated(api: KubernetesApi) -> None:
    """A new token in the folder is used at once; an old one is refused, and it is never in the message."""
    replica = Replica(api)
    await replica.annotator.tell()
    replica.held = (1, 1)
    api.token = "token-2"
    with pytest.raises(Unavailable, match="401") as refused:
        await replica.annotator.tell()
    assert "token-1" not in str(refused.value)
    api.account()
    assert await replica.annotator.tell()
    assert replica.told() == ("1", "1")


async def test_only_the_clusters_own_authority_counts(api: KubernetesApi, tmp_path: Path) -> None:
    """A server whose certificate another authority signed gets no token."""
    other = tmp_path / "other"
    other.mkdir()
    stranger = KubernetesApi(other)
    replica = Replica(api)
    (api.account() / "ca.crt").write_bytes(stranger.certificate.read_bytes())
    with pytest.raises(Unavailable, match="CERTIFICATE_VERIFY_FAILED"):
        await replica.annotator.tell()
    assert not api.requests


async def test_other_problems_have_names(api: KubernetesApi, tmp_path: Path) -> None:
    """A pod that is not there, a folder without a token, a server that is away: each is Unavailable."""
    with pytest.raises(Unavailable, match="404"):
        await Replica(api, "gone").annotator.tell()
    bare = PodAddress("127.0.0.1", api.port, NAMESPACE, POD, tmp_path / "nothing")
    with pytest.raises(Unavailable, match="no ServiceAccount"):
        await Annotator(bare, lambda: (0, 0), ManualClock()).tell()
    away = PodAddress("127.0.0.1", 1, NAMESPACE, POD, api.account())
    with pytest.raises(Unavailable, match="can't be asked"):
        await Annotator(away, lambda: (0, 0), ManualClock()).tell()


async def test_a_gateway_annotates_its_pod(
    api: KubernetesApi, nats_server: NatsServer, tmp_path: Path
) -> None:
    """With the settings of a pod a gateway shows what it holds; a pod that is gone costs it nothing."""
    shop = Shop(
        nats_server,
        tmp_path,
        FRONTDESK_KUBERNETES_ANNOTATE="true",
        FRONTDESK_POD_NAME=POD,
        FRONTDESK_POD_NAMESPACE=NAMESPACE,
        FRONTDESK_KUBERNETES_CREDENTIALS=str(api.account()),
        KUBERNETES_SERVICE_HOST="127.0.0.1",
        KUBERNETES_SERVICE_PORT=str(api.port),
    )
    await shop.start()
    await until(lambda: SHARDS in api.annotations(NAMESPACE, POD))
    await shop.open()
    assert shop.gateways[0].reporter.held() == (1, 64)
    await until(lambda: api.annotations(NAMESPACE, POD)[DELETION_COST] == "1", timeout=EVERY_S + 5)
    assert api.annotations(NAMESPACE, POD)[SHARDS] == "64"
    await shop.stop()
    assert not shop.crashes


def test_settings_name_what_is_missing() -> None:
    """Annotating without knowing the pod is refused with the keys; without annotating none is needed."""
    assert load(GatewaySettings, LEAST).pod() is None
    with pytest.raises(ConfigError) as refused:
        load(GatewaySettings, {**LEAST, "FRONTDESK_KUBERNETES_ANNOTATE": "true", "FRONTDESK_POD_NAME": "p"})
    problem = refused.value.problems["FRONTDESK_KUBERNETES_ANNOTATE"]
    assert "FRONTDESK_POD_NAMESPACE" in problem
    assert "KUBERNETES_SERVICE_HOST" in problem
    whole = {
        **LEAST,
        "FRONTDESK_KUBERNETES_ANNOTATE": "true",
        "FRONTDESK_POD_NAME": "p",
        "FRONTDESK_POD_NAMESPACE": "n",
        "KUBERNETES_SERVICE_HOST": "fd00::1",
    }
    pod = load(GatewaySettings, whole).pod()
    assert pod is not None
    assert pod.url == "https://[fd00::1]:443/api/v1/namespaces/n/pods/p"
