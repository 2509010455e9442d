"""Providers whose answers are scripted, and the parts around ai-proxy's completions, for tests."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from decimal import Decimal

from frontdesk.ai_proxy.breaker import BreakerSettings, State
from frontdesk.ai_proxy.cache import AnswerCache
from frontdesk.ai_proxy.catalog import Catalog
from frontdesk.ai_proxy.completions import Completions, CompletionSettings, Pieces
from frontdesk.ai_proxy.errors import BudgetExceeded
from frontdesk.ai_proxy.health import HealthView
from frontdesk.ai_proxy.model import (
    Answer,
    Caller,
    Delta,
    Embeddings,
    Finish,
    FinishReason,
    Model,
    ModelMessage,
    Outcome,
    Piece,
    Price,
    Prompt,
    Provider,
    ProviderLimits,
    Role,
    Usage,
)
from frontdesk.ai_proxy.router import Begun, Course, Held, Router, RouterSettings
from frontdesk.ai_proxy.spending import SpendRecord
from frontdesk.kit.clock import ManualClock
from frontdesk.kit.errors import Unavailable

ORGANIZATION = "org"
USAGE = Usage(prompt_tokens=10, completion_tokens=4)
FINISH = Finish(FinishReason.STOP, USAGE)
PRICE = Price(Decimal(2), Decimal(8), currency="CNY")


def provider(name: str, *models: Model, **fields: object) -> Provider:
    """A provider of ORGANIZATION with two tries a call; `default`, priced, when no model is given."""
    limits = ProviderLimits(concurrency=4, connect_s=1, first_token_s=5, idle_s=5, attempts=2)
    plain = Provider(
        provider_id=f"id-{name}",
        organization_id=ORGANIZATION,
        name=name,
        kind="openai",
        base_url="https://models.example/v1",
        api_key="",
        models=models or (Model("default", f"{name}-large", price=PRICE),),
        limits=limits,
    )
    return replace(plain, **fields)  # type: ignore[arg-type]


# A step of a script: a batch, an error, or something to wait for.
Step = Sequence[Piece] | BaseException | Callable[[], Awaitable[object]]


def says(*words: str, finish: Finish = FINISH) -> list[Step]:
    """A stream that says each word in a batch of its own, the last with its end."""
    batches: list[Step] = [[Delta(word)] for word in words[:-1]]
    return [*batches, [Delta(words[-1]), finish]]


async def forever() -> None:
    """A step that has no end."""
    await asyncio.get_running_loop().create_future()


class Scripted:
    """An adapter: each call plays the next script of its provider; with none left it plays `says("ok")`."""

    def __init__(self) -> None:
        self.scripts: dict[str, deque[list[Step]]] = {}
        self.asked: list[str] = []
        self.prompts: list[Prompt] = []
        self.ended: list[tuple[str, str]] = []

    def plays(self, name: str, *scripts: Iterable[Step]) -> None:
        """What the provider of that name does with its next calls."""
        self.scripts.setdefault(name, deque()).extend(list(script) for script in scripts)

    def _next(self, provider: Provider) -> list[Step]:
        self.asked.append(provider.name)
        scripts = self.scripts.get(provider.name)
        return scripts.popleft() if scripts else says("ok")

    async def stream(
        self, provider: Provider, model: Model, prompt: Prompt
    ) -> AsyncGenerator[Sequence[Piece], None]:
        self.prompts.append(prompt)
        how = "left"
        try:
            for step in self._next(provider):
                if isinstance(step, BaseException):
                    how = "failed"
                    raise step
                if callable(step):
                    await step()
                else:
                    yield step
            how = "whole"
        finally:
            self.ended.append((provider.name, how))

    async def complete(self, provider: Provider, model: Model, prompt: Prompt) -> Answer:
        text, finish = "", FINISH
        async for batch in self.stream(provider, model, prompt):
            for piece in batch:
                if isinstance(piece, Delta):
                    text += piece.text
                elif isinstance(piece, Finish):
                    finish = piece
        return Answer(text, finish=finish)

    async def embed(
        self, provider: Provider, model: Model, texts: Sequence[str], dimensions: int | None
    ) -> Embeddings:
        for step in self._next(provider):
            if isinstance(step, BaseException):
                raise step
            if callable(step):
                await step()
        return Embeddings(tuple([0.5] * (dimensions or 3) for _ in texts), Usage(prompt_tokens=7))


@dataclass
class ScriptedShop:
    """What an organization has set up."""

    providers: tuple[Provider, ...] = ()
    budgets: Sequence[object] = ()


@dataclass
class Ledger:
    """Budgets that refuse the models they are told to and have no room in some currencies, and a log that
    keeps what was recorded."""

    refused: dict[str, str] = field(default_factory=dict)
    used_up: set[str] = field(default_factory=set)
    reserved: list[tuple[str, str, int, int]] = field(default_factory=list)
    released: list[str] = field(default_factory=list)
    spent: list[SpendRecord] = field(default_factory=list)
    full: bool = False
    before_keeping: Callable[[], Awaitable[object]] | None = None
    before_reserving: Callable[[], Awaitable[object]] | None = None

    async def reserve(
        self,
        call_id: str,
        caller: Caller,
        model: Model,
        prompt_tokens: int,
        completion_tokens: int,
        others: Sequence[tuple[Model, int]] = (),
    ) -> Collection[str]:
        if self.before_reserving is not None:
            await self.before_reserving()
        asked = [(model, completion_tokens), *others]
        kept = [one for one in asked if one[0].price.currency not in self.used_up]
        if model.name in self.refused or not kept:
            fallback = self.refused.get(model.name, "")
            raise BudgetExceeded("used up", budget_id="b", scope="organization", fallback_model=fallback)
        for one, tokens in kept:
            self.reserved.append((call_id, one.upstream_name, prompt_tokens, tokens))
        return {one.price.currency for one, _ in kept}

    async def release(self, call_id: str) -> None:
        self.released.append(call_id)

    def check_room(self) -> None:
        if self.full:
            raise Unavailable("no room")

    async def record(self, spend: SpendRecord) -> None:
        if self.before_keeping is not None:
            await self.before_keeping()
        self.spent.append(spend)


class Quotes:
    """Answers without a model."""

    async def complete(self, caller: Caller, prompt: Prompt) -> Answer:
        return Answer("a person is needed", finish=Finish())


class ManualLater:
    """Timers that ring when the test says so."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self._set: list[_Timer] = []

    def __call__(self, seconds: float, ring: Callable[[], None]) -> _Timer:
        self.seconds.append(seconds)
        self._set.append(_Timer(ring))
        return self._set[-1]

    @property
    def waiting(self) -> int:
        """Timers that were neither rung nor cancelled."""
        return sum(timer.ring is not None for timer in self._set)

    def ring(self) -> None:
        """All of them are due."""
        for timer in self._set:
            if timer.ring is not None:
                ring, timer.ring = timer.ring, None
                ring()


@dataclass
class _Timer:
    ring: Callable[[], None] | None

    def cancel(self) -> None:
        self.ring = None


CALLER = Caller(ORGANIZATION, account_id="acc", api_key_id="key", operation="stream")
PROMPT = Prompt((ModelMessage(Role.USER, "how much is it?"),))


ROUTER_SETTINGS = RouterSettings(
    slot_wait_s=5,
    slot_waiters=2,
    backoff_s=1,
    backoff_most_s=3,
    retry_after_most_s=4,
    breaker=BreakerSettings(failures=3, cool_down_s=30),
)


class RouterBench:
    """A router of scripted providers whose back-off is drawn in the middle."""

    def __init__(self, *providers: Provider, settings: RouterSettings = ROUTER_SETTINGS) -> None:
        self.clock = ManualClock()
        self.adapter = Scripted()
        self.providers = providers
        self.router = Router({"openai": self.adapter}, self.clock, settings, draws=lambda: 0.5)

    def course(self, seconds: float = 100, model: str = "default") -> Course:
        found = Catalog(self.providers).find(model, embeds=False)
        return Course(found, self.clock.monotonic() + seconds)

    async def complete(self, seconds: float = 100, model: str = "default") -> str:
        candidate, answer = await self.router.complete(self.course(seconds, model), PROMPT)
        assert answer.text == "ok"
        return candidate.provider.name

    async def stream(self) -> Held[Begun]:
        return await self.router.stream(self.course(), PROMPT)

    def states(self) -> list[State]:
        return [view.state for view in self._views()]

    def in_flight(self) -> list[int]:
        return [view.in_flight for view in self._views()]

    def _views(self) -> list[HealthView]:
        return self.router.health(one.provider_id for one in self.providers)


class CompletionsBench:
    """Completions of one organization with scripted providers."""

    def __init__(
        self,
        *providers: Provider,
        budgets: int = 0,
        cache_seconds: float = 0,
        answer_characters: int = 1_000_000,
        routing: RouterSettings | None = None,
    ) -> None:
        self.clock = ManualClock()
        self.later = ManualLater()
        self.adapter = Scripted()
        self.ledger = Ledger()
        self.shop = ScriptedShop(providers or (provider("a"),), budgets=[object()] * budgets)
        self.changed: ScriptedShop | None = None
        self.looks = 0
        self.router = Router(
            {"openai": self.adapter}, self.clock, routing or RouterSettings(), draws=lambda: 0.0
        )
        self.completions = Completions(
            shops=self._shop,
            latest=self._latest,
            router=self.router,
            offline=Quotes(),
            budgets=self.ledger,
            spending=self.ledger,
            clock=self.clock,
            settings=CompletionSettings(
                call_s=60, completion_tokens=500, answer_characters=answer_characters
            ),
            cache=AnswerCache(100_000, cache_seconds, self.clock) if cache_seconds else None,
            later=self.later,
        )

    async def _shop(self, organization_id: str) -> ScriptedShop:
        assert organization_id == ORGANIZATION
        return self.shop

    async def _latest(self, organization_id: str) -> ScriptedShop:
        """What another replica changed is seen from here on."""
        assert organization_id == ORGANIZATION
        self.looks += 1
        self.shop = self.changed or self.shop
        return self.shop

    def stream(self, model: str = "", prompt: Prompt = PROMPT) -> AsyncGenerator[Pieces, None]:
        return self.completions.stream(CALLER, model, prompt)

    async def streamed(self, model: str = "", prompt: Prompt = PROMPT) -> tuple[str, Outcome]:
        """A stream to its end: its text and outcome."""
        text = ""
        async with aclosing(self.stream(model, prompt)) as batches:
            async for batch in batches:
                text += "".join(piece.text for piece in batch if isinstance(piece, Delta))
        last = batch[-1]
        assert isinstance(last, Outcome)
        return text, last

    def quiet(self) -> None:
        """Nothing of a call is left: no place, no timer, none that counts as under way."""
        views = self.router.health(one.provider_id for one in self.shop.providers)
        assert not any(view.in_flight for view in views)
        assert self.later.waiting == 0
        assert self.completions.under_way == 0
