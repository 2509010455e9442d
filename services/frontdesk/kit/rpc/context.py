"""What a servicer gets as `context`: the part of grpc.aio.ServicerContext that has a meaning on NATS."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, NoReturn

import grpc
from grpc import StatusCode
from grpc.aio import AbortError, Metadata
from nats.aio.msg import Msg

from frontdesk.kit.rpc import metadata as md
from frontdesk.kit.rpc.pipe import END, INITIAL, Pipe
from frontdesk.kit.rpc.routing import Method
from frontdesk.kit.wire import caller_of

_log = logging.getLogger(__name__)


class StatusPart:
    """How the call will end."""

    def __init__(self) -> None:
        self._code: StatusCode | None = None
        self._details = ""
        self._trailing: md.MetadataLike = ()

    def set_code(self, code: StatusCode) -> None:
        self._code = code

    def set_details(self, details: str) -> None:
        self._details = details

    def set_trailing_metadata(self, trailing_metadata: md.MetadataLike) -> None:
        """Replaces what was set before; raises ValueError for a malformed key or value."""
        md.custom_lines(trailing_metadata, allow=md.DETAILS)
        self._trailing = trailing_metadata

    def code(self) -> StatusCode | None:
        return self._code

    def details(self) -> str:
        return self._details

    def trailing_metadata(self) -> md.MetadataLike:
        return self._trailing

    async def abort(
        self, code: StatusCode, details: str = "", trailing_metadata: md.MetadataLike = ()
    ) -> NoReturn:
        """End the call with `code`; OK is not a code to abort with and becomes UNKNOWN."""
        if code is StatusCode.OK:
            code, details = StatusCode.UNKNOWN, "aborted with OK"
        self._code = code
        self._details = details
        if trailing_metadata:
            self.set_trailing_metadata(trailing_metadata)
        raise AbortError("the servicer aborted the call")

    async def abort_with_status(self, status: grpc.Status) -> NoReturn:
        """End the call with what `grpc_status.rpc_status.to_status` made."""
        await self.abort(status.code, status.details, tuple(status.trailing_metadata or ()))


class CallContext(StatusPart):
    """One call at the server. The server sets `task` and ends it; the servicer sees the methods."""

    def __init__(self, method: Method, message: Msg, shard: int | None) -> None:
        super().__init__()
        self.method = method
        self.shard = shard
        self.message = message
        self.headers = message.headers
        self.task: asyncio.Task[None] | None = None
        self.ended_by: StatusCode | None = None
        self.ended_why = ""
        self.deadline: float | None = None
        self.timer: asyncio.TimerHandle | None = None
        self.initial: md.Lines = []
        self._callbacks: list[Callable[[Any], None]] = []
        self._done = False

    def invocation_metadata(self) -> Metadata:
        """The caller's metadata, without what is gRPC's and the kit's own."""
        return md.metadata_of(self.headers)

    def time_remaining(self) -> float | None:
        """Seconds until the caller's deadline; None without one."""
        if self.deadline is None:
            return None
        return max(0.0, self.deadline - asyncio.get_running_loop().time())

    def cancelled(self) -> bool:
        """Whether the call is over before the servicer was done: cancelled, or out of time."""
        return self.ended_by is not None

    def done(self) -> bool:
        return self._done

    def add_done_callback(self, callback: Callable[[Any], None]) -> None:
        """`callback(context)` runs when the call is over; at once if it is."""
        if self._done:
            callback(self)
        else:
            self._callbacks.append(callback)

    def peer(self) -> str:
        """`nats:` and the name the caller's channel was given."""
        return f"nats:{caller_of(self.message.reply)}"

    async def send_initial_metadata(self, initial_metadata: md.MetadataLike) -> None:
        """With a single answer it travels with the answer."""
        self.initial = md.custom_lines(initial_metadata, prefix=md.INITIAL)

    def end_early(self, code: StatusCode, why: str) -> None:
        """The server ends the call: the servicer's task is cancelled, once."""
        if self.ended_by is None and self.task is not None:
            self.ended_by = code
            self.ended_why = why
            self.task.cancel()

    def finish(self) -> None:
        """The call is over."""
        self._done = True
        if self.timer is not None:
            self.timer.cancel()
        for callback in self._callbacks:
            try:
                callback(self)
            except Exception:  # noqa: BLE001 - a servicer's callback must not keep the call open
                _log.exception("a done callback failed")


class StreamContext(CallContext):
    """One call with a stream in either direction."""

    pipe: Pipe
    deserialize: Callable[[bytes], Any]
    serialize: Callable[[Any], bytes]

    async def send_initial_metadata(self, initial_metadata: md.MetadataLike) -> None:
        lines = md.custom_lines(initial_metadata, prefix=md.INITIAL)
        self.pipe.say(INITIAL, md.block(lines))

    async def read(self) -> Any:
        """The next request; grpc.aio.EOF after the last."""
        data = await self.pipe.read()
        return grpc.aio.EOF if data is None else self.deserialize(data)

    async def write(self, message: Any) -> None:
        """Send a response, waiting while the caller is slow."""
        await self.pipe.write(self.serialize(message))

    def __aiter__(self) -> StreamContext:
        """The requests, as the servicer's iterator."""
        return self

    async def __anext__(self) -> Any:
        data = await self.pipe.read()
        if data is None:
            raise StopAsyncIteration
        return self.deserialize(data)

    # What the pipe tells.

    def on_accept(self) -> None:
        """Only servers accept."""

    def on_initial(self, message: Msg) -> None:
        """Only servers send it."""

    def on_end(self, message: Msg) -> None:
        """The client no longer knows the call."""
        self.end_early(StatusCode.CANCELLED, "the caller no longer knows the call")

    def on_cancel(self) -> None:
        self.end_early(StatusCode.CANCELLED, "the caller cancelled")

    def on_lost(self, reason: str) -> None:
        self.end_early(StatusCode.UNAVAILABLE, reason)

    def on_nobody(self) -> None:
        self.end_early(StatusCode.UNAVAILABLE, "the caller is gone")

    def say_end(self, headers: bytes) -> None:
        """The last frame."""
        self.pipe.say(END, headers)
