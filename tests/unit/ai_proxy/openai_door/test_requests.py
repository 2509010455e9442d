"""Requests of OpenAI's API as our values."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from frontdesk.ai_proxy.model import ModelMessage, Role, Tool, ToolCall
from frontdesk.ai_proxy.openai_door.requests import read_chat, read_embeddings
from frontdesk.kit.errors import InvalidArgument

HELLO = {"role": "user", "content": "还在吗"}


def chat(**fields: Any) -> bytes:
    return orjson.dumps({"model": "default", "messages": [HELLO], **fields})


def test_a_plain_question() -> None:
    """A model, a message, nothing else: everything else is the model's own way."""
    found = read_chat(chat())
    assert (found.model, found.stream, found.include_usage) == ("default", False, False)
    assert found.prompt.messages == (ModelMessage(Role.USER, "还在吗"),)
    assert found.prompt.temperature is None
    assert found.prompt.format == "text"


def test_every_field_that_is_known() -> None:
    """Options arrive as they were given; what is null was not given."""
    tool = {"type": "function", "function": {"name": "look_up", "parameters": {"type": "object"}}}
    found = read_chat(
        chat(
            stream=True,
            stream_options={"include_usage": True},
            temperature=0,
            top_p=1,
            max_completion_tokens=20,
            stop="。",
            seed=7,
            tools=[tool],
            tool_choice={"type": "function", "function": {"name": "look_up"}},
            response_format={
                "type": "json_schema",
                "json_schema": {"name": "a", "schema": {"type": "object"}},
            },
            user="somebody",
            logprobs=None,
            n=1,
            presence_penalty=0,
        )
    )
    prompt = found.prompt
    assert found.stream
    assert found.include_usage
    assert (prompt.temperature, prompt.top_p, prompt.max_tokens, prompt.seed) == (0.0, 1.0, 20, 7)
    assert prompt.stop == ("。",)
    assert prompt.tools == (Tool("look_up", "", {"type": "object"}),)
    assert prompt.tool_choice == "look_up"
    assert (prompt.format, prompt.schema) == ("json_schema", {"type": "object"})


def test_every_kind_of_message() -> None:
    """Parts of content, calls of tools and what these returned keep their places."""
    messages = [
        {"role": "developer", "content": "Be kind."},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "What is"},
                {"type": "text", "text": "this?"},
                {"type": "image_url", "image_url": {"url": "https://pictures.example/1.png"}},
            ],
        },
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "see", "arguments": "{}"}}],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "a lamp"},
    ]
    assert read_chat(chat(messages=messages)).prompt.messages == (
        ModelMessage(Role.SYSTEM, "Be kind."),
        ModelMessage(Role.USER, "What is\nthis?", ("https://pictures.example/1.png",)),
        ModelMessage(Role.ASSISTANT, "", (), (ToolCall(0, "c1", "see", "{}"),)),
        ModelMessage(Role.TOOL, "a lamp", tool_call_id="c1"),
    )


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"model": ""}, "model"),
        ({"model": "x" * 129}, "model"),
        ({"messages": []}, "messages"),
        ({"messages": "hello"}, "messages"),
        ({"messages": ["hello"]}, "messages[0]"),
        ({"messages": [{"role": "buyer", "content": ""}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": 7}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": [{"type": "audio"}]}]}, "messages[0].content[0]"),
        ({"temperature": 3}, "temperature"),
        ({"temperature": "warm"}, "temperature"),
        ({"temperature": True}, "temperature"),
        ({"top_p": -0.1}, "top_p"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": True}, "max_tokens"),
        ({"stop": ["1", "2", "3", "4", "5"]}, "stop"),
        ({"stop": {"a": 1}}, "stop"),
        ({"stream": "yes"}, "stream"),
        ({"stream_options": {"include_usage": 1}}, "stream_options.include_usage"),
        ({"n": 2}, "n"),
        ({"logprobs": True}, "logprobs"),
        ({"parallel_tool_calls": False}, "parallel_tool_calls"),
        ({"functions": []}, "functions"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"tools": [{"type": "function", "function": {"name": "two words"}}]}, "tools[0].function.name"),
        ({"tool_choice": "unknown"}, "tool_choice"),
        ({"tool_choice": 1}, "tool_choice"),
        ({"response_format": {"type": "xml"}}, "response_format.type"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema.schema"),
    ],
)
def test_what_is_wrong_is_named(fields: dict[str, Any], field: str) -> None:
    """Each mistake names its field as OpenAI calls it."""
    with pytest.raises(InvalidArgument) as caught:
        read_chat(chat(**fields))
    assert caught.value.field == field


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'"x"'])
def test_a_body_that_is_no_object(body: bytes) -> None:
    """It is refused as a whole."""
    with pytest.raises(InvalidArgument) as caught:
        read_chat(body)
    assert caught.value.field == "body"


def test_embeddings() -> None:
    """One text or many; vectors as numbers or packed."""
    found = read_embeddings(b'{"model": "e", "input": "a", "encoding_format": "base64", "dimensions": 8}')
    assert (found.texts, found.base64, found.dimensions) == (("a",), True, 8)
    assert read_embeddings(b'{"model": "e", "input": ["a", "b"]}').texts == ("a", "b")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"model": "e"}, "input"),
        ({"model": "e", "input": []}, "input"),
        ({"model": "e", "input": [1, 2]}, "input"),
        ({"model": "e", "input": ["a", ""]}, "input[1]"),
        ({"model": "e", "input": ["a"] * 257}, "input"),
        ({"model": "e", "input": "a", "encoding_format": "int8"}, "encoding_format"),
        ({"model": "e", "input": "a", "dimensions": 0}, "dimensions"),
    ],
)
def test_embeddings_that_are_wrong(body: dict[str, Any], field: str) -> None:
    """Each mistake names its field."""
    with pytest.raises(InvalidArgument) as caught:
        read_embeddings(orjson.dumps(body))
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("field", "fields"),
    [
        ("messages[0].audio", {"messages": [{**HELLO, "audio": {"id": "a"}}]}),
        (
            "messages[0].content[0].cache_control",
            {"messages": [{"role": "user", "content": [{"type": "text", "text": "a", "cache_control": {}}]}]},
        ),
        (
            "messages[0].content[0].image_url.size",
            {
                "messages": [
                    {
                        "role": "user",
                        "content": [
                            {"type": "image_url", "image_url": {"url": "https://a.b/1.png", "size": 3}}
                        ],
                    }
                ]
            },
        ),
        (
            "tools[0].function.examples",
            {"tools": [{"type": "function", "function": {"name": "see", "examples": []}}]},
        ),
        ("stream_options.every", {"stream_options": {"every": 3}}),
        ("response_format.grammar", {"response_format": {"type": "text", "grammar": "x"}}),
    ],
)
def test_what_is_not_supported_inside_is_refused_by_name(field: str, fields: dict[str, Any]) -> None:
    """A part that changes what is asked is not left out in silence."""
    with pytest.raises(InvalidArgument) as refused:
        read_chat(chat(**fields))
    assert refused.value.field == field
    assert "not supported" in refused.value.problem


def test_an_answer_can_be_given_back_as_it_came() -> None:
    """SDKs send the message that they got, with every field it has; hints are no part of the question."""
    call = {"id": "c1", "type": "function", "index": 0, "function": {"name": "see", "arguments": "{}"}}
    said: dict[str, Any] = {"role": "assistant", "content": "ok", "refusal": None, "annotations": []}
    picture = {"type": "image_url", "image_url": {"url": "https://pictures.example/1.png", "detail": "low"}}
    found = read_chat(
        chat(
            messages=[
                {"role": "user", "content": [picture]},
                {**said, "tool_calls": [call]},
                {"role": "tool", "tool_call_id": "c1", "name": "see", "content": "3"},
            ],
            tools=[{"type": "function", "function": {"name": "see", "strict": True}}],
        )
    )
    assert [message.role for message in found.prompt.messages] == [Role.USER, Role.ASSISTANT, Role.TOOL]


@pytest.mark.parametrize(
    ("field", "fields"),
    [
        ("messages", {"messages": [{}] * 1_001}),
        ("tools", {"tools": [{}] * 129}),
        ("messages[0].tool_calls", {"messages": [{"role": "assistant", "tool_calls": [{}] * 129}]}),
        ("messages[0].content", {"messages": [{"role": "user", "content": [{}] * 1_001}]}),
        ("stop", {"stop": ["a"] * 257}),
    ],
)
def test_long_lists_are_refused_before_they_are_read(field: str, fields: dict[str, Any]) -> None:
    """By their length, not by what is wrong with their first entry: nothing is made of them."""
    with pytest.raises(InvalidArgument) as refused:
        read_chat(chat(**fields))
    assert refused.value.field == field
    assert "at most" in refused.value.problem
