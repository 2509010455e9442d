"""What tests of running services share: a shop, and a bench of reply-engines.

Their modules bring whole services along, so they are imported where they are used: a unit test starts fast.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from frontdesk.kit.nats_server import NatsServer

if TYPE_CHECKING:
    from support.ai_proxy import AiBench
    from support.engine import EngineBench
    from support.shop import Shop


@pytest.fixture
async def shop(nats_server: NatsServer, tmp_path: Path) -> AsyncIterator[Shop]:
    """The whole of Frontdesk with one gateway and one engine; no task of it may crash."""
    from support.shop import Shop

    shop = Shop(nats_server, tmp_path)
    await shop.start()
    yield shop
    await shop.stop()
    assert not shop.crashes


@pytest.fixture
async def bench(nats_server: NatsServer, tmp_path: Path) -> AsyncIterator[EngineBench]:
    """One reply-engine on SQLite."""
    from support.engine import EngineBench

    bench = EngineBench(nats_server, f"sqlite:///{tmp_path}/engine.db")
    await bench.start()
    yield bench
    await bench.stop()


@pytest.fixture
async def ai(nats_server: NatsServer, tmp_path: Path) -> AsyncIterator[AiBench]:
    """One ai-proxy on SQLite, without a provider."""
    from support.ai_proxy import AiBench

    bench = AiBench(nats_server, f"sqlite:///{tmp_path}/ai.db")
    await bench.start()
    yield bench
    await bench.stop()
