"""What models say by themselves, and how their events are written."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from frontdesk.kit.clock import ManualClock
from frontdesk.simulators.models.asked import Asked, Offered, Turn
from frontdesk.simulators.models.events import Event, render
from frontdesk.simulators.models.log import CALLS, Log, shown_key
from frontdesk.simulators.models.script import Behaviour, Tokens, ToolSaid
from frontdesk.simulators.models.speech import (
    ReasoningPart,
    TextPart,
    ToolPart,
    bench_size,
    compose,
    instance,
    vector,
)

QUESTION = (
    Turn("system", "你是店主"),
    Turn("user", "早"),
    Turn("assistant", "您好"),
    Turn("user", "手机在吗"),
)


def asked(**fields: Any) -> Asked:
    """A call."""
    return Asked("openai", fields.pop("model", "m"), turns=QUESTION, **fields)


def test_plain_answer_names_the_last_words_of_the_user() -> None:
    """The sentence is the same for the same question, and its pieces are its tokens."""
    said = compose(asked(), None)
    assert "手机在吗" in said.text
    assert said == compose(asked(), None)
    assert said.finish == "stop"
    assert said.usage == Tokens(6 + 5 + 5 + 6, len(said.pieces), 0, 0)


def test_a_behaviour_echoes_what_it_is_told_to_find() -> None:
    """Nothing is there when it finds nothing; braces stay without an expression."""
    assert (
        compose(asked(), Behaviour(text='{"text": "{echo}好"}', echo="手.|在")).text
        == '{"text": "手机 在好"}'
    )
    assert compose(asked(), Behaviour(text="<{echo}>", echo="#")).text == "<>"
    assert compose(asked(), Behaviour(text="<{echo}>")).text == "<{echo}>"


def test_most_tokens_cut_the_answer() -> None:
    """An answer longer than `max_tokens` ends with `length`."""
    said = compose(asked(max_tokens=2), None)
    assert len(said.pieces) == 2
    assert said.finish == "length"
    assert compose(asked(max_tokens=200), None).finish == "stop"


def test_what_is_said_can_be_made_of_what_is_asked() -> None:
    """A function of the call makes the text, unless the behaviour has one."""
    told = Behaviour(says=lambda asked: f"{asked.turns[0].text}，{asked.last_words}")
    assert compose(asked(), told).text == "你是店主，手机在吗"
    assert compose(asked(), Behaviour(text="", says=lambda asked: "不")).text == ""


def test_behaviour_says_everything_itself() -> None:
    """Thoughts come first, then text, then the calls of tools in pieces that join to the arguments."""
    arguments = '{"item": "手机", "price": "1999.00"}'
    behaviour = Behaviour(
        pieces=("a", "b"), reasoning=("r",), tool_calls=(ToolSaid("t", arguments),), usage=Tokens(1, 2)
    )
    said = compose(asked(), behaviour)
    reasoning, first, second, call, *rest = said.parts()
    assert (reasoning, first, second) == (ReasoningPart("r"), TextPart("a"), TextPart("b"))
    assert isinstance(call, ToolPart)
    assert call.first
    assert call.call.id
    assert "".join(part.arguments for part in rest if isinstance(part, ToolPart)) == arguments
    assert (said.finish, said.usage) == ("tool_calls", Tokens(1, 2))
    assert compose(asked(), Behaviour(text="")).parts() == []
    assert compose(asked(), Behaviour(no_usage=True)).usage is None
    assert compose(asked(), Behaviour(text="x", finish="odd")).finish == "odd"


@pytest.mark.parametrize("choice", ["required", "price"])
def test_tool_that_must_be_called_is_called(choice: str) -> None:
    """Its arguments follow its schema."""
    schema = {"type": "object", "properties": {"item": {"type": "string"}, "count": {"type": "integer"}}}
    tools = (Offered("price", schema),)
    said = compose(asked(tools=tools, tool_choice=choice), None)
    assert [call.name for call in said.tool_calls] == ["price"]
    assert json.loads(said.tool_calls[0].arguments) == {"item": "手机在吗", "count": 0}
    assert compose(asked(tools=tools), None).tool_calls == ()


def test_formats_are_kept() -> None:
    """An answer in JSON is JSON, and fits the schema where there is one."""
    schema = {
        "type": "object",
        "properties": {"reply": {"type": "string"}, "price": {"type": ["number", "null"]}},
    }
    assert "手机在吗" in json.loads(compose(asked(format="json_object"), None).text)["answer"]
    shaped = json.loads(compose(asked(format="json_schema", schema=schema), None).text)
    assert set(shaped) == {"reply", "price"}
    assert "手机在吗" in shaped["reply"]


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"type": "STRING", "maxLength": 2}, "字字"),
        ({"enum": ["b", "a"]}, "b"),
        ({"const": 4}, 4),
        ({"type": "number", "minimum": 3}, 3),
        ({"type": "boolean"}, False),
        ({"type": "null"}, None),
        ({"type": "array", "minItems": 2, "items": {"type": "integer"}}, [0, 0]),
        ({"anyOf": [{"type": "integer"}, {"type": "null"}]}, 0),
        ({"$ref": "#/$defs/N", "$defs": {"N": {"type": "integer"}}}, 0),
    ],
)
def test_instance_fits_the_schema(schema: dict[str, Any], value: object) -> None:
    """Whatever the schema asks for is there."""
    made = instance(schema, "字字字")
    assert made == value
    assert type(made) is type(value)


def test_schema_that_holds_itself_comes_to_an_end() -> None:
    """The instance is bounded in depth."""
    made, depth = instance({"properties": {"a": {"$ref": "#"}}}, ""), 0
    while made:
        made, depth = made["a"], depth + 1
    assert 0 < depth < 20


def test_near_texts_have_near_vectors() -> None:
    """Vectors have length 1, and texts that share words are nearer than others."""

    def near(a: str, b: str) -> float:
        return sum(x * y for x, y in zip(vector(a, 64), vector(b, 64), strict=True))

    assert math.isclose(near("苹果手机", "苹果手机"), 1)
    assert near("苹果手机多少钱", "苹果手机什么价") > near("苹果手机多少钱", "自行车能邮寄吗")
    assert len(vector("", 3)) == 3


@pytest.mark.parametrize(
    ("model", "size"),
    [("bench-50", (50, 0)), ("bench-50x5", (50, 5)), ("bench-0", None), ("bench-", None), ("gpt", None)],
)
def test_bench_models_say_their_size(model: str, size: tuple[int, int] | None) -> None:
    """So many pieces, in writes of so many."""
    assert bench_size(model) == size
    if size is not None:
        assert len(compose(asked(model=model), None).pieces) == size[0]


@pytest.mark.parametrize(
    ("framing", "wanted"),
    [
        ((), b'id: 1\nevent: e\n:c\ndata: {"a":1}\n\n'),
        (("crlf",), b'id: 1\r\nevent: e\r\n:c\r\ndata: {"a":1}\r\n\r\n'),
        (("lines",), b'id: 1\nevent: e\n:c\ndata: {\ndata: "a":1}\n\n'),
        (("comments",), b': keep-alive\n\nid: 1\nevent: e\n:c\ndata: {"a":1}\n\n'),
    ],
)
def test_events_are_framed(framing: tuple[str, ...], wanted: bytes) -> None:
    """Each way of writing gives the same event."""
    assert render(Event(b'{"a":1}', "e", "1", "c"), framing) == wanted


def test_done_is_never_split() -> None:
    """Only JSON can be told over several lines; DashScope's lines have no space."""
    assert render(Event(b"[DONE]"), ("lines",)) == b"data: [DONE]\n\n"
    assert render(Event(b"{}", space=b"")) == b"data:{}\n\n"


def test_log_is_bounded_and_keeps_no_key() -> None:
    """The oldest calls go first, counts go on, and of a key only its end is kept."""
    log = Log(ManualClock())
    calls = [log.begin("POST", "/", "openai", "sk-0123456789abcdef", {}) for _ in range(CALLS + 1)]
    assert (log.total, log.open, log.peak, len(log.calls)) == (CALLS + 1, CALLS + 1, CALLS + 1, CALLS)
    assert log.calls[0] is calls[1]
    for call in calls:
        log.end(call)
    log.clear()
    assert (log.total, log.open, log.peak, len(log.calls)) == (0, 0, 0, 0)
    assert [shown_key(key) for key in ("", "short", "sk-0123456789abcdef")] == ["", "…", "…cdef"]
