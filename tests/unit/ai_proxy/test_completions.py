"""The one way of a call: what is reserved, who answers, what is recorded, exactly once, however it ends."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from decimal import Decimal

import pytest

from frontdesk.ai_proxy.completions import Pieces
from frontdesk.ai_proxy.errors import (
    BrokenOff,
    UpstreamMisconfigured,
    UpstreamRefused,
    UpstreamUnavailable,
    UpstreamUnreached,
)
from frontdesk.ai_proxy.model import (
    Delta,
    Finish,
    FinishReason,
    Model,
    Outcome,
    Piece,
    ToolCall,
    Usage,
)
from frontdesk.ai_proxy.tokens import count_prompt, count_text
from frontdesk.kit.errors import DeadlineExceeded, FrontdeskError, Unavailable
from support.completions import (
    CALLER,
    FINISH,
    PRICE,
    PROMPT,
    USAGE,
    Step,
    forever,
    provider,
    says,
)
from support.completions import (
    CompletionsBench as Bench,
)

AWAY = UpstreamUnavailable("away")


async def test_a_whole_answer() -> None:
    bench = Bench()
    completion = await bench.completions.complete(CALLER, "", PROMPT)
    assert completion.answer.text == "ok"
    outcome = completion.outcome
    assert (outcome.provider, outcome.model, outcome.usage, outcome.cached) == ("a", "a-large", USAGE, False)
    # 10 tokens at 2 and 4 at 8 a million.
    assert (outcome.cost, outcome.currency) == (Decimal("0.000052"), "CNY")
    (spend,) = bench.ledger.spent
    assert (spend.code, spend.provider, spend.requested_model, spend.model) == (
        "OK",
        "a",
        "default",
        "a-large",
    )
    assert (spend.caller, spend.usage, spend.cost) == (CALLER, USAGE, Decimal("0.000052"))
    assert spend.started_at_ms == bench.clock.now_ms()
    bench.quiet()


async def test_a_stream_passes_batches_on_and_ends_with_its_outcome() -> None:
    """One write a read: batches stay what they were; it is recorded before the caller hears the end."""
    bench = Bench()
    bench.adapter.plays("a", [[Delta("a"), Delta("b")], [Delta("c")], [Delta("d"), FINISH]])
    seen: list[Pieces] = []
    recorded: list[int] = []
    async for batch in bench.stream():
        seen.append(batch)
        recorded.append(len(bench.ledger.spent))
    assert [len(batch) for batch in seen] == [2, 1, 2]
    assert seen[2][0] == Delta("d")
    assert isinstance(seen[2][1], Outcome)
    assert recorded == [0, 0, 1]
    assert bench.adapter.ended == [("a", "whole")]
    bench.quiet()


async def test_times_are_recorded() -> None:
    bench = Bench()
    bench.adapter.plays(
        "a", [lambda: bench.clock.sleep(0.25), [Delta("x")], lambda: bench.clock.sleep(1), [FINISH]]
    )
    task = asyncio.create_task(bench.streamed())
    await bench.clock.advance(2)
    await task
    (spend,) = bench.ledger.spent
    assert (spend.first_token_ms, spend.duration_ms) == (250, 1250)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (None, Usage(count_prompt(PROMPT), count_text("twelve words"), counted=True)),
        (Usage(), Usage(count_prompt(PROMPT), count_text("twelve words"), counted=True)),
        (Usage(prompt_tokens=9), Usage(9, count_text("twelve words"), counted=True)),
        (Usage(completion_tokens=9), Usage(count_prompt(PROMPT), 9, counted=True)),
        (Usage(9, 9, cached_tokens=12), Usage(9, 9, cached_tokens=9)),
        (Usage(-1, -1), Usage(count_prompt(PROMPT), count_text("twelve words"), counted=True)),
    ],
    ids=["none", "zeros", "no completion", "no prompt", "more cached than asked", "negative"],
)
async def test_what_a_provider_does_not_say_is_counted(said: Usage | None, expected: Usage) -> None:
    """peers.md 15: no streamed call is free because its provider sent no usage."""
    bench = Bench()
    bench.adapter.plays("a", says("twelve words", finish=Finish(FinishReason.STOP, said)))
    _, outcome = await bench.streamed()
    assert outcome.usage == expected
    assert bench.ledger.spent[0].usage == expected
    assert outcome.cost == PRICE.cost(expected)


async def test_reasoning_and_tool_calls_are_counted_too() -> None:
    bench = Bench()
    pieces: list[Piece] = [
        Delta(reasoning="let me think"),
        ToolCall(0, "id", "look", '{"a":'),
        ToolCall(0, arguments="1}"),
        Finish(FinishReason.TOOL_CALLS),
    ]
    bench.adapter.plays("a", [pieces])
    _, outcome = await bench.streamed()
    assert outcome.usage.completion_tokens == count_text("let me think") + count_text('look{"a":1}')


async def test_a_model_without_a_price_costs_nothing_known() -> None:
    bench = Bench(provider("a", Model("default", "m")))
    _, outcome = await bench.streamed()
    assert (outcome.cost, outcome.currency) == (None, "")
    assert bench.ledger.spent[0].cost is None


async def test_before_the_first_piece_another_provider_answers() -> None:
    bench = Bench(provider("a"), provider("b", priority=1))
    bench.adapter.plays("a", [AWAY], [AWAY])
    task = asyncio.create_task(bench.streamed())
    await bench.clock.advance(1)
    text, outcome = await task
    assert (text, outcome.provider) == ("ok", "b")
    assert [spend.provider for spend in bench.ledger.spent] == ["b"]
    bench.quiet()


@pytest.mark.parametrize(
    "error",
    [UpstreamRefused("long"), UpstreamMisconfigured("key", status=401), UpstreamUnreached("t")],
    ids=str,
)
async def test_a_call_that_failed_is_recorded_with_nothing_used(error: FrontdeskError) -> None:
    """And what was reserved is given back."""
    bench = Bench(budgets=1)
    bench.adapter.plays("a", [error], [error])
    with pytest.raises(type(error)):
        await bench.completions.complete(CALLER, "", PROMPT)
    with pytest.raises(FrontdeskError):
        await bench.streamed()
    assert [spend.usage for spend in bench.ledger.spent] == [Usage(), Usage()]
    assert bench.ledger.spent[0].code == error.code
    assert bench.ledger.spent[0].provider == "a"
    assert bench.ledger.released == [spend.call_id for spend in bench.ledger.spent]
    bench.quiet()


@pytest.mark.parametrize("how", [AWAY, None, DeadlineExceeded("x")], ids=["cut", "no end", "deadline"])
async def test_after_the_first_piece_it_breaks_off_with_what_was_said(how: FrontdeskError | None) -> None:
    """peers.md 17: never a clean-looking half answer, no second provider, and it is paid for."""
    bench = Bench(provider("a"), provider("b", priority=1), budgets=1)
    rest = [[Delta(" and"), Delta(" two")]]
    if isinstance(how, DeadlineExceeded):
        bench.adapter.plays("a", [[Delta("one")], *rest, forever])
    else:
        bench.adapter.plays("a", [[Delta("one")], *rest, *([how] if how else [])])
    heard: list[object] = []

    async def listen() -> None:
        async for batch in bench.stream():
            heard.extend(batch)

    task = asyncio.create_task(listen())
    await bench.clock.advance(0)
    if isinstance(how, DeadlineExceeded):
        assert bench.later.seconds == [60]
        bench.later.ring()
    with pytest.raises(BrokenOff) as caught:
        await task
    used = Usage(count_prompt(PROMPT), count_text("one and two"), counted=True)
    broken = caught.value
    assert (broken.text, broken.usage, broken.retryable) == ("one and two", used, True)
    assert broken.code == ("DEADLINE_EXCEEDED" if isinstance(how, DeadlineExceeded) else "UNAVAILABLE")
    assert heard == [Delta("one"), Delta(" and"), Delta(" two")]
    assert bench.adapter.asked == ["a"]
    (spend,) = bench.ledger.spent
    assert (spend.code, spend.usage, spend.provider) == (broken.code, used, "a")
    assert bench.ledger.released == []
    bench.quiet()


async def test_a_caller_that_leaves_mid_stream_pays_for_what_came() -> None:
    """peers.md 15: closing the stream ends the provider's and is recorded as cancelled."""
    bench = Bench(budgets=1)
    bench.adapter.plays("a", says("one", "two", "three"))
    batches = bench.stream()
    await anext(batches)
    await anext(batches)
    await batches.aclose()
    assert bench.adapter.ended == [("a", "left")]
    (spend,) = bench.ledger.spent
    assert spend.code == "CANCELLED"
    assert spend.usage == Usage(count_prompt(PROMPT), count_text("onetwo"), counted=True)
    assert bench.ledger.released == []
    bench.quiet()


async def test_a_task_that_is_cancelled_while_it_waits_is_recorded() -> None:
    """Mid-stream; also when it is cancelled again while the record is written."""
    bench = Bench()
    bench.adapter.plays("a", [[Delta("one")], forever])
    written = asyncio.Event()
    bench.ledger.before_keeping = written.wait
    task = asyncio.create_task(bench.streamed())
    await bench.clock.advance(0)
    task.cancel()
    await bench.clock.advance(0)
    assert bench.adapter.ended == [("a", "left")]
    task.cancel()
    await bench.clock.advance(0)
    assert task.cancelled()
    assert bench.ledger.spent == []
    closing = asyncio.create_task(bench.completions.close())
    await bench.clock.advance(0)
    assert not closing.done()
    written.set()
    await closing
    assert [(spend.code, spend.usage.counted) for spend in bench.ledger.spent] == [("CANCELLED", True)]


@pytest.mark.parametrize("streamed", [True, False], ids=["stream", "complete"])
async def test_leaving_while_a_provider_thinks_costs_the_question(streamed: bool) -> None:
    """The provider has read it by then, and will say so on its bill."""
    bench = Bench(budgets=1)
    bench.adapter.plays("a", [forever])
    work = bench.streamed() if streamed else bench.completions.complete(CALLER, "", PROMPT)
    task: asyncio.Task[object] = asyncio.create_task(work)
    await bench.clock.advance(0)
    task.cancel()
    await bench.clock.advance(0)
    assert task.cancelled()
    assert bench.adapter.ended == [("a", "left")]
    (spend,) = bench.ledger.spent
    assert (spend.code, spend.provider) == ("CANCELLED", "a")
    assert spend.usage == Usage(count_prompt(PROMPT), 0, counted=True)
    bench.quiet()


async def test_leaving_before_anybody_was_asked_costs_nothing() -> None:
    bench = Bench(budgets=1)
    waiting = asyncio.Event()

    async def slow() -> None:
        waiting.set()
        await forever()

    bench.ledger.before_reserving = slow
    task = asyncio.create_task(bench.streamed())
    await waiting.wait()
    task.cancel()
    await bench.clock.advance(0)
    (spend,) = bench.ledger.spent
    assert (spend.code, spend.usage, spend.provider) == ("CANCELLED", Usage(), "")
    # Whether it had been set aside is not known by then.
    assert bench.ledger.released == [spend.call_id]


async def test_a_stream_that_nobody_reads_is_no_call() -> None:
    bench = Bench()
    await bench.stream().aclose()
    assert (bench.adapter.asked, bench.ledger.spent) == ([], [])


async def test_a_whole_answer_whose_caller_left_at_the_end_is_recorded_once() -> None:
    bench = Bench()
    batches = bench.stream()
    assert isinstance((await anext(batches))[-1], Outcome)
    await batches.aclose()
    assert [spend.code for spend in bench.ledger.spent] == ["OK"]


async def test_no_call_begins_whose_use_could_not_be_kept() -> None:
    """What can't be counted must not be spent, with budgets or without."""
    bench = Bench()
    bench.ledger.full = True
    with pytest.raises(Unavailable):
        await bench.streamed()
    assert (bench.adapter.asked, bench.ledger.spent) == ([], [])
    bench.quiet()


async def test_a_record_that_fails_spoils_no_answer(caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench()

    async def fails() -> None:
        raise Unavailable("no room")

    bench.ledger.before_keeping = fails
    assert (await bench.streamed())[0] == "ok"
    assert "is not in the log of what was used: UNAVAILABLE" in caplog.text


async def test_a_deadline_ends_a_call_that_is_not_streamed() -> None:
    """The smaller of the setting and what its caller has left; the provider is told, the question is paid."""
    bench = Bench()
    bench.adapter.plays("a", [forever])
    task = asyncio.create_task(bench.completions.complete(CALLER, "", PROMPT, within_s=7))
    await bench.clock.advance(0)
    assert bench.later.seconds == [7]
    bench.later.ring()
    with pytest.raises(DeadlineExceeded):
        await task
    assert bench.adapter.ended == [("a", "left")]
    assert [(spend.code, spend.usage.prompt_tokens) for spend in bench.ledger.spent] == [
        ("DEADLINE_EXCEEDED", count_prompt(PROMPT))
    ]


async def test_an_answer_without_an_end_is_cut_off() -> None:
    """Whatever a provider sends, memory is bounded."""
    bench = Bench(answer_characters=1000)
    bench.adapter.plays("a", [[Delta("x" * 10)] for _ in range(1000)])
    with pytest.raises(BrokenOff, match="longer than 1000 characters") as caught:
        await bench.streamed()
    assert len(caught.value.text) < 4000
    bench.quiet()


async def test_a_provider_that_fails_after_its_end_spoils_nothing() -> None:
    """The answer is whole; an adapter that does not end is closed."""
    afters: list[list[Step]] = [[AWAY], [[Delta("more")], forever]]
    for after in afters:
        bench = Bench()
        script: list[Step] = [*says("ok"), *after]
        bench.adapter.plays("a", script)
        assert (await bench.streamed())[0] == "ok"
        assert len(bench.ledger.spent) == 1
        bench.quiet()


async def parallel(bench: Bench, works: list[Callable[[], Awaitable[object]]]) -> list[object]:
    return await asyncio.gather(*(work() for work in works), return_exceptions=True)


async def test_of_many_calls_however_they_end_each_is_recorded_once() -> None:
    bench = Bench(provider("a"), provider("b", priority=1), budgets=1)
    for number in range(30):
        scripts: list[list[Step]] = [[AWAY], says("x", "y"), [[Delta("x")], AWAY]]
        bench.adapter.plays("a", scripts[number % 3])

    async def leave() -> None:
        batches = bench.stream()
        await anext(batches)
        await batches.aclose()

    works: list[Callable[[], Awaitable[object]]] = [
        leave if number % 5 == 0 else bench.streamed for number in range(30)
    ]
    task = asyncio.create_task(parallel(bench, works))
    await bench.clock.advance(60)
    results = await task
    assert not [one for one in results if isinstance(one, Exception) and not isinstance(one, FrontdeskError)]
    ids = [spend.call_id for spend in bench.ledger.spent]
    assert len(ids) == len(set(ids)) == 30
    bench.quiet()


async def test_an_odd_piece_keeps_no_place() -> None:
    """What counting trips over fails that call; the provider's place is given back all the same."""
    bench = Bench()
    odd: Piece = ToolCall(0, "1", "f", {})  # type: ignore[arg-type]
    bench.adapter.plays("a", [[Delta("one")], [odd], UpstreamUnavailable("away")])
    with pytest.raises(TypeError):
        await bench.streamed()
    bench.quiet()
