"""What every provider's adapter can do, whatever it speaks."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextvars import ContextVar
from typing import Protocol

from frontdesk.ai_proxy.model import Answer, Embeddings, Model, Piece, Prompt, Provider


class OnItsWay(Protocol):
    """A question that a provider gets; while it `waits` here the provider does not have it."""

    waits: bool


# What the current task asks.
asked_now: ContextVar[OnItsWay | None] = ContextVar("asked_now", default=None)


class Adapter(Protocol):
    """Speaks one kind of API. It keeps nothing of a call, and one adapter serves all providers of its kind.

    Every method raises UpstreamError, and nothing else, for what the provider does; cancelling the caller's
    task closes the connection to the provider, so that it stops too.
    """

    async def complete(self, provider: Provider, model: Model, prompt: Prompt) -> Answer:
        """The whole answer."""
        ...

    def stream(
        self, provider: Provider, model: Model, prompt: Prompt
    ) -> AsyncGenerator[Sequence[Piece], None]:
        """The answer as it comes, a batch a read, never an empty one. The last piece of the last batch is
        Finish; an answer that ends without one raises. Close it to end the call early."""
        ...

    async def embed(
        self, provider: Provider, model: Model, texts: Sequence[str], dimensions: int | None
    ) -> Embeddings:
        """A vector a text."""
        ...
