"""The one way of every call of a model: cache, budgets, router, what it used, the row in the log.

Each call is recorded exactly once, however it ends: whole, failed, broken off, refused by a budget, or left
by its caller, whose cancellation reaches the provider and waits for the record. What nobody could have used
(no such model) is no call. A provider that had the question too, as it lost against another or was silent for
too long, has a record of its own: it may charge for it. No budget sets that aside, but each counts it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from opentelemetry.trace import Span

from frontdesk.ai_proxy.cache import AnswerCache, CachedAnswer, cache_key
from frontdesk.ai_proxy.call import Call, Question
from frontdesk.ai_proxy.catalog import Candidate, Catalog, Catalogs
from frontdesk.ai_proxy.deadline import Alarm, Later, loop_later
from frontdesk.ai_proxy.errors import UpstreamError, UpstreamUnavailable
from frontdesk.ai_proxy.model import (
    DEFAULT_MODEL,
    OFFLINE,
    Answer,
    Caller,
    Completion,
    Delta,
    Embeddings,
    Finish,
    FinishReason,
    ModelMessage,
    Outcome,
    Piece,
    Prompt,
    Provider,
    Role,
    new_id,
)
from frontdesk.ai_proxy.reservations import Reservations, Reserves
from frontdesk.ai_proxy.router import Begun, Course, Held, Router
from frontdesk.ai_proxy.spending import SpendRecord
from frontdesk.ai_proxy.traces import CallTraces, current
from frontdesk.kit.clock import Clock
from frontdesk.kit.errors import DeadlineExceeded, FrontdeskError, InvalidArgument, NotFound
from frontdesk.kit.telemetry import names

log = logging.getLogger(__name__)

Pieces = Sequence[Piece | Outcome]

_PROBE = Prompt((ModelMessage(Role.USER, "ping"),), max_tokens=16)


class Shop(Protocol):
    """What an organization has set up."""

    @property
    def providers(self) -> tuple[Provider, ...]:
        """Its providers; the same tuple until one of them is changed."""
        ...

    @property
    def budgets(self) -> Sequence[object]:
        """Its budgets: without any, nothing is reserved."""
        ...


class Records(Protocol):
    """Keeps what calls used."""

    def check_room(self) -> None:
        """Raises Unavailable while what a call uses could not be kept."""
        ...

    async def record(self, spend: SpendRecord) -> None:
        """Returns when it is kept."""
        ...


class AnswersOffline(Protocol):
    """Answers without a model."""

    async def complete(self, caller: Caller, prompt: Prompt) -> Answer:
        """A quote, or that a person is needed."""
        ...


@dataclass(frozen=True, slots=True)
class CompletionSettings:
    """`call_s`: the longest a call takes, seconds. `completion_tokens`: what is reserved for an answer whose
    length nobody bounded. `answer_characters`: where a stream that does not end is cut off."""

    call_s: float = 300.0
    completion_tokens: int = 2048
    answer_characters: int = 4_000_000


@dataclass(frozen=True, slots=True)
class AvailableModel:
    """A model that may be asked for, and the names of the providers that have it, first choice first."""

    name: str
    providers: tuple[str, ...]
    embeds: bool


class Completions:
    """Asks models for everybody. `shops` gives what an organization has set up; `latest` the same, and looks
    for what another replica changed just now."""

    def __init__(
        self,
        *,
        shops: Callable[[str], Awaitable[Shop]],
        latest: Callable[[str], Awaitable[Shop]],
        router: Router,
        offline: AnswersOffline,
        budgets: Reserves,
        spending: Records,
        clock: Clock,
        settings: CompletionSettings,
        cache: AnswerCache | None = None,
        traces: CallTraces | None = None,
        later: Later = loop_later,
    ) -> None:
        self._shops = shops
        self._latest = latest
        self._router = router
        self._offline = offline
        self._reservations = Reservations(budgets, settings.completion_tokens)
        self._spending = spending
        self._clock = clock
        self._settings = settings
        self._cache = cache
        self._traces = traces or CallTraces()
        self._later = later
        self._catalogs = Catalogs()
        self._ending: set[asyncio.Task[None]] = set()
        self._begun = self._recorded = 0

    @property
    def begun(self) -> int:
        """Calls that began, ever."""
        return self._begun

    @property
    def under_way(self) -> int:
        """Calls that are not recorded yet."""
        return self._begun - self._recorded

    async def complete(
        self,
        caller: Caller,
        model: str,
        prompt: Prompt,
        within_s: float | None = None,
        *,
        offline: AnswersOffline | None = None,
    ) -> Completion:
        """A whole answer. `within_s`: the time the caller has left, if it knows. `offline`: who answers when
        no model does, if the caller knows better than from the prompt.

        Raises NotFound, InvalidArgument, BudgetExceeded, UpstreamError, ResourceExhausted, Unavailable.
        """
        shop, call, span = await self._begin(caller, model, prompt, within_s)
        try:
            cached = self._cached(call, prompt)
            if cached is not None:
                answer, outcome = cached.answer, call.from_cache(cached)
            else:
                await self._reserve(shop, call)
                if call.offline:
                    without_model = offline or self._offline
                    answer = await call.alarm.within(lambda: without_model.complete(caller, prompt))
                else:
                    with current(span):
                        _, answer = await call.alarm.within(
                            lambda: self._router.complete(call.course, prompt)
                        )
                outcome = call.answered(answer)
                self._keep(call, answer)
        except BaseException as error:
            call.ended_by(error)
            await self._end(call, span)
            raise
        await self._end(call, span)
        return Completion(answer, outcome)

    async def embed(
        self,
        caller: Caller,
        model: str,
        texts: Sequence[str],
        dimensions: int | None = None,
        within_s: float | None = None,
    ) -> tuple[Embeddings, Outcome]:
        """A vector a text; raises as `complete` does."""
        shop, call, span = await self._begin(caller, model, texts, within_s)
        try:
            await self._reserve(shop, call)
            with current(span):
                _, embeddings = await call.alarm.within(
                    lambda: self._router.embed(call.course, texts, dimensions)
                )
            outcome = call.embedded(embeddings.usage)
        except BaseException as error:
            call.ended_by(error)
            await self._end(call, span)
            raise
        await self._end(call, span)
        return embeddings, outcome

    async def stream(
        self, caller: Caller, model: str, prompt: Prompt, within_s: float | None = None
    ) -> AsyncGenerator[Pieces, None]:
        """The answer as it comes, a batch a read; the last piece of the last batch is its Outcome.

        Before the first batch it raises as `complete` does, after it BrokenOff. Close it to end the call
        early: the provider is told to stop, and what came is recorded.
        """
        shop, call, span = await self._begin(caller, model, prompt, within_s)
        held: Held[Begun] | None = None
        try:
            batch: Sequence[Piece]
            whole = await self._at_once(shop, call, prompt)
            if whole is not None:
                batch, outcome = whole
            else:
                with current(span):
                    held = await call.alarm.within(lambda: self._router.stream(call.course, prompt))
                batch, read = held.value.first, held.value.source.__anext__
                call.began()
                while not isinstance(batch[-1], Finish):
                    call.said.add(batch)
                    yield batch
                    batch = await call.alarm.within(read)
                outcome = await self._finish(call, held, batch)
        except (UpstreamError, DeadlineExceeded, StopAsyncIteration) as error:
            cause = _without_end() if isinstance(error, StopAsyncIteration) else error
            call.ended_by(cause)
            await self._end(call, span, held, cause)
            broken = call.broken(cause)
            if broken is error:
                raise
            raise broken from error
        except BaseException as error:
            call.ended_by(error)
            await self._end(call, span, held, error)
            raise
        await self._end(call, span)
        yield [*batch[:-1], outcome]

    async def probe(self, caller: Caller, candidate: Candidate, within_s: float) -> Outcome:
        """Ask one model of a provider a short question, past cache and router; paid for and recorded as any
        call, but a used up budget refuses it without turning to another model.

        Raises BudgetExceeded, UpstreamError, DeadlineExceeded, Unavailable.
        """
        shop = await self._shops(caller.organization_id)
        question: Question = ["ping"] if candidate.model.embeds else _PROBE
        call, span = self._call(caller, candidate.model.name, question, (candidate,), within_s)
        try:
            if shop.budgets:
                await self._reservations.set_aside(call)
            outcome = await call.alarm.within(lambda: self._probe(call, candidate))
        except BaseException as error:
            call.ended_by(error)
            await self._end(call, span)
            raise
        await self._end(call, span)
        return outcome

    async def _probe(self, call: Call, candidate: Candidate) -> Outcome:
        provider, model = candidate
        adapter = self._router.adapter(provider)
        asked = call.course.ask(candidate, self._clock)
        try:
            if isinstance(call.question, Prompt):
                outcome = call.answered(await adapter.complete(provider, model, call.question))
            else:
                outcome = call.embedded((await adapter.embed(provider, model, call.question, None)).usage)
        except UpstreamError as error:
            call.course.failed(asked, error)
            raise
        call.course.took(asked)
        return outcome

    async def models(self, organization_id: str) -> list[AvailableModel]:
        """What the organization may ask for, by name."""
        catalog = await self._catalog(organization_id)
        found = [
            AvailableModel(name, tuple(candidate.provider.name for candidate in candidates), embeds)
            for name, embeds, candidates in catalog.models()
        ]
        without_model = {OFFLINE} if catalog.find(DEFAULT_MODEL, embeds=False) else {OFFLINE, DEFAULT_MODEL}
        found += [AvailableModel(name, (OFFLINE,), embeds=False) for name in without_model]
        return sorted(found, key=lambda model: (model.name, model.embeds))

    async def has_model(self, organization_id: str, model: str) -> bool:
        """Whether a model answers to the name; `offline` is none."""
        return bool((await self._catalog(organization_id)).find(model or DEFAULT_MODEL, embeds=False))

    async def close(self) -> None:
        """Return when every call that ended is recorded."""
        while self._ending:
            await asyncio.wait(self._ending)

    async def _catalog(self, organization_id: str) -> Catalog:
        shop = await self._shops(organization_id)
        return self._catalogs.of(organization_id, shop.providers)

    async def _begin(
        self, caller: Caller, model: str, question: Question, within_s: float | None
    ) -> tuple[Shop, Call, Span | None]:
        """A call of a model that there is."""
        embeds = not isinstance(question, Prompt)
        shop = await self._shops(caller.organization_id)
        catalog = self._catalogs.of(caller.organization_id, shop.providers)
        name = model or DEFAULT_MODEL
        candidates = catalog.answering(name, embeds=embeds)
        if candidates is None:
            shop = await self._latest(caller.organization_id)
            catalog = self._catalogs.of(caller.organization_id, shop.providers)
            candidates = catalog.answering(name, embeds=embeds)
        if candidates is None:
            if catalog.find(name, embeds=not embeds):
                makes = "answers, not vectors" if embeds else "vectors, not answers"
                raise InvalidArgument("model", f"makes {makes}")
            raise NotFound(f"no provider has the model {name[:64]!r}")
        return shop, *self._call(caller, name, question, candidates, within_s)

    def _call(
        self,
        caller: Caller,
        name: str,
        question: Question,
        candidates: Sequence[Candidate],
        within_s: float | None,
    ) -> tuple[Call, Span | None]:
        self._spending.check_room()
        limit_s = self._settings.call_s if within_s is None else min(within_s, self._settings.call_s)
        course = Course(candidates, self._clock.monotonic() + limit_s)
        call = Call(
            new_id(self._clock.now_ms()),
            caller,
            name,
            question,
            course,
            Alarm(limit_s, self._later),
            self._clock,
            self._settings.answer_characters,
        )
        span = self._traces.begin(_operation(call), name)
        self._begun += 1
        return call, span

    def _cached(self, call: Call, prompt: Prompt) -> CachedAnswer | None:
        if self._cache is None or call.offline:
            return None
        call.cache_key = cache_key(
            call.caller.organization_id, call.requested_model, call.course.candidates, prompt
        )
        return self._cache.get(call.cache_key) if call.cache_key else None

    def _keep(self, call: Call, answer: Answer) -> None:
        if self._cache is not None and call.cache_key and answer.finish.reason is FinishReason.STOP:
            self._cache.put(call.cache_key, CachedAnswer(answer, call.who()))

    async def _at_once(
        self, shop: Shop, call: Call, prompt: Prompt
    ) -> tuple[Sequence[Piece], Outcome] | None:
        """The answer of a stream that needs no model; None when a model is to be asked, which is reserved."""
        cached = self._cached(call, prompt)
        if cached is not None:
            return _batch(cached.answer), call.from_cache(cached)
        await self._reserve(shop, call)
        if not call.offline:
            return None
        answer = await call.alarm.within(lambda: self._offline.complete(call.caller, prompt))
        call.began()
        return _batch(answer), call.answered(answer)

    async def _finish(self, call: Call, held: Held[Begun], batch: Sequence[Piece]) -> Outcome:
        """The last batch is here."""
        finish = batch[-1]
        assert isinstance(finish, Finish)
        call.said.add(batch[:-1])
        outcome = call.finished(finish)
        # The adapter runs to its own end, so that its connection can be used again.
        with contextlib.suppress(UpstreamError, DeadlineExceeded, StopAsyncIteration):
            await call.alarm.within(held.value.source.__anext__)
            await held.value.source.aclose()
        held.end()
        if call.cache_key:
            self._keep(call, call.said.joined(finish))
        return outcome

    async def _reserve(self, shop: Shop, call: Call) -> None:
        if shop.budgets:
            catalog = self._catalogs.of(call.caller.organization_id, shop.providers)
            await self._reservations.reserve(call, catalog)

    async def _end(
        self,
        call: Call,
        span: Span | None,
        held: Held[Begun] | None = None,
        error: BaseException | None = None,
    ) -> None:
        """Whatever happens to who waits here, the provider is let go and the call is recorded."""
        call.alarm.close()
        task = asyncio.create_task(self._ended(call, span, held, error))
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)
        await asyncio.shield(task)

    async def _ended(
        self, call: Call, span: Span | None, held: Held[Begun] | None, error: BaseException | None
    ) -> None:
        try:
            # Its place first: nothing that is odd about an answer may keep it.
            if held is not None:
                held.end(error)
                with contextlib.suppress(UpstreamError):
                    await held.value.source.aclose()
        finally:
            try:
                spend = call.record()
                self._traces.end(span, _operation(call), call.who().kind, spend, call.finish_reason)
                await self._settle(call, spend)
            finally:
                self._recorded += 1

    async def _settle(self, call: Call, spend: SpendRecord) -> None:
        nothing = not (spend.usage.prompt_tokens or spend.usage.completion_tokens)
        try:
            if nothing:
                await self._reservations.release(call)
        except FrontdeskError as error:
            # The record settles it too.
            log.warning("a reservation was not released: %s", error.code)
        finally:
            await self._record(spend)
            for who, other in call.others():
                self._traces.past(_operation(call), who.kind, other)
                await self._record(other)

    async def _record(self, spend: SpendRecord) -> None:
        try:
            await self._spending.record(spend)
        except FrontdeskError as error:
            log.error("call %s is not in the log of what was used: %s", spend.call_id, error.code)


def _operation(call: Call) -> str:
    return names.AI_CHAT if isinstance(call.question, Prompt) else names.AI_EMBEDDINGS


def _batch(answer: Answer) -> Sequence[Piece]:
    """An answer as the one batch of a stream."""
    return [Delta(answer.text, answer.reasoning), *answer.tool_calls, answer.finish]


def _without_end() -> UpstreamError:
    return UpstreamUnavailable("the provider's answer has no end")
