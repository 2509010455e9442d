"""Adapters against the simulator of model providers: every kind, every fault, over real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass

import pytest
from opentelemetry import trace
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags

from frontdesk.ai_proxy.errors import (
    UpstreamError,
    UpstreamLimited,
    UpstreamMisconfigured,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from frontdesk.ai_proxy.model import Finish, FinishReason, Model, Piece, Provider, Usage
from frontdesk.ai_proxy.providers.base import Adapter
from frontdesk.ai_proxy.providers.http import ProviderHttp
from frontdesk.ai_proxy.providers.kinds import adapters
from frontdesk.simulators.models.script import Behaviour, Fault, Tokens, ToolSaid
from frontdesk.simulators.models.server import ModelsServer
from support.providers import ASKED, KEY, MODEL, provider, text_of

KINDS = ("openai", "dashscope", "anthropic", "gemini")
PATHS = {"openai": "/v1", "dashscope": "/api/v1", "anthropic": "", "gemini": "/v1beta"}
PIECES = ("还在", "的，", "亲🙂", "包邮", "。")
SAID = "".join(PIECES)
USED = Tokens(prompt=12, completion=7, cached=4)


@dataclass
class Bench:
    """A simulator and the adapters that call it."""

    server: ModelsServer
    adapters: Mapping[str, Adapter]

    def provider(
        self, kind: str, first_token_s: float = 5.0, idle_s: float = 5.0, connect_s: float = 5.0
    ) -> Provider:
        """A provider of the simulator."""
        url = self.server.url + PATHS[kind]
        return provider(kind, url, first_token_s=first_token_s, idle_s=idle_s, connect_s=connect_s)

    async def streamed(self, of: Provider) -> tuple[list[Piece], UpstreamError | None]:
        """The pieces of a streamed answer and what ended it."""
        pieces: list[Piece] = []
        try:
            async with aclosing(self.adapters[of.kind].stream(of, MODEL, ASKED)) as stream:
                async for batch in stream:
                    assert batch
                    pieces += batch
        except UpstreamError as error:
            return pieces, error
        return pieces, None


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    """A simulator and all adapters on one pool."""
    server, http = ModelsServer(), ProviderHttp(private=True, connections=3)
    await server.start()
    await http.start()
    yield Bench(server, adapters(http))
    await http.stop()
    await server.stop()


@pytest.mark.parametrize("kind", KINDS)
async def test_an_answer_is_whole_in_one_and_in_pieces(bench: Bench, kind: str) -> None:
    """Text, thoughts, reason and usage are the same; the provider sees the key and our trace."""
    bench.server.script.set(Behaviour(pieces=PIECES, reasoning=("hm", "m"), usage=USED, finish="length"))
    of = bench.provider(kind)
    span = NonRecordingSpan(SpanContext(0xABC, 0xDEF, is_remote=False, trace_flags=TraceFlags(1)))
    with trace.use_span(span):
        answer = await bench.adapters[kind].complete(of, MODEL, ASKED)
    finish = Finish(FinishReason.LENGTH, Usage(12, 7, 4))
    assert (answer.text, answer.reasoning, answer.finish) == (SAID, "hmm", finish)
    pieces, error = await bench.streamed(of)
    assert error is None
    assert (text_of(pieces), pieces[-1]) == (SAID, finish)
    first, second = bench.server.log.calls
    assert first.headers["traceparent"] == f"00-{0xABC:032x}-{0xDEF:016x}-01"
    assert (first.key, first.stream, second.stream) == (f"…{KEY[-4:]}", False, True)
    assert [turn.text for turn in first.turns] == [message.text for message in ASKED.messages]


@pytest.mark.parametrize("kind", KINDS)
async def test_tools_are_called_in_one_and_in_pieces(bench: Bench, kind: str) -> None:
    """Two calls at once; their arguments come whole."""
    said = (ToolSaid("price", '{"id":1}'), ToolSaid("stock", '{"ids":[1,2,3]}'))
    bench.server.script.set(Behaviour(tool_calls=said))
    of = bench.provider(kind)
    answer = await bench.adapters[kind].complete(of, MODEL, ASKED)
    assert [(call.name, call.arguments) for call in answer.tool_calls] == [
        (c.name, c.arguments) for c in said
    ]
    assert answer.finish.reason is FinishReason.TOOL_CALLS
    pieces, _ = await bench.streamed(of)
    assert isinstance(pieces[-1], Finish)
    assert pieces[-1].reason is FinishReason.TOOL_CALLS


@pytest.mark.parametrize(
    "framing", [("bytes",), ("crlf",), ("lines",), ("comments",), ("bytes", "crlf", "lines")]
)
@pytest.mark.parametrize("kind", KINDS)
async def test_events_are_understood_however_they_are_written(
    bench: Bench, kind: str, framing: tuple[str, ...]
) -> None:
    """Frames split at every byte, other line ends, data over lines, comments between."""
    bench.server.script.set(Behaviour(pieces=PIECES, framing=framing, usage=USED))
    pieces, error = await bench.streamed(bench.provider(kind))
    assert error is None
    assert (text_of(pieces), pieces[-1]) == (SAID, Finish(FinishReason.STOP, Usage(12, 7, 4)))


@pytest.mark.parametrize("kind", ["openai", "dashscope", "gemini"])
async def test_texts_become_vectors(bench: Bench, kind: str) -> None:
    """In order, more than one call takes, with the dimensions asked for."""
    texts = [f"text {number}" for number in range(23)]
    of, model = bench.provider(kind), Model("vectors", "embedding", embeds=True)
    whole = await bench.adapters[kind].embed(of, model, texts, 16)
    alone = await bench.adapters[kind].embed(of, model, texts[21:22], 16)
    assert len(whole.vectors) == len(texts)
    assert list(whole.vectors[21]) == list(alone.vectors[0])
    assert {len(vector) for vector in whole.vectors} == {16}


async def test_anthropic_has_no_vectors(bench: Bench) -> None:
    """A person chose the wrong provider."""
    with pytest.raises(UpstreamMisconfigured):
        await bench.adapters["anthropic"].embed(bench.provider("anthropic"), MODEL, ["a"], None)


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (Fault("status", status=429, headers={"Retry-After": "7"}), UpstreamLimited),
        (Fault("status", status=500), UpstreamUnavailable),
        (Fault("status", status=401), UpstreamMisconfigured),
        (Fault("html"), UpstreamMisconfigured),
        (Fault("html", status=502), UpstreamUnavailable),
        (Fault("reset", after=-1), UpstreamUnavailable),
        (Fault("close", after=-1), UpstreamUnavailable),
        (Fault("reset"), UpstreamUnavailable),
        (Fault("cut"), UpstreamUnavailable),
        (Fault("error", status=503), UpstreamUnavailable),
        (Fault("error_chunk", message="boom"), UpstreamUnavailable),
    ],
    ids=lambda value: (
        f"{value.kind}{value.status or ''}{value.after or ''}" if isinstance(value, Fault) else ""
    ),
)
@pytest.mark.parametrize("vendor", KINDS)
async def test_a_call_that_fails_says_how(
    bench: Bench, vendor: str, fault: Fault, kind: type[UpstreamError]
) -> None:
    """Before the first piece, streamed or not, the same."""
    bench.server.script.set(Behaviour(pieces=PIECES, fault=fault))
    of = bench.provider(vendor)
    pieces, error = await bench.streamed(of)
    assert (pieces, type(error)) == ([], kind)
    with pytest.raises(kind) as caught:
        await bench.adapters[vendor].complete(of, MODEL, ASKED)
    for failed in (error, caught.value):
        assert isinstance(failed, UpstreamError)
        assert failed.facts["provider"] == "mine"
        assert "boom" not in f"{failed} {failed.facts}"
        if isinstance(failed, UpstreamLimited):
            assert failed.retry_after_s == 7.0


@pytest.mark.parametrize("fault", ["reset", "close", "cut", "garbage", "error", "error_chunk"])
@pytest.mark.parametrize("kind", KINDS)
async def test_a_stream_that_breaks_ends_with_an_error_after_what_was_said(
    bench: Bench, kind: str, fault: str
) -> None:
    """Never with a Finish; DashScope's words that are no JSON are words (AI-07)."""
    bench.server.script.set(Behaviour(pieces=PIECES, fault=Fault(fault, after=3)))
    pieces, error = await bench.streamed(bench.provider(kind))
    if (kind, fault) == ("dashscope", "garbage"):
        assert error is None
        assert text_of(pieces) != SAID
        return
    assert type(error) is UpstreamUnavailable
    # A reset may overtake what was sent before it.
    assert SAID.startswith(text_of(pieces))
    assert fault == "reset" or text_of(pieces) == "".join(PIECES[:3])
    assert not any(isinstance(piece, Finish) for piece in pieces)


@pytest.mark.parametrize(("after", "said"), [(-1, ""), (0, ""), (2, "".join(PIECES[:2]))])
@pytest.mark.parametrize("kind", KINDS)
async def test_silence_ends_a_stream(bench: Bench, kind: str, after: int, said: str) -> None:
    """Before the head, before the first piece and between two; the provider sees the connection go."""
    bench.server.script.set(Behaviour(pieces=PIECES, fault=Fault("stall", after=after)))
    first_token_s = 5.0 if said else 0.15
    pieces, error = await bench.streamed(bench.provider(kind, first_token_s=first_token_s, idle_s=0.3))
    assert type(error) is UpstreamTimeout
    assert text_of(pieces) == said
    await asyncio.wait_for(bench.server.log.idle(), 5)
    assert bench.server.log.cancelled == 1


async def test_a_slow_reader_is_not_a_silent_provider(bench: Bench) -> None:
    """What the caller takes for a batch does not count as the provider's silence."""
    bench.server.script.set(Behaviour(pieces=PIECES, between_ms=1))
    stream = bench.adapters["openai"].stream(bench.provider("openai", idle_s=0.3), MODEL, ASKED)
    said = [*await anext(stream)]
    await asyncio.sleep(0.4)
    said += [piece async for batch in stream for piece in batch]
    assert text_of(said) == SAID


async def test_a_silent_whole_answer_ends(bench: Bench) -> None:
    """It may take as long as a first piece and a pause."""
    bench.server.script.set(Behaviour(pieces=PIECES, fault=Fault("stall")))
    of = bench.provider("openai", first_token_s=0.1, idle_s=0.05)
    with pytest.raises(UpstreamTimeout):
        await bench.adapters["openai"].complete(of, MODEL, ASKED)


@pytest.mark.parametrize("after", [-1, 0, 2])
@pytest.mark.parametrize("kind", KINDS)
async def test_cancelling_the_reader_stops_the_provider(bench: Bench, kind: str, after: int) -> None:
    """At any moment, streamed or not, the simulator sees the client leave."""
    bench.server.script.set(Behaviour(pieces=PIECES, fault=Fault("stall", after=after)))
    of = bench.provider(kind)
    streamed = asyncio.create_task(bench.streamed(of))
    whole = asyncio.create_task(bench.adapters[kind].complete(of, MODEL, ASKED))
    while bench.server.log.total < 2 or any(
        call.pieces < after for call in bench.server.log.calls if call.stream
    ):
        await asyncio.sleep(0.005)
    streamed.cancel()
    whole.cancel()
    await asyncio.gather(streamed, whole, return_exceptions=True)
    await asyncio.wait_for(bench.server.log.idle(), 5)
    assert bench.server.log.cancelled == 2


async def test_closing_a_stream_stops_the_provider(bench: Bench) -> None:
    """After the first batch, before the end; the pool takes no half-read connection back."""
    bench.server.script.set(Behaviour(pieces=PIECES, between_ms=1, fault=Fault("stall", after=4)))
    of = bench.provider("openai")
    stream = bench.adapters["openai"].stream(of, MODEL, ASKED)
    assert await anext(stream)
    await stream.aclose()
    await asyncio.wait_for(bench.server.log.idle(), 5)
    assert bench.server.log.cancelled == 1
    bench.server.script.clear()
    answer = await bench.adapters["openai"].complete(of, MODEL, ASKED)
    assert answer.finish.reason is FinishReason.STOP


async def test_the_pool_is_bounded_for_all_providers_together(bench: Bench) -> None:
    """AI-18: a call that finds no connection in time is told so, and the provider is not blamed."""
    bench.server.script.set(Behaviour(pieces=PIECES, fault=Fault("stall")))
    held = [asyncio.create_task(bench.streamed(bench.provider(kind))) for kind in KINDS[:3]]
    while bench.server.log.open < 3:
        await asyncio.sleep(0.005)
    _, error = await bench.streamed(bench.provider("gemini", connect_s=0.05))
    assert type(error) is UpstreamLimited
    assert bench.server.log.total == 3
    for task in held:
        task.cancel()
    await asyncio.gather(*held, return_exceptions=True)
    await asyncio.wait_for(bench.server.log.idle(), 5)
    bench.server.script.clear()
    together = await asyncio.gather(*(bench.streamed(bench.provider("gemini")) for _ in range(12)))
    assert [error for _, error in together] == [None] * 12
    assert bench.server.log.peak == 3
