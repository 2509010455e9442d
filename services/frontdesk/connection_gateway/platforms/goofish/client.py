"""One account's live connection: the session protocol on a WebSocket.

Two tasks a connection: one reads, one sends heartbeats and judges the link. Requests run in their
callers' tasks and meet their answers by mid. The library's own ping is off, as the platform has a
heartbeat of its own (X-03).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from collections.abc import Sequence
from random import Random
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, InvalidURI
from websockets.protocol import State as SocketState

from frontdesk.connection_gateway.platforms.base import Credentials, OnPush, OnWritten
from frontdesk.connection_gateway.platforms.errors import (
    ErrorKind,
    NotConnectedError,
    PlatformError,
    WireError,
    from_im,
)
from frontdesk.connection_gateway.platforms.goofish.settings import GoofishSettings
from frontdesk.connection_gateway.platforms.goofish.wire import answers, events, frames
from frontdesk.connection_gateway.platforms.goofish.wire.connection import GoofishProtocol, State
from frontdesk.connection_gateway.platforms.goofish.wire.heartbeat import Heartbeat
from frontdesk.connection_gateway.platforms.goofish.wire.ids import Mids, address
from frontdesk.connection_gateway.platforms.model import (
    CloseCause,
    Closed,
    ConversationPage,
    HistoryPage,
    Push,
    SendResult,
    SendState,
    UploadedImage,
)
from frontdesk.kit.clock import Clock

logger = logging.getLogger(__name__)

_ABNORMAL = 1006  # the code of a connection that ended without a closing handshake
_QUEUE = 4  # frames the library holds before it stops reading the socket
_WRITE_LIMIT = 16 * 1024
_CONNECTED_STATES = (State.WAIT_READY, State.SYNCING, State.READY)


class GoofishConnection:
    """PlatformConnection of Goofish.

    `last_heartbeat_ms` is when a heartbeat was last confirmed, 0 for never.
    """

    __slots__ = (
        "__weakref__",
        "_beat_task",
        "_clock",
        "_closed",
        "_delivering",
        "_health",
        "_on_push",
        "_opened",
        "_own_id",
        "_pending",
        "_protocol",
        "_read_task",
        "_settings",
        "_tls",
        "_ws",
        "last_heartbeat_ms",
    )

    def __init__(
        self,
        user_id: str,
        on_push: OnPush,
        *,
        settings: GoofishSettings,
        clock: Clock,
        random: Random,
        tls: ssl.SSLContext,
    ) -> None:
        self._own_id = user_id
        self._on_push = on_push
        self._settings = settings
        self._clock = clock
        self._tls = tls
        self._protocol = GoofishProtocol(user_id, Mids(clock, random))
        self._health = Heartbeat(settings.heartbeat, clock.monotonic())
        loop = asyncio.get_running_loop()
        self._opened: asyncio.Future[None] | None = None
        self._closed: asyncio.Future[Closed] = loop.create_future()
        self._pending: dict[str, asyncio.Future[events.Response | None]] = {}
        self._ws: ClientConnection | None = None
        self._read_task: asyncio.Task[None] | None = None
        self._beat_task: asyncio.Task[None] | None = None
        self._delivering = False
        self.last_heartbeat_ms = 0

    @property
    def ready(self) -> bool:
        """Whether requests and sends are possible now."""
        return self._protocol.state is State.READY and not self._closed.done()

    async def connect(self, credentials: Credentials, token: str, device_id: str) -> None:
        """Dial, `/reg`, wait for `/s/vulcan`, getState and ackDiff (A7, A8); returns when ready.

        Raises PlatformError, NETWORK when a step takes longer than its time-out; nothing is left open then.
        """
        if self._ws is not None or self._closed.done():
            raise NotConnectedError("a connection is used once")
        self._ws = await self._dial(credentials.header(), token)
        self._opened = asyncio.get_running_loop().create_future()
        self._health.excuse(self._clock.monotonic())
        try:
            frame = self._protocol.register(token, device_id)
            self._read_task = asyncio.create_task(self._read(self._ws))
            await self._write(frame)
            async with asyncio.timeout(self._settings.ready_timeout):
                await self._opened
        except TimeoutError:
            state = self._protocol.state.value
            error = PlatformError(ErrorKind.NETWORK, f"not ready in time, session is {state}")
            await self._abandon(Closed(CloseCause.HEARTBEAT, _ABNORMAL, error))
            raise error from None
        except BaseException:  # also a cancelled caller must not leave a socket behind
            await self._abandon(Closed(CloseCause.LOCAL))
            raise

    async def wait_closed(self) -> Closed:
        """Return how the connection ended, once it has and nothing of it runs any more."""
        closed = await asyncio.shield(self._closed)
        await self._join()
        return closed

    async def close(self) -> None:
        """End it on purpose with a closing handshake; idempotent."""
        self._finish(Closed(CloseCause.LOCAL), abort=False)
        if self._ws is not None:
            await self._ws.close()
        await self._join()

    async def ack(self, push: Push) -> None:
        """Acknowledge a push whose events are stored. Raises NotConnectedError: it will be pushed again."""
        await self._write(self._protocol.ack(push))

    async def request(
        self, lwp: str, body: object, timeout: float | None = None, on_written: OnWritten | None = None
    ) -> events.Response:
        """Ask, and return the answer whatever its code.

        Raises NotConnectedError when nothing was written, also because too many requests wait already, and
        PlatformError NETWORK when no answer came within `timeout` (None: the settings') or the connection
        ended before it.
        """
        if len(self._pending) >= self._settings.max_in_flight:
            raise NotConnectedError("too many requests in flight")
        mid, frame = self._protocol.request(lwp, body)
        answer: asyncio.Future[events.Response | None] = asyncio.get_running_loop().create_future()
        self._pending[mid] = answer
        try:
            async with asyncio.timeout(self._settings.request_timeout if timeout is None else timeout):
                await self._write(frame, on_written)
                response = await answer
        except TimeoutError:
            raise PlatformError(ErrorKind.NETWORK, "no answer in time") from None
        finally:
            self._pending.pop(mid, None)
        if response is None:
            raise PlatformError(ErrorKind.NETWORK, "connection ended before the answer")
        return response

    async def send_text(
        self, chat_id: str, peer_id: str, text: str, outgoing_id: str, on_written: OnWritten | None = None
    ) -> SendResult:
        """Say `text` in a chat (A16). The frame is on the socket before anything a later call writes."""
        return await self._send(chat_id, peer_id, frames.text_content(text), outgoing_id, on_written)

    async def send_image(
        self,
        chat_id: str,
        peer_id: str,
        image: UploadedImage,
        outgoing_id: str,
        on_written: OnWritten | None = None,
    ) -> SendResult:
        """Send an image that the platform keeps (A16)."""
        return await self._send(chat_id, peer_id, frames.image_content(image), outgoing_id, on_written)

    async def history(self, chat_id: str, limit: int = 20, cursor: int | None = None) -> HistoryPage:
        """The chat's messages from `cursor` (None: the newest) backwards (A18). Raises PlatformError."""
        body = await self._ask(frames.HISTORY, frames.history_body(chat_id, limit, cursor))
        return answers.history_page(body, self._own_id)

    async def conversations(self, cursor: int | None = None, limit: int = 20) -> ConversationPage:
        """The account's chats from `cursor` (None: the newest) backwards (A18). Raises PlatformError."""
        body = await self._ask(frames.CONVERSATIONS, frames.conversations_body(limit, cursor))
        return answers.conversation_page(body, self._own_id)

    async def create_chat(self, item_id: str, buyer_id: str) -> str:
        """The id of the chat with a buyer about an item, made if needed (A17). Raises PlatformError."""
        body = await self._ask(frames.CREATE_CHAT, frames.create_chat_body(self._own_id, buyer_id, item_id))
        chat_id = answers.created_chat_id(body)
        if not chat_id:
            raise PlatformError(ErrorKind.BUSINESS, "answer without a chat id")
        return chat_id

    async def mark_read(self, chat_id: str, message_ids: Sequence[str]) -> None:
        """Show messages as read to the buyer and clear the chat's unread mark (A18). Raises PlatformError."""
        if message_ids:
            await self._ask(frames.READ, [list(message_ids)])
        await self._ask(frames.CLEAR_RED_POINT, [[address(chat_id)]])

    async def _dial(self, cookie_header: str, token: str) -> ClientConnection:
        """Open the socket with the browser's headers (A5, CG-29).

        `Host` and `Connection` are the library's own: sent twice, some servers refuse them.
        """
        settings = self._settings
        headers = [
            ("Origin", "https://www.goofish.com"),
            ("Pragma", "no-cache"),
            ("Cache-Control", "no-cache"),
            ("Accept-Encoding", "gzip, deflate, br, zstd"),
            ("Accept-Language", "zh-CN,zh;q=0.9"),
            ("Cookie", cookie_header),
            ("Authorization", f"Bearer {token}"),
            *settings.headers,
        ]
        try:
            ws = await connect(
                settings.ws_url,
                additional_headers=headers,
                user_agent_header=frames.BROWSER_UA,
                compression=None,  # its windows cost more memory than the rest of the connection
                proxy=None,
                ssl=self._tls if settings.ws_url.startswith("wss:") else None,
                ping_interval=None,
                open_timeout=settings.open_timeout,
                close_timeout=settings.close_timeout,
                max_size=settings.max_frame,
                max_queue=_QUEUE,
                write_limit=_WRITE_LIMIT,
            )
        except InvalidStatus as exc:
            raise _refused(exc) from None
        except (InvalidHandshake, InvalidURI) as exc:
            raise PlatformError(ErrorKind.CONNECTION, f"{type(exc).__name__} while connecting") from None
        except OSError as exc:  # also TimeoutError and TLS failures
            raise PlatformError(ErrorKind.NETWORK, f"{type(exc).__name__} while connecting") from None
        ws.request = None  # it would hold the cookies for as long as the connection lives
        return ws

    async def _ask(self, lwp: str, body: object) -> object:
        response = await self.request(lwp, body)
        error = from_im(response.code, response.body)
        if error is not None:
            raise error
        return response.body

    async def _send(
        self,
        chat_id: str,
        peer_id: str,
        content: dict[str, Any],
        outgoing_id: str,
        on_written: OnWritten | None,
    ) -> SendResult:
        body = frames.send_body(chat_id, self._own_id, peer_id, content, outgoing_id)
        try:
            response = await self.request(frames.SEND, body, on_written=on_written)
        except NotConnectedError as exc:
            return SendResult(SendState.NOT_WRITTEN, reason=exc.reason)
        except PlatformError as exc:
            return SendResult(SendState.UNANSWERED, reason=exc.reason)
        return answers.send_result(response)

    async def _write(self, frame: str, on_written: OnWritten | None = None) -> None:
        """Write a frame. Nothing else runs between the check of the socket's state and the write, so call
        order is write order, and NotConnectedError means that nothing was written. A link that dies in the
        write, or while waiting for room, is the reader's to report; the frame counts as written."""
        ws = self._ws
        if ws is None or self._closed.done() or ws.state is not SocketState.OPEN:
            raise NotConnectedError
        if on_written is not None:
            on_written()
        # What `ws.send` does for an open connection, without the context around it: three of these a message.
        with contextlib.suppress(OSError, RuntimeError):  # RuntimeError: uvloop's word for a closed transport
            ws.protocol.send_text(frame.encode())
            ws.send_data()
            if ws.transport.get_write_buffer_size() > _WRITE_LIMIT:
                await ws.drain()

    async def _read(self, ws: ClientConnection) -> None:
        try:
            while True:
                data = await ws.recv(decode=False)
                self._health.heard(self._clock.monotonic())
                try:
                    received = self._protocol.receive(data)
                except WireError as exc:
                    logger.warning("frame of %d bytes not understood: %s", len(data), exc)
                    continue
                for frame in self._protocol.take_outgoing():
                    await self._write(frame)
                for event in received:
                    await self._handle(event)
        except ConnectionClosed as exc:
            self._finish(_closed_by_peer(exc))
        except NotConnectedError:
            self._finish(_lost("connection ended while answering"))
        except (
            Exception
        ) as exc:  # task boundary: a failing receiver of pushes ends this connection, seen by all
            logger.exception("receiver of pushes failed")
            error = PlatformError(ErrorKind.CONNECTION, f"receiver of pushes failed: {type(exc).__name__}")
            self._finish(Closed(CloseCause.INTERNAL, _ABNORMAL, error))

    async def _handle(self, event: events.Event) -> None:
        match event:
            case events.PushReceived(push, said):
                await self._deliver(push, said)
            case events.Response(mid, code, _):
                answer = self._pending.get(mid)
                if answer is not None and not answer.done():
                    answer.set_result(event)
                if code == 401:  # the token is no longer good (A22)
                    error = PlatformError(ErrorKind.AUTHENTICATION, "access token no longer accepted")
                    self._finish(Closed(CloseCause.TOKEN, _ABNORMAL, error))
            case events.HeartbeatAnswered():
                self._health.confirmed()
                self.last_heartbeat_ms = self._clock.now_ms()
            case events.Registered():
                self._beat_task = asyncio.create_task(self._beat())
            case events.Ready():
                if self._opened is not None and not self._opened.done():
                    self._opened.set_result(None)
            case events.Rejected(error):
                self._finish(Closed(CloseCause.REJECTED, _ABNORMAL, error))
            case events.Kicked():
                error = PlatformError(ErrorKind.CONNECTION, "kicked out")
                self._finish(Closed(CloseCause.KICKED, _ABNORMAL, error))
            case events.SessionRemoved():
                error = PlatformError(ErrorKind.FLOW_CONTROL, "session removed: limit of connections")
                self._finish(Closed(CloseCause.SESSION_REMOVED, _ABNORMAL, error))

    async def _deliver(self, push: Push, said: Sequence[Any]) -> None:
        self._delivering = True
        try:
            await self._on_push(push, said)
        finally:
            self._delivering = False
            self._health.excuse(self._clock.monotonic())

    async def _beat(self) -> None:
        """Heartbeats from `/reg` on, as the platform kicks who is silent (A9), and the link's judgement."""
        clock, health = self._clock, self._health
        while self._protocol.state in _CONNECTED_STATES:
            now = clock.monotonic()
            if self._delivering:
                health.excuse(now)
            reason = health.dead(now)
            if reason:
                error = PlatformError(ErrorKind.NETWORK, reason)
                self._finish(Closed(CloseCause.HEARTBEAT, _ABNORMAL, error))
                return
            if health.due(now):
                health.sent(now)
                # A link that takes no more bytes must not hold up its own judgement.
                with contextlib.suppress(TimeoutError, NotConnectedError):
                    async with asyncio.timeout(health.wait(now)):
                        await self._write(self._protocol.heartbeat())
            await clock.sleep(health.wait(clock.monotonic()))

    def _finish(self, closed: Closed, *, abort: bool = True) -> None:
        """The one place where a connection ends: first cause wins, everyone who waits learns it."""
        if self._closed.done():
            return
        self._closed.set_result(closed)
        self._protocol.closed()
        for answer in self._pending.values():
            if not answer.done():
                answer.set_result(None)
        if self._opened is not None and not self._opened.done():
            self._opened.set_exception(closed.error or NotConnectedError("closed"))
        if abort and self._ws is not None:
            self._ws.transport.abort()
        if self._beat_task is not None and self._beat_task is not asyncio.current_task():
            self._beat_task.cancel()

    async def _abandon(self, closed: Closed) -> None:
        self._finish(closed)
        await self._join()

    async def _join(self) -> None:
        """Wait until neither task runs. The reader may sit in the receiver of pushes: it is told to stop."""
        current = asyncio.current_task()
        tasks = [t for t in (self._read_task, self._beat_task) if t is not None and t is not current]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        if self._opened is not None and self._opened.done() and not self._opened.cancelled():
            self._opened.exception()  # seen: connect() was cancelled before it could be


def _closed_by_peer(exc: ConnectionClosed) -> Closed:
    code = exc.rcvd.code if exc.rcvd is not None else _ABNORMAL
    reason = exc.rcvd.reason if exc.rcvd is not None else ""
    if exc.rcvd is None and exc.sent is not None:
        code, reason = exc.sent.code, exc.sent.reason  # we refused a frame, e.g. 1009 for its size
    kind = ErrorKind.NETWORK if code == _ABNORMAL else ErrorKind.CONNECTION
    return Closed(CloseCause.PEER, code, PlatformError(kind, f"closed with {code} {reason}".rstrip()[:200]))


def _lost(reason: str) -> Closed:
    return Closed(CloseCause.PEER, _ABNORMAL, PlatformError(ErrorKind.NETWORK, reason))


def _refused(exc: InvalidStatus) -> PlatformError:
    """The error of an upgrade that was answered with another status than 101."""
    status = exc.response.status_code
    kind = {401: ErrorKind.AUTHENTICATION, 403: ErrorKind.AUTHENTICATION, 429: ErrorKind.FLOW_CONTROL}.get(
        status, ErrorKind.NETWORK if status >= 500 else ErrorKind.CONNECTION
    )
    return PlatformError(kind, f"upgrade refused with {status}")
