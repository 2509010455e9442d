"""The pool of connections to providers, against servers that misbehave in their own ways."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiohttp import web

from frontdesk.ai_proxy.errors import (
    UpstreamError,
    UpstreamLimited,
    UpstreamMisconfigured,
    UpstreamRefused,
    UpstreamTimeout,
    UpstreamUnavailable,
    UpstreamUnreached,
)
from frontdesk.ai_proxy.model import Answer, FinishReason, Piece, Provider, Usage
from frontdesk.ai_proxy.providers.adapter import HttpAdapter, collected
from frontdesk.ai_proxy.providers.dashscope import DashScope
from frontdesk.ai_proxy.providers.http import ProviderHttp
from frontdesk.ai_proxy.providers.openai import OpenAi
from support.certificates import self_signed
from support.providers import ASKED, MODEL, provider, text_of

ANSWER = {
    "choices": [{"message": {"content": "还在"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 4, "completion_tokens": 2},
}
CHUNKS = b"".join(
    b"data: " + orjson.dumps(chunk) + b"\n\n"
    for chunk in (
        {"choices": [{"index": 0, "delta": {"content": "还在"}, "finish_reason": None}]},
        {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
    )
)
DONE = b"data: [DONE]\n\n"


@dataclass
class Upstream:
    """A server that answers as the test says."""

    url: str = ""
    bodies: list[dict[str, Any]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    ports: set[int] = field(default_factory=set)
    answer: Callable[[web.Request], Awaitable[web.StreamResponse]] | None = None

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Note the call and answer it."""
        self.bodies.append(await request.json())
        self.paths.append(request.path_qs)
        self.ports.add(request.transport.get_extra_info("peername")[1] if request.transport else 0)
        assert self.answer is not None
        return await self.answer(request)

    def says(self, response: Callable[[dict[str, Any]], web.Response]) -> None:
        """Answer a body with a response."""

        async def answer(request: web.Request) -> web.Response:
            return response(self.bodies[-1])

        self.answer = answer

    def provider(self, first_token_s: float = 5.0, idle_s: float = 5.0) -> Provider:
        """A provider of this server."""
        return provider("openai", f"{self.url}/v1", first_token_s=first_token_s, idle_s=idle_s)


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    """A server of this test."""
    made = Upstream()
    app = web.Application()
    app.router.add_post("/{path:.*}", made.handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield made
    await runner.cleanup()


@pytest.fixture
async def http() -> AsyncIterator[ProviderHttp]:
    """A pool with small limits."""
    pool = ProviderHttp(private=True, body_bytes=20_000, stream_bytes=50_000)
    await pool.start()
    yield pool
    await pool.stop()


async def streamed(adapter: HttpAdapter, of: Provider) -> Answer:
    """The whole of a streamed answer."""
    return await collected(adapter.stream(of, MODEL, ASKED), 1_000_000)


def events(data: bytes = CHUNKS + DONE) -> web.Response:
    """A stream that comes at once."""
    return web.Response(body=data, content_type="text/event-stream")


def refusal(message: str, status: int = 400) -> web.Response:
    """A refusal in OpenAI's shape."""
    return web.json_response({"error": {"message": message, "type": "invalid_request_error"}}, status=status)


async def test_connections_are_used_again(upstream: Upstream, http: ProviderHttp) -> None:
    """Streams too, also when the end of the body comes after the end of the answer and nobody reads it."""

    async def late_end(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(CHUNKS + DONE)
        await asyncio.sleep(0.01)
        await response.write_eof()
        return response

    upstream.answer = late_end
    adapter = OpenAi(http)
    for _ in range(3):
        assert (await streamed(adapter, upstream.provider())).text == "还在"
        stream = adapter.stream(upstream.provider(), MODEL, ASKED)
        pieces: list[Piece] = [*await anext(stream)]
        await stream.aclose()
        assert text_of(pieces) == "还在"
        await asyncio.sleep(0.05)
    assert len(upstream.bodies) == 6
    # The loop's next call may come before the late end of the one before: then there are two.
    assert len(upstream.ports) <= 2


async def test_a_server_that_leaves_the_end_open_holds_nothing(
    upstream: Upstream, http: ProviderHttp
) -> None:
    """The answer is whole at its last event; the connection is closed soon after."""
    gone = asyncio.Event()

    async def open_end(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(CHUNKS + DONE)
        try:
            await asyncio.sleep(30)
        finally:
            gone.set()
        return response

    upstream.answer = open_end
    assert (await streamed(OpenAi(http), upstream.provider())).text == "还在"
    await asyncio.wait_for(gone.wait(), 5)


async def test_an_answer_that_said_its_reason_survives_a_missing_end(
    upstream: Upstream, http: ProviderHttp
) -> None:
    """Silence after the last word costs the usage, not the answer."""

    async def no_end(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(CHUNKS)
        await asyncio.sleep(30)
        return response

    upstream.answer = no_end
    answer = await streamed(OpenAi(http), upstream.provider(idle_s=0.1))
    assert (answer.text, answer.finish.reason, answer.finish.usage) == ("还在", FinishReason.STOP, None)


async def test_an_old_server_is_asked_without_what_it_refuses(upstream: Upstream, http: ProviderHttp) -> None:
    """Once twice, and from then on at once."""

    def answer(body: dict[str, Any]) -> web.Response:
        return refusal("Unknown parameter: 'stream_options'.") if "stream_options" in body else events()

    upstream.says(answer)
    adapter = OpenAi(http)
    for _ in range(3):
        assert (await streamed(adapter, upstream.provider())).text == "还在"
    assert ["stream_options" in body for body in upstream.bodies] == [True, False, False, False]


async def test_a_refusal_that_teaches_nothing_is_the_callers(upstream: Upstream, http: ProviderHttp) -> None:
    """Asked once; a server that refuses whatever it is asked is not asked forever."""
    upstream.says(lambda _: refusal("too long"))
    with pytest.raises(UpstreamRefused):
        await streamed(OpenAi(http), upstream.provider())
    assert len(upstream.bodies) == 1
    upstream.says(lambda _: refusal("stream_options, response_format, max_completion_tokens"))
    with pytest.raises(UpstreamRefused):
        await streamed(OpenAi(http), upstream.provider())
    assert len(upstream.bodies) <= 8


async def test_a_model_that_only_streams_is_streamed(upstream: Upstream, http: ProviderHttp) -> None:
    """The whole answer is gathered; the second time it is not asked for in one."""

    def answer(body: dict[str, Any]) -> web.Response:
        return events() if body.get("stream") else refusal("This model only support stream mode")

    upstream.says(answer)
    adapter = OpenAi(http)
    for _ in range(2):
        assert (await adapter.complete(upstream.provider(), MODEL, ASKED)).text == "还在"
    assert [body.get("stream", False) for body in upstream.bodies] == [False, True, True]


async def test_a_server_that_never_streams_answers_in_one(upstream: Upstream, http: ProviderHttp) -> None:
    """JSON where a stream was asked for is an answer, or an error."""
    upstream.says(lambda _: web.json_response(ANSWER))
    answer = await streamed(OpenAi(http), upstream.provider())
    assert (answer.text, answer.finish.usage) == ("还在", Usage(4, 2))
    upstream.says(lambda _: web.json_response({"error": {"message": "x"}}))
    with pytest.raises(UpstreamUnavailable):
        await streamed(OpenAi(http), upstream.provider())


async def test_base64_is_read_as_vectors(upstream: Upstream, http: ProviderHttp) -> None:
    """Floats of 32 bits, little-endian, in the order of their index."""
    data = [{"index": 1, "embedding": "AAAAQAAAQEA="}, {"index": 0, "embedding": [1.0, -1.0]}]
    upstream.says(lambda _: web.json_response({"data": data, "usage": {"total_tokens": 9}}))
    found = await OpenAi(http).embed(upstream.provider(), MODEL, ["a", "b"], None)
    assert [list(vector) for vector in found.vectors] == [[1.0, -1.0], [2.0, 3.0]]
    assert found.usage == Usage(9)


@pytest.mark.parametrize(
    "body",
    [
        {"data": []},
        {"data": [{"embedding": []}]},
        {"data": [{"embedding": "?"}]},
        {"data": [{"embedding": ["a"]}]},
        {"data": [{"embedding": [1e300]}]},
        {"data": [{"embedding": "AADAfw=="}]},
        {"data": [{"embedding": [0.5] * 16_385}]},
        {"data": 1},
        {},
    ],
)
async def test_vectors_that_are_none_are_the_providers_fault(
    upstream: Upstream, http: ProviderHttp, body: dict[str, Any]
) -> None:
    """As many as there were texts, of numbers."""
    upstream.says(lambda _: web.json_response(body))
    with pytest.raises(UpstreamUnavailable):
        await OpenAi(http).embed(upstream.provider(), MODEL, ["a"], None)


async def test_redirects_are_not_followed(upstream: Upstream, http: ProviderHttp) -> None:
    """A key never travels to another address than its own."""
    upstream.says(lambda _: web.Response(status=307, headers={"Location": f"{upstream.url}/elsewhere"}))
    with pytest.raises(UpstreamMisconfigured):
        await OpenAi(http).complete(upstream.provider(), MODEL, ASKED)
    assert upstream.paths == ["/v1/chat/completions"]


@pytest.mark.parametrize("content_type", ["text/html", "application/json", "text/event-stream"])
async def test_a_page_is_a_wrong_address(upstream: Upstream, http: ProviderHttp, content_type: str) -> None:
    """Whatever it calls itself, with status 200."""
    page = b"<!doctype html><html>welcome</html>"
    upstream.says(lambda _: web.Response(body=page, content_type=content_type))
    with pytest.raises(UpstreamMisconfigured):
        await OpenAi(http).complete(upstream.provider(), MODEL, ASKED)


async def test_bodies_are_bounded(upstream: Upstream, http: ProviderHttp) -> None:
    """Whole answers, errors, and streams that never end."""
    upstream.says(lambda _: web.json_response(ANSWER | {"padding": "x" * 30_000}))
    with pytest.raises(UpstreamUnavailable):
        await OpenAi(http).complete(upstream.provider(), MODEL, ASKED)
    upstream.says(lambda _: refusal("x" * 2_000_000, status=500))
    with pytest.raises(UpstreamUnavailable) as caught:
        await OpenAi(http).complete(upstream.provider(), MODEL, ASKED)
    assert len(caught.value.detail) <= 300
    upstream.says(lambda _: events(CHUNKS[:80] + b": ping\n\n" * 100_000))
    with pytest.raises(UpstreamUnavailable):
        await streamed(OpenAi(http), upstream.provider())


async def test_pings_are_no_pieces(upstream: Upstream, http: ProviderHttp) -> None:
    """A provider that only keeps the connection alive says nothing."""

    async def pings(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        while True:
            await response.write(b": keep-alive\n\n")
            await asyncio.sleep(0.02)

    upstream.answer = pings
    with pytest.raises(UpstreamTimeout):
        await streamed(OpenAi(http), upstream.provider(first_token_s=0.2))


async def test_one_organization_leaves_connections_to_others(upstream: Upstream) -> None:
    """AI-18: beyond its share it waits and is refused, streamed or not, and nobody waits behind its calls."""
    busy = asyncio.Semaphore(0)

    async def stall(request: web.Request) -> web.StreamResponse:
        if "/slow/" in request.path:
            busy.release()
            await asyncio.sleep(30)
        return web.json_response(ANSWER)

    upstream.answer = stall
    pool = ProviderHttp(private=True, connections=3, share=2)
    await pool.start()
    adapter = OpenAi(pool)
    greedy = provider("openai", f"{upstream.url}/slow", first_token_s=30)
    held = [asyncio.create_task(adapter.complete(greedy, MODEL, ASKED)) for _ in range(5)]
    try:
        for _ in range(2):
            await asyncio.wait_for(busy.acquire(), 5)
        other = replace(upstream.provider(), organization_id="o-2")
        assert (await adapter.complete(other, MODEL, ASKED)).text == "还在"
        assert (await streamed(adapter, other)).text == "还在"
        hasty = replace(greedy, limits=replace(greedy.limits, connect_s=0.05))
        for asked in (adapter.complete(hasty, MODEL, ASKED), streamed(adapter, hasty)):
            with pytest.raises(UpstreamLimited, match="the organization's connections") as caught:
                await asked
            assert caught.value.retryable
            assert caught.value.facts == {"provider": "mine", "model": "default"}
    finally:
        for task in held:
            task.cancel()
        await asyncio.gather(*held, return_exceptions=True)
        await pool.stop()
    assert upstream.paths.count("/slow/chat/completions") == 2


async def test_addresses_inside_are_refused_unless_allowed(upstream: Upstream) -> None:
    """A seller's provider can't be the cluster's own service."""
    pool = ProviderHttp()
    await pool.start()
    try:
        with pytest.raises(UpstreamMisconfigured, match="not a public one"):
            await OpenAi(pool).complete(upstream.provider(), MODEL, ASKED)
        name = provider("openai", upstream.url.replace("127.0.0.1", "localhost"))
        with pytest.raises(UpstreamMisconfigured, match="not a public one"):
            await streamed(OpenAi(pool), name)
    finally:
        await pool.stop()
    assert upstream.bodies == []


async def test_nobody_there_is_unavailable(http: ProviderHttp) -> None:
    """A refused connection may work again."""
    with pytest.raises(UpstreamUnavailable):
        await OpenAi(http).complete(provider("openai", "http://127.0.0.1:1/v1"), MODEL, ASKED)


@pytest.mark.parametrize(
    "change",
    [{"base_url": "ftp://a.example"}, {"base_url": "http://"}, {"base_url": "http://a:b@c"}, {"key": "a\nb"}],
)
async def test_what_can_not_be_called_is_misconfigured(
    upstream: Upstream, http: ProviderHttp, change: dict[str, str]
) -> None:
    """Addresses and keys that are none; the key is in no text."""
    of = provider("openai", change.get("base_url", upstream.url), key=change.get("key", "k"))
    with pytest.raises(UpstreamMisconfigured) as caught:
        await OpenAi(http).complete(of, MODEL, ASKED)
    assert "a\nb" not in f"{caught.value} {caught.value.facts} {caught.value.detail}"


async def test_a_base_urls_query_and_slash_are_kept_apart(upstream: Upstream, http: ProviderHttp) -> None:
    """The path goes before the query; an address that is the door itself stays as it is."""
    upstream.says(lambda _: web.json_response(ANSWER))
    await OpenAi(http).complete(provider("openai", f"{upstream.url}/a/?v=1"), MODEL, ASKED)
    door = provider("dashscope", f"{upstream.url}/x/generation")
    with pytest.raises(UpstreamError):
        await DashScope(http).complete(door, MODEL, ASKED)
    assert upstream.paths == ["/a/chat/completions?v=1", "/x/generation"]


@asynccontextmanager
async def silent(tls: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    """The address of a server that accepts connections and says nothing."""
    writers: list[asyncio.StreamWriter] = []
    server = await asyncio.start_server(lambda _, writer: writers.append(writer), "127.0.0.1", 0, ssl=tls)
    yield f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    server.close()
    for writer in writers:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


async def test_a_connection_that_never_stands_is_a_timeout(http: ProviderHttp) -> None:
    """A server that accepts and says nothing of TLS."""
    async with silent() as url:
        with pytest.raises(UpstreamUnreached, match="no connection"):
            await OpenAi(http).complete(provider("openai", url, connect_s=0.1), MODEL, ASKED)


async def test_a_certificate_of_nobody_is_refused(http: ProviderHttp, tmp_path: Path) -> None:
    """TLS counts by the system's roots."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*self_signed(tmp_path))
    async with silent(context) as url:
        with pytest.raises(UpstreamMisconfigured, match="certificate"):
            await OpenAi(http).complete(provider("openai", url), MODEL, ASKED)
