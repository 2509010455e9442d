"""DashScope's own API of text generation and embeddings.

Shapes: https://help.aliyun.com/zh/model-studio/qwen-api-via-dashscope: an event is `id:1`, `event:result`,
`:HTTP_STATUS/200` and `data:` without a space; `message.content` holds all text so far unless
`incremental_output`; `finish_reason` is the text `"null"` until the end; every event has the usage so far. An
error is `{code, message, request_id}`, and of a call with `X-DashScope-SSE: enable` an event `error`, as
`dashscope.common.utils._handle_stream` and `_handle_http_failed_response` of the package `dashscope` read it.
Codes: https://help.aliyun.com/zh/model-studio/error-code.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from frontdesk.simulators.models.asked import Asked, Body, Refused, Turn
from frontdesk.simulators.models.doors.base import (
    Door,
    Received,
    Voice,
    chat_turns,
    dump,
    text_of,
    whole_number,
)
from frontdesk.simulators.models.doors.openai import choice_of, format_of, tools_of
from frontdesk.simulators.models.events import Event
from frontdesk.simulators.models.script import Tokens, ToolSaid
from frontdesk.simulators.models.speech import MAX_DIMENSIONS, Part, Said, TextPart, ToolPart

MAX_INPUTS = 25


class DashScopeVoice(Voice):
    """Events that repeat all so far, or tell what is new."""

    def __init__(self, asked: Asked, said: Said, number: int, created_s: int) -> None:
        super().__init__(asked, said, number, created_s)
        self._events = 0
        self._pieces = 0
        self._text = ""
        self._reasoning = ""
        self._calls: dict[int, ToolSaid] = {}

    def piece(self, part: Part) -> list[Event]:
        if not self.asked.incremental:
            self._forget_nothing(part)
        else:
            self._only(part)
        self._pieces += 1
        usage = None
        if self.said.usage is not None:
            usage = Tokens(self.said.usage.prompt, self._pieces, self.said.usage.cached)
        return [self._event(self._output("null"), usage)]

    def ending(self) -> list[Event]:
        if self.asked.incremental:
            self._text = self._reasoning = ""
            self._calls = {}
        return [self._event(self._output(self.said.finish), self.said.usage)]

    def error(self, refused: Refused) -> list[Event]:
        self._events += 1
        return [error_event(refused, self._events, self.number)]

    def whole(self) -> Body:
        said = self.said
        self._text, self._reasoning = said.text, "".join(said.reasoning)
        self._calls = dict(enumerate(said.tool_calls))
        body: Body = {"output": self._output(said.finish), "request_id": request_id(self.number)}
        return body if said.usage is None else body | {"usage": usage_body(said.usage)}

    def _forget_nothing(self, part: Part) -> None:
        if isinstance(part, TextPart):
            self._text += part.text
        elif isinstance(part, ToolPart):
            before = self._calls.get(part.index, ToolSaid(part.call.name, "", part.call.id))
            self._calls[part.index] = ToolSaid(before.name, before.arguments + part.arguments, before.id)
        else:
            self._reasoning += part.text

    def _only(self, part: Part) -> None:
        self._text = part.text if isinstance(part, TextPart) else ""
        self._reasoning = "" if isinstance(part, TextPart | ToolPart) else part.text
        self._calls = {}
        if isinstance(part, ToolPart):
            # Only the first piece of a call names it.
            call = part.call if part.first else ToolSaid("", "", "")
            self._calls[part.index] = ToolSaid(call.name, part.arguments, call.id)

    def _output(self, finish: str) -> Body:
        if self.asked.plain:
            return {"text": self._text, "finish_reason": finish}
        message: Body = {"role": "assistant", "content": self._text}
        if self.said.reasoning:
            message["reasoning_content"] = self._reasoning
        if self._calls:
            message["tool_calls"] = [
                {
                    "index": index,
                    "id": call.id,
                    "type": "function",
                    "function": {"name": call.name, "arguments": call.arguments},
                }
                for index, call in self._calls.items()
            ]
        return {"choices": [{"message": message, "finish_reason": finish}]}

    def _event(self, output: Body, usage: Tokens | None) -> Event:
        self._events += 1
        body: Body = {"output": output}
        if usage is not None:
            body["usage"] = usage_body(usage)
        data = dump(body | {"request_id": request_id(self.number)})
        return Event(data, "result", str(self._events), "HTTP_STATUS/200", b"")


class DashScopeDoor(Door):
    """POST …/text-generation/generation and …/text-embedding/text-embedding."""

    name = "dashscope"
    voice = DashScopeVoice
    sse_type = "text/event-stream;charset=UTF-8"
    request_id = "x-request-id"
    usual: ClassVar[Mapping[int, tuple[str, str, str]]] = {
        400: ("Required parameter is missing or invalid.", "InvalidParameter", ""),
        401: ("Invalid API-key provided.", "InvalidApiKey", ""),
        403: ("Access denied.", "AccessDenied", ""),
        404: ("Model not exist.", "ModelNotFound", ""),
        429: ("Requests rate limit exceeded, please try again later.", "Throttling.RateQuota", ""),
        500: ("An internal error has occured, please try again later.", "InternalError", ""),
        503: ("Model serving is unavailable, please try again later.", "ModelUnavailable", ""),
    }

    def key(self, received: Received) -> str:
        return received.bearer

    def wrong_key(self, given: str) -> Refused:
        said = "Invalid API-key provided." if given else "No API-key provided."
        return Refused(401, said, code="InvalidApiKey")

    def chat(self, received: Received) -> Asked:
        body = received.body
        given = body.get("input")
        parameters = body.get("parameters") or {}
        if not isinstance(given, dict) or not isinstance(parameters, dict):
            raise _bad("input", "Field required: input")
        turns = (
            (Turn("user", given["prompt"]),)
            if isinstance(given.get("prompt"), str) and "messages" not in given
            else chat_turns(given.get("messages"), _bad)
        )
        try:
            kind, schema = format_of(parameters.get("response_format"), turns)
            tools = tools_of(parameters.get("tools"))
        except Refused as refused:
            raise _bad(refused.param, refused.message) from refused
        return Asked(
            door=self.name,
            model=text_of(body, "model", lambda name: _bad(name, f"Field required: {name}")),
            turns=turns,
            stream=received.headers.get("x-dashscope-sse") == "enable",
            tools=tools,
            tool_choice=choice_of(parameters.get("tool_choice")),
            format=kind,
            schema=schema,
            max_tokens=whole_number(parameters.get("max_tokens")),
            incremental=parameters.get("incremental_output") is True,
            plain=parameters.get("result_format", "text") == "text",
        )

    def embed(self, received: Received) -> Asked:
        given = received.body.get("input")
        texts = given.get("texts") if isinstance(given, dict) else None
        if not isinstance(texts, list) or not 0 < len(texts) <= MAX_INPUTS:
            raise _bad("input.texts", f"batch size is invalid, it should not be larger than {MAX_INPUTS}.")
        if not all(isinstance(text, str) and text for text in texts):
            raise _bad("input.texts", "input.texts should be texts that are not empty.")
        dimensions = whole_number((received.body.get("parameters") or {}).get("dimension"))
        if dimensions is not None and not 0 < dimensions <= MAX_DIMENSIONS:
            raise _bad("parameters.dimension", f"dimension should be from 1 to {MAX_DIMENSIONS}.")
        model = text_of(received.body, "model", lambda name: _bad(name, f"Field required: {name}"))
        return Asked(
            door=self.name, model=model, kind="embed", texts=tuple(texts), dimensions=dimensions, plain=True
        )

    def embedded(self, asked: Asked, vectors: Sequence[Sequence[float]], tokens: int, number: int) -> Body:
        found = [{"text_index": n, "embedding": list(vector)} for n, vector in enumerate(vectors)]
        return {
            "output": {"embeddings": found},
            "usage": {"total_tokens": tokens},
            "request_id": request_id(number),
        }

    def failure(self, refused: Refused, number: int) -> Body:
        return error_body(refused, number)

    def failure_events(self, refused: Refused, number: int) -> list[Event]:
        return [error_event(refused, 1, number)]

    def listed(self, names: Sequence[str], created_s: int) -> Body:
        # https://help.aliyun.com/zh/model-studio/list-models is OpenAI's in the compatible mode only.
        return {"output": {"models": [{"model": name} for name in names]}}

    def blocked(self) -> Refused:
        return Refused(400, "Input data may contain inappropriate content.", code="DataInspectionFailed")


def request_id(number: int) -> str:
    """As DashScope's look."""
    return f"00000000-0000-4000-8000-{number:012d}"


def error_body(refused: Refused, number: int) -> Body:
    """`{code, message, request_id}`."""
    code = refused.code or "InvalidParameter"
    return {"code": code, "message": refused.message, "request_id": request_id(number)}


def error_event(refused: Refused, position: int, number: int) -> Event:
    """An error in a stream."""
    data = dump(error_body(refused, number))
    return Event(data, "error", str(position), f"HTTP_STATUS/{refused.status}", b"")


def usage_body(usage: Tokens) -> Body:
    """Usage in DashScope's words."""
    return {
        "input_tokens": usage.prompt,
        "output_tokens": usage.completion,
        "total_tokens": usage.prompt + usage.completion,
        "prompt_tokens_details": {"cached_tokens": usage.cached},
        "output_tokens_details": {"reasoning_tokens": usage.reasoning},
    }


def _bad(name: str, problem: str) -> Refused:
    return Refused(
        400, f"<400> InternalError.Algo.InvalidParameter: {problem}", code="InvalidParameter", param=name
    )
