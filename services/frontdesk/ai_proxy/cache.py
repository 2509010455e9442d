"""Answers to questions that were asked before, word for word.

Off by default: a seller has to want the same answer twice. The key covers the organization, the model's
name, what stands behind it, and the whole prompt, so nobody gets another organization's answer, and a model
that was put elsewhere answers anew. Answers stay in this replica's memory only.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from frontdesk.ai_proxy.catalog import Candidate, Who
from frontdesk.ai_proxy.model import Answer, Prompt
from frontdesk.kit.clock import Clock

# What an entry costs besides its text, roughly.
_ENTRY_BYTES = 1024


@dataclass(frozen=True, slots=True)
class CachedAnswer:
    """An answer and who gave it."""

    answer: Answer
    who: Who


class AnswerCache:
    """At most `limit_bytes` of answers, each for `seconds`; the least recently used goes first."""

    def __init__(self, limit_bytes: int, seconds: float, clock: Clock) -> None:
        self._limit_bytes = limit_bytes
        self._seconds = seconds
        self._clock = clock
        self._entries: OrderedDict[bytes, tuple[float, int, CachedAnswer]] = OrderedDict()
        self._bytes = 0

    @property
    def size_bytes(self) -> int:
        """What is kept now, estimated."""
        return self._bytes

    def get(self, key: bytes) -> CachedAnswer | None:
        """The answer, unless it is too old."""
        found = self._entries.get(key)
        if found is None:
            return None
        if found[0] <= self._clock.monotonic():
            self._drop(key)
            return None
        self._entries.move_to_end(key)
        return found[2]

    def put(self, key: bytes, value: CachedAnswer) -> None:
        """Keep an answer; one that is larger than the whole cache is not kept."""
        size = _ENTRY_BYTES + len(value.answer.text.encode()) + len(value.answer.reasoning.encode())
        if key in self._entries:
            self._drop(key)
        if size > self._limit_bytes:
            return
        self._entries[key] = (self._clock.monotonic() + self._seconds, size, value)
        self._bytes += size
        while self._bytes > self._limit_bytes:
            self._drop(next(iter(self._entries)))

    def _drop(self, key: bytes) -> None:
        self._bytes -= self._entries.pop(key)[1]


def cache_key(
    organization_id: str, model: str, candidates: Sequence[Candidate], prompt: Prompt
) -> bytes | None:
    """What an answer is found by; None for a prompt that JSON can't hold, e.g. an integer beyond 64 bits."""
    behind = [[provider.provider_id, model.upstream_name] for provider, model in candidates]
    whole = [organization_id, model, behind, prompt]
    try:
        data = orjson.dumps(whole, option=orjson.OPT_SORT_KEYS, default=_plain)
    except orjson.JSONEncodeError:
        return None
    return hashlib.sha256(data).digest()


def _plain(value: object) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} in a prompt")
