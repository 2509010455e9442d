"""The simulated models, and the vendors' own clients for them.

The clients are imported where they are used: each takes a second, which only the process that needs one pays.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from frontdesk.kit.clock import Clock
from frontdesk.simulators.models.server import ModelsServer

KEY = "sk-simulated-0123456789"


@asynccontextmanager
async def models(clock: Clock | None = None, **settings: Any) -> AsyncIterator[ModelsServer]:
    """A server that listens."""
    server = ModelsServer(clock=clock, **settings)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


@asynccontextmanager
async def openai_client(url: str, key: str = KEY) -> AsyncIterator[Any]:
    """OpenAI's own client, without retries of its own."""
    from openai import AsyncOpenAI

    async with AsyncOpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0, timeout=10) as client:
        yield client


@asynccontextmanager
async def anthropic_client(url: str, key: str = KEY) -> AsyncIterator[Any]:
    """Anthropic's own client, without retries of its own."""
    from anthropic import AsyncAnthropic

    async with AsyncAnthropic(base_url=url, api_key=key, max_retries=0, timeout=10) as client:
        yield client


@asynccontextmanager
async def gemini_client(url: str, key: str = KEY) -> AsyncIterator[Any]:
    """Google's own client for Gemini."""
    from google import genai

    client = genai.Client(api_key=key, http_options={"base_url": url})
    async with client.aio as models:
        yield models
    client.close()
