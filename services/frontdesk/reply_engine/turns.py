"""AI turns: asked apart from the batches that decide, so that no rule waits for a model.

A turn is a task: it tells that the AI works (AI-20), asks (ai.py), and hands its outcome to the second
transaction (`Decider.conclude`), which takes all outcomes that are there at once. Turns over the limit go on
without the AI in the same call that began them, which holds back whoever decides. What is lost on the way, by
a crash or a database that stays away, is a token that expires; a replica that stops gives its turns back.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextvars import Context
from typing import TypeVar

from frontdesk.api.events.v1.event_pb2 import AiChanged, AiState, Event
from frontdesk.kit import tasks
from frontdesk.kit.clock import Clock
from frontdesk.kit.database import Database
from frontdesk.kit.errors import FrontdeskError
from frontdesk.reply_engine.ai import Ai
from frontdesk.reply_engine.decide import AiEnd, Decided, Decider
from frontdesk.reply_engine.events import Events
from frontdesk.reply_engine.facts import FactSource
from frontdesk.reply_engine.model import AiOutcome, AiTurn

log = logging.getLogger(__name__)

# A database or NATS that is away for a moment costs no answer that was paid for.
PATIENCE_S = (0.1, 0.5, 2.0)
Publish = Callable[[Decided], Awaitable[None]]
A = TypeVar("A")
T = TypeVar("T")


class AiTurns:
    """Runs the turns of one replica, at most `most` of them; `publish` tells what decisions led to."""

    def __init__(
        self,
        *,
        database: Database,
        decider: Decider,
        ai: Ai,
        facts: FactSource,
        events: Events,
        publish: Publish,
        clock: Clock,
        most: int,
    ) -> None:
        self._database = database
        self._decider = decider
        self._ai = ai
        self._facts = facts
        self._events = events
        self._publish = publish
        self._clock = clock
        self._most = most
        self._running: dict[asyncio.Task[None], AiTurn] = {}
        self._asking: set[asyncio.Task[None]] = set()
        self._finished: list[AiOutcome] = []
        self._concluding = asyncio.Lock()

    async def begin(self, turns: Sequence[AiTurn]) -> None:
        """Begin turns whose transaction is committed; returns without waiting for the AI."""
        over: dict[str, AiOutcome] = {}
        for turn in turns:
            if len(self._running) >= self._most:
                over[turn.chat_key] = AiOutcome(turn, reason="busy")
                continue
            # With a context of its own: whose message or call it began with is none of the AI's business.
            task = asyncio.create_task(self._run(turn), context=Context())
            self._running[task] = turn
            self._asking.add(task)
            task.add_done_callback(self._done)
        if over:
            await self._conclude(over)

    async def drain(self, seconds: float) -> list[str]:
        """Let turns end for `seconds`, a third of it for storing what was answered; give back the others.

        Returns the chats that wait for another replica. Nothing may begin any more.
        """
        if self._running:
            await asyncio.wait(self._running, timeout=seconds * 2 / 3)
        left = {self._running[task].chat_key: self._running[task] for task in self._asking}
        await tasks.end(list(self._asking))
        if self._running:
            await asyncio.wait(self._running, timeout=seconds / 3)
        await tasks.end(list(self._running))
        if not left:
            return []
        async with self._database.write() as connection:
            return await self._decider.release(connection, left)

    def _done(self, task: asyncio.Task[None]) -> None:
        turn = self._running.pop(task)
        self._asking.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            # The boundary of a turn: the sweep decides the chat again when its token is over.
            log.error("the AI turn %s ended in disorder", turn.token, exc_info=error)

    async def _run(self, turn: AiTurn) -> None:
        _, outcome = await asyncio.gather(self._tell([begun(turn, self._clock.now_ms())]), self._ai.ask(turn))
        if (me := asyncio.current_task()) is not None:
            self._asking.discard(me)
        self._finished.append(outcome)
        async with self._concluding:  # who has the lock takes what the others brought
            while self._finished:
                # One of a chat: of two, one is late.
                batch = {outcome.turn.chat_key: outcome for outcome in self._finished}
                chosen = {id(outcome) for outcome in batch.values()}
                self._finished = [outcome for outcome in self._finished if id(outcome) not in chosen]
                await self._conclude(batch)

    async def _conclude(self, outcomes: Mapping[str, AiOutcome]) -> None:
        for _ in range(2):
            concluded = await self._patiently(self._write, outcomes)
            await self._patiently(self._publish, concluded)
            await self._tell([ended(end, self._clock.now_ms()) for end in concluded.ai_ends])
            await self.begin(concluded.ai_turns)
            outcomes = {key: outcomes[key] for key in concluded.lacking}
            if not outcomes:
                return
            await self._facts.find(concluded.lacking.values())

    async def _write(self, outcomes: Mapping[str, AiOutcome]) -> Decided:
        async with self._database.write() as connection:
            return await self._decider.conclude(connection, outcomes, self._clock.now_ms())

    async def _patiently(self, work: Callable[[A], Awaitable[T]], argument: A) -> T:
        for delay in PATIENCE_S:
            try:
                return await work(argument)
            except FrontdeskError as error:
                if not error.retryable:
                    raise
                log.warning("an AI turn can't be concluded yet: %s", error)
            await self._clock.sleep(delay)
        return await work(argument)

    async def _tell(self, events: Sequence[Event]) -> None:
        """Tell how far the AI is; an answer does not wait for whoever watches."""
        try:
            await self._events.publish("ai", events)
        except FrontdeskError as error:
            log.warning("nobody was told of %d AI turns: %s", len(events), error)


def begun(turn: AiTurn, now_ms: int) -> Event:
    """That the AI works on an answer."""
    return _event(turn, "processing", now_ms, AiChanged(state=AiState.AI_STATE_PROCESSING))


def ended(end: AiEnd, now_ms: int) -> Event:
    """That the AI's turn is over, and why its answer is not used."""
    state = AiState.AI_STATE_FAILED if end.reason else AiState.AI_STATE_DONE
    changed = AiChanged(
        state=state, reason=end.reason, provider=end.outcome.provider, model=end.outcome.model
    )
    return _event(end.outcome.turn, "failed" if end.reason else "done", now_ms, changed)


def _event(turn: AiTurn, state: str, now_ms: int, changed: AiChanged) -> Event:
    changed.chat_id = turn.chat_id
    return Event(
        event_id=f"{turn.token}:ai:{state}",
        organization_id=turn.organization_id,
        account_id=turn.account_id,
        occurred_at_ms=now_ms,
        ai=changed,
    )
