"""Streams of each kind of API as bytes, and what is in them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import orjson

from frontdesk.ai_proxy.errors import UpstreamError, UpstreamLimited, UpstreamUnavailable
from frontdesk.ai_proxy.model import FinishReason, Usage


def sse(*events: object) -> bytes:
    """Events of JSON, or of text as it is; a pair has a name."""
    lines = []
    for event in events:
        name, data = event if isinstance(event, tuple) else ("", event)
        text = data if isinstance(data, bytes) else orjson.dumps(data)
        lines.append((b"event: " + name.encode() + b"\n" if name else b"") + b"data: " + text + b"\n\n")
    return b"".join(lines)


def named(*events: Mapping[str, object]) -> bytes:
    """Events as Anthropic names them."""
    return sse(*((str(event["type"]), event) for event in events))


def chat(finish: str | None = None, **delta: object) -> dict[str, object]:
    """A chunk of OpenAI's."""
    return {
        "object": "chat.completion.chunk",
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish}],
    }


def tool(
    index: int | None, call_id: str | None = None, name: str | None = None, arguments: str = ""
) -> object:
    """A piece of a tool call of OpenAI's."""
    return {"index": index, "id": call_id, "function": {"name": name, "arguments": arguments}}


def grown(content: object, finish: str = "null", **message: object) -> dict[str, object]:
    """A chunk of DashScope's."""
    said = {"role": "assistant", "content": content, **message}
    return {
        "output": {"choices": [{"message": said, "finish_reason": finish}]},
        "usage": {"input_tokens": 5, "output_tokens": 3, "prompt_tokens_details": {"cached_tokens": 2}},
    }


def parts(*said: dict[str, object], finish: str | None = None) -> dict[str, object]:
    """A chunk of Gemini's."""
    candidate: dict[str, object] = {"content": {"role": "model", "parts": list(said)}}
    return {"candidates": [candidate | ({"finishReason": finish} if finish else {})]}


def block(index: int, **delta: object) -> dict[str, object]:
    """A delta of Anthropic's."""
    return {"type": "content_block_delta", "index": index, "delta": delta}


STARTED = {
    "type": "message_start",
    "message": {"usage": {"input_tokens": 3, "cache_read_input_tokens": 2, "output_tokens": 1}},
}
STOPPED = {"type": "message_stop"}


def ended(reason: str) -> dict[str, object]:
    """The event before Anthropic's last."""
    return {"type": "message_delta", "delta": {"stop_reason": reason}, "usage": {"output_tokens": 3}}


@dataclass(frozen=True)
class Case:
    """A stream and what is in it."""

    name: str
    kind: str
    stream: bytes
    text: str = ""
    reasoning: str = ""
    calls: tuple[tuple[str, str], ...] = ()
    reason: FinishReason = FinishReason.STOP
    usage: Usage | None = None
    fails: type[UpstreamError] | None = None
    ids: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.kind}-{self.name}"


USED = Usage(5, 3, 2)
OPENAI_USED = {"prompt_tokens": 5, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 2}}
GEMINI_USED = {
    "promptTokenCount": 5,
    "candidatesTokenCount": 2,
    "thoughtsTokenCount": 1,
    "cachedContentTokenCount": 2,
}
CUMULATIVE = (
    "还",
    "还在的",
    "还在的，亲。今天下单今天发货，包邮",
    "还在的，亲。今天下单今天发货，包邮！",
    "",
)

CASES = [
    Case(
        "plain",
        "openai",
        sse(
            chat(role="assistant", content=""),
            chat(content="还在"),
            chat(content="的🙂"),
            chat("stop"),
            {"choices": [], "usage": OPENAI_USED},
            b"[DONE]",
        ),
        text="还在的🙂",
        usage=USED,
    ),
    Case(
        "null content",
        "openai",
        sse(chat(content=None), chat(content="a"), chat("length", content=None), b"[DONE]"),
        text="a",
        reason=FinishReason.LENGTH,
    ),
    Case(
        "deepseek",
        "openai",
        sse(
            chat(content=None, reasoning_content="hm"),
            chat(reasoning_content="m"),
            chat(content="a", reasoning_content=None),
            chat("stop", content="")
            | {"usage": {"prompt_tokens": 5, "completion_tokens": 3, "prompt_cache_hit_tokens": 2}},
            b"[DONE]",
        ),
        text="a",
        reasoning="hmm",
        usage=USED,
    ),
    Case(
        "usage null choices",
        "openai",
        sse(chat(content="a"), chat("stop"), {"choices": None, "usage": OPENAI_USED}, b"[DONE]"),
        text="a",
        usage=USED,
    ),
    Case("no finish reason but done", "openai", sse(chat(content="a"), b"[DONE]"), text="a"),
    Case("no done", "openai", sse(chat(content="a"), chat("stop")), text="a"),
    Case(
        "no blank line at the end", "openai", sse(chat(content="a"), chat("stop")) + b"data: [DONE]", text="a"
    ),
    Case(
        "no blank lines",
        "openai",
        sse(chat(content="a"), chat("stop"), b"[DONE]").replace(b"\n\n", b"\n"),
        text="a",
    ),
    Case(
        "parts of content",
        "openai",
        sse(chat(content=[{"type": "text", "text": "a"}, {"type": "reference"}]), chat("stop"), b"[DONE]"),
        text="a",
    ),
    Case(
        "refusal",
        "openai",
        sse(chat(refusal="no"), chat("content_filter"), b"[DONE]"),
        text="no",
        reason=FinishReason.CONTENT_FILTER,
    ),
    Case(
        "tools",
        "openai",
        sse(
            chat(tool_calls=[tool(0, "c1", "f", "")]),
            chat(tool_calls=[tool(0, arguments='{"a"')]),
            chat(tool_calls=[tool(0, arguments=":1}"), tool(1, "c2", "g", "{}")]),
            chat("tool_calls"),
            b"[DONE]",
        ),
        calls=(("f", '{"a":1}'), ("g", "{}")),
        ids=("c1", "c2"),
        reason=FinishReason.TOOL_CALLS,
    ),
    Case(
        "tools without index",
        "openai",
        sse(
            chat(tool_calls=[tool(None, "c1", "f", "{}")]),
            chat(tool_calls=[tool(None, "c2", "g", "{}")]),
            chat("stop"),
            b"[DONE]",
        ),
        calls=(("f", "{}"), ("g", "{}")),
        ids=("c1", "c2"),
        reason=FinishReason.TOOL_CALLS,
    ),
    Case("broken off", "openai", sse(chat(content="a")), text="a", fails=UpstreamUnavailable),
    Case(
        "cut in an event",
        "openai",
        sse(chat(content="a")) + b'data: {"cho',
        text="a",
        fails=UpstreamUnavailable,
    ),
    Case(
        "garbage", "openai", sse(chat(content="a"), b"<oops>", b"[DONE]"), text="a", fails=UpstreamUnavailable
    ),
    Case("no object", "openai", sse(chat(content="a"), b"[1]"), text="a", fails=UpstreamUnavailable),
    Case("odd content", "openai", sse(chat(content={"a": 1})), fails=UpstreamUnavailable),
    Case("odd choices", "openai", sse({"choices": "abc"}), fails=UpstreamUnavailable),
    Case(
        "error",
        "openai",
        sse(chat(content="a"), {"error": {"message": "boom", "code": 502}}),
        text="a",
        fails=UpstreamUnavailable,
    ),
    Case("error as text", "openai", sse({"error": "boom"}), fails=UpstreamUnavailable),
    Case("error by name", "openai", sse(("error", {"message": "boom"})), fails=UpstreamUnavailable),
    Case(
        "error of vllm",
        "openai",
        sse({"object": "error", "message": "boom", "code": 500}),
        fails=UpstreamUnavailable,
    ),
    Case(
        "error that limits", "openai", sse({"error": {"code": "rate_limit_exceeded"}}), fails=UpstreamLimited
    ),
    Case(
        "out of resources",
        "openai",
        sse(chat(content="a"), chat("insufficient_system_resource"), b"[DONE]"),
        text="a",
        fails=UpstreamUnavailable,
    ),
    Case(
        "cumulative",
        "dashscope",
        sse(*(("result", grown(text)) for text in CUMULATIVE), ("result", grown(CUMULATIVE[3], "stop"))),
        text=CUMULATIVE[3],
        usage=USED,
    ),
    Case(
        "increments",
        "dashscope",
        sse(grown("还在"), grown("的"), grown(""), grown("还在", "stop")),
        text="还在的还在",
        usage=USED,
    ),
    Case(
        "a cumulative text that is mended",
        "dashscope",
        sse(
            grown("一二三四五六七八九十一二三四五六"),
            grown("一二三四五六七八九十一二三四五六\ufffd"),
            grown("一二三四五六七八九十一二三四五六七八", "stop"),
        ),
        text="一二三四五六七八九十一二三四五六\ufffd八",
        usage=USED,
    ),
    Case(
        "thoughts",
        "dashscope",
        sse(grown("", reasoning_content="hm"), grown("", reasoning_content="m"), grown("a", "length")),
        text="a",
        reasoning="hmm",
        reason=FinishReason.LENGTH,
        usage=USED,
    ),
    Case(
        "cumulative tools",
        "dashscope",
        sse(
            grown("", tool_calls=[tool(0, "c1", "f", "")]),
            grown("", tool_calls=[tool(0, "c1", "f", '{"a"')]),
            grown("", "tool_calls", tool_calls=[tool(0, "c1", "f", '{"a":1}')]),
        ),
        calls=(("f", '{"a":1}'),),
        ids=("c1",),
        reason=FinishReason.TOOL_CALLS,
        usage=USED,
    ),
    Case(
        "parts of content",
        "dashscope",
        sse(grown([{"text": "a"}]), grown([{"text": "ab"}], "stop")),
        text="ab",
        usage=USED,
    ),
    Case(
        "no json",
        "dashscope",
        sse(b"plain words", b"  ", grown("a", "stop")),
        text="plain wordsa",
        usage=USED,
    ),
    Case(
        "error",
        "dashscope",
        sse(grown("a"), {"error": {"message": "boom"}}),
        text="a",
        fails=UpstreamUnavailable,
    ),
    Case(
        "error by name",
        "dashscope",
        b'id:1\nevent:error\n:HTTP_STATUS/429\ndata:{"code":"Throttling.RateQuota","message":"slow"}\n\n',
        fails=UpstreamLimited,
    ),
    Case(
        "error by code",
        "dashscope",
        sse({"code": "InternalError", "message": "boom", "request_id": "r"}),
        fails=UpstreamUnavailable,
    ),
    Case("broken off", "dashscope", sse(grown("a")), text="a", fails=UpstreamUnavailable),
    Case("odd shape", "dashscope", sse(grown("a"), {"answer": 1}), text="a", fails=UpstreamUnavailable),
    Case(
        "plain",
        "anthropic",
        named(
            STARTED,
            {"type": "ping"},
            {
                "type": "content_block_start",
                "index": 0,
                "content_block": {"type": "thinking", "thinking": ""},
            },
            block(0, type="thinking_delta", thinking="hm"),
            block(0, type="signature_delta", signature="x"),
            {"type": "content_block_start", "index": 1, "content_block": {"type": "text", "text": ""}},
            block(1, type="text_delta", text="还在"),
            block(1, type="text_delta", text="的"),
            {"type": "content_block_stop", "index": 1},
            {"type": "novelty"},
            ended("end_turn"),
            STOPPED,
        ),
        text="还在的",
        reasoning="hm",
        usage=USED,
    ),
    Case(
        "tools",
        "anthropic",
        named(
            STARTED,
            block(0, type="text_delta", text="a"),
            {
                "type": "content_block_start",
                "index": 1,
                "content_block": {"type": "tool_use", "id": "c1", "name": "f", "input": {}},
            },
            block(1, type="input_json_delta", partial_json=""),
            block(1, type="input_json_delta", partial_json='{"a"'),
            block(1, type="input_json_delta", partial_json=":1}"),
            {
                "type": "content_block_start",
                "index": 2,
                "content_block": {"type": "tool_use", "id": "c2", "name": "g", "input": {}},
            },
            block(2, type="input_json_delta", partial_json="{}"),
            ended("tool_use"),
            STOPPED,
        ),
        text="a",
        calls=(("f", '{"a":1}'), ("g", "{}")),
        ids=("c1", "c2"),
        reason=FinishReason.TOOL_CALLS,
        usage=USED,
    ),
    Case(
        "refusal",
        "anthropic",
        named(STARTED, ended("refusal"), STOPPED),
        reason=FinishReason.CONTENT_FILTER,
        usage=USED,
    ),
    Case(
        "error",
        "anthropic",
        named(
            STARTED,
            block(0, type="text_delta", text="a"),
            {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}},
        ),
        text="a",
        fails=UpstreamUnavailable,
    ),
    Case(
        "broken off",
        "anthropic",
        named(STARTED, block(0, type="text_delta", text="a")),
        text="a",
        fails=UpstreamUnavailable,
    ),
    Case(
        "garbage",
        "anthropic",
        named(STARTED, block(0, type="text_delta", text="a")) + sse(b"<oops>"),
        text="a",
        fails=UpstreamUnavailable,
    ),
    Case(
        "odd text",
        "anthropic",
        named(STARTED, block(0, type="text_delta", text=5), STOPPED),
        fails=UpstreamUnavailable,
    ),
    Case(
        "plain",
        "gemini",
        sse(
            parts({"text": "hm", "thought": True}),
            parts({"text": "还在"}),
            parts({"text": "的"}, finish="STOP") | {"usageMetadata": GEMINI_USED},
        ),
        text="还在的",
        reasoning="hm",
        usage=USED,
    ),
    Case(
        "tools",
        "gemini",
        sse(
            parts(
                {"functionCall": {"name": "f", "id": "c1", "args": {"a": 1}}, "thoughtSignature": "x"},
                {"functionCall": {"name": "g", "id": "c2"}},
                finish="STOP",
            )
        ),
        calls=(("f", '{"a":1}'), ("g", "{}")),
        ids=("c1", "c2"),
        reason=FinishReason.TOOL_CALLS,
    ),
    Case(
        "filtered",
        "gemini",
        sse(parts({"text": "a"}), {"candidates": [{"finishReason": "SAFETY"}]}),
        text="a",
        reason=FinishReason.CONTENT_FILTER,
    ),
    Case(
        "blocked",
        "gemini",
        sse({"promptFeedback": {"blockReason": "SAFETY"}}),
        reason=FinishReason.CONTENT_FILTER,
    ),
    Case(
        "malformed call",
        "gemini",
        sse(parts({"text": "a"}, finish="MALFORMED_FUNCTION_CALL")),
        text="a",
        fails=UpstreamUnavailable,
    ),
    Case(
        "error",
        "gemini",
        sse(parts({"text": "a"}), {"error": {"code": 503, "status": "UNAVAILABLE", "message": "x"}}),
        text="a",
        fails=UpstreamUnavailable,
    ),
    Case("broken off", "gemini", sse(parts({"text": "a"})), text="a", fails=UpstreamUnavailable),
    Case("garbage", "gemini", sse(parts({"text": "a"}), b"<oops>"), text="a", fails=UpstreamUnavailable),
]
