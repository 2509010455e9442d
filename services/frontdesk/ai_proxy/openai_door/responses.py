"""Answers in the shapes of OpenAI's API.

https://platform.openai.com/docs/api-reference/chat/object and …/chat/streaming. Chunks of one answer differ
in their `choices` only, so that the rest is written once.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Sequence
from typing import Any

import orjson

from frontdesk.ai_proxy.completions import AvailableModel
from frontdesk.ai_proxy.model import Completion, Delta, Embeddings, Outcome, Piece, ToolCall, Usage

DONE = b"data: [DONE]\n\n"

# OpenAI has neither; both are for people who look.
_OWNER = "frontdesk"


class Chunks:
    """Writes the events of one streamed answer. `created` is in Unix seconds."""

    def __init__(self, answer_id: str, created: int, model: str, *, include_usage: bool) -> None:
        head = orjson.dumps(
            {"id": answer_id, "object": "chat.completion.chunk", "created": created, "model": model}
        )
        self._head = b"data: " + head[:-1] + b',"choices":['
        self._tail = b',"usage":null}\n\n' if include_usage else b"}\n\n"
        self._include_usage = include_usage
        self._begun = False

    def write(self, batch: Sequence[Piece | Outcome]) -> bytes:
        """The events of a batch; its Outcome, if it has one, is its last piece."""
        return b"".join([self._piece(piece) for piece in batch])

    def _piece(self, piece: Piece | Outcome) -> bytes:
        if isinstance(piece, Delta):
            if piece.reasoning:
                return self._delta(_reasoning(piece))
            return self._delta(b'{"content":' + orjson.dumps(piece.text) + b"}")
        if isinstance(piece, ToolCall):
            return self._delta(orjson.dumps({"tool_calls": [_call_piece(piece)]}))
        if isinstance(piece, Outcome):
            return self._end(piece)
        raise TypeError(f"no piece of an answer to a caller: {type(piece).__name__}")

    def _delta(self, delta: bytes) -> bytes:
        if not self._begun:
            self._begun = True
            delta = b'{"role":"assistant",' + delta[1:]
        choice = b'{"index":0,"delta":' + delta + b',"logprobs":null,"finish_reason":null}]'
        return self._head + choice + self._tail

    def _end(self, outcome: Outcome) -> bytes:
        choice = (
            b'{"index":0,"delta":{},"logprobs":null,"finish_reason":"'
            + outcome.finish_reason.value.encode()
            + b'"}]'
        )
        end = self._head + choice + self._tail
        if self._include_usage:
            end += self._head + b'],"usage":' + orjson.dumps(usage_body(outcome.usage)) + b"}\n\n"
        return end + DONE


def _reasoning(delta: Delta) -> bytes:
    body = {"reasoning_content": delta.reasoning}
    return orjson.dumps({"content": delta.text, **body} if delta.text else body)


def error_event(body: dict[str, Any]) -> bytes:
    """What the SDKs raise out of a stream that has begun."""
    return b"data: " + orjson.dumps({"error": body}) + b"\n\n"


def completion_body(answer_id: str, created: int, model: str, completion: Completion) -> bytes:
    """A whole answer."""
    answer, outcome = completion.answer, completion.outcome
    message: dict[str, Any] = {
        "role": "assistant",
        "content": answer.text if answer.text or not answer.tool_calls else None,
        "refusal": None,
    }
    if answer.reasoning:
        message["reasoning_content"] = answer.reasoning
    if answer.tool_calls:
        message["tool_calls"] = [_call(call) for call in answer.tool_calls]
    return orjson.dumps(
        {
            "id": answer_id,
            "object": "chat.completion",
            "created": created,
            "model": model,
            "choices": [
                {
                    "index": 0,
                    "message": message,
                    "logprobs": None,
                    "finish_reason": outcome.finish_reason.value,
                }
            ],
            "usage": usage_body(outcome.usage),
        }
    )


def usage_body(usage: Usage) -> dict[str, Any]:
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
    }


def _call(call: ToolCall) -> dict[str, Any]:
    return {
        "id": call.id,
        "type": "function",
        "function": {"name": call.name, "arguments": call.arguments},
    }


def _call_piece(call: ToolCall) -> dict[str, Any]:
    if not call.id:
        return {"index": call.index, "function": {"arguments": call.arguments}}
    return {"index": call.index, **_call(call)}


def models_body(models: Sequence[AvailableModel]) -> bytes:
    """The list of models."""
    return orjson.dumps({"object": "list", "data": [_model(m) for m in models]})


def model_body(model: AvailableModel) -> bytes:
    """One model."""
    return orjson.dumps(_model(model))


def _model(model: AvailableModel) -> dict[str, Any]:
    # `created` is a needed field of OpenAI's that means nothing here.
    owner = ", ".join(model.providers) or _OWNER
    return {"id": model.name, "object": "model", "created": 0, "owned_by": owner}


def embeddings_body(model: str, embeddings: Embeddings, outcome: Outcome, *, as_base64: bool) -> bytes:
    """Vectors, as lists or as little-endian float32 in base64."""
    data = [
        {
            "object": "embedding",
            "index": index,
            "embedding": _packed(vector) if as_base64 else list(vector),
        }
        for index, vector in enumerate(embeddings.vectors)
    ]
    used = {"prompt_tokens": outcome.usage.prompt_tokens, "total_tokens": outcome.usage.prompt_tokens}
    return orjson.dumps({"object": "list", "model": model, "data": data, "usage": used})


def _packed(vector: Sequence[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
