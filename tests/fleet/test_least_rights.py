"""A fleet whose services have NATS users and PostgreSQL roles of their own, and only the rights they need."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import nats
import pytest
from sqlalchemy import make_url

from frontdesk.api.fleet.v1 import fleet_service_pb2 as pb
from frontdesk.api.fleet.v1.fleet_service_pb2_grpc import FleetServiceStub
from frontdesk.kit.rpc.channel import NatsChannel
from frontdesk.provision import provision
from support.metrics import parse
from support.permissions import PASSWORD, configuration
from support.processes import Fleet

SERVICES = ("connection-gateway", "reply-engine")


def database_url(admin: str, service: str) -> str:
    """The same database as a role of the service's own, whose password needs quoting."""
    url = make_url(admin).set(username=f"test-{service}", password=f'it\'s "{service}" 100%')
    return url.render_as_string(hide_password=False)


@pytest.fixture
async def fleet(tmp_path: Path, postgres: str) -> AsyncIterator[Fleet]:
    databases = {service: database_url(postgres, service) for service in SERVICES}
    settings = {"OTEL_SDK_DISABLED": "false", "FRONTDESK_READINGS_SECONDS": "1"}
    fleet = Fleet(tmp_path, gateways=0, engines=0, databases=databases, settings=settings)
    fleet.nats.extra_config = configuration((fleet.nats.user, fleet.nats.password))
    await fleet.start()
    environ = {
        "FRONTDESK_NATS_URL": f"nats://127.0.0.1:{fleet.nats.port}",
        "FRONTDESK_NATS_USER": "provision",
        "FRONTDESK_NATS_PASSWORD": PASSWORD.format("provision"),
        "FRONTDESK_ADMIN_DATABASE_URL": postgres,
        "FRONTDESK_CONNECTION_GATEWAY_DATABASE_URL": databases["connection-gateway"],
        "FRONTDESK_REPLY_ENGINE_DATABASE_URL": databases["reply-engine"],
        "FRONTDESK_PROVISION_SECONDS": "20",
    }
    await provision(environ, print)
    for service in SERVICES:
        user = {"FRONTDESK_NATS_USER": service, "FRONTDESK_NATS_PASSWORD": PASSWORD.format(service)}
        await fleet.add(service, f"{service}-0", **user)
    for service in SERVICES:
        await fleet.until_ready(f"{service}-0")
    yield fleet
    await fleet.stop()


async def test_a_buyer_is_answered_under_least_rights(fleet: Fleet) -> None:
    """Services that may make neither streams nor schemas start, answer, hand over and refuse nobody."""
    await fleet.add_accounts(2, debounce_ms=200)
    await fleet.add_rule("available", "yes: {send_message}")
    load = await fleet.load(messages=10, text="is #{n} available")
    verdict = await fleet.until_answered(load, 30)
    assert (verdict["answered"], verdict["waiting"]) == (10, 0)
    await fleet.add(
        "connection-gateway",
        "connection-gateway-1",
        FRONTDESK_NATS_USER="connection-gateway",
        FRONTDESK_NATS_PASSWORD=PASSWORD.format("connection-gateway"),
    )
    await fleet.until_ready("connection-gateway-1")
    load = await fleet.load(messages=10, text="is #{n} available")
    verdict = await fleet.until_answered(load, 30)
    assert (verdict["answered"], verdict["waiting"]) == (10, 0)
    nc = await nats.connect(fleet.nats.url)
    picture = await FleetServiceStub(NatsChannel(nc, shards=64, caller="test")).GetFleet(
        pb.GetFleetRequest(), timeout=5
    )
    assert [one.presence for one in picture.replicas] == [pb.PRESENCE_LIVE, pb.PRESENCE_LIVE]
    assert not any(stream.problem for stream in picture.streams)
    await nc.close()
    for service in SERVICES:
        port = fleet.programs[f"{service}-0"].environ["FRONTDESK_METRICS_PORT"]
        async with fleet.http.get(f"http://127.0.0.1:{port}/metrics") as response:
            told = parse(await response.text())
        assert told["frontdesk_consumer_waiting"]
        assert max(told["frontdesk_reading_age_seconds"].values()) < 10
    log = (fleet.folder / "nats" / "nats.log").read_text()
    assert [line for line in log.splitlines() if "Violation" in line] == []
