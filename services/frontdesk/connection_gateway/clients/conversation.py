"""One person's conversation over one connection: frames in, frames out, one answer at a time.

A new question interrupts the answer that is running (AI-15): its call is cancelled, and its last frame goes
out before the first of the next. Nothing here knows a socket: `say` takes frames and raises Gone when nobody
reads.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass

from frontdesk.connection_gateway.clients.access import ANONYMOUS
from frontdesk.connection_gateway.clients.answers import Answer, Answers, Question
from frontdesk.connection_gateway.clients.history import ConnectionHistory, Histories, History, window
from frontdesk.connection_gateway.clients.limits import ChatLimits
from frontdesk.connection_gateway.clients.model import (
    CANCELLED,
    FAULT,
    INTERRUPTED,
    Ask,
    Cancel,
    Event,
    Failed,
    Piece,
    Resume,
    Turn,
    failed_of,
)
from frontdesk.connection_gateway.clients.protocol import ChatProtocol, Frames
from frontdesk.connection_gateway.clients.reach import Reach
from frontdesk.kit import tasks
from frontdesk.kit.errors import FailedPrecondition, FrontdeskError, InvalidArgument, PermissionDenied
from frontdesk.kit.principal import Principal

log = logging.getLogger(__name__)

END_S = 5.0

Say = Callable[[Frames], Awaitable[None]]


class Gone(Exception):
    """Nobody reads this connection any more."""


@dataclass(frozen=True, slots=True)
class Services:
    """What all conversations of a replica share."""

    answers: Answers
    reach: Reach
    histories: Histories
    limits: ChatLimits


@dataclass(frozen=True, slots=True)
class _Running:
    """The answer that is being sent. `own` is it when it was asked here."""

    answer_id: str
    task: asyncio.Task[None]
    own: Answer | None = None


class Conversation:
    """Give it every frame by `take`, one after the other; `leave` at the end."""

    def __init__(self, principal: Principal, protocol: ChatProtocol, say: Say, services: Services) -> None:
        self._principal = principal
        self._protocol = protocol
        self._say = say
        self._services = services
        self._history = ConnectionHistory(services.limits)
        self._running: _Running | None = None
        self._gone = False
        self.bad_frames = 0

    @property
    def busy(self) -> bool:
        """Whether an answer is being sent."""
        return self._running is not None

    async def take(self, frame: str | None) -> None:
        """Do what a frame says; None stands for one that is no text. Raises Gone."""
        ask_id = answer_id = ""
        try:
            if frame is None:
                raise InvalidArgument("frame", "must be text")
            command = self._protocol.read(frame)
        except InvalidArgument as error:
            self.bad_frames += 1
            await self._say(self._protocol.refused(failed_of(error), field=error.field))
            return
        self.bad_frames = 0
        try:
            if isinstance(command, Ask):
                ask_id = command.ask_id
                await self._ask(command)
            elif isinstance(command, Resume):
                answer_id = command.answer_id
                await self._resume(command)
            elif isinstance(command, Cancel):
                answer_id = command.answer_id
                await self._services.reach.stop(answer_id, CANCELLED, self._principal)
            else:
                await self._say(self._protocol.pong())
        except FrontdeskError as error:
            await self._refuse(error, ask_id, answer_id)
        except Gone:
            raise
        except Exception:
            log.exception("a frame of a chat failed")
            await self._say(self._protocol.refused(FAULT, ask_id=ask_id, answer_id=answer_id))

    async def overflow(self) -> None:
        """Tell that a frame was dropped because too many wait (X-33). Raises Gone."""
        why = Failed("RESOURCE_EXHAUSTED", "Too many frames wait. Send fewer.", retryable=True)
        await self._say(self._protocol.refused(why))

    async def leave(self, *, cancel: bool) -> None:
        """The connection is over. The answer goes on for a while if its reader may come back, unless
        `cancel`."""
        running = self._running
        if running is None:
            return
        await tasks.end([running.task])
        if running.own is not None and (cancel or not running.own.keep):
            self._services.answers.stop(running.own, CANCELLED)

    async def _ask(self, ask: Ask) -> None:
        services, principal = self._services, self._principal
        await self._interrupt()
        if self._gone:
            raise Gone
        if ask.session and principal.kind == ANONYMOUS:
            raise PermissionDenied("A stored session needs a token.")
        history = services.histories.of(principal, ask.session) if ask.session else self._history
        limits = services.limits
        room = limits.history_bytes - len(ask.text.encode())
        before = window(await history.read(), limits.turns - 1, room)
        question = Question(principal, (*before, Turn(True, ask.text)), ask.model)
        answer = services.answers.begin(question, _recorder(history, ask.text), keep=self._protocol.resumes)
        self._follow(answer.answer_id, answer.follow(-1), ask.ask_id, answer)

    async def _resume(self, resume: Resume) -> None:
        if self._running is not None:
            raise FailedPrecondition("An answer is being sent here. Cancel it first, or wait for its end.")
        services = self._services
        events = services.reach.follow(resume.answer_id, resume.since, self._principal)
        self._follow(resume.answer_id, events)

    async def _interrupt(self) -> None:
        """End the running answer, and see its last frame out."""
        running = self._running
        if running is None:
            return
        if running.own is not None:
            self._services.answers.stop(running.own, INTERRUPTED)
        else:
            await self._stop_elsewhere(running.answer_id)
        await asyncio.wait({running.task}, timeout=END_S)
        await tasks.end([running.task])
        if not self._gone:
            self._running = None

    async def _stop_elsewhere(self, answer_id: str) -> None:
        try:
            await self._services.reach.stop(answer_id, INTERRUPTED, self._principal)
        except FrontdeskError as error:
            log.info("an answer could not be interrupted: %s", error.message)

    def _follow(
        self,
        answer_id: str,
        events: AsyncGenerator[Event, None],
        ask_id: str = "",
        own: Answer | None = None,
    ) -> None:
        task = asyncio.create_task(self._send(answer_id, events, ask_id, own), name="chat send")
        self._running = _Running(answer_id, task, own)

    async def _send(
        self, answer_id: str, events: AsyncGenerator[Event, None], ask_id: str, own: Answer | None
    ) -> None:
        protocol = self._protocol
        try:
            async with aclosing(events):
                if own is not None:
                    await self._say(protocol.started(answer_id, ask_id))
                async for event in events:
                    if isinstance(event, Piece):
                        await self._say(protocol.piece(answer_id, event))
                    else:
                        await self._say(protocol.ended(answer_id, event))
        except FrontdeskError as error:
            await self._refuse(error, "", answer_id)
        except Gone:
            # It stays the running one: whether it goes on is decided when the connection is left.
            self._gone = True
            return
        except Exception:
            log.exception("an answer could not be sent")
            await self._tell(FAULT, answer_id=answer_id)
        if self._running is not None and self._running.answer_id == answer_id:
            self._running = None

    async def _refuse(self, error: FrontdeskError, ask_id: str, answer_id: str) -> None:
        if error.code == "INTERNAL":
            log.error("a frame of a chat failed", exc_info=error)
        field = error.field if isinstance(error, InvalidArgument) else ""
        await self._tell(failed_of(error), ask_id=ask_id, answer_id=answer_id, field=field)

    async def _tell(self, why: Failed, *, ask_id: str = "", answer_id: str = "", field: str = "") -> None:
        try:
            await self._say(self._protocol.refused(why, ask_id=ask_id, answer_id=answer_id, field=field))
        except Gone:
            log.debug("a refusal found no reader")


def _recorder(history: History, question: str) -> Callable[[str], Awaitable[None]]:
    """Stores the question with what was said to it; a question without an answer may be asked again."""

    async def record(text: str) -> None:
        if text:
            await history.add(question, text)

    return record
