"""What every vendor's API can do: read a call, tell an answer whole or in events, refuse."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import orjson

from frontdesk.simulators.models.asked import Asked, Body, Refused, Turn, words_of
from frontdesk.simulators.models.events import Event
from frontdesk.simulators.models.script import Fault
from frontdesk.simulators.models.speech import Part, Said


@dataclass(frozen=True, slots=True)
class Received:
    """A request: headers, looked up in small letters, the body, variables of the path, and the query."""

    headers: Mapping[str, str]
    body: Body
    path: Mapping[str, str] = field(default_factory=dict)
    query: Mapping[str, str] = field(default_factory=dict)

    @property
    def bearer(self) -> str:
        """The token of `Authorization: Bearer`."""
        scheme, _, token = self.headers.get("authorization", "").partition(" ")
        return token.strip() if scheme.lower() == "bearer" else ""


class Voice(ABC):
    """Tells one answer. `opening` comes right after the head, before the model begins to speak."""

    def __init__(self, asked: Asked, said: Said, number: int, created_s: int) -> None:
        self.asked = asked
        self.said = said
        self.number = number
        self.created_s = created_s

    def parts(self) -> Sequence[Part]:
        """The pieces as this vendor writes them."""
        return self.said.parts()

    def opening(self) -> list[Event]:
        """Events before the first piece."""
        return []

    @abstractmethod
    def piece(self, part: Part) -> list[Event]:
        """Events of a piece."""

    @abstractmethod
    def ending(self) -> list[Event]:
        """Events that make the answer whole."""

    @abstractmethod
    def error(self, refused: Refused) -> list[Event]:
        """An error in the middle of a stream."""

    @abstractmethod
    def whole(self) -> Body:
        """The answer that is not streamed."""


class Door(ABC):
    """One vendor's API. `request_id` is the header that names a call; `usual` are message, code and kind of
    an error by status."""

    name: ClassVar[str]
    voice: ClassVar[type[Voice]]
    sse_type: ClassVar[str] = "text/event-stream; charset=utf-8"
    json_type: ClassVar[str] = "application/json"
    request_id: ClassVar[str] = "x-request-id"
    usual: ClassVar[Mapping[int, tuple[str, str, str]]]

    @abstractmethod
    def key(self, received: Received) -> str:
        """The key the client gave, empty when it gave none."""

    @abstractmethod
    def wrong_key(self, given: str) -> Refused:
        """What a key that is not right is answered."""

    @abstractmethod
    def chat(self, received: Received) -> Asked:
        """A call for an answer; raises Refused."""

    @abstractmethod
    def embed(self, received: Received) -> Asked:
        """A call for vectors; raises Refused."""

    @abstractmethod
    def embedded(self, asked: Asked, vectors: Sequence[Sequence[float]], tokens: int, number: int) -> Body:
        """The answer with vectors."""

    @abstractmethod
    def failure(self, refused: Refused, number: int) -> Body:
        """The body of an error."""

    @abstractmethod
    def listed(self, names: Sequence[str], created_s: int) -> Body:
        """The list of models."""

    def failure_events(self, refused: Refused, number: int) -> list[Event]:
        """The error of a call that asked for a stream; empty when it is told in a body like any other."""
        return []

    def blocked(self) -> Refused | None:
        """How a prompt that the filter stops is refused; None when the answer itself says so."""
        return None

    def fault(self, status: int, fault: Fault, model: str) -> Refused:
        """The error of a script, with the vendor's usual words where the script has none."""
        near = status if status in self.usual else 500 if status >= 500 else 400
        words, usual_code, kind = self.usual[near]
        return Refused(
            status,
            fault.message or words.replace("{model}", model),
            code=fault.code or usual_code,
            kind=kind,
            retry_after=fault.headers.get("Retry-After", ""),
        )


def dump(body: object) -> bytes:
    """JSON as the vendors write it."""
    return orjson.dumps(body)


def text_of(body: Body, name: str, missing: Callable[[str], Refused]) -> str:
    """A text that must be there."""
    value = body.get(name)
    if not isinstance(value, str) or not value:
        raise missing(name)
    return value


def chat_turns(messages: object, bad: Callable[[str, str], Refused]) -> tuple[Turn, ...]:
    """Messages of OpenAI's kind, checked as the vendors check them; `bad` makes the refusal of a field."""
    if not isinstance(messages, list) or not messages:
        raise bad("messages", "[] is too short - 'messages'")
    turns: list[Turn] = []
    called: set[str] = set()
    for n, message in enumerate(messages):
        at = f"messages.[{n}]"
        role = message.get("role") if isinstance(message, dict) else None
        if role not in ("system", "developer", "user", "assistant", "tool"):
            raise bad(
                f"{at}.role", f"{role!r} is not one of ['system', 'assistant', 'user', 'tool'] - '{at}.role'"
            )
        calls = message.get("tool_calls") or []
        if message.get("content") is None and not calls:
            raise bad(f"{at}.content", f"Invalid value for 'content': expected a string, got null. - '{at}'")
        called.update(
            call["id"] for call in calls if isinstance(call, dict) and isinstance(call.get("id"), str)
        )
        if role == "tool" and message.get("tool_call_id") not in called:
            raise bad(
                f"{at}.role",
                "messages with role 'tool' must be a response to a preceeding message with 'tool_calls'.",
            )
        turns.append(Turn("system" if role == "developer" else role, words_of(message.get("content"))))
    return tuple(turns)


def whole_number(value: object) -> int | None:
    """An int that is no bool, else None."""
    return value if isinstance(value, int) and not isinstance(value, bool) else None
