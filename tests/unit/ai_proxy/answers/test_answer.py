"""The way of an answer: what is asked of whom, and what becomes of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import pytest

from frontdesk.ai_proxy.answers.answer import REASONS, AnswerLimits, Answers
from frontdesk.ai_proxy.answers.facts import ItemFacts
from frontdesk.ai_proxy.answers.policy import StoredPolicy
from frontdesk.ai_proxy.completions import AnswersOffline
from frontdesk.ai_proxy.model import Answer, Caller, Completion, FinishReason, Outcome, Prompt, Role, Usage
from frontdesk.ai_proxy.protos import outcome_to_proto
from frontdesk.api.ai.v1 import ai_service_pb2 as pb
from frontdesk.api.ai.v1 import chat_pb2
from frontdesk.kit.errors import InvalidArgument, ResourceExhausted
from frontdesk.kit.principal import Principal, current_principal

USED = Outcome(FinishReason.STOP, Usage(90, 10, 5), "mine", "deep-1", Decimal("0.012"), "CNY")

WITHOUT_MODEL = Outcome(FinishReason.STOP, Usage(), "offline", "offline")


def result(text: str = "在的", **more: Any) -> str:
    """A model's result."""
    body = {"text": text, "intent": "other", "offered_price": None, "confidence": 0.9, "needs_person": False}
    return json.dumps(body | more)


@dataclass(frozen=True)
class Found:
    """A passage, or a quote."""

    text: str
    title: str = ""
    headings: tuple[str, ...] = ()
    confidence: float = 0.9
    sources: tuple[str, ...] = ()


@dataclass
class Parts:
    """What Answers stands on: says `says` in turn, finds `found`, and writes down what it was asked."""

    says: list[str] = field(default_factory=lambda: [result()])
    stored: Sequence[StoredPolicy] = ()
    found: Sequence[Found] = ()
    quoted: Found | None = None
    models: tuple[str, ...] = ("default",)
    asked: list[tuple[Caller, str, Prompt]] = field(default_factory=list)
    searched: list[tuple[str, str, str, str, int]] = field(default_factory=list)
    quotes: list[Caller] = field(default_factory=list)
    questions: list[tuple[str, str, ItemFacts, Sequence[str], str]] = field(default_factory=list)

    async def policies(self, organization_id: str) -> Sequence[StoredPolicy]:
        return [policy for policy in self.stored if policy.organization_id == organization_id]

    async def complete(
        self, caller: Caller, model: str, prompt: Prompt, *, offline: AnswersOffline
    ) -> Completion:
        if model != "offline":
            self.asked.append((caller, model, prompt))
        said = "offline" if model == "offline" else self.says[min(len(self.asked), len(self.says)) - 1]
        if said == "offline":
            self.quotes.append(caller)
            return Completion(await offline.complete(caller, prompt), WITHOUT_MODEL)
        if said == "over budget":
            raise ResourceExhausted("the budget is used up")
        return Completion(Answer(said), USED)

    async def has_model(self, organization_id: str, model: str) -> bool:
        return model in self.models

    async def search(
        self, organization_id: str, account_id: str, item_id: str, query: str, limit: int
    ) -> Sequence[Found]:
        self.searched.append((organization_id, account_id, item_id, query, limit))
        return self.found

    async def quote(
        self, organization_id: str, account_id: str, item: ItemFacts, statements: Sequence[str], question: str
    ) -> Found | None:
        self.questions.append((organization_id, account_id, item, statements, question))
        return self.quoted

    async def answer(self, *turns: str, **request: Any) -> pb.AnswerResponse:
        """An answer to turns by the buyer; those that begin with `>` are the seller's."""
        said = [
            pb.Turn(author=pb.AUTHOR_SELLER, text=turn[1:])
            if turn.startswith(">")
            else pb.Turn(author=pb.AUTHOR_BUYER, text=turn)
            for turn in turns
        ]
        asked: dict[str, Any] = {
            "organization_id": "o1",
            "account_id": "a1",
            "chat_id": "c1",
            "item": pb.Item(item_id="i1", title="键盘", price="200"),
            "turns": said,
        }
        limits = AnswerLimits(turns=4, answer_chars=50)
        return await Answers(self.policies, self, self, self, limits).answer(
            pb.AnswerRequest(**(asked | request))
        )


async def test_an_answer_tells_all() -> None:
    """Text, the model's intent, its confidence, the documents it had, who answered and what it cost."""
    parts = Parts(
        [result("支持退货", intent="after_sale")], found=[Found("七天", "说明"), Found("x", "说明")]
    )
    response = await parts.answer("能退吗")
    assert response == pb.AnswerResponse(
        text="支持退货",
        intent=pb.INTENT_AFTER_SALE,
        confidence=0.9,
        sources=["说明"],
        outcome=chat_pb2.Outcome(
            finish_reason=chat_pb2.FINISH_REASON_STOP,
            usage=chat_pb2.Usage(
                prompt_tokens=90, completion_tokens=10, cached_tokens=5, cost="0.012", currency="CNY"
            ),
            provider="mine",
            model="deep-1",
        ),
    )
    [(caller, model, prompt)] = parts.asked
    assert (caller, model) == (Caller("o1", "a1", operation="answer"), "default")
    assert "七天" in prompt.messages[0].text
    assert parts.searched == [("o1", "a1", "i1", "能退吗", 5)]


async def test_the_newest_words_are_searched_and_the_last_turns_told() -> None:
    """What came since the seller spoke is the question; older turns than the limit are not told."""
    parts = Parts()
    await parts.answer("old", "first", ">hello", "second", "third")
    assert parts.searched[0][3] == "second\nthird"
    messages = parts.asked[0][2].messages
    assert [message.role for message in messages[1:]] == [Role.USER, Role.ASSISTANT, Role.USER]
    assert "old" not in "".join(message.text for message in messages)


async def test_what_the_seller_said_last_is_answered_too() -> None:
    """With the seller's words at the end, the buyer's before them are the question."""
    parts = Parts()
    await parts.answer("first", ">one", "second", ">two")
    assert parts.searched[0][3] == "second"


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (result(needs_person=True), "asked"),
        (result(""), "no_answer"),
        (result(confidence=0.49), "low_confidence"),
        (result("x" * 51), "unreadable"),
        (result("150元"), "under_floor"),
        (result("210元", offered_price=210), "unreadable"),
        (result("坏词"), "blocked_word"),
        (result("加微信 abc123"), "contact"),
        (result("我的系统提示是保密的"), "leak"),
        ("just words", "unreadable"),
    ],
)
async def test_a_person_is_called(said: str, reason: str) -> None:
    """Whatever may not leave is no text, and says why; who answered is told all the same."""
    parts = Parts([said], [StoredPolicy("o1", blocked_words=("坏词",))])
    response = await parts.answer("你好")
    assert (response.needs_person, response.text, response.reason) == (True, "", reason)
    assert response.reason_text == REASONS[reason]
    assert response.outcome.provider == "mine"


async def test_no_reason_tells_a_limit_or_a_word() -> None:
    """Sentences for people are the same for all."""
    parts = Parts([result("155元")], [StoredPolicy("o1", max_discount_percent="20", max_rounds=1)])
    response = await parts.answer("最低多少")
    assert response.reason == "under_floor"
    assert not any(char.isdigit() for char in response.reason_text)


async def test_offers_are_told() -> None:
    """A price under the listed one is the response's, from the field or from the words."""
    stored = [StoredPolicy("o1", max_discount_percent="20", max_rounds=1)]
    for said in (result("180元", offered_price="180"), result("180.00元"), result("好说", offered_price=180)):
        assert (await Parts([said], stored).answer("最低多少")).offered_price == "180"
    assert (await Parts([result("200元")], stored).answer("最低多少")).offered_price == ""


async def test_rounds_come_with_the_request() -> None:
    """What was offered before is counted."""
    parts = Parts([result("180元")], [StoredPolicy("o1", max_discount_percent="20", max_rounds=1)])
    response = await parts.answer("最低多少", bargain=pb.Bargain(rounds=1, lowest_offer="190"))
    assert response.reason == "rounds_used"


async def test_a_person_is_asked_for() -> None:
    """The buyer's words call one before anything is asked; older words don't, an empty list calls nobody."""
    parts = Parts()
    response = await parts.answer("我要 转 人工")
    assert (response.reason, response.HasField("outcome"), parts.asked) == ("asked", False, [])
    assert not (await parts.answer("转人工", ">在的", "好了")).needs_person
    assert not (await Parts(stored=[StoredPolicy("o1", person_words=())]).answer("转人工")).needs_person


async def test_without_words_nothing_is_asked() -> None:
    """A picture alone needs a person."""
    parts = Parts()
    assert (await parts.answer("你好", ">在的", " ")).reason == "no_answer"
    assert not parts.asked


async def test_an_unreadable_answer_is_asked_for_once_more() -> None:
    """The second time in the form counts; the model is told what was wrong."""
    parts = Parts(["no", result("在的亲")])
    assert (await parts.answer("在吗")).text == "在的亲"
    assert len(parts.asked) == 2
    assert "JSON" in parts.asked[1][2].messages[-1].text


async def test_offline_quotes() -> None:
    """Without a model the seller's own words answer, named as what they are."""
    parts = Parts(stored=[StoredPolicy("o1", statements=("全店包邮",))], models=())
    parts.quoted = Found("全店包邮", sources=("店铺说明",))
    response = await parts.answer("包邮吗")
    assert (response.text, response.outcome.provider, response.outcome.model) == (
        "全店包邮",
        "offline",
        "offline",
    )
    assert list(response.sources) == ["店铺说明"]
    assert parts.questions == [("o1", "a1", ItemFacts("i1", "键盘", "200"), ("全店包邮",), "包邮吗")]
    assert not parts.asked
    assert not parts.searched


async def test_a_quote_is_a_call_as_any_other() -> None:
    """One of the account and the key; also where a budget's turn to `offline` ends a model's answers."""
    for parts in (Parts(models=()), Parts(["offline"]), Parts(["no", "offline"])):
        parts.quoted = Found("有货")
        token = current_principal.set(Principal("key-1", "o1", "agent", "api_key"))
        response = await parts.answer("有货吗")
        current_principal.reset(token)
        assert (response.text, response.outcome.provider) == ("有货", "offline")
        assert parts.quotes == [Caller("o1", "a1", "key-1", "answer")]
        assert len(parts.questions) == 1


async def test_offline_is_held_against_the_policy_too() -> None:
    """What can't be quoted needs a person, and so does a quote that may not leave."""
    parts = Parts(models=())
    response = await parts.answer("能用多久")
    assert (response.reason, response.outcome.provider) == ("no_answer", "offline")
    parts.quoted = Found("旧价 99 元")
    assert (await parts.answer("多少钱")).reason == "under_floor"
    parts.quoted = Found("有货", confidence=0.2)
    assert (await parts.answer("有货吗")).reason == "low_confidence"


async def test_a_key_pays_for_the_answers_that_it_asks_for() -> None:
    """Its budget holds at this door too; the fleet's own questions are of no key."""
    parts = Parts()
    await parts.answer("在吗")
    token = current_principal.set(Principal("key-1", "o1", "agent", "api_key"))
    await parts.answer("在吗")
    current_principal.reset(token)
    assert [caller.api_key_id for caller, _, _ in parts.asked] == ["", "key-1"]


async def test_the_policy_chooses_the_model() -> None:
    """Of the item, if it says one."""
    parts = Parts(stored=[StoredPolicy("o1", "a1", "i1", model="clever")], models=("clever",))
    await parts.answer("在吗")
    assert parts.asked[0][1] == "clever"


async def test_another_organization_is_nowhere() -> None:
    """Neither its policy nor its passages stand in the prompt."""
    parts = Parts(
        stored=[StoredPolicy("o2", persona="别人的人设"), StoredPolicy("o1", "a2", persona="别的账号")]
    )
    await parts.answer("在吗")
    assert "别" not in parts.asked[0][2].messages[0].text.replace("别的内容", "")
    assert parts.searched[0][0] == "o1"


async def test_errors_of_the_model_are_the_callers() -> None:
    """What Completions raises goes through."""
    with pytest.raises(ResourceExhausted):
        await Parts(["over budget"]).answer("在吗")


@pytest.mark.parametrize(
    ("request_", "field_"),
    [
        ({"organization_id": ""}, "organization_id"),
        ({"account_id": "a" * 129}, "account_id"),
        ({"account_id": "a\x00"}, "account_id"),
        ({"item": pb.Item(item_id="i" * 129)}, "item.item_id"),
        ({"turns": []}, "turns"),
        ({"turns": [pb.Turn(author=pb.AUTHOR_SELLER, text="x")]}, "turns"),
        ({"turns": [pb.Turn(text="x")]}, "turns[0].author"),
        ({"bargain": pb.Bargain(rounds=-1)}, "bargain.rounds"),
        ({"bargain": pb.Bargain(lowest_offer="cheap")}, "bargain.lowest_offer"),
    ],
)
async def test_bad_requests_name_the_field(request_: dict[str, Any], field_: str) -> None:
    """And ask nobody."""
    parts = Parts()
    with pytest.raises(InvalidArgument) as raised:
        await parts.answer("在吗", **request_)
    assert raised.value.field == field_
    assert not parts.asked


def test_an_outcome_without_a_price_has_none() -> None:
    """No cost is empty, and not zero."""
    shown = outcome_to_proto(Outcome(FinishReason.LENGTH, Usage(1, 2, counted=True), "p", "m", cached=True))
    assert (shown.usage.cost, shown.usage.counted, shown.cached) == ("", True, True)
    assert shown.finish_reason == chat_pb2.FINISH_REASON_LENGTH
