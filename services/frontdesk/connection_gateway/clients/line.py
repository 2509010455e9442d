"""One person's socket: reads at its own pace, writes with patience, and ends with a code.

Three things go on at once (AI-16): frames are read into a bounded queue (AI-17), a worker takes them one
after the other, and the conversation sends its answer. What is sent waits in the connection up to a bound in
bytes; a client that takes nothing of it for a while is cut off, and so is what is generated for it.
"""

from __future__ import annotations

import asyncio
import logging

from starlette.websockets import WebSocket, WebSocketDisconnect

from frontdesk.connection_gateway.clients.codes import Close
from frontdesk.connection_gateway.clients.conversation import Conversation, Gone, Services
from frontdesk.connection_gateway.clients.protocol import ChatProtocol, Frames
from frontdesk.kit import sockets, tasks
from frontdesk.kit.clock import Clock
from frontdesk.kit.principal import Principal

log = logging.getLogger(__name__)


class Line:
    """An accepted socket; `run` returns when it is over."""

    def __init__(
        self,
        websocket: WebSocket,
        principal: Principal,
        protocol: ChatProtocol,
        services: Services,
        clock: Clock,
    ) -> None:
        self.principal = principal
        self._websocket = websocket
        self._limits = services.limits
        self._clock = clock
        self._conversation = Conversation(principal, protocol, self._say, services)
        self._frames: asyncio.Queue[str | None] = asyncio.Queue(services.limits.queue)
        self._active_at = clock.monotonic()
        self._working = False
        self._cancel = False
        self._code: int | None = None

    @property
    def busy(self) -> bool:
        """Whether the person waits for something."""
        return self._working or self._conversation.busy or not self._frames.empty()

    async def run(self) -> None:
        """Serve the socket to its end."""
        sockets.bound(self._websocket, self._limits.send_bytes)
        both = (asyncio.create_task(self._read()), asyncio.create_task(self._work()))
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await tasks.end(both)
            await self._conversation.leave(cancel=self._cancel)
            self.close(Close.FAULT, "")  # nothing when it was closed
            log.info("a chat's socket was closed", extra={"close_code": self._code})

    def look(self) -> None:
        """Close the socket when its token has ended, or nobody asked for long."""
        until = self.principal.valid_until_ms
        if until is not None and self._clock.now_ms() >= until:
            self.close(Close.UNAUTHENTICATED, "the token has ended: connect with a new one")
        elif self.busy:
            self._active_at = self._clock.monotonic()
        elif self._clock.monotonic() - self._active_at >= self._limits.idle_s:
            self.close(Close.IDLE, "nothing was asked for long")

    def close(self, code: Close, reason: str, *, cancel: bool = False) -> None:
        """End the socket; with `cancel` its answer too."""
        if self._code is None:
            self._code = code
            self._cancel = cancel
            sockets.cut(self._websocket, code, reason)

    async def _read(self) -> None:
        while True:
            message = await self._websocket.receive()
            if message["type"] == "websocket.disconnect":
                if self._code is None:
                    self._code = message.get("code") or 1005
                return
            self._active_at = self._clock.monotonic()
            if self._frames.full() and self._limits.overflow == "reject":
                try:
                    await self._conversation.overflow()
                except Gone:
                    return
            else:
                await self._frames.put(message.get("text"))

    async def _work(self) -> None:
        while True:
            frame = await self._frames.get()
            self._working = True
            try:
                await self._conversation.take(frame)
            except Gone:
                return
            finally:
                self._working = False
            if self._conversation.bad_frames >= self._limits.bad_frames:
                self.close(Close.POLICY, "too many frames that can't be read", cancel=True)
                return

    async def _say(self, frames: Frames) -> None:
        """Send; raises Gone when the socket is over, or the client is too slow and is cut off."""
        for frame in frames:
            try:
                if sockets.writable(self._websocket):
                    await self._websocket.send_text(frame)
                else:
                    async with asyncio.timeout(self._limits.stall_s):
                        await self._websocket.send_text(frame)
            except TimeoutError:
                self.close(Close.SLOW, "the client does not read", cancel=True)
                raise Gone from None
            except (WebSocketDisconnect, RuntimeError):
                # RuntimeError is Starlette's word for a socket that is closed already (AI-03).
                raise Gone from None
