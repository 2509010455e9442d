"""One lane a chat: whoever says something in a chat, or judges an own message of it, does so alone.

So a message of our own that the platform shows us waits until the send it may belong to has an end.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Lanes:
    """Locks by chat, first come first served; a chat that nobody uses costs nothing."""

    __slots__ = ("_lanes",)

    def __init__(self) -> None:
        self._lanes: dict[str, tuple[asyncio.Lock, int]] = {}

    @asynccontextmanager
    async def hold(self, chat_id: str) -> AsyncIterator[None]:
        """Have the chat's lane for the length of the block."""
        lock, users = self._lanes.get(chat_id) or (asyncio.Lock(), 0)
        self._lanes[chat_id] = (lock, users + 1)
        try:
            async with lock:
                yield
        finally:
            users = self._lanes[chat_id][1] - 1
            if users:
                self._lanes[chat_id] = (lock, users)
            else:
                del self._lanes[chat_id]
