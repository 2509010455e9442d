"""Fixtures for every test: a real nats-server, and a guard against a blocked event loop."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import nats
import pytest
from hypothesis import HealthCheck, settings
from nats.aio.client import Client

from frontdesk.kit.disconnect import disconnect
from frontdesk.kit.nats_server import NatsServer

# A loaded machine is slow at drawing and at trying examples, which is no fault of what is tried.
settings.register_profile("frontdesk", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("frontdesk")

pytest_plugins = ["support.fixtures", "support.postgres"]


@pytest.fixture
async def nats_server(tmp_path: Path) -> AsyncIterator[NatsServer]:
    """A nats-server of this test alone, on a free port."""
    server = NatsServer(store=tmp_path / "nats")
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def nc(nats_server: NatsServer) -> AsyncIterator[Client]:
    """A connected client of `nats_server`."""
    client = await nats.connect(nats_server.url)
    yield client
    await disconnect(client)
