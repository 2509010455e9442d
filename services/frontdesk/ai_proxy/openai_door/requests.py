"""Requests of OpenAI's API as our values; what can't be done is refused by name, never left out in silence.

https://platform.openai.com/docs/api-reference/chat/create and …/embeddings/create.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import orjson

from frontdesk.ai_proxy.model import ModelMessage, Prompt, Role, Tool, ToolCall
from frontdesk.ai_proxy.protos import MAX_MESSAGES, MAX_TOOLS, check_prompt, check_tool_name
from frontdesk.ai_proxy.rpc.ai import MAX_EMBEDDED, check_texts
from frontdesk.kit.errors import InvalidArgument

V = TypeVar("V")

MAX_NAME = 128
MAX_PARTS = 1_000

_ROLES = {
    "system": Role.SYSTEM,
    "developer": Role.SYSTEM,
    "user": Role.USER,
    "assistant": Role.ASSISTANT,
    "tool": Role.TOOL,
}
_CHAT = frozenset(
    (
        "model",
        "messages",
        "stream",
        "stream_options",
        "temperature",
        "top_p",
        "max_tokens",
        "max_completion_tokens",
        "stop",
        "seed",
        "tools",
        "tool_choice",
        "response_format",
    )
)
# What says nothing about the answer.
_IGNORED = frozenset(["user", "metadata", "store", "safety_identifier", "prompt_cache_key"])
# What changes the answer and can't be done, unless it has the value that changes nothing.
_NEUTRAL: Mapping[str, Any] = {
    "n": 1,
    "parallel_tool_calls": True,
    "service_tier": "auto",
    "logprobs": False,
    "top_logprobs": 0,
    "presence_penalty": 0,
    "frequency_penalty": 0,
    "logit_bias": {},
}
# The same inside of it. Behind the bar stands what is left out: hints, and what came with an answer of ours.
_MESSAGE = frozenset(("role", "content", "tool_calls", "tool_call_id")) | {
    "name",
    "refusal",
    "annotations",
    "reasoning_content",
}
_TEXT = frozenset(("type", "text"))
_IMAGE = frozenset(("type", "image_url"))
_IMAGE_URL = frozenset(("url",)) | {"detail"}
_TOOL_CALL = frozenset(("id", "type", "function")) | {"index"}
_CALLED = frozenset(("name", "arguments"))
_TOOL = frozenset(("type", "function"))
_FUNCTION = frozenset(("name", "description", "parameters")) | {"strict"}
_STREAM_OPTIONS = frozenset(("include_usage",)) | {"include_obfuscation"}
_FORMAT = frozenset(("type", "json_schema"))
_SCHEMA = frozenset(("schema",)) | {"name", "description", "strict"}


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """A request of chat completions."""

    model: str
    prompt: Prompt
    stream: bool
    include_usage: bool


@dataclass(frozen=True, slots=True)
class EmbeddingsRequest:
    """A request of embeddings; `base64`: vectors are wanted as little-endian float32 in base64."""

    model: str
    texts: tuple[str, ...]
    dimensions: int | None
    base64: bool


def read_chat(body: bytes) -> ChatRequest:
    """Raises InvalidArgument with OpenAI's name of the field."""
    given = _given(body, _CHAT)
    options = _get(given, "stream_options", dict, {})
    _only(_STREAM_OPTIONS, options, "stream_options")
    longest = _get(given, "max_completion_tokens", int) or _get(given, "max_tokens", int)
    stop = given.get("stop")
    kind, schema = _format(_get(given, "response_format", dict, {}))
    prompt = Prompt(
        messages=tuple(
            _message(m, f"messages[{i}]") for i, m in enumerate(_list(given, "messages", MAX_MESSAGES))
        ),
        tools=tuple(_tool(t, f"tools[{i}]") for i, t in enumerate(_list(given, "tools", MAX_TOOLS))),
        tool_choice=_tool_choice(given.get("tool_choice")),
        temperature=_number(given, "temperature"),
        top_p=_number(given, "top_p"),
        max_tokens=longest,
        stop=_texts(stop, "stop") if stop is not None else (),
        seed=_get(given, "seed", int),
        format=kind,
        schema=schema,
    )
    check_prompt(prompt)
    return ChatRequest(
        model=_model(given),
        prompt=prompt,
        stream=_get(given, "stream", bool, False),
        include_usage=_get(options, "include_usage", bool, False, "stream_options."),
    )


def read_embeddings(body: bytes) -> EmbeddingsRequest:
    """Raises InvalidArgument with OpenAI's name of the field."""
    given = _given(body, frozenset(("model", "input", "encoding_format", "dimensions")))
    texts = _texts(given.get("input"), "input")
    check_texts(texts, "input")
    encoding = _get(given, "encoding_format", str, "float")
    if encoding not in ("float", "base64"):
        raise InvalidArgument("encoding_format", "must be float or base64")
    dimensions = _get(given, "dimensions", int)
    if dimensions is not None and not 1 <= dimensions <= 16_384:
        raise InvalidArgument("dimensions", "must be 1 to 16384")
    return EmbeddingsRequest(_model(given), texts, dimensions, encoding == "base64")


def _given(body: bytes, known: frozenset[str]) -> dict[str, Any]:
    """The body's fields that have a value, once none is unknown."""
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise InvalidArgument("body", "is no JSON") from None
    if not isinstance(found, dict):
        raise InvalidArgument("body", "must be a JSON object")
    given = {name: value for name, value in found.items() if value is not None}
    for name, value in given.items():
        if name in known or name in _IGNORED or (name in _NEUTRAL and value == _NEUTRAL[name]):
            continue
        if name in _NEUTRAL:
            raise InvalidArgument(name, f"only {_NEUTRAL[name]!r} is supported")
        raise InvalidArgument(name, "is not supported")
    return given


def _only(known: frozenset[str], given: Mapping[str, Any], field: str) -> None:
    if not given.keys() <= known:
        for name, value in given.items():
            if name not in known and value is not None:
                raise InvalidArgument(f"{field}.{name}"[:MAX_NAME], "is not supported")


def _model(given: Mapping[str, Any]) -> str:
    name = _get(given, "model", str, "")
    if not 1 <= len(name) <= MAX_NAME:
        raise InvalidArgument("model", f"must be 1 to {MAX_NAME} characters; GET /v1/models lists them")
    return str(name)


def _get(given: Mapping[str, Any], name: str, kind: type[V], default: Any = None, prefix: str = "") -> Any:
    """A field of a type; a bool is no int here."""
    value = given.get(name)
    if value is None:
        return default
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise InvalidArgument(f"{prefix}{name}", f"must be {_SAID[kind]}")
    return value


_SAID: Mapping[type, str] = {
    dict: "an object",
    int: "a whole number",
    str: "text",
    bool: "true or false",
    list: "a list",
}


def _number(given: Mapping[str, Any], name: str) -> float | None:
    value = given.get(name)
    if value is None:
        return None
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise InvalidArgument(name, "must be a number")
    return float(value)


def _list(given: Mapping[str, Any], name: str, most: int, prefix: str = "") -> list[dict[str, Any]]:
    found = _get(given, name, list, [], prefix)
    # Before anything is made of it.
    if len(found) > most:
        raise InvalidArgument(f"{prefix}{name}", f"must be at most {most}")
    for index, entry in enumerate(found):
        if not isinstance(entry, dict):
            raise InvalidArgument(f"{prefix}{name}[{index}]", "must be an object")
    entries: list[dict[str, Any]] = found
    return entries


def _texts(value: object, field: str) -> tuple[str, ...]:
    if isinstance(value, str):
        return (value,)
    if isinstance(value, list) and len(value) > MAX_EMBEDDED:
        raise InvalidArgument(field, f"must be at most {MAX_EMBEDDED} texts")
    if isinstance(value, list) and all(isinstance(text, str) for text in value):
        return tuple(value)
    raise InvalidArgument(field, "must be text or a list of texts")


def _message(given: Mapping[str, Any], field: str) -> ModelMessage:
    role = _ROLES.get(_get(given, "role", str, "", f"{field}."))
    if role is None:
        raise InvalidArgument(f"{field}.role", f"must be one of {', '.join(_ROLES)}")
    _only(_MESSAGE, given, field)
    text, images = _content(given.get("content"), f"{field}.content")
    return ModelMessage(
        role=role,
        text=text,
        image_urls=images,
        tool_calls=tuple(
            _tool_call(index, call, f"{field}.tool_calls[{index}]")
            for index, call in enumerate(_list(given, "tool_calls", MAX_TOOLS, f"{field}."))
        ),
        tool_call_id=_get(given, "tool_call_id", str, "", f"{field}."),
    )


def _content(content: object, field: str) -> tuple[str, tuple[str, ...]]:
    """Text and addresses of pictures; several texts are joined by newlines."""
    if content is None or isinstance(content, str):
        return content or "", ()
    if not isinstance(content, list):
        raise InvalidArgument(field, "must be text or a list of parts")
    if len(content) > MAX_PARTS:
        raise InvalidArgument(field, f"must have at most {MAX_PARTS} parts")
    texts: list[str] = []
    images: list[str] = []
    for index, part in enumerate(content):
        value: object = None
        match part:
            case {"type": "text", "text": value}:
                _only(_TEXT, part, f"{field}[{index}]")
                found = texts
            case {"type": "image_url", "image_url": {"url": value} as image}:
                _only(_IMAGE, part, f"{field}[{index}]")
                _only(_IMAGE_URL, image, f"{field}[{index}].image_url")
                found = images
        if not isinstance(value, str):
            raise InvalidArgument(f"{field}[{index}]", "must be a part of type text or image_url")
        found.append(value)
    return "\n".join(texts), tuple(images)


def _at(part: Mapping[str, Any], outer: str, inner: str) -> object:
    found = part.get(outer)
    return found.get(inner) if isinstance(found, dict) else None


def _tool_call(index: int, given: Mapping[str, Any], field: str) -> ToolCall:
    _only(_TOOL_CALL, given, field)
    function = _get(given, "function", dict, {}, f"{field}.")
    _only(_CALLED, function, f"{field}.function")
    name = _get(function, "name", str, "", f"{field}.function.")
    check_tool_name(name, f"{field}.function.name")
    return ToolCall(
        index,
        _get(given, "id", str, "", f"{field}."),
        name,
        _get(function, "arguments", str, "", f"{field}.function."),
    )


def _tool(given: Mapping[str, Any], field: str) -> Tool:
    if given.get("type") != "function":
        raise InvalidArgument(f"{field}.type", "must be function")
    _only(_TOOL, given, field)
    function = _get(given, "function", dict, {}, f"{field}.")
    _only(_FUNCTION, function, f"{field}.function")
    name = _get(function, "name", str, "", f"{field}.function.")
    check_tool_name(name, f"{field}.function.name")
    return Tool(
        name,
        _get(function, "description", str, "", f"{field}.function."),
        _get(function, "parameters", dict, {}, f"{field}.function."),
    )


def _tool_choice(value: object) -> str:
    """`auto`, `none`, `required`, or the name in `{"type": "function", "function": {"name": …}}`."""
    if value is None or isinstance(value, str):
        return value or ""
    name = _at(value, "function", "name") if isinstance(value, dict) else None
    if not isinstance(name, str):
        raise InvalidArgument("tool_choice", "must be auto, none, required or a function")
    return name


def _format(given: Mapping[str, Any]) -> tuple[str, Mapping[str, Any] | None]:
    _only(_FORMAT, given, "response_format")
    kind = given.get("type", "text")
    if kind == "json_schema":
        asked = _get(given, "json_schema", dict, {}, "response_format.")
        _only(_SCHEMA, asked, "response_format.json_schema")
        schema = asked.get("schema")
        if not isinstance(schema, dict):
            raise InvalidArgument("response_format.json_schema.schema", "must be an object")
        return kind, schema
    if kind not in ("text", "json_object"):
        raise InvalidArgument("response_format.type", "must be text, json_object or json_schema")
    return kind, None
