"""The model that knowledge is searched by meaning with, when an organization has one."""

from __future__ import annotations

from collections.abc import Sequence

from frontdesk.ai_proxy.completions import Completions
from frontdesk.ai_proxy.knowledge.vectors import Vectors
from frontdesk.ai_proxy.model import Caller

# A provider that gives one of its models this name lets knowledge be searched by it.
EMBEDDING_MODEL = "embedding"
MAX_NAME = 200


class ModelEmbedder:
    """Asks it, counted and limited as any other call."""

    def __init__(self, completions: Completions) -> None:
        self._completions = completions

    async def embed(self, caller: Caller, texts: Sequence[str]) -> Vectors | None:
        """A vector a text; None when the caller's organization has no such model. Raises FrontdeskError."""
        models = await self._completions.models(caller.organization_id)
        if not any(model.name == EMBEDDING_MODEL and model.embeds for model in models):
            return None
        found, outcome = await self._completions.embed(caller, EMBEDDING_MODEL, texts, None)
        return Vectors(f"{outcome.provider}/{outcome.model}"[:MAX_NAME], found.vectors)
