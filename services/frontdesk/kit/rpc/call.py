"""Calls of a client: the one-to-one kind, and what it shares with streams. They behave as grpc.aio's do."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any

from grpc import StatusCode
from grpc.aio import AioRpcError, Metadata
from nats.aio.msg import Msg

from frontdesk.kit.errors import FrontdeskError, ResourceExhausted
from frontdesk.kit.rpc import metadata as md
from frontdesk.kit.rpc import tracing
from frontdesk.kit.rpc.link import Link
from frontdesk.kit.rpc.routing import Method
from frontdesk.kit.wire import nobody_answered

FIRST_BACKOFF_S = 0.05
MOST_BACKOFF_S = 1.0
# A busy replica may be late with its sign of life, and is given the time of so many.
MOST_UNANSWERED = 2


@dataclass(frozen=True, slots=True)
class Spec:
    """How calls of one method are made."""

    method: Method
    subject: str
    serialize: Callable[[Any], bytes]
    deserialize: Callable[[bytes], Any]
    target_of: Callable[[Any], str]

    def subject_for(self, request: Any, shards: int) -> str:
        """Where the call with `request` goes; raises InvalidArgument when it does not name what it has to."""
        if not self.method.routed:
            return self.subject
        return self.method.target_subject(self.target_of(request), shards)


@dataclass(frozen=True, slots=True)
class Options:
    """What the caller gave besides the request. `wait` False fails at once when nobody answers."""

    timeout: float | None = None
    metadata: md.MetadataLike | None = None
    wait: bool = True


class ClientCall:
    """grpc.aio.Call: status, metadata, deadline and cancellation of one call."""

    _sent_again_at = 0.0

    def __init__(self, link: Link, spec: Spec, options: Options) -> None:
        self._link = link
        self._spec = spec
        self._options = options
        self._finished: asyncio.Future[None] = link.loop.create_future()
        self._code: StatusCode | None = None
        self._details = ""
        self._headers: dict[str, str] | None = None
        self._subject = ""
        self._payload = b""
        self._address = ""
        self._nobody = False
        self._backoff = FIRST_BACKOFF_S
        self._cancelled_here = False
        self._callbacks: list[Callable[[Any], None]] = []
        self._span = link.tracing.start(spec.method)
        self._deadline: float | None = None
        self._timer: asyncio.TimerHandle | None = None
        if options.timeout is not None:
            self._deadline = link.loop.time() + options.timeout
            self._timer = link.loop.call_later(self._first_look_s(options.timeout), self._when_late())

    def cancelled(self) -> bool:
        """Whether the call ended with CANCELLED."""
        return self._code is StatusCode.CANCELLED

    def done(self) -> bool:
        return self._code is not None

    def time_remaining(self) -> float | None:
        """Seconds until the deadline; None without one."""
        return None if self._deadline is None else max(0.0, self._deadline - self._link.loop.time())

    def cancel(self) -> bool:
        """Give the call up and tell the server; False when it is over already."""
        if self._code is not None:
            return False
        self._cancelled_here = True
        self._fail(StatusCode.CANCELLED, "cancelled by the caller", tell=True)
        return True

    def add_done_callback(self, callback: Callable[[Any], None]) -> None:
        """`callback(call)` runs when the call is over; at once if it is."""
        if self._code is not None:
            callback(self)
        else:
            self._callbacks.append(callback)

    async def initial_metadata(self) -> Metadata:
        """Waits for it."""
        await self._over()
        return md.metadata_of(self._headers, prefix=md.INITIAL)

    async def trailing_metadata(self) -> Metadata:
        """Waits for the end of the call."""
        await self._over()
        return md.metadata_of(self._headers)

    async def code(self) -> StatusCode:
        """Waits for the end of the call."""
        await self._over()
        assert self._code is not None
        return self._code

    async def details(self) -> str:
        """Waits for the end of the call."""
        await self._over()
        return self._details

    async def wait_for_connection(self) -> None:
        """Returns when the call may be sent."""
        await self._link.mailbox.start()

    # For the kinds of calls.

    async def _over(self) -> None:
        if self._code is None:
            try:
                await asyncio.shield(self._finished)
            except asyncio.CancelledError:
                if self._code is None:
                    raise

    def _first_look_s(self, timeout: float) -> float:
        return timeout

    def _when_late(self) -> Callable[[], None]:
        return self._on_deadline

    def _on_deadline(self) -> None:
        if self._nobody:
            self._fail(StatusCode.UNAVAILABLE, self._nobody_text())
        else:
            self._fail(
                StatusCode.DEADLINE_EXCEEDED, f"{self._spec.method.path}: deadline exceeded", tell=True
            )

    def _nobody_text(self) -> str:
        return f"nobody answers for {self._spec.method.deployable}"

    def _transmit(self) -> None:
        """Send the request, or send it again."""
        if self._code is not None:
            return
        link = self._link
        if link.closed:
            self._fail(StatusCode.UNAVAILABLE, "the channel was closed")
            return
        timeout = self._options.timeout if self._backoff == FIRST_BACKOFF_S else self.time_remaining()
        try:
            headers = link.headers(timeout, self._options.metadata, self._span, self._extra())
            size = len(headers) + len(self._payload)
            if size > link.wire.max_payload:
                raise ResourceExhausted(
                    f"a request of {size} bytes is over the limit of {link.wire.max_payload}"
                )
            link.wire.send(self._subject, self._payload, self._address, headers)
        except ValueError as error:
            self._fail(StatusCode.INTERNAL, str(error))
        except FrontdeskError as error:
            self._fail(StatusCode[error.code], error.message)

    def _extra(self) -> md.Lines | None:
        return None

    def _try_again(self) -> None:
        """The NATS server said that nobody listens."""
        self._nobody = True
        if not self._spec.method.by_replica:  # no waking brings back a certain replica
            self._link.wake(self._spec.method.deployable)
        if self._options.wait:
            self._link.spawn(self._transmit_later())
        else:
            self._fail(StatusCode.UNAVAILABLE, self._nobody_text())

    async def _transmit_later(self) -> None:
        delay, self._backoff = self._backoff, min(self._backoff * 2, MOST_BACKOFF_S)
        await self._link.clock.sleep(delay)
        self._nobody = False
        self._sent_again_at = self._link.loop.time()
        self._transmit()

    def _unavailable(self, why: str) -> None:
        self._fail(StatusCode.UNAVAILABLE, why)

    def _fail(self, code: StatusCode, details: str, *, tell: bool = False) -> None:
        """End the call from this side; with `tell` the server hears of it."""
        if self._code is None:
            if tell:
                self._tell()
            self._finish(code, details, None)

    def _tell(self) -> None:
        if self._subject:
            try:
                self._link.cancel_remotely(self._spec.method, self._address)
            except FrontdeskError:
                return  # the server's own deadline, or its heartbeat, ends the call there

    def _finish(self, code: StatusCode, details: str, headers: dict[str, str] | None) -> None:
        """The call is over."""
        self._code = code
        self._details = details
        self._headers = headers
        if self._timer is not None:
            self._timer.cancel()
        if self._address:
            self._link.mailbox.close(self._address)
        if self._span is not None:
            tracing.end(self._span, code)
        if not self._finished.done():
            self._finished.set_result(None)
        for callback in self._callbacks:
            self._link.loop.call_soon(callback, self)

    def _error(self) -> BaseException:
        """What the caller gets for a call that did not end well."""
        if self._cancelled_here:
            return asyncio.CancelledError()
        return AioRpcError(
            self._code or StatusCode.UNKNOWN,
            md.metadata_of(self._headers, prefix=md.INITIAL),
            md.metadata_of(self._headers),
            details=self._details,
        )


class UnaryUnaryCall(ClientCall):
    """One request, one response. It is on its way when the object is made.

    A call that takes long asks every `probe_s` whether a replica works on it, and ends with UNAVAILABLE when
    none does: a process that died says nothing itself. Short calls pay nothing for it.
    """

    _probe_address = ""
    _unanswered = 0

    def __init__(self, link: Link, spec: Spec, options: Options, request: Any) -> None:
        super().__init__(link, spec, options)
        self._reply = b""
        try:
            self._subject = spec.subject_for(request, link.config.shards)
            self._payload = spec.serialize(request)
        except FrontdeskError as error:
            self._fail(StatusCode[error.code], error.message)
        except Exception as error:  # noqa: BLE001 - becomes the call's status, as in grpc.aio
            self._fail(StatusCode.INTERNAL, f"the request could not be serialized: {error}")
        else:
            self._address = link.mailbox.open(self._on_reply)
            if link.mailbox.started:
                self._transmit()
            else:
                link.when_started(self._transmit, self._unavailable)

    def __await__(self) -> Generator[Any, None, Any]:
        if self._code is None:
            try:
                yield from self._finished.__await__()
            except asyncio.CancelledError:
                self.cancel()
                raise
        if self._code is not StatusCode.OK:
            raise self._error()
        try:
            return self._spec.deserialize(self._reply)
        except (
            Exception
        ) as error:  # whatever the deserializer raises becomes the call's status, as in grpc.aio
            raise AioRpcError(
                StatusCode.INTERNAL, details=f"the response could not be deserialized: {error}"
            ) from error

    def _first_look_s(self, timeout: float) -> float:
        return min(timeout, self._link.config.probe_s)

    def _when_late(self) -> Callable[[], None]:
        return self._look

    def _look(self) -> None:
        """The deadline has come, or the time to ask whether anybody works on the call."""
        left = self.time_remaining()
        if not left:
            self._on_deadline()
            return
        link = self._link
        probe_s = link.config.probe_s
        self._timer = link.loop.call_later(min(left, probe_s), self._look)
        just_sent = link.loop.time() - self._sent_again_at < probe_s / 2
        if self._nobody or just_sent or not (link.mailbox.started and link.wire.nc.is_connected):
            self._unanswered = 0  # nobody took it yet, or nobody can say anything
        elif self._unanswered >= MOST_UNANSWERED:
            self._gone()
        else:
            self._probe()

    def _probe(self) -> None:
        link = self._link
        if not self._probe_address:
            self._probe_address = link.mailbox.open(self._on_probed)
        try:
            link.probe(self._spec.method, self._address, self._probe_address)
        except FrontdeskError:
            return  # the connection does not keep up: the replica can't be blamed
        self._unanswered += 1

    def _on_probed(self, message: Msg) -> None:
        if nobody_answered(message):
            self._gone()
        else:
            self._unanswered = 0

    def _gone(self) -> None:
        why = f"the replica of {self._spec.method.deployable} that took the call is gone"
        self._fail(StatusCode.UNAVAILABLE, why, tell=True)

    def _finish(self, code: StatusCode, details: str, headers: dict[str, str] | None) -> None:
        if self._probe_address:
            self._link.mailbox.close(self._probe_address)
        super()._finish(code, details, headers)

    def _on_reply(self, message: Msg) -> None:
        headers = message.headers
        if headers is None:
            self._reply = message.data
            self._finish(StatusCode.OK, "", None)
        elif nobody_answered(message):
            self._try_again()
        else:
            self._reply = message.data
            self._finish(*md.status_of(headers), headers)
