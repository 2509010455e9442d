"""A buyer's question through gateway, reply-engine and a real ai-proxy, in the order of the chain.

Many chats at once: a model that is slow or down for one of them is none of the others' business.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from frontdesk.api.ai.v1 import budget_service_pb2 as budgets_pb
from frontdesk.api.ai.v1 import knowledge_service_pb2 as knowledge_pb
from frontdesk.api.ai.v1 import policy_service_pb2 as policies_pb
from frontdesk.api.ai.v1 import provider_service_pb2 as providers_pb
from frontdesk.api.ai.v1.budget_service_pb2_grpc import BudgetServiceStub
from frontdesk.api.ai.v1.knowledge_service_pb2_grpc import KnowledgeServiceStub
from frontdesk.api.ai.v1.policy_service_pb2_grpc import PolicyServiceStub
from frontdesk.api.events.v1.event_pb2 import AiState
from frontdesk.kit.nats_server import NatsServer
from frontdesk.simulators.models.asked import Asked
from frontdesk.simulators.models.script import Behaviour, Fault, Tokens
from support.ai_shop import AiShop
from support.shop import ORGANIZATION
from support.upstreams import add_provider
from support.waiting import until

WAIT = "稍等，店主马上回复您。"
LIMITS = providers_pb.ProviderLimits(attempts=1, first_token_ms=5000)
PROVIDERS = ("first", "second")
SECRET = "暗号是芝麻开门"


@pytest.fixture
async def shop(nats_server: NatsServer, tmp_path: Path) -> AsyncIterator[AiShop]:
    """The whole of Frontdesk with ai-proxy, a rule and a default reply."""
    shop = AiShop(nats_server, tmp_path)
    await shop.start()
    await shop.rule("多少钱", says="标价就是一口价")
    await shop.default_reply(WAIT)
    yield shop
    await shop.stop()
    assert not shop.crashes


def result(text: str, **fields: object) -> str:
    """A model's answer in the form that is asked for."""
    said = {"text": text, "intent": "other", "offered_price": None, "confidence": 0.9, "needs_person": False}
    return json.dumps({**said, **fields}, ensure_ascii=False)


def alerts(shop: AiShop, chat_id: str) -> list[str]:
    """What people were told of a chat."""
    return [e.alert.text for e in shop.replies_of("alert") if e.alert.chat_id == chat_id]


def codes(shop: AiShop) -> list[str]:
    """Every alert so far."""
    return [e.alert.code for e in shop.replies_of("alert")]


def ends(shop: AiShop, chat_id: str) -> list[tuple[str, str]]:
    """How the AI's turns in a chat ended: state and reason."""
    changes = [e.ai for e in shop.replies_of("ai") if e.ai.chat_id == chat_id]
    return [
        (AiState.Name(change.state).removeprefix("AI_STATE_").lower(), change.reason)
        for change in changes
        if change.state != AiState.AI_STATE_PROCESSING
    ]


QUESTIONS = {
    "rule": "这个多少钱",
    "model": "背光好用吗",
    "bargain": "能便宜点吗",
    "greedy": "半价卖吗",
    "person": "修过吗",
    "down": "停电了能发货吗",
    "late": "慢慢说",
}
ANSWERS = {
    "rule": ["标价就是一口价"],
    "model": ["背光正常的，放心拍。"],
    "bargain": ["最低180元给您。"],
    "greedy": [WAIT],
    "person": [WAIT],
    "down": [WAIT],
    "late": [],
}
ENDS = {
    "rule": [],
    "model": [("done", "")],
    "bargain": [("done", "")],
    "greedy": [("failed", "under_floor")],
    "person": [("failed", "asked")],
    "down": [("failed", "unavailable")],
    "late": [("failed", "answered")],
}


async def two_providers(shop: AiShop) -> None:
    """Of the same model, which says what the chats want; prices may go down by a tenth."""
    for priority, name in enumerate(PROVIDERS):
        await add_provider(
            shop.channel,
            ORGANIZATION,
            shop.models.url,
            name,
            name=name,
            priority=priority,
            limits=LIMITS,
        )
    policy = policies_pb.Policy(organization_id=ORGANIZATION, max_discount_percent="10", max_rounds=3)
    await PolicyServiceStub(shop.channel).SetPolicy(policies_pb.SetPolicyRequest(policy=policy), timeout=10)
    shop.models.script.add(
        Behaviour(words="很长", text=result("我慢慢讲。"), usage=Tokens(9000, 500)),
        Behaviour(words="背光", text=result("背光正常的，放心拍。", intent="technical")),
        Behaviour(words="便宜", text=result("最低180元给您。", intent="price", offered_price="180")),
        Behaviour(words="半价", text=result("好的，100元给您。", intent="price", offered_price="100")),
        Behaviour(words="修过", text=result("", needs_person=True)),
        Behaviour(words="停电", fault=Fault("status", -1, 503)),
        Behaviour(words="慢慢", head_ms=700, text=result("我来晚了。")),
    )


async def test_every_link_of_the_chain(shop: AiShop) -> None:
    """X-10: a rule answers before the AI; the AI before the default; the default where no provider answers,
    and as an acknowledgement while a person is called; what comes after the seller wrote never leaves."""
    seller, _ = await shop.open(ai=True)
    world = shop.simulator.world
    item = world.add_item(seller, "九成新机械键盘", "200", description="茶轴，背光正常。")
    await two_providers(shop)
    chats = {buyer: world.chat(seller, buyer, item.item_id).chat_id for buyer in QUESTIONS}
    for buyer, text in QUESTIONS.items():
        shop.ask(seller, text, buyer)
    calls = shop.models.log.calls
    await until(lambda: any("慢慢" in call.turns[-1].text for call in calls))
    world.seller_says(seller, world.chat(seller, "late"), "我是店主，我来答", hand=True)
    for buyer in (name for name in QUESTIONS if name != "late"):
        await shop.answered(seller, 1, buyer)
    await until(lambda: {buyer: ends(shop, chat) for buyer, chat in chats.items()} == ENDS)
    assert {buyer: shop.answers(seller, buyer) for buyer in QUESTIONS} == ANSWERS
    wanted = {buyer: int(buyer in ("greedy", "person")) for buyer in QUESTIONS}
    await until(lambda: {buyer: len(alerts(shop, chat)) for buyer, chat in chats.items()} == wanted)
    assert not any("多少钱" in turn.text for call in calls for turn in call.turns)
    assert [call.model for call in calls if "停电" in call.turns[-1].text] == ["first", "second"]
    asked = next(call for call in calls if "背光好用" in call.turns[-1].text)
    assert "九成新机械键盘" in asked.turns[0].text
    assert "茶轴" in asked.turns[0].text


async def test_a_spent_budget_leaves_it_to_the_default(shop: AiShop) -> None:
    """AI-21, AI-22: people are warned as an account's budget is used; when it is spent the default reply
    answers, no person has to, and no model is asked."""
    seller, account = await shop.open(ai=True)
    await two_providers(shop)
    budget = budgets_pb.Budget(
        organization_id=ORGANIZATION,
        scope=budgets_pb.BUDGET_SCOPE_ACCOUNT,
        subject=account.account_id,
        period=budgets_pb.BUDGET_PERIOD_TOTAL,
        limit="10000",
        currency="tokens",
    )
    request = budgets_pb.CreateBudgetRequest(budget=budget)
    await BudgetServiceStub(shop.channel).CreateBudget(request, timeout=10)
    shop.ask(seller, "请说很长很长的话")
    await until(lambda: "budget_95" in codes(shop))
    shop.ask(seller, "背光好用吗")
    await shop.answered(seller, 2)
    assert shop.answers(seller) == ["我慢慢讲。", WAIT]
    await until(lambda: codes(shop)[-1:] == ["budget_100"])
    chat = shop.simulator.world.chat(seller, "anna").chat_id
    assert ends(shop, chat) == [("done", ""), ("failed", "resource_exhausted")]
    assert not alerts(shop, chat)
    assert len(shop.models.log.calls) == 1


async def test_a_chat_knows_itself_and_no_other(shop: AiShop) -> None:
    """X-28: the model is told what was said in the chat before, and nothing of another chat; of two questions
    that come while it works there is one answer."""
    seller, _ = await shop.open(ai=True)
    await add_provider(shop.channel, ORGANIZATION, shop.models.url, "sim", limits=LIMITS)
    asked: list[tuple[str, ...]] = []

    def says(call: Asked) -> str:
        asked.append(tuple(turn.text for turn in call.turns))
        return result(f"第{len(asked)}次回答。")

    shop.models.script.add(Behaviour(says=says, head_ms=100))
    for buyer, text in (("anna", SECRET), ("berta", "能当天发货吗")):
        shop.ask(seller, text, buyer)
    await shop.answered(seller, 1, "anna")
    await shop.answered(seller, 1, "berta")
    shop.ask(seller, "刚才我说的暗号呢", "anna")
    shop.ask(seller, "记得吗", "anna")
    await shop.answered(seller, 2, "anna")
    assert len(shop.answers(seller, "anna")) == 2
    assert len(shop.answers(seller, "berta")) == 1
    last = next(turns for turns in reversed(asked) if "记得吗" in turns[-1])
    assert SECRET in last[1]
    assert "刚才我说的暗号呢" in last[-1]
    berta = next(turns for turns in asked if "当天发货" in turns[-1])
    assert not any(SECRET in text for text in berta)


async def test_without_a_provider_offline_quotes_or_calls(shop: AiShop) -> None:
    """`offline` says what the seller wrote, word for word, and calls a person for the rest; a provider that
    is added answers from the next question on."""
    seller, _ = await shop.open(ai=True)
    fact = "键盘支持七天无理由退货，来回运费由买家承担。"
    document = knowledge_pb.Document(
        organization_id=ORGANIZATION, title="售后", format=knowledge_pb.DOCUMENT_FORMAT_TEXT, content=fact
    )
    await KnowledgeServiceStub(shop.channel).CreateDocument(
        knowledge_pb.CreateDocumentRequest(document=document), timeout=10
    )
    shop.ask(seller, "支持七天无理由退货吗", "anna")
    shop.ask(seller, "能刻字吗", "berta")
    await shop.answered(seller, 1, "anna")
    await shop.answered(seller, 1, "berta")
    berta = shop.simulator.world.chat(seller, "berta").chat_id
    await until(lambda: len(alerts(shop, berta)) == 1)
    assert shop.answers(seller, "anna") == [fact]
    assert shop.answers(seller, "berta") == [WAIT]
    done = [e.ai for e in shop.replies_of("ai") if e.ai.state == AiState.AI_STATE_DONE]
    assert [(ai.provider, ai.model) for ai in done] == [("offline", "offline")]
    await add_provider(shop.channel, ORGANIZATION, shop.models.url, "sim", limits=LIMITS)
    shop.models.script.add(Behaviour(text=result("可以刻字。")))
    shop.ask(seller, "能刻字吗", "clara")
    await shop.answered(seller, 1, "clara")
    assert shop.answers(seller, "clara") == ["可以刻字。"]
