"""Faults and pace of the simulated models, the log of what clients did, the control API, the fast path."""

from __future__ import annotations

import asyncio
import json
import ssl
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import httpx
import pytest

from frontdesk.kit.clock import ManualClock
from frontdesk.kit.errors import InvalidArgument
from frontdesk.simulators.models.script import DOORS, FRAMINGS, Behaviour, Fault
from frontdesk.simulators.models.server import ModelsServer
from support.models import KEY, models
from support.waiting import until

PIECES = ("一", "二", "三", "四")
HEADERS = {"Authorization": f"Bearer {KEY}", "x-api-key": KEY, "anthropic-version": "2023-06-01"}
HEADERS |= {"x-goog-api-key": KEY, "X-DashScope-SSE": "enable"}
ASK = [{"role": "user", "content": "在吗"}]
PATHS = {
    "openai": "/v1/chat/completions",
    "dashscope": "/api/v1/services/aigc/text-generation/generation",
    "anthropic": "/v1/messages",
    "gemini": "/v1beta/models/m:streamGenerateContent?alt=sse",
}
BODIES: dict[str, dict[str, Any]] = {
    "openai": {"model": "m", "stream": True, "messages": ASK},
    "dashscope": {"model": "m", "input": {"messages": ASK}, "parameters": {"incremental_output": True}},
    "anthropic": {"model": "m", "max_tokens": 9, "stream": True, "messages": ASK},
    "gemini": {"contents": [{"role": "user", "parts": [{"text": "在吗"}]}]},
}


@pytest.fixture
async def server() -> AsyncIterator[ModelsServer]:
    """All vendors on a free port."""
    async with models() as running:
        yield running


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    """A client that knows no vendor."""
    # Without this context the client reads the machine's certificates, which takes longer than a test.
    plain = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    async with httpx.AsyncClient(headers=HEADERS, timeout=10, verify=plain) as session:
        yield session


async def ask(client: httpx.AsyncClient, server: ModelsServer, *, stream: bool = True) -> httpx.Response:
    """One call of OpenAI's kind."""
    return await client.post(server.url + PATHS["openai"], json=BODIES["openai"] | {"stream": stream})


def events_of(text: str) -> list[str]:
    """The data of a stream's events."""
    found, data = [], []
    for line in text.replace("\r\n", "\n").split("\n"):
        if line.startswith("data:"):
            data.append(line.removeprefix("data:").removeprefix(" "))
        elif not line and data:
            found.append("\n".join(data))
            data = []
    return found


def text_of(text: str) -> str:
    """All that a stream of OpenAI's kind says."""
    chunks = [json.loads(data) for data in events_of(text) if data != "[DONE]"]
    return "".join(c["choices"][0]["delta"].get("content") or "" for c in chunks if c.get("choices"))


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("framing", FRAMINGS)
async def test_framing_changes_no_event(client: httpx.AsyncClient, door: str, framing: str) -> None:
    """However events are written they say the same."""
    told = []
    for way in ((), (framing,)):
        async with models(ManualClock()) as server:
            server.script.add(Behaviour(pieces=PIECES, framing=way))
            answer = await client.post(server.url + PATHS[door], json=BODIES[door])
            told.append((answer.text, [data.replace("\n", "") for data in events_of(answer.text)]))
    (plain, events), (framed, same) = told
    assert len(events) > len(PIECES)
    assert events == same
    assert (plain == framed) is (framing == "bytes")


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("after", [-1, 0, 2])
@pytest.mark.parametrize("kind", ["reset", "close"])
async def test_connection_breaks(
    server: ModelsServer, client: httpx.AsyncClient, kind: str, after: int, stream: bool
) -> None:
    """The client sees no end of the answer; what was written before the break had arrived."""
    server.script.add(Behaviour(pieces=PIECES, fault=Fault(kind, after=after)))
    got = b""
    # A reset is an error of the socket, a close is an answer that is not whole.
    with pytest.raises(httpx.ReadError if kind == "reset" else httpx.RemoteProtocolError):
        async with client.stream(
            "POST", server.url + PATHS["openai"], json=BODIES["openai"] | {"stream": stream}
        ) as answer:
            async for data in answer.aiter_bytes():
                got += data
    assert bool(got) == (after == 2 if stream else after >= 0)
    call = server.log.calls[0]
    assert (call.fault, call.whole, call.cancelled) == (kind, True, False)
    assert call.pieces == (2 if after == 2 and stream else 0)


@pytest.mark.parametrize("after", [0, 2, 99])
async def test_stream_is_cut(server: ModelsServer, client: httpx.AsyncClient, after: int) -> None:
    """The body ends properly, the answer does not."""
    server.script.add(Behaviour(pieces=PIECES, fault=Fault("cut", after=after)))
    answer = await ask(client, server)
    assert text_of(answer.text) == "".join(PIECES[:after])
    assert "[DONE]" not in answer.text
    assert "stop" not in answer.text


@pytest.mark.parametrize(
    ("kind", "where"),
    [("garbage", "no JSON"), ("huge", "padding"), ("error", "error"), ("error_chunk", "error")],
)
@pytest.mark.parametrize("stream", [True, False])
async def test_answers_hold_what_does_not_belong(
    server: ModelsServer, client: httpx.AsyncClient, kind: str, where: str, stream: bool
) -> None:
    """Garbage and huge lines are passed over by who can; an error is the last there is."""
    server.script.add(Behaviour(pieces=PIECES, fault=Fault(kind, after=2, size=100_000, message="坏了")))
    answer = await ask(client, server, stream=stream)
    assert answer.status_code == 200
    if kind == "garbage":
        with pytest.raises(json.JSONDecodeError):
            text_of(answer.text) if stream else answer.json()
        assert not stream or "[DONE]" in answer.text
        return
    told = (
        [json.loads(data) for data in events_of(answer.text) if data != "[DONE]"]
        if stream
        else [answer.json()]
    )
    odd = next(event for event in told if where in event)
    if kind == "huge":
        assert len(odd["padding"]) == 100_000
        assert not stream or text_of(answer.text) == "".join(PIECES)
    else:
        assert odd["error"]["message"] == "坏了"
        assert told[-1] is odd
        assert not stream or text_of(answer.text) == "一二"


@pytest.mark.parametrize(
    ("stream", "after", "pieces"), [(True, 2, 2), (True, -1, 0), (False, -1, 0), (False, 0, 0)]
)
async def test_client_that_leaves_is_seen(
    server: ModelsServer, client: httpx.AsyncClient, stream: bool, after: int, pieces: int
) -> None:
    """A call whose client leaves while it stalls is cancelled, with the pieces written; open ones count."""
    server.script.add(Behaviour(pieces=PIECES, fault=Fault("stall", after=after)))
    asking = [asyncio.create_task(ask(client, server, stream=stream)) for _ in range(3)]
    await until(lambda: len(server.log.calls) == 3 and all(c.pieces == pieces for c in server.log.calls))
    assert (server.log.open, server.log.peak, server.log.cancelled) == (3, 3, 0)
    for task in asking:
        task.cancel()
    async with asyncio.timeout(5):
        await server.log.idle()
    assert [(c.cancelled, c.whole, c.pieces) for c in server.log.calls] == [(True, False, pieces)] * 3
    assert (server.log.open, server.log.peak, server.log.cancelled) == (0, 3, 3)


async def test_client_that_leaves_between_pieces_stops_the_answer(client: httpx.AsyncClient) -> None:
    """No piece is written after the client has gone."""
    clock = ManualClock()
    async with models(clock) as server:
        server.script.add(Behaviour(pieces=PIECES, between_ms=1_000))
        async with client.stream("POST", server.url + PATHS["openai"], json=BODIES["openai"]) as answer:
            lines = answer.aiter_lines()
            assert "一" in "".join([await anext(lines) for _ in range(3)])
        async with asyncio.timeout(5):
            await server.log.idle()
        await clock.advance(10)
    assert (server.log.calls[0].cancelled, server.log.calls[0].pieces) == (True, 1)


async def test_pace_follows_the_clock(client: httpx.AsyncClient) -> None:
    """The head, the first piece and each later one come when their time has come, and not before."""
    clock = ManualClock()
    async with models(clock) as server:
        server.script.add(Behaviour(pieces=PIECES, head_ms=1_000, first_ms=2_000, between_ms=500))
        asking = asyncio.create_task(ask(client, server))
        seen = []
        for seconds in (0.9, 0.2, 1.8, 0.2, 0.5, 0.5, 0.5):
            await until(lambda: clock.sleepers == 1)
            await clock.advance(seconds)
            call = server.log.calls[0]
            seen.append((call.status, call.pieces))
        answer = await asking
    assert seen == [(0, 0), (200, 0), (200, 0), (200, 1), (200, 2), (200, 3), (200, 4)]
    assert text_of(answer.text) == "".join(PIECES)


async def test_stopping_lets_go_of_what_stalls(client: httpx.AsyncClient) -> None:
    """A server that stops does not wait for clients that wait for it, and calls none of them cancelled."""
    async with models() as server:
        server.script.add(Behaviour(fault=Fault("stall", after=-1)))
        asking = asyncio.create_task(ask(client, server))
        await until(lambda: server.log.open == 1)
    with pytest.raises(httpx.TransportError):
        await asking
    assert not server.log.calls[0].cancelled


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/v1/chat/completions", b"{", 400),
        ("/v1/chat/completions", b"[]", 400),
        ("/v1/chat/completions", b"{}", 400),
        ("/v1/chat/completions", b'{"model":"m","messages":[1]}', 400),
        ("/v1/chat/completions", b'{"model":"m","messages":[{"role":"user","content":null}]}', 400),
        (
            "/v1/chat/completions",
            b'{"model":"m","messages":[{"role":"user","content":"a","tool_calls":1}]}',
            400,
        ),
        ("/v1/chat/completions", b'{"model":"m","messages":[{"role":"user","content":"a"}],"n":2}', 400),
        ("/v1/embeddings", b'{"model":"m","input":[]}', 400),
        ("/v1/embeddings", b'{"model":"m","input":"a","dimensions":0}', 400),
        ("/v1/messages", b'{"model":"m","messages":[{"role":"user","content":"a"}]}', 400),
        ("/v1/messages", b'{"model":"m","max_tokens":9,"temperature":1.5,"messages":[]}', 400),
        ("/v1beta/models/m:generateContent", b'{"contents":[]}', 400),
        ("/v1beta/models/m:generateContent", b'{"contents":[{"parts":[{"text":"a"}]}],"odd":1}', 400),
        ("/v1beta/models/m:streamGenerateContent", b'{"contents":[{"parts":[{"text":"a"}]}]}', 400),
        ("/v1beta/models/m:batchEmbedContents", b'{"requests":[{"model":"models/other"}]}', 400),
        ("/api/v1/services/aigc/text-generation/generation", b'{"model":"m"}', 400),
        ("/api/v1/services/embeddings/text-embedding/text-embedding", b'{"input":{"texts":[""]}}', 400),
        ("/nowhere", b"{}", 404),
    ],
)
async def test_bad_requests_are_refused(
    server: ModelsServer, client: httpx.AsyncClient, path: str, body: bytes, status: int
) -> None:
    """What a vendor refuses is refused here, on the port of benches too."""
    for url in (server.url, server.bench_url):
        answer = await client.post(url + path, content=body)
        assert answer.status_code == status


@pytest.mark.parametrize("field", ["additionalProperties", "$schema"])
async def test_gemini_knows_a_subset_of_schemas(
    server: ModelsServer, client: httpx.AsyncClient, field: str
) -> None:
    """A tool whose schema has a word that Gemini does not know is refused with its name."""
    schema = {"type": "object", "properties": {"a": {"type": "string", field: False}}}
    tools = [{"function_declarations": [{"name": "t", "parameters": schema}]}]
    answer = await client.post(server.url + PATHS["gemini"], json=BODIES["gemini"] | {"tools": tools})
    assert answer.status_code == (200 if field == "additionalProperties" else 400)
    assert field == "additionalProperties" or f'Unknown name "{field}"' in answer.json()["error"]["message"]


async def test_control_sets_the_script_and_shows_the_log(client: httpx.AsyncClient) -> None:
    """What Python can do HTTP can do too."""
    async with models() as server:
        url = f"{server.url}/control"
        script = {"behaviours": [{"words": "在", "pieces": ["好"], "times": 1}]}
        assert (await client.put(f"{url}/script", json=script)).json() == {"used": [0]}
        assert (await client.post(f"{url}/script", json=script)).json() == {"used": [0, 0]}
        assert text_of((await ask(client, server)).text) == "好"
        assert (await client.get(f"{url}/script")).json() == {"used": [1, 0]}
        bad = await client.put(f"{url}/script", json={"behaviours": [{"odd": 1}]})
        assert (bad.status_code, bad.json()) == (400, {"error": "behaviours[0].odd: is no field"})
        assert (await client.put(f"{url}/script", content=b"{")).status_code == 400
        assert (await client.delete(f"{url}/script")).json() == {"used": []}
        await ask(client, server)
        shown = (await client.get(f"{url}/log")).json()
        assert (shown["total"], shown["peak"], len(shown["calls"])) == (2, 1, 2)
        assert shown["calls"][0]["pieces"] == 1
        assert (await client.get(f"{url}/log?model=other")).json()["calls"] == []
        await client.delete(f"{url}/log")
        assert (await client.get(f"{url}/log")).json()["calls"] == []
        assert "PUT /control/script" in (await client.get(url)).text


async def test_control_is_guarded_elsewhere(client: httpx.AsyncClient) -> None:
    """On another address than loopback it needs a token, which the doors do not."""
    with pytest.raises(InvalidArgument):
        ModelsServer("0.0.0.0")  # noqa: S104
    async with models(control_token="control") as server:
        assert (await client.get(f"{server.url}/control/log")).status_code == 401
        token = {"Authorization": "Bearer control"}
        assert (await client.get(f"{server.url}/control/log", headers=token)).status_code == 200
        assert (await ask(client, server)).status_code == 200


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("model", ["bench-50", "bench-50x20"])
async def test_benches_get_the_same_answers(
    server: ModelsServer, client: httpx.AsyncClient, door: str, model: str
) -> None:
    """The fast path streams as many pieces as the other port, in every vendor's format, again and again."""
    path, body = PATHS[door].replace("/m:", f"/{model}:"), BODIES[door] | {"model": model, "max_tokens": 60}
    if door == "gemini":
        body = BODIES[door]
    slow = await client.post(server.url + path, json=body)
    fast = [await client.post(server.bench_url + path, json=body) for _ in range(3)]
    assert {each.status_code for each in fast} == {slow.status_code} == {200}
    assert {each.headers["content-type"] for each in fast} == {slow.headers["content-type"]}
    assert {len(events_of(each.text)) for each in fast} == {len(events_of(slow.text))}
    assert len(events_of(slow.text)) > 50
    assert fast[0].text.count("你好吗。") == slow.text.count("你好吗。") == 50
    assert (server.bench.counts.answers, server.bench.counts.connections) == (3, 1)


async def test_benches_get_whole_answers_too(server: ModelsServer, client: httpx.AsyncClient) -> None:
    """An answer that is not streamed, and vectors, are the ones of the other port."""
    embed = {"model": "e", "input": "手机"}
    plain = BODIES["openai"] | {"stream": False}
    for path, body in (("/v1/chat/completions", plain), ("/v1/embeddings", embed)):
        slow, fast = [
            (await client.post(url + path, json=body)).json() for url in (server.url, server.bench_url)
        ]
        for answer in (slow, fast):
            answer.pop("id", None)
            answer.pop("created", None)
        assert slow == fast


async def test_fast_path_cuts_requests_from_any_reads(server: ModelsServer) -> None:
    """Requests byte by byte, and two in one read, are answered in turn; an endless head closes."""
    body = json.dumps(BODIES["openai"] | {"stream": False}).encode()
    request = b"POST /v1/chat/completions HTTP/1.1\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)
    host, port = server.bench_url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    for at in range(len(request)):
        writer.write(request[at : at + 1])
        await asyncio.sleep(0)
    writer.write(request * 2)
    for _ in range(3):
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 OK\r\n")
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        assert json.loads(await reader.readexactly(length))["object"] == "chat.completion"
    writer.write(b"x" * 100_000)
    with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
        await reader.readexactly(1)
    writer.close()


async def test_fast_path_counts_who_leaves(server: ModelsServer) -> None:
    """A client that leaves between two writes is counted."""
    async with aiohttp.ClientSession() as session:
        body = BODIES["openai"] | {"model": "bench-9999x1"}
        answer = await session.post(server.bench_url + PATHS["openai"], json=body)
        await answer.content.readany()
        answer.close()
        await until(lambda: server.bench.counts.left == 1)
    assert server.bench.counts.answers == 0


async def test_program_prints_where_it_listens(client: httpx.AsyncClient, tmp_path: Path) -> None:
    """`frontdesk simulate models` serves a script until it is told to end."""
    script = tmp_path / "script.json"
    script.write_text(json.dumps({"behaviours": [{"pieces": ["好"]}]}))
    words = ("-m", "frontdesk", "simulate", "models", "--key", KEY, "--script", str(script))
    program = await asyncio.create_subprocess_exec(sys.executable, *words, stdout=asyncio.subprocess.PIPE)
    try:
        assert program.stdout is not None
        where = json.loads(await program.stdout.readline())
        answer = await client.post(where["url"] + PATHS["openai"], json=BODIES["openai"])
        assert text_of(answer.text) == "好"
        wrong = await client.post(
            where["url"] + PATHS["openai"], json=BODIES["openai"], headers={"Authorization": "Bearer other"}
        )
        assert wrong.status_code == 401
        fast = await client.post(where["bench_url"] + PATHS["openai"], json=BODIES["openai"])
        assert "在吗" in text_of(fast.text)
    finally:
        program.terminate()
        assert await program.wait() == 0
