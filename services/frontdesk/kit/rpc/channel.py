"""A grpc.aio channel whose calls travel over NATS."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any, Self, cast

import grpc
from grpc import aio
from nats.aio.client import Client
from opentelemetry.trace import TracerProvider

from frontdesk.kit.clock import Clock, SystemClock
from frontdesk.kit.rpc import metadata as md
from frontdesk.kit.rpc.behaviour import Served
from frontdesk.kit.rpc.call import ClientCall, Options, Spec, UnaryUnaryCall
from frontdesk.kit.rpc.link import Link, LinkConfig, Wake
from frontdesk.kit.rpc.routing import describe
from frontdesk.kit.rpc.stream_call import StreamStreamCall, StreamUnaryCall, UnaryStreamCall

Serializer = Callable[[Any], bytes] | None
Deserializer = Callable[[bytes], Any] | None
_POLL_S = 0.02


class NatsChannel(aio.Channel):
    """What generated `…Stub(channel)` classes call; see kit/rpc/server.py for where calls go.

    `shards` is the installation's number of shards. `caller` names this process to servers
    (`context.peer()`). `wake(deployable)` asks for a replica when nobody answers; without one
    `wake.<deployable>` is published to JetStream. A unary call without a timeout gets `default_timeout_s`; a
    stream without one lasts as long as it likes, but has to be taken within that time. A call nobody answers
    is tried again, 50 ms to 1 s apart, until its deadline, then fails with UNAVAILABLE; with
    `wait_for_ready=False` it fails at once. One that was taken and whose replica went away fails with
    UNAVAILABLE within a few times `probe_s`. Must be made inside the loop.
    """

    def __init__(
        self,
        nc: Client,
        *,
        shards: int,
        caller: str,
        clock: Clock | None = None,
        wake: Wake | None = None,
        default_timeout_s: float = 5.0,
        window: int = 32,
        heartbeat_s: float = 5.0,
        dead_after_s: float = 15.0,
        probe_s: float = 2.0,
        tracer_provider: TracerProvider | None = None,
    ) -> None:
        config = LinkConfig(shards, caller, default_timeout_s, window, heartbeat_s, dead_after_s, probe_s)
        self._link = Link(nc, config, clock or SystemClock(), wake, tracer_provider)

    def unary_unary(
        self,
        method: str,
        request_serializer: Serializer = None,
        response_deserializer: Deserializer = None,
        _registered_method: bool | None = False,
    ) -> aio.UnaryUnaryMultiCallable[Any, Any]:
        spec = _spec(method, request_serializer, response_deserializer)
        return cast("aio.UnaryUnaryMultiCallable[Any, Any]", _One(self._link, spec, UnaryUnaryCall))

    def unary_stream(
        self,
        method: str,
        request_serializer: Serializer = None,
        response_deserializer: Deserializer = None,
        _registered_method: bool | None = False,
    ) -> aio.UnaryStreamMultiCallable[Any, Any]:
        spec = _spec(method, request_serializer, response_deserializer)
        return cast("aio.UnaryStreamMultiCallable[Any, Any]", _One(self._link, spec, UnaryStreamCall))

    def stream_unary(
        self,
        method: str,
        request_serializer: Serializer = None,
        response_deserializer: Deserializer = None,
        _registered_method: bool | None = False,
    ) -> aio.StreamUnaryMultiCallable[Any, Any]:
        spec = _spec(method, request_serializer, response_deserializer)
        return cast("aio.StreamUnaryMultiCallable[Any, Any]", _Many(self._link, spec, StreamUnaryCall))

    def stream_stream(
        self,
        method: str,
        request_serializer: Serializer = None,
        response_deserializer: Deserializer = None,
        _registered_method: bool | None = False,
    ) -> aio.StreamStreamMultiCallable[Any, Any]:
        spec = _spec(method, request_serializer, response_deserializer)
        return cast("aio.StreamStreamMultiCallable[Any, Any]", _Many(self._link, spec, StreamStreamCall))

    def forward(self, one: Served) -> Callable[..., Any]:
        """Calls of `one` that take and give the messages as they are on the wire, without knowing their
        types."""

        def target(raw: bytes) -> str:
            return one.method.target_of(one.deserialize(raw))

        spec = Spec(one.method, one.method.subject, bytes, bytes, target)
        if one.request_streaming:
            return _Many(self._link, spec, StreamStreamCall if one.response_streaming else StreamUnaryCall)
        return _One(self._link, spec, UnaryStreamCall if one.response_streaming else UnaryUnaryCall)

    async def close(self, grace: float | None = None) -> None:
        """Let calls in flight finish for `grace` seconds, then end them with UNAVAILABLE. NATS stays
        connected."""
        until = self._link.clock.monotonic() + (grace or 0.0)
        while self._link.mailbox.receivers() and self._link.clock.monotonic() < until:
            await self._link.clock.sleep(_POLL_S)
        await self._link.close()

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        """The connection to NATS; it re-connects by itself, whatever `try_to_connect` says."""
        if self._link.closed or self._link.wire.nc.is_closed:
            return grpc.ChannelConnectivity.SHUTDOWN
        if self._link.wire.nc.is_connected:
            return grpc.ChannelConnectivity.READY
        return grpc.ChannelConnectivity.TRANSIENT_FAILURE

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        """Returns when `get_state` is another."""
        while self.get_state() == last_observed_state:
            await self._link.clock.sleep(_POLL_S)

    async def channel_ready(self) -> None:
        """Returns when calls can be sent."""
        while self.get_state() is not grpc.ChannelConnectivity.READY:
            await self._link.clock.sleep(_POLL_S)
        await self._link.mailbox.start()

    async def __aenter__(self) -> Self:
        await self.channel_ready()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        await self.close()


class _One:
    """A method that takes one request. `kind` makes the call."""

    def __init__(
        self, link: Link, spec: Spec, kind: Callable[[Link, Spec, Options, Any], ClientCall]
    ) -> None:
        self._link = link
        self._spec = spec
        self._kind = kind
        self._default = link.config.default_timeout_s if kind is UnaryUnaryCall else None
        self._plain = Options(self._default)

    def __call__(
        self,
        request: Any,
        *,
        timeout: float | None = None,
        metadata: md.MetadataLike | None = None,
        credentials: object = None,
        wait_for_ready: bool | None = None,
        compression: object = None,
    ) -> Any:
        _only_http(credentials, compression)
        if timeout is None and metadata is None and wait_for_ready is None:
            return self._kind(self._link, self._spec, self._plain, request)
        seconds = self._default if timeout is None else timeout
        return self._kind(
            self._link, self._spec, Options(seconds, metadata, wait_for_ready is not False), request
        )


class _Many:
    """A method that takes a stream of requests."""

    def __init__(
        self, link: Link, spec: Spec, kind: Callable[[Link, Spec, Options, Any], ClientCall]
    ) -> None:
        self._link = link
        self._spec = spec
        self._kind = kind

    def __call__(
        self,
        request_iterator: Any = None,
        timeout: float | None = None,
        metadata: md.MetadataLike | None = None,
        credentials: object = None,
        wait_for_ready: bool | None = None,
        compression: object = None,
    ) -> Any:
        _only_http(credentials, compression)
        options = Options(timeout, metadata, wait_for_ready is not False)
        return self._kind(self._link, self._spec, options, request_iterator)


def _spec(path: str, serialize: Serializer, deserialize: Deserializer) -> Spec:
    method = describe(path)
    return Spec(method, method.subject, serialize or bytes, deserialize or bytes, method.target_of)


def _only_http(credentials: object, compression: object) -> None:
    if credentials is not None or compression is not None:
        raise aio.UsageError("calls over NATS take no credentials or compression of their own")
