"""What only calls over NATS have: routing, waking, limits, and a broker that goes away."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator

import grpc
import pytest
from grpc.aio import AioRpcError
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from frontdesk.kit import subjects
from frontdesk.kit.nats_server import NatsServer
from frontdesk.kit.principal import Principal, current_principal
from support.echo.fleet import SHARDS, Fleet, eventually
from support.echo.v1 import echo_pb2 as pb

FAST = {"heartbeat_s": 0.1, "dead_after_s": 0.5}


@pytest.fixture
async def fleet(nats_server: NatsServer) -> AsyncIterator[Fleet]:
    """An empty fleet around the test's own broker."""
    async with Fleet(nats_server.url) as made:
        yield made


def account_in(shard: int) -> str:
    """An account of `shard`."""
    return next(f"acc{n}" for n in range(1000) if subjects.shard_of(f"acc{n}", SHARDS) == shard)


async def test_replicas_share_the_calls(fleet: Fleet) -> None:
    """Two replicas are one queue group: each call is answered once, by either."""
    one, _ = await fleet.replica("a")
    two, _ = await fleet.replica("b")
    stub = await fleet.stub()
    await asyncio.gather(*(stub.Say(pb.SayRequest(text="x")) for _ in range(200)))
    assert one.calls + two.calls == 200
    assert min(one.calls, two.calls) > 0


async def test_nobody_answers(fleet: Fleet) -> None:
    """A call nobody takes fails at its deadline with UNAVAILABLE, names the service, and asked to wake it."""
    woken: list[str] = []

    async def wake(deployable: str) -> None:
        woken.append(deployable)

    stub = await fleet.stub(wake=wake)
    with pytest.raises(AioRpcError) as caught:
        await stub.Say(pb.SayRequest(text="x"), timeout=0.4)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert caught.value.details() == "nobody answers for echo"
    assert woken == ["echo"]


async def test_nobody_answers_a_stream(fleet: Fleet) -> None:
    """A stream without a deadline has to be taken within the channel's default."""
    stub = await fleet.stub(default_timeout_s=0.3)
    with pytest.raises(AioRpcError) as caught:
        await stub.Count(pb.CountRequest(count=1)).read()
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert caught.value.details() == "nobody answers for echo"


async def test_not_waiting_for_ready(fleet: Fleet) -> None:
    """With wait_for_ready=False a call nobody takes fails at once."""
    stub = await fleet.stub()
    async with asyncio.timeout(2):
        with pytest.raises(AioRpcError) as caught:
            await stub.Say(pb.SayRequest(text="x"), timeout=30, wait_for_ready=False)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_wake_then_answered(fleet: Fleet) -> None:
    """Calls to a service scaled to zero leave a message on its wake subject and are answered later."""
    js = (await fleet.connect()).jetstream()
    await js.add_stream(name=subjects.WAKE, subjects=["wake.*"])
    stub = await fleet.stub()
    single = asyncio.ensure_future(stub.Say(pb.SayRequest(text="x"), timeout=10))
    stream = stub.Count(pb.CountRequest(count=2), timeout=10)
    message = None
    async with asyncio.timeout(5):
        while message is None:
            state = (await js.stream_info(subjects.WAKE)).state
            if state.messages:
                message = await js.get_msg(subjects.WAKE, state.last_seq)
            await asyncio.sleep(0.01)
    assert message.subject == "wake.echo"
    await fleet.replica()
    assert (await single).text == "x"
    assert [response.number async for response in stream] == [0, 1]


async def test_calls_go_to_the_owner_of_the_account(fleet: Fleet) -> None:
    """Every kind of call for an account reaches the replica that owns its shard and follows when it moves."""
    _, server_a = await fleet.replica("a")
    _, server_b = await fleet.replica("b")
    stub = await fleet.stub()
    for shard in range(SHARDS):
        await (server_a if shard % 2 else server_b).own_shard(shard)
    for shard in range(SHARDS):
        owner = "a" if shard % 2 else "b"
        account = account_in(shard)
        assert (await stub.Where(pb.WhereRequest(account_id=account))).replica == owner
        watched = stub.Watch(pb.WatchRequest(account_id=account, count=2))
        assert [response.replica async for response in watched] == [owner, owner]
        parts = [pb.UploadRequest(account_id=account, data=b"x"), pb.UploadRequest(data=b"yz")]
        uploaded = await stub.Upload(iter(parts), timeout=5)
        assert (uploaded.replica, uploaded.size) == (owner, 3)
    await server_a.disown_shard(1)
    await server_b.own_shard(1)
    assert (await stub.Where(pb.WhereRequest(account_id=account_in(1)))).replica == "b"


async def test_calls_go_to_the_replica_they_name(fleet: Fleet) -> None:
    """A method routed by replica is answered by that one, whatever its name; another name wakes nobody."""
    names = ("gateway-0", "gateway-1", "3", "shop *.>")
    for name in names:
        await fleet.replica(name)
    woken: list[str] = []

    async def wake(deployable: str) -> None:
        woken.append(deployable)

    stub = await fleet.stub(wake=wake)
    for name in names:
        assert (await stub.Who(pb.WhoRequest(replica=name), timeout=5)).replica == name
    with pytest.raises(AioRpcError) as caught:
        await stub.Who(pb.WhoRequest(replica="gateway-9"), timeout=5, wait_for_ready=False)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    with pytest.raises(AioRpcError) as caught:
        await stub.Who(pb.WhoRequest())
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "replica" in (caught.value.details() or "")
    assert woken == []


async def test_call_waits_for_a_shard_to_find_its_owner(fleet: Fleet) -> None:
    """A call for a shard between two owners is answered by the new one."""
    _, server = await fleet.replica("a")
    stub = await fleet.stub()
    call = asyncio.ensure_future(stub.Where(pb.WhereRequest(account_id=account_in(2)), timeout=5))
    await asyncio.sleep(0.1)
    await server.own_shard(2)
    assert (await call).replica == "a"


async def test_a_call_without_its_account_is_refused(fleet: Fleet) -> None:
    """A method routed by account needs the account: INVALID_ARGUMENT names the field."""
    stub = await fleet.stub()
    with pytest.raises(AioRpcError) as caught:
        await stub.Where(pb.WhereRequest())
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "account_id" in (caught.value.details() or "")
    upload = stub.Upload()
    await upload.done_writing()
    with pytest.raises(AioRpcError) as caught:
        await upload
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_disowning_ends_open_streams_and_lets_calls_finish(fleet: Fleet) -> None:
    """A watch moves on with UNAVAILABLE when its shard does, while other shards' streams stay."""
    _, server = await fleet.replica("a")
    stub = await fleet.stub()
    await server.own_shard(0)
    await server.own_shard(1)
    moving = stub.Watch(pb.WatchRequest(account_id=account_in(0)))
    staying = stub.Watch(pb.WatchRequest(account_id=account_in(1)))
    await moving.read()
    await staying.read()
    await server.disown_shard(0)
    with pytest.raises(AioRpcError) as caught:
        while True:
            await moving.read()
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    for _ in range(100):
        response = await staying.read()
        assert isinstance(response, pb.WatchResponse)
    staying.cancel()


async def test_drain_lets_calls_finish(fleet: Fleet) -> None:
    """A draining replica answers what it took, ends the rest with UNAVAILABLE, and takes no more."""
    servicer, server = await fleet.replica("a")
    stub = await fleet.stub()
    call = stub.Say(pb.SayRequest(text="!wait"), timeout=10)
    await asyncio.wait_for(servicer.hanging.wait(), 5)
    draining = asyncio.create_task(server.drain(10))
    await fleet.replica("b")
    assert (await stub.Say(pb.SayRequest(text="x"), timeout=5)).text == "x"
    servicer.release.set()
    assert (await call).text == "!wait"
    await draining
    assert server.in_flight == 0


async def test_drain_ends_what_does_not_finish(fleet: Fleet) -> None:
    """A call that outlives the drain's time gets UNAVAILABLE, not silence."""
    servicer, server = await fleet.replica("a")
    stub = await fleet.stub()
    call = stub.Say(pb.SayRequest(text="!hang"), timeout=10)
    await asyncio.wait_for(servicer.hanging.wait(), 5)
    await server.drain(0.1)
    with pytest.raises(AioRpcError) as caught:
        await call
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_too_many_calls(fleet: Fleet) -> None:
    """One call more than the limit is refused with RESOURCE_EXHAUSTED, whichever kind."""
    servicer, server = await fleet.replica("a", limit=2)
    stub = await fleet.stub()
    held = [stub.Say(pb.SayRequest(text="!wait"), timeout=10) for _ in range(2)]
    await eventually(lambda: server.in_flight == 2)
    with pytest.raises(AioRpcError) as caught:
        await stub.Say(pb.SayRequest(text="x"), timeout=5)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    with pytest.raises(AioRpcError) as caught:
        await stub.Count(pb.CountRequest(count=1), timeout=5).read()
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    servicer.release.set()
    await asyncio.gather(*held)
    assert (await stub.Say(pb.SayRequest(text="x"), timeout=5)).text == "x"


async def test_messages_over_the_limit(fleet: Fleet) -> None:
    """A message over the broker's limit fails with RESOURCE_EXHAUSTED on the side that sends it."""
    servicer, server = await fleet.replica("a")
    await server.own_shard(0)
    stub = await fleet.stub()
    large = 2 * 1024 * 1024
    with pytest.raises(AioRpcError) as caught:
        await stub.Say(pb.SayRequest(text="x" * large), timeout=5)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert servicer.calls == 0
    with pytest.raises(AioRpcError) as caught:
        await stub.Count(pb.CountRequest(count=1, padding=large), timeout=5).read()
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    upload = stub.Upload(timeout=5)
    await upload.write(pb.UploadRequest(account_id=account_in(0), data=b"small"))
    with pytest.raises(AioRpcError) as caught:
        await upload.write(pb.UploadRequest(data=b"x" * large))
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    texts = iter([pb.JoinRequest(text="x" * 700_000), pb.JoinRequest(text="y" * 700_000)])
    with pytest.raises(AioRpcError) as caught:
        await stub.Join(texts, timeout=5)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert (await stub.Say(pb.SayRequest(text="x"), timeout=5)).text == "x"


async def test_large_messages_within_the_limit(fleet: Fleet) -> None:
    """Messages just under the limit pass, one by one and in a stream."""
    await fleet.replica()
    stub = await fleet.stub()
    text = "x" * 1_000_000
    assert (await stub.Say(pb.SayRequest(text=text), timeout=10)).text == text
    responses = [r async for r in stub.Count(pb.CountRequest(count=20, padding=1_000_000), timeout=20)]
    assert sum(len(response.padding) for response in responses) == 20_000_000


async def test_slow_servicer_holds_the_caller(fleet: Fleet) -> None:
    """A caller that writes faster than the servicer reads is held by the server's window."""
    servicer, _ = await fleet.replica("a", window=8)
    stub = await fleet.stub()
    call = stub.Chat()
    written = 0

    async def write() -> None:
        nonlocal written
        await call.write(pb.ChatRequest(text="!slow"))
        for _ in range(100):
            await call.write(pb.ChatRequest(text="x"))
            written += 1
        await call.done_writing()

    task = asyncio.create_task(write())
    await asyncio.wait_for(servicer.hanging.wait(), 5)
    await asyncio.sleep(0.1)
    assert written <= 8
    servicer.release.set()
    assert len([response async for response in call]) == 101
    await task


async def test_a_dead_replica_is_noticed(fleet: Fleet) -> None:
    """A stream whose replica vanishes without a word fails with UNAVAILABLE."""
    _, server = await fleet.replica("a", **FAST)
    await server.own_shard(0)
    stub = await fleet.stub(**FAST)
    call = stub.Chat()
    await call.write(pb.ChatRequest(text="x"))
    await call.read()
    await fleet.connections[0].close()  # the replica's
    async with asyncio.timeout(5):
        with pytest.raises(AioRpcError) as caught:
            await call.read()
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize("replicas", [1, 2])
async def test_a_dead_replica_is_noticed_by_a_single_call(fleet: Fleet, replicas: int) -> None:
    """A call whose replica vanishes without a word fails with UNAVAILABLE long before its deadline, whether
    or not others are there; calls of theirs go on."""
    servicers = [(await fleet.replica(name))[0] for name in "ab"[:replicas]]
    stub = await fleet.stub(probe_s=0.1)
    calls = [asyncio.ensure_future(stub.Say(pb.SayRequest(text="!wait"), timeout=30)) for _ in range(32)]
    await eventually(lambda: sum(servicer.calls for servicer in servicers) == 32)
    await fleet.connections[0].close()  # the first replica's
    taken = servicers[0].calls
    await eventually(lambda: sum(call.done() for call in calls) == taken)
    failed = [call.exception() for call in calls if call.done()]
    assert taken
    for error in failed:
        assert isinstance(error, AioRpcError)
        assert error.code() is grpc.StatusCode.UNAVAILABLE
        assert error.details() == "the replica of echo that took the call is gone"
    servicers[-1].release.set()
    left = await asyncio.gather(*calls, return_exceptions=True)
    assert sum(isinstance(answer, pb.SayResponse) for answer in left) == 32 - taken


async def test_a_long_call_stays(fleet: Fleet) -> None:
    """One that takes many probes long is answered, once, also by a replica that stops meanwhile."""
    servicer, server = await fleet.replica()
    stub = await fleet.stub(probe_s=0.02)
    call = stub.Say(pb.SayRequest(text="!wait"), timeout=10)
    await asyncio.wait_for(servicer.hanging.wait(), 5)
    await fleet.replica("b")
    stopping = asyncio.create_task(server.drain(10))
    await asyncio.sleep(0.3)
    assert not call.done()
    servicer.release.set()
    assert (await call).text == "!wait"
    assert servicer.calls == 1
    await stopping


async def test_a_call_that_nobody_took_is_not_gone(fleet: Fleet) -> None:
    """While it waits for a replica to come it asks nobody whether it is alive."""
    stub = await fleet.stub(probe_s=0.02)
    call = asyncio.ensure_future(stub.Say(pb.SayRequest(text="x"), timeout=10))
    await asyncio.sleep(0.4)
    await fleet.replica()
    assert (await call).text == "x"


async def test_a_dead_caller_is_noticed(fleet: Fleet) -> None:
    """A handler whose caller vanishes without a word is cancelled."""
    servicer, server = await fleet.replica("a", **FAST)
    stub = await fleet.stub(**FAST)
    call = stub.Count(pb.CountRequest(count=1, misbehave="hang"))
    await call.read()
    await asyncio.wait_for(servicer.hanging.wait(), 5)
    await fleet.connections[1].close()  # the caller's
    await asyncio.wait_for(servicer.cancelled.wait(), 5)
    await eventually(lambda: server.in_flight == 0)
    call.cancel()


async def test_a_quiet_stream_stays(fleet: Fleet) -> None:
    """Heartbeats keep a stream alive on which nobody says anything for long."""
    servicer, _ = await fleet.replica("a", **FAST)
    stub = await fleet.stub(**FAST)
    call = stub.Chat()
    await call.write(pb.ChatRequest(text="x"))
    await call.read()
    await asyncio.sleep(1.2)
    await call.write(pb.ChatRequest(text="y"))
    assert await call.read() == pb.ChatResponse(text="y")
    call.cancel()
    assert servicer.calls == 1


async def test_a_forgotten_stream_cancels_itself(fleet: Fleet) -> None:
    """A caller that drops a stream without cancelling does not leave its handler running."""
    servicer, server = await fleet.replica("a")
    stub = await fleet.stub()
    async for response in stub.Count(pb.CountRequest(count=1_000_000)):
        if response.number == 3:
            break
    gc.collect()
    await asyncio.wait_for(servicer.cancelled.wait(), 5)
    await eventually(lambda: server.in_flight == 0)


async def test_broker_restart(fleet: Fleet, nats_server: NatsServer) -> None:
    """A stream under way when the broker restarts fails with UNAVAILABLE; the next calls work."""
    await fleet.replica("a", **FAST)
    stub = await fleet.stub(**FAST)
    call = stub.Chat()
    await call.write(pb.ChatRequest(text="x"))
    await call.read()
    await nats_server.kill()
    await nats_server.start()
    async with asyncio.timeout(10):
        with pytest.raises(AioRpcError) as caught:
            await call.read()
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert (await stub.Say(pb.SayRequest(text="again"), timeout=10)).text == "again"
    assert len([r async for r in stub.Count(pb.CountRequest(count=100), timeout=10)]) == 100


async def test_principal_travels(fleet: Fleet) -> None:
    """The servicer sees the principal its caller acts for, and none when there is none."""
    await fleet.replica()
    stub = await fleet.stub()
    token = current_principal.set(Principal("用户 1", organization_id="org1", role="agent"))
    try:
        assert (await stub.Say(pb.SayRequest(text="x"))).subject == "用户 1"
    finally:
        current_principal.reset(token)
    assert (await stub.Say(pb.SayRequest(text="x"))).subject == ""


async def test_a_caller_cannot_pose_as_another(fleet: Fleet) -> None:
    """Reserved metadata is refused before it is sent."""
    servicer, _ = await fleet.replica()
    stub = await fleet.stub()
    with pytest.raises(AioRpcError) as caught:
        await stub.Say(pb.SayRequest(text="x"), metadata=(("fd-subject", "root"),))
    assert caught.value.code() is grpc.StatusCode.INTERNAL
    assert "fd-subject" in (caught.value.details() or "")
    assert servicer.calls == 0


async def test_peer_names_the_caller(fleet: Fleet) -> None:
    """context.peer() is the name the channel was given."""
    servicer, _ = await fleet.replica()
    await (await fleet.stub()).Say(pb.SayRequest(text="!metadata"))
    assert servicer.peer == "nats:tests"


async def test_one_trace_covers_caller_and_servicer(fleet: Fleet) -> None:
    """Client and server spans belong to one trace, the server's below the client's, with rpc attributes."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    await fleet.replica(tracer_provider=provider)
    stub = await fleet.stub(tracer_provider=provider)
    with provider.get_tracer("test").start_as_current_span("outer") as outer:
        await stub.Say(pb.SayRequest(text="x"))
        with pytest.raises(AioRpcError):
            await stub.Say(pb.SayRequest(text="!notfound"))
        assert [r.number async for r in stub.Count(pb.CountRequest(count=1))] == [0]
    await eventually(lambda: len(exporter.get_finished_spans()) == 7)
    spans = exporter.get_finished_spans()
    clients = {span.context.span_id: span for span in spans if span.kind is trace.SpanKind.CLIENT}
    servers = [span for span in spans if span.kind is trace.SpanKind.SERVER]
    assert len(clients) == len(servers) == 3
    for span in servers:
        assert span.parent is not None
        assert clients[span.parent.span_id].name == span.name
        assert span.context.trace_id == outer.get_span_context().trace_id
        assert span.attributes is not None
        assert span.attributes["rpc.system"] == "nats"
        assert span.attributes["rpc.service"] == "frontdesk_test.echo.v1.EchoService"
    assert sorted(str((span.attributes or {})["rpc.grpc.status_code"]) for span in servers) == ["0", "0", "5"]


async def test_closing_the_channel_ends_its_calls(fleet: Fleet) -> None:
    """Calls in flight when their channel closes fail with UNAVAILABLE, and so do later ones."""
    servicer, _ = await fleet.replica()
    channel = await fleet.channel()
    say = channel.unary_unary(
        "/frontdesk_test.echo.v1.EchoService/Say", pb.SayRequest.SerializeToString, pb.SayResponse.FromString
    )
    call = say(pb.SayRequest(text="!hang"), timeout=10)
    await asyncio.wait_for(servicer.hanging.wait(), 5)
    await channel.close()
    for one in (call, say(pb.SayRequest(text="x"))):
        with pytest.raises(AioRpcError) as caught:
            await one
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert channel.get_state() is grpc.ChannelConnectivity.SHUTDOWN


async def test_a_failing_request_iterator_ends_the_call(fleet: Fleet) -> None:
    """When the caller's own iterator raises, the call is cancelled on both sides and says so."""
    _, server = await fleet.replica()
    stub = await fleet.stub()

    async def requests() -> AsyncIterator[pb.JoinRequest]:
        yield pb.JoinRequest(text="x")
        raise KeyError("mine")

    with pytest.raises(AioRpcError) as caught:
        await stub.Join(requests(), timeout=5)
    assert caught.value.code() is grpc.StatusCode.CANCELLED
    assert caught.value.details() == "the request iterator failed"
    await eventually(lambda: server.in_flight == 0)
