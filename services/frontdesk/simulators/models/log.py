"""What was asked of the simulator, and whether the client stayed to the end."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from frontdesk.kit.clock import Clock
from frontdesk.simulators.models.asked import Asked, Turn

CALLS = 2_000
TEXT = 4_000
TURNS = 200
# What a client may say about itself, its key apart.
HEADERS = (
    "accept",
    "anthropic-version",
    "anthropic-beta",
    "content-type",
    "idempotency-key",
    "traceparent",
    "user-agent",
    "x-dashscope-sse",
)


@dataclass(slots=True)
class Call:
    """One call. `cancelled`: the client left before the end, with `pieces` written so far. `whole`: the
    answer was written to its end, or to where its fault ends it. Times in milliseconds of the clock."""

    number: int
    at_ms: int
    method: str
    path: str
    door: str
    key: str = ""
    """The last four letters of the key, of one that is long enough to keep them apart."""
    headers: dict[str, str] = field(default_factory=dict)
    kind: str = ""
    model: str = ""
    stream: bool = False
    turns: tuple[Turn, ...] = ()
    texts: tuple[str, ...] = ()
    tools: tuple[str, ...] = ()
    format: str = ""
    max_tokens: int | None = None
    options: dict[str, Any] = field(default_factory=dict)
    """Plain fields of the body: temperature, top_p, seed and the like."""
    status: int = 0
    fault: str = ""
    pieces: int = 0
    whole: bool = False
    cancelled: bool = False
    ended_ms: int = 0

    def ask(self, asked: Asked, options: Mapping[str, Any]) -> None:
        """Note what is asked; long texts are cut, of long conversations the end counts."""
        self.kind, self.model, self.stream = asked.kind, asked.model, asked.stream
        self.turns = tuple(Turn(turn.role, turn.text[:TEXT]) for turn in asked.turns[-TURNS:])
        self.texts = tuple(text[:TEXT] for text in asked.texts[:TURNS])
        self.tools = tuple(tool.name for tool in asked.tools)
        self.format, self.max_tokens = asked.format, asked.max_tokens
        self.options = {
            name: value for name, value in options.items() if isinstance(value, (bool, int, float))
        }

    def as_json(self) -> dict[str, Any]:
        """For the control API."""
        return asdict(self)


class Log:
    """The last calls, oldest first, and how many came at once."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._idle = asyncio.Event()
        self._idle.set()
        self.calls: deque[Call] = deque(maxlen=CALLS)
        self.total = self.open = self.peak = self.cancelled = 0

    def begin(self, method: str, path: str, door: str, key: str, headers: Mapping[str, str]) -> Call:
        """A call came."""
        self.total += 1
        self.open += 1
        self.peak = max(self.peak, self.open)
        self._idle.clear()
        kept = {name: headers[name][:TEXT] for name in HEADERS if name in headers}
        call = Call(self.total, self._clock.now_ms(), method, path[:TEXT], door, shown_key(key), kept)
        self.calls.append(call)
        return call

    def end(self, call: Call) -> None:
        """It is over, whichever way."""
        self.open -= 1
        self.cancelled += call.cancelled
        call.ended_ms = self._clock.now_ms()
        if not self.open:
            self._idle.set()

    async def idle(self) -> None:
        """Return when no call is open; give it a deadline."""
        await self._idle.wait()

    def of(self, model: str) -> list[Call]:
        """The calls of a model, oldest first."""
        return [call for call in self.calls if call.model == model]

    def clear(self) -> None:
        """Forget what was; calls that are open stay counted."""
        self.calls.clear()
        self.total = self.cancelled = 0
        self.peak = self.open

    def as_json(self) -> dict[str, Any]:
        """For the control API."""
        counts = {"total": self.total, "open": self.open, "peak": self.peak, "cancelled": self.cancelled}
        return counts | {"calls": [call.as_json() for call in self.calls]}


def shown_key(key: str) -> str:
    """Enough of a key to tell two apart, and no more."""
    return f"…{key[-4:]}" if len(key) >= 12 else "…" if key else ""
