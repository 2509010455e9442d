"""OpenAI's chat completions and embeddings, and what speaks like them.

Shapes: https://platform.openai.com/docs/api-reference/chat/object, …/chat-streaming (chunks, the last one of
`stream_options.include_usage` with empty `choices`, `[DONE]`), …/embeddings, and the types
of the package `openai`.
`reasoning_content` before the answer: https://api-docs.deepseek.com/guides/reasoning_model. Errors:
https://platform.openai.com/docs/guides/error-codes.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from frontdesk.simulators.models.asked import Asked, Body, Offered, Refused, Turn
from frontdesk.simulators.models.doors.base import (
    Door,
    Received,
    Voice,
    chat_turns,
    dump,
    text_of,
    whole_number,
)
from frontdesk.simulators.models.events import Event
from frontdesk.simulators.models.script import Tokens
from frontdesk.simulators.models.speech import MAX_DIMENSIONS, Part, ReasoningPart, TextPart

FINGERPRINT = "fp_simulated"
MAX_INPUTS = 2_048


class OpenAIVoice(Voice):
    """Chunks whose first says the role."""

    _begun = False

    def piece(self, part: Part) -> list[Event]:
        if isinstance(part, TextPart):
            delta: Body = {"content": part.text}
            if self.said.reasoning:
                delta["reasoning_content"] = None
        elif isinstance(part, ReasoningPart):
            delta = {"content": None, "reasoning_content": part.text}
        elif part.first:
            function = {"name": part.call.name, "arguments": ""}
            delta = {
                "tool_calls": [
                    {"index": part.index, "id": part.call.id, "type": "function", "function": function}
                ]
            }
        else:
            delta = {"tool_calls": [{"index": part.index, "function": {"arguments": part.arguments}}]}
        return [*self._role(), self._chunk(delta)]

    def ending(self) -> list[Event]:
        events = [*self._role(), self._chunk({}, self.said.finish)]
        if self.asked.include_usage and self.said.usage is not None:
            last = self._frame([]) | {"usage": usage_body(self.said.usage)}
            events.append(Event(dump(last)))
        return [*events, Event(b"[DONE]")]

    def error(self, refused: Refused) -> list[Event]:
        return [Event(dump(error_body(refused)))]

    def whole(self) -> Body:
        said = self.said
        message: Body = {"role": "assistant", "content": said.text, "refusal": None, "annotations": []}
        if said.reasoning:
            message["reasoning_content"] = "".join(said.reasoning)
        if said.tool_calls:
            message["content"] = said.text or None
            message["tool_calls"] = [
                {
                    "id": call.id,
                    "type": "function",
                    "function": {"name": call.name, "arguments": call.arguments},
                }
                for call in said.tool_calls
            ]
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": said.finish}
        body = self._frame([choice]) | {"object": "chat.completion"}
        return body if said.usage is None else body | {"usage": usage_body(said.usage)}

    def _role(self) -> list[Event]:
        if self._begun:
            return []
        self._begun = True
        return [self._chunk({"role": "assistant", "content": "", "refusal": None})]

    def _chunk(self, delta: Body, finish: str | None = None) -> Event:
        frame = self._frame([{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}])
        if self.asked.include_usage:
            frame["usage"] = None
        return Event(dump(frame))

    def _frame(self, choices: list[Body]) -> Body:
        return {
            "id": f"chatcmpl-{self.number:024d}",
            "object": "chat.completion.chunk",
            "created": self.created_s,
            "model": self.asked.model,
            "service_tier": "default",
            "system_fingerprint": FINGERPRINT,
            "choices": choices,
        }


class OpenAIDoor(Door):
    """POST /v1/chat/completions, POST /v1/embeddings."""

    name = "openai"
    voice = OpenAIVoice
    usual: ClassVar[Mapping[int, tuple[str, str, str]]] = {
        400: ("Invalid request.", "", "invalid_request_error"),
        401: ("Incorrect API key provided.", "invalid_api_key", "invalid_request_error"),
        403: ("You are not allowed to use this model.", "model_not_allowed", "invalid_request_error"),
        404: (
            "The model `{model}` does not exist or you do not have access to it.",
            "model_not_found",
            "invalid_request_error",
        ),
        429: ("Rate limit reached for {model}.", "rate_limit_exceeded", "requests"),
        500: ("The server had an error while processing your request.", "", "server_error"),
        503: ("The engine is currently overloaded, please try again later.", "", "server_error"),
    }

    def key(self, received: Received) -> str:
        return received.bearer

    def wrong_key(self, given: str) -> Refused:
        said = (
            f"Incorrect API key provided: {'*' * 8}{given[-4:]}."
            if given
            else "You didn't provide an API key."
        )
        return Refused(401, said, code="invalid_api_key", kind="invalid_request_error")

    def chat(self, received: Received) -> Asked:
        body = received.body
        model = text_of(body, "model", _missing)
        turns = chat_turns(body.get("messages"), _bad)
        if body.get("n") not in (None, 1):
            raise _bad("n", "The simulator says one answer.")
        kind, schema = format_of(body.get("response_format"), turns)
        options = body.get("stream_options")
        if options is not None and body.get("stream") is not True:
            raise _bad(
                "stream_options", "The 'stream_options' parameter is only allowed when 'stream' is enabled."
            )
        most = body.get("max_completion_tokens", body.get("max_tokens"))
        return Asked(
            door=self.name,
            model=model,
            turns=turns,
            stream=body.get("stream") is True,
            tools=tools_of(body.get("tools")),
            tool_choice=choice_of(body.get("tool_choice")),
            format=kind,
            schema=schema,
            max_tokens=whole_number(most),
            include_usage=isinstance(options, dict) and options.get("include_usage") is True,
        )

    def embed(self, received: Received) -> Asked:
        body = received.body
        given = body.get("input")
        single = isinstance(given, str) or (
            isinstance(given, list) and any(isinstance(x, int) for x in given)
        )
        texts = [given] if single else given
        if not isinstance(texts, list) or not 0 < len(texts) <= MAX_INPUTS or "" in texts:
            raise _bad("input", "'$.input' is invalid.")
        dimensions = whole_number(body.get("dimensions"))
        if dimensions is not None and not 0 < dimensions <= MAX_DIMENSIONS:
            raise _bad("dimensions", f"'dimensions' must be from 1 to {MAX_DIMENSIONS}.")
        return Asked(
            door=self.name,
            model=text_of(body, "model", _missing),
            kind="embed",
            texts=tuple(text if isinstance(text, str) else " ".join(map(str, text)) for text in texts),
            dimensions=dimensions,
            base64=body.get("encoding_format") == "base64",
        )

    def embedded(self, asked: Asked, vectors: Sequence[Sequence[float]], tokens: int, number: int) -> Body:
        def shown(vector: Sequence[float]) -> object:
            if not asked.base64:
                return list(vector)
            return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()

        return {
            "object": "list",
            "data": [
                {"object": "embedding", "index": n, "embedding": shown(vector)}
                for n, vector in enumerate(vectors)
            ],
            "model": asked.model,
            "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        }

    def failure(self, refused: Refused, number: int) -> Body:
        return error_body(refused)

    def listed(self, names: Sequence[str], created_s: int) -> Body:
        data = [
            {"id": name, "object": "model", "created": created_s, "owned_by": "simulator"} for name in names
        ]
        return {"object": "list", "data": data}


def error_body(refused: Refused) -> Body:
    """`{error: {message, type, param, code}}`."""
    return {
        "error": {
            "message": refused.message,
            "type": refused.kind or "invalid_request_error",
            "param": refused.param or None,
            "code": refused.code or None,
        }
    }


def usage_body(usage: Tokens) -> Body:
    """Usage in OpenAI's words."""
    return {
        "prompt_tokens": usage.prompt,
        "completion_tokens": usage.completion,
        "total_tokens": usage.prompt + usage.completion,
        "prompt_tokens_details": {"cached_tokens": usage.cached, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning, "audio_tokens": 0},
    }


def tools_of(tools: object) -> tuple[Offered, ...]:
    """`[{type: function, function: {name, parameters}}]`."""
    found: list[Offered] = []
    for n, tool in enumerate(tools if isinstance(tools, list) else []):
        function = tool.get("function") if isinstance(tool, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise _bad(f"tools[{n}].function", f"Missing required parameter: 'tools[{n}].function'.")
        found.append(Offered(function["name"], function.get("parameters") or {}))
    return tuple(found)


def choice_of(choice: object) -> str:
    """`auto`, `none`, `required`, or the name of the tool that must be called."""
    if isinstance(choice, dict) and isinstance(choice.get("function"), dict):
        return str(choice["function"].get("name", ""))
    return choice if isinstance(choice, str) else "auto"


def format_of(wanted: object, turns: Sequence[Turn]) -> tuple[str, dict[str, Any] | None]:
    """`response_format`: its type, and its schema."""
    kind = wanted.get("type") if isinstance(wanted, dict) else "text"
    if kind == "json_object" and not any("json" in turn.text.lower() for turn in turns):
        # Refused by OpenAI, DeepSeek and DashScope alike.
        raise _bad(
            "messages",
            "'messages' must contain the word 'json' in some form, "
            "to use 'response_format' of type 'json_object'.",
        )
    if kind == "json_schema" and isinstance(wanted, dict):
        described = wanted.get("json_schema")
        schema = described.get("schema") if isinstance(described, dict) else None
        if not isinstance(schema, dict):
            raise _bad(
                "response_format.json_schema",
                "Missing required parameter: 'response_format.json_schema.schema'.",
            )
        return kind, schema
    return ("json_object", None) if kind == "json_object" else ("text", None)


def _missing(name: str) -> Refused:
    return Refused(
        400,
        f"Missing required parameter: '{name}'.",
        code="missing_required_parameter",
        kind="invalid_request_error",
        param=name,
    )


def _bad(name: str, problem: str) -> Refused:
    return Refused(400, problem, code="invalid_value", kind="invalid_request_error", param=name)
