"""What all calls of one channel share."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from opentelemetry.trace import Span, SpanKind, TracerProvider

from frontdesk.kit import subjects
from frontdesk.kit.clock import Clock
from frontdesk.kit.principal import current_principal
from frontdesk.kit.rpc import metadata as md
from frontdesk.kit.rpc import pipe as pipes
from frontdesk.kit.rpc import tracing
from frontdesk.kit.rpc.routing import Method
from frontdesk.kit.wire import Mailbox, Wire

_log = logging.getLogger(__name__)

WAKE_EVERY_S = 1.0
WAKE_TIMEOUT_S = 1.0

Wake = Callable[[str], Awaitable[None]]


@dataclass(frozen=True)
class LinkConfig:
    """`default_timeout_s`: of a unary call without one, and for a stream to be taken. `window`: messages a
    server may send ahead on a stream. `heartbeat_s`, `dead_after_s`: see kit/rpc/pipe.py. `probe_s`: how
    often a unary call without an answer asks whether anybody works on it."""

    shards: int
    caller: str
    default_timeout_s: float
    window: int
    heartbeat_s: float
    dead_after_s: float
    probe_s: float


class Link:
    """Connection, inbox, heartbeats, trace and wake of one channel."""

    def __init__(
        self, nc: Client, config: LinkConfig, clock: Clock, wake: Wake | None, provider: TracerProvider | None
    ) -> None:
        self.config = config
        self.clock = clock
        self.loop = asyncio.get_running_loop()
        self.wire = Wire(nc)
        self.mailbox = Mailbox(self.wire, config.caller, self._on_stray)
        self.pulse = pipes.Pulse(self.wire, clock, config.heartbeat_s, config.dead_after_s)
        self.tracing = tracing.Tracing("nats", SpanKind.CLIENT, provider)
        self.closed = False
        self._wake = wake or self._publish_wake
        self._woken: dict[str, float] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run `work` beside; the link keeps it alive and cancels it when it closes."""
        task = self.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def when_started(self, then: Callable[[], None], failed: Callable[[str], None]) -> None:
        """`then` at once, or as soon as the inbox is there; `failed` with the reason when it can't be."""
        if self.mailbox.started:
            then()
        else:
            self.spawn(self._start(then, failed))

    async def _start(self, then: Callable[[], None], failed: Callable[[str], None]) -> None:
        try:
            await self.mailbox.start()
        except NatsError as error:
            failed(f"no connection to NATS: {error}")
        else:
            then()

    def headers(
        self,
        timeout: float | None,
        metadata: md.MetadataLike | None,
        span: Span | None,
        extra: md.Lines | None = None,
    ) -> bytes:
        """The headers of a request; raises ValueError for metadata that can't be sent."""
        principal = current_principal.get()
        carrier = tracing.headers_for(span)
        if not metadata and principal is None and not carrier and not extra:
            return md.timeout_block(timeout) if timeout is not None else b""
        lines = list(extra or ())
        if timeout is not None:
            lines.append((md.TIMEOUT, md.encode_timeout(timeout)))
        lines += carrier.items()
        if principal is not None:
            lines += md.principal_lines(principal)
        if metadata:
            lines += md.custom_lines(metadata)
        return md.block(lines)

    def wake(self, deployable: str) -> None:
        """Ask for a replica of `deployable` to be started, at most once a second."""
        now = self.clock.monotonic()
        if now - self._woken.get(deployable, -WAKE_EVERY_S) >= WAKE_EVERY_S:
            self._woken[deployable] = now
            self.spawn(self._wake_quietly(deployable))

    async def _wake_quietly(self, deployable: str) -> None:
        _log.info("nobody answers for %s: waking it", deployable)
        await self._wake(deployable)

    async def _publish_wake(self, deployable: str) -> None:
        try:
            await self.wire.nc.jetstream(timeout=WAKE_TIMEOUT_S).publish(subjects.wake(deployable), b"")
        except (NatsError, TimeoutError) as error:  # without a WAKE stream nobody scales to zero
            _log.debug("wake was not stored: %s", error)

    def cancel_remotely(self, method: Method, address: str) -> None:
        """Tell whichever replica took the call at `address` that nobody waits for it any more."""
        if self.mailbox.started and not self.wire.nc.is_closed:
            self.wire.send(method.cancel_subject, address.encode())

    def probe(self, method: Method, address: str, reply: str) -> None:
        """Ask the replica that took the call at `address` to say so to `reply`; raises Unavailable."""
        self.wire.send(method.alive_subject, address.encode(), reply)

    async def close(self) -> None:
        """End everything; calls in flight get UNAVAILABLE."""
        self.closed = True
        headers = {md.STATUS: "14", md.MESSAGE: "the channel was closed"}
        for receiver in self.mailbox.receivers():
            receiver(Msg(_client=self.wire.nc, data=pipes.bare(pipes.END), headers=headers))
        self.pulse.stop()
        for task in list(self._tasks):
            task.cancel()
        await self.mailbox.stop()

    def _on_stray(self, message: Msg) -> None:
        pipes.answer_stray(self.wire, message, pipes.CANCEL)
