"""WebSockets of a door, beyond what ASGI can say: how much may wait to be sent, and an end that never waits.

ASGI's `websocket.close` waits like any other send until the client reads, so a client that does not read
could not be closed at all, and a connection that is closed with bytes left in it would stay until TCP gives
up. `cut` writes the close frame behind what waits and drops the connection soon after, read or not.
"""

from __future__ import annotations

from starlette.websockets import WebSocket
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.http11 import Request
from websockets.protocol import State

LINGER_S = 5.0
_EXTENSION = "frontdesk.socket"


class SocketProtocol(WebSocketsSansIOProtocol):
    """uvicorn's protocol, reachable from the application through its scope."""

    def handle_connect(self, event: Request) -> None:
        super().handle_connect(event)
        if self.response.status_code == 101:
            self.scope["extensions"][_EXTENSION] = {"protocol": self}

    def shutdown(self) -> None:
        """Close with 1012; drop what the client does not take."""
        if self.close_sent:
            self.transport.abort()
            return
        super().shutdown()
        self.loop.call_later(LINGER_S, self.transport.abort)

    def cut(self, code: int, reason: str) -> None:
        """See `cut` below."""
        if self.close_sent or self.disconnected or self.conn.state is not State.OPEN:
            return
        self.stop_keepalive()
        self.queue.put_nowait({"type": "websocket.disconnect", "code": code, "reason": reason})
        self.conn.send_close(code, reason)
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.close_sent = True
        self.close_timer = self.loop.call_later(LINGER_S, self.transport.abort)
        if self.read_paused:
            # The client's own close frame is still to be read.
            self.read_paused = False
            self.transport.resume_reading()
        # Whoever waits to send is told that there is nobody any more.
        self.disconnected = True
        self.writable.set()


def cut(websocket: WebSocket, code: int, reason: str) -> None:
    """End an accepted socket now: later sends fail, `receive` says `websocket.disconnect` with `code`.

    `reason` is at most 123 bytes. Again, or after the client left, it does nothing.
    """
    _protocol(websocket).cut(code, reason)


def bound(websocket: WebSocket, most_bytes: int) -> None:
    """Let sends wait while more than `most_bytes` are not taken by the client's connection yet."""
    _protocol(websocket).transport.set_write_buffer_limits(high=most_bytes)


def writable(websocket: WebSocket) -> bool:
    """Whether a send would not wait now."""
    return _protocol(websocket).writable.is_set()


def _protocol(websocket: WebSocket) -> SocketProtocol:
    protocol = websocket.scope["extensions"][_EXTENSION]["protocol"]
    assert isinstance(protocol, SocketProtocol)
    return protocol
