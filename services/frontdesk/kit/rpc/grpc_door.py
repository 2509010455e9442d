"""The same servicers on grpc.aio, for callers from outside: with a proven principal, health and reflection.

Methods routed by account or replica are not answered here but forwarded over NATS to the one that may answer,
so any replica's door serves every account. Messages are passed on as they are.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import grpc
from google.protobuf import descriptor_pool
from grpc import aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from opentelemetry import context as otel
from opentelemetry import trace
from opentelemetry.trace import SpanKind, TracerProvider

from frontdesk.kit.principal import Principal, current_principal
from frontdesk.kit.rpc import metadata as md
from frontdesk.kit.rpc import tracing
from frontdesk.kit.rpc.behaviour import Served, run_many, run_single, served
from frontdesk.kit.rpc.channel import NatsChannel
from frontdesk.kit.rpc.status import outcome_of

S = TypeVar("S")

# What belongs to the caller's connection to this door, or is a credential, goes no further.
_OWN_KEYS = frozenset(
    {"authorization", "user-agent", "content-type", "te", "traceparent", "tracestate", "baggage"}
)


class Authenticator(Protocol):
    """Proves who calls."""

    async def authenticate(self, metadata: Mapping[str, str]) -> Principal:
        """The caller, from the call's text metadata (lower-case keys); raises Unauthenticated."""
        ...


@dataclass(frozen=True)
class Tls:
    """PEM files' contents; with `client_ca` clients have to show a certificate of it."""

    key: bytes
    certificate: bytes
    client_ca: bytes | None = None


class GrpcServer:
    """A grpc.aio server at `host:port` (port 0 takes a free one, see `port` after `start`).

    Every method but health and reflection is called with `current_principal` set by `authenticator`.
    `channel` forwards the methods routed to one replica; it is needed when there are any. `limit`: calls in
    flight, one more is RESOURCE_EXHAUSTED. `max_message_bytes`: of a message, either way.
    """

    def __init__(
        self,
        authenticator: Authenticator,
        *,
        channel: NatsChannel | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        tls: Tls | None = None,
        max_message_bytes: int = 4 * 1024 * 1024,
        limit: int = 1024,
        tracer_provider: TracerProvider | None = None,
    ) -> None:
        self.port = port
        self._host = host
        self._authenticator = authenticator
        self._channel = channel
        self._tls = tls
        self._tracing = tracing.Tracing("grpc", SpanKind.SERVER, tracer_provider)
        self._health = health.aio.HealthServicer()
        self._services: list[str] = []
        options = [
            ("grpc.max_receive_message_length", max_message_bytes),
            ("grpc.max_send_message_length", max_message_bytes),
            ("grpc.so_reuseport", 0),
        ]
        self._server = aio.server(options=options, maximum_concurrent_rpcs=limit)

    def add(self, register: Callable[[S, Any], None], servicer: S) -> None:
        """`server.add(add_ReplyServiceServicer_to_server, servicer)`: the generated function,
        type-checked."""
        register(servicer, self)

    def add_generic_rpc_handlers(self, generic_rpc_handlers: Iterable[grpc.GenericRpcHandler]) -> None:
        """Generated code calls this and `add_registered_method_handlers` with the same methods; that one
        counts."""

    def add_registered_method_handlers(
        self, service_name: str, method_handlers: Mapping[str, grpc.RpcMethodHandler[Any, Any]]
    ) -> None:
        """What generated `add_…Servicer_to_server` functions call; raises ValueError when a method has to be
        forwarded and there is no channel."""
        methods = served(service_name, dict(method_handlers))
        wrapped = {name: self._handler(one) for name, one in methods.items()}
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service_name, wrapped),))
        self._server.add_registered_method_handlers(service_name, wrapped)
        self._services.append(service_name)

    async def start(self) -> None:
        """Listen; raises RuntimeError when the port is taken."""
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        for name in self._services:
            await self._health.set(name, health_pb2.HealthCheckResponse.SERVING)
        names = [*self._services, health.SERVICE_NAME, reflection.SERVICE_NAME]
        reflection.enable_server_reflection(names, self._server, pool=descriptor_pool.Default())
        address = f"{self._host}:{self.port}"
        if self._tls is None:
            self.port = self._server.add_insecure_port(address)
        else:
            pair = [(self._tls.key, self._tls.certificate)]
            need = self._tls.client_ca is not None
            credentials = grpc.ssl_server_credentials(pair, self._tls.client_ca, require_client_auth=need)
            self.port = self._server.add_secure_port(address, credentials)
        await self._server.start()

    async def drain(self, timeout: float = 10.0) -> None:
        """Say NOT_SERVING, take no more calls, let those under way finish for `timeout` seconds."""
        await self._health.enter_graceful_shutdown()
        await self._server.stop(timeout)

    def _handler(self, one: Served) -> grpc.RpcMethodHandler[Any, Any]:
        behaviour = self._forwarder(one) if one.method.routed else one.behaviour

        async def single(argument: Any, context: Any) -> Any:
            async with self._guard(one, context):
                return await run_single(behaviour, argument, context)

        async def many(argument: Any, context: Any) -> None:
            async with self._guard(one, context):
                await run_many(behaviour, argument, context)

        raw = one.method.routed
        kinds = {
            (False, False): grpc.unary_unary_rpc_method_handler,
            (False, True): grpc.unary_stream_rpc_method_handler,
            (True, False): grpc.stream_unary_rpc_method_handler,
            (True, True): grpc.stream_stream_rpc_method_handler,
        }
        make: Callable[..., grpc.RpcMethodHandler[Any, Any]] = kinds[
            one.request_streaming, one.response_streaming
        ]
        return make(
            many if one.response_streaming else single,
            request_deserializer=None if raw else one.deserialize,
            response_serializer=None if raw else one.serialize,
        )

    def _forwarder(self, one: Served) -> Callable[[Any, Any], Any]:
        if self._channel is None:
            raise ValueError(
                f"{one.method.path} is routed to one replica: the door needs a channel to forward it"
            )
        call_owner = self._channel.forward(one)

        async def single(argument: Any, context: Any) -> Any:
            call = call_owner(argument, timeout=context.time_remaining(), metadata=_passed_on(context))
            response = await call
            initial = await call.initial_metadata()
            if len(initial):
                await context.send_initial_metadata(tuple(initial))
            context.set_trailing_metadata(tuple(await call.trailing_metadata()))
            return response

        async def many(argument: Any, context: Any) -> None:
            call = call_owner(argument, timeout=context.time_remaining(), metadata=_passed_on(context))
            async for response in call:
                await context.write(response)
            context.set_trailing_metadata(tuple(await call.trailing_metadata()))

        return many if one.response_streaming else single

    @asynccontextmanager
    async def _guard(self, one: Served, context: Any) -> AsyncIterator[None]:
        """Proves the caller, carries the trace, and turns every error into a status."""
        metadata = {key: value for key, value in context.invocation_metadata() if isinstance(value, str)}
        parent = tracing.context_of(metadata)
        span = self._tracing.start(one.method, parent)
        if span is not None:
            otel.attach(trace.set_span_in_context(span, parent))
        elif parent is not None:
            otel.attach(parent)
        code = grpc.StatusCode.OK
        try:
            current_principal.set(await self._authenticator.authenticate(metadata))
            yield
        except aio.AbortError:
            code = grpc.StatusCode.UNKNOWN
            raise
        except Exception as error:  # noqa: BLE001 - the task's end: every error becomes a status
            code, details, trailing = outcome_of(error, one.method.path, None, "")
            await context.abort(code, details, tuple(trailing))
        finally:
            if span is not None:
                tracing.end(span, code)


def _passed_on(context: Any) -> tuple[tuple[str, str | bytes], ...]:
    """The caller's own metadata: nothing reserved, so that nobody outside can name a principal."""
    pairs = context.invocation_metadata() or ()
    return tuple(
        (key, value)
        for key, value in pairs
        if key not in _OWN_KEYS and not key.startswith((*md.RESERVED, ":"))
    )
