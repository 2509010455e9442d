"""Anthropic's messages.

Shapes: https://docs.anthropic.com/en/api/messages and …/messages-streaming (message_start, ping,
content_block_start, content_block_delta with text_delta, input_json_delta, thinking_delta, signature_delta,
content_block_stop, message_delta, message_stop, error), and the types of the package `anthropic`. Errors, and
529 for overloaded_error: https://docs.anthropic.com/en/api/errors. `input_tokens` leaves out those read from
the cache.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import orjson

from frontdesk.simulators.models.asked import Asked, Body, Offered, Refused, Turn, words_of
from frontdesk.simulators.models.doors.base import Door, Received, Voice, dump, text_of, whole_number
from frontdesk.simulators.models.events import Event
from frontdesk.simulators.models.script import Tokens, ToolSaid
from frontdesk.simulators.models.speech import Part, ReasoningPart, Said, TextPart

STOP = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use", "content_filter": "refusal"}
DATED = "2025-01-01T00:00:00Z"
SIGNATURE = "c2ltdWxhdGVk"


class AnthropicVoice(Voice):
    """Blocks of content, one after the other."""

    def __init__(self, asked: Asked, said: Said, number: int, created_s: int) -> None:
        super().__init__(asked, said, number, created_s)
        self._blocks = 0
        self._open = ""

    def opening(self) -> list[Event]:
        usage = self.said.usage
        message = self._message([], None, usage and Tokens(usage.prompt, 1, usage.cached))
        return [_event("message_start", message=message), _event("ping")]

    def piece(self, part: Part) -> list[Event]:
        if isinstance(part, TextPart):
            events = self._begin("text", {"type": "text", "text": ""})
            delta = {"type": "text_delta", "text": part.text}
        elif isinstance(part, ReasoningPart):
            events = self._begin("thinking", {"type": "thinking", "thinking": "", "signature": ""})
            delta = {"type": "thinking_delta", "thinking": part.text}
        else:
            block = {"type": "tool_use", "id": part.call.id, "name": part.call.name, "input": {}}
            events = self._begin(f"tool {part.index}", block)
            delta = {"type": "input_json_delta", "partial_json": part.arguments}
        return [*events, _event("content_block_delta", index=self._blocks - 1, delta=delta)]

    def ending(self) -> list[Event]:
        usage = self.said.usage
        last = _event(
            "message_delta",
            delta={"stop_reason": self._stop(), "stop_sequence": None},
            **({} if usage is None else {"usage": usage_body(usage)}),
        )
        return [*self._end(), last, _event("message_stop")]

    def error(self, refused: Refused) -> list[Event]:
        return [Event(dump(error_body(refused, self.number)), "error")]

    def whole(self) -> Body:
        said = self.said
        blocks: list[Body] = []
        if said.reasoning:
            thought = "".join(said.reasoning)
            blocks.append({"type": "thinking", "thinking": thought, "signature": SIGNATURE})
        if said.text:
            blocks.append({"type": "text", "text": said.text})
        blocks += [
            {"type": "tool_use", "id": call.id, "name": call.name, "input": _input(call)}
            for call in said.tool_calls
        ]
        return self._message(blocks, self._stop(), said.usage)

    def _stop(self) -> str:
        return STOP.get(self.said.finish, self.said.finish)

    def _begin(self, block: str, content: Body) -> list[Event]:
        if self._open == block:
            return []
        events = self._end()
        self._open = block
        self._blocks += 1
        return [*events, _event("content_block_start", index=self._blocks - 1, content_block=content)]

    def _end(self) -> list[Event]:
        events: list[Event] = []
        if self._open == "thinking":
            delta = {"type": "signature_delta", "signature": SIGNATURE}
            events.append(_event("content_block_delta", index=self._blocks - 1, delta=delta))
        if self._open:
            events.append(_event("content_block_stop", index=self._blocks - 1))
        self._open = ""
        return events

    def _message(self, content: list[Body], stop: str | None, usage: Tokens | None) -> Body:
        message: Body = {
            "id": f"msg_{self.number:024d}",
            "type": "message",
            "role": "assistant",
            "model": self.asked.model,
            "content": content,
            "stop_reason": stop,
            "stop_sequence": None,
        }
        return message if usage is None else message | {"usage": usage_body(usage)}


class AnthropicDoor(Door):
    """POST /v1/messages."""

    name = "anthropic"
    voice = AnthropicVoice
    request_id = "request-id"
    usual: ClassVar[Mapping[int, tuple[str, str, str]]] = {
        400: ("Invalid request.", "", "invalid_request_error"),
        401: ("invalid x-api-key", "", "authentication_error"),
        403: ("Your API key may not use this resource.", "", "permission_error"),
        404: ("model: {model}", "", "not_found_error"),
        413: ("Request exceeds the maximum size", "", "request_too_large"),
        429: ("This request would exceed your organization's rate limit.", "", "rate_limit_error"),
        500: ("Internal server error", "", "api_error"),
        529: ("Overloaded", "", "overloaded_error"),
    }

    def key(self, received: Received) -> str:
        return received.headers.get("x-api-key", "") or received.bearer

    def wrong_key(self, given: str) -> Refused:
        said = "invalid x-api-key" if given else "x-api-key header is required"
        return Refused(401, said, kind="authentication_error")

    def chat(self, received: Received) -> Asked:
        body = received.body
        if not received.headers.get("anthropic-version"):
            raise _bad("anthropic-version: header is required")
        model = text_of(body, "model", lambda name: _bad(f"{name}: Field required"))
        most = whole_number(body.get("max_tokens"))
        if most is None:
            raise _bad("max_tokens: Field required")
        if most < 1:
            raise _bad("max_tokens: must be greater than or equal to 1")
        if not 0 <= (body.get("temperature") or 0) <= 1:
            raise _bad("temperature: range: 0..1")
        turns = _turns(body.get("messages"))
        if body.get("system"):
            turns = (Turn("system", words_of(body["system"])), *turns)
        schema = _schema(body)
        return Asked(
            door=self.name,
            model=model,
            turns=turns,
            stream=body.get("stream") is True,
            tools=_tools(body.get("tools")),
            tool_choice=_choice(body.get("tool_choice")),
            format="text" if schema is None else "json_schema",
            schema=schema,
            max_tokens=most,
        )

    def embed(self, received: Received) -> Asked:
        raise Refused(404, "Not Found", kind="not_found_error")

    def embedded(self, asked: Asked, vectors: Sequence[Sequence[float]], tokens: int, number: int) -> Body:
        raise Refused(404, "Not Found", kind="not_found_error")

    def failure(self, refused: Refused, number: int) -> Body:
        return error_body(refused, number)

    def listed(self, names: Sequence[str], created_s: int) -> Body:
        data = [
            {"type": "model", "id": name, "display_name": name, "created_at": DATED, "lifecycle": "active"}
            for name in names
        ]
        ends = {"first_id": names[0] if names else None, "last_id": names[-1] if names else None}
        return {"data": data, "has_more": False} | ends


def error_body(refused: Refused, number: int) -> Body:
    """`{type: error, error: {type, message}, request_id}`."""
    error = {"type": refused.kind or "invalid_request_error", "message": refused.message}
    return {"type": "error", "error": error, "request_id": f"req_{number:024d}"}


def usage_body(usage: Tokens) -> Body:
    """Usage in Anthropic's words."""
    return {
        "input_tokens": usage.prompt - usage.cached,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": usage.cached,
        "output_tokens": usage.completion,
    }


def _event(kind: str, **fields: Any) -> Event:
    return Event(dump({"type": kind} | fields), kind)


def _input(call: ToolSaid) -> object:
    try:
        return orjson.loads(call.arguments)
    except orjson.JSONDecodeError:
        return {}


def _turns(messages: object) -> tuple[Turn, ...]:
    if not isinstance(messages, list) or not messages:
        raise _bad("messages: at least one message is required")
    turns: list[Turn] = []
    called: set[str] = set()
    for n, message in enumerate(messages):
        role = message.get("role") if isinstance(message, dict) else None
        if role not in ("user", "assistant"):
            raise _bad(
                f'messages.{n}.role: Unexpected role "{role}". The Messages API accepts a top-level `system` '
                'parameter, not "system" as an input message role.'
            )
        content = message.get("content")
        blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
        if not isinstance(blocks, list) or not blocks:
            raise _bad(f"messages.{n}: all messages must have non-empty content")
        turns += [_block(f"messages.{n}.content.{m}", role, block, called) for m, block in enumerate(blocks)]
        called = {block["id"] for block in blocks if block.get("type") == "tool_use" and "id" in block}
    return tuple(turns)


def _block(at: str, role: str, block: Body, called: set[str]) -> Turn:
    kind = block.get("type")
    if kind == "text":
        if not block.get("text"):
            raise _bad("messages: text content blocks must be non-empty")
        return Turn(role, str(block["text"]))
    if kind == "tool_result":
        if block.get("tool_use_id") not in called:
            raise _bad(
                f"{at}: unexpected `tool_use_id` found in `tool_result` blocks: {block.get('tool_use_id')}. "
                "Each `tool_result` block must have a corresponding `tool_use` block in the previous message."
            )
        return Turn("tool", words_of(block.get("content")))
    if kind not in ("image", "document", "tool_use", "thinking", "redacted_thinking"):
        raise _bad(f"{at}: Input tag '{kind}' found using 'type' does not match any of the expected tags")
    if kind == "tool_use" and not isinstance(block.get("input"), dict):
        raise _bad(f"{at}.tool_use.input: Input should be a valid dictionary")
    return Turn(role, "")


def _tools(tools: object) -> tuple[Offered, ...]:
    found: list[Offered] = []
    for n, tool in enumerate(tools if isinstance(tools, list) else []):
        if not isinstance(tool, dict) or not isinstance(tool.get("name"), str):
            raise _bad(f"tools.{n}.custom.name: Field required")
        if not isinstance(tool.get("input_schema"), dict) or tool["input_schema"].get("type") != "object":
            raise _bad(f"tools.{n}.custom.input_schema.type: Field required")
        found.append(Offered(tool["name"], tool["input_schema"]))
    return tuple(found)


def _choice(choice: object) -> str:
    if not isinstance(choice, dict):
        return "auto"
    if choice.get("type") == "tool":
        return str(choice.get("name", ""))
    return {"any": "required", "none": "none"}.get(str(choice.get("type")), "auto")


def _schema(body: Body) -> Body | None:
    """`output_config.format`, or `output_format` of the beta before it."""
    config = body.get("output_config")
    wanted = config.get("format") if isinstance(config, dict) else body.get("output_format")
    if not isinstance(wanted, dict) or wanted.get("type") != "json_schema":
        return None
    schema = wanted.get("schema")
    if not isinstance(schema, dict):
        raise _bad("output_config.format.schema: Field required")
    return schema


def _bad(problem: str) -> Refused:
    return Refused(400, problem, kind="invalid_request_error")
