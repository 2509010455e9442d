"""Gemini's generateContent, streamGenerateContent and embeddings.

Shapes: https://ai.google.dev/api/generate-content and …/embeddings, and the types of the package
`google-genai`. A stream has no last mark: the event with `finishReason` is the last. A tool call comes whole,
and its `finishReason` is STOP. A prompt that the filter stops has `promptFeedback.blockReason` and no
candidates. Errors are google.rpc.Status (https://ai.google.dev/gemini-api/docs/troubleshooting); a script's
Retry-After is told as RetryInfo too. A field that the API does not know is refused.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, ClassVar

import orjson

from frontdesk.simulators.models.asked import Asked, Body, Offered, Refused, Turn, words_of
from frontdesk.simulators.models.doors.base import Door, Received, Voice, dump, whole_number
from frontdesk.simulators.models.events import Event
from frontdesk.simulators.models.script import Tokens, ToolSaid
from frontdesk.simulators.models.speech import MAX_DIMENSIONS, Part, Said, TextPart, ToolPart

FINISH = {"stop": "STOP", "length": "MAX_TOKENS", "tool_calls": "STOP", "content_filter": "SAFETY"}
MAX_INPUTS = 100
REQUEST_FIELDS = (
    *("contents", "systemInstruction", "tools", "toolConfig", "safetySettings", "generationConfig"),
    *("cachedContent", "model"),
)
SCHEMA_FIELDS = (
    *("type", "format", "title", "description", "nullable", "enum", "default", "example", "pattern"),
    *("properties", "required", "propertyOrdering", "additionalProperties", "items", "anyOf"),
    *("minimum", "maximum", "minLength", "maxLength", "minItems", "maxItems"),
    *("minProperties", "maxProperties"),
)


class GeminiVoice(Voice):
    """Events that are whole answers of their own, each with a part."""

    def __init__(self, asked: Asked, said: Said, number: int, created_s: int) -> None:
        super().__init__(asked, said, number, created_s)
        self._pieces = 0

    def parts(self) -> Sequence[Part]:
        return [part for part in self.said.parts() if not isinstance(part, ToolPart) or part.first]

    def piece(self, part: Part) -> list[Event]:
        self._pieces += 1
        usage = self.said.usage and Tokens(self.said.usage.prompt, self._pieces, self.said.usage.cached)
        return [Event(dump(self._body([_part(part)], None, usage)))]

    def ending(self) -> list[Event]:
        return [Event(dump(self._body([{"text": ""}], self._finish(), self.said.usage)))]

    def error(self, refused: Refused) -> list[Event]:
        return [Event(dump(error_body(refused)))]

    def whole(self) -> Body:
        said = self.said
        parts: list[Body] = []
        if said.reasoning:
            parts.append({"text": "".join(said.reasoning), "thought": True})
        if said.text:
            parts.append({"text": said.text})
        parts += [_call(call) for call in said.tool_calls]
        return self._body(parts, self._finish(), said.usage)

    def _finish(self) -> str:
        return FINISH.get(self.said.finish, self.said.finish)

    def _body(self, parts: list[Body], finish: str | None, usage: Tokens | None) -> Body:
        candidate: Body = {"content": {"parts": parts, "role": "model"}, "index": 0}
        if finish is not None:
            candidate["finishReason"] = finish
        body: Body = {"candidates": [candidate]}
        if self.said.blocked:
            body = {"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}}
        if usage is not None:
            body["usageMetadata"] = usage_body(usage)
        return body | {"modelVersion": self.asked.model, "responseId": f"simulated{self.number:013d}"}


class GeminiDoor(Door):
    """POST /v1beta/models/{model}:generateContent and its like."""

    name = "gemini"
    voice = GeminiVoice
    sse_type = "text/event-stream"
    json_type = "application/json; charset=UTF-8"
    usual: ClassVar[Mapping[int, tuple[str, str, str]]] = {
        400: ("Request contains an invalid argument.", "INVALID_ARGUMENT", ""),
        403: ("The caller does not have permission", "PERMISSION_DENIED", ""),
        404: ("models/{model} is not found for API version v1beta.", "NOT_FOUND", ""),
        429: ("You exceeded your current quota.", "RESOURCE_EXHAUSTED", ""),
        500: ("An internal error has occurred.", "INTERNAL", ""),
        503: ("The model is overloaded. Please try again later.", "UNAVAILABLE", ""),
        504: ("The request timed out. Please try again.", "DEADLINE_EXCEEDED", ""),
    }

    def key(self, received: Received) -> str:
        return received.headers.get("x-goog-api-key", "") or received.query.get("key", "")

    def wrong_key(self, given: str) -> Refused:
        if not given:
            said = "Method doesn't allow unregistered callers. Please use API Key."
            return Refused(403, said, code="PERMISSION_DENIED")
        return Refused(
            400,
            "API key not valid. Please pass a valid API key.",
            code="INVALID_ARGUMENT",
            kind="API_KEY_INVALID",
        )

    def chat(self, received: Received) -> Asked:
        body = _camel(received.body)
        stream = received.path.get("action") == "streamGenerateContent"
        if stream and received.query.get("alt") != "sse":
            raise _bad("The simulator streams with alt=sse only.")
        _known("", body, REQUEST_FIELDS)
        config = _camel(body.get("generationConfig") or {})
        turns = _turns(body.get("contents"))
        system = _camel(body.get("systemInstruction") or {})
        if system:
            turns = (Turn("system", words_of(system.get("parts"))), *turns)
        _check_schema("generation_config.response_schema", config.get("responseSchema"))
        schema = config.get("responseJsonSchema", config.get("responseSchema"))
        kind = "json_schema" if schema else "text"
        if not schema and config.get("responseMimeType") == "application/json":
            kind = "json_object"
        return Asked(
            door=self.name,
            model=received.path.get("model", ""),
            turns=turns,
            stream=stream,
            tools=_tools(body.get("tools")),
            tool_choice=_choice(body.get("toolConfig")),
            format=kind,
            schema=schema,
            max_tokens=whole_number(config.get("maxOutputTokens")),
        )

    def embed(self, received: Received) -> Asked:
        single = received.path.get("action") == "embedContent"
        requests = [received.body] if single else received.body.get("requests")
        if not isinstance(requests, list) or not 0 < len(requests) <= MAX_INPUTS:
            raise _bad(
                f"BatchEmbedContentsRequest.requests: at most {MAX_INPUTS} requests can be in one batch"
            )
        named = [_camel(one) for one in requests]
        model = received.path.get("model", "")
        if not single and any(one.get("model") != f"models/{model}" for one in named):
            raise _bad("BatchEmbedContentsRequest.requests.model: must be the model of the batch")
        dimensions = whole_number(named[0].get("outputDimensionality"))
        if dimensions is not None and not 0 < dimensions <= MAX_DIMENSIONS:
            raise _bad("EmbedContentRequest.output_dimensionality: is out of range")
        return Asked(
            door=self.name,
            model=model,
            kind="embed",
            texts=tuple(words_of((one.get("content") or {}).get("parts")) for one in named),
            dimensions=dimensions,
            single=single,
        )

    def embedded(self, asked: Asked, vectors: Sequence[Sequence[float]], tokens: int, number: int) -> Body:
        found = [{"values": list(vector)} for vector in vectors]
        return {"embedding": found[0]} if asked.single else {"embeddings": found}

    def failure(self, refused: Refused, number: int) -> Body:
        return error_body(refused)

    def listed(self, names: Sequence[str], created_s: int) -> Body:
        methods = ["generateContent", "countTokens", "embedContent"]
        return {
            "models": [
                {"name": f"models/{name}", "displayName": name, "supportedGenerationMethods": methods}
                for name in names
            ]
        }


def error_body(refused: Refused) -> Body:
    """`{error: {code, message, status, details}}`."""
    error: Body = {
        "code": refused.status,
        "message": refused.message,
        "status": refused.code or "INVALID_ARGUMENT",
    }
    if refused.kind:
        kind = "type.googleapis.com/google.rpc.ErrorInfo"
        error["details"] = [{"@type": kind, "reason": refused.kind, "domain": "googleapis.com"}]
    if refused.retry_after:
        kind = "type.googleapis.com/google.rpc.RetryInfo"
        error["details"] = [{"@type": kind, "retryDelay": f"{refused.retry_after}s"}]
    return {"error": error}


def usage_body(usage: Tokens) -> Body:
    """Usage in Gemini's words; thoughts are counted apart."""
    body: Body = {
        "promptTokenCount": usage.prompt,
        "candidatesTokenCount": usage.completion - usage.reasoning,
        "totalTokenCount": usage.prompt + usage.completion,
        "promptTokensDetails": [{"modality": "TEXT", "tokenCount": usage.prompt}],
    }
    if usage.cached:
        body["cachedContentTokenCount"] = usage.cached
    if usage.reasoning:
        body["thoughtsTokenCount"] = usage.reasoning
    return body


def _part(part: Part) -> Body:
    if isinstance(part, ToolPart):
        return _call(part.call)
    return {"text": part.text} if isinstance(part, TextPart) else {"text": part.text, "thought": True}


def _call(call: ToolSaid) -> Body:
    try:
        args = orjson.loads(call.arguments)
    except orjson.JSONDecodeError:
        args = {}
    return {"functionCall": {"name": call.name, "args": args}}


def _turns(contents: object) -> tuple[Turn, ...]:
    if not isinstance(contents, list) or not contents:
        raise _bad("* GenerateContentRequest.contents: contents is not specified\n")
    turns: list[Turn] = []
    called = 0
    for n, content in enumerate(contents):
        role = content.get("role", "user") if isinstance(content, dict) else None
        if role not in ("user", "model"):
            raise _bad("Please use a valid role: user, model.")
        parts = [_camel(part) for part in content.get("parts") or []]
        if not parts:
            raise _bad(f"* GenerateContentRequest.contents[{n}].parts: contents.parts must not be empty.\n")
        answers = sum("functionResponse" in part for part in parts)
        if answers and answers != called:
            raise _bad(
                "Please ensure that the number of function response parts is equal to the number of function "
                "call parts of the function call turn."
            )
        called = sum("functionCall" in part for part in parts)
        name = "tool" if answers else "assistant" if role == "model" else "user"
        text = orjson.dumps(parts[0]["functionResponse"]).decode() if answers else words_of(parts)
        turns.append(Turn(name, text))
    return tuple(turns)


def _tools(tools: object) -> tuple[Offered, ...]:
    found: list[Offered] = []
    for n, tool in enumerate(tools if isinstance(tools, list) else []):
        for m, declared in enumerate(_camel(tool).get("functionDeclarations") or []):
            function = _camel(declared)
            at = f"tools[{n}].function_declarations[{m}]"
            if not isinstance(function.get("name"), str):
                raise _bad(f"{at}.name: must be specified")
            _check_schema(f"{at}.parameters", function.get("parameters"))
            schema = function.get("parametersJsonSchema", function.get("parameters"))
            found.append(Offered(function["name"], schema or {}))
    return tuple(found)


def _choice(config: object) -> str:
    calling = _camel(_camel(config or {}).get("functionCallingConfig") or {})
    names = calling.get("allowedFunctionNames") or []
    mode = str(calling.get("mode", "AUTO")).upper()
    if mode == "ANY":
        return str(names[0]) if names else "required"
    return "none" if mode == "NONE" else "auto"


def _check_schema(at: str, schema: object) -> None:
    """Refuse what the schema of this API, a subset of OpenAPI's, does not know."""
    if not isinstance(schema, dict):
        return
    _known(at, schema, SCHEMA_FIELDS)
    for name, one in (schema.get("properties") or {}).items():
        _check_schema(f"{at}.properties[{name}]", one)
    _check_schema(f"{at}.items", schema.get("items"))
    for n, one in enumerate(schema.get("anyOf") or []):
        _check_schema(f"{at}.any_of[{n}]", one)


def _known(at: str, body: Body, known: Collection[str]) -> None:
    for name in _camel(body):
        if name not in known:
            where = f" at '{at}'" if at else ""
            raise _bad(f'Invalid JSON payload received. Unknown name "{name}"{where}: Cannot find field.')


def _camel(body: Any) -> Body:
    """Both ways of writing a name are taken, as JSON of protobuf is."""
    if not isinstance(body, dict):
        raise _bad("Invalid value: Proto field is not repeating, cannot start list.")
    return {
        first + "".join(word.capitalize() for word in rest) if rest and first else name: value
        for name, value in body.items()
        for first, *rest in (name.split("_"),)
    }


def _bad(problem: str) -> Refused:
    return Refused(400, problem, code="INVALID_ARGUMENT")
