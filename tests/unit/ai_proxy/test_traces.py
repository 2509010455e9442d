"""Spans and metrics of calls: OpenTelemetry's names for generative AI, and not a word of what was said."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from decimal import Decimal

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from frontdesk.ai_proxy.call import OK
from frontdesk.ai_proxy.completions import Completions, CompletionSettings
from frontdesk.ai_proxy.errors import BrokenOff, UpstreamUnavailable
from frontdesk.ai_proxy.model import (
    Caller,
    Delta,
    Model,
    ModelMessage,
    Prompt,
    Role,
    Usage,
)
from frontdesk.ai_proxy.router import Router, RouterSettings
from frontdesk.ai_proxy.spending import SpendRecord
from frontdesk.ai_proxy.traces import CallTraces
from frontdesk.kit.clock import SystemClock
from support.completions import ORGANIZATION, Ledger, Quotes, Scripted, ScriptedShop, provider, says
from support.metrics import Metrics

SECRET = "my phone is 13800138000"
PROMPT = Prompt((ModelMessage(Role.USER, SECRET),))


class Bench:
    """Completions whose spans and metrics a test reads."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        spans = TracerProvider(shutdown_on_exit=False)
        spans.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.metrics = Metrics()
        self.adapter = Scripted()
        self.shop = ScriptedShop(
            (provider("a"), provider("g", Model("vectors", "v", embeds=True), kind="gemini"))
        )
        self.traces = CallTraces(spans.get_tracer("test"), self.metrics.meter)
        clock = SystemClock()
        ledger = Ledger()
        self.completions = Completions(
            shops=self._shop,
            latest=self._shop,
            router=Router({"openai": self.adapter, "gemini": self.adapter}, clock, RouterSettings()),
            offline=Quotes(),
            budgets=ledger,
            spending=ledger,
            clock=clock,
            settings=CompletionSettings(),
            traces=self.traces,
        )

    async def _shop(self, organization_id: str) -> ScriptedShop:
        return self.shop

    async def streamed(self) -> None:
        caller = Caller(ORGANIZATION, operation="stream")
        async with aclosing(self.completions.stream(caller, "", PROMPT)) as batches:
            async for _ in batches:
                pass

    @property
    def spans(self) -> tuple[ReadableSpan, ...]:
        return self.exporter.get_finished_spans()


async def test_a_call_is_a_span_and_measured() -> None:
    """The span is the current one while the provider is asked, so that its trace goes on there."""
    bench = Bench()
    inside: list[int] = []

    async def look() -> None:
        inside.append(trace.get_current_span().get_span_context().span_id)

    bench.adapter.plays("a", [look, *says(SECRET)])
    await bench.streamed()
    (span,) = bench.spans
    assert (span.name, span.kind, span.status.status_code) == (
        "chat default",
        SpanKind.CLIENT,
        StatusCode.UNSET,
    )
    context = span.get_span_context()
    assert context and inside == [context.span_id]
    assert not trace.get_current_span().get_span_context().is_valid
    assert dict(span.attributes or {}) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "default",
        "gen_ai.response.model": "a-large",
        "gen_ai.response.finish_reasons": ("stop",),
        "gen_ai.usage.input_tokens": 10,
        "gen_ai.usage.output_tokens": 4,
        "frontdesk.ai.cost": "0.000052",
        "frontdesk.ai.currency": "CNY",
        "frontdesk.ai.cached": False,
    }
    assert SECRET not in span.to_json()
    labels = {
        "gen_ai_operation_name": "chat",
        "gen_ai_provider_name": "openai",
        "gen_ai_request_model": "default",
        "gen_ai_response_model": "a-large",
    }
    value = bench.metrics.value
    assert value("gen_ai_client_operation_duration_seconds_count", **labels) == 1
    assert value("gen_ai_server_time_to_first_token_seconds_count", **labels) == 1
    assert value("gen_ai_client_token_usage_sum", **labels, gen_ai_token_type="input") == 10
    assert value("gen_ai_client_token_usage_sum", **labels, gen_ai_token_type="output") == 4
    assert value("frontdesk_ai_cost_total", **labels, frontdesk_ai_currency="CNY") == pytest.approx(0.000052)


async def test_a_call_that_broke_off_says_how_but_not_what() -> None:
    bench = Bench()
    bench.adapter.plays("a", [[Delta(SECRET)], UpstreamUnavailable(SECRET)])
    with pytest.raises(BrokenOff):
        await bench.streamed()
    (span,) = bench.spans
    assert span.status.status_code is StatusCode.ERROR
    assert (span.attributes or {})["error.type"] == "UNAVAILABLE"
    assert SECRET not in span.to_json()
    found = bench.metrics.scrape()["gen_ai_client_operation_duration_seconds_count"]
    assert [dict(labels)["error_type"] for labels in found] == ["UNAVAILABLE"]


async def test_the_other_names_are_the_conventions_too() -> None:
    """Vectors are `embeddings`, Gemini is `gcp.gemini`, and what is no language model is `offline`."""
    bench = Bench()
    caller = Caller(ORGANIZATION, operation="embed")
    await bench.completions.embed(caller, "vectors", [SECRET])
    await bench.completions.complete(caller, "offline", PROMPT)
    vectors, quote = bench.spans
    assert vectors.name == "embeddings vectors"
    assert (vectors.attributes or {})["gen_ai.provider.name"] == "gcp.gemini"
    assert quote.name == "chat offline"
    assert {(quote.attributes or {})[f"gen_ai.{key}"] for key in ("provider.name", "response.model")} == {
        "offline"
    }


async def test_a_provider_that_was_left_has_a_span_of_its_own_time() -> None:
    spend = SpendRecord(
        "id.1", Caller("org"), "a", "default", "m", 2000, 500, 0, "CANCELLED", Usage(7, counted=True)
    )
    bench = Bench()
    bench.traces.past("chat", "openai", spend)
    (span,) = bench.spans
    assert (span.name, span.start_time, span.end_time) == ("chat default", 2_000_000_000, 2_500_000_000)
    assert (span.attributes or {})["error.type"] == "CANCELLED"
    labels = {
        "gen_ai_operation_name": "chat",
        "gen_ai_provider_name": "openai",
        "gen_ai_request_model": "default",
        "gen_ai_response_model": "m",
        "gen_ai_token_type": "input",
    }
    assert bench.metrics.value("gen_ai_client_token_usage_sum", **labels) == 7


async def test_a_span_ends_when_the_caller_leaves() -> None:
    bench = Bench()
    bench.adapter.plays("a", [asyncio.Event().wait])
    task = asyncio.create_task(bench.streamed())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [(span.attributes or {})["error.type"] for span in bench.spans] == ["CANCELLED"]


def test_names_that_sellers_invent_do_not_grow_the_metrics_for_ever() -> None:
    metrics = Metrics()
    traces = CallTraces(meter=metrics.meter)
    for number in range(500):
        spend = SpendRecord(
            call_id="c",
            caller=Caller(ORGANIZATION),
            provider="a",
            requested_model=f"m{number}",
            model="m",
            started_at_ms=0,
            duration_ms=1,
            first_token_ms=0,
            code=OK,
            usage=Usage(),
            cost=Decimal(1),
            currency=f"C{number:03}",
            cached=False,
        )
        traces.end(None, "chat", "openai", spend, None)
    counts = metrics.scrape()["gen_ai_client_operation_duration_seconds_count"]
    assert len(counts) < 210
    assert sum(counts.values()) == 500
    (costs,) = (found for name, found in metrics.scrape().items() if "cost" in name and "_total" in name)
    assert len(costs) < 210
