"""The fleet as two gateways see it: replicas, shards, sessions, lag, and the cordon, with real neighbours."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import grpc
import grpc.aio
import pytest
from nats.aio.msg import Msg

from frontdesk.api.accounts.v1 import account_service_pb2 as accounts_pb
from frontdesk.api.events.v1 import event_pb2
from frontdesk.api.fleet.v1 import fleet_service_pb2 as pb
from frontdesk.api.fleet.v1.fleet_service_pb2_grpc import FleetServiceStub
from frontdesk.connection_gateway.service import ConnectionGateway
from frontdesk.kit import subjects
from frontdesk.kit.clock import SystemClock
from frontdesk.kit.nats_server import NatsServer
from frontdesk.kit.principal import Principal, current_principal
from frontdesk.kit.rpc.grpc_door import GrpcServer
from frontdesk.kit.shards.rendezvous import order
from frontdesk.kit.tokens import JwtAuthenticator, Role, StaticKeys, Verifier, generate_key_pair, mint
from frontdesk.simulators.goofish.state import Seller
from support.shop import ORGANIZATION, Shop
from support.waiting import until, until_async

OPERATOR = "ops"
SHARDS = 64
SERVICE = "frontdesk.api.fleet.v1.FleetService"


@pytest.fixture
async def shop(nats_server: NatsServer, tmp_path: Path) -> AsyncIterator[Shop]:
    """A shop with two gateways."""
    shop = Shop(nats_server, tmp_path, FRONTDESK_OPERATOR_ORGANIZATION=OPERATOR, FRONTDESK_LEASE_SECONDS="4")
    await shop.start()
    await shop.add_gateway("gateway-1")
    yield shop
    await shop.stop()
    assert not shop.crashes


@pytest.fixture
def fleet(shop: Shop) -> FleetServiceStub:
    return FleetServiceStub(shop.channel)


async def picture(fleet: FleetServiceStub) -> pb.GetFleetResponse:
    response: pb.GetFleetResponse = await fleet.GetFleet(pb.GetFleetRequest(), timeout=5)
    return response


async def settled(fleet: FleetServiceStub, *names: str) -> pb.GetFleetResponse:
    """The fleet when each of these replicas holds what is proposed to it, and nobody else a shard."""
    wanted = {
        name: [shard for shard in range(SHARDS) if order(shard, frozenset(names))[0] == name]
        for name in names
    }

    async def shared() -> bool:
        now = await picture(fleet)
        return wanted == {
            one.replica: [held.shard for held in one.shards] for one in now.replicas if one.shards
        }

    await until_async(shared, timeout=20)
    return await picture(fleet)


def by_name(response: pb.GetFleetResponse) -> dict[str, pb.Replica]:
    return {one.replica: one for one in response.replicas}


@contextmanager
def caller(organization: str, role: str, kind: str = "user") -> Iterator[None]:
    """Calls are made for somebody."""
    token = current_principal.set(Principal("somebody", organization, role, kind))
    try:
        yield
    finally:
        current_principal.reset(token)


def all_answered(shop: Shop, seller: Seller, questions: int) -> bool:
    return " ".join(shop.answers(seller)).count("#") >= questions


async def code_of(call: object) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call  # type: ignore[misc]
    return caught.value.code(), caught.value.details() or ""


async def test_the_picture_is_whole(shop: Shop, fleet: FleetServiceStub) -> None:
    """Any replica tells of all: shards with epochs, sessions by state, streams with their lag, DEAD."""
    await settled(fleet, "gateway-0", "gateway-1")
    sellers = [await shop.open(f"shop-{n}") for n in range(6)]
    stopped = sellers[0][1].account_id
    await shop.accounts.StopAccount(accounts_pb.StopAccountRequest(account_id=stopped), timeout=10)
    await shop.gateways[0].bus.publish(subjects.dead("INBOUND"), b"nobody could handle this")

    async def connected() -> bool:
        counts: dict[int, int] = {}
        for one in (await picture(fleet)).replicas:
            for row in one.sessions:
                counts[row.state] = counts.get(row.state, 0) + row.count
        return counts == {event_pb2.SESSION_STATE_CONNECTED: 5, event_pb2.SESSION_STATE_CLOSED: 1}

    await until_async(connected, timeout=20)
    now = await picture(fleet)
    replicas = by_name(now)
    assert {one.presence for one in now.replicas} == {pb.PRESENCE_LIVE}
    assert sum(one.accounts for one in now.replicas) == 6
    assert not any(one.not_ready or one.cordoned for one in now.replicas)
    for gateway in shop.gateways:
        shards = gateway.shards
        row = replicas[gateway.reporter.replica]
        assert {held.shard: held.epoch for held in row.shards} == {n: shards.epoch(n) for n in shards.owned}
        assert 0 < now.at_ms - row.since_ms < 120_000
    assert (now.shards, list(now.free_shards), now.dead) == (SHARDS, [], 1)
    streams = {one.stream: one for one in now.streams}
    assert set(streams) == set(subjects.WILDCARDS)
    assert not any(one.problem for one in now.streams)
    assert [one.consumer for one in streams["INBOUND"].consumers] == ["reply-engine"]
    outbound = streams["OUTBOUND"].consumers
    assert [(one.consumer, one.consumers) for one in outbound] == [("connection-gateway-*", SHARDS)]
    # Ids and counts only: nothing of an organization is in it.
    told = str(now)
    assert not any(word in told for word in (ORGANIZATION, "shop-", sellers[1][1].account_id, "price"))


async def test_lag_shows_what_waits(shop: Shop, fleet: FleetServiceStub) -> None:
    """With the engine gone what buyers say is pending at its consumer."""
    await settled(fleet, "gateway-0", "gateway-1")
    seller, _ = await shop.open()
    await shop.engines.pop().stop(3)
    for n in range(3):
        shop.ask(seller, f"price #{n}")

    async def waits() -> bool:
        streams = {one.stream: one for one in (await picture(fleet)).streams}
        (row,) = streams["INBOUND"].consumers
        return row.pending + row.ack_pending == 3 == streams["INBOUND"].messages

    await until_async(waits)


async def test_a_cordon_drains_a_replica_under_load(shop: Shop, fleet: FleetServiceStub) -> None:
    """The cordoned replica hands all over, buyers are answered once; uncordoned it takes its share back."""
    await settled(fleet, "gateway-0", "gateway-1")
    sellers = [(await shop.open(f"shop-{n}"))[0] for n in range(8)]
    await shop.rule()
    assert (await fleet.Cordon(pb.CordonRequest(replica="gateway-1"), timeout=5)).cordoned == ["gateway-1"]
    for n in range(4):
        for seller in sellers:
            shop.ask(seller, f"price #{n}")
        await asyncio.sleep(0.3)
    empty = by_name(await settled(fleet, "gateway-0"))["gateway-1"]
    assert (empty.cordoned, empty.presence, empty.accounts) == (True, pb.PRESENCE_LIVE, 0)
    for seller in sellers:
        await until(partial(all_answered, shop, seller, 4), timeout=20)
    again = await fleet.Cordon(pb.CordonRequest(replica="gateway-1"), timeout=5)
    assert again.cordoned == ["gateway-1"]
    assert (await fleet.Uncordon(pb.UncordonRequest(replica="gateway-1"), timeout=5)).cordoned == []
    await settled(fleet, "gateway-0", "gateway-1")
    for seller in sellers:
        questions = " ".join(shop.answers(seller))
        assert [questions.count(f"#{n}") for n in range(4)] == [1, 1, 1, 1]


async def test_who_is_refused_and_why(shop: Shop, fleet: FleetServiceStub) -> None:
    """Bad names, strangers, the last free replica: each has its status, and nothing is changed."""
    await settled(fleet, "gateway-0", "gateway-1")
    for name in ("", "x" * 129):
        code, text = await code_of(fleet.Cordon(pb.CordonRequest(replica=name), timeout=5))
        assert (code, text.split(":")[0]) == (grpc.StatusCode.INVALID_ARGUMENT, "replica")
        code, text = await code_of(fleet.Uncordon(pb.UncordonRequest(replica=name), timeout=5))
        assert (code, text.split(":")[0]) == (grpc.StatusCode.INVALID_ARGUMENT, "replica")
    code, _ = await code_of(fleet.GetReplica(pb.GetReplicaRequest(), timeout=5))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    for call in (
        fleet.Cordon(pb.CordonRequest(replica="gateway-9"), timeout=5),
        fleet.Uncordon(pb.UncordonRequest(replica="gateway-9"), timeout=5),
    ):
        assert (await code_of(call))[0] is grpc.StatusCode.NOT_FOUND
    await fleet.Cordon(pb.CordonRequest(replica="gateway-0"), timeout=5)
    code, text = await code_of(fleet.Cordon(pb.CordonRequest(replica="gateway-1"), timeout=5))
    assert code is grpc.StatusCode.FAILED_PRECONDITION
    assert "gateway-1 is the last" in text
    assert [one.replica for one in (await picture(fleet)).replicas if one.cordoned] == ["gateway-0"]


@pytest.mark.parametrize(
    ("organization", "role", "kind", "allowed"),
    [
        (OPERATOR, "owner", "user", True),
        (OPERATOR, "admin", "api_key", True),
        (OPERATOR, "manager", "user", False),
        (OPERATOR, "", "user", False),
        (OPERATOR, "owner", "device", False),
        (ORGANIZATION, "owner", "user", False),
        (ORGANIZATION, "owner", "service", False),
    ],
)
async def test_only_the_operator_may(
    fleet: FleetServiceStub, organization: str, role: str, kind: str, allowed: bool
) -> None:
    """Admins of the operator's organization see and steer the fleet, and nobody of another one does."""
    calls = (
        lambda: fleet.GetFleet(pb.GetFleetRequest(), timeout=5),
        lambda: fleet.GetReplica(pb.GetReplicaRequest(replica="gateway-1"), timeout=5),
        lambda: fleet.Cordon(pb.CordonRequest(replica="gateway-1"), timeout=5),
        lambda: fleet.Uncordon(pb.UncordonRequest(replica="gateway-1"), timeout=5),
    )
    with caller(organization, role, kind):
        for call in calls:
            if allowed:
                await call()
            else:
                assert (await code_of(call()))[0] is grpc.StatusCode.PERMISSION_DENIED


async def test_the_door_outside(shop: Shop, fleet: FleetServiceStub) -> None:
    """Over gRPC the same service answers, asks the replica that is named, and wants the operator's token."""
    private, public = generate_key_pair()
    verifier = Verifier(StaticKeys(public), issuer="frontdesk", audience="frontdesk", clock=SystemClock())
    door = GrpcServer(JwtAuthenticator(verifier), channel=shop.gateways[0].channel)
    for register, servicer in shop.gateways[0].registrations:
        door.add(register, servicer)
    await door.start()
    await settled(fleet, "gateway-0", "gateway-1")

    def token(organization: str) -> tuple[tuple[str, str]]:
        text = mint(private, subject="me", organization_id=organization, role=Role.admin)
        return (("authorization", f"Bearer {text}"),)

    async with grpc.aio.insecure_channel(f"127.0.0.1:{door.port}") as channel:
        outside = FleetServiceStub(channel)
        whole = await outside.GetFleet(pb.GetFleetRequest(), metadata=token(OPERATOR), timeout=5)
        assert {one.replica: one.presence for one in whole.replicas} == {
            "gateway-0": pb.PRESENCE_LIVE,
            "gateway-1": pb.PRESENCE_LIVE,
        }
        named = await outside.GetReplica(
            pb.GetReplicaRequest(replica="gateway-1"), metadata=token(OPERATOR), timeout=5
        )
        assert named.replica.replica == "gateway-1"
        refused = outside.GetFleet(pb.GetFleetRequest(), metadata=token(ORGANIZATION), timeout=5)
        assert (await code_of(refused))[0] is grpc.StatusCode.PERMISSION_DENIED
        stranger = outside.Cordon(pb.CordonRequest(replica="gateway-1"), timeout=5)
        assert (await code_of(stranger))[0] is grpc.StatusCode.UNAUTHENTICATED
    await door.drain(0)


async def test_a_silent_replica_is_shown_as_silent(shop: Shop, fleet: FleetServiceStub) -> None:
    """A replica that hangs stands there with the shards of its leases; one that left cordoned is absent."""
    await settled(fleet, "gateway-0", "gateway-1")
    second: ConnectionGateway = shop.gateways[1]
    share = sorted(second.shards.owned)
    await second.rpc.drain(0)
    gone = by_name(await picture(fleet))["gateway-1"]
    assert (gone.presence, [held.shard for held in gone.shards]) == (pb.PRESENCE_SILENT, share)
    assert {held.epoch for held in gone.shards} == {0}
    assert gone.since_ms > 0

    async def swallow(_: Msg) -> None:
        return

    await second.bus.nc.subscribe(subjects.rpc_at(SERVICE, "GetReplica", "gateway-1"), cb=swallow)
    await second.bus.nc.flush()
    begun = time.monotonic()
    hanging = by_name(await picture(fleet))
    assert 1.5 < time.monotonic() - begun < 3.5
    assert hanging["gateway-1"].presence == pb.PRESENCE_SILENT
    assert hanging["gateway-0"].presence == pb.PRESENCE_LIVE
    await fleet.Cordon(pb.CordonRequest(replica="gateway-1"), timeout=5)
    shop.gateways.remove(second)
    await second.stop(5)
    left = by_name(await settled(fleet, "gateway-0"))["gateway-1"]
    assert (left.presence, left.cordoned, list(left.shards)) == (pb.PRESENCE_ABSENT, True, [])


async def test_a_stream_that_is_gone_says_so(shop: Shop, fleet: FleetServiceStub) -> None:
    """What can't be read of one stream hides nothing of the others."""
    await shop.gateways[0].bus.js.delete_stream(subjects.NOTIFY)
    streams = {one.stream: one for one in (await picture(fleet)).streams}
    assert "NotFound" in streams[subjects.NOTIFY].problem
    assert not any(one.problem for name, one in streams.items() if name != subjects.NOTIFY)
