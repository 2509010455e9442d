"""`/v1` as its users have it: the official SDKs of Python and Node, unmodified, against the real service."""

from __future__ import annotations

import asyncio
import io
import json
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import openai
import pytest

from frontdesk.kit.nats_server import NatsServer
from frontdesk.kit.tokens import Role
from frontdesk.simulators.models.script import Behaviour, Fault, Tokens, ToolSaid
from support.ai_proxy import ORGANIZATION, AiBench
from support.upstreams import add_provider
from support.waiting import until

ASK: Any = [{"role": "user", "content": "还在吗"}]
NODE = Path(__file__).parent.parent / "node"


@pytest.fixture
async def ai(nats_server: NatsServer, tmp_path: Path) -> AsyncIterator[AiBench]:
    """One ai-proxy with a provider of three models."""
    bench = AiBench(
        nats_server,
        f"sqlite:///{tmp_path}/ai.db",
        FRONTDESK_AI_WRITE_SECONDS="1",
        FRONTDESK_AI_REQUEST_MEGABYTES="2",
        FRONTDESK_AI_REQUESTS_MEGABYTES="24",
    )
    await bench.start()
    for model in ("default", "breaks", "embedding"):
        await add_provider(
            bench.channel,
            ORGANIZATION,
            bench.models.url,
            f"{model}-upstream",
            name=model,
            model=model,
            embeds=model == "embedding",
        )
    yield bench
    await bench.stop()


@pytest.fixture
async def sdk(ai: AiBench) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=ai.url, api_key=ai.key(), max_retries=0) as client:
        yield client


async def test_a_whole_answer(ai: AiBench, sdk: openai.AsyncOpenAI) -> None:
    """Text, reason and the provider's usage."""
    ai.models.script.add(Behaviour(text="在的，亲。", usage=Tokens(12, 5, 4)))
    answer = await sdk.chat.completions.create(model="default", messages=ASK, temperature=0, max_tokens=50)
    assert answer.choices[0].message.content == "在的，亲。"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (12, 5)
    call = ai.models.log.of("default-upstream")[0]
    assert (call.max_tokens, call.options["temperature"], call.stream) == (50, 0, False)


async def test_a_streamed_answer(ai: AiBench, sdk: openai.AsyncOpenAI) -> None:
    """Pieces as they come, then reason and usage."""
    ai.models.script.add(Behaviour(pieces=("在", "的", "。"), between_ms=5, usage=Tokens(12, 3)))
    stream = await sdk.chat.completions.create(
        model="default", messages=ASK, stream=True, stream_options={"include_usage": True}
    )
    chunks = [chunk async for chunk in stream]
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == "在的。"
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "stop"
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.total_tokens == 15


async def test_tools(ai: AiBench, sdk: openai.AsyncOpenAI) -> None:
    """A call of a tool, whole and streamed, and what the tool returned goes back up."""
    ai.models.script.add(Behaviour(tool_calls=(ToolSaid("stock", '{"item": "灯"}', "c1"),)))
    tools: Any = [{"type": "function", "function": {"name": "stock", "parameters": {"type": "object"}}}]
    whole = await sdk.chat.completions.create(model="default", messages=ASK, tools=tools)
    calls = whole.choices[0].message.tool_calls
    assert calls is not None
    assert calls[0].type == "function"
    assert (calls[0].id, calls[0].function.arguments) == ("c1", '{"item": "灯"}')
    assert whole.choices[0].finish_reason == "tool_calls"
    stream = await sdk.chat.completions.create(model="default", messages=ASK, tools=tools, stream=True)
    pieces = [c.choices[0].delta.tool_calls async for c in stream if c.choices]
    assert "".join(p[0].function.arguments or "" for p in pieces if p and p[0].function) == '{"item": "灯"}'
    ai.models.script.clear()
    back: Any = [
        *ASK,
        {
            "role": "assistant",
            "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "stock", "arguments": "{}"}}
            ],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "3"},
    ]
    await sdk.chat.completions.create(model="default", messages=back, tools=tools)
    assert [turn.role for turn in ai.models.log.of("default-upstream")[-1].turns][-1] == "tool"


async def test_models_and_embeddings(sdk: openai.AsyncOpenAI) -> None:
    """Names as the providers have them; vectors in order."""
    assert [model.id async for model in sdk.models.list()] == ["breaks", "default", "embedding", "offline"]
    assert (await sdk.models.retrieve("default")).owned_by == "default"
    found = await sdk.embeddings.create(model="embedding", input=["a", "b"])
    assert [entry.index for entry in found.data] == [0, 1]
    assert found.data[0].embedding != found.data[1].embedding


async def test_errors_are_the_sdks_own(ai: AiBench, sdk: openai.AsyncOpenAI) -> None:
    """Each problem as the class that the SDK's users catch."""
    with pytest.raises(openai.NotFoundError) as missing:
        await sdk.chat.completions.create(model="nobody-has-this", messages=ASK)
    assert missing.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError) as wrong:
        await sdk.chat.completions.create(model="default", messages=ASK, temperature=9)
    assert wrong.value.param == "temperature"
    with pytest.raises(openai.AuthenticationError):
        await sdk.with_options(api_key="sk-wrong").chat.completions.create(model="default", messages=ASK)
    with pytest.raises(openai.PermissionDeniedError):
        viewer = sdk.with_options(api_key=ai.key(role=Role.viewer))
        await viewer.chat.completions.create(model="default", messages=ASK)
    limited = Fault("status", -1, 429, {"retry-after": "7"})
    ai.models.script.add(Behaviour(fault=limited))
    with pytest.raises(openai.RateLimitError) as slow:
        await sdk.chat.completions.create(model="default", messages=ASK)
    assert slow.value.response.headers["retry-after"] == "7"


@pytest.mark.parametrize(
    ("method", "path", "size", "status", "code"),
    [
        ("GET", "/chat/complete", 0, 404, "unknown_url"),
        ("GET", "/chat/completions", 0, 405, "method_not_supported"),
        ("POST", "/models/default", 0, 405, "method_not_supported"),
        ("POST", "/chat/completions", 2 * 1024 * 1024 + 1, 413, "request_too_large"),
    ],
)
async def test_what_no_path_takes_has_openais_shape(
    ai: AiBench, method: str, path: str, size: int, status: int, code: str
) -> None:
    """Wrong addresses, methods and sizes too: whoever wrote the caller reads one kind of error."""
    headers = {"authorization": f"Bearer {ai.key()}"}
    async with (
        aiohttp.ClientSession(headers=headers) as http,
        http.request(method, f"{ai.url}{path}", data=io.BytesIO(b"x" * size)) as answer,
    ):
        found = await answer.json()
        assert answer.headers["x-should-retry"] == "false"
    assert (answer.status, found["error"]["code"], found["error"]["type"]) == (
        status,
        code,
        "invalid_request_error",
    )
    assert found["error"]["message"]


async def test_our_own_fault_has_openais_shape(
    ai: AiBench, sdk: openai.AsyncOpenAI, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And says nothing of what happened inside."""

    async def broken(*_: object) -> None:
        raise RuntimeError("secret detail")

    monkeypatch.setattr(ai.proxies[0].completions, "models", broken)
    with pytest.raises(openai.InternalServerError) as failed:
        await sdk.models.list()
    assert failed.value.code == "internal"
    assert "secret" not in failed.value.message


PICTURE: Any = [
    {
        "role": "user",
        "content": [
            {"type": "image_url", "image_url": {"url": "data:image/jpeg;base64," + "QUJD" * 300_000}}
        ],
    }
]


async def test_pictures_in_questions(ai: AiBench, sdk: openai.AsyncOpenAI) -> None:
    """A photograph is larger than the bodies that other doors take; more of them at once than there is
    memory for are asked to come again, and small questions go on meanwhile."""
    ai.models.script.add(Behaviour(first_ms=200))
    sdk = sdk.with_options(max_retries=0)

    async def ask(messages: Any) -> Any:
        return await sdk.chat.completions.create(model="default", messages=messages)

    answers = await asyncio.gather(*(ask(PICTURE) for _ in range(3)), ask(ASK), return_exceptions=True)
    refused = [answer for answer in answers if isinstance(answer, openai.RateLimitError)]
    assert len(refused) == 1
    assert "large" in refused[0].message
    assert ai.models.log.total == 3
    assert (await ask(PICTURE)).choices[0].message.content


async def test_a_question_that_does_not_come_is_not_waited_for(ai: AiBench) -> None:
    """Half a body and then nothing: the caller hears it, and the connection is free."""
    host, port = "127.0.0.1", int(ai.url.split(":")[2].split("/")[0])
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(
        f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {ai.key()}\r\n"
        'content-length: 100\r\n\r\n{"model":'.encode()
    )
    async with asyncio.timeout(10):
        head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 408")
    writer.close()


async def test_a_stream_that_breaks_off_raises(ai: AiBench, sdk: openai.AsyncOpenAI) -> None:
    """After the first piece there is no status any more: the SDK raises, and never sees a clean end."""
    ai.models.script.add(Behaviour(pieces=("在", "的", "。"), between_ms=5, fault=Fault("reset", after=2)))
    stream = await sdk.chat.completions.create(model="breaks", messages=ASK, stream=True)
    said = ""
    with pytest.raises(openai.APIError) as broken:
        async for chunk in stream:
            said += chunk.choices[0].delta.content or ""
    assert said == "在的"
    assert broken.value.body == {**_body(broken), "partial_text": "在的", "retryable": True}


def _body(broken: pytest.ExceptionInfo[openai.APIError]) -> dict[str, Any]:
    assert isinstance(broken.value.body, dict)
    return broken.value.body


async def test_another_organization_sees_nothing(ai: AiBench, sdk: openai.AsyncOpenAI) -> None:
    """Its models are its own; without a provider `offline` answers and says its name."""
    stranger = sdk.with_options(api_key=ai.key("other"))
    assert [model.id async for model in stranger.models.list()] == ["default", "offline"]
    answer = await stranger.chat.completions.create(model="default", messages=ASK)
    assert answer.choices[0].message.content
    assert ai.models.log.total == 0


@pytest.mark.parametrize("stream", [False, True])
async def test_a_caller_that_leaves_stops_the_provider(ai: AiBench, stream: bool) -> None:
    """The connection upstream is closed, and what was said until then is in the spend log."""
    ai.models.script.add(Behaviour(pieces=("在",) * 200, first_ms=50, between_ms=20))
    body = {"model": "default", "messages": ASK, "stream": stream}
    headers = {"authorization": f"Bearer {ai.key()}"}
    async with aiohttp.ClientSession() as http:
        work = asyncio.ensure_future(_read_some(http, f"{ai.url}/chat/completions", body, headers))
        await until(lambda: bool(ai.models.log.total and (not stream or ai.models.log.calls[0].pieces)))
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)
        await until(lambda: bool(ai.models.log.cancelled))
    assert ai.models.log.calls[0].pieces < 200


async def _read_some(
    http: aiohttp.ClientSession, url: str, body: dict[str, Any], headers: dict[str, str]
) -> None:
    async with http.post(url, json=body, headers=headers) as response:
        async for _ in response.content.iter_any():
            pass


async def test_a_caller_that_reads_nothing_is_cut_off(ai: AiBench) -> None:
    """Its answer does not pile up: after a while the provider is stopped, and others go on meanwhile."""
    ai.models.script.add(
        Behaviour(words="much", pieces=("x" * 16_000,) * 2_000), Behaviour(words="little", text="ok")
    )
    reader, writer = await asyncio.open_connection("127.0.0.1", int(ai.url.split(":")[2].split("/")[0]))
    body = json.dumps({"model": "default", "stream": True, "messages": [{"role": "user", "content": "much"}]})
    writer.write(
        f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {ai.key()}\r\n"
        f"content-length: {len(body)}\r\n\r\n{body}".encode()
    )
    await until(lambda: bool(ai.models.log.total))
    async with openai.AsyncOpenAI(base_url=ai.url, api_key=ai.key(), max_retries=0) as other:
        little: Any = [{"role": "user", "content": "little"}]
        answer = await other.chat.completions.create(model="default", messages=little)
    assert answer.choices[0].message.content == "ok"
    await until(lambda: bool(ai.models.log.cancelled))
    writer.close()
    assert reader is not None


@pytest.mark.skipif(shutil.which("node") is None, reason="there is no node here")
async def test_the_sdk_of_node(ai: AiBench, tmp_path: Path) -> None:
    """The same, in the other language that the SDK is official in."""
    ai.models.script.add(
        Behaviour(model="breaks-upstream", pieces=("在", "的"), between_ms=5, fault=Fault("reset", after=1)),
        Behaviour(text="在的。", usage=Tokens(12, 3)),
    )
    for name in ("package.json", "package-lock.json", "openai.mjs"):
        shutil.copy(NODE / name, tmp_path / name)
    await _run("npm", "ci", "--no-audit", "--no-fund", "--silent", folder=tmp_path)
    said = await _run("node", "openai.mjs", ai.url, ai.key(), folder=tmp_path)
    found = json.loads(said)
    assert found["models"] == ["breaks", "default", "embedding", "offline"]
    assert found["whole"] == {"text": "在的。", "usage": 15}
    assert found["streamed"] == {"text": "在的。", "finish": "stop", "usage": 15}
    assert len(found["embeddings"]) == 2
    assert found["unknownModel"] == {"kind": "NotFoundError", "status": 404, "code": "model_not_found"}
    assert found["badField"]["kind"] == "BadRequestError"
    assert found["wrongKey"]["kind"] == "AuthenticationError"
    assert found["brokenOff"]["kind"] == "APIError"


async def _run(*words: str, folder: Path) -> str:
    process = await asyncio.create_subprocess_exec(
        *words, cwd=folder, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    output, problems = await process.communicate()
    assert process.returncode == 0, problems.decode()
    return output.decode()
