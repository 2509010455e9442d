"""What providers do wrong, seen from callers: another one answers, or the error says what it is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path

import grpc
import grpc.aio
import pytest

from frontdesk.api.ai.v1 import ai_service_pb2 as pb
from frontdesk.api.ai.v1 import budget_service_pb2 as budgets_pb
from frontdesk.api.ai.v1 import chat_pb2 as chat
from frontdesk.api.ai.v1 import provider_service_pb2 as providers_pb
from frontdesk.kit.nats_server import NatsServer
from frontdesk.simulators.models.script import Behaviour, Fault, Tokens
from support.ai_proxy import ORGANIZATION, AiBench
from support.upstreams import add_provider
from support.waiting import until, until_async

LIMITS = providers_pb.ProviderLimits(first_token_ms=300, idle_ms=300, connect_ms=1000, attempts=1)
TEXT = "在的，今天可以发货。"
PIECES = ("在的", "，今天", "可以发货。")


@pytest.fixture
async def ai(nats_server: NatsServer, tmp_path: Path) -> AsyncIterator[AiBench]:
    """Two providers of one model: `first` is asked before `second`."""
    bench = AiBench(nats_server, f"sqlite:///{tmp_path}/ai.db")
    await bench.start()
    for priority, name in enumerate(("first", "second")):
        await add_provider(
            bench.channel,
            ORGANIZATION,
            bench.models.url,
            name,
            name=name,
            priority=priority,
            limits=LIMITS,
        )
    bench.models.script.add(Behaviour(model="second", pieces=PIECES, usage=Tokens(10, 6)))
    yield bench
    await bench.stop()


def fails(ai: AiBench, fault: Fault, **more: object) -> None:
    """Make `first` fail from now on."""
    behaviour = Behaviour(model="first", fault=fault, pieces=PIECES, between_ms=5, **more)  # type: ignore[arg-type]
    ai.models.script.add(behaviour)


def question(text: str = "还在吗") -> chat.Prompt:
    return chat.Prompt(messages=[chat.ModelMessage(role=chat.ROLE_USER, text=text)])


async def stream(ai: AiBench) -> list[pb.StreamCompleteResponse]:
    request = pb.StreamCompleteRequest(organization_id=ORGANIZATION, prompt=question())
    return [response async for response in ai.ai.StreamComplete(request, timeout=20)]


def said(events: list[pb.StreamCompleteResponse]) -> str:
    return "".join(event.delta.text for event in events)


BEFORE = {
    "429 with Retry-After": Fault("status", -1, 429, {"retry-after": "30"}),
    "500": Fault("status", -1, 500),
    "reset": Fault("reset", -1),
    "HTML 404": Fault("html", -1),
    "401": Fault("status", -1, 401),
    "stall before the head": Fault("stall", -1),
    "stall before the first piece": Fault("stall", 0),
    "cut before the first piece": Fault("cut", 0),
    "error in a 200": Fault("error", 0),
}


@pytest.mark.parametrize("fault", BEFORE.values(), ids=BEFORE.keys())
async def test_what_fails_before_the_first_piece_is_answered_elsewhere(ai: AiBench, fault: Fault) -> None:
    """The caller sees one whole answer, and who gave it."""
    fails(ai, fault)
    events = await stream(ai)
    assert said(events) == TEXT
    assert events[-1].done.provider == "second"
    assert [e.delta.sequence for e in events if e.HasField("delta")] == list(range(len(events) - 1))
    assert len(ai.models.log.of("first")) == 1


@pytest.mark.parametrize("fault", BEFORE.values(), ids=BEFORE.keys())
async def test_the_same_for_whole_answers(ai: AiBench, fault: Fault) -> None:
    """Also where an answer is not streamed."""
    fails(ai, fault)
    request = pb.CompleteRequest(organization_id=ORGANIZATION, prompt=question())
    response = await ai.ai.Complete(request, timeout=20)
    assert (response.text, response.outcome.provider) == (TEXT, "second")
    assert response.outcome.usage.completion_tokens == 6


async def test_a_wrong_question_is_asked_nowhere_else(ai: AiBench) -> None:
    """What one provider calls wrong is not sold to the next."""
    fails(ai, Fault("status", -1, 400, message="too long"))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stream(ai)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert not ai.models.log.of("second")


AFTER = {
    "stall": Fault("stall", 2),
    "cut": Fault("cut", 2),
    "close": Fault("close", 2),
    "reset": Fault("reset", 2),
    "error in the stream": Fault("error", 2),
}


@pytest.mark.parametrize("fault", AFTER.values(), ids=AFTER.keys())
async def test_what_fails_after_the_first_piece_ends_with_an_error(ai: AiBench, fault: Fault) -> None:
    """Never a clean-looking half answer, never a second beginning: code, partial text, and what it used."""
    fails(ai, fault)
    events = await stream(ai)
    error = events[-1].error
    assert said(events) == error.partial_text == "在的，今天"
    assert error.retryable
    assert error.code in ("UNAVAILABLE", "DEADLINE_EXCEEDED")
    assert error.usage.counted
    assert error.usage.completion_tokens > 0
    assert not any(event.HasField("done") for event in events)
    assert not ai.models.log.of("second")


async def test_garbage_does_not_reach_callers(ai: AiBench) -> None:
    """A line that is no JSON is an answer that broke off, and not text for a buyer."""
    fails(ai, Fault("garbage", 1))
    events = await stream(ai)
    assert events[-1].error.partial_text == "在的"


@pytest.mark.parametrize("framing", ["bytes", "crlf", "lines", "comments"])
async def test_framing_does_not_matter(ai: AiBench, framing: str) -> None:
    """Frames that are split at every byte, or written in any other way that SSE allows."""
    ai.models.script.set(Behaviour(pieces=PIECES, framing=(framing,), usage=Tokens(10, 6)))
    events = await stream(ai)
    assert said(events) == TEXT
    assert events[-1].done.usage.completion_tokens == 6


async def test_everybody_fails(ai: AiBench) -> None:
    """The last error is the answer, and the log has the call."""
    ai.models.script.set(Behaviour(fault=Fault("status", -1, 500)))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stream(ai)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    listed = pb.ListSpendRequest(organization_id=ORGANIZATION)

    async def logged() -> bool:
        return [s.code for s in (await ai.ai.ListSpend(listed)).spend] == ["UNAVAILABLE"]

    await until_async(logged)


async def test_a_call_that_is_given_up_stops_the_provider(ai: AiBench) -> None:
    """Cancelling the stream closes the connection upstream; what was said until then is paid."""
    ai.models.script.set(Behaviour(pieces=("在",) * 300, between_ms=20))
    call = ai.ai.StreamComplete(
        pb.StreamCompleteRequest(organization_id=ORGANIZATION, prompt=question()), timeout=20
    )
    async for _ in call:
        break
    call.cancel()
    await until(lambda: bool(ai.models.log.cancelled))
    listed = pb.ListSpendRequest(organization_id=ORGANIZATION)

    async def logged() -> bool:
        rows = (await ai.ai.ListSpend(listed)).spend
        return [r.code for r in rows] == ["CANCELLED"] and Decimal(rows[0].usage.cost) > 0

    await until_async(logged)


async def test_nats_restarts_in_a_stream(ai: AiBench, nats_server: NatsServer) -> None:
    """The caller hears of it, the provider is stopped, and the call stands in the log once NATS is back."""
    ai.models.script.set(Behaviour(pieces=("在",) * 300, between_ms=20))
    call = ai.ai.StreamComplete(
        pb.StreamCompleteRequest(organization_id=ORGANIZATION, prompt=question()), timeout=30
    )
    events = aiter(call)
    await anext(events)
    await nats_server.kill()
    await nats_server.start()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        async for _ in events:
            pass
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    await until(lambda: bool(ai.models.log.cancelled), timeout=20)
    ai.models.script.set(Behaviour(text=TEXT))

    async def works() -> bool:
        try:
            return said(await stream(ai)) == TEXT
        except grpc.aio.AioRpcError:
            return False

    await until_async(works, timeout=20)
    listed = pb.ListSpendRequest(organization_id=ORGANIZATION)

    async def logged() -> bool:
        return "CANCELLED" in [s.code for s in (await ai.ai.ListSpend(listed)).spend]

    await until_async(logged, timeout=20)


@pytest.mark.parametrize("streamed", [False, True])
async def test_fifty_calls_race_for_one_budget(ai: AiBench, streamed: bool) -> None:
    """Two replicas, one budget: never more is spent than the budget and one call in flight each."""
    await ai.add()
    ai.models.script.set(Behaviour(text=TEXT, first_ms=30, usage=Tokens(1000, 1000)))
    a_call = Decimal("0.01")  # (1000 × 2 + 1000 × 8) / a million
    limit = a_call * 5
    await ai.budgets.CreateBudget(
        budgets_pb.CreateBudgetRequest(
            budget=budgets_pb.Budget(
                organization_id=ORGANIZATION,
                scope=budgets_pb.BUDGET_SCOPE_ORGANIZATION,
                period=budgets_pb.BUDGET_PERIOD_MONTH,
                limit=str(limit),
                currency="CNY",
            )
        )
    )

    async def one() -> str:
        try:
            if streamed:
                events = await stream(ai)
                return "OK" if events[-1].HasField("done") else events[-1].error.code
            await ai.ai.Complete(
                pb.CompleteRequest(organization_id=ORGANIZATION, prompt=question()), timeout=20
            )
        except grpc.aio.AioRpcError as error:
            return error.code().name
        return "OK"

    ended = await asyncio.gather(*(one() for _ in range(50)))
    assert set(ended) <= {"OK", "RESOURCE_EXHAUSTED"}
    assert ended.count("OK") >= 1
    usage = pb.GetUsageRequest(organization_id=ORGANIZATION)

    async def settled() -> bool:
        found = await ai.budgets.ListBudgets(budgets_pb.ListBudgetsRequest(organization_id=ORGANIZATION))
        return Decimal(found.budgets[0].reserved) == 0 and bool((await ai.ai.GetUsage(usage)).sums)

    await until_async(settled)
    budget = (
        await ai.budgets.ListBudgets(budgets_pb.ListBudgetsRequest(organization_id=ORGANIZATION))
    ).budgets[0]
    spent = Decimal(budget.spent)
    assert spent == a_call * ended.count("OK")
    assert spent <= limit + a_call
    priced = [row for row in (await ai.ai.GetUsage(usage)).sums if row.currency == "CNY"]
    assert sum(Decimal(row.cost) for row in priced) == spent
