"""OpenAI's chat completions, as OpenAI and everybody compatible speak them.

https://platform.openai.com/docs/api-reference/chat. DeepSeek's `reasoning_content`, servers that send no
index of a tool call, no `finish_reason` or an error inside a stream are understood; servers that refuse a
field are asked without it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import orjson

from frontdesk.ai_proxy.errors import UpstreamUnavailable
from frontdesk.ai_proxy.model import (
    Answer,
    Embeddings,
    Finish,
    FinishReason,
    Model,
    ModelMessage,
    Prompt,
    Provider,
    ToolCall,
    Usage,
)
from frontdesk.ai_proxy.providers import decoding, failures
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
    with_schema,
)
from frontdesk.ai_proxy.providers.decoding import FINISH_REASONS, StreamDecoder, ToolIndexes, text_of
from frontdesk.ai_proxy.providers.failures import Call

NO_STREAM_OPTIONS = "no_stream_options"
COMPLETION_TOKENS = "completion_tokens"
NO_SAMPLING = "no_sampling"

# Reasons to end that are faults: DeepSeek's, OpenRouter's.
_FAULTS = frozenset({"insufficient_system_resource", "error"})


class OpenAi(HttpAdapter):
    """Adapter of `openai`; a provider's address is that before `/chat/completions`."""

    teaches: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "stream_options": (NO_STREAM_OPTIONS,),
        "max_completion_tokens": (COMPLETION_TOKENS,),
        "response_format": (NO_SCHEMA, NO_FORMAT),
        # Reasoning models: "… does not support 0.3 with this model. Only the default (1) value …"
        "only the default": (NO_SAMPLING,),
        "only support stream": (STREAM_ONLY,),
        "non-streaming": (STREAM_ONLY,),
    }

    def call(self, provider: Provider, model: Model, prompt: Prompt, needs: Needs, *, streamed: bool) -> Call:
        format_, prompt = response_format(prompt, needs)
        tokens = "max_completion_tokens" if COMPLETION_TOKENS in needs else "max_tokens"
        body: dict[str, Any] = {
            "model": model.upstream_name,
            "messages": [message(said) for said in prompt.messages],
            **given(stop=prompt.stop, seed=prompt.seed, response_format=format_),
            **given(tools=tools(prompt), tool_choice=tool_choice(prompt)),
            **given(**{tokens: answer_tokens(prompt, model)}),
        }
        if NO_SAMPLING not in needs:
            body.update(given(temperature=prompt.temperature, top_p=prompt.top_p))
        if streamed:
            body["stream"] = True
            if NO_STREAM_OPTIONS not in needs:
                body["stream_options"] = {"include_usage": True}
        return Call(provider, model, "chat/completions", authorization(provider), dumped(body))

    async def embed(
        self, provider: Provider, model: Model, texts: Sequence[str], dimensions: int | None
    ) -> Embeddings:
        """A vector a text, from floats or base64, whichever the server sends."""
        parts = []
        for some in decoding.batches(texts, self.batch):
            body = {"model": model.upstream_name, "input": list(some), **given(dimensions=dimensions)}
            call = Call(provider, model, "embeddings", authorization(provider), dumped(body))
            _, answer = await self._http.fetch(Fixed(call))
            parts.append(_embeddings(call, answer, len(some)))
        return decoding.joined(parts)

    def _decoder(self, call: Call) -> StreamDecoder:
        return OpenAiDecoder(call, self._event_bytes)


class OpenAiDecoder(StreamDecoder):
    """`chat.completion.chunk` after chunk, `[DONE]` at the end."""

    def __init__(self, call: Call, event_bytes: int) -> None:
        super().__init__(call, event_bytes)
        self._indexes = ToolIndexes()
        self._reason: FinishReason | None = None
        self._usage: Usage | None = None

    def _take(self, event: bytes, payload: bytes) -> None:
        if payload == b"[DONE]":
            self._finish(self._reason or FinishReason.STOP, self._usage)
            return
        chunk = orjson.loads(payload)
        choices = chunk.get("choices")
        if choices:
            choice = choices[0]
            reason = choice.get("finish_reason")
            delta = choice.get("delta")
            if delta:
                content = delta.get("content")
                if content:
                    self._texts.append(content if isinstance(content, str) else text_of(content))
                if len(delta) > 1 or not content:
                    self._rest(delta)
                elif not reason:
                    # Nearly all chunks are this: a piece of text and nothing else.
                    return
            if reason:
                self._end_with(reason, chunk)
                self._count(choice.get("usage"))
        used = chunk.get("usage")
        if used:
            self._count(used)
        if chunk.get("error") or (not choices and (event == b"error" or chunk.get("object") == "error")):
            self.failure = failures.in_band(self._of, chunk)

    def _rest(self, delta: Mapping[str, Any]) -> None:
        """Whatever is not content."""
        self._say(delta.get("refusal"), delta.get("reasoning_content") or delta.get("reasoning"))
        for told in delta.get("tool_calls") or ():
            function = told.get("function") or {}
            call_id = told.get("id") or ""
            index = self._indexes.of(told.get("index"), call_id)
            self._call(ToolCall(index, call_id, function.get("name") or "", function.get("arguments") or ""))

    def _end_with(self, reason: str, chunk: Mapping[str, Any]) -> None:
        if reason in _FAULTS:
            self.failure = failures.in_band(self._of, chunk)
        else:
            self._reason = FINISH_REASONS.get(reason, FinishReason.STOP)

    def _count(self, told: Mapping[str, Any] | None) -> None:
        self._usage = usage(told) or self._usage

    def _ended(self) -> None:
        if self._reason is not None:
            self._finish(self._reason, self._usage)

    def _answer(self, told: Any) -> Answer:
        choice = told["choices"][0]
        said = choice["message"]
        calls = tuple(
            ToolCall(
                index,
                call.get("id") or "",
                call["function"]["name"],
                call["function"].get("arguments") or "",
            )
            for index, call in enumerate(said.get("tool_calls") or ())
        )
        reason = choice.get("finish_reason") or "stop"
        if reason in _FAULTS:
            raise self._of.error(UpstreamUnavailable, reason)
        finish = FINISH_REASONS.get(reason, FinishReason.STOP)
        if calls and finish is FinishReason.STOP:
            finish = FinishReason.TOOL_CALLS
        return Answer(
            text=text_of(said.get("content")) or said.get("refusal") or "",
            reasoning=said.get("reasoning_content") or said.get("reasoning") or "",
            tool_calls=calls,
            finish=Finish(finish, usage(told.get("usage"))),
        )


def usage(told: Mapping[str, Any] | None) -> Usage | None:
    """OpenAI's `usage`; DeepSeek and Moonshot tell of their caches in fields of their own."""
    if not told:
        return None
    details = told.get("prompt_tokens_details") or {}
    cached = details.get("cached_tokens") or told.get("prompt_cache_hit_tokens") or told.get("cached_tokens")
    return decoding.usage(told.get("prompt_tokens"), told.get("completion_tokens"), cached)


def authorization(provider: Provider) -> dict[str, str]:
    """The key as a header; models of one's own often have none."""
    return {"Authorization": f"Bearer {provider.api_key}"} if provider.api_key else {}


def message(said: ModelMessage) -> dict[str, Any]:
    """A message in OpenAI's shape."""
    content: Any = said.text
    if said.image_urls:
        images = [{"type": "image_url", "image_url": {"url": url}} for url in said.image_urls]
        content = [*([{"type": "text", "text": said.text}] if said.text else []), *images]
    told: dict[str, Any] = {"role": said.role.value, "content": content}
    if said.tool_calls:
        told["content"] = content or None
        told["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments},
            }
            for call in said.tool_calls
        ]
    if said.tool_call_id:
        told["tool_call_id"] = said.tool_call_id
    return told


def tools(prompt: Prompt) -> list[dict[str, Any]]:
    """The tools in OpenAI's shape."""
    return [
        {
            "type": "function",
            "function": {
                "name": tool.name,
                "parameters": dict(tool.parameters) or {"type": "object", "properties": {}},
                **given(description=tool.description),
            },
        }
        for tool in prompt.tools
    ]


def tool_choice(prompt: Prompt) -> str | dict[str, Any]:
    """`auto`, `none`, `required`, or one tool; empty without tools, where it would be refused."""
    if not prompt.tools or prompt.tool_choice in {"", "auto", "none", "required"}:
        return prompt.tool_choice if prompt.tools else ""
    return {"type": "function", "function": {"name": prompt.tool_choice}}


def response_format(prompt: Prompt, needs: Needs) -> tuple[dict[str, Any] | None, Prompt]:
    """The field `response_format` and the prompt, with the format in words where the server needs them."""
    if prompt.format == "json_schema" and NO_SCHEMA not in needs:
        schema = {"name": "answer", "schema": dict(prompt.schema or {})}
        return {"type": "json_schema", "json_schema": schema}, prompt
    if prompt.format in {"json_schema", "json_object"}:
        if prompt.format == "json_schema" or NO_FORMAT in needs:
            prompt = with_schema(prompt)
        return (None if NO_FORMAT in needs else {"type": "json_object"}), prompt
    return None, prompt


def _embeddings(call: Call, body: bytes, texts: int) -> Embeddings:
    told = decoding.parse(call, body)
    try:
        data = sorted(told["data"], key=lambda one: one.get("index") or 0)
        used = told.get("usage") or {}
        found = [one["embedding"] for one in data]
    except (AttributeError, KeyError, TypeError):
        raise failures.garbled(call, "no embeddings") from None
    prompt_tokens = used.get("prompt_tokens") or used.get("total_tokens")
    return Embeddings(decoding.vectors(call, found, texts), decoding.usage(prompt_tokens, 0))
