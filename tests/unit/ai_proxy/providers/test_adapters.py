"""How a prompt looks in each kind of API, and what adapters learn from refusals."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace
from typing import Any

import orjson
import pytest

from frontdesk.ai_proxy.errors import UpstreamRefused, UpstreamUnavailable
from frontdesk.ai_proxy.model import (
    Delta,
    Finish,
    FinishReason,
    Model,
    ModelMessage,
    Piece,
    Prompt,
    Provider,
    Role,
    Tool,
    ToolCall,
)
from frontdesk.ai_proxy.providers.adapter import Memory, collected
from frontdesk.ai_proxy.providers.dashscope import DashScope
from frontdesk.ai_proxy.providers.failures import Call
from frontdesk.ai_proxy.providers.http import ProviderHttp
from frontdesk.ai_proxy.providers.kinds import KINDS
from support.provider_streams import sse
from support.providers import ASKED, KEY, MODEL, provider, text_of

PIXEL = "data:image/png;base64,iVBORw0KGgo="
PHOTO = "https://img.example/a.webp?size=1"
SCHEMA = {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}
TOOLED = Prompt(
    (
        ModelMessage(Role.SYSTEM, "You sell."),
        ModelMessage(Role.USER, "多少钱"),
        ModelMessage(
            Role.ASSISTANT,
            tool_calls=(ToolCall(0, "c1", "price", '{"id":1}'), ToolCall(1, "c2", "stock", "oops")),
        ),
        ModelMessage(Role.TOOL, '{"yuan":5}', tool_call_id="c1"),
        ModelMessage(Role.TOOL, "three", tool_call_id="c2"),
    ),
    tools=(Tool("price", "Tells a price.", {"type": "object"}), Tool("stock")),
    tool_choice="price",
    temperature=1.5,
    max_tokens=100,
    stop=("\n",),
)


def built(
    kind: str,
    prompt: Prompt,
    *needs: str,
    streamed: bool = False,
    model: Model = MODEL,
    of: Provider | None = None,
) -> tuple[Call, dict[str, Any]]:
    """A call and its body."""
    adapter = KINDS[kind](ProviderHttp())
    made = adapter.call(of or provider(kind), model, prompt, frozenset(needs), streamed=streamed)
    return made, orjson.loads(made.body)


def test_openai_is_asked_in_its_words() -> None:
    """Messages, tools, options and the key."""
    call, body = built("openai", TOOLED, streamed=True)
    assert (call.path, call.headers) == ("chat/completions", {"Authorization": f"Bearer {KEY}"})
    assert body["messages"][2] == {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {"id": "c1", "type": "function", "function": {"name": "price", "arguments": '{"id":1}'}},
            {"id": "c2", "type": "function", "function": {"name": "stock", "arguments": "oops"}},
        ],
    }
    assert body["messages"][3] == {"role": "tool", "content": '{"yuan":5}', "tool_call_id": "c1"}
    assert body["tools"][0]["function"] == {
        "name": "price",
        "description": "Tells a price.",
        "parameters": {"type": "object"},
    }
    assert body["tool_choice"] == {"type": "function", "function": {"name": "price"}}
    assert (body["temperature"], body["max_tokens"], body["stop"]) == (1.5, 100, ["\n"])
    assert (body["stream"], body["stream_options"]) == (True, {"include_usage": True})


def test_a_plain_question_has_nothing_but_the_question() -> None:
    """No field that the prompt does not set; no key, no header."""
    call, body = built("openai", Prompt((ModelMessage(Role.USER, "a"),)), of=provider(key=""))
    assert body == {"model": "chat", "messages": [{"role": "user", "content": "a"}]}
    assert call.headers == {}


def test_a_servers_needs_change_the_call() -> None:
    """Each need takes out or renames what was refused."""
    needs = ("no_stream_options", "completion_tokens", "no_sampling")
    _, body = built("openai", TOOLED, *needs, streamed=True)
    assert not {"stream_options", "max_tokens", "temperature"} & set(body)
    assert body["max_completion_tokens"] == 100


@pytest.mark.parametrize("kind", ["openai", "dashscope"])
def test_a_format_falls_back_to_words(kind: str) -> None:
    """A schema, then an object with the schema in words, then words alone."""
    prompt = replace(ASKED, format="json_schema", schema=SCHEMA)

    def asked(*needs: str) -> tuple[Any, str]:
        _, body = built(kind, prompt, *needs)
        where = body if kind == "openai" else body["parameters"]
        messages = body["messages"] if kind == "openai" else body["input"]["messages"]
        return where.get("response_format"), messages[1]["content"]

    format_, said = asked()
    assert (format_["json_schema"]["schema"], said) == (SCHEMA, "还在吗")
    format_, said = asked("no_schema")
    assert format_ == {"type": "json_object"}
    assert orjson.dumps(SCHEMA).decode() in said
    format_, said = asked("no_schema", "no_format")
    assert format_ is None
    assert orjson.dumps(SCHEMA).decode() in said


def test_dashscope_is_asked_in_its_words() -> None:
    """AI-10 and AI-11: headers, payload, result_format; cumulative unless the server wants increments."""
    call, body = built("dashscope", ASKED, streamed=True)
    assert call.path == "services/aigc/text-generation/generation"
    assert call.headers == {"Authorization": f"Bearer {KEY}", "X-DashScope-SSE": "enable"}
    assert body == {
        "model": "chat",
        "input": {
            "messages": [{"role": "system", "content": "You sell."}, {"role": "user", "content": "还在吗"}]
        },
        "parameters": {"result_format": "message"},
    }
    call, body = built("dashscope", ASKED)
    assert "X-DashScope-SSE" not in call.headers
    _, body = built("dashscope", ASKED, "increments", streamed=True)
    assert body["parameters"]["incremental_output"] is True


def test_dashscope_takes_images_at_its_other_door() -> None:
    """Content in parts, there, and wherever a model has only that door."""
    prompt = Prompt(
        (ModelMessage(Role.SYSTEM, "s"), ModelMessage(Role.USER, "这是什么", image_urls=(PHOTO,)))
    )
    call, body = built("dashscope", prompt)
    assert call.path == "services/aigc/multimodal-generation/generation"
    assert [said["content"] for said in body["input"]["messages"]] == [
        [{"text": "s"}],
        [{"image": PHOTO}, {"text": "这是什么"}],
    ]
    call, _ = built("dashscope", ASKED, "multimodal")
    assert call.path == "services/aigc/multimodal-generation/generation"


def test_dashscopes_address_may_be_that_of_its_door() -> None:
    """AI-13: the URL is configuration, as the source has it."""
    url = "https://dashscope.example/api/v1/services/aigc/text-generation/generation"
    call, _ = built("dashscope", ASKED, of=provider("dashscope", url))
    assert call.path == ""


def test_anthropic_is_asked_in_its_words() -> None:
    """The system prompt apart, results of tools in one turn, its own limits."""
    call, body = built("anthropic", TOOLED, streamed=True)
    assert (call.path, call.headers["x-api-key"], call.headers["anthropic-version"]) == (
        "messages",
        KEY,
        "2023-06-01",
    )
    assert body["system"] == "You sell."
    assert [turn["role"] for turn in body["messages"]] == ["user", "assistant", "user"]
    assert body["messages"][1]["content"] == [
        {"type": "tool_use", "id": "c1", "name": "price", "input": {"id": 1}},
        {"type": "tool_use", "id": "c2", "name": "stock", "input": {"result": "oops"}},
    ]
    assert body["messages"][2]["content"] == [
        {"type": "tool_result", "tool_use_id": "c1", "content": '{"yuan":5}'},
        {"type": "tool_result", "tool_use_id": "c2", "content": "three"},
    ]
    assert body["tools"][1] == {"name": "stock", "input_schema": {"type": "object", "properties": {}}}
    assert body["tool_choice"] == {"type": "tool", "name": "price"}
    assert (body["temperature"], body["max_tokens"], body["stop_sequences"]) == (1.0, 100, ["\n"])


def test_anthropic_is_told_images_formats_and_a_length() -> None:
    """Images inline or by address; a schema natively or in words; a length always."""
    prompt = Prompt(
        (ModelMessage(Role.USER, "a", image_urls=(PIXEL, PHOTO)),), format="json_schema", schema=SCHEMA
    )
    call, body = built("anthropic", prompt, of=provider("anthropic", "https://api.example/anthropic"))
    assert call.path == "v1/messages"
    assert [part.get("source") for part in body["messages"][0]["content"]] == [
        {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="},
        {"type": "url", "url": PHOTO},
        None,
    ]
    assert body["max_tokens"] == 4096
    assert body["output_config"] == {"format": {"type": "json_schema", "schema": SCHEMA}}
    _, body = built("anthropic", prompt, "no_schema")
    assert "output_config" not in body
    assert orjson.dumps(SCHEMA).decode() in body["system"]


def test_gemini_is_asked_in_its_words() -> None:
    """The model in the path, roles and tools of its own, results of functions in one turn."""
    call, body = built("gemini", TOOLED, streamed=True, of=provider("gemini", "https://gemini.example"))
    assert call.path == "v1beta/models/chat:streamGenerateContent?alt=sse"
    assert call.headers == {"x-goog-api-key": KEY}
    assert body["systemInstruction"] == {"parts": [{"text": "You sell."}]}
    assert [turn["role"] for turn in body["contents"]] == ["user", "model", "user"]
    assert body["contents"][1]["parts"][0]["functionCall"] == {"name": "price", "args": {"id": 1}}
    assert body["contents"][2]["parts"] == [
        {"functionResponse": {"name": "price", "response": {"yuan": 5}}},
        {"functionResponse": {"name": "stock", "response": {"result": "three"}}},
    ]
    assert body["toolConfig"] == {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["price"]}}
    assert body["generationConfig"] == {"temperature": 1.5, "stopSequences": ["\n"], "maxOutputTokens": 100}


def test_gemini_is_told_images_and_formats() -> None:
    """Images inline or by address; a schema natively or in words; an odd name stays in its place."""
    prompt = Prompt(
        (ModelMessage(Role.USER, "a", image_urls=(PIXEL, PHOTO)),), format="json_schema", schema=SCHEMA
    )
    call, body = built(
        "gemini", prompt, of=provider("gemini", "https://g.example/v1"), model=Model("m", "models/a/../b?c")
    )
    assert call.path == "models/a%2F..%2Fb%3Fc:generateContent"
    assert body["contents"][0]["parts"] == [
        {"inlineData": {"mimeType": "image/png", "data": "iVBORw0KGgo="}},
        {"fileData": {"fileUri": PHOTO, "mimeType": "image/webp"}},
        {"text": "a"},
    ]
    assert body["generationConfig"] == {"responseMimeType": "application/json", "responseJsonSchema": SCHEMA}
    _, body = built("gemini", prompt, "no_schema", "no_format")
    assert "generationConfig" not in body
    assert orjson.dumps(SCHEMA).decode() in body["systemInstruction"]["parts"][0]["text"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("asked", "allowed", "sent"), [(None, 0, None), (50, 0, 50), (None, 70, 70), (90, 70, 70), (50, 70, 50)]
)
def test_an_answer_is_never_asked_longer_than_its_model_may(
    kind: str, asked: int | None, allowed: int, sent: int | None
) -> None:
    """What is set aside of budgets counts on it."""
    _, body = built(kind, replace(ASKED, max_tokens=asked), model=replace(MODEL, max_tokens=allowed))
    found = {
        "openai": body.get("max_tokens"),
        "dashscope": body.get("parameters", {}).get("max_tokens"),
        "anthropic": body.get("max_tokens"),
        "gemini": body.get("generationConfig", {}).get("maxOutputTokens"),
    }[kind]
    assert found == (sent or (4096 if kind == "anthropic" else None))


@pytest.mark.parametrize(
    ("kind", "said", "needs"),
    [
        ("openai", "Unknown parameter: 'stream_options'.", {"no_stream_options"}),
        ("openai", "Use 'max_completion_tokens' instead.", {"completion_tokens"}),
        ("openai", "This response_format type is unavailable now", {"no_schema"}),
        (
            "openai",
            "'temperature' does not support 0.3. Only the default (1) value is supported.",
            {"no_sampling"},
        ),
        ("dashscope", "This model only support incremental_output set to True.", {"increments"}),
        ("dashscope", "url error, please check url!", {"multimodal"}),
        ("anthropic", "output_config: Extra inputs are not permitted", {"no_schema"}),
        ("gemini", 'Unknown name "responseJsonSchema"', {"no_schema"}),
        ("openai", "The prompt is too long", set()),
        ("openai", "Invalid schema for response_format 'answer'", set()),
        ("dashscope", "'messages' must contain the word 'json' to use 'response_format'", set()),
    ],
)
def test_a_refusal_teaches_what_a_server_needs(kind: str, said: str, needs: set[str]) -> None:
    """Once: the same refusal again is the caller's."""
    adapter, of = KINDS[kind](ProviderHttp()), provider(kind)
    error = UpstreamRefused("x")
    error.detail = said
    assert adapter.learn(of, MODEL, error) is bool(needs)
    assert adapter.needs(of, MODEL) == needs
    assert adapter.needs(of, replace(MODEL, upstream_name="other")) == frozenset()
    assert adapter.needs(replace(of, provider_id="another's"), MODEL) == frozenset()
    while adapter.learn(of, MODEL, error):
        assert len(adapter.needs(of, MODEL)) <= 2


def test_the_memory_of_needs_is_bounded() -> None:
    """The oldest is forgotten."""
    memory = Memory(limit=2)
    for name in ("a", "b", "c"):
        memory.add(provider(), Model(name, name), "need")
    known = [bool(memory.of(provider(), Model(name, name))) for name in ("a", "b", "c")]
    assert known == [False, True, True]


async def test_a_stream_that_is_gathered_has_a_most_and_takes_linear_time() -> None:
    """The pieces of a tool's arguments are joined once, and not for ever."""

    async def stream(count: int) -> AsyncGenerator[Sequence[Piece], None]:
        yield [Delta("a"), ToolCall(0, "1", "f")]
        for _ in range(count):
            yield [ToolCall(0, arguments="[1234567]")] * 1000
        yield [Delta("b"), Finish(FinishReason.TOOL_CALLS)]

    started = time.process_time()
    answer = await collected(stream(100), 20_000_000)
    assert time.process_time() - started < 3
    assert (answer.text, answer.finish.reason) == ("ab", FinishReason.TOOL_CALLS)
    assert [(one.id, one.name, len(one.arguments)) for one in answer.tool_calls] == [("1", "f", 900_000)]
    with pytest.raises(UpstreamUnavailable):
        await collected(stream(300), 100_000)


def test_asked_for_increments_are_taken_as_such() -> None:
    """A text that repeats itself from the start is not taken for the whole so far."""
    adapter, of = DashScope(ProviderHttp()), provider("dashscope")
    error = UpstreamRefused("x")
    error.detail = "This model only support incremental_output set to True."
    assert adapter.learn(of, MODEL, error)
    needs = adapter.needs(of, MODEL)
    decoder = adapter._decoder(adapter.call(of, MODEL, ASKED, needs, streamed=True))
    chunks = ({"output": {"choices": [{"message": {"content": text}}]}} for text in "1100")
    pieces = [piece for chunk in chunks for piece in decoder.feed(sse(chunk))]
    assert text_of(pieces) == "1100"
