"""What an operator may turn of answers, policies and budgets is a setting."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import grpc
import grpc.aio
import pytest

from frontdesk.api.ai.v1 import ai_service_pb2 as pb
from frontdesk.api.ai.v1 import budget_service_pb2 as budgets
from frontdesk.api.ai.v1 import knowledge_service_pb2 as knowledge
from frontdesk.api.ai.v1 import policy_service_pb2 as policies
from frontdesk.kit.nats_server import NatsServer
from frontdesk.simulators.models.script import Behaviour
from support.ai_proxy import ORGANIZATION, AiBench
from support.upstreams import add_provider

SETTINGS = {
    "FRONTDESK_BUYER_ANSWER_TURNS": "2",
    "FRONTDESK_BUYER_ANSWER_PASSAGES": "1",
    "FRONTDESK_BUYER_ANSWER_TOKENS": "123",
    "FRONTDESK_BUYER_ANSWER_CHARACTERS": "50",
    "FRONTDESK_BUYER_ANSWER_ATTEMPTS": "3",
    "FRONTDESK_POLICIES": "1",
    "FRONTDESK_BUDGETS": "1",
}


async def test_limits_are_settings(nats_server: NatsServer, tmp_path: Path) -> None:
    """Each is what a running ai-proxy goes by."""
    ai = AiBench(nats_server, f"sqlite:///{tmp_path}/ai.db", **SETTINGS)
    await ai.start()
    try:
        await add_provider(ai.channel, ORGANIZATION, ai.models.url, "m")
        await _documents(ai, "顺丰包邮，当天发货。", "偏远地区不包邮，顺丰到付。")
        long = '{"text": "%s", "confidence": 0.9, "needs_person": false}' % ("在" * 51)
        ai.models.script.add(Behaviour(text="no form", times=2), Behaviour(text=long))
        turns = [pb.Turn(author=pb.AUTHOR_BUYER, text=text) for text in ("第一句", "第二句", "顺丰包邮吗")]
        request = pb.AnswerRequest(organization_id=ORGANIZATION, account_id="a", chat_id="c", turns=turns)
        said = await ai.ai.Answer(request, timeout=10)
        assert said.reason == "unreadable"
        calls = ai.models.log.of("m")
        assert [call.max_tokens for call in calls] == [123, 123, 123]
        seen = "\n".join(turn.text for turn in calls[0].turns)
        assert [text in seen for text in ("第一句", "第二句", "顺丰包邮吗")] == [False, True, True]
        assert ("当天发货" in seen) + ("偏远地区" in seen) == 1
        await _second_is_refused(ai)
    finally:
        await ai.stop()


async def _documents(ai: AiBench, *contents: str) -> None:
    for number, content in enumerate(contents):
        document = knowledge.Document(
            organization_id=ORGANIZATION,
            title=f"t{number}",
            format=knowledge.DOCUMENT_FORMAT_TEXT,
            content=content,
        )
        await ai.knowledge.CreateDocument(knowledge.CreateDocumentRequest(document=document))


async def _second_is_refused(ai: AiBench) -> None:
    """A second policy, a second budget."""
    for number, account_id in enumerate(("", "a")):
        policy = policies.Policy(organization_id=ORGANIZATION, account_id=account_id, max_rounds=1)
        with _refused(grpc.StatusCode.INVALID_ARGUMENT) if number else nullcontext():
            await ai.policies.SetPolicy(policies.SetPolicyRequest(policy=policy))
    for number, currency in enumerate(("CNY", "USD")):
        budget = budgets.Budget(
            organization_id=ORGANIZATION,
            scope=budgets.BUDGET_SCOPE_ORGANIZATION,
            period=budgets.BUDGET_PERIOD_DAY,
            limit="5",
            currency=currency,
        )
        with _refused(grpc.StatusCode.RESOURCE_EXHAUSTED) if number else nullcontext():
            await ai.budgets.CreateBudget(budgets.CreateBudgetRequest(budget=budget))


@contextmanager
def _refused(code: grpc.StatusCode) -> Iterator[None]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        yield
    assert caught.value.code() is code
