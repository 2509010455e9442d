"""Anthropic's messages: https://platform.claude.com/docs/en/api/messages, …/build-with-claude/streaming."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import orjson

from frontdesk.ai_proxy.errors import UpstreamMisconfigured
from frontdesk.ai_proxy.model import (
    Answer,
    Embeddings,
    Finish,
    FinishReason,
    Model,
    ModelMessage,
    Prompt,
    Provider,
    Role,
    ToolCall,
    Usage,
)
from frontdesk.ai_proxy.providers import decoding, failures
from frontdesk.ai_proxy.providers.adapter import (
    NO_SCHEMA,
    HttpAdapter,
    Needs,
    answer_tokens,
    dumped,
    given,
    inline_image,
    json_object,
    with_schema,
)
from frontdesk.ai_proxy.providers.decoding import StreamDecoder
from frontdesk.ai_proxy.providers.failures import Call

VERSION = "2023-06-01"
# The API wants a number; this is what it gets when nobody says one.
ANSWER_TOKENS = 4096

_REASONS = {
    "end_turn": FinishReason.STOP,
    "stop_sequence": FinishReason.STOP,
    "pause_turn": FinishReason.STOP,
    "max_tokens": FinishReason.LENGTH,
    "model_context_window_exceeded": FinishReason.LENGTH,
    "tool_use": FinishReason.TOOL_CALLS,
    "refusal": FinishReason.CONTENT_FILTER,
}
_CHOICES = {"auto": "auto", "none": "none", "required": "any"}


class Anthropic(HttpAdapter):
    """Adapter of `anthropic`; a provider's address may end with `/v1` or before it."""

    teaches: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "output_config": (NO_SCHEMA,),
        "output format": (NO_SCHEMA,),
    }

    def call(self, provider: Provider, model: Model, prompt: Prompt, needs: Needs, *, streamed: bool) -> Call:
        in_words = prompt.format == "json_object" or (prompt.format == "json_schema" and NO_SCHEMA in needs)
        if in_words:
            prompt = with_schema(prompt)
        body: dict[str, Any] = {
            "model": model.upstream_name,
            "max_tokens": answer_tokens(prompt, model) or ANSWER_TOKENS,
            "messages": _messages(prompt),
            **given(system="\n\n".join(said.text for said in prompt.messages if said.role is Role.SYSTEM)),
            # Its temperatures end at 1.
            **given(temperature=None if prompt.temperature is None else min(prompt.temperature, 1.0)),
            **given(top_p=prompt.top_p, stop_sequences=prompt.stop, tools=_tools(prompt)),
        }
        if prompt.tools and prompt.tool_choice:
            kind = _CHOICES.get(prompt.tool_choice, "tool")
            body["tool_choice"] = {"type": kind, **({"name": prompt.tool_choice} if kind == "tool" else {})}
        if prompt.format == "json_schema" and not in_words:
            schema = dict(prompt.schema or {})
            body["output_config"] = {"format": {"type": "json_schema", "schema": schema}}
        if streamed:
            body["stream"] = True
        path = "messages" if provider.base_url.rstrip("/").endswith("/v1") else "v1/messages"
        headers = {"anthropic-version": VERSION, **given(**{"x-api-key": provider.api_key})}
        return Call(provider, model, path, headers, dumped(body))

    async def embed(
        self, provider: Provider, model: Model, texts: Sequence[str], dimensions: int | None
    ) -> Embeddings:
        """There are none: raises UpstreamMisconfigured."""
        call = Call(provider, model, "", {}, b"")
        raise call.error(UpstreamMisconfigured, "", "the provider has no embeddings")

    def _decoder(self, call: Call) -> StreamDecoder:
        return AnthropicDecoder(call, self._event_bytes)


class AnthropicDecoder(StreamDecoder):
    """Events from `message_start` to `message_stop`."""

    def __init__(self, call: Call, event_bytes: int) -> None:
        super().__init__(call, event_bytes)
        # The block's index to the tool call's: text and thoughts are blocks too.
        self._tools: dict[int, int] = {}
        self._reason: FinishReason | None = None
        self._used: dict[str, Any] = {}

    def _take(self, event: bytes, payload: bytes) -> None:
        told = orjson.loads(payload)
        kind = told.get("type")
        if kind == "content_block_delta":
            delta = told["delta"]
            # Signatures and citations are no part of an answer here.
            if delta["type"] == "text_delta":
                self._texts.append(delta["text"])
            elif delta["type"] == "thinking_delta":
                self._say(None, delta["thinking"])
            elif delta["type"] == "input_json_delta" and delta["partial_json"]:
                self._call(ToolCall(self._tools[told["index"]], arguments=delta["partial_json"]))
        elif kind == "content_block_start":
            self._block(told["index"], told["content_block"])
        elif kind == "message_start":
            self._count(told["message"].get("usage"))
        elif kind == "message_delta":
            self._count(told.get("usage"))
            reason = told["delta"].get("stop_reason")
            if reason:
                self._reason = _REASONS.get(reason, FinishReason.STOP)
        elif kind == "message_stop":
            self._finish(self._reason or FinishReason.STOP, _usage(self._used))
        elif kind == "error" or event == b"error":
            self.failure = failures.in_band(self._of, told)

    def _block(self, index: int, block: Mapping[str, Any]) -> None:
        if block["type"] == "tool_use":
            number = self._tools[index] = len(self._tools)
            self._call(ToolCall(number, block["id"], block["name"]))
        elif block["type"] == "text":
            self._say(block.get("text"))

    def _count(self, told: Mapping[str, Any] | None) -> None:
        """Numbers are those of the whole answer so far."""
        self._used.update({name: value for name, value in (told or {}).items() if value is not None})

    def _ended(self) -> None:
        if self._reason is not None:
            self._finish(self._reason, _usage(self._used))

    def _answer(self, told: Any) -> Answer:
        blocks = told["content"]
        calls = [block for block in blocks if block["type"] == "tool_use"]
        return Answer(
            text="".join(block["text"] for block in blocks if block["type"] == "text"),
            reasoning="".join(block["thinking"] for block in blocks if block["type"] == "thinking"),
            tool_calls=tuple(
                ToolCall(index, block["id"], block["name"], orjson.dumps(block["input"]).decode())
                for index, block in enumerate(calls)
            ),
            finish=Finish(
                _REASONS.get(told.get("stop_reason"), FinishReason.STOP), _usage(told.get("usage") or {})
            ),
        )


def _usage(told: Mapping[str, Any]) -> Usage | None:
    """`input_tokens` leaves out what came from the cache and what was put there."""
    cached = told.get("cache_read_input_tokens") or 0
    fresh = told.get("input_tokens") or 0
    return decoding.usage(
        fresh + cached + (told.get("cache_creation_input_tokens") or 0), told.get("output_tokens"), cached
    )


def _tools(prompt: Prompt) -> list[dict[str, Any]]:
    return [
        {
            "name": tool.name,
            "input_schema": dict(tool.parameters) or {"type": "object", "properties": {}},
            **given(description=tool.description),
        }
        for tool in prompt.tools
    ]


def _messages(prompt: Prompt) -> list[dict[str, Any]]:
    """Messages in turns: results of tools that were called together belong into one."""
    turns: list[dict[str, Any]] = []
    for said in prompt.messages:
        if said.role is Role.SYSTEM:
            continue
        role = "assistant" if said.role is Role.ASSISTANT else "user"
        if not turns or turns[-1]["role"] != role:
            turns.append({"role": role, "content": []})
        turns[-1]["content"].extend(_blocks(said))
    return [turn for turn in turns if turn["content"]]


def _blocks(said: ModelMessage) -> list[dict[str, Any]]:
    if said.role is Role.TOOL:
        return [{"type": "tool_result", "tool_use_id": said.tool_call_id, "content": said.text}]
    blocks: list[dict[str, Any]] = [{"type": "image", "source": _source(url)} for url in said.image_urls]
    if said.text:
        blocks.append({"type": "text", "text": said.text})
    for call in said.tool_calls:
        arguments = json_object(call.arguments)
        blocks.append({"type": "tool_use", "id": call.id, "name": call.name, "input": arguments})
    return blocks


def _source(url: str) -> dict[str, str]:
    inline = inline_image(url)
    if inline is None:
        return {"type": "url", "url": url}
    return {"type": "base64", "media_type": inline[0], "data": inline[1]}
