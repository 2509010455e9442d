"""gRPC servicers on NATS request/reply.

A call is a message to `rpc.<package.Service>.<Method>`, its reply subject is the call's id and where the
answer goes. Replicas of a deployable form one queue group. Methods routed by account listen on
`….<Method>.<shard>` instead, for the shards this replica owns, methods routed by replica on
`….<Method>.at.<replica>`. A call that its caller gives up is named on `….<Service>._cancel`, which every
replica hears; on `….<Service>._alive` the replica that works on the call says so. Streams go on between two
inboxes (kit/rpc/pipe.py).
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

import grpc
from google.protobuf.message import DecodeError
from grpc import StatusCode
from grpc.aio import AbortError
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import Error as NatsError
from opentelemetry import context as otel
from opentelemetry import trace
from opentelemetry.trace import Span, SpanKind, TracerProvider

from frontdesk.kit import subjects
from frontdesk.kit.clock import Clock, SystemClock
from frontdesk.kit.errors import Unavailable
from frontdesk.kit.principal import current_principal
from frontdesk.kit.rpc import metadata as md
from frontdesk.kit.rpc import pipe as pipes
from frontdesk.kit.rpc import tracing
from frontdesk.kit.rpc.behaviour import Served, run_many, run_single, served
from frontdesk.kit.rpc.context import CallContext, StreamContext
from frontdesk.kit.rpc.status import Outcome, outcome_of
from frontdesk.kit.wire import Mailbox, Wire

_log = logging.getLogger(__name__)

MOST_UNARY_S = 60.0
CLEAN_UP_S = 1.0

S = TypeVar("S")


class RpcServer:
    """Serves servicers of `deployable` on `nc`, as the replica of that name.

    `limit`: calls in flight; one more is RESOURCE_EXHAUSTED. `window`: messages a client may send ahead on a
    stream. `heartbeat_s`, `dead_after_s`: a silent stream says something this often, and is given up after
    that long. Servicers are added before `start`. A unary call that came without a deadline gets 60 s.
    """

    def __init__(
        self,
        nc: Client,
        deployable: str,
        *,
        replica: str = "",
        limit: int = 1024,
        window: int = 32,
        heartbeat_s: float = 5.0,
        dead_after_s: float = 15.0,
        clock: Clock | None = None,
        tracer_provider: TracerProvider | None = None,
    ) -> None:
        self._wire = Wire(nc)
        self._loop = asyncio.get_running_loop()
        self._deployable = deployable
        self._replica = replica
        self._limit = limit
        self._window = window
        self._mailbox = Mailbox(self._wire, deployable, self._on_stray)
        self._pulse = pipes.Pulse(self._wire, clock or SystemClock(), heartbeat_s, dead_after_s)
        self._tracing = tracing.Tracing("nats", SpanKind.SERVER, tracer_provider)
        self._services: dict[str, dict[str, Served]] = {}
        self._subscriptions: list[Subscription] = []
        self._to_the_end: list[Subscription] = []
        self._shards: dict[int, list[Subscription]] = {}
        self._calls: dict[str, CallContext] = {}

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
        """What generated `add_…Servicer_to_server` functions call."""
        self._services[service_name] = served(service_name, dict(method_handlers))

    @property
    def in_flight(self) -> int:
        """Calls being served."""
        return len(self._calls)

    async def start(self) -> None:
        """Subscribe; when this returns, calls reach this replica. Raises ValueError when a method is routed
        by replica and this one has no name."""
        await self._mailbox.start()
        for service, methods in self._services.items():
            for one in methods.values():
                receiver = functools.partial(self._on_call, one, None)
                if one.method.by_replica:
                    subject = subjects.rpc_at(service, one.method.name, self._replica)
                    await self._subscribe(self._subscriptions, subject, receiver)
                elif not one.method.by_account:
                    await self._subscribe(self._subscriptions, one.method.subject, receiver, self._deployable)
            any_method = next(iter(methods.values())).method
            await self._subscribe(self._subscriptions, any_method.cancel_subject, self._on_cancel)
            await self._subscribe(self._to_the_end, any_method.alive_subject, self._on_alive)
            _log.info("serving %s", service)
        await self._wire.nc.flush()

    async def own_shard(self, shard: int) -> None:
        """Take the calls for the accounts of `shard`; does nothing when it is owned already."""
        if shard in self._shards:
            return
        subscriptions = self._shards[shard] = []
        for service, methods in self._services.items():
            if any(one.method.by_account for one in methods.values()):
                receiver = functools.partial(self._on_shard_call, methods, shard)
                subject = subjects.rpc(service, "*", shard)
                await self._subscribe(subscriptions, subject, receiver, self._deployable)
        await self._wire.nc.flush()

    async def disown_shard(self, shard: int, grace_s: float = 5.0) -> None:
        """Take no more calls for `shard`. Those under way may finish within `grace_s`; then they, and at once
        streams without a deadline, end with UNAVAILABLE, so that their callers ask the new owner."""
        subscriptions = self._shards.pop(shard, [])
        await self._unsubscribe(subscriptions)
        calls = [call for call in self._calls.values() if call.shard == shard]
        await self._let_finish(calls, grace_s, "the account moved to another replica")

    async def drain(self, timeout: float = 10.0) -> None:
        """Take no more calls, let those under way finish for `timeout` seconds, end the rest with
        UNAVAILABLE."""
        everything = [*self._subscriptions, *(one for many in self._shards.values() for one in many)]
        self._subscriptions.clear()
        self._shards.clear()
        await self._unsubscribe(everything)
        await self._let_finish(list(self._calls.values()), timeout, "the replica is stopping")
        await self._unsubscribe(self._to_the_end)
        self._pulse.stop()
        await self._mailbox.stop()
        try:
            await self._wire.relieve()
        except Unavailable as error:
            _log.warning("the last answers may not have been sent: %s", error)

    async def _subscribe(
        self, into: list[Subscription], subject: str, receiver: Callable[[Msg], None], queue: str = ""
    ) -> None:
        into.append(await self._wire.listen(subject, receiver, queue))

    async def _unsubscribe(self, subscriptions: list[Subscription]) -> None:
        nc = self._wire.nc
        if nc.is_closed or nc.is_draining:
            return
        for subscription in subscriptions:
            try:
                if nc.is_connected:  # drain takes what the server had sent already
                    await subscription.drain()  # type: ignore[no-untyped-call]
                else:
                    await subscription.unsubscribe()
            except (NatsError, TimeoutError) as error:
                _log.warning("a subscription did not end in order: %s", error)

    async def _let_finish(self, calls: list[CallContext], grace_s: float, why: str) -> None:
        for call in calls:
            if isinstance(call, StreamContext) and call.deadline is None:
                call.end_early(StatusCode.UNAVAILABLE, why)
        tasks = [call.task for call in calls if call.task is not None]
        if not tasks:
            return
        _, late = await asyncio.wait(tasks, timeout=grace_s)
        for call in calls:
            if call.task in late:
                call.end_early(StatusCode.UNAVAILABLE, why)
        if late:
            await asyncio.wait(late, timeout=CLEAN_UP_S)

    # Taking calls in. These run inside the NATS client's read loop and never wait.

    def _on_shard_call(self, methods: dict[str, Served], shard: int, message: Msg) -> None:
        one = methods.get(message.subject.split(".")[-2])
        if one is None:
            self._refuse(message, StatusCode.UNIMPLEMENTED, "no such method", stream=False)
        else:
            self._on_call(one, shard, message)

    def _on_call(self, one: Served, shard: int | None, message: Msg) -> None:
        stream = one.request_streaming or one.response_streaming
        if not message.reply:
            return
        if len(self._calls) >= self._limit:
            why = f"{self._deployable} serves {self._limit} calls already"
            self._refuse(message, StatusCode.RESOURCE_EXHAUSTED, why, stream=stream)
            return
        context = (
            StreamContext(one.method, message, shard) if stream else CallContext(one.method, message, shard)
        )
        try:
            self._set_deadline(context, stream=stream)
            if isinstance(context, StreamContext):
                self._accept(one, context)
        except (ValueError, Unavailable) as error:
            self._refuse(message, StatusCode.INTERNAL, str(error), stream=stream)
            return
        self._calls[message.reply] = context
        work = (
            self._serve_stream(one, context)
            if isinstance(context, StreamContext)
            else self._serve(one, context)
        )
        # An empty context of its own: nothing of another call, principal or trace, can leak into this one.
        context.task = self._loop.create_task(work, context=contextvars.Context())
        context.task.add_done_callback(functools.partial(self._forget, context))

    def _set_deadline(self, context: CallContext, *, stream: bool) -> None:
        given = context.headers.get(md.TIMEOUT) if context.headers else None
        if given is None and stream:
            return
        seconds = MOST_UNARY_S if given is None else md.decode_timeout(given)
        context.deadline = self._loop.time() + seconds
        context.timer = self._loop.call_later(
            seconds, context.end_early, StatusCode.DEADLINE_EXCEEDED, "deadline exceeded"
        )

    def _accept(self, one: Served, context: StreamContext) -> None:
        context.deserialize = one.deserialize
        context.serialize = one.serialize
        pipe = pipes.Pipe(self._wire, self._mailbox, self._window, context)
        context.pipe = pipe
        pipe.allow(int((context.headers or {}).get(md.WINDOW, "0")))
        if not one.request_streaming:
            pipe.no_more()
        pipe.accept(context.message.reply)
        self._pulse.add(pipe)

    def _forget(self, context: CallContext, task: asyncio.Task[None]) -> None:
        self._calls.pop(context.message.reply, None)
        if isinstance(context, StreamContext):
            self._pulse.discard(context.pipe)
            context.pipe.close()
        context.finish()
        if not task.cancelled() and task.exception() is not None:
            _log.error("a call could not be ended", exc_info=task.exception())

    def _refuse(self, message: Msg, code: StatusCode, why: str, *, stream: bool) -> None:
        headers = md.block(md.status_lines(code, why, ()))
        if stream:
            self._wire.send(message.reply, pipes.bare(pipes.END), "", headers)
        else:
            self._wire.send(message.reply, b"", "", headers)

    def _on_cancel(self, message: Msg) -> None:
        context = self._calls.get(message.data.decode("ascii", "replace"))
        if context is not None:
            context.end_early(StatusCode.CANCELLED, "the caller cancelled")

    def _on_alive(self, message: Msg) -> None:
        if message.reply and message.data.decode("ascii", "replace") in self._calls:
            self._wire.send(message.reply)

    def _on_stray(self, message: Msg) -> None:
        unknown = md.status_lines(StatusCode.UNAVAILABLE, "the replica no longer knows this stream", ())
        pipes.answer_stray(self._wire, message, pipes.END, md.block(unknown))

    # Serving. These are the calls' own tasks.

    def _enter(self, context: CallContext) -> Span | None:
        """Principal and trace of the caller, for this task."""
        headers = context.headers
        parent = None
        if headers:
            principal = md.principal_of(headers)
            if principal is not None:
                current_principal.set(principal)
            parent = tracing.context_of(headers)
        span = self._tracing.start(context.method, parent)
        if span is not None:
            otel.attach(trace.set_span_in_context(span, parent))
        elif parent is not None:
            otel.attach(parent)
        return span

    async def _serve(self, one: Served, context: CallContext) -> None:
        span = self._enter(context)
        payload = b""
        try:
            response = await run_single(one.behaviour, one.deserialize(context.message.data), context)
            payload = one.serialize(response)
            outcome = self._returned(context)
        except asyncio.CancelledError:
            outcome = self._cancelled(context)
        except Exception as error:  # noqa: BLE001 - the task's end: every error becomes a status
            outcome = self._raised(context, error)
        if outcome[0] is not StatusCode.OK:
            payload = b""
        lines = md.status_lines(*outcome)
        headers = md.block([*context.initial, *lines]) if lines or context.initial else b""
        limit = self._wire.max_payload
        if len(payload) + len(headers) > limit:
            why = f"the answer of {len(payload)} bytes is over the limit of {limit}"
            outcome, payload = (StatusCode.RESOURCE_EXHAUSTED, why, ()), b""
            headers = md.block(md.status_lines(*outcome))
        if span is not None:
            tracing.end(span, outcome[0])
        if self._wire.congested:
            await self._wire.relieve()
        self._wire.send(context.message.reply, payload, "", headers)

    async def _serve_stream(self, one: Served, context: StreamContext) -> None:
        span = self._enter(context)
        try:
            argument = context if one.request_streaming else one.deserialize(context.message.data)
            if one.response_streaming:
                await run_many(one.behaviour, argument, context)
            else:
                await context.write(await run_single(one.behaviour, argument, context))
            outcome = self._returned(context)
        except asyncio.CancelledError:
            outcome = self._cancelled(context)
        except Exception as error:  # noqa: BLE001 - the task's end: every error becomes a status
            outcome = self._raised(context, error)
        if span is not None:
            tracing.end(span, outcome[0])
        context.say_end(md.block(md.status_lines(*outcome)))

    def _returned(self, context: CallContext) -> Outcome:
        return context.code() or StatusCode.OK, context.details(), context.trailing_metadata()

    def _cancelled(self, context: CallContext) -> Outcome:
        return context.ended_by or StatusCode.UNAVAILABLE, context.ended_why or "the replica is stopping", ()

    def _raised(self, context: CallContext, error: Exception) -> Outcome:
        if context.ended_by is not None:
            return self._cancelled(context)
        if isinstance(error, AbortError):
            return self._returned(context)
        if isinstance(error, pipes.PipeClosed):
            return StatusCode.CANCELLED, "the stream is over", ()
        if isinstance(error, DecodeError):
            return StatusCode.INTERNAL, "the request could not be decoded", ()
        return outcome_of(error, context.method.path, context.code(), context.details())
