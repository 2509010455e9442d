"""The simulated models against the vendors' own clients, unmodified."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from frontdesk.simulators.models.script import Behaviour, Fault, Tokens, ToolSaid
from frontdesk.simulators.models.server import ModelsServer
from support.models import KEY, anthropic_client, gemini_client, models, openai_client

ASK: Any = [{"role": "user", "content": "手机还在吗"}]
SCHEMA = {"type": "object", "properties": {"item": {"type": "string"}}, "required": ["item"]}
ARGUMENTS = '{"item": "手机", "note": "九成新"}'
its_session = pytest.mark.filterwarnings("ignore:Inheritance class AiohttpClientSession:DeprecationWarning")
CALL = Behaviour(words="查价", tool_calls=(ToolSaid("price", ARGUMENTS),))


@pytest.fixture
async def server() -> AsyncIterator[ModelsServer]:
    """All vendors on a free port."""
    async with models() as running:
        yield running


async def test_openai_answers(server: ModelsServer) -> None:
    """A plain answer names what was asked and says what it used."""
    async with openai_client(server.url) as client:
        answer = await client.chat.completions.create(model="chat", messages=ASK, temperature=0.5)
        listed = [model.id async for model in client.models.list()]
    assert "手机还在吗" in answer.choices[0].message.content
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens > 0
    assert listed == ["chat", "reasoner", "embedding"]
    call = server.log.of("chat")[0]
    assert (call.door, call.path, call.status, call.whole) == ("openai", "/v1/chat/completions", 200, True)
    assert [(turn.role, turn.text) for turn in call.turns] == [("user", "手机还在吗")]
    assert call.options == {"temperature": 0.5}
    assert KEY not in json.dumps(server.log.as_json())
    assert call.key == f"…{KEY[-4:]}"


async def test_openai_streams_what_it_answers(server: ModelsServer) -> None:
    """Pieces join to the answer; the usage comes last, without choices, and only when it was asked for."""
    async with openai_client(server.url) as client:
        whole = await client.chat.completions.create(model="chat", messages=ASK)
        asked = {"model": "chat", "messages": ASK, "stream": True}
        with_usage = await client.chat.completions.create(**asked, stream_options={"include_usage": True})
        *chunks, last = [chunk async for chunk in with_usage]
        plain = [chunk async for chunk in await client.chat.completions.create(**asked)]
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert text == whole.choices[0].message.content
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert last.choices == []
    assert last.usage == whole.usage
    assert all(chunk.usage is None for chunk in [*chunks, *plain])
    assert all(chunk.choices for chunk in plain)


async def test_openai_calls_tools(server: ModelsServer) -> None:
    """Only the first piece of a call has id and name; the answer to a call nobody made is refused."""
    from openai import BadRequestError

    tools: Any = [{"type": "function", "function": {"name": "price", "parameters": SCHEMA}}]
    ask: Any = [{"role": "user", "content": "查价"}]
    server.script.add(CALL)
    async with openai_client(server.url) as client:
        whole = await client.chat.completions.create(model="chat", messages=ask, tools=tools)
        stream = await client.chat.completions.create(model="chat", messages=ask, tools=tools, stream=True)
        pieces = [call async for chunk in stream for call in chunk.choices[0].delta.tool_calls or ()]
        message = whole.choices[0].message
        told = {"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": "1999"}
        said = message.model_dump(exclude_none=True)
        answer = await client.chat.completions.create(model="chat", messages=[*ask, said, told], tools=tools)
        with pytest.raises(BadRequestError) as caught:
            await client.chat.completions.create(model="chat", messages=[*ask, told], tools=tools)
    assert whole.choices[0].finish_reason == "tool_calls"
    assert message.tool_calls[0].function.arguments == ARGUMENTS
    assert (pieces[0].id, pieces[0].function.name) == (message.tool_calls[0].id, "price")
    assert len(pieces) > 2
    assert "".join(piece.function.arguments for piece in pieces) == ARGUMENTS
    assert all(piece.id is None and piece.function.name is None for piece in pieces[1:])
    assert answer.choices[0].message.tool_calls is not None
    assert caught.value.type == "invalid_request_error"
    assert server.log.calls[2].turns[-1].text == "1999"


async def test_openai_thinks_and_keeps_formats(server: ModelsServer) -> None:
    """`reasoning_content` comes as DeepSeek writes it; JSON is promised only where the prompt names it."""
    from openai import BadRequestError

    server.script.add(Behaviour(model="reasoner", reasoning=("想", "想"), text="答"))
    schema: Any = {"type": "json_schema", "json_schema": {"name": "s", "schema": SCHEMA}}
    loose: Any = {"type": "json_object"}
    async with openai_client(server.url) as client:
        whole = await client.chat.completions.create(model="reasoner", messages=ASK)
        stream = await client.chat.completions.create(model="reasoner", messages=ASK, stream=True)
        deltas = [chunk.choices[0].delta async for chunk in stream]
        shaped = await client.chat.completions.create(model="chat", messages=ASK, response_format=schema)
        with pytest.raises(BadRequestError, match="json"):
            await client.chat.completions.create(model="chat", messages=ASK, response_format=loose)
    assert whole.choices[0].message.reasoning_content == "想想"
    assert whole.usage.completion_tokens_details.reasoning_tokens == 2
    assert [getattr(delta, "reasoning_content", None) for delta in deltas] == [None, "想", "想", None, None]
    assert "".join(delta.content or "" for delta in deltas) == "答"
    assert set(json.loads(shaped.choices[0].message.content)) == {"item"}


async def test_openai_embeds(server: ModelsServer) -> None:
    """Floats and base64, which the client asks for by itself, are the same vectors."""
    async with openai_client(server.url) as client:
        packed = await client.embeddings.create(model="embedding", input=["手机", "车"], dimensions=8)
        plain = await client.embeddings.create(
            model="embedding", input=["手机", "车"], dimensions=8, encoding_format="float"
        )
    assert [call.kind for call in server.log.calls] == ["embed", "embed"]
    for left, right in zip(packed.data, plain.data, strict=True):
        assert left.embedding == pytest.approx(right.embedding)
        assert len(left.embedding) == 8
    assert packed.usage.total_tokens == plain.usage.total_tokens > 0


async def test_openai_refuses() -> None:
    """Each error is of the class that the client has for it, with code and headers."""
    from openai import AuthenticationError, InternalServerError, NotFoundError, RateLimitError

    async with models(keys=(KEY,)) as server:
        server.script.add(
            Behaviour(model="busy", fault=Fault("status", status=429, headers={"Retry-After": "7"})),
            Behaviour(model="gone", fault=Fault("status", status=404)),
            Behaviour(model="page", fault=Fault("html", status=502)),
        )
        async with openai_client(server.url, "sk-wrong-0123456789") as client:
            with pytest.raises(AuthenticationError) as wrong:
                await client.chat.completions.create(model="chat", messages=ASK)
        async with openai_client(server.url) as client:
            with pytest.raises(RateLimitError) as busy:
                await client.chat.completions.create(model="busy", messages=ASK)
            with pytest.raises(NotFoundError) as gone:
                await client.chat.completions.create(model="gone", messages=ASK)
            with pytest.raises(InternalServerError) as page:
                await client.chat.completions.create(model="page", messages=ASK)
    assert wrong.value.code == "invalid_api_key"
    assert (busy.value.code, busy.value.response.headers["retry-after"]) == ("rate_limit_exceeded", "7")
    assert gone.value.code == "model_not_found"
    assert "gone" in gone.value.message
    assert "nginx" in page.value.response.text


async def test_anthropic_answers_and_streams(server: ModelsServer) -> None:
    """Thoughts, text and tools are blocks; the stream joins to the answer, and usage leaves out the cache."""
    server.script.add(
        Behaviour(
            words="查价",
            reasoning=("想", "想"),
            pieces=("稍", "等"),
            tool_calls=(ToolSaid("price", ARGUMENTS),),
            usage=Tokens(10, 5, cached=4),
        )
    )
    asked: Any = {
        "model": "claude",
        "max_tokens": 100,
        "system": "你是店主",
        "tools": [{"name": "price", "input_schema": SCHEMA}],
        "messages": [{"role": "user", "content": "查价"}],
    }
    async with anthropic_client(server.url) as client:
        whole = await client.messages.create(**asked)
        async with client.messages.stream(**asked) as stream:
            kinds = [event.type async for event in stream]
            joined = await stream.get_final_message()
        result = {"type": "tool_result", "tool_use_id": whole.content[2].id, "content": "1999"}
        asked["messages"] += [
            {
                "role": "assistant",
                "content": [block.model_dump(exclude_none=True) for block in whole.content],
            },
            {"role": "user", "content": [result]},
        ]
        await client.messages.create(**asked)
        listed = [model.id async for model in client.models.list()]
    assert [block.type for block in whole.content] == ["thinking", "text", "tool_use"]
    assert whole.content[1].text == "稍等"
    assert whole.content[2].input == json.loads(ARGUMENTS)
    assert (whole.stop_reason, whole.usage.input_tokens) == ("tool_use", 6)
    assert (whole.usage.cache_read_input_tokens, whole.usage.output_tokens) == (4, 5)
    assert [block.to_dict() for block in joined.content] == [block.to_dict() for block in whole.content]
    assert (joined.stop_reason, joined.usage) == (whole.stop_reason, whole.usage)
    assert kinds[0] == "message_start"
    assert kinds[-2:] == ["message_delta", "message_stop"]
    assert listed == ["chat", "reasoner", "embedding"]
    assert [turn.role for turn in server.log.of("claude")[0].turns] == ["system", "user"]


async def test_anthropic_refuses(server: ModelsServer) -> None:
    """Overload is 529 before the stream and an event in it; a tool result without a call is refused."""
    from anthropic import APIStatusError, AuthenticationError, BadRequestError

    server.script.add(
        Behaviour(model="busy", fault=Fault("status", status=529)),
        Behaviour(model="breaks", fault=Fault("error", after=2, status=529)),
    )
    async with anthropic_client(server.url) as client:
        with pytest.raises(APIStatusError) as busy:
            await client.messages.create(model="busy", max_tokens=9, messages=ASK)
        with pytest.raises(APIStatusError) as broken:
            async with client.messages.stream(model="breaks", max_tokens=9, messages=ASK) as stream:
                texts = [text async for text in stream.text_stream]
                assert texts == ["never reached"]
        orphan = [{"role": "user", "content": [{"type": "tool_result", "tool_use_id": "x", "content": "1"}]}]
        for messages in (orphan, [{"role": "user", "content": ""}], [{"role": "system", "content": "x"}]):
            with pytest.raises(BadRequestError):
                await client.messages.create(model="claude", max_tokens=9, messages=messages)
    assert (busy.value.status_code, busy.value.type) == (529, "overloaded_error")
    assert broken.value.type == "overloaded_error"
    assert server.log.of("breaks")[0].pieces == 2
    async with models(keys=(KEY,)) as strict, anthropic_client(strict.url, "sk-wrong-0123456789") as client:
        with pytest.raises(AuthenticationError):
            await client.messages.create(model="claude", max_tokens=9, messages=ASK)


@its_session
async def test_gemini_answers_and_streams(server: ModelsServer) -> None:
    """A stream joins to the answer, a tool call comes whole, thoughts are counted apart."""
    server.script.add(
        Behaviour(model="thinks", reasoning=("想",), pieces=("稍", "等"), usage=Tokens(10, 5, 4, 1)), CALL
    )
    async with gemini_client(server.url) as client:
        whole = await client.models.generate_content(model="thinks", contents="在吗")
        stream = await client.models.generate_content_stream(model="thinks", contents="在吗")
        chunks = [chunk async for chunk in stream]
        config: Any = {"tools": [{"function_declarations": [{"name": "price", "parameters": SCHEMA}]}]}
        called = await client.models.generate_content(model="g", contents="查价", config=config)
        stream = await client.models.generate_content_stream(model="g", contents="查价", config=config)
        calls = [call async for chunk in stream for call in chunk.function_calls or ()]
        vectors = await client.models.embed_content(model="e", contents=["手机", "车"])
    usage = whole.usage_metadata
    assert whole.text == "".join(chunk.text or "" for chunk in chunks) == "稍等"
    assert (usage.prompt_token_count, usage.cached_content_token_count) == (10, 4)
    assert (usage.candidates_token_count, usage.thoughts_token_count, usage.total_token_count) == (4, 1, 15)
    assert chunks[-1].usage_metadata == usage
    assert [chunk.candidates[0].finish_reason for chunk in chunks[:-1]] == [None] * 3
    assert chunks[-1].candidates[0].finish_reason.name == "STOP"
    assert [call.args for call in calls] == [json.loads(ARGUMENTS)] == [called.function_calls[0].args]
    assert len(vectors.embeddings) == 2


@its_session
async def test_gemini_refuses(server: ModelsServer) -> None:
    """A blocked prompt has no candidates; an error has a status, and with a delay a RetryInfo."""
    from google.genai.errors import ClientError, ServerError

    server.script.add(
        Behaviour(model="blocks", blocked=True),
        Behaviour(model="busy", fault=Fault("status", status=429, headers={"Retry-After": "7"})),
        Behaviour(model="breaks", fault=Fault("error", after=1, status=503)),
    )
    async with gemini_client(server.url) as client:
        blocked = await client.models.generate_content(model="blocks", contents="在吗")
        with pytest.raises(ClientError) as busy:
            await client.models.generate_content(model="busy", contents="在吗")
        with pytest.raises(ServerError):
            async for _ in await client.models.generate_content_stream(model="breaks", contents="在吗"):
                pass
    assert blocked.candidates is None
    assert blocked.prompt_feedback.block_reason.name == "PROHIBITED_CONTENT"
    assert (busy.value.code, busy.value.status) == (429, "RESOURCE_EXHAUSTED")
    assert busy.value.details["error"]["details"][0]["retryDelay"] == "7s"
    async with models(keys=(KEY,)) as strict, gemini_client(strict.url, "wrong-0123456789") as client:
        with pytest.raises(ClientError, match="API key not valid"):
            await client.models.generate_content(model="g", contents="在吗")


async def test_dashscope_answers_and_streams(server: ModelsServer) -> None:
    """Events repeat all so far, or tell only what is new; both end with the answer and its usage."""
    server.script.add(CALL)
    whole = (await dashscope(server, messages=ASK))[0]
    cumulative = await dashscope(server, messages=ASK, stream=True)
    increments = await dashscope(server, messages=ASK, stream=True, incremental_output=True)
    tools = [{"type": "function", "function": {"name": "price", "parameters": SCHEMA}}]
    called = await dashscope(server, messages=[{"role": "user", "content": "查价"}], tools=tools, stream=True)
    text = whole.output.choices[0].message.content
    assert "手机还在吗" in text
    assert all(text.startswith(each.output.choices[0].message.content) for each in cumulative)
    assert cumulative[-1].output.choices[0].message.content == text
    assert "".join(each.output.choices[0].message.content for each in increments) == text
    for events in (cumulative, increments):
        reasons = [each.output.choices[0].finish_reason for each in events]
        assert reasons == ["null"] * (len(events) - 1) + ["stop"]
        assert events[-1].usage == whole.usage
    assert called[-1].output.choices[0].message.tool_calls[0]["function"]["arguments"] == ARGUMENTS
    assert called[-1].output.choices[0].finish_reason == "tool_calls"


async def test_dashscope_refuses(server: ModelsServer) -> None:
    """Errors have code, message and request_id, in a body, in an event before the stream or in it."""
    server.script.add(
        Behaviour(model="busy", fault=Fault("status", status=429)),
        Behaviour(model="breaks", fault=Fault("error", after=2)),
        Behaviour(model="blocks", blocked=True),
    )
    for stream in (False, True):
        busy = (await dashscope(server, model="busy", messages=ASK, stream=stream))[-1]
        assert (busy.status_code, busy.code) == (429, "Throttling.RateQuota")
        blocked = (await dashscope(server, model="blocks", messages=ASK, stream=stream))[-1]
        assert (blocked.status_code, blocked.code) == (400, "DataInspectionFailed")
    *fine, broken = await dashscope(server, model="breaks", messages=ASK, stream=True)
    assert [each.status_code for each in fine] == [200, 200]
    assert (broken.status_code, broken.code) == (400, "InternalError")  # the client reads no HTTP_STATUS
    async with models(keys=(KEY,)) as strict:
        wrong = (await dashscope(strict, messages=ASK, key="sk-wrong-0123456789"))[0]
    assert (wrong.status_code, wrong.code) == (401, "InvalidApiKey")


async def test_dashscope_writes_events_as_documented(server: ModelsServer) -> None:
    """`id`, `event`, a comment with the status, `data` without a space; a chunk may be an `error` (AI-06)."""
    server.script.add(Behaviour(pieces=("a", "b"), fault=Fault("error_chunk", after=1, message="坏了")))
    async with httpx.AsyncClient() as client:
        answer = await client.post(
            f"{server.url}/api/v1/services/aigc/text-generation/generation",
            headers={"Authorization": f"Bearer {KEY}", "X-DashScope-SSE": "enable"},
            json={
                "model": "qwen",
                "input": {"messages": ASK},
                "parameters": {"result_format": "message"},
            },
        )
    first, second, rest = answer.text.split("\n\n")
    assert first.split("\n")[:3] == ["id:1", "event:result", ":HTTP_STATUS/200"]
    chunk = json.loads(first.split("\n")[3].removeprefix("data:"))
    assert chunk["output"]["choices"] == [
        {"message": {"role": "assistant", "content": "a"}, "finish_reason": "null"}
    ]
    assert json.loads(second.removeprefix("data: "))["error"]["message"] == "坏了"
    assert rest == ""


async def test_dashscope_embeds(server: ModelsServer) -> None:
    """A vector a text, in order."""

    def embed(session: Any) -> Any:
        from dashscope import TextEmbedding

        return TextEmbedding.call(
            "e",
            ["手机", "车"],
            dimension=8,
            api_key=KEY,
            base_address=f"{server.url}/api/v1",
            session=session,
        )

    answer = await asyncio.to_thread(_in_session, embed)
    assert [len(each["embedding"]) for each in answer.output["embeddings"]] == [8, 8]
    assert answer.usage["total_tokens"] > 0


async def dashscope(server: ModelsServer, *, model: str = "some", key: str = KEY, **asked: Any) -> list[Any]:
    """What Alibaba's own client makes of a call: one answer, or those of a stream."""

    def call(session: Any) -> list[Any]:
        from dashscope import Generation

        answer: Any = Generation.call(
            model,
            api_key=key,
            result_format="message",
            base_address=f"{server.url}/api/v1",
            session=session,
            **asked,
        )
        return list(answer) if asked.get("stream") else [answer]

    found: list[Any] = await asyncio.to_thread(_in_session, call)
    return found


def _in_session(call: Any) -> Any:
    import requests

    with requests.Session() as session:
        return call(session)
