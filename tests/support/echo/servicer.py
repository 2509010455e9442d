"""The one echo servicer that every test and bench of the kit's calls mounts, on either transport."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
from google.rpc import code_pb2, status_pb2
from grpc_status import rpc_status

from frontdesk.kit.errors import FailedPrecondition, InvalidArgument, NotFound
from frontdesk.kit.principal import current_principal
from support.echo.v1 import echo_pb2, echo_pb2_grpc

Context = grpc.aio.ServicerContext[Any, Any]


class EchoServicer(echo_pb2_grpc.EchoServiceServicer):
    """Answers what it was told; a text that begins with `!` asks it to misbehave."""

    def __init__(self, replica: str = "a") -> None:
        self.replica = replica
        self.calls = 0
        self.produced = 0
        self.cancelled = asyncio.Event()
        self.hanging = asyncio.Event()
        self.metadata: dict[str, str | bytes] = {}
        self.peer = ""
        self.release = asyncio.Event()

    async def Say(self, request: echo_pb2.SayRequest, context: Context) -> echo_pb2.SayResponse:
        self.calls += 1
        if request.text.startswith("!"):
            await self._misbehave(request.text[1:], context)
        principal = current_principal.get()
        return echo_pb2.SayResponse(text=request.text, subject=principal.subject if principal else "")

    async def _misbehave(self, how: str, context: Context) -> None:
        match how:
            case "hang":
                await self._hang()
            case "wait":
                self.hanging.set()
                await self.release.wait()
            case "invalid":
                raise InvalidArgument("rule.name", "is empty", limit=3)
            case "notfound":
                raise NotFound("no such chat: 闲鱼", chat_id="c1")
            case "crash":
                raise KeyError("secret words of a buyer")
            case "abort":
                await context.abort(
                    grpc.StatusCode.ABORTED, "100% aborted", (("why", "test"), ("raw-bin", b"\x00\xff"))
                )
            case "status":
                status = status_pb2.Status(code=code_pb2.DATA_LOSS, message="lost")
                await context.abort_with_status(rpc_status.to_status(status))
            case "metadata":
                await self._metadata(context)
            case _:
                raise AssertionError(how)

    async def _metadata(self, context: Context) -> None:
        self.metadata = dict(context.invocation_metadata() or ())
        self.peer = context.peer()
        await context.send_initial_metadata((("first", "1"),))
        context.set_trailing_metadata((("last", "2"), ("last-bin", b"\x01\x02")))

    async def _hang(self) -> None:
        self.hanging.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise

    async def Count(
        self, request: echo_pb2.CountRequest, context: Context
    ) -> AsyncIterator[echo_pb2.CountResponse]:
        self.calls += 1
        padding = b"x" * request.padding
        try:
            for number in range(request.count):
                self.produced = number + 1
                yield echo_pb2.CountResponse(number=number, padding=padding)
        finally:
            if self.produced < request.count:
                self.cancelled.set()
        if request.misbehave == "fail":
            raise FailedPrecondition("enough", count=request.count)
        if request.misbehave == "hang":
            await self._hang()

    async def Join(
        self, request_iterator: AsyncIterator[echo_pb2.JoinRequest], context: Context
    ) -> echo_pb2.JoinResponse:
        self.calls += 1
        return echo_pb2.JoinResponse(text="".join([request.text async for request in request_iterator]))

    async def Chat(
        self, request_iterator: AsyncIterator[echo_pb2.ChatRequest], context: Context
    ) -> AsyncIterator[echo_pb2.ChatResponse]:
        self.calls += 1
        await context.send_initial_metadata((("first", "1"),))
        async for request in request_iterator:
            if request.text == "!slow":
                self.hanging.set()
                await self.release.wait()
            yield echo_pb2.ChatResponse(text=request.text)
        context.set_trailing_metadata((("last", "2"),))

    async def Where(self, request: echo_pb2.WhereRequest, context: Context) -> echo_pb2.WhereResponse:
        self.calls += 1
        self.metadata = dict(context.invocation_metadata() or ())
        principal = current_principal.get()
        if principal is not None:
            context.set_trailing_metadata(
                (("principal", f"{principal.subject}/{principal.organization_id}"),)
            )
        if request.account_id == "missing":
            raise NotFound("no such account", account_id=request.account_id)
        return echo_pb2.WhereResponse(replica=self.replica)

    async def Who(self, request: echo_pb2.WhoRequest, context: Context) -> echo_pb2.WhoResponse:
        self.calls += 1
        return echo_pb2.WhoResponse(replica=self.replica)

    async def Watch(
        self, request: echo_pb2.WatchRequest, context: Context
    ) -> AsyncIterator[echo_pb2.WatchResponse]:
        self.calls += 1
        sent = 0
        while request.count == 0 or sent < request.count:
            yield echo_pb2.WatchResponse(replica=self.replica)
            sent += 1

    async def Upload(
        self, request_iterator: AsyncIterator[echo_pb2.UploadRequest], context: Context
    ) -> echo_pb2.UploadResponse:
        self.calls += 1
        size = 0
        async for request in request_iterator:
            size += len(request.data)
        return echo_pb2.UploadResponse(replica=self.replica, size=size)

    def Missing(self, request: echo_pb2.MissingRequest, context: Context) -> Any:
        raise NotImplementedError("Method not implemented!")
