"""What the services tell Prometheus of what waits, against a real nats-server and real databases."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import insert, text

from frontdesk.ai_proxy import readings as of_ai_proxy
from frontdesk.ai_proxy import topology as ai_proxy_topology
from frontdesk.ai_proxy.errors import UpstreamMisconfigured
from frontdesk.ai_proxy.spending import Spending, SpendingLimits
from frontdesk.api.events.v1.event_pb2 import SESSION_STATE_FAILED
from frontdesk.connection_gateway import readings as of_gateway
from frontdesk.fleet import SERVICES
from frontdesk.kit import subjects
from frontdesk.kit.bus import Bus, BusSettings
from frontdesk.kit.bus.topology import ensure_consumer
from frontdesk.kit.clock import SystemClock
from frontdesk.kit.database import Database, DatabaseOptions
from frontdesk.kit.errors import Unavailable
from frontdesk.kit.migrations import migrate
from frontdesk.kit.nats_server import NatsServer
from frontdesk.kit.telemetry.readings import Readings
from frontdesk.reply_engine import readings as of_engine
from frontdesk.reply_engine.tables import chats, outgoing
from frontdesk.reply_engine.topology import CONSUMERS
from support.completions import CompletionsBench, provider, says
from support.metrics import Metrics
from support.shop import Shop

UNREPORTED_MS = 60_000
ENGINE = SERVICES["reply-engine"]


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture(params=["sqlite", "postgresql"])
async def database(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Database]:
    url = f"sqlite:///{tmp_path}/engine.db"
    if request.param == "postgresql":
        url = request.getfixturevalue("postgres")
    database = Database(DatabaseOptions(url, ENGINE.schema))
    await migrate(database, ENGINE.versions)
    yield database
    await database.close()


@pytest.fixture
async def bus(nats_server: NatsServer) -> AsyncIterator[Bus]:
    bus = await Bus.connect(BusSettings(nats_server.url, publish_timeout=1))
    for spec in CONSUMERS:
        await ensure_consumer(bus.js, spec)
    yield bus
    await bus.close()


def chat(name: str, since_ms: int, reason: str) -> dict[str, object]:
    return {
        "chat_key": f"acc1/{name}",
        "organization_id": "org",
        "account_id": "acc1",
        "chat_id": name,
        "waiting_since_ms": since_ms,
        "waiting_reason": reason,
    }


def part(name: str, state: str, updated_at_ms: int) -> dict[str, object]:
    words = ("outgoing_id", "decision_id", "organization_id", "account_id", "chat_id", "chat_key", "origin")
    return {
        **dict.fromkeys(words, name),
        "part": 1,
        "answers_until_ms": 0,
        "decided_at_ms": 0,
        "state": state,
        "updated_at_ms": updated_at_ms,
    }


async def test_an_engine_tells_of_chats_and_sends(bus: Bus, database: Database, metrics: Metrics) -> None:
    """Chats with a person are counted, not those that wait for a decision; sends that are late, no others."""
    now = time.time_ns() // 1_000_000
    async with database.write() as connection:
        await connection.execute(
            insert(chats),
            [
                chat("asked", now - 90_000, "no rule"),
                chat("longer", now - 600_000, "send_failed"),
                chat("decided soon", now - 5_000, ""),
                chat("answered", 0, ""),
            ],
        )
        await connection.execute(
            insert(outgoing),
            [
                part("late", "queued", now - 2 * UNREPORTED_MS),
                part("unsure", "unconfirmed", now - 2 * UNREPORTED_MS),
                part("young", "sent", now),
                part("done", "confirmed", now - 2 * UNREPORTED_MS),
            ],
        )
    readings = Readings(15, SystemClock(), metrics.meter)
    of_engine.add_readings(readings, bus, database, SystemClock(), UNREPORTED_MS)
    await bus.publish(subjects.inbound("acc1", "c"), b"", msg_id="1")
    await readings.read()
    assert metrics.value("frontdesk_chats_waiting") == 2
    assert 600 <= (metrics.value("frontdesk_chats_waiting_age_seconds") or 0) < 630
    assert metrics.value("frontdesk_sends_unreported") == 2
    waiting = metrics.scrape()["frontdesk_consumer_waiting"]
    assert {frozenset(labels): value for labels, value in waiting.items()} == {
        frozenset(
            {("messaging_destination_name", stream), ("messaging_consumer_group_name", "reply-engine")}
        ): n
        for stream, n in (("INBOUND", 1), ("TIMERS", 0), ("EVENTS", 0))
    }


async def test_chats_that_wait_are_found_by_an_index(database: Database) -> None:
    """However many chats there are, counting those with a person reads only what waits."""
    async with database.write() as connection:
        await connection.execute(insert(chats), [chat(str(n), int(n < 3), "x") for n in range(2_000)])
    async with database.write() as connection:
        await connection.execute(text("ANALYZE"))
        how = "EXPLAIN QUERY PLAN" if database.sqlite else "EXPLAIN"
        rows = await connection.execute(text(f"{how} {of_engine.CHATS_WAIT}"))
        plan = "\n".join(str(row) for row in rows)
    assert "ix_chats_waiting" in plan


async def test_a_gateway_tells_of_streams_and_accounts(
    nats_server: NatsServer, tmp_path: Path, metrics: Metrics
) -> None:
    """All streams with their consumers, those of shards in one row, and its accounts in every state."""
    shop = Shop(nats_server, tmp_path)
    await shop.start()
    try:
        gateway = shop.gateways[0]
        readings = Readings(15, SystemClock(), metrics.meter)
        of_gateway.add_readings(readings, gateway.bus, gateway.reporter)
        await shop.open("good")
        shop.simulator.faults.set(None, {"risk_control": True})
        _, failed = await shop.open("bad")
        assert failed.session.state == SESSION_STATE_FAILED
        await gateway.bus.publish(subjects.dead("INBOUND"), b"letter")
        await readings.read()
        assert metrics.value("frontdesk_accounts", frontdesk_account_state="CONNECTED") == 1
        assert metrics.value("frontdesk_accounts", frontdesk_account_state="FAILED") == 1
        assert metrics.value("frontdesk_accounts", frontdesk_account_state="CONNECTING") == 0
        assert metrics.value("frontdesk_stream_messages", messaging_destination_name="DEAD") == 1
        assert (metrics.value("frontdesk_stream_size_bytes", messaging_destination_name="DEAD") or 0) > 6
        of_shards = {
            "messaging_destination_name": "OUTBOUND",
            "messaging_consumer_group_name": "connection-gateway-*",
        }
        assert metrics.value("frontdesk_consumer_waiting", **of_shards) == 0
        assert metrics.value("frontdesk_consumer_in_work", **of_shards) == 0
        await nats_server.stop()
        await readings.read()
        assert metrics.value("frontdesk_stream_messages", messaging_destination_name="DEAD") is None
        assert metrics.value("frontdesk_accounts", frontdesk_account_state="CONNECTED") is not None
        await nats_server.start()
    finally:
        await shop.stop()


class Deaf:
    """A NATS that takes nothing."""

    async def publish_all(self, messages: object) -> None:
        raise Unavailable("NATS is away")


async def test_an_ai_proxy_tells_of_calls_providers_and_spend(
    nats_server: NatsServer, metrics: Metrics
) -> None:
    """Calls under way, providers by their breaker, use that waits for NATS, and events not counted yet."""
    bus = await Bus.connect(BusSettings(nats_server.url, publish_timeout=1))
    await ensure_consumer(bus.js, ai_proxy_topology.SPEND)
    bench = CompletionsBench(provider("wrong"), provider("b", priority=1))
    clock = bench.clock
    spending = Spending(Deaf(), Deaf().publish_all, clock, SpendingLimits(hold_s=1))
    readings = Readings(15, SystemClock(), metrics.meter)
    of_ai_proxy.add_readings(readings, bus, bench.completions, bench.router, spending)
    bench.adapter.plays("wrong", [UpstreamMisconfigured("no such key")])
    bench.adapter.plays("b", says("one", "two"))
    stream = bench.stream()
    await anext(stream)
    await bus.publish(subjects.event("usage", "acc1"), b"", msg_id="1")
    await readings.read()
    assert metrics.value("frontdesk_ai_calls") == 1
    for state, count in (("open", 1), ("closed", 1), ("half_open", 0)):
        assert metrics.value("frontdesk_ai_providers", frontdesk_ai_breaker=state) == count
    assert metrics.value("frontdesk_ai_spend_waiting") == 0
    of_spend = {"messaging_destination_name": "EVENTS", "messaging_consumer_group_name": "ai-proxy"}
    assert metrics.value("frontdesk_consumer_waiting", **of_spend) == 1
    await stream.aclose()
    await spending.record(bench.ledger.spent[0])
    await clock.advance(bench.router.health(["id-wrong"])[0].open_for_s)
    await readings.read()
    assert metrics.value("frontdesk_ai_calls") == 0
    assert metrics.value("frontdesk_ai_spend_waiting") == 1
    assert metrics.value("frontdesk_ai_providers", frontdesk_ai_breaker="half_open") == 1
    assert metrics.value("frontdesk_ai_providers", frontdesk_ai_breaker="open") == 0
    await spending.stop(0.1)
    await bus.close()


async def test_a_database_that_is_away_is_no_figure(bus: Bus, tmp_path: Path, metrics: Metrics) -> None:
    """NATS is told of all the same."""

    class Away(Database):
        def read(self) -> object:  # type: ignore[override]
            raise Unavailable("the database is away")

    database = Away(DatabaseOptions(f"sqlite:///{tmp_path}/x.db", ENGINE.schema))
    readings = Readings(15, SystemClock(), metrics.meter)
    of_engine.add_readings(readings, bus, database, SystemClock(), UNREPORTED_MS)
    await readings.read()
    assert metrics.value("frontdesk_chats_waiting") is None
    assert metrics.scrape()["frontdesk_consumer_waiting"]
    await database.close()
