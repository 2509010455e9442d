"""Which provider answers a call: the first of its candidates that can, tried again where that may help.

    for each candidate, in the order drawn by priority and weight:
      its breaker lets nobody through                    → the next
      no place free                                      → the next; if all are full, wait for a place
      it fails, and may succeed if asked again           → again, after a back-off or its Retry-After
      it fails, and another may succeed                  → the next
      it says that the question is wrong                 → to the caller at once

A stream counts as failed here as long as no piece of it has come; what breaks off later is for the caller to
tell. With `hedge_after_s` a stream that says nothing for so long is asked of the next candidate as well; the
first piece wins, the other call is cancelled; its provider has the question and may charge for it, as one
that was left because it was silent. Cancelling the caller's task ends the provider's adapter.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Generic, TypeVar

from frontdesk.ai_proxy.breaker import BreakerSettings, State
from frontdesk.ai_proxy.catalog import Candidate, draw
from frontdesk.ai_proxy.errors import (
    UpstreamError,
    UpstreamMisconfigured,
    UpstreamRefused,
    UpstreamUnavailable,
)
from frontdesk.ai_proxy.health import Health, Healths, HealthView, Permit
from frontdesk.ai_proxy.model import Answer, Embeddings, Model, Piece, Prompt, Provider
from frontdesk.ai_proxy.providers.base import Adapter, asked_now
from frontdesk.kit.backoff import exponential
from frontdesk.kit.clock import Clock
from frontdesk.kit.errors import FrontdeskError, ResourceExhausted, Unavailable
from frontdesk.kit.tasks import background, end

T = TypeVar("T")
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RouterSettings:
    """Times in seconds. `slot_waiters`: calls that may wait for a place on this replica. A Retry-After longer
    than `retry_after_most_s` is not waited for. `hedge_after_s`: None asks one provider at a time."""

    slot_wait_s: float = 5.0
    slot_waiters: int = 1000
    backoff_s: float = 0.25
    backoff_most_s: float = 4.0
    retry_after_most_s: float = 5.0
    hedge_after_s: float | None = None
    breaker: BreakerSettings = field(default_factory=BreakerSettings)


@dataclass(slots=True, eq=False)
class Asked:
    """A provider that has the question, or gets it when it `waits` no more: since when (Unix milliseconds),
    for how long it was waited for, what it said until nobody did, and why that was."""

    candidate: Candidate
    at_ms: int
    took_ms: int | None = None
    said: Sequence[Piece] = ()
    code: str = "CANCELLED"
    waits: bool = False


@dataclass(slots=True)
class Course:
    """One call on its way: whom it may ask, until when (monotonic seconds), and whom it asked last.
    `asking`: the providers that have the question, but for the one whose answer was taken and those that
    failed: each may charge for it."""

    candidates: Sequence[Candidate]
    deadline: float
    asked: Candidate | None = None
    asking: list[Asked] = field(default_factory=list)

    def ask(self, candidate: Candidate, clock: Clock) -> Asked:
        """A provider gets the question."""
        self.asked = candidate
        self.asking.append(asked := Asked(candidate, clock.now_ms()))
        asked_now.set(asked)
        return asked

    def left(self) -> list[Asked]:
        """Those of `asking` that really got the question."""
        return [one for one in self.asking if not one.waits]

    def took(self, asked: Asked) -> None:
        """Its answer is the call's."""
        self.asked = asked.candidate
        self.asking.remove(asked)

    def failed(self, asked: Asked, error: UpstreamError) -> None:
        """It gave none."""
        asked.code = error.code
        if not error.left:
            self.asking.remove(asked)


class Held(Generic[T]):
    """What a provider gave, together with its place, which `end` gives back."""

    __slots__ = ("_clock", "_health", "_permit", "asked", "value")

    def __init__(self, asked: Asked, value: T, health: Health, permit: Permit, clock: Clock) -> None:
        self.asked = asked
        self.value = value
        self._health: Health | None = health
        self._permit = permit
        self._clock = clock

    @property
    def candidate(self) -> Candidate:
        """Who gave it."""
        return self.asked.candidate

    def began(self) -> None:
        """The first piece came."""
        self._permit.began()

    def end(self, error: BaseException | None = None) -> None:
        """The answer is whole, or `error` ended it. Only the first call counts."""
        if self._health is None:
            return
        self._health.give_back()
        self._health = None
        if error is None:
            self._permit.succeeded()
        elif isinstance(error, UpstreamError):
            self._permit.failed(error, self._clock.monotonic())
        else:
            self._permit.dropped()


Source = AsyncGenerator[Sequence[Piece], None]


@dataclass(frozen=True, slots=True)
class Begun:
    """A stream whose first batch is here. Whoever ends it closes `source`, and ends its Held."""

    first: Sequence[Piece]
    source: Source


Request = Callable[[Candidate], Awaitable[T]]


class Router:
    """Asks providers. `adapters` by kind; `draws` gives numbers in [0, 1)."""

    def __init__(
        self,
        adapters: Mapping[str, Adapter],
        clock: Clock,
        settings: RouterSettings,
        draws: Callable[[], float] = random.random,
    ) -> None:
        self._adapters = adapters
        self._clock = clock
        self._settings = settings
        self._draws = draws
        self._backoff = exponential(settings.backoff_s, settings.backoff_most_s)
        self._healths = Healths(settings.breaker, clock)
        self._waiters = 0

    async def complete(self, course: Course, prompt: Prompt) -> tuple[Candidate, Answer]:
        """A whole answer and who gave it; raises UpstreamError, ResourceExhausted or Unavailable."""

        async def request(candidate: Candidate) -> Answer:
            provider, model = candidate
            return await self.adapter(provider).complete(provider, model, capped(prompt, model))

        held = await self._lane(course, self._drawn(course), request)
        held.end()
        course.took(held.asked)
        return held.candidate, held.value

    async def embed(
        self, course: Course, texts: Sequence[str], dimensions: int | None
    ) -> tuple[Candidate, Embeddings]:
        """Vectors and who made them; raises as `complete` does."""

        async def request(candidate: Candidate) -> Embeddings:
            provider, model = candidate
            return await self.adapter(provider).embed(provider, model, texts, dimensions)

        held = await self._lane(course, self._drawn(course), request)
        held.end()
        course.took(held.asked)
        return held.candidate, held.value

    async def stream(self, course: Course, prompt: Prompt) -> Held[Begun]:
        """A stream that has begun; raises as `complete` does."""

        async def request(candidate: Candidate) -> Begun:
            provider, model = candidate
            source = self.adapter(provider).stream(provider, model, capped(prompt, model))
            try:
                return Begun(await anext(source), source)
            except StopAsyncIteration:
                raise UpstreamUnavailable(
                    "the provider's answer ended before it began", provider=provider.name
                ) from None

        drawn = self._drawn(course)
        hedge_after_s = self._settings.hedge_after_s
        if hedge_after_s is None or len(drawn) == 1:
            held = await self._lane(course, drawn, request)
        else:
            held = await self._hedged(course, drawn, request, hedge_after_s)
        held.began()
        course.took(held.asked)
        return held

    def adapter(self, provider: Provider) -> Adapter:
        """What speaks to a provider; raises UpstreamMisconfigured for a kind of a later version."""
        found = self._adapters.get(provider.kind)
        if found is None:
            raise UpstreamMisconfigured(
                f"this version does not know providers of the kind {provider.kind}", provider=provider.name
            )
        return found

    def health(self, provider_ids: Iterable[str]) -> list[HealthView]:
        """How providers do on this replica."""
        return self._healths.view(provider_ids)

    def states(self) -> dict[State, int]:
        """How many of the providers that were asked last are in each state."""
        return self._healths.count()

    def _drawn(self, course: Course) -> deque[Candidate]:
        return deque(draw(course.candidates, self._draws))

    async def _lane(self, course: Course, left: deque[Candidate], request: Request[T]) -> Held[T]:
        """Take candidates from `left` until one answers."""
        last: FrontdeskError | None = None
        rest_s: float | None = None
        full: list[tuple[Candidate, Health]] = []
        while left:
            candidate = left.popleft()
            health = self._healths.of(candidate.provider)
            resting = health.rests_for(candidate.model.name)
            if resting is not None:
                rest_s = resting if rest_s is None else min(rest_s, resting)
            elif not health.take():
                full.append((candidate, health))
            else:
                try:
                    return await self._tries(course, health, candidate, request)
                except UpstreamError as error:
                    if not error.elsewhere:
                        raise
                    last = error
        if full:
            return await self._of_full(course, full, request)
        raise last or _resting(rest_s)

    async def _of_full(
        self, course: Course, full: list[tuple[Candidate, Health]], request: Request[T]
    ) -> Held[T]:
        """The same with candidates that have no place free."""
        until = min(course.deadline, self._clock.monotonic() + self._settings.slot_wait_s)
        last: FrontdeskError | None = None
        while full:
            health = await self._place([health for _, health in full], until)
            number = next(number for number, one in enumerate(full) if one[1] is health)
            candidate, _ = full.pop(number)
            try:
                return await self._tries(course, health, candidate, request)
            except UpstreamError as error:
                if not error.elsewhere:
                    raise
                last = error
        raise last or _resting(None)

    async def _tries(
        self, course: Course, health: Health, candidate: Candidate, request: Request[T]
    ) -> Held[T]:
        """Ask a provider, whose place is taken, until it answers or there is no use in asking again."""
        name = candidate.model.name
        failures = 0
        last: UpstreamError | None = None
        try:
            while True:
                permit = health.admit(name)
                if permit is None:
                    raise last or _resting(health.rests_for(name))
                asked, begun = course.ask(candidate, self._clock), self._clock.monotonic()
                try:
                    value = await request(candidate)
                except UpstreamError as error:
                    _tell(candidate, error)
                    course.failed(asked, error)
                    permit.failed(error, self._clock.monotonic())
                    failures += 1
                    last = error
                    wait_s = self._again_in(course, candidate.provider, error, failures)
                    if wait_s is None or (health.rests_for(name) or 0) > wait_s:
                        raise
                except BaseException:
                    permit.dropped()
                    raise
                else:
                    return Held(asked, value, health, permit, self._clock)
                finally:
                    asked.took_ms = round((self._clock.monotonic() - begun) * 1000)
                await self._clock.sleep(wait_s)
        except BaseException:
            health.give_back()
            raise

    def _again_in(
        self, course: Course, provider: Provider, error: UpstreamError, failures: int
    ) -> float | None:
        """Seconds until the same provider is asked again; None when it is not."""
        if not error.again or failures >= provider.limits.attempts:
            return None
        wait_s = self._draws() * self._backoff.delay(failures)
        retry_after = error.facts.get("retry_after_s")
        if isinstance(retry_after, int | float):
            if retry_after > self._settings.retry_after_most_s:
                return None
            wait_s += retry_after
        return wait_s if wait_s < course.deadline - self._clock.monotonic() else None

    async def _place(self, healths: Sequence[Health], until: float) -> Health:
        """The first place that is given back, taken; raises ResourceExhausted after `until`."""
        if self._waiters >= self._settings.slot_waiters:
            raise ResourceExhausted("too many calls wait for a provider")
        waiter: asyncio.Future[Health] = asyncio.get_running_loop().create_future()
        for health in healths:
            health.queue(waiter)
        timer = asyncio.ensure_future(self._clock.sleep(until - self._clock.monotonic()))
        self._waiters += 1
        try:
            await asyncio.wait((waiter, timer), return_when=asyncio.FIRST_COMPLETED)
        except BaseException:
            if waiter.done():
                waiter.result().give_back()
            raise
        finally:
            self._waiters -= 1
            timer.cancel()
            for health in healths:
                health.forget(waiter)
        if not waiter.done():
            raise ResourceExhausted("every provider of the model is busy with other calls")
        return waiter.result()

    async def _hedged(
        self, course: Course, left: deque[Candidate], request: Request[Begun], after_s: float
    ) -> Held[Begun]:
        """Two lanes, the second after a while; the first piece wins. An error goes on when both have failed,
        or when it is no use to ask elsewhere."""
        first = asyncio.create_task(self._lane(course, left, request))
        timer = asyncio.ensure_future(self._clock.sleep(after_s))
        lanes = [first]
        won: list[asyncio.Task[Held[Begun]]] = []
        try:
            await asyncio.wait((first, timer), return_when=asyncio.FIRST_COMPLETED)
            if not first.done() and left:
                lanes.append(asyncio.create_task(self._lane(course, left, request)))
            running = set(lanes)
            while running:
                done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                for lane in sorted(done, key=lambda lane: lane.exception() is not None):
                    error = lane.exception()
                    if error is None:
                        won = [lane]
                        lanes.remove(lane)
                        return lane.result()
                    if isinstance(error, UpstreamRefused) or not isinstance(error, FrontdeskError):
                        raise error
            return first.result()
        finally:
            timer.cancel()
            try:
                await asyncio.shield(background(_cancel(lanes)))
            except asyncio.CancelledError:
                # The caller left while the losers ended: nobody takes what won.
                await asyncio.shield(background(_cancel(won)))
                raise


def capped(prompt: Prompt, model: Model) -> Prompt:
    """`prompt` with the longest answer that the model is asked for."""
    most = model.max_tokens
    if not most or (prompt.max_tokens is not None and prompt.max_tokens <= most):
        return prompt
    return replace(prompt, max_tokens=most)


def _tell(candidate: Candidate, error: UpstreamError) -> None:
    """For whoever runs the installation: which provider, and its word for it. What else it said may hold what
    was asked."""
    provider, model = candidate
    facts: dict[str, object] = {"code": error.code}
    facts |= {"provider_id": provider.provider_id, "model": model.upstream_name}
    facts |= {name: error.facts[name] for name in ("status", "upstream_code") if name in error.facts}
    level = logging.INFO if isinstance(error, UpstreamRefused) else logging.WARNING
    log.log(level, "a provider failed: %s", error.message, extra=facts)


def _resting(seconds: float | None) -> Unavailable:
    facts = {"retry_after_s": round(seconds, 1)} if seconds else {}
    return UpstreamUnavailable("the model's providers failed and are not asked for now", **facts)


async def _cancel(lanes: Sequence[asyncio.Task[Held[Begun]]]) -> None:
    """End the calls that lost, also one that has just begun to speak: what it said is noted."""
    await end(lanes)
    for lane in lanes:
        if not lane.cancelled() and lane.exception() is None:
            lost = lane.result()
            lost.asked.said = lost.value.first
            lost.end(asyncio.CancelledError())
            await lost.value.source.aclose()
