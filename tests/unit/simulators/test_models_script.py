"""Which behaviour a call gets, and what a script may not say."""

from __future__ import annotations

from typing import Any

import pytest

from frontdesk.kit.errors import InvalidArgument
from frontdesk.simulators.models.script import (
    MAX_BEHAVIOURS,
    Behaviour,
    Fault,
    Script,
    Tokens,
    ToolSaid,
    behaviours_of,
)


def said(script: Script, *, door: str = "openai", model: str = "m", words: str = "") -> str | None:
    """The text of the behaviour that a call gets."""
    behaviour = script.choose(door, model, words)
    return behaviour.text if behaviour else None


def test_first_that_fits_answers() -> None:
    """Model, door and words all have to fit; an empty one fits any call."""
    script = Script()
    script.add(
        Behaviour(model="a", words="价", text="1"),
        Behaviour(door="gemini", text="2"),
        Behaviour(words="价", text="3"),
    )
    assert said(script, model="a", words="什么价") == "1"
    assert said(script, model="b", words="什么价") == "3"
    assert said(script, door="gemini", model="b", words="什么价") == "2"
    assert said(script, model="a", words="在吗") is None


def test_times_make_an_order() -> None:
    """Used up behaviours let the next one answer, and one without `times` answers on and on."""
    script = Script()
    script.add(Behaviour(text="1", times=1), Behaviour(text="2", times=2), Behaviour(text="3"))
    assert [said(script) for _ in range(5)] == ["1", "2", "2", "3", "3"]
    assert script.used() == (1, 2, 2)


def test_set_replaces_and_clear_forgets() -> None:
    """A script that is set begins anew."""
    script = Script()
    script.add(Behaviour(text="1", times=1))
    assert said(script) == "1"
    script.set(Behaviour(text="1", times=1))
    assert said(script) == "1"
    script.clear()
    assert said(script) is None
    assert script.used() == ()


def test_bad_behaviour_changes_nothing() -> None:
    """Neither adding nor setting does half of its work."""
    script = Script()
    script.add(Behaviour(text="kept"))
    for change in (script.add, script.set):
        with pytest.raises(InvalidArgument) as caught:
            change(Behaviour(text="new"), Behaviour(first_ms=-1))
        assert caught.value.field == "first_ms"
    with pytest.raises(InvalidArgument):
        script.add(*(Behaviour(),) * MAX_BEHAVIOURS)
    assert script.used() == (0,)
    assert said(script) == "kept"


def test_json_says_what_python_can() -> None:
    """Every kind of field is read from JSON."""
    read = behaviours_of(
        {
            "behaviours": [
                {
                    "model": "m",
                    "times": 2,
                    "pieces": ["a", "b"],
                    "reasoning": ["r"],
                    "tool_calls": [{"name": "t", "arguments": "{}"}],
                    "usage": {"prompt": 1, "completion": 2, "cached": 1},
                    "no_usage": False,
                    "framing": ["crlf", "bytes"],
                    "fault": {"kind": "status", "status": 429, "headers": {"Retry-After": "3"}},
                },
                {"text": None},
            ]
        }
    )
    assert read == (
        Behaviour(
            model="m",
            times=2,
            pieces=("a", "b"),
            reasoning=("r",),
            tool_calls=(ToolSaid("t", "{}"),),
            usage=Tokens(1, 2, 1),
            framing=("crlf", "bytes"),
            fault=Fault("status", status=429, headers={"Retry-After": "3"}),
        ),
        Behaviour(),
    )


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ([], "behaviours"),
        ({"behaviours": {}}, "behaviours"),
        ({"behaviours": [{}] * (MAX_BEHAVIOURS + 1)}, "behaviours"),
        ({"behaviours": [1]}, "behaviours[0]"),
        ({"behaviours": [{"modle": "m"}]}, "behaviours[0].modle"),
        ({"behaviours": [{"says": "print"}]}, "behaviours[0].says"),
        ({"behaviours": [{"model": 1}]}, "behaviours[0].model"),
        ({"behaviours": [{"times": True}]}, "behaviours[0].times"),
        ({"behaviours": [{"times": -1}]}, "times"),
        ({"behaviours": [{"between_ms": 10**9}]}, "between_ms"),
        ({"behaviours": [{"door": "none"}]}, "door"),
        ({"behaviours": [{"framing": ["odd"]}]}, "framing"),
        ({"behaviours": [{"echo": "("}]}, "echo"),
        ({"behaviours": [{"pieces": "ab"}]}, "behaviours[0].pieces"),
        ({"behaviours": [{"reasoning": [1]}]}, "behaviours[0].reasoning"),
        ({"behaviours": [{"tool_calls": {}}]}, "behaviours[0].tool_calls"),
        ({"behaviours": [{"tool_calls": [{}]}]}, "behaviours[0].tool_calls[0].name"),
        ({"behaviours": [{"usage": {"prompt": 1}}]}, "behaviours[0].usage.completion"),
        ({"behaviours": [{"fault": {}}]}, "behaviours[0].fault.kind"),
        ({"behaviours": [{"fault": {"kind": "odd"}}]}, "fault.kind"),
        ({"behaviours": [{"fault": {"kind": "stall", "after": -2}}]}, "fault.after"),
        ({"behaviours": [{"fault": {"kind": "status", "status": 200}}]}, "fault.status"),
        ({"behaviours": [{"fault": {"kind": "huge", "size": 2**40}}]}, "fault.size"),
        ({"behaviours": [{"fault": {"kind": "status", "headers": {"A": 1}}}]}, "behaviours[0].fault.headers"),
    ],
)
def test_bad_json_names_the_field(body: Any, field: str) -> None:
    """A script that could not be followed is refused with the path of what is wrong."""
    with pytest.raises(InvalidArgument) as caught:
        behaviours_of(body)
    assert caught.value.field == field
