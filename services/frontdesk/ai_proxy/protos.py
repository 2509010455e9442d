"""Prompts and answers between the protos and `model.py`; bad input names its field."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import orjson

from frontdesk.ai_proxy import model
from frontdesk.api.ai.v1 import chat_pb2 as pb
from frontdesk.kit.errors import InvalidArgument

MAX_MESSAGES = 1_000
MAX_TOOLS = 128
MAX_STOPS = 4
MAX_TOKENS = 1_000_000
MAX_TEMPERATURE = 2.0

_ROLES = {
    pb.ROLE_SYSTEM: model.Role.SYSTEM,
    pb.ROLE_USER: model.Role.USER,
    pb.ROLE_ASSISTANT: model.Role.ASSISTANT,
    pb.ROLE_TOOL: model.Role.TOOL,
}
_FORMATS = {
    pb.ANSWER_FORMAT_UNSPECIFIED: "text",
    pb.ANSWER_FORMAT_TEXT: "text",
    pb.ANSWER_FORMAT_JSON_OBJECT: "json_object",
    pb.ANSWER_FORMAT_JSON_SCHEMA: "json_schema",
}
_FINISHES = {
    model.FinishReason.STOP: pb.FINISH_REASON_STOP,
    model.FinishReason.LENGTH: pb.FINISH_REASON_LENGTH,
    model.FinishReason.TOOL_CALLS: pb.FINISH_REASON_TOOL_CALLS,
    model.FinishReason.CONTENT_FILTER: pb.FINISH_REASON_CONTENT_FILTER,
}


def prompt_from_proto(prompt: pb.Prompt) -> model.Prompt:
    """What is asked; raises InvalidArgument with the field, e.g. `prompt.messages[2].role`."""
    found = model.Prompt(
        messages=tuple(_message(m, f"prompt.messages[{i}]") for i, m in enumerate(prompt.messages)),
        tools=tuple(_tool(t, f"prompt.tools[{i}]") for i, t in enumerate(prompt.tools)),
        tool_choice=prompt.tool_choice,
        temperature=prompt.temperature if prompt.HasField("temperature") else None,
        top_p=prompt.top_p if prompt.HasField("top_p") else None,
        max_tokens=prompt.max_tokens if prompt.HasField("max_tokens") else None,
        stop=tuple(prompt.stop),
        seed=prompt.seed if prompt.HasField("seed") else None,
        format=_FORMATS.get(prompt.format, ""),
        schema=json_object(prompt.schema_json, "prompt.schema_json") if prompt.schema_json else None,
    )
    check_prompt(found, "prompt.")
    return found


def check_prompt(prompt: model.Prompt, prefix: str = "") -> None:
    """Raise InvalidArgument, with the field after `prefix`, for what no model can be asked."""

    def refuse(field: str, problem: str) -> None:
        raise InvalidArgument(f"{prefix}{field}", problem)

    if not 1 <= len(prompt.messages) <= MAX_MESSAGES:
        refuse("messages", f"must be 1 to {MAX_MESSAGES}")
    if len(prompt.tools) > MAX_TOOLS:
        refuse("tools", f"must be at most {MAX_TOOLS}")
    if prompt.temperature is not None and not _between(prompt.temperature, MAX_TEMPERATURE):
        refuse("temperature", f"must be 0 to {MAX_TEMPERATURE:g}")
    if prompt.top_p is not None and not _between(prompt.top_p, 1.0):
        refuse("top_p", "must be 0 to 1")
    if prompt.max_tokens is not None and not 1 <= prompt.max_tokens <= MAX_TOKENS:
        refuse("max_tokens", f"must be 1 to {MAX_TOKENS}")
    if len(prompt.stop) > MAX_STOPS or not all(prompt.stop):
        refuse("stop", f"must be at most {MAX_STOPS} texts, none empty")
    if not prompt.format:
        refuse("format", "is unknown")
    if prompt.format == "json_schema" and prompt.schema is None:
        refuse("schema_json", "is needed with this format")
    names = {tool.name for tool in prompt.tools}
    if prompt.tool_choice not in ("", "auto", "none", "required", *names):
        refuse("tool_choice", "must be auto, none, required or the name of a tool")


def _between(value: float, most: float) -> bool:
    return math.isfinite(value) and 0 <= value <= most


def _message(message: pb.ModelMessage, field: str) -> model.ModelMessage:
    role = _ROLES.get(message.role)
    if role is None:
        raise InvalidArgument(f"{field}.role", "is needed")
    return model.ModelMessage(
        role=role,
        text=message.text,
        image_urls=tuple(message.image_urls),
        tool_calls=tuple(
            model.ToolCall(i, c.id, c.name, c.arguments_json) for i, c in enumerate(message.tool_calls)
        ),
        tool_call_id=message.tool_call_id,
    )


def _tool(tool: pb.Tool, field: str) -> model.Tool:
    check_tool_name(tool.name, f"{field}.name")
    parameters = json_object(tool.parameters_json, f"{field}.parameters_json") if tool.parameters_json else {}
    return model.Tool(tool.name, tool.description, parameters)


def check_tool_name(name: str, field: str) -> None:
    """Raise InvalidArgument for a name that vendors refuse."""
    plain = name.replace("-", "").replace("_", "")
    if not 1 <= len(name) <= 64 or not (plain.isascii() and (plain.isalnum() or not plain)):
        raise InvalidArgument(field, "must be 1 to 64 letters, digits, - and _")


def json_object(text: str | bytes, field: str) -> dict[str, Any]:
    """The JSON object in `text`; raises InvalidArgument."""
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError:
        raise InvalidArgument(field, "is no JSON") from None
    if not isinstance(found, dict):
        raise InvalidArgument(field, "must be a JSON object")
    return found


def tool_call_to_proto(call: model.ToolCall) -> pb.ToolCall:
    return pb.ToolCall(index=call.index, id=call.id, name=call.name, arguments_json=call.arguments)


def tool_calls_to_proto(calls: Iterable[model.ToolCall]) -> list[pb.ToolCall]:
    return [tool_call_to_proto(call) for call in calls]


def usage_to_proto(usage: model.Usage, cost: object = None, currency: str = "") -> pb.Usage:
    """`cost` is a Decimal, or None for a model without a price."""
    return pb.Usage(
        prompt_tokens=usage.prompt_tokens,
        cached_tokens=usage.cached_tokens,
        completion_tokens=usage.completion_tokens,
        counted=usage.counted,
        cost="" if cost is None else f"{cost:f}",
        currency=currency,
    )


def outcome_to_proto(outcome: model.Outcome) -> pb.Outcome:
    return pb.Outcome(
        finish_reason=_FINISHES[outcome.finish_reason],
        usage=usage_to_proto(outcome.usage, outcome.cost, outcome.currency),
        provider=outcome.provider,
        model=outcome.model,
        cached=outcome.cached,
    )
