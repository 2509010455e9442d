"""What each kind of API sends, as bytes: whole, cut at every byte, broken off, garbled."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby

import orjson
import pytest

from frontdesk.ai_proxy.errors import UpstreamError, UpstreamUnavailable
from frontdesk.ai_proxy.model import Delta, Finish, FinishReason, Piece, ToolCall
from frontdesk.ai_proxy.providers.anthropic import AnthropicDecoder
from frontdesk.ai_proxy.providers.dashscope import DashScopeDecoder
from frontdesk.ai_proxy.providers.decoding import StreamDecoder
from frontdesk.ai_proxy.providers.failures import Call
from frontdesk.ai_proxy.providers.gemini import GeminiDecoder
from frontdesk.ai_proxy.providers.openai import OpenAiDecoder
from support.provider_streams import CASES, GEMINI_USED, OPENAI_USED, USED, Case, grown, parts, sse
from support.providers import call

DECODERS: dict[str, Callable[[Call, int], StreamDecoder]] = {
    "openai": OpenAiDecoder,
    "dashscope": DashScopeDecoder,
    "anthropic": AnthropicDecoder,
    "gemini": GeminiDecoder,
}


def decoded(case: Case, chunks: Sequence[bytes]) -> tuple[StreamDecoder, list[Piece]]:
    """All pieces of a stream that comes in `chunks`."""
    decoder = DECODERS[case.kind](call(case.kind), 10_000)
    pieces: list[Piece] = []
    for chunk in chunks:
        pieces += decoder.feed(chunk)
        if decoder.done or decoder.failure:
            return decoder, pieces
    return decoder, [*pieces, *decoder.end()]


def check(case: Case, chunks: Sequence[bytes]) -> None:
    """That a stream says what its case says."""
    decoder, pieces = decoded(case, chunks)
    deltas = [piece for piece in pieces if isinstance(piece, Delta)]
    assert "".join(delta.text for delta in deltas) == case.text
    assert "".join(delta.reasoning for delta in deltas) == case.reasoning
    calls = sorted((piece for piece in pieces if isinstance(piece, ToolCall)), key=lambda piece: piece.index)
    grouped = [list(group) for _, group in groupby(calls, key=lambda piece: piece.index)]
    assert tuple(group[0].id for group in grouped) == case.ids
    assert (
        tuple((group[0].name, "".join(piece.arguments for piece in group)) for group in grouped) == case.calls
    )
    if case.fails is None:
        assert decoder.failure is None
        assert decoder.done
        assert pieces[-1] == Finish(case.reason, case.usage)
    else:
        assert type(decoder.failure) is case.fails
        assert not any(isinstance(piece, Finish) for piece in pieces)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_stream_says_the_same_however_it_is_cut(case: Case) -> None:
    """In one read, cut in two at every byte, and byte by byte."""
    check(case, [case.stream])
    for cut in range(1, len(case.stream)):
        check(case, [case.stream[:cut], case.stream[cut:]])
    check(case, [case.stream[at : at + 1] for at in range(len(case.stream))])


@pytest.mark.parametrize("kind", DECODERS)
def test_what_one_read_held_is_one_delta(kind: str) -> None:
    """Neighbouring words of one read are joined."""
    case = next(case for case in CASES if case.kind == kind and case.text)
    _, pieces = decoded(case, [case.stream])
    assert sum(isinstance(piece, Delta) for piece in pieces) == 1


def test_an_error_of_a_stream_tells_callers_nothing_the_provider_said() -> None:
    """What it said is for logs, without the key."""
    decoder = OpenAiDecoder(call(), 10_000)
    decoder.feed(
        sse({"error": {"message": "key sk-0123456789abcdef is bad, sk-01****cdef", "code": "odd_one"}})
    )
    assert decoder.failure is not None
    assert decoder.failure.message == "the provider failed"
    assert decoder.failure.facts == {"provider": "mine", "model": "default", "upstream_code": "odd_one"}
    assert decoder.failure.detail == "key *** is bad, ***"


@pytest.mark.parametrize("kind", DECODERS)
def test_an_event_that_is_too_long_ends_the_answer(kind: str) -> None:
    """A line without an end takes no more memory than the limit."""
    decoder = DECODERS[kind](call(kind), 1_000)
    assert decoder.feed(b"data: " + b"x" * 2_000) == []
    assert isinstance(decoder.failure, UpstreamUnavailable)


@pytest.mark.parametrize("told", [-5, 2**50, "7", True, 3.5, None])
def test_usage_that_can_not_be_is_none(told: object) -> None:
    """A provider can't lower what was used by telling nonsense."""
    decoder = OpenAiDecoder(call(), 10_000)
    used = {"prompt_tokens": told, "completion_tokens": told}
    pieces = decoder.feed(sse({"choices": [], "usage": used}, b"[DONE]"))
    assert pieces == [Finish(FinishReason.STOP, None)]


WHOLE = {
    "openai": {
        "choices": [
            {
                "message": {
                    "content": "a",
                    "reasoning_content": "hm",
                    "tool_calls": [{"id": "c1", "function": {"name": "f", "arguments": "{}"}}],
                },
                "finish_reason": "stop",
            }
        ],
        "usage": OPENAI_USED,
    },
    "dashscope": grown(
        "a",
        "stop",
        reasoning_content="hm",
        tool_calls=[{"id": "c1", "function": {"name": "f", "arguments": "{}"}}],
    ),
    "anthropic": {
        "content": [
            {"type": "thinking", "thinking": "hm"},
            {"type": "text", "text": "a"},
            {"type": "tool_use", "id": "c1", "name": "f", "input": {}},
        ],
        "stop_reason": "tool_use",
        "usage": {"input_tokens": 3, "cache_read_input_tokens": 2, "output_tokens": 3},
    },
    "gemini": parts(
        {"text": "hm", "thought": True},
        {"text": "a"},
        {"functionCall": {"id": "c1", "name": "f"}},
        finish="STOP",
    )
    | {"usageMetadata": GEMINI_USED},
}


@pytest.mark.parametrize("kind", DECODERS)
def test_an_answer_that_comes_in_one_is_read(kind: str) -> None:
    """Also when a stream was asked for."""
    body = orjson.dumps(WHOLE[kind])
    finish = Finish(FinishReason.TOOL_CALLS, USED)
    answer = DECODERS[kind](call(kind), 10_000).answer(body)
    assert (answer.text, answer.reasoning, answer.finish) == ("a", "hm", finish)
    assert answer.tool_calls == (ToolCall(0, "c1", "f", "{}"),)
    pieces = DECODERS[kind](call(kind), 10_000).whole(body)
    assert pieces == [Delta("a", "hm"), ToolCall(0, "c1", "f", "{}"), finish]


@pytest.mark.parametrize("kind", DECODERS)
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"[]",
        b"{}",
        b'{"choices":[]}',
        b'{"error":{"message":"x"}}',
        b'{"output":7}',
        b'{"content":[7]}',
    ],
)
def test_an_answer_that_is_none_is_the_providers_fault(kind: str, body: bytes) -> None:
    """Nothing but UpstreamError comes out, whole or as a stream."""
    with pytest.raises(UpstreamError):
        DECODERS[kind](call(kind), 10_000).answer(body)
    decoder = DECODERS[kind](call(kind), 10_000)
    assert decoder.whole(body) == []
    assert isinstance(decoder.failure, UpstreamError)


_ODD_CALLS: dict[str, Callable[[object], dict[str, object]]] = {
    "openai": lambda odd: {"choices": [{"delta": {"tool_calls": [{"index": 0, **_function("f", odd)}]}}]},
    "dashscope": lambda odd: {"output": {"choices": [{"message": {"tool_calls": [_function(odd, "{}")]}}]}},
    "anthropic": lambda odd: {
        "type": "content_block_start",
        "index": 0,
        "content_block": {"type": "tool_use", "id": odd, "name": "f"},
    },
    "gemini": lambda odd: {"candidates": [{"content": {"parts": [{"functionCall": {"name": odd}}]}}]},
}
_ODD_ANSWERS: dict[str, Callable[[object], dict[str, object]]] = {
    "openai": lambda odd: {"choices": [{"message": {"content": "a", "reasoning_content": odd}}]},
    "dashscope": lambda odd: {"output": {"choices": [{"message": {"tool_calls": [_function("f", odd)]}}]}},
    "anthropic": lambda odd: {"content": [{"type": "tool_use", "id": "1", "name": odd, "input": {}}]},
    "gemini": lambda odd: {"candidates": [{"content": {"parts": [{"functionCall": {"name": odd}}]}}]},
}


def _function(name: object, arguments: object) -> dict[str, object]:
    return {"id": "1", "function": {"name": name, "arguments": arguments}}


@pytest.mark.parametrize("kind", DECODERS)
@pytest.mark.parametrize("odd", [{"a": 1}, 7, [1], True])
def test_fields_of_other_types_are_garbled(kind: str, odd: object) -> None:
    """What passes for text further on is text: an object as the arguments of a tool ends the answer here."""
    decoder = DECODERS[kind](call(kind), 10_000)
    assert decoder.feed(sse(_ODD_CALLS[kind](odd))) == []
    assert isinstance(decoder.failure, UpstreamUnavailable)
    whole = DECODERS[kind](call(kind), 10_000)
    assert whole.whole(orjson.dumps(_ODD_ANSWERS[kind](odd))) == []
    assert isinstance(whole.failure, UpstreamUnavailable)
