"""Gemini's generateContent: https://ai.google.dev/api/generate-content and …/api/embeddings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from mimetypes import guess_type
from typing import Any, ClassVar
from urllib.parse import quote, urlsplit

import orjson

from frontdesk.ai_proxy.model import (
    Answer,
    Delta,
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
    new_id,
)
from frontdesk.ai_proxy.providers import decoding, failures
from frontdesk.ai_proxy.providers.adapter import (
    NO_FORMAT,
    NO_SCHEMA,
    Fixed,
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

# Stands for the signature of a call that was made elsewhere or whose signature was not kept:
# https://ai.google.dev/gemini-api/docs/thought-signatures
_NO_SIGNATURE = "skip_thought_signature_validator"

_REASONS = {
    "STOP": FinishReason.STOP,
    "MAX_TOKENS": FinishReason.LENGTH,
    "SAFETY": FinishReason.CONTENT_FILTER,
    "RECITATION": FinishReason.CONTENT_FILTER,
    "LANGUAGE": FinishReason.CONTENT_FILTER,
    "BLOCKLIST": FinishReason.CONTENT_FILTER,
    "PROHIBITED_CONTENT": FinishReason.CONTENT_FILTER,
    "SPII": FinishReason.CONTENT_FILTER,
    "IMAGE_SAFETY": FinishReason.CONTENT_FILTER,
}
_MODES = {"auto": "AUTO", "none": "NONE", "required": "ANY"}


class Gemini(HttpAdapter):
    """Adapter of `gemini`; a provider's address may end with the version, as `/v1beta`, or before it."""

    teaches: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "responsejsonschema": (NO_SCHEMA, NO_FORMAT),
        "response_json_schema": (NO_SCHEMA, NO_FORMAT),
        "mime type": (NO_SCHEMA, NO_FORMAT),
    }

    def call(self, provider: Provider, model: Model, prompt: Prompt, needs: Needs, *, streamed: bool) -> Call:
        format_: dict[str, Any] = {}
        if prompt.format != "text":
            if NO_FORMAT not in needs:
                format_["responseMimeType"] = "application/json"
            if prompt.format == "json_schema" and not needs & {NO_SCHEMA, NO_FORMAT}:
                format_["responseJsonSchema"] = dict(prompt.schema or {})
            elif prompt.format == "json_schema" or NO_FORMAT in needs:
                prompt = with_schema(prompt)
        system = [{"text": said.text} for said in prompt.messages if said.role is Role.SYSTEM and said.text]
        settings = {
            **given(temperature=prompt.temperature, topP=prompt.top_p, seed=prompt.seed),
            **given(stopSequences=prompt.stop, maxOutputTokens=answer_tokens(prompt, model)),
            **format_,
        }
        body: dict[str, Any] = {"contents": _contents(prompt)}
        if system:
            body["systemInstruction"] = {"parts": system}
        if settings:
            body["generationConfig"] = settings
        if prompt.tools:
            body["tools"] = [{"functionDeclarations": _functions(prompt)}]
            if prompt.tool_choice:
                body["toolConfig"] = {"functionCallingConfig": _calling(prompt.tool_choice)}
        verb = "streamGenerateContent?alt=sse" if streamed else "generateContent"
        return Call(provider, model, _path(provider, model, verb), _headers(provider), dumped(body))

    async def embed(
        self, provider: Provider, model: Model, texts: Sequence[str], dimensions: int | None
    ) -> Embeddings:
        """A vector a text."""
        name = f"models/{model.upstream_name.removeprefix('models/')}"
        path = _path(provider, model, "batchEmbedContents")
        parts = []
        for some in decoding.batches(texts, self.batch):
            body = {
                "requests": [
                    {
                        "model": name,
                        "content": {"parts": [{"text": text}]},
                        **given(outputDimensionality=dimensions),
                    }
                    for text in some
                ]
            }
            call = Call(provider, model, path, _headers(provider), dumped(body))
            _, answer = await self._http.fetch(Fixed(call))
            parts.append(_embeddings(call, answer, len(some)))
        return decoding.joined(parts)

    def _decoder(self, call: Call) -> StreamDecoder:
        return GeminiDecoder(call, self._event_bytes)


class GeminiDecoder(StreamDecoder):
    """Chunks that look like whole answers. The stream's end is the end of the answer; the last chunk has a
    `finishReason`."""

    def __init__(self, call: Call, event_bytes: int) -> None:
        super().__init__(call, event_bytes)
        self._tools = 0
        self._reason: FinishReason | None = None
        self._usage: Usage | None = None

    def _take(self, event: bytes, payload: bytes) -> None:
        chunk = orjson.loads(payload)
        candidates = chunk.get("candidates")
        if candidates:
            candidate = candidates[0]
            for part in (candidate.get("content") or {}).get("parts") or ():
                self._part(part)
            self._end_with(candidate.get("finishReason"))
        elif chunk.get("error"):
            self.failure = failures.in_band(self._of, chunk)
        elif (chunk.get("promptFeedback") or {}).get("blockReason"):
            self._reason = FinishReason.CONTENT_FILTER
        self._usage = _usage(chunk.get("usageMetadata")) or self._usage

    def _part(self, part: Mapping[str, Any]) -> None:
        call = part.get("functionCall")
        if call:
            self._call(_tool_call(self._tools, call))
            self._tools += 1
        elif part.get("thought"):
            self._say(None, part.get("text"))
        else:
            self._say(part.get("text"))

    def _end_with(self, reason: str | None) -> None:
        if reason and reason != "FINISH_REASON_UNSPECIFIED":
            self._reason = _REASONS.get(reason)
            if self._reason is None:
                self.failure = failures.broken_off(self._of, reason)

    def _ended(self) -> None:
        if self._reason is not None:
            self._finish(self._reason, self._usage)

    def _answer(self, told: Any) -> Answer:
        # A whole answer looks like a chunk: it is read as a stream of one.
        self._take(b"", orjson.dumps(told))
        if self.failure is None and self._reason is None:
            self.failure = failures.broken_off(self._of)
        if self.failure is not None:
            raise self.failure
        self._ended()
        pieces = self._taken()
        said = [piece for piece in pieces if isinstance(piece, Delta)]
        return Answer(
            text="".join(piece.text for piece in said),
            reasoning="".join(piece.reasoning for piece in said),
            tool_calls=tuple(piece for piece in pieces if isinstance(piece, ToolCall)),
            finish=next(piece for piece in pieces if isinstance(piece, Finish)),
        )


def _tool_call(index: int, call: Mapping[str, Any]) -> ToolCall:
    arguments = orjson.dumps(call.get("args") or {}).decode()
    return ToolCall(index, call.get("id") or f"call_{new_id()[12:]}", call["name"], arguments)


def _usage(told: Mapping[str, Any] | None) -> Usage | None:
    """Thoughts are paid as answer, what tools of Google brought as question."""
    if not told:
        return None
    return decoding.usage(
        (told.get("promptTokenCount") or 0) + (told.get("toolUsePromptTokenCount") or 0),
        (told.get("candidatesTokenCount") or 0) + (told.get("thoughtsTokenCount") or 0),
        told.get("cachedContentTokenCount"),
    )


def _headers(provider: Provider) -> dict[str, str]:
    return given(**{"x-goog-api-key": provider.api_key})


def _path(provider: Provider, model: Model, verb: str) -> str:
    name = quote(model.upstream_name.removeprefix("models/"), safe="")
    last = provider.base_url.rstrip("/").rpartition("/")[2]
    version = "" if last.startswith("v1") else "v1beta/"
    return f"{version}models/{name}:{verb}"


def _functions(prompt: Prompt) -> list[dict[str, Any]]:
    return [
        {
            "name": tool.name,
            "description": tool.description,
            **({"parametersJsonSchema": dict(tool.parameters)} if tool.parameters else {}),
        }
        for tool in prompt.tools
    ]


def _calling(choice: str) -> dict[str, Any]:
    if choice in _MODES:
        return {"mode": _MODES[choice]}
    return {"mode": "ANY", "allowedFunctionNames": [choice]}


def _contents(prompt: Prompt) -> list[dict[str, Any]]:
    """Messages in turns: results of functions that were called together belong into one."""
    names = {call.id: call.name for said in prompt.messages for call in said.tool_calls}
    turns: list[dict[str, Any]] = []
    for said in prompt.messages:
        if said.role is Role.SYSTEM:
            continue
        role = "model" if said.role is Role.ASSISTANT else "user"
        if not turns or turns[-1]["role"] != role:
            turns.append({"role": role, "parts": []})
        turns[-1]["parts"].extend(_parts(said, names))
    return [turn for turn in turns if turn["parts"]]


def _parts(said: ModelMessage, names: Mapping[str, str]) -> list[dict[str, Any]]:
    if said.role is Role.TOOL:
        name = names.get(said.tool_call_id, said.tool_call_id)
        return [{"functionResponse": {"name": name, "response": json_object(said.text)}}]
    parts: list[dict[str, Any]] = [_image(url) for url in said.image_urls]
    if said.text:
        parts.append({"text": said.text})
    for call in said.tool_calls:
        function = {"name": call.name, "args": json_object(call.arguments)}
        parts.append({"functionCall": function, "thoughtSignature": _NO_SIGNATURE})
    return parts


def _image(url: str) -> dict[str, Any]:
    inline = inline_image(url)
    if inline is None:
        kind = guess_type(urlsplit(url).path)[0] or "image/jpeg"
        return {"fileData": {"fileUri": url, "mimeType": kind}}
    return {"inlineData": {"mimeType": inline[0], "data": inline[1]}}


def _embeddings(call: Call, body: bytes, texts: int) -> Embeddings:
    told = decoding.parse(call, body)
    try:
        found = [one["values"] for one in told["embeddings"]]
        used = (told.get("usageMetadata") or {}).get("promptTokenCount")
    except (AttributeError, KeyError, TypeError):
        raise failures.garbled(call, "no embeddings") from None
    return Embeddings(decoding.vectors(call, found, texts), decoding.usage(used, 0))
