"""Answers of this replica: generated whoever reads them, and kept for a while so that a reader can come back.

An answer is a task of its own that reads the model's stream; sockets follow it. It goes on for `grace_s`
without a follower, then its call is cancelled, as it is at once when it is stopped. Ended answers are kept
for `keep_s` within bounds in number and bytes; the oldest goes first.
"""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import logging
from collections import OrderedDict
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass

import grpc.aio
from opentelemetry import trace

from frontdesk.api.ai.v1 import ai_service_pb2 as pb
from frontdesk.api.ai.v1 import chat_pb2
from frontdesk.api.ai.v1.ai_service_pb2_grpc import AiServiceStub
from frontdesk.connection_gateway.clients.limits import ChatLimits
from frontdesk.connection_gateway.clients.model import (
    ABANDONED,
    BROKEN_OFF,
    FAULT,
    RESTARTING,
    Done,
    End,
    Event,
    Failed,
    Piece,
    Turn,
    failed_of,
)
from frontdesk.connection_gateway.model import new_id
from frontdesk.kit import tasks
from frontdesk.kit.clock import Clock
from frontdesk.kit.errors import (
    DeadlineExceeded,
    FrontdeskError,
    InvalidArgument,
    NotFound,
    ResourceExhausted,
    Unavailable,
)
from frontdesk.kit.principal import Principal, current_principal
from frontdesk.kit.rpc.status import from_rpc_error
from frontdesk.kit.telemetry import names

log = logging.getLogger(__name__)
_tracer = trace.get_tracer(names.GATEWAY_SCOPE)

RECORD_S = 5.0
CALL_END_S = 2.0
# What a piece costs besides its text, as measured with tracemalloc.
PIECE_BYTES = 200

# Stores what was asked and said; gets the whole text, also of an answer that broke off.
Record = Callable[[str], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked for whom: `turns` are the conversation with the question as its last."""

    principal: Principal
    turns: tuple[Turn, ...]
    model: str = ""

    def request(self) -> pb.StreamCompleteRequest:
        """As ai-proxy wants it."""
        messages = [
            chat_pb2.ModelMessage(
                role=chat_pb2.ROLE_USER if turn.person else chat_pb2.ROLE_ASSISTANT, text=turn.text
            )
            for turn in self.turns
        ]
        return pb.StreamCompleteRequest(
            organization_id=self.principal.organization_id,
            model=self.model,
            prompt=chat_pb2.Prompt(messages=messages),
        )


class Answer:
    """One answer. `keep` says whether anybody may come back for it."""

    def __init__(self, answer_id: str, owner: Principal, clock: Clock, *, keep: bool) -> None:
        self.answer_id = answer_id
        self.owner = owner
        self.keep = keep
        self.end: End | None = None
        self.ended_at = 0.0
        self.size = 0
        self.followers = 0
        self.left_at = clock.monotonic()
        self.stopped: Failed | None = None
        # Nothing more will be said; the task only stores what was.
        self.settled = False
        self.task: asyncio.Task[None] | None = None
        self._clock = clock
        self._pieces: list[Piece] = []
        self._waiting: list[asyncio.Future[None]] = []

    @property
    def text(self) -> str:
        """All that was said so far."""
        return "".join([piece.text for piece in self._pieces])

    def add(self, text: str, reasoning: str = "") -> int:
        """More of it; the bytes that it takes."""
        self._pieces.append(Piece(len(self._pieces), text, reasoning))
        added = PIECE_BYTES + len(text.encode()) + len(reasoning.encode())
        self.size += added
        self._wake()
        return added

    def finish(self, end: End) -> None:
        """It is over; the first end counts."""
        if self.end is None:
            self.end = end
            self.ended_at = self._clock.monotonic()
            self._wake()

    async def follow(self, since: int) -> AsyncGenerator[Event, None]:
        """Every piece after `since`, once and in order, as they come, then the end; raises InvalidArgument
        for a piece that was not said yet."""
        if not -1 <= since < len(self._pieces):
            raise InvalidArgument("since", "is a piece that was not said yet")
        self.followers += 1
        try:
            place = since + 1
            while True:
                while place < len(self._pieces):
                    yield self._pieces[place]
                    place += 1
                if self.end is not None:
                    yield self.end
                    return
                waiter = asyncio.get_running_loop().create_future()
                self._waiting.append(waiter)
                await waiter
        finally:
            self.followers -= 1
            self.left_at = self._clock.monotonic()

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            if not waiter.done():
                waiter.set_result(None)


class Answers:
    """Begins, finds, stops and forgets answers; call `sweep` every second or so."""

    def __init__(self, ai: AiServiceStub, replica: str, limits: ChatLimits, clock: Clock) -> None:
        self._ai = ai
        self._replica = replica
        self._limits = limits
        self._clock = clock
        self._answers: OrderedDict[str, Answer] = OrderedDict()
        self._size = 0
        self._draining = False

    @property
    def running(self) -> int:
        """Answers that are being generated."""
        return sum(answer.end is None for answer in self._answers.values())

    @property
    def size(self) -> int:
        """Bytes of all answers that are there."""
        return self._size

    def following(self) -> list[str]:
        """The answers that somebody reads now."""
        return [answer.answer_id for answer in self._answers.values() if answer.followers]

    def begin(self, question: Question, record: Record, *, keep: bool) -> Answer:
        """Ask; raises Unavailable while this replica stops, ResourceExhausted when it has no place."""
        if self._draining:
            raise Unavailable("the replica is stopping")
        self._make_room(1)
        if len(self._answers) >= self._limits.answers:
            raise ResourceExhausted("Too many answers are being written. Try again in a moment.")
        answer_id = f"{new_id(self._clock.now_ms())}@{self._replica}"
        answer = Answer(answer_id, question.principal, self._clock, keep=keep)
        self._answers[answer_id] = answer
        answer.task = asyncio.create_task(self._run(answer, question, record), name="chat answer")
        answer.task.add_done_callback(functools.partial(self._ended, answer))
        return answer

    def find(self, answer_id: str, principal: Principal | None) -> Answer:
        """The answer, for who asked; raises NotFound."""
        answer = self._answers.get(answer_id)
        if answer is None or principal is None or not answer.keep:
            raise _unknown()
        owner = answer.owner
        if _key(owner) != _key(principal):
            raise _unknown()
        return answer

    def stop(self, answer: Answer, why: Failed) -> None:
        """End an answer and its call; one that ended stays as it is."""
        if answer.stopped is None and not answer.settled and answer.task is not None:
            answer.stopped = why
            answer.task.cancel()

    def sweep(self) -> None:
        """Stop what nobody reads any more, forget what was kept long enough."""
        now = self._clock.monotonic()
        for answer in list(self._answers.values()):
            if answer.end is None:
                if not answer.followers and now - answer.left_at >= self._limits.grace_s:
                    self.stop(answer, ABANDONED)
            elif now - answer.ended_at >= self._limits.keep_s:
                self._forget(answer)

    async def drain(self, seconds: float) -> None:
        """Take no more questions, let answers end within `seconds`, then break them off."""
        self._draining = True
        left = [answer.task for answer in self._answers.values() if answer.task is not None]
        if left:
            await asyncio.wait(left, timeout=seconds)
        for answer in list(self._answers.values()):
            self.stop(answer, RESTARTING)
        await tasks.end([task for task in left if not task.done()])

    # The answer's own task.

    async def _run(self, answer: Answer, question: Question, record: Record) -> None:
        current_principal.set(question.principal)
        with _tracer.start_as_current_span(names.GATEWAY_CHAT):
            end = await self._generate(answer, question)
            answer.settled = True
            try:
                # Before the end is told, so that a next question finds this one in its history.
                async with asyncio.timeout(RECORD_S):
                    await record(answer.text)
            except (FrontdeskError, TimeoutError) as error:
                log.warning("a turn of a conversation was not stored: %s", error)
            finally:
                answer.finish(end)

    async def _generate(self, answer: Answer, question: Question) -> End:
        try:
            async with asyncio.timeout(self._limits.answer_s):
                return await self._read(answer, question)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if answer.stopped is None or task is None:
                raise
            task.uncancel()
            why = answer.stopped
        except TimeoutError:
            why = failed_of(DeadlineExceeded("the answer took too long"))
        except grpc.aio.AioRpcError as error:
            why = failed_of(from_rpc_error(error))
        except FrontdeskError as error:
            why = failed_of(error)
        except Exception:
            log.exception("an answer failed")
            why = FAULT
        return dataclasses.replace(why, partial=answer.text)

    async def _read(self, answer: Answer, question: Question) -> End:
        call = self._ai.StreamComplete(question.request())
        try:
            end: End | None = None
            async for event in call:
                kind = event.WhichOneof("event")
                if kind == "delta":
                    self._grow(answer, event.delta)
                elif kind == "done":
                    end = Done(event.done, len(answer.text))
                    break
                elif kind == "error":
                    end = _broken(event.error, answer.text)
                    break
            if end is None:
                return dataclasses.replace(BROKEN_OFF, partial=answer.text)
            await _let_end(call)
            return end
        finally:
            call.cancel()

    def _grow(self, answer: Answer, delta: pb.Delta) -> None:
        if not delta.text and not delta.reasoning:
            return
        self._size += answer.add(delta.text, delta.reasoning)
        if answer.size > self._limits.answer_bytes:
            raise ResourceExhausted("The answer is too long.")
        self._make_room(0)
        if self._size > self._limits.kept_bytes:
            raise ResourceExhausted("Too many answers are being written. Try again in a moment.")

    # Forgetting.

    def _ended(self, answer: Answer, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("an answer could not be ended", exc_info=error)
        # A task that is cancelled before its first step never runs.
        answer.finish(dataclasses.replace(answer.stopped or RESTARTING, partial=answer.text))
        answer.task = None
        if not answer.keep:
            self._forget(answer)

    def _make_room(self, places: int) -> None:
        """Forget the oldest of the ended answers until the bounds hold, or none is left."""
        limits = self._limits
        if len(self._answers) + places <= limits.answers and self._size <= limits.kept_bytes:
            return
        for answer in [answer for answer in self._answers.values() if answer.end is not None]:
            self._forget(answer)
            if len(self._answers) + places <= limits.answers and self._size <= limits.kept_bytes:
                return

    def _forget(self, answer: Answer) -> None:
        if self._answers.pop(answer.answer_id, None) is not None:
            self._size -= answer.size


def _key(principal: Principal) -> tuple[str, str, str]:
    return principal.organization_id, principal.kind, principal.subject


def _broken(error: pb.StreamError, partial: str) -> Failed:
    return Failed(error.code or "UNAVAILABLE", error.message, error.retryable, partial)


async def _let_end(
    call: grpc.aio.UnaryStreamCall[pb.StreamCompleteRequest, pb.StreamCompleteResponse],
) -> None:
    """Wait for a call's own end: to cancel it now would look to ai-proxy as if its answer was not wanted."""
    try:
        async with asyncio.timeout(CALL_END_S):
            await call.code()
    except TimeoutError:
        log.info("a stream went on after its last event")


def _unknown() -> NotFound:
    return NotFound("There is no such answer, or it is not kept any more.")
