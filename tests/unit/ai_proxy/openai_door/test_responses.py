"""Answers in the shapes of OpenAI's API."""

from __future__ import annotations

import base64
import struct
from typing import Any

import orjson
import pytest

from frontdesk.ai_proxy.errors import (
    BrokenOff,
    BudgetExceeded,
    UpstreamLimited,
    UpstreamMisconfigured,
    UpstreamRefused,
    UpstreamUnavailable,
)
from frontdesk.ai_proxy.model import (
    Answer,
    Completion,
    Delta,
    Embeddings,
    FinishReason,
    Outcome,
    ToolCall,
    Usage,
)
from frontdesk.ai_proxy.openai_door.errors import broken_body, error_response
from frontdesk.ai_proxy.openai_door.responses import Chunks, completion_body, embeddings_body
from frontdesk.kit.errors import FrontdeskError, InvalidArgument, NotFound, Unauthenticated
from frontdesk.kit.http import GENERIC_MESSAGE

OUTCOME = Outcome(FinishReason.STOP, Usage(7, 5, 2), "deepseek", "deepseek-chat")


def events(data: bytes) -> list[Any]:
    """The `data:` of each event; `[DONE]` as it is."""
    found = [part.removeprefix(b"data: ") for part in data.split(b"\n\n") if part]
    return [part.decode() if part == b"[DONE]" else orjson.loads(part) for part in found]


def test_a_streamed_answer() -> None:
    """Role with the first piece, reason with the last, usage after it when it was asked for, then [DONE]."""
    chunks = Chunks("chatcmpl-1", 1_700_000_000, "default", include_usage=True)
    data = chunks.write([Delta("你\n好"), Delta(' "there"')]) + chunks.write([OUTCOME])
    first, second, end, usage, done = events(data)
    assert first["choices"][0]["delta"] == {"role": "assistant", "content": "你\n好"}
    assert second["choices"][0]["delta"] == {"content": ' "there"'}
    assert second["choices"][0]["finish_reason"] is None
    assert end["choices"][0] == {"index": 0, "delta": {}, "logprobs": None, "finish_reason": "stop"}
    assert usage["choices"] == []
    assert usage["usage"]["total_tokens"] == 12
    assert usage["usage"]["prompt_tokens_details"] == {"cached_tokens": 2}
    assert done == "[DONE]"
    assert {e["usage"] for e in (first, second, end)} == {None}
    assert {(e["id"], e["object"], e["model"]) for e in (first, second, end, usage)} == {
        ("chatcmpl-1", "chat.completion.chunk", "default")
    }


def test_a_stream_without_usage() -> None:
    """Nobody asked for it: no chunk without choices, which old clients stumble over."""
    chunks = Chunks("chatcmpl-1", 1, "default", include_usage=False)
    assert all(event == "[DONE]" or event["choices"] for event in events(chunks.write([Delta("a"), OUTCOME])))


def test_tools_and_thoughts_in_a_stream() -> None:
    """Pieces of a call keep their index; thoughts have the field that DeepSeek's clients know."""
    chunks = Chunks("chatcmpl-1", 1, "default", include_usage=False)
    batch = (
        Delta(reasoning="hm"),
        ToolCall(0, "c1", "see", ""),
        ToolCall(0, arguments='{"a"'),
    )
    thought, begin, rest = (event["choices"][0]["delta"] for event in events(chunks.write(batch)))
    assert thought == {"role": "assistant", "reasoning_content": "hm"}
    assert begin == {
        "tool_calls": [
            {"index": 0, "id": "c1", "type": "function", "function": {"name": "see", "arguments": ""}}
        ]
    }
    assert rest == {"tool_calls": [{"index": 0, "function": {"arguments": '{"a"'}}]}


def test_a_whole_answer() -> None:
    """Text, or calls of tools with no text."""
    body = orjson.loads(completion_body("chatcmpl-1", 1, "default", Completion(Answer("在的"), OUTCOME)))
    assert body["choices"][0]["message"] == {"role": "assistant", "content": "在的", "refusal": None}
    assert body["usage"]["completion_tokens"] == 5
    asked = Answer(tool_calls=(ToolCall(0, "c1", "see", "{}"),))
    message = orjson.loads(completion_body("chatcmpl-1", 1, "m", Completion(asked, OUTCOME)))["choices"][0][
        "message"
    ]
    assert message["content"] is None
    assert message["tool_calls"][0]["function"] == {"name": "see", "arguments": "{}"}


def test_packed_vectors() -> None:
    """Little-endian float32 in base64, as the SDK of Python asks for by itself."""
    found = Embeddings(((0.5, -2.0),))
    body = orjson.loads(embeddings_body("e", found, OUTCOME, as_base64=True))
    assert struct.unpack("<2f", base64.b64decode(body["data"][0]["embedding"])) == (0.5, -2.0)
    assert orjson.loads(embeddings_body("e", found, OUTCOME, as_base64=False))["data"][0]["embedding"] == [
        0.5,
        -2.0,
    ]


@pytest.mark.parametrize(
    ("error", "status", "kind", "code", "again"),
    [
        (Unauthenticated("no"), 401, "authentication_error", "invalid_api_key", "false"),
        (NotFound("no model"), 404, "invalid_request_error", "model_not_found", "false"),
        (InvalidArgument("n", "one"), 400, "invalid_request_error", "invalid_argument", "false"),
        (UpstreamRefused("too long"), 400, "invalid_request_error", "invalid_argument", "false"),
        (BudgetExceeded("spent"), 429, "insufficient_quota", "insufficient_quota", "false"),
        (
            UpstreamLimited("slow down", retry_after_s=7.2),
            429,
            "rate_limit_error",
            "rate_limit_exceeded",
            "true",
        ),
        (UpstreamMisconfigured("key"), 502, "api_error", "failed_precondition", "false"),
        (UpstreamUnavailable("away"), 503, "api_error", "unavailable", "true"),
        (FrontdeskError("a secret of ours"), 500, "api_error", "internal", "false"),
    ],
)
def test_errors(error: FrontdeskError, status: int, kind: str, code: str, again: str) -> None:
    """Status, type, code, and whether the SDK may try again by itself."""
    response = error_response(error)
    body = orjson.loads(bytes(response.body))["error"]
    assert (response.status_code, body["type"], body["code"]) == (status, kind, code)
    assert response.headers["x-should-retry"] == again
    assert set(body) == {"message", "type", "param", "code"}


def test_what_errors_say() -> None:
    """How long to wait, which field; and of our own faults nothing."""
    assert error_response(UpstreamLimited("slow", retry_after_s=7.2)).headers["retry-after"] == "7"
    assert orjson.loads(bytes(error_response(InvalidArgument("n", "one")).body))["error"]["param"] == "n"
    inside = orjson.loads(bytes(error_response(FrontdeskError("a secret of ours")).body))["error"]
    assert inside["message"] == GENERIC_MESSAGE


def test_a_broken_answer_says_how_far_it_came() -> None:
    """The partial text is there, and whether to ask again."""
    body = broken_body(BrokenOff(UpstreamUnavailable("the provider broke off"), "在的，", Usage(1, 2)))
    assert (body["partial_text"], body["retryable"], body["code"]) == ("在的，", True, "unavailable")
