"""The whole as real processes: one trace goes from the push on the socket to the answer on the socket, by a
rule or by the AI, and nothing that was said is in it."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
import pytest_asyncio

from frontdesk.ai_proxy.answers.prompt import FRAME
from frontdesk.api.ai.v1 import knowledge_service_pb2 as knowledge_pb
from frontdesk.api.ai.v1 import policy_service_pb2 as policies_pb
from frontdesk.api.ai.v1.knowledge_service_pb2_grpc import KnowledgeServiceStub
from frontdesk.api.ai.v1.policy_service_pb2_grpc import PolicyServiceStub
from support.marketplace import ORGANIZATION
from support.otlp import OtlpReceiver, ReceivedSpan
from support.processes import Fleet
from support.upstreams import add_provider

QUESTION = "芝麻味的还有吗 sesamequestion"
ANSWER = "芝麻味的今天就发 sesameanswer"
PERSONA = "你是芝麻店的掌柜 sesamepersona"
PASSAGE = "芝麻味的每天早上现做 sesamepassage"
DESCRIPTION = "一盒十二块芝麻糖 sesamedescription"
PRIVATE = ("芝麻", "sesame", FRAME[:12], "sk-upstream")
BY_RULE = (
    ("connection-gateway", "gateway take in"),
    ("reply-engine", "reply-engine take in"),
    ("reply-engine", "reply-engine decide"),
    ("connection-gateway", "gateway send"),
    ("connection-gateway", "gateway write"),
)
TO_THE_MODEL = (
    *BY_RULE[:2],
    ("reply-engine", "reply-engine ask ai"),
    ("reply-engine", "frontdesk.api.ai.v1.AiService/Answer"),
    ("ai-proxy", "frontdesk.api.ai.v1.AiService/Answer"),
    ("ai-proxy", "chat default"),
)
Spans = dict[tuple[str, str], ReceivedSpan]

# A fleet takes seconds to start, so both tests have the same one.
pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def otlp() -> AsyncIterator[OtlpReceiver]:
    receiver = OtlpReceiver()
    await receiver.start()
    yield receiver
    await receiver.stop()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def fleet(tmp_path_factory: pytest.TempPathFactory, otlp: OtlpReceiver) -> AsyncIterator[Fleet]:
    settings = {
        "OTEL_SDK_DISABLED": "false",
        "OTEL_EXPORTER_OTLP_ENDPOINT": otlp.url,
        "OTEL_BSP_SCHEDULE_DELAY": "200",
        "FRONTDESK_LOG_LEVEL": "DEBUG",
        "FRONTDESK_AI_PRIVATE_UPSTREAMS": "true",
    }
    fleet = Fleet(tmp_path_factory.mktemp("fleet"), ai_proxies=1, models=True, settings=settings)
    await fleet.start()
    yield fleet
    await fleet.stop()


def follow(spans: Spans, way: Sequence[tuple[str, str]]) -> None:
    """Each is the child of the one before, the first of nobody."""
    assert not spans[way[0]].parent
    for before, after in itertools.pairwise(way):
        assert spans[after].parent == spans[before].span_id, f"{after} does not follow {before}"


async def test_one_trace_from_push_to_answer(fleet: Fleet, otlp: OtlpReceiver) -> None:
    """Every hop's span arrives at a real OTLP receiver, in one trace, each the child of the hop before."""
    await fleet.add_accounts(1)
    await fleet.add_rule("available", "yes: {send_message}")
    load = await fleet.load(messages=1, text="is #{n} available")
    verdict = await fleet.until_answered(load, 20)
    assert verdict["answered"] == 1

    def spans() -> Spans:
        sent = {s.trace_id for s in otlp.spans if s.name == "gateway send"}
        return {(s.service, s.name): s for s in otlp.spans if s.trace_id in sent}

    await otlp.until(lambda: set(BY_RULE) <= spans().keys(), timeout_s=20)
    follow(spans(), BY_RULE)


async def set_up(fleet: Fleet) -> str:
    """A shop with an item, a persona and knowledge, and a model that answers; the account at the platform."""
    said = {"text": ANSWER, "intent": "other", "confidence": 0.9, "needs_person": False}
    behaviours = [{"text": json.dumps(said, ensure_ascii=False), "between_ms": 5}]
    async with fleet.http.put(f"{fleet.models_url}/control/script", json={"behaviours": behaviours}) as done:
        assert done.status == 200
    await add_provider(fleet.channel, ORGANIZATION, fleet.models_url)
    policy = policies_pb.Policy(organization_id=ORGANIZATION, persona=PERSONA)
    await PolicyServiceStub(fleet.channel).SetPolicy(policies_pb.SetPolicyRequest(policy=policy), timeout=10)
    document = knowledge_pb.Document(
        organization_id=ORGANIZATION,
        title="芝麻 sesametitle",
        format=knowledge_pb.DOCUMENT_FORMAT_TEXT,
        content=PASSAGE,
    )
    await KnowledgeServiceStub(fleet.channel).CreateDocument(
        knowledge_pb.CreateDocumentRequest(document=document), timeout=10
    )
    *_, account = await fleet.add_accounts(1, ai=True)
    await fleet.until_connected((await fleet.control("status"))["accounts"])
    return account


async def upstream_calls(fleet: Fleet) -> list[dict[str, Any]]:
    async with fleet.http.get(f"{fleet.models_url}/control/log") as response:
        calls: list[dict[str, Any]] = (await response.json())["calls"]
        return calls


async def test_one_trace_over_the_ai_and_no_word_in_it(fleet: Fleet, otlp: OtlpReceiver) -> None:
    """S-11, AI-24: the buyer reads the model's answer once. Gateway, engine, ai-proxy and the provider's own
    log have one trace; no span and no line of any log has a word of the buyer, the model or the prompt."""
    account = await set_up(fleet)
    item = {"account": account, "title": "芝麻糖 sesameitem", "price": "12.00", "description": DESCRIPTION}
    item_id = (await fleet.control("items", item))["item_id"]
    said = await fleet.control(
        "say", {"account": account, "buyer": "anna", "text": QUESTION, "item_id": item_id}
    )
    where = f"chats?account={account}&chat={said['chat_id']}"

    async def answers() -> list[str]:
        messages = (await fleet.control(where))["messages"]
        return [message["text"] for message in messages if message["author"] == "seller"]

    async with asyncio.timeout(20):
        while not await answers():
            await asyncio.sleep(0.05)
    (call,) = await upstream_calls(fleet)
    trace_id = call["headers"]["traceparent"].split("-")[1]

    def spans() -> Spans:
        return {(s.service, s.name): s for s in otlp.spans if s.trace_id == trace_id}

    await otlp.until(lambda: {*BY_RULE, *TO_THE_MODEL} <= spans().keys(), timeout_s=20)
    found = spans()
    follow(found, TO_THE_MODEL)
    follow(found, BY_RULE)
    assert call["headers"]["traceparent"].split("-")[2] == found["ai-proxy", "chat default"].span_id
    assert found["ai-proxy", "chat default"].attributes["gen_ai.response.model"] == "sim"
    # What the model was told has it all, so its absence elsewhere says something.
    told = "\n".join(turn["text"] for turn in call["turns"])
    assert all(text in told for text in (QUESTION, PERSONA, PASSAGE, DESCRIPTION, FRAME))
    assert await answers() == [ANSWER]
    logs = [
        line
        for program in fleet.programs.values()
        for line in program.log.read_text(errors="replace").splitlines()
    ]
    assert any(trace_id in line for line in logs)
    lines = [*logs, *map(repr, otlp.spans), *map(repr, otlp.logs)]
    assert not [line for line in lines if any(word in line for word in PRIVATE)]
