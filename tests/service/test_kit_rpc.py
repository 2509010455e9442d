"""The same stubs and servicer on both transports: whatever holds for gRPC holds over NATS."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2
from grpc.aio import AioRpcError

from frontdesk.kit import errors
from frontdesk.kit.nats_server import NatsServer
from frontdesk.kit.rpc.status import from_rpc_error
from support.echo.fleet import Fleet, eventually
from support.echo.servicer import EchoServicer
from support.echo.v1 import echo_pb2 as pb
from support.echo.v1 import echo_pb2_grpc

AS_ANNA = (("authorization", "Bearer anna"),)


@dataclass
class Pair:
    """A servicer and a stub that reaches it."""

    servicer: EchoServicer
    stub: echo_pb2_grpc.EchoServiceStub
    transport: str


@pytest.fixture(params=["nats", "grpc"])
async def pair(request: pytest.FixtureRequest, nats_server: NatsServer) -> AsyncIterator[Pair]:
    """The echo service on one of the transports."""
    async with Fleet(nats_server.url) as fleet:
        if request.param == "nats":
            servicer, _ = await fleet.replica()
            yield Pair(servicer, await fleet.stub(), "nats")
        else:
            servicer = EchoServicer()
            door = await fleet.door(servicer)
            async with grpc.aio.insecure_channel(f"127.0.0.1:{door.port}") as channel:
                yield Pair(servicer, echo_pb2_grpc.EchoServiceStub(channel), "grpc")


async def failure(call: grpc.aio.UnaryUnaryCall[pb.SayRequest, pb.SayResponse]) -> AioRpcError:
    with pytest.raises(AioRpcError) as caught:
        await call
    return caught.value


async def test_unary_unary(pair: Pair) -> None:
    """One request brings one response, and the call says OK."""
    call = pair.stub.Say(pb.SayRequest(text="在吗"), timeout=5, metadata=AS_ANNA)
    assert (await call).text == "在吗"
    assert await call.code() is grpc.StatusCode.OK
    assert call.done()


async def test_unary_stream(pair: Pair) -> None:
    """All responses come, in order, many more than the window."""
    call = pair.stub.Count(pb.CountRequest(count=1000), timeout=10, metadata=AS_ANNA)
    assert [response.number async for response in call] == list(range(1000))
    assert await call.code() is grpc.StatusCode.OK


async def test_stream_unary(pair: Pair) -> None:
    """All requests arrive, in order, from an iterator and written by hand."""

    async def requests() -> AsyncIterator[pb.JoinRequest]:
        for number in range(100):
            yield pb.JoinRequest(text=f"{number},")

    expected = "".join(f"{number}," for number in range(100))
    assert (await pair.stub.Join(requests(), timeout=5, metadata=AS_ANNA)).text == expected
    call = pair.stub.Join(timeout=5, metadata=AS_ANNA)
    await call.write(pb.JoinRequest(text="a"))
    await call.write(pb.JoinRequest(text="b"))
    await call.done_writing()
    assert (await call).text == "ab"


async def test_stream_unary_without_requests(pair: Pair) -> None:
    """A stream that is closed at once still gets its response."""
    call = pair.stub.Join(timeout=5, metadata=AS_ANNA)
    await call.done_writing()
    assert (await call).text == ""


async def test_stream_stream(pair: Pair) -> None:
    """Both sides talk in turn, then the end comes with metadata of both kinds."""
    call = pair.stub.Chat(timeout=5, metadata=AS_ANNA)
    for text in ("one", "two", "three"):
        await call.write(pb.ChatRequest(text=text))
        response = await call.read()
        assert isinstance(response, pb.ChatResponse)
        assert response.text == text
    assert ("first", "1") in tuple(await call.initial_metadata())
    await call.done_writing()
    assert await call.read() is grpc.aio.EOF
    assert ("last", "2") in tuple(await call.trailing_metadata())


async def test_metadata_travels_both_ways(pair: Pair) -> None:
    """Text and binary metadata reach the servicer; initial and trailing come back."""
    sent = (*AS_ANNA, ("trace-me", "yes, 100%"), ("raw-bin", b"\x00\x01\xff"))
    call = pair.stub.Say(pb.SayRequest(text="!metadata"), timeout=5, metadata=sent)
    await call
    assert pair.servicer.metadata["trace-me"] == "yes, 100%"
    assert pair.servicer.metadata["raw-bin"] == b"\x00\x01\xff"
    assert ("first", "1") in tuple(await call.initial_metadata())
    trailing = tuple(await call.trailing_metadata())
    assert ("last", "2") in trailing
    assert ("last-bin", b"\x01\x02") in trailing


async def test_invalid_argument_names_the_field(pair: Pair) -> None:
    """InvalidArgument arrives as INVALID_ARGUMENT with BadRequest and comes back as the same error."""
    error = await failure(pair.stub.Say(pb.SayRequest(text="!invalid"), timeout=5, metadata=AS_ANNA))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert error.details() == "rule.name: is empty"
    (data,) = [value for key, value in error.trailing_metadata() if key == "grpc-status-details-bin"]
    bad = error_details_pb2.BadRequest()
    assert isinstance(data, bytes)
    assert any(detail.Unpack(bad) for detail in status_pb2.Status.FromString(data).details)
    assert bad.field_violations[0].field == "rule.name"
    back = from_rpc_error(error)
    assert isinstance(back, errors.InvalidArgument)
    assert (back.field, back.problem, back.facts["limit"]) == ("rule.name", "is empty", "3")


async def test_facts_and_unicode_come_back(pair: Pair) -> None:
    """Message and facts survive both transports, whatever the language."""
    error = await failure(pair.stub.Say(pb.SayRequest(text="!notfound"), timeout=5, metadata=AS_ANNA))
    back = from_rpc_error(error)
    assert isinstance(back, errors.NotFound)
    assert back.message == "no such chat: 闲鱼"
    assert back.facts == {"chat_id": "c1"}


async def test_unexpected_error_is_internal_and_tells_nothing(
    pair: Pair, caplog: pytest.LogCaptureFixture
) -> None:
    """A crash of the servicer is INTERNAL with a generic text; the log has the reason."""
    error = await failure(pair.stub.Say(pb.SayRequest(text="!crash"), timeout=5, metadata=AS_ANNA))
    assert error.code() is grpc.StatusCode.INTERNAL
    assert error.details() == f"internal error, trace {'0' * 32}"
    assert any(record.message == "servicer failed" and record.exc_info for record in caplog.records)


async def test_abort_and_status(pair: Pair) -> None:
    """abort and abort_with_status end the call with what they were given."""
    aborted = await failure(pair.stub.Say(pb.SayRequest(text="!abort"), timeout=5, metadata=AS_ANNA))
    assert (aborted.code(), aborted.details()) == (grpc.StatusCode.ABORTED, "100% aborted")
    assert ("why", "test") in tuple(aborted.trailing_metadata())
    assert ("raw-bin", b"\x00\xff") in tuple(aborted.trailing_metadata())
    with_status = await failure(pair.stub.Say(pb.SayRequest(text="!status"), timeout=5, metadata=AS_ANNA))
    assert (with_status.code(), with_status.details()) == (grpc.StatusCode.DATA_LOSS, "lost")
    assert isinstance(from_rpc_error(with_status), errors.Poison)


async def test_method_nobody_wrote(pair: Pair) -> None:
    """A generated base method answers UNIMPLEMENTED."""
    with pytest.raises(AioRpcError) as caught:
        await pair.stub.Missing(pb.MissingRequest(), timeout=5, metadata=AS_ANNA)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_deadline_ends_the_handler(pair: Pair) -> None:
    """When the deadline passes the caller gets DEADLINE_EXCEEDED and the handler is cancelled."""
    error = await failure(pair.stub.Say(pb.SayRequest(text="!hang"), timeout=0.2, metadata=AS_ANNA))
    assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert isinstance(from_rpc_error(error), errors.DeadlineExceeded)
    await asyncio.wait_for(pair.servicer.cancelled.wait(), 5)


async def test_deadline_of_a_stream(pair: Pair) -> None:
    """A stream that outlives its deadline fails after the messages it already gave."""
    call = pair.stub.Count(pb.CountRequest(count=3, misbehave="hang"), timeout=0.3, metadata=AS_ANNA)
    numbers = []
    with pytest.raises(AioRpcError) as caught:
        async for response in call:
            numbers.append(response.number)  # noqa: PERF401 - the stream raises after them
    assert numbers == [0, 1, 2]
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    await asyncio.wait_for(pair.servicer.cancelled.wait(), 5)


async def test_cancelling_a_call_cancels_the_handler(pair: Pair) -> None:
    """cancel() ends the call at once on both sides."""
    call = pair.stub.Say(pb.SayRequest(text="!hang"), timeout=10, metadata=AS_ANNA)
    await asyncio.wait_for(pair.servicer.hanging.wait(), 5)
    assert call.cancel()
    assert not call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert call.cancelled()
    assert await call.code() is grpc.StatusCode.CANCELLED
    await asyncio.wait_for(pair.servicer.cancelled.wait(), 5)


async def test_cancelling_the_waiting_task_cancels_the_handler(pair: Pair) -> None:
    """A caller's task that is cancelled takes its call with it."""

    async def wait() -> None:
        await pair.stub.Say(pb.SayRequest(text="!hang"), timeout=10, metadata=AS_ANNA)

    task = asyncio.create_task(wait())
    await asyncio.wait_for(pair.servicer.hanging.wait(), 5)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.wait_for(pair.servicer.cancelled.wait(), 5)


async def test_cancelling_a_stream_cancels_the_handler(pair: Pair) -> None:
    """A stream given up half-way stops its handler."""
    call = pair.stub.Count(pb.CountRequest(count=1_000_000), timeout=30, metadata=AS_ANNA)
    assert await call.read() == pb.CountResponse(number=0)
    call.cancel()
    await asyncio.wait_for(pair.servicer.cancelled.wait(), 5)
    with pytest.raises(asyncio.CancelledError):
        while await call.read() is not grpc.aio.EOF:
            pass


async def test_slow_reader_holds_the_writer(pair: Pair) -> None:
    """A handler does not run ahead of a caller that does not read, and goes on when it does."""
    call = pair.stub.Count(pb.CountRequest(count=400, padding=100_000), timeout=30, metadata=AS_ANNA)
    await call.read()
    await asyncio.sleep(0.3)
    held = pair.servicer.produced
    assert held < 400
    if pair.transport == "nats":
        assert held <= 34  # the window, what was read, and the one that waits
    rest = []
    while isinstance(response := await call.read(), pb.CountResponse):
        rest.append(response.number)
    assert rest == list(range(1, 400))


async def test_error_after_responses(pair: Pair) -> None:
    """Responses before an error are all delivered before it is raised."""
    numbers = []
    with pytest.raises(AioRpcError) as caught:
        async for response in pair.stub.Count(
            pb.CountRequest(count=50, misbehave="fail"), timeout=5, metadata=AS_ANNA
        ):
            numbers.append(response.number)  # noqa: PERF401 - the stream raises after them
    assert numbers == list(range(50))
    assert isinstance(from_rpc_error(caught.value), errors.FailedPrecondition)


async def test_done_callback(pair: Pair) -> None:
    """A done callback runs once the call is over."""
    done: list[object] = []
    call = pair.stub.Say(pb.SayRequest(text="x"), timeout=5, metadata=AS_ANNA)
    call.add_done_callback(done.append)
    await call
    await eventually(lambda: len(done) == 1)
