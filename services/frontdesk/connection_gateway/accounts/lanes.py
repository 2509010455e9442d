"""One lane a chat: whoever says something in a chat, or judges an own message of it, does so alone.

So a message of our own that the platform shows us waits until the send it may belong to has an end.
"""

from __future__ import annotations

import asyncio
from types import TracebackType


class Lanes:
    """Locks by chat, first come first served; a chat that nobody uses costs nothing."""

    __slots__ = ("_lanes",)

    def __init__(self) -> None:
        self._lanes: dict[str, tuple[asyncio.Lock, int]] = {}

    def hold(self, chat_id: str) -> _Turn:
        """Have the chat's lane for the length of an `async with`."""
        return _Turn(self._lanes, chat_id)


class _Turn:
    __slots__ = ("_chat_id", "_lanes")

    def __init__(self, lanes: dict[str, tuple[asyncio.Lock, int]], chat_id: str) -> None:
        self._lanes = lanes
        self._chat_id = chat_id

    async def __aenter__(self) -> None:
        lock, users = self._lanes.get(self._chat_id) or (asyncio.Lock(), 0)
        self._lanes[self._chat_id] = (lock, users + 1)
        try:
            await lock.acquire()
        except BaseException:
            self._leave()
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lanes[self._chat_id][0].release()
        self._leave()

    def _leave(self) -> None:
        lock, users = self._lanes[self._chat_id]
        if users > 1:
            self._lanes[self._chat_id] = (lock, users - 1)
        else:
            del self._lanes[self._chat_id]
