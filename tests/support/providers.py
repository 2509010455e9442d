"""Providers, models and calls for tests of ai-proxy's adapters."""

from __future__ import annotations

from collections.abc import Sequence

from frontdesk.ai_proxy.model import (
    Delta,
    Model,
    ModelMessage,
    Piece,
    Prompt,
    Provider,
    ProviderLimits,
    Role,
)
from frontdesk.ai_proxy.providers.failures import Call

KEY = "sk-0123456789abcdef"
MODEL = Model("default", "chat")
ASKED = Prompt((ModelMessage(Role.SYSTEM, "You sell."), ModelMessage(Role.USER, "还在吗")))


def provider(
    kind: str = "openai",
    base_url: str = "https://provider.example/v1",
    *,
    key: str = KEY,
    connect_s: float = 5.0,
    first_token_s: float = 5.0,
    idle_s: float = 5.0,
) -> Provider:
    """A provider; its limits are long unless a test needs them short."""
    limits = ProviderLimits(8, connect_s, first_token_s, idle_s, 2)
    return Provider("p-1", "o-1", "mine", kind, base_url, key, (MODEL,), limits)


def call(kind: str = "openai") -> Call:
    """A call of no content."""
    return Call(provider(kind), MODEL, "", {}, b"")


def text_of(pieces: Sequence[Piece]) -> str:
    """What was said."""
    return "".join(piece.text for piece in pieces if isinstance(piece, Delta))
