"""DashScope's own API (AI-05 to AI-12).

https://help.aliyun.com/en/model-studio/qwen-api-via-dashscope. Its chunks hold the whole text so far; models
that think, and servers that were asked to, send what is new. Which it is, is seen where nobody asked for it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import orjson

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
from frontdesk.ai_proxy.providers import decoding, failures, openai
from frontdesk.ai_proxy.providers.adapter import (
    NO_FORMAT,
    NO_SCHEMA,
    STREAM_ONLY,
    Fixed,
    HttpAdapter,
    Needs,
    answer_tokens,
    dumped,
    given,
)
from frontdesk.ai_proxy.providers.decoding import FINISH_REASONS, StreamDecoder, text_of
from frontdesk.ai_proxy.providers.failures import Call

INCREMENTS = "increments"
MULTIMODAL = "multimodal"

_TEXT = "services/aigc/text-generation/generation"
_MULTIMODAL = "services/aigc/multimodal-generation/generation"
_EMBEDDING = "services/embeddings/text-embedding/text-embedding"

# An increment that begins with all of a text this long is none: the chunks hold the whole text.
_CERTAIN = 16


class DashScope(HttpAdapter):
    """Adapter of `dashscope`; a provider's address ends with `/api/v1`, or is that of its generation door."""

    teaches: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "incremental_output": (INCREMENTS,),
        # What a model says that takes images, or none, but only at the other door.
        "url error": (MULTIMODAL,),
        "response_format": (NO_SCHEMA, NO_FORMAT),
        "only support stream": (STREAM_ONLY,),
        "non-streaming": (STREAM_ONLY,),
    }
    batch: ClassVar[int] = 10

    def call(self, provider: Provider, model: Model, prompt: Prompt, needs: Needs, *, streamed: bool) -> Call:
        format_, prompt = openai.response_format(prompt, needs)
        multimodal = MULTIMODAL in needs or any(said.image_urls for said in prompt.messages)
        parameters = {
            "result_format": "message",
            **given(temperature=prompt.temperature, top_p=prompt.top_p, stop=prompt.stop, seed=prompt.seed),
            **given(max_tokens=answer_tokens(prompt, model), response_format=format_),
            **given(tools=openai.tools(prompt), tool_choice=openai.tool_choice(prompt)),
        }
        if streamed and INCREMENTS in needs:
            parameters["incremental_output"] = True
        body = {
            "model": model.upstream_name,
            "input": {"messages": [_message(said, multimodal) for said in prompt.messages]},
            "parameters": parameters,
        }
        headers = openai.authorization(provider)
        if streamed:
            headers["X-DashScope-SSE"] = "enable"
        path = _MULTIMODAL if multimodal else _TEXT
        if provider.base_url.rstrip("/").endswith("/generation"):
            path = ""
        return Call(provider, model, path, headers, dumped(body))

    async def embed(
        self, provider: Provider, model: Model, texts: Sequence[str], dimensions: int | None
    ) -> Embeddings:
        """A vector a text."""
        parts = []
        for some in decoding.batches(texts, self.batch):
            body = {
                "model": model.upstream_name,
                "input": {"texts": list(some)},
                "parameters": given(dimension=dimensions),
            }
            call = Call(provider, model, _EMBEDDING, openai.authorization(provider), dumped(body))
            _, answer = await self._http.fetch(Fixed(call))
            parts.append(_embeddings(call, answer, len(some)))
        return decoding.joined(parts)

    def _decoder(self, call: Call) -> StreamDecoder:
        increments = INCREMENTS in self.needs(call.provider, call.model)
        return DashScopeDecoder(call, self._event_bytes, increments=increments)


class Growth:
    """A text that comes as the whole so far or as what is new; `more` says what is new. With `increments` it
    is known to be the latter: `1` and `1` are then 11, and not twice the same."""

    def __init__(self, *, increments: bool = False) -> None:
        self._full = ""
        self._whole = False
        self._increments = increments

    def more(self, content: str) -> str:
        """What of `content` was not there before."""
        full = self._full
        if not content or self._increments:
            return content
        if not full:
            self._full = content
            return content
        if self._whole or content.startswith(full):
            self._whole = self._whole or len(full) >= _CERTAIN
            if len(content) > len(full):
                self._full = content
            return content[len(full) :]
        self._increments = True
        self._full = ""
        return content


class DashScopeDecoder(StreamDecoder):
    """Chunks with `output.choices[0].message`; the last has a `finish_reason`."""

    def __init__(self, call: Call, event_bytes: int, *, increments: bool = False) -> None:
        super().__init__(call, event_bytes)
        self._increments = increments
        self._text = Growth(increments=increments)
        self._reasoning = Growth(increments=increments)
        self._arguments: dict[int, Growth] = {}
        self._usage: Usage | None = None

    def _take(self, event: bytes, payload: bytes) -> None:
        try:
            chunk = orjson.loads(payload)
        except orjson.JSONDecodeError:
            # AI-07: what is no JSON is said as it is.
            if payload.strip() not in {b"", b"[DONE]"}:
                self._say(payload.decode(errors="replace"))
            return
        if event == b"error" or chunk.get("error") or (chunk.get("code") and not chunk.get("output")):
            self.failure = failures.in_band(self._of, chunk)
            return
        self._usage = _usage(chunk.get("usage")) or self._usage
        choices = chunk["output"].get("choices")
        if not choices:
            return
        message = choices[0].get("message") or {}
        self._say(self._text.more(text_of(message.get("content"))))
        self._say(None, self._reasoning.more(message.get("reasoning_content") or ""))
        for told in message.get("tool_calls") or ():
            self._tool_call(told)
        reason = choices[0].get("finish_reason")
        if reason and reason != "null":
            self._finish(FINISH_REASONS.get(reason, FinishReason.STOP), self._usage)

    def _tool_call(self, told: Mapping[str, Any]) -> None:
        index = told.get("index") or 0
        function = told.get("function") or {}
        begun = index in self._arguments
        if not begun:
            self._arguments[index] = Growth(increments=self._increments)
        more = self._arguments[index].more(function.get("arguments") or "")
        if not begun:
            self._call(ToolCall(index, told.get("id") or "", function.get("name") or "", more))
        elif more:
            self._call(ToolCall(index, arguments=more))

    def _answer(self, told: Any) -> Answer:
        if told.get("code") and not told.get("output"):
            raise failures.in_band(self._of, told)
        choice = told["output"]["choices"][0]
        message = choice["message"]
        calls = tuple(
            ToolCall(index, call.get("id") or "", call["function"]["name"], call["function"]["arguments"])
            for index, call in enumerate(message.get("tool_calls") or ())
        )
        reason = FINISH_REASONS.get(choice.get("finish_reason") or "stop", FinishReason.STOP)
        if calls and reason is FinishReason.STOP:
            reason = FinishReason.TOOL_CALLS
        return Answer(
            text=text_of(message.get("content")),
            reasoning=message.get("reasoning_content") or "",
            tool_calls=calls,
            finish=Finish(reason, _usage(told.get("usage"))),
        )


def _message(said: ModelMessage, multimodal: bool) -> dict[str, Any]:
    told = openai.message(said)
    if multimodal and said.role is not Role.TOOL:
        images = [{"image": url} for url in said.image_urls]
        told["content"] = [*images, *([{"text": said.text}] if said.text or not images else [])]
    return told


def _usage(told: Mapping[str, Any] | None) -> Usage | None:
    if not told:
        return None
    details = told.get("prompt_tokens_details") or {}
    return decoding.usage(told.get("input_tokens"), told.get("output_tokens"), details.get("cached_tokens"))


def _embeddings(call: Call, body: bytes, texts: int) -> Embeddings:
    told = decoding.parse(call, body)
    if told.get("code") and not told.get("output"):
        raise failures.in_band(call, told)
    try:
        data = sorted(told["output"]["embeddings"], key=lambda one: one.get("text_index") or 0)
        found = [one["embedding"] for one in data]
        used = decoding.usage((told.get("usage") or {}).get("total_tokens"), 0)
    except (AttributeError, KeyError, TypeError):
        raise failures.garbled(call, "no embeddings") from None
    return Embeddings(decoding.vectors(call, found, texts), used)
