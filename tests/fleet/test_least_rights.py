"""A fleet whose services have NATS users and PostgreSQL roles of their own, and only the rights they need."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import nats
import pytest
from sqlalchemy import make_url

from frontdesk.api.ai.v1 import ai_service_pb2 as ai_pb
from frontdesk.api.ai.v1.ai_service_pb2_grpc import AiServiceStub
from frontdesk.api.fleet.v1 import fleet_service_pb2 as pb
from frontdesk.api.fleet.v1.fleet_service_pb2_grpc import FleetServiceStub
from frontdesk.kit.rpc.channel import NatsChannel
from frontdesk.provision import provision
from support.marketplace import AI_ECHO, AI_QUESTION, AI_SAYS, ORGANIZATION
from support.metrics import parse
from support.permissions import PASSWORD, configuration
from support.processes import Fleet
from support.waiting import until_async

SERVICES = ("connection-gateway", "reply-engine", "ai-proxy")


def database_url(admin: str, service: str) -> str:
    """The same database as a role of the service's own, whose password needs quoting."""
    url = make_url(admin).set(username=f"test-{service}", password=f'it\'s "{service}" 100%')
    return url.render_as_string(hide_password=False)


@pytest.fixture
async def fleet(tmp_path: Path, postgres: str) -> AsyncIterator[Fleet]:
    databases = {service: database_url(postgres, service) for service in SERVICES}
    settings = {
        "OTEL_SDK_DISABLED": "false",
        "FRONTDESK_READINGS_SECONDS": "1",
        "FRONTDESK_AI_PRIVATE_UPSTREAMS": "true",
    }
    fleet = Fleet(tmp_path, gateways=0, engines=0, models=True, databases=databases, settings=settings)
    fleet.nats.extra_config = configuration((fleet.nats.user, fleet.nats.password))
    await fleet.start()
    environ = {
        "FRONTDESK_NATS_URL": f"nats://127.0.0.1:{fleet.nats.port}",
        "FRONTDESK_NATS_USER": "provision",
        "FRONTDESK_NATS_PASSWORD": PASSWORD.format("provision"),
        "FRONTDESK_ADMIN_DATABASE_URL": postgres,
        "FRONTDESK_CONNECTION_GATEWAY_DATABASE_URL": databases["connection-gateway"],
        "FRONTDESK_REPLY_ENGINE_DATABASE_URL": databases["reply-engine"],
        "FRONTDESK_AI_PROXY_DATABASE_URL": databases["ai-proxy"],
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
    """Services that may make neither streams nor schemas start, answer by rule and by AI, hand over, count
    what models used, and refuse nobody."""
    await fleet.add_accounts(2, debounce_ms=200, ai=True)
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
    await fleet.answer_by_ai(fleet.models_url)
    async with fleet.http.put(f"{fleet.models_url}/control/script", json={"behaviours": [AI_ECHO]}):
        pass
    load = await fleet.load(messages=10, text=AI_QUESTION)
    verdict = await fleet.until_answered(load, 30, AI_SAYS)
    assert (verdict["saying"], verdict["waiting"]) == (10, 0)
    await _chat(fleet)
    nc = await nats.connect(fleet.nats.url)
    channel = NatsChannel(nc, shards=64, caller="test")
    assert (await _counted(fleet, channel)).failed == 0
    picture = await FleetServiceStub(channel).GetFleet(pb.GetFleetRequest(), timeout=5)
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


async def _chat(fleet: Fleet) -> None:
    """A person asks the model at the gateway."""
    url = f"http://127.0.0.1:{fleet.http_port('connection-gateway-0')}/chat"
    headers = {"Authorization": f"Bearer {fleet.token(ORGANIZATION)}"}
    async with fleet.http.ws_connect(url, headers=headers, protocols=["frontdesk.v1"]) as socket:
        await socket.send_json({"type": "ask", "text": "and #0?"})
        frames = [await socket.receive_json(timeout=10)]
        while frames[-1]["type"] not in ("done", "error"):
            frames.append(await socket.receive_json(timeout=10))
    assert frames[-1]["type"] == "done", frames[-1]


async def _counted(fleet: Fleet, channel: NatsChannel) -> ai_pb.UsageSum:
    """What calls of models used, as soon as those that the model got are counted."""
    async with fleet.http.get(f"{fleet.models_url}/control/log") as response:
        made = (await response.json())["total"]
    request = ai_pb.GetUsageRequest(organization_id=ORGANIZATION)
    found = ai_pb.GetUsageResponse()

    async def counted() -> bool:
        found.CopyFrom(await AiServiceStub(channel).GetUsage(request, timeout=5))
        return any(one.calls >= made for one in found.sums)

    await until_async(counted)
    (only,) = found.sums
    assert only.calls == made
    return only
