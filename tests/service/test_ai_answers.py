"""Answers to buyers by a running ai-proxy: its models, and `offline` where there is none."""

from __future__ import annotations

from typing import Any

from frontdesk.api.ai.v1 import ai_service_pb2 as pb
from frontdesk.api.ai.v1 import budget_service_pb2 as budgets
from frontdesk.api.ai.v1 import knowledge_service_pb2 as knowledge
from frontdesk.api.ai.v1.spend_pb2 import Spend
from frontdesk.simulators.models.script import Behaviour
from support.ai_proxy import ORGANIZATION, AiBench
from support.upstreams import add_provider
from support.waiting import until_async

PHONE = pb.Item(item_id="i1", title="手机", price="2199.00")


async def _ask(ai: AiBench, text: str, **fields: Any) -> pb.AnswerResponse:
    asked = {"account_id": "acc1", "chat_id": "c1", "item": PHONE, **fields}
    turns = [pb.Turn(author=pb.AUTHOR_BUYER, text=text)]
    response: pb.AnswerResponse = await ai.ai.Answer(
        pb.AnswerRequest(organization_id=ORGANIZATION, turns=turns, **asked), timeout=10
    )
    return response


async def _write_down(ai: AiBench) -> None:
    """How the seller sends what was bought."""
    document = knowledge.Document(
        organization_id=ORGANIZATION,
        title="发货",
        format=knowledge.DOCUMENT_FORMAT_TEXT,
        content="下单后48小时内顺丰发货。",
    )
    await ai.knowledge.CreateDocument(knowledge.CreateDocumentRequest(document=document))


async def test_offline_answers_while_there_is_no_provider(ai: AiBench) -> None:
    """The item's price and the seller's knowledge are quoted; what nobody wrote down needs a person."""
    said = await _ask(ai, "这个多少钱呀")
    assert (said.text, said.needs_person, said.outcome.provider) == ("标价2199.00元。", False, "offline")
    await _write_down(ai)
    assert (await _ask(ai, "顺丰发货吗")).text == "下单后48小时内顺丰发货。"
    left = await _ask(ai, "支持刷鸿蒙系统吗")
    assert (left.reason, left.outcome.provider) == ("no_answer", "offline")


async def _recorded(ai: AiBench, calls: int) -> list[tuple[str, ...]]:
    """What the log says of all calls, the oldest first, when it has `calls` of them."""

    async def rows() -> list[Spend]:
        request = pb.ListSpendRequest(organization_id=ORGANIZATION)
        return list((await ai.ai.ListSpend(request, timeout=10)).spend)

    async def all_there() -> bool:
        return len(await rows()) >= calls

    await until_async(all_there)
    found = sorted(await rows(), key=lambda row: row.call_id)
    return [(row.provider, row.model, row.operation, row.account_id, row.code) for row in found]


async def test_each_answer_is_in_the_log_of_calls(ai: AiBench) -> None:
    """Also those of `offline`, found or not; what asks nobody is no call."""
    offline = ("offline", "offline", "answer", "acc1", "OK")
    await _ask(ai, "这个多少钱呀")
    await _ask(ai, "支持刷鸿蒙系统吗")
    await _ask(ai, "转人工")
    await add_provider(ai.channel, ORGANIZATION, ai.models.url, "m")
    ai.models.script.add(Behaviour(text='{"text": "在的", "confidence": 0.9, "needs_person": false}'))
    await _ask(ai, "在吗")
    assert await _recorded(ai, 3) == [offline, offline, ("simulated", "m", "answer", "acc1", "OK")]


async def test_a_model_answers_once_there_is_one(ai: AiBench) -> None:
    """The default provider is asked from the next question on."""
    await add_provider(ai.channel, ORGANIZATION, ai.models.url, "m")
    ai.models.script.add(Behaviour(text='{"text": "在的", "confidence": 0.9, "needs_person": false}'))
    said = await _ask(ai, "在吗")
    assert (said.text, said.outcome.model) == ("在的", "m")


async def test_the_account_pays_for_the_search_of_its_answer(ai: AiBench) -> None:
    """What a seller wrote is made vectors of for all accounts, the question for the one that is asked."""
    await add_provider(ai.channel, ORGANIZATION, ai.models.url, "m")
    await add_provider(
        ai.channel, ORGANIZATION, ai.models.url, "v", name="vectors", model="embedding", embeds=True
    )
    await _write_down(ai)
    assert await _recorded(ai, 1) == [("vectors", "v", "embed", "", "OK")]
    ai.models.script.add(
        Behaviour(model="m", text='{"text": "两天", "confidence": 0.9, "needs_person": false}')
    )
    await _ask(ai, "几天发货")
    assert (await _recorded(ai, 3))[1:] == [
        ("vectors", "v", "embed", "acc1", "OK"),
        ("simulated", "m", "answer", "acc1", "OK"),
    ]


async def test_a_budget_may_fall_back_to_offline(ai: AiBench) -> None:
    """Over budget the seller's own words are quoted, not taken for a broken answer of a model."""
    await add_provider(ai.channel, ORGANIZATION, ai.models.url, "m")
    budget = budgets.Budget(
        organization_id=ORGANIZATION,
        scope=budgets.BUDGET_SCOPE_ORGANIZATION,
        period=budgets.BUDGET_PERIOD_DAY,
        limit="0",
        currency="CNY",
        fallback_model="offline",
    )
    await ai.budgets.CreateBudget(budgets.CreateBudgetRequest(budget=budget))
    said = await _ask(ai, "这个多少钱呀")
    assert (said.text, said.outcome.provider) == ("标价2199.00元。", "offline")
    assert ai.models.log.of("m") == []
    assert await _recorded(ai, 1) == [("offline", "offline", "answer", "acc1", "OK")]
