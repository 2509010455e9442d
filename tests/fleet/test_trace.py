"""The whole as real processes: one trace goes from the push on the socket to the answer on the socket."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from support.marketplace import AI_ECHO, AI_QUESTION
from support.otlp import OtlpReceiver, ReceivedSpan
from support.processes import Fleet


@pytest.fixture
async def otlp() -> AsyncIterator[OtlpReceiver]:
    receiver = OtlpReceiver()
    await receiver.start()
    yield receiver
    await receiver.stop()


@pytest.fixture
async def fleet(tmp_path: Path, otlp: OtlpReceiver) -> AsyncIterator[Fleet]:
    fleet = Fleet(
        tmp_path,
        ai_proxies=1,
        models=True,
        settings={
            "FRONTDESK_AI_PRIVATE_UPSTREAMS": "true",
            "OTEL_SDK_DISABLED": "false",
            "OTEL_EXPORTER_OTLP_ENDPOINT": otlp.url,
            "OTEL_BSP_SCHEDULE_DELAY": "200",
        },
    )
    await fleet.start()
    yield fleet
    await fleet.stop()


HOPS = (
    ("connection-gateway", "gateway take in"),
    ("reply-engine", "reply-engine take in"),
    ("reply-engine", "reply-engine decide"),
    ("connection-gateway", "gateway send"),
    ("connection-gateway", "gateway write"),
)
ANSWER = "frontdesk.api.ai.v1.AiService/Answer"
TO_THE_MODEL = (
    *HOPS[:2],
    ("reply-engine", "reply-engine ask ai"),
    ("reply-engine", ANSWER),
    ("ai-proxy", ANSWER),
    ("ai-proxy", "chat default"),
)
Way = tuple[tuple[str, str], ...]
Spans = dict[tuple[str, str], ReceivedSpan]


async def followed(otlp: OtlpReceiver, trace_id: str, *ways: Way) -> Spans:
    """The spans of a trace, once all of `ways` are there, each hop the child of the one before."""

    def spans() -> Spans:
        return {(span.service, span.name): span for span in otlp.spans if span.trace_id == trace_id}

    await otlp.until(lambda: spans().keys() >= {hop for way in ways for hop in way}, timeout_s=20)
    found = spans()
    for way in ways:
        assert not found[way[0]].parent
        for before, after in itertools.pairwise(way):
            assert found[after].parent == found[before].span_id, f"{after} does not follow {before}"
    return found


def sent(otlp: OtlpReceiver) -> set[str]:
    return {span.trace_id for span in otlp.spans if span.name == "gateway send"}


async def test_one_trace_from_push_to_answer(fleet: Fleet, otlp: OtlpReceiver) -> None:
    """Every hop's span arrives at a real OTLP receiver, in one trace, each the child of the hop before; that
    of a question without a rule goes on to ai-proxy and the provider, and the answer leaves in it (RE-15)."""
    await fleet.add_accounts(1, ai=True)
    await fleet.add_rule("available", "yes: {send_message}")
    load = await fleet.load(messages=1, text="is #{n} available")
    assert (await fleet.until_answered(load, 20))["answered"] == 1
    await otlp.until(lambda: len(sent(otlp)) == 1, timeout_s=20)
    (by_rule,) = sent(otlp)
    await followed(otlp, by_rule, HOPS)

    await fleet.answer_by_ai(fleet.models_url)
    script = f"{fleet.models_url}/control/script"
    async with fleet.http.put(script, json={"behaviours": [AI_ECHO]}) as response:
        assert response.status == 200
    load = await fleet.load(messages=1, text=AI_QUESTION)
    assert (await fleet.until_answered(load, 20))["answered"] == 1
    async with fleet.http.get(f"{fleet.models_url}/control/log") as response:
        (call,) = (await response.json())["calls"]
    _, by_ai, asked_by, _ = call["headers"]["traceparent"].split("-")
    assert by_ai != by_rule
    found = await followed(otlp, by_ai, HOPS, TO_THE_MODEL)
    assert found[TO_THE_MODEL[-1]].span_id == asked_by
