"""What the models say and how they fail: a list of behaviours, the first that fits a call is its behaviour.

A behaviour fits by model, door and words of the last message of the user; with `times` it is used up after so
many calls, and the next one that fits takes over: three behaviours with `times` 1 answer three calls in turn.
A call that nothing fits gets the plain answer of speech.py.

    server.script.add(Behaviour(model="m", pieces=("你", "好"), between_ms=20))
    server.script.add(Behaviour(words="慢", fault=Fault("stall", after=2)))
    server.script.add(Behaviour(says=lambda asked: asked.turns[0].text))
    PUT /control/script
    {"behaviours": [{"model": "m", "times": 1, "fault": {"kind": "status", "status": 429}}]}

| fault | what happens |
|---|---|
| `status` | the vendor's error with `status`, `headers`, `message`, `code`; nothing is said |
| `html` | a page of a proxy in HTML, `status` 404 unless given |
| `reset` | the connection is reset (RST) after so many pieces |
| `close` | the connection is closed (FIN) without an end of the body |
| `cut` | the body ends as if it were whole, without the vendor's last events |
| `stall` | nothing more comes, the connection stays open |
| `garbage` | a line that is no JSON comes, then the answer goes on |
| `error` | an error of the vendor's kind, in a stream whose status is 200; nothing follows |
| `error_chunk` | a chunk that is `{"error": {"message", "code"}}`, whichever vendor; nothing follows |
| `huge` | a line of `size` bytes comes, then the answer goes on |

`after` counts pieces: -1 is before the head of the answer, 0 between the head and the first piece. Of an
answer that is not streamed half of the body comes before the fault, at any `after` from 0 on. Before the
head a `cut` is a `close`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from frontdesk.kit.errors import InvalidArgument
from frontdesk.simulators.models.asked import Asked

Says = Callable[[Asked], str]

BEFORE_HEAD = -1
MAX_BEHAVIOURS = 1_000
MAX_PIECES = 10_000
MAX_TEXT = 1_000_000
MAX_WAIT_MS = 600_000
MAX_LINE = 64 * 1024 * 1024

DOORS = ("openai", "dashscope", "anthropic", "gemini")
FAULTS = ("status", "html", "reset", "close", "cut", "stall", "garbage", "error", "error_chunk", "huge")
FRAMINGS = ("bytes", "crlf", "lines", "comments")


@dataclass(frozen=True, slots=True)
class Fault:
    """What goes wrong, of the table above, after how many pieces."""

    kind: str
    after: int = 0
    status: int = 0
    """Of `status`, `html` and errors; 0 is the usual one: 404 of `html`, else 500."""
    headers: Mapping[str, str] = field(default_factory=dict)
    message: str = ""
    code: str = ""
    size: int = 1024 * 1024
    """Bytes of a `huge` line."""


@dataclass(frozen=True, slots=True)
class ToolSaid:
    """A tool call of a model; `arguments` is JSON text, and may be broken."""

    name: str
    arguments: str = "{}"
    id: str = ""


@dataclass(frozen=True, slots=True)
class Tokens:
    """Usage that is told instead of the counted one."""

    prompt: int
    completion: int
    cached: int = 0
    reasoning: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Behaviour:
    """What is said to which calls. Empty means any call, and what speech.py says by itself."""

    model: str = ""
    words: str = ""
    door: str = ""
    times: int = 0
    """So many calls, then it is used up; 0 is always."""

    text: str | None = None
    """Split into pieces of a few letters; `pieces` are written as they are."""
    echo: str = ""
    """A regular expression: what it finds in the words of the user stands for `{echo}` in `text`."""
    says: Says | None = None
    """Makes the text of what was asked, where there is no `text`; only for scripts of the same process."""
    pieces: tuple[str, ...] = ()
    reasoning: tuple[str, ...] = ()
    tool_calls: tuple[ToolSaid, ...] = ()
    finish: str = ""
    """`stop`, `length`, `tool_calls`, `content_filter`, or a word of the vendor's own."""
    usage: Tokens | None = None
    no_usage: bool = False
    blocked: bool = False
    """The vendor's filter stops the prompt, each in its own way."""

    head_ms: int = 0
    """Before the status line."""
    first_ms: int = 0
    """Between the head and the first piece."""
    between_ms: int = 0
    batch: int = 1
    """So many pieces come in one write, from the first to the last event; 0 is all in one."""

    fault: Fault | None = None
    framing: tuple[str, ...] = ()
    """How events are written: `bytes` one at a time, `crlf` line ends, data over several `lines`, `comments`
    between events."""


class Script:
    """Behaviours in order."""

    def __init__(self) -> None:
        self._behaviours: list[Behaviour] = []
        self._used: list[int] = []

    def add(self, *behaviours: Behaviour) -> None:
        """Append behaviours; raises InvalidArgument, and then none is added."""
        if len(self._behaviours) + len(behaviours) > MAX_BEHAVIOURS:
            raise InvalidArgument("behaviours", f"are more than {MAX_BEHAVIOURS}")
        for behaviour in behaviours:
            check(behaviour)
        self._behaviours.extend(behaviours)
        self._used.extend(0 for _ in behaviours)

    def set(self, *behaviours: Behaviour) -> None:
        """Replace all behaviours; raises InvalidArgument, and then nothing is changed."""
        fresh = Script()
        fresh.add(*behaviours)
        self._behaviours, self._used = fresh._behaviours, fresh._used

    def clear(self) -> None:
        """Only plain answers again."""
        self.set()

    def choose(self, door: str, model: str, words: str) -> Behaviour | None:
        """The behaviour of a call, which counts as used now."""
        for position, behaviour in enumerate(self._behaviours):
            if behaviour.times and self._used[position] >= behaviour.times:
                continue
            if behaviour.model not in ("", model) or behaviour.door not in ("", door):
                continue
            if behaviour.words not in words:
                continue
            self._used[position] += 1
            return behaviour
        return None

    def used(self) -> tuple[int, ...]:
        """How often each behaviour was chosen."""
        return tuple(self._used)


def check(behaviour: Behaviour) -> None:
    """Raise InvalidArgument naming the field that no simulator could follow."""
    _one_of("door", behaviour.door, ("", *DOORS))
    try:
        re.compile(behaviour.echo)
    except re.error as error:
        raise InvalidArgument("echo", f"is no regular expression: {error}") from error
    for framing in behaviour.framing:
        _one_of("framing", framing, FRAMINGS)
    for name in ("head_ms", "first_ms", "between_ms"):
        _within(name, getattr(behaviour, name), 0, MAX_WAIT_MS)
    _within("times", behaviour.times, 0, 1_000_000)
    _within("batch", behaviour.batch, 0, MAX_PIECES)
    _within("text", len(behaviour.text or ""), 0, MAX_TEXT)
    for name in ("pieces", "reasoning", "tool_calls"):
        _within(name, len(getattr(behaviour, name)), 0, MAX_PIECES)
    fault = behaviour.fault
    if fault is not None:
        _one_of("fault.kind", fault.kind, FAULTS)
        _within("fault.after", fault.after, BEFORE_HEAD, MAX_PIECES)
        _within("fault.size", fault.size, 0, MAX_LINE)
        if fault.status:
            _within("fault.status", fault.status, 400, 599)


def behaviours_of(body: object) -> tuple[Behaviour, ...]:
    """The behaviours of `{"behaviours": […]}`; raises InvalidArgument naming the field."""
    if not isinstance(body, dict) or not isinstance(body.get("behaviours"), list):
        raise InvalidArgument("behaviours", "must be a list")
    if len(body["behaviours"]) > MAX_BEHAVIOURS:
        raise InvalidArgument("behaviours", f"are more than {MAX_BEHAVIOURS}")
    return tuple(_behaviour(f"behaviours[{n}]", given) for n, given in enumerate(body["behaviours"]))


def _behaviour(path: str, given: object) -> Behaviour:
    values = _object(path, given, Behaviour)
    if "says" in values:
        raise InvalidArgument(f"{path}.says", "is no field")
    readers: dict[str, Callable[[str, object], object]] = {
        "pieces": _texts,
        "reasoning": _texts,
        "framing": _texts,
        "tool_calls": _tool_calls,
        "usage": lambda at, value: _plain(at, value, Tokens),
        "fault": _fault,
    }
    read: dict[str, Any] = {
        name: readers[name](f"{path}.{name}", value) if name in readers else value
        for name, value in values.items()
    }
    _types(path, read, Behaviour)
    behaviour = Behaviour(**read)
    check(behaviour)
    return behaviour


def _fault(path: str, given: object) -> Fault:
    values = _object(path, given, Fault)
    headers = values.get("headers", {})
    if not isinstance(headers, dict) or not all(isinstance(text, str) for text in headers.values()):
        raise InvalidArgument(f"{path}.headers", "must be texts by name")
    fault = _plain(path, values, Fault)
    assert isinstance(fault, Fault)
    return fault


def _tool_calls(path: str, given: object) -> tuple[ToolSaid, ...]:
    if not isinstance(given, list):
        raise InvalidArgument(path, "must be a list")
    return tuple(_plain(f"{path}[{n}]", one, ToolSaid) for n, one in enumerate(given))


def _texts(path: str, given: object) -> tuple[str, ...]:
    if not isinstance(given, list) or not all(isinstance(text, str) for text in given):
        raise InvalidArgument(path, "must be a list of texts")
    return tuple(given)


def _plain(path: str, given: object, kind: type[Any]) -> Any:
    values = _object(path, given, kind)
    _types(path, values, kind)
    needed = [f.name for f in fields(kind) if f.name not in values and f.name in _NEEDED.get(kind, ())]
    if needed:
        raise InvalidArgument(f"{path}.{needed[0]}", "is needed")
    return kind(**values)


_NEEDED: dict[type[Any], tuple[str, ...]] = {
    Fault: ("kind",),
    ToolSaid: ("name",),
    Tokens: ("prompt", "completion"),
}


def _object(path: str, given: object, kind: type[Any]) -> dict[str, Any]:
    if not isinstance(given, dict):
        raise InvalidArgument(path, "must be a JSON object")
    known = {f.name for f in fields(kind)}
    for name in given:
        if name not in known:
            raise InvalidArgument(f"{path}.{name}", "is no field")
    return given


def _types(path: str, values: Mapping[str, object], kind: type[Any]) -> None:
    """Fields of one plain type have it; those of others were read before."""
    for one in fields(kind):
        wanted = {"str": str, "str | None": str, "int": int, "bool": bool}.get(str(one.type))
        if one.name not in values or wanted is None:
            continue
        if values[one.name] is None and "None" in str(one.type):
            continue
        if type(values[one.name]) is not wanted:
            raise InvalidArgument(f"{path}.{one.name}", f"must be a {wanted.__name__}")


def _one_of(name: str, value: str, known: Sequence[str]) -> None:
    if value not in known:
        raise InvalidArgument(name, f"must be one of {', '.join(word for word in known if word)}")


def _within(name: str, value: int, least: int, most: int) -> None:
    if not least <= value <= most:
        raise InvalidArgument(name, f"must be from {least} to {most}")
