"""What a model says to a call: the behaviour's words, or plain ones that name what the user asked.

Nothing here is random: the same call gets the same words, the same usage and the same vectors. A piece counts
as a token, a prompt counts a token for every two letters and four a message.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from frontdesk.simulators.models.asked import Asked
from frontdesk.simulators.models.script import MAX_PIECES, Behaviour, Tokens, ToolSaid

PIECE = 4
ARGUMENTS_PIECE = 8
NAMED_WORDS = 60
DIMENSIONS = 64
MAX_DIMENSIONS = 4_096
SCHEMA_DEPTH = 8
_BENCH = re.compile(r"bench-(\d{1,5})(?:x(\d{1,5}))?", re.ASCII)


@dataclass(frozen=True, slots=True)
class TextPart:
    """A piece of the answer."""

    text: str


@dataclass(frozen=True, slots=True)
class ReasoningPart:
    """A piece of what the model thinks before it answers."""

    text: str


@dataclass(frozen=True, slots=True)
class ToolPart:
    """A piece of a tool call; the first one, with `first`, has no arguments yet."""

    index: int
    call: ToolSaid
    arguments: str = ""
    first: bool = False


Part = TextPart | ReasoningPart | ToolPart


@dataclass(frozen=True, slots=True)
class Said:
    """A whole answer. `usage` is None when the provider tells none."""

    pieces: tuple[str, ...]
    reasoning: tuple[str, ...]
    tool_calls: tuple[ToolSaid, ...]
    finish: str
    usage: Tokens | None
    blocked: bool = False

    @property
    def text(self) -> str:
        """All of the answer's text."""
        return "".join(self.pieces)

    def parts(self) -> list[Part]:
        """In the order they are written."""
        parts: list[Part] = [ReasoningPart(text) for text in self.reasoning]
        parts += [TextPart(text) for text in self.pieces]
        for index, call in enumerate(self.tool_calls):
            parts.append(ToolPart(index, call, first=True))
            parts += [ToolPart(index, call, text) for text in split(call.arguments, ARGUMENTS_PIECE)]
        return parts


def compose(asked: Asked, behaviour: Behaviour | None) -> Said:
    """What is said to `asked`."""
    behaviour = behaviour or Behaviour()
    if behaviour.blocked:
        return Said((), (), (), "content_filter", _usage(asked, behaviour, 0), True)
    tools = behaviour.tool_calls
    pieces = behaviour.pieces
    text = _text(asked, behaviour)
    if not pieces and text is not None:
        pieces = split(text, PIECE)
    elif not pieces and not tools:
        pieces, tools = _plain(asked)
    prefix = "toolu" if asked.door == "anthropic" else "call"
    tools = tuple(
        call if call.id else ToolSaid(call.name, call.arguments, f"{prefix}_{n + 1:024d}")
        for n, call in enumerate(tools)
    )
    finish = behaviour.finish
    if asked.max_tokens is not None and asked.max_tokens < len(pieces):
        pieces, finish = pieces[: asked.max_tokens], finish or "length"
    said = Said(pieces, behaviour.reasoning, tools, finish or ("tool_calls" if tools else "stop"), None)
    usage = _usage(asked, behaviour, len(said.parts()))
    return Said(said.pieces, said.reasoning, said.tool_calls, said.finish, usage)


def bench_size(model: str) -> tuple[int, int] | None:
    """Pieces and pieces a write of a model for benches: `bench-50` writes 50 at once, `bench-50x5` five at a
    time. None for other models."""
    found = _BENCH.fullmatch(model)
    if found is None or not 0 < int(found[1]) <= MAX_PIECES:
        return None
    return int(found[1]), int(found[2] or 0)


def split(text: str, size: int) -> tuple[str, ...]:
    """Pieces of `size` letters."""
    return tuple(text[at : at + size] for at in range(0, len(text), size))


def prompt_tokens(asked: Asked) -> int:
    """Tokens of what was asked."""
    texts = asked.texts if asked.kind == "embed" else tuple(turn.text for turn in asked.turns)
    return sum((len(text) + 1) // 2 + 4 for text in texts)


def vector(text: str, dimensions: int) -> list[float]:
    """A vector of length 1 in which texts that share pairs of letters are near each other."""
    values = [0.0] * dimensions
    for at in range(max(1, len(text) - 1)):
        digest = hashlib.blake2b(text[at : at + 2].encode(), digest_size=8).digest()
        values[int.from_bytes(digest[:4], "big") % dimensions] += 1.0 if digest[4] & 1 else -1.0
    length = math.sqrt(sum(value * value for value in values))
    if not length:
        values[0] = length = 1.0
    return [value / length for value in values]


def vectors(asked: Asked) -> list[list[float]]:
    """A vector a text."""
    return [vector(text, asked.dimensions or DIMENSIONS) for text in asked.texts]


def instance(schema: Mapping[str, Any], words: str) -> Any:
    """A value that the JSON Schema allows, with `words` wherever it wants any text."""
    return _instance(schema, schema, words, SCHEMA_DEPTH)


def _text(asked: Asked, behaviour: Behaviour) -> str | None:
    text = behaviour.text
    if text is None:
        return behaviour.says(asked) if behaviour.says is not None else None
    if not behaviour.echo:
        return text
    found = (one[0] for one in re.finditer(behaviour.echo, asked.last_words))
    return text.replace("{echo}", " ".join(found))


def _plain(asked: Asked) -> tuple[tuple[str, ...], tuple[ToolSaid, ...]]:
    bench = bench_size(asked.model)
    if bench is not None:
        return ("你好吗。",) * bench[0], ()
    words = " ".join(asked.last_words.split())
    sentence = f"您好，您问的“{words[:NAMED_WORDS]}”我看到了，宝贝还在，喜欢可以直接拍下。"
    wanted = [tool for tool in asked.tools if asked.tool_choice in ("required", tool.name)]
    if wanted:
        arguments = orjson.dumps(instance(wanted[0].parameters, words[:NAMED_WORDS])).decode()
        return (), (ToolSaid(wanted[0].name, arguments),)
    if asked.format == "json_schema" and asked.schema is not None:
        sentence = orjson.dumps(instance(asked.schema, sentence)).decode()
    elif asked.format != "text":
        sentence = orjson.dumps({"answer": sentence}).decode()
    return split(sentence, PIECE), ()


def _usage(asked: Asked, behaviour: Behaviour, parts: int) -> Tokens | None:
    if behaviour.no_usage:
        return None
    return behaviour.usage or Tokens(prompt_tokens(asked), parts, 0, len(behaviour.reasoning))


def _instance(root: Mapping[str, Any], schema: Mapping[str, Any], words: str, depth: int) -> Any:
    for name in ("const", "default"):
        if name in schema:
            return schema[name]
    if schema.get("enum"):
        return schema["enum"][0]
    inner = _inner(root, schema)
    if inner is not None:
        return _instance(root, inner, words, depth - 1) if depth else None
    kind = schema.get("type", "object" if "properties" in schema else "string")
    if isinstance(kind, list):
        kind = kind[0] if kind else "null"
    # Gemini writes types in capitals.
    kind = str(kind).lower()
    if kind == "object":
        properties: Mapping[str, Mapping[str, Any]] = schema.get("properties", {})
        return {name: _instance(root, one, words, depth - 1) for name, one in properties.items() if depth}
    if kind == "array":
        few = range(schema.get("minItems", 0) if depth else 0)
        return [_instance(root, schema.get("items", {}), words, depth - 1) for _ in few]
    if kind in ("integer", "number"):
        return schema.get("minimum", 0)
    if kind == "boolean":
        return False
    return words[: schema.get("maxLength")] if kind == "string" else None


def _inner(root: Mapping[str, Any], schema: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The schema that a reference or a choice of schemas stands for."""
    for name in ("anyOf", "oneOf", "allOf"):
        choices: Sequence[Mapping[str, Any]] = schema.get(name, ())
        if choices:
            return choices[0]
    reference = schema.get("$ref")
    if not isinstance(reference, str):
        return None
    found: Any = root
    for step in reference.removeprefix("#").strip("/").split("/"):
        found = found.get(step, {}) if isinstance(found, Mapping) and step else found
    return found if isinstance(found, Mapping) else {}
