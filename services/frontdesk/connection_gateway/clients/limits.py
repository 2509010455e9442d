"""Every limit of `/chat`, and who may use it; the wiring fills both from the settings."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class AccessRules:
    """`anonymous_organization` is None when everybody needs a token; `origins` are those of pages that may
    connect besides the host's own, in lower case, e.g. `https://admin.example.com`."""

    anonymous_organization: str | None = None
    origins: Collection[str] = ()


@dataclass(frozen=True, slots=True)
class ChatLimits:
    """Times in seconds, sizes in bytes of UTF-8 unless they say characters."""

    sockets: int = 5000
    sockets_per_user: int = 5
    anonymous_sockets: int = 100
    idle_s: float = 1800.0
    stall_s: float = 10.0
    send_bytes: int = 256 * 1024
    queue: int = 100
    overflow: Literal["wait", "reject"] = "wait"
    bad_frames: int = 20
    question_chars: int = 16_000
    turns: int = 40
    history_bytes: int = 256 * 1024
    stored_turns: int = 200
    sessions_per_user: int = 500
    history_days: int = 30
    answer_s: float = 300.0
    answer_bytes: int = 256 * 1024
    answers: int = 2000
    kept_bytes: int = 64 * 1024 * 1024
    grace_s: float = 30.0
    keep_s: float = 300.0
