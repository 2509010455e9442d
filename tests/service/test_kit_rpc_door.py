"""The gRPC door: who may come in, and where calls for accounts go."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

import grpc
import pytest
from grpc.aio import AioRpcError
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from frontdesk.kit.errors import NotFound
from frontdesk.kit.nats_server import NatsServer
from frontdesk.kit.rpc.grpc_door import GrpcServer
from frontdesk.kit.rpc.status import from_rpc_error
from support.echo.fleet import SHARDS, Fleet, TokenAuthenticator
from support.echo.servicer import EchoServicer
from support.echo.v1 import echo_pb2 as pb
from support.echo.v1 import echo_pb2_grpc

AS_ANNA = (("authorization", "Bearer anna"),)


@dataclass
class House:
    """A door, the replica that owns every account elsewhere, and a channel from outside."""

    door: GrpcServer
    local: EchoServicer
    owner: EchoServicer
    outside: grpc.aio.Channel
    stub: echo_pb2_grpc.EchoServiceStub


@pytest.fixture
async def house(nats_server: NatsServer) -> AsyncIterator[House]:
    """Door and owner are different replicas."""
    async with Fleet(nats_server.url) as fleet:
        owner, server = await fleet.replica("owner")
        for shard in range(SHARDS):
            await server.own_shard(shard)
        local = EchoServicer("door")
        door = await fleet.door(local)
        async with grpc.aio.insecure_channel(f"127.0.0.1:{door.port}") as outside:
            yield House(door, local, owner, outside, echo_pb2_grpc.EchoServiceStub(outside))


async def test_the_principal_is_set(house: House) -> None:
    """A servicer behind the door sees whom the authenticator found."""
    assert (await house.stub.Say(pb.SayRequest(text="x"), metadata=AS_ANNA)).subject == "anna"


@pytest.mark.parametrize("metadata", [(), (("authorization", "Bearer nobody"),), (("fd-subject", "root"),)])
async def test_strangers_stay_outside(house: House, metadata: tuple[tuple[str, str], ...]) -> None:
    """Without a valid credential every kind of call is UNAUTHENTICATED and no servicer runs."""
    with pytest.raises(AioRpcError) as caught:
        await house.stub.Say(pb.SayRequest(text="x"), metadata=metadata)
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
    with pytest.raises(AioRpcError) as caught:
        await house.stub.Count(pb.CountRequest(count=1), metadata=metadata).read()
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
    with pytest.raises(AioRpcError) as caught:
        await house.stub.Where(pb.WhereRequest(account_id="acc"), metadata=metadata)
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
    assert house.local.calls == house.owner.calls == 0


async def test_calls_for_an_account_reach_its_owner(house: House) -> None:
    """Any replica's door forwards every kind of call to the owner, with principal and metadata."""
    sent = (*AS_ANNA, ("note", "hello"), ("fd-subject", "root"))
    call = house.stub.Where(pb.WhereRequest(account_id="acc"), metadata=sent, timeout=5)
    assert (await call).replica == "owner"
    assert ("principal", "anna/org1") in tuple(await call.trailing_metadata())
    assert house.owner.metadata["note"] == "hello"
    assert "authorization" not in house.owner.metadata
    watched = house.stub.Watch(pb.WatchRequest(account_id="acc", count=3), metadata=AS_ANNA)
    assert [response.replica async for response in watched] == ["owner"] * 3
    parts = [pb.UploadRequest(account_id="acc", data=b"x" * 1000) for _ in range(100)]
    uploaded = await house.stub.Upload(iter(parts), metadata=AS_ANNA)
    assert (uploaded.replica, uploaded.size) == ("owner", 100_000)
    assert house.local.calls == 0


async def test_calls_for_a_replica_reach_it(house: House) -> None:
    """Any replica's door forwards a call to the replica that it names."""
    answer = await house.stub.Who(pb.WhoRequest(replica="owner"), metadata=AS_ANNA, timeout=5)
    assert answer.replica == "owner"
    assert house.local.calls == 0


async def test_the_owners_errors_come_through(house: House) -> None:
    """An error of the owner arrives outside with its details."""
    with pytest.raises(AioRpcError) as caught:
        await house.stub.Where(pb.WhereRequest(account_id="missing"), metadata=AS_ANNA, timeout=5)
    error = from_rpc_error(caught.value)
    assert isinstance(error, NotFound)
    assert error.facts == {"account_id": "missing"}
    with pytest.raises(AioRpcError) as caught:
        await house.stub.Where(pb.WhereRequest(), metadata=AS_ANNA, timeout=5)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_health_and_reflection_need_no_credential(house: House) -> None:
    """Probes and grpcurl work; health turns NOT_SERVING when the door drains."""
    health = health_pb2_grpc.HealthStub(house.outside)
    name = "frontdesk_test.echo.v1.EchoService"
    answer = await health.Check(health_pb2.HealthCheckRequest(service=name))
    assert answer.status == health_pb2.HealthCheckResponse.SERVING
    reflection = reflection_pb2_grpc.ServerReflectionStub(house.outside)
    asked = [
        reflection_pb2.ServerReflectionRequest(list_services=""),
        reflection_pb2.ServerReflectionRequest(file_containing_symbol=name),
    ]
    listed, described = [one async for one in reflection.ServerReflectionInfo(iter(asked))]
    assert name in [service.name for service in listed.list_services_response.service]
    assert described.file_descriptor_response.file_descriptor_proto
    watch = health.Watch(health_pb2.HealthCheckRequest(service=name))
    assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
    draining = asyncio.create_task(house.door.drain(0.5))
    assert (await watch.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
    watch.cancel()
    await draining


async def test_messages_over_the_doors_limit(nats_server: NatsServer) -> None:
    """A request over the door's own limit is RESOURCE_EXHAUSTED."""
    async with Fleet(nats_server.url) as fleet:
        door = await fleet.door(EchoServicer(), max_message_bytes=10_000)
        async with grpc.aio.insecure_channel(f"127.0.0.1:{door.port}") as outside:
            stub = echo_pb2_grpc.EchoServiceStub(outside)
            with pytest.raises(AioRpcError) as caught:
                await stub.Say(pb.SayRequest(text="x" * 20_000), metadata=AS_ANNA)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_a_door_without_a_channel_can_not_forward() -> None:
    """Methods routed by account need a channel; without one the door says so when they are added."""
    door = GrpcServer(TokenAuthenticator())
    with pytest.raises(ValueError, match="needs a channel"):
        door.add(echo_pb2_grpc.add_EchoServiceServicer_to_server, EchoServicer())
