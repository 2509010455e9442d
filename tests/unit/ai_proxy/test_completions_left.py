"""Providers that had the question and were left: each is a row of its own, as it may charge for it."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from decimal import Decimal

import pytest

from frontdesk.ai_proxy.errors import UpstreamRefused, UpstreamTimeout, UpstreamUnavailable
from frontdesk.ai_proxy.model import Delta, Finish, FinishReason, Model, Price, Usage
from frontdesk.ai_proxy.providers.http import ProviderHttp
from frontdesk.ai_proxy.providers.kinds import adapters
from frontdesk.ai_proxy.router import Router, RouterSettings
from frontdesk.ai_proxy.spending import SpendRecord
from frontdesk.ai_proxy.tokens import count_prompt, count_text
from support.completions import CALLER, FINISH, PRICE, PROMPT, USAGE, Step, forever, provider, says
from support.completions import CompletionsBench as Bench
from support.waiting import until

HEDGED = RouterSettings(hedge_after_s=2)
ASKED = Usage(count_prompt(PROMPT), 0, counted=True)
DEAR = Price(Decimal(200), Decimal(800), currency="USD")
SILENT = UpstreamTimeout("silent")


def hedged(first: list[Step], second: list[Step]) -> Bench:
    """Two providers, the second dearer and asked after two seconds."""
    dear = provider("b", Model("default", "b-large", price=DEAR), priority=1)
    bench = Bench(provider("a"), dear, budgets=1, routing=HEDGED)
    bench.adapter.plays("a", first)
    bench.adapter.plays("b", second)
    return bench


def told(spend: SpendRecord) -> tuple[object, ...]:
    return (spend.provider, spend.code, spend.usage, spend.cost, spend.currency)


async def test_who_loses_a_race_is_recorded_too() -> None:
    """With its own price and time, under an id of its own; the reservation is the winner's."""
    late: list[Step] = [lambda: bench.clock.sleep(3), *says("ok")]
    bench = hedged(late, [forever])
    task = asyncio.create_task(bench.streamed())
    await bench.clock.advance(3)
    _, outcome = await task
    assert (outcome.provider, outcome.usage) == ("a", USAGE)
    won, lost = bench.ledger.spent
    assert told(won) == ("a", "OK", USAGE, PRICE.cost(USAGE), "CNY")
    assert told(lost) == ("b", "CANCELLED", ASKED, DEAR.cost(ASKED), "USD")
    assert (lost.call_id, lost.model, lost.caller) == (f"{won.call_id}.1", "b-large", CALLER)
    assert (lost.requested_model, lost.started_at_ms) == ("default", won.started_at_ms + 2000)
    assert (won.duration_ms, lost.duration_ms, lost.first_token_ms) == (3000, 1000, 0)
    assert {entry[0] for entry in bench.ledger.reserved} == {won.call_id}
    assert bench.ledger.released == []
    bench.quiet()


@pytest.mark.parametrize(
    ("batch", "used"),
    [
        ([Delta("so much")], Usage(count_prompt(PROMPT), count_text("so much"), counted=True)),
        ([Delta("all"), FINISH], USAGE),
        ([Finish(FinishReason.STOP)], ASKED),
    ],
    ids=["counted", "as it says", "nothing said"],
)
async def test_what_a_loser_said_counts(batch: list[Delta | Finish], used: Usage) -> None:
    """Two that speak at the same moment: the answer is of one, and both are paid."""
    now = asyncio.Event()
    script: list[Step] = [now.wait, batch, [FINISH]]
    bench = hedged(script, script)
    task = asyncio.create_task(bench.streamed())
    await bench.clock.advance(2)
    now.set()
    await task
    won, lost = bench.ledger.spent
    assert {won.provider, lost.provider} == {"a", "b"}
    assert (lost.code, lost.usage) == ("CANCELLED", used)
    bench.quiet()


async def test_two_that_fail_cost_nothing() -> None:
    away = UpstreamUnavailable("away", retry_after_s=9)
    bench = hedged([lambda: bench.clock.sleep(3), away], [away])
    task = asyncio.create_task(bench.streamed())
    await bench.clock.advance(3)
    with pytest.raises(UpstreamUnavailable):
        await task
    (spend,) = bench.ledger.spent
    assert told(spend)[1:3] == ("UNAVAILABLE", Usage())
    assert bench.ledger.released == [spend.call_id]
    bench.quiet()


async def test_a_refusal_leaves_the_other_with_the_question() -> None:
    bench = hedged([forever], [UpstreamRefused("too long")])
    task = asyncio.create_task(bench.streamed())
    await bench.clock.advance(2)
    with pytest.raises(UpstreamRefused):
        await task
    assert [told(spend)[:3] for spend in bench.ledger.spent] == [
        ("b", "INVALID_ARGUMENT", Usage()),
        ("a", "CANCELLED", ASKED),
    ]
    bench.quiet()


async def test_leaving_two_that_think_costs_both_questions() -> None:
    bench = hedged([forever], [forever])
    task = asyncio.create_task(bench.streamed())
    await bench.clock.advance(2)
    task.cancel()
    await bench.clock.advance(0)
    assert task.cancelled()
    assert [told(spend)[:3] for spend in bench.ledger.spent] == [
        ("b", "CANCELLED", ASKED),
        ("a", "CANCELLED", ASKED),
    ]
    bench.quiet()


async def test_leaving_while_a_loser_ends_costs_the_answer_that_nobody_got() -> None:
    """And the question of the loser, which takes its time to end."""
    release = asyncio.Event()

    async def lingers() -> None:
        try:
            await forever()
        finally:
            await release.wait()

    bench = hedged([lingers], says("one", "two"))
    task = asyncio.create_task(bench.streamed())
    await bench.clock.advance(2)
    task.cancel()
    await bench.clock.advance(0)
    said = Usage(count_prompt(PROMPT), count_text("one"), counted=True)
    assert [told(spend)[:3] for spend in bench.ledger.spent] == [
        ("b", "CANCELLED", said),
        ("a", "CANCELLED", ASKED),
    ]
    release.set()
    await bench.clock.advance(0)
    bench.quiet()


@pytest.mark.parametrize("streamed", [True, False], ids=["stream", "complete"])
async def test_who_was_silent_is_recorded_beside_who_answered(streamed: bool) -> None:
    bench = Bench(provider("a"), provider("b", priority=1), budgets=1)
    bench.adapter.plays("a", [lambda: bench.clock.sleep(5), SILENT])
    work = bench.streamed() if streamed else bench.completions.complete(CALLER, "", PROMPT)
    task: asyncio.Task[object] = asyncio.create_task(work)
    await bench.clock.advance(5)
    await task
    answered, silent = bench.ledger.spent
    assert told(answered)[:3] == ("b", "OK", USAGE)
    assert told(silent) == ("a", "DEADLINE_EXCEEDED", ASKED, PRICE.cost(ASKED), "CNY")
    assert (silent.call_id, silent.duration_ms) == (f"{answered.call_id}.1", 5000)
    bench.quiet()


async def test_when_all_are_silent_each_has_its_row() -> None:
    """The last one's is the call's own."""
    bench = Bench(provider("a"), provider("b", priority=1), budgets=1)
    bench.adapter.plays("a", [SILENT])
    bench.adapter.plays("b", [SILENT])
    with pytest.raises(UpstreamTimeout):
        await bench.streamed()
    own, other = bench.ledger.spent
    assert told(own)[:3] == ("b", "DEADLINE_EXCEEDED", ASKED)
    assert told(other)[:3] == ("a", "DEADLINE_EXCEEDED", ASKED)
    assert (other.call_id, bench.ledger.released) == (f"{own.call_id}.1", [])
    bench.quiet()


async def test_who_waits_for_a_connection_has_not_asked() -> None:
    """No connection is free and the caller leaves: the provider never had the question, so nobody pays."""
    http = ProviderHttp(connections=1, private=True)
    await http.start()
    bench = Bench(replace(provider("a"), base_url="http://127.0.0.1:9/v1"), budgets=1)
    bench.router = Router(adapters(http, event_bytes=1024), bench.clock, HEDGED)
    bench.completions._router = bench.router
    await http._slots.take("another", 1)
    call = asyncio.create_task(bench.completions.complete(CALLER, "", PROMPT))
    await until(lambda: bool(http._slots._waiting))
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await http.stop()
    (spend,) = bench.ledger.spent
    assert (spend.code, spend.usage) == ("CANCELLED", Usage())
