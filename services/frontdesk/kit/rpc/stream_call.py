"""Calls of a client with a stream in either direction. They behave as grpc.aio's do."""

from __future__ import annotations

import asyncio
import logging
import weakref
from collections.abc import AsyncIterable, Callable, Generator, Iterable
from typing import Any

import grpc
from grpc import StatusCode
from grpc.aio import AioRpcError, Metadata, UsageError
from nats.aio.msg import Msg

from frontdesk.kit.errors import FrontdeskError
from frontdesk.kit.rpc import metadata as md
from frontdesk.kit.rpc.call import ClientCall, Options, Spec
from frontdesk.kit.rpc.link import Link
from frontdesk.kit.rpc.pipe import CANCEL, HALF, Pipe, PipeClosed

_log = logging.getLogger(__name__)

Requests = AsyncIterable[Any] | Iterable[Any]


class StreamCall(ClientCall):
    """Opening, ending and both directions of a stream. A call nobody holds any more cancels itself."""

    def __init__(self, link: Link, spec: Spec, options: Options) -> None:
        super().__init__(link, spec, options)
        self._pipe = Pipe(link.wire, link.mailbox, link.config.window, self)
        self._address = self._pipe.address
        self._initial: dict[str, str] | None = None
        self._has_initial = asyncio.Event()
        self._half_closed = False
        self._pump: asyncio.Task[None] | None = None
        self._open_timer: asyncio.TimerHandle | None = None
        link.pulse.add(self._pipe)

    def __del__(self) -> None:
        if (
            getattr(self, "_pipe", None) is not None
            and self._code is None
            and not self._link.loop.is_closed()
        ):
            self.cancel()

    async def initial_metadata(self) -> Metadata:
        """Waits until it came, or a message, or the end."""
        if self._code is None:
            await self._has_initial.wait()
        return md.metadata_of(self._initial or self._headers, prefix=md.INITIAL)

    # What the pipe tells.

    def on_accept(self) -> None:
        if self._open_timer is not None:
            self._open_timer.cancel()
        if self._half_closed:
            self._pipe.say(HALF)

    def on_initial(self, message: Msg) -> None:
        self._initial = message.headers
        self._has_initial.set()

    def on_end(self, message: Msg) -> None:
        if self._code is None:
            code, details = md.status_of(message.headers or {})
            self._finish(code, details, message.headers)

    def on_cancel(self) -> None:
        self._fail(StatusCode.UNAVAILABLE, "the replica no longer knows this stream")

    def on_lost(self, reason: str) -> None:
        self._fail(StatusCode.UNAVAILABLE, reason, tell=True)

    def on_nobody(self) -> None:
        if self._code is None:
            self._try_again()

    # Opening and ending.

    def _when_late(self) -> Callable[[], None]:
        return _weakly(self._on_deadline)

    def _extra(self) -> md.Lines | None:
        return [(md.WINDOW, str(self._link.config.window))]

    def _open(self, request: Any, payload: bytes = b"") -> None:
        """Send the call to where `request` says."""
        try:
            self._subject = self._spec.subject_for(request, self._link.config.shards)
        except FrontdeskError as error:
            self._fail(StatusCode[error.code], error.message)
            return
        self._payload = payload
        if self._deadline is None:
            timeout = self._link.config.default_timeout_s
            self._open_timer = self._link.loop.call_later(timeout, _weakly(self._on_not_taken))
        self._link.when_started(self._transmit, self._unavailable)

    def _on_not_taken(self) -> None:
        if not self._pipe.peer:
            why = f"{self._spec.method.deployable} did not take the call"
            self._fail(StatusCode.UNAVAILABLE, self._nobody_text() if self._nobody else why, tell=True)

    def _fail(self, code: StatusCode, details: str, *, tell: bool = False) -> None:
        if self._code is None:
            self._pipe.no_more(discard=True)
        super()._fail(code, details, tell=tell)

    def _tell(self) -> None:
        if self._pipe.peer:
            self._pipe.say(CANCEL)
        else:
            super()._tell()

    def _finish(self, code: StatusCode, details: str, headers: dict[str, str] | None) -> None:
        super()._finish(code, details, headers)
        self._pipe.close()
        self._link.pulse.discard(self._pipe)
        self._has_initial.set()
        if self._open_timer is not None:
            self._open_timer.cancel()
        if self._pump is not None and self._pump is not _this_task():
            self._pump.cancel()

    # Both directions.

    async def _read(self) -> Any:
        try:
            data = await self._pipe.read()
        except asyncio.CancelledError:
            self.cancel()
            raise
        if data is None:
            await self._over()
            if self._code is not StatusCode.OK:
                raise self._error()
            return grpc.aio.EOF
        self._has_initial.set()
        return self._decode(data)

    def _decode(self, data: bytes) -> Any:
        try:
            return self._spec.deserialize(data)
        except (
            Exception
        ) as error:  # whatever the deserializer raises becomes the call's status, as in grpc.aio
            self._fail(StatusCode.INTERNAL, f"a response could not be deserialized: {error}", tell=True)
            raise self._error() from error

    async def _write(self, request: Any) -> None:
        self._check_writable()
        try:
            data = self._spec.serialize(request)
        except Exception as error:  # becomes the call's status, as in grpc.aio
            self._fail(StatusCode.INTERNAL, f"the request could not be serialized: {error}", tell=True)
            raise self._error() from error
        if not self._subject:
            self._open(request)
        try:
            await self._pipe.write(data)
        except asyncio.CancelledError:
            self.cancel()
            raise
        except PipeClosed:
            self._check_writable()
        except FrontdeskError as error:
            self._fail(StatusCode[error.code], error.message, tell=True)
            raise self._error() from error

    def _check_writable(self) -> None:
        if self._code is StatusCode.OK:
            raise asyncio.InvalidStateError("the call is over")
        if self._code is not None:
            raise self._error()
        if self._half_closed:
            raise asyncio.InvalidStateError("done_writing was called")

    async def _done_writing(self) -> None:
        if self._code is not None or self._half_closed:
            return
        if not self._subject:
            self._open(None)
        self._half_closed = True
        self._pipe.say(HALF)  # before the call is taken nothing is sent; on_accept does it then

    def _start_requests(self, requests: Requests | None) -> None:
        if not self._spec.method.routed:
            self._open(None)
        if requests is not None:
            self._pump = self._link.spawn(self._send_all(requests))

    async def _send_all(self, requests: Requests) -> None:
        try:
            if isinstance(requests, AsyncIterable):
                async for request in requests:
                    await self._write(request)
            else:
                for request in requests:
                    await self._write(request)
            await self._done_writing()
        except (AioRpcError, asyncio.InvalidStateError) as error:
            _log.debug("the call ended before its requests did: %s", type(error).__name__)
        except Exception:  # noqa: BLE001 - a task's end: who reads the call gets a status
            _log.exception("a request iterator failed")
            self._fail(StatusCode.CANCELLED, "the request iterator failed", tell=True)

    def _check_by_hand(self) -> None:
        if self._pump is not None:
            raise UsageError("the call was given an iterator of requests")


class _Reading(StreamCall):
    """The side that reads responses."""

    def __aiter__(self) -> _Reading:
        return self

    async def __anext__(self) -> Any:
        message = await self._read()
        if message is grpc.aio.EOF:
            raise StopAsyncIteration
        return message

    async def read(self) -> Any:
        """The next response; grpc.aio.EOF after the last; raises AioRpcError when the call failed."""
        return await self._read()


class _Writing(StreamCall):
    """The side that writes requests."""

    async def write(self, request: Any) -> None:
        """Send one request, waiting while the server is slow; raises AioRpcError when the call failed."""
        self._check_by_hand()
        await self._write(request)

    async def done_writing(self) -> None:
        """Tell the server that no more requests come."""
        self._check_by_hand()
        await self._done_writing()


class UnaryStreamCall(_Reading):
    """One request, many responses."""

    def __init__(self, link: Link, spec: Spec, options: Options, request: Any) -> None:
        super().__init__(link, spec, options)
        try:
            payload = spec.serialize(request)
        except Exception as error:  # noqa: BLE001 - becomes the call's status, as in grpc.aio
            self._fail(StatusCode.INTERNAL, f"the request could not be serialized: {error}")
        else:
            self._open(request, payload)


class StreamUnaryCall(_Writing):
    """Many requests, one response."""

    def __init__(self, link: Link, spec: Spec, options: Options, requests: Requests | None) -> None:
        super().__init__(link, spec, options)
        self._start_requests(requests)

    def __await__(self) -> Generator[Any, None, Any]:
        return self._response().__await__()

    async def _response(self) -> Any:
        response = await self._read()
        if response is grpc.aio.EOF or await self._read() is not grpc.aio.EOF:
            raise AioRpcError(
                StatusCode.INTERNAL, Metadata(), Metadata(), details="not exactly one response came"
            )
        return response


class StreamStreamCall(_Reading, _Writing):
    """Many requests, many responses."""

    def __init__(self, link: Link, spec: Spec, options: Options, requests: Requests | None) -> None:
        super().__init__(link, spec, options)
        self._start_requests(requests)


def _weakly(method: Callable[[], None]) -> Callable[[], None]:
    """A timer must not keep a call alive that nobody holds."""
    held = weakref.WeakMethod(method)

    def call() -> None:
        found = held()
        if found is not None:
            found()

    return call


def _this_task() -> asyncio.Task[Any] | None:
    try:
        return asyncio.current_task()
    except RuntimeError:  # called by the garbage collector, outside of the loop
        return None
