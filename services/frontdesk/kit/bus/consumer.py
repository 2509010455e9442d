"""Consume a durable: batches, bounded work, and one place that decides ack, again, give back or DEAD.

A handler takes a list of deliveries and returns when all of them are done. What it raises decides:

    returns                   ack
    Release                   nak at once: somebody else shall have it (a shard that moves, a drain)
    Later                     nak with a delay: right message, wrong time, and its place is needed
    FrontdeskError, retryable the dependency is away: the batch is kept, in progress, and tried again with
                              back-off; nothing more is fetched meanwhile, nothing is ever dead-lettered
    FrontdeskError, other     DEAD, with its message as the reason
    any other exception       a bug: nak with back-off; after `max_crashes` of it, or of a process that died
                              over it, DEAD

A batch that fails is handled again one by one, so that a poison message has no neighbours. While a handler
works, `+WPI` is sent for its deliveries well within `ack_wait`.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from nats.aio.msg import Msg

from frontdesk.api.events.v1.dead_pb2 import DeadLetter
from frontdesk.kit import subjects, tasks
from frontdesk.kit.batch import BUSY, GATHER_S
from frontdesk.kit.bus.connection import Bus
from frontdesk.kit.bus.crashes import CrashLog
from frontdesk.kit.bus.pull import ConsumerGone, PullFeed
from frontdesk.kit.bus.topology import ConsumerSpec, ensure_consumer
from frontdesk.kit.clock import Clock, SystemClock
from frontdesk.kit.errors import FrontdeskError, Unavailable

log = logging.getLogger(__name__)

SUSPICIOUS_DELIVERIES = 3


class Release(Exception):
    """Raised by a handler: give the messages back at once, unchanged."""


class Later(Exception):
    """Raised by a handler: give the messages back, to come again after `seconds`."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"again in {seconds:g} s")
        self.seconds = seconds


@dataclass(frozen=True, slots=True, eq=False)
class Delivery:
    """A message as delivered. `deliveries` counts from 1; `sequence` is the stream's."""

    subject: str
    data: bytes
    headers: Mapping[str, str]
    sequence: int
    deliveries: int
    reply: str


Handler = Callable[[Sequence[Delivery]], Awaitable[None]]


class Consumer:
    """Runs `handler` over a durable consumer, `parallel` calls at a time, up to `max_batch` messages a
    call. As with a `Batcher`, a batch behind a busy one waits `gather_s` for more, unless it is full."""

    def __init__(
        self,
        bus: Bus,
        spec: ConsumerSpec,
        handler: Handler,
        *,
        max_batch: int = 100,
        parallel: int = 1,
        max_crashes: int = 5,
        retry_cap: float = 5.0,
        remake: bool = False,
        gather_s: float = GATHER_S,
        clock: Clock | None = None,
    ) -> None:
        self._bus = bus
        self.spec = spec
        self._handler = handler
        self._max_batch = max_batch
        self._parallel = parallel
        self._max_crashes = max_crashes
        self._retry_cap = retry_cap
        self._remake = remake
        self._gather_s = gather_s
        self._clock = clock or SystemClock()
        self._crashes = CrashLog(bus)
        self._waiting: deque[Delivery] = deque()
        self._working: set[Delivery] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._busy = False
        self._idle = asyncio.Event()
        self._idle.set()
        self._stopping = False
        self._feed = self._new_feed()

    def _new_feed(self) -> PullFeed:
        return PullFeed(
            self._bus, self.spec.stream, self.spec.name, self._arrived, self._room, clock=self._clock
        )

    @property
    def healthy(self) -> bool:
        """Whether messages can arrive: readiness goes red with it."""
        return self._stopping or self._feed.healthy

    def _room(self) -> int:
        limit = min(self._max_batch * (self._parallel + 1), self.spec.max_ack_pending)
        return limit - len(self._waiting) - len(self._working)

    async def run(self) -> None:
        """Consume until `drain` or cancellation. A consumer that was deleted on the server is made again."""
        await self._ensure()
        ticker = asyncio.create_task(self._keep_in_progress())
        try:
            while not self._stopping:
                try:
                    await self._feed.run()
                except ConsumerGone as gone:
                    if self._remake:
                        raise  # its new owner re-made it; making it again would rob the owner
                    log.warning("%s; making it again", gone)
                    await self._ensure()
                    self._feed = self._new_feed()
        finally:
            # A handler that ends must not make room for the next one.
            self._stopping = True
            self._waiting.clear()
            await tasks.end([ticker, *self._tasks])

    async def _ensure(self) -> None:
        delay = 0.1
        while True:
            try:
                await ensure_consumer(self._bus.js, self.spec, remake=self._remake)
                return
            except Unavailable as error:
                log.warning("%s", error)
                await self._clock.sleep(delay)
                delay = min(delay * 2, self._retry_cap)

    async def drain(self, timeout: float) -> None:
        """Fetch nothing more, give back what was not begun, wait up to `timeout` seconds for the rest."""
        self._stopping = True
        self._feed.pause()
        waiting, self._waiting = list(self._waiting), deque()
        for delivery in waiting:
            self._answer(delivery, b"-NAK")
        try:
            async with asyncio.timeout(timeout):
                await self._idle.wait()
        except TimeoutError:
            log.warning(
                "%s: %d messages still in work at the end of the drain", self.spec.name, len(self._working)
            )
        for delivery in list(self._working):
            self._answer(delivery, b"-NAK")

    def _arrived(self, msg: Msg) -> None:
        delivery = _delivery(msg)
        if self._stopping:
            self._answer(delivery, b"-NAK")
            return
        self._waiting.append(delivery)
        self._dispatch()

    def _dispatch(self) -> None:
        while self._waiting and len(self._tasks) < self._parallel and not self._stopping:
            count = min(self._max_batch, len(self._waiting))
            if self._busy and count < self._max_batch:
                self._busy = False
                self._spawn(self._clock.sleep(self._gather_s))  # its end dispatches
                return
            self._busy = count >= BUSY
            batch = [self._waiting.popleft() for _ in range(count)]
            self._working.update(batch)
            self._idle.clear()
            self._spawn(self._work(batch))

    def _spawn(self, coroutine: Awaitable[None]) -> None:
        task = asyncio.ensure_future(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("consumer %s: a batch ended in disorder", self.spec.name, exc_info=error)
        if not self._working:
            self._idle.set()
        self._dispatch()
        self._feed.wake()

    async def _work(self, batch: list[Delivery]) -> None:
        try:
            suspects = [d for d in batch if d.deliveries >= SUSPICIOUS_DELIVERIES]
            clean = [d for d in batch if d.deliveries < SUSPICIOUS_DELIVERIES]
            if clean and not await self._handle(clean):
                suspects = clean + suspects if len(clean) > 1 else suspects
            for delivery in suspects:
                await self._handle_alone(delivery)
        finally:
            self._working.difference_update(batch)

    async def _handle(self, batch: list[Delivery]) -> bool:
        """Handle and answer a batch; False when it must be handled one by one."""
        delay = 0.05
        while True:
            try:
                await self._handler(batch)
            except Release:
                self._answer_all(batch, b"-NAK")
                return True
            except Later as later:
                self._answer_all(batch, _nak(later.seconds))
                return True
            except FrontdeskError as error:
                if not error.retryable:
                    if len(batch) > 1:
                        return False
                    await self._bury(batch[0], error.message)
                    return True
                log.warning("%s: %s; %d messages wait", self.spec.name, error.message, len(batch))
                await self._clock.sleep(delay)
                delay = min(delay * 2, self._retry_cap)
                if self._stopping:
                    self._answer_all(batch, b"-NAK")
                    return True
            except Exception:
                # The boundary of a handler: whatever it raises must cost this message only.
                log.exception("%s: the handler failed on %d messages", self.spec.name, len(batch))
                if len(batch) > 1:
                    return False
                self._answer(batch[0], _nak(min(0.2 * 2 ** batch[0].deliveries, self._retry_cap)))
                return True
            else:
                self._answer_all(batch, b"+ACK")
                return True

    async def _handle_alone(self, delivery: Delivery) -> None:
        """Handle a message that came back before, counting what does not come to an end."""
        crashes = await self._crashes.begin(self.spec, delivery.sequence)
        if crashes >= self._max_crashes:
            await self._bury(delivery, f"handling it failed or killed the process {crashes} times")
            await self._crashes.end(self.spec, delivery.sequence)
            return
        before = delivery.deliveries
        try:
            await self._handler([delivery])
        except Release:
            self._answer(delivery, b"-NAK")
        except Later as later:
            self._answer(delivery, _nak(later.seconds))
        except FrontdeskError as error:
            if error.retryable:
                await self._crashes.end(self.spec, delivery.sequence)
                await self._handle([delivery])
                return
            await self._bury(delivery, error.message)
        except Exception:
            # The boundary of a handler; the crash stays counted.
            log.exception("%s: the handler failed, delivery %d", self.spec.name, before)
            self._answer(delivery, _nak(min(0.2 * 2**crashes, self._retry_cap)))
            return
        else:
            self._answer(delivery, b"+ACK")
        await self._crashes.end(self.spec, delivery.sequence)

    async def _bury(self, delivery: Delivery, reason: str) -> None:
        """Put a message into DEAD and take it out of its stream; kept until DEAD has it."""
        letter = DeadLetter(
            subject=delivery.subject,
            headers=dict(delivery.headers),
            payload=delivery.data,
            consumer=self.spec.name,
            sequence=delivery.sequence,
            deliveries=delivery.deliveries,
            reason=reason[:2000],
            died_at_ms=self._clock.now_ms(),
        )
        delay = 0.1
        while True:
            try:
                await self._bus.publish(
                    subjects.dead(self.spec.stream),
                    letter,
                    msg_id=f"dead:{self.spec.stream}:{delivery.sequence}",
                )
                break
            except FrontdeskError as error:
                log.warning("DEAD does not take a message: %s", error.message)
                await self._clock.sleep(delay)
                delay = min(delay * 2, self._retry_cap)
        log.error("%s: a message went to DEAD: %s", self.spec.name, reason)
        self._answer(delivery, b"+ACK")

    def _answer_all(self, batch: Sequence[Delivery], answer: bytes) -> None:
        for delivery in batch:
            self._answer(delivery, answer)

    def _answer(self, delivery: Delivery, answer: bytes) -> None:
        # An answer that is lost costs a repeat, which every handler bears.
        try:
            self._bus.tell(delivery.reply, answer)
        except Unavailable as error:
            log.info("%s: an acknowledgement was not written: %s", self.spec.name, error)

    async def _keep_in_progress(self) -> None:
        while True:
            await self._clock.sleep(self.spec.ack_wait / 3)
            for delivery in [*self._working, *self._waiting]:
                self._answer(delivery, b"+WPI")


def _nak(delay: float) -> bytes:
    return b'-NAK {"delay": %d}' % int(delay * 1e9)


def _delivery(msg: Msg) -> Delivery:
    """Read `$JS.ACK.<stream>.<consumer>.<delivered>.<sseq>.<cseq>.<time>.<pending>`, with or without a
    domain."""
    tokens = msg.reply.split(".")
    offset = 2 if len(tokens) > 9 else 0  # a domain and an account hash stand before the stream's name
    return Delivery(
        subject=msg.subject,
        data=msg.data,
        headers=msg.headers or {},
        deliveries=int(tokens[4 + offset]),
        sequence=int(tokens[5 + offset]),
        reply=msg.reply,
    )
