"""Which way a call goes: budgets and their cheaper models, offline, names, vectors, the cache."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from decimal import Decimal

import pytest

from frontdesk.ai_proxy.errors import (
    BrokenOff,
    BudgetExceeded,
    UpstreamRefused,
    UpstreamUnavailable,
)
from frontdesk.ai_proxy.model import (
    Answer,
    Caller,
    Completion,
    Delta,
    Finish,
    FinishReason,
    Model,
    Outcome,
    Price,
    Prompt,
    Usage,
)
from frontdesk.ai_proxy.tokens import count_prompt, count_text
from frontdesk.kit.errors import DeadlineExceeded, InvalidArgument, NotFound, Unavailable
from support.completions import (
    CALLER,
    ORGANIZATION,
    PRICE,
    PROMPT,
    USAGE,
    ScriptedShop,
    forever,
    provider,
    says,
)
from support.completions import (
    CompletionsBench as Bench,
)

AWAY = UpstreamUnavailable("away")


DEAR = provider("dear", Model("default", "dear-model", price=Price(Decimal(20), Decimal(80), currency="CNY")))
SMALL = provider("small", Model("default", "small-model", price=PRICE, max_tokens=100))
CHEAP = provider("cheap", Model("cheap", "cheap-model", price=PRICE))


def yuan_and_dollars() -> Bench:
    """Two providers of a model, the first choice paid in yuan, the other in dollars."""
    dollars = Price(prompt=Decimal(20), completion=Decimal(80), currency="USD")
    return Bench(
        provider("yuan", Model("default", "yuan", price=PRICE)),
        provider("dollars", Model("default", "dollars", price=dollars), priority=1),
        CHEAP,
        budgets=1,
    )


async def test_the_dearest_provider_is_reserved() -> None:
    """Whoever answers in the end, no budget is exceeded by it."""
    bench = Bench(SMALL, DEAR, budgets=1)
    await bench.streamed()
    (spend,) = bench.ledger.spent
    assert bench.ledger.reserved == [(spend.call_id, "dear-model", count_prompt(PROMPT), 500)]
    assert bench.ledger.released == []


async def test_each_currency_is_reserved() -> None:
    """Budgets count one: a provider that costs less in another must not be left out of its own."""
    bench = yuan_and_dollars()
    await bench.completions.complete(CALLER, "", PROMPT)
    assert [name for _, name, _, _ in bench.ledger.reserved] == ["yuan", "dollars"]


@pytest.mark.parametrize(("used_up", "left"), [("CNY", "dollars"), ("USD", "yuan")])
async def test_a_used_up_currency_leaves_the_others(used_up: str, left: str) -> None:
    """Who is paid in it is not asked, whatever the others say; nothing is set aside in it."""
    bench = yuan_and_dollars()
    bench.ledger.used_up = {used_up}
    _, outcome = await bench.streamed()
    assert (outcome.provider, [entry[1] for entry in bench.ledger.reserved]) == (left, [left])
    bench.adapter.plays(left, [AWAY], [AWAY])
    task = asyncio.create_task(bench.streamed())
    await bench.clock.advance(10)
    with pytest.raises(UpstreamUnavailable):
        await task
    assert bench.adapter.asked == [left] * 3
    bench.quiet()


async def test_only_without_any_currency_a_call_is_refused() -> None:
    """Or turns to the budget's cheaper model."""
    bench = yuan_and_dollars()
    bench.ledger.used_up = {"CNY", "USD"}
    with pytest.raises(BudgetExceeded):
        await bench.streamed()
    bench.ledger.used_up = set()
    bench.ledger.refused = {"default": "cheap"}
    assert (await bench.streamed())[1].model == "cheap-model"
    assert bench.adapter.asked == ["cheap"]


@pytest.mark.parametrize(("asked", "reserved"), [(None, 100), (50, 50), (4000, 100)])
async def test_an_answer_is_reserved_as_long_as_it_may_be(asked: int | None, reserved: int) -> None:
    bench = Bench(SMALL, budgets=1)
    await bench.streamed(prompt=replace(PROMPT, max_tokens=asked))
    assert bench.ledger.reserved[0][3] == reserved
    assert bench.adapter.prompts[0].max_tokens == reserved


async def test_without_budgets_nothing_is_reserved() -> None:
    bench = Bench()
    await bench.streamed()
    assert (bench.ledger.reserved, bench.ledger.released) == ([], [])


async def test_a_used_up_budget_stops_the_call_and_is_recorded() -> None:
    bench = Bench(budgets=1)
    bench.ledger.refused = {"default": ""}
    with pytest.raises(BudgetExceeded):
        await bench.streamed()
    assert bench.adapter.asked == []
    assert [(spend.code, spend.usage) for spend in bench.ledger.spent] == [("RESOURCE_EXHAUSTED", Usage())]


async def test_a_used_up_budget_turns_to_its_cheaper_model_once() -> None:
    """Which is reserved as well; with that used up too the call is refused."""
    bench = Bench(DEAR, CHEAP, budgets=1)
    bench.ledger.refused = {"default": "cheap"}
    _, outcome = await bench.streamed()
    assert outcome.model == "cheap-model"
    assert [(spend.requested_model, spend.model) for spend in bench.ledger.spent] == [
        ("cheap", "cheap-model")
    ]
    assert [entry[1] for entry in bench.ledger.reserved] == ["cheap-model"]
    bench.ledger.refused = {"default": "cheap", "cheap": "default"}
    with pytest.raises(BudgetExceeded):
        await bench.streamed()
    assert bench.adapter.asked == ["cheap"]


@pytest.mark.parametrize("fallback", ["default", "unknown"])
async def test_a_cheaper_model_that_is_none_refuses(fallback: str) -> None:
    bench = Bench(DEAR, budgets=1)
    bench.ledger.refused = {"default": fallback}
    with pytest.raises(BudgetExceeded):
        await bench.streamed()


async def test_a_used_up_budget_may_turn_to_offline() -> None:
    bench = Bench(DEAR, budgets=1)
    bench.ledger.refused = {"default": "offline"}
    text, outcome = await bench.streamed()
    assert (text, outcome.provider, outcome.cost) == ("a person is needed", "offline", None)


@pytest.mark.parametrize("model", ["", "default", "offline"])
async def test_without_a_model_the_embedded_answers_as_offline(model: str) -> None:
    """Named so everywhere, and free, also under a budget."""
    bench = Bench(CHEAP, budgets=1)
    text, outcome = await bench.streamed(model)
    assert text == "a person is needed"
    completion = await bench.completions.complete(CALLER, model, PROMPT)
    for one in (outcome, completion.outcome):
        assert (one.provider, one.model, one.usage, one.cost) == ("offline", "offline", Usage(), None)
    assert [(spend.provider, spend.code) for spend in bench.ledger.spent] == [("offline", "OK")] * 2
    assert bench.ledger.reserved == []


class Asks:
    """Answers without a model after what `step` does."""

    def __init__(self, step: Callable[[], Awaitable[object]]) -> None:
        self._step = step

    async def complete(self, caller: Caller, prompt: Prompt) -> Answer:
        await self._step()
        return Answer("quoted")


async def test_a_caller_may_know_better_what_offline_says() -> None:
    """It is recorded once, as any call: with its time, and however it ends."""
    bench = Bench(CHEAP)

    async def later() -> None:
        await bench.clock.sleep(2)

    async def fails() -> None:
        raise Unavailable("the database is away")

    def ask(step: Callable[[], Awaitable[object]]) -> asyncio.Task[Completion]:
        asked = bench.completions.complete(CALLER, "offline", Prompt(()), offline=Asks(step))
        return asyncio.create_task(asked)

    task = ask(later)
    await bench.clock.advance(2)
    completion = await task
    assert (completion.answer.text, completion.outcome.provider) == ("quoted", "offline")
    with pytest.raises(Unavailable):
        await ask(fails)
    task = ask(forever)
    await bench.clock.advance(0)
    bench.later.ring()
    with pytest.raises(DeadlineExceeded):
        await task
    task = ask(forever)
    await bench.clock.advance(0)
    task.cancel()
    await bench.clock.advance(0)
    recorded = [(spend.code, spend.provider, spend.usage) for spend in bench.ledger.spent]
    codes = ("OK", "UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED")
    assert recorded == [(code, "offline", Usage()) for code in codes]
    assert bench.ledger.spent[0].duration_ms == 2000
    bench.quiet()


async def test_names_that_there_are_not() -> None:
    """Are no calls: nothing is recorded."""
    bench = Bench(provider("a", Model("vectors", "v", embeds=True), Model("default", "m")))
    with pytest.raises(NotFound):
        await bench.streamed("unknown")
    with pytest.raises(InvalidArgument, match="model: makes vectors"):
        await bench.completions.complete(CALLER, "vectors", PROMPT)
    with pytest.raises(InvalidArgument, match="model: makes answers"):
        await bench.completions.embed(CALLER, "default", ["x"])
    with pytest.raises(NotFound):
        await bench.completions.embed(CALLER, "offline", ["x"])
    assert bench.ledger.spent == []


async def test_a_model_that_another_replica_just_added() -> None:
    """One look for what changed comes before a name is said to be unknown; one that is known needs none."""
    bench = Bench(provider("a"))
    bench.changed = ScriptedShop((provider("a"), provider("b", Model("new", "new-1"))))
    await bench.streamed()
    assert bench.looks == 0
    _, outcome = await bench.streamed("new")
    assert (outcome.provider, outcome.model, bench.looks) == ("b", "new-1", 1)
    await bench.streamed("new")
    assert bench.looks == 1
    with pytest.raises(NotFound):
        await bench.streamed("unknown")
    assert bench.looks == 2


async def test_models_are_listed_by_name_with_who_has_them() -> None:
    vectors = Model("vectors", "v", embeds=True)
    bench = Bench(provider("b", Model("cheap", "m"), vectors, priority=1), CHEAP)
    listed = [(one.name, one.providers, one.embeds) for one in await bench.completions.models(ORGANIZATION)]
    assert listed == [
        ("cheap", ("cheap", "b"), False),
        ("default", ("offline",), False),
        ("offline", ("offline",), False),
        ("vectors", ("b",), True),
    ]
    known = [await bench.completions.has_model(ORGANIZATION, name) for name in ("", "cheap", "offline", "x")]
    assert known == [False, True, False, False]
    bench.shop = ScriptedShop((provider("a"),))
    assert [one.name for one in await bench.completions.models(ORGANIZATION)] == ["default", "offline"]
    assert await bench.completions.has_model(ORGANIZATION, "")


async def test_vectors_are_reserved_and_recorded() -> None:
    bench = Bench(provider("a", Model("vectors", "v", embeds=True, price=PRICE)), budgets=1)
    embeddings, outcome = await bench.completions.embed(CALLER, "vectors", ["one", "two"], 2)
    assert [list(vector) for vector in embeddings.vectors] == [[0.5, 0.5]] * 2
    assert (outcome.usage, outcome.cost) == (Usage(prompt_tokens=7), Decimal("0.000014"))
    assert bench.ledger.reserved[0][1:] == ("v", count_text("one") + count_text("two"), 0)
    bench.adapter.plays("a", [UpstreamRefused("no")])
    with pytest.raises(UpstreamRefused):
        await bench.completions.embed(CALLER, "vectors", ["one"])
    assert [spend.code for spend in bench.ledger.spent] == ["OK", "INVALID_ARGUMENT"]
    bench.quiet()


async def test_a_repeated_question_is_answered_from_the_cache() -> None:
    """As one batch, free, recorded as cached; streams and whole answers share it."""
    bench = Bench(budgets=1, cache_seconds=60)
    bench.adapter.plays("a", says("one", "two"))
    assert (await bench.streamed())[0] == "onetwo"
    batches = [batch async for batch in bench.stream()]
    assert [len(batch) for batch in batches] == [2]
    assert batches[0][0] == Delta("onetwo")
    outcome = batches[0][1]
    assert isinstance(outcome, Outcome)
    assert (outcome.cached, outcome.usage, outcome.cost, outcome.provider) == (True, Usage(), Decimal(0), "a")
    completion = await bench.completions.complete(CALLER, "", PROMPT)
    assert (completion.answer.text, completion.outcome.cached) == ("onetwo", True)
    assert bench.adapter.asked == ["a"]
    assert [(spend.cached, spend.provider) for spend in bench.ledger.spent] == [
        (False, "a"),
        (True, "a"),
        (True, "a"),
    ]
    assert len(bench.ledger.reserved) == 1
    await bench.streamed(prompt=replace(PROMPT, temperature=1))
    await bench.clock.advance(60)
    await bench.streamed()
    assert bench.adapter.asked == ["a"] * 3


@pytest.mark.parametrize(
    "spoil",
    [
        lambda bench: bench.adapter.plays("a", says("half", finish=Finish(FinishReason.LENGTH, USAGE))),
        lambda bench: bench.adapter.plays("a", [[Delta("half")], AWAY]),
        lambda bench: bench.ledger.refused.update({"default": "cheap"}),
    ],
    ids=["cut short", "broke off", "of the cheaper model"],
)
async def test_only_whole_answers_of_the_model_are_kept(spoil: Callable[[Bench], None]) -> None:
    bench = Bench(provider("a"), CHEAP, budgets=1, cache_seconds=60)
    spoil(bench)
    with suppress(BrokenOff):
        await bench.streamed()
    bench.ledger.refused.clear()
    text, outcome = await bench.streamed()
    assert (text, outcome.cached, outcome.provider) == ("ok", False, "a")


async def test_without_a_cache_every_call_is_asked() -> None:
    bench = Bench()
    await bench.streamed()
    await bench.streamed()
    assert bench.adapter.asked == ["a", "a"]
