"""The platform's WebSocket side: one session a socket (A5 to A11, A16 to A18)."""

from __future__ import annotations

import asyncio
import logging
import random
import re
import secrets
from collections.abc import Callable, Coroutine
from contextlib import suppress
from http import HTTPStatus
from typing import Any

import orjson
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.protocol import State

from frontdesk.kit.clock import Clock
from frontdesk.simulators.goofish import payloads
from frontdesk.simulators.goofish.faults import FaultBook, Faults
from frontdesk.simulators.goofish.requests import Refused, bare, broken, content_of, refusal, title, within
from frontdesk.simulators.goofish.state import Chat, Message, Seller, World

log = logging.getLogger(__name__)

NEWEST = 9007199254740991
MAX_PAGE = 100
MAX_NOTICES = 32
REORDER_S = 0.05
REPUSH_ROUND_S = 0.1
MAX_UNREAD = 4 * 1024 * 1024
_UNB = re.compile(r"(?:^|;)\s*unb=(\d{1,20})", re.ASCII)
_DIGITS = re.compile(r"\d{1,20}", re.ASCII)


class Hub:
    """All sockets, and what they count."""

    def __init__(self, world: World, faults: FaultBook, clock: Clock) -> None:
        self.world = world
        self.faults = faults
        self.clock = clock
        self.sessions: set[Session] = set()
        self.tasks: set[asyncio.Task[None]] = set()
        self.random = random.Random(1)
        self.registrations = self.kicks = self.pushes = self.sends = self.acks = 0
        self.calls: dict[str, int] = {}

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run `work` beside everything; it handles its own errors."""
        task = asyncio.create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    def greet(self, connection: ServerConnection, request: Request) -> Response | None:
        """Refuse the upgrade while connections are refused; of one account when it sends its cookies."""
        found = _UNB.search(request.headers.get("Cookie", ""))
        if self.faults.of(found[1] if found else "").refuse_connections:
            return connection.respond(HTTPStatus.SERVICE_UNAVAILABLE, "try later\n")
        return None

    async def repush(self) -> None:
        """Go round over what clients did not acknowledge, for ever."""
        while True:
            await self.clock.sleep(REPUSH_ROUND_S)
            now = self.clock.monotonic()
            for session in list(self.sessions):
                session.repush(now)

    async def serve(self, connection: ServerConnection) -> None:
        """Serve one socket to its end."""
        session = Session(connection, self)
        self.sessions.add(session)
        try:
            await session.run()
        except ConnectionClosed:
            pass
        finally:
            self.sessions.discard(session)
            session.gone()


class Session:
    """One client's socket; a Listener of its seller once it is registered."""

    def __init__(self, connection: ServerConnection, hub: Hub) -> None:
        self._connection = connection
        self._hub = hub
        self._sid = secrets.token_hex(8)
        self._ready = False
        self._asked_state = False
        self._batch: list[tuple[str, int]] = []
        self._batch_due = False
        self._answering = False
        self._behind: list[str] = []
        self._unacknowledged: dict[str, tuple[str, float]] = {}
        self.seller: Seller | None = None

    @property
    def registered(self) -> bool:
        return self.seller is not None

    def _faults(self) -> Faults:
        return self._hub.faults.of(self.seller.user_id if self.seller else "")

    # Reading.

    async def run(self) -> None:
        """Take the client's frames."""
        async for text in self._connection:
            await self._until_whole()
            try:
                frame = orjson.loads(text)
            except orjson.JSONDecodeError:
                continue  # as the platform: what is no frame has no answer
            if not isinstance(frame, dict) or not isinstance(frame.get("headers"), dict):
                continue
            lwp = frame.get("lwp")
            if lwp is None:
                self._acknowledged(frame["headers"].get("mid"))
            else:
                await self._request(str(lwp), frame["headers"], frame.get("body"))

    async def _request(self, lwp: str, headers: dict[str, Any], body: Any) -> None:
        self._hub.calls[lwp] = self._hub.calls.get(lwp, 0) + 1
        faults = self._faults()
        if faults.slow_answers_ms:
            self._hub.spawn(self._answer_late(lwp, headers, body, faults.slow_answers_ms / 1000))
        else:
            await self._answer(lwp, headers, body)

    async def _answer_late(self, lwp: str, headers: dict[str, Any], body: Any, seconds: float) -> None:
        await asyncio.sleep(seconds)
        await self._answer(lwp, headers, body)

    async def _answer(self, lwp: str, headers: dict[str, Any], body: Any) -> None:
        mid = headers.get("mid")
        try:
            if lwp == "/reg":
                await self._register(headers)
                return
            if lwp == "/!":
                await self._reply(mid, None, extra={"sid": self._sid})
                return
            self._check_may_ask()
            answer = self._handle(lwp, body)
        except Refused as refused:
            await self._reply(mid, refused.body, refused.code)
        except (AttributeError, LookupError, OverflowError, TypeError, ValueError) as error:
            await self._reply(mid, {"reason": f"bad request: {type(error).__name__}"}, 400)
        else:
            if answer is not None:
                await self._reply(mid, answer)
        behind, self._behind = self._behind, []
        for text in behind:
            self._write_now(text)

    def _handle(self, lwp: str, body: Any) -> dict[str, Any] | None:
        """Do what is asked; a push that it leads to goes behind the answer."""
        handle = _METHODS.get(lwp)
        if handle is None:
            raise Refused(404, {"reason": f"no method {lwp}"})
        self._answering = True
        try:
            return handle(self, body)
        finally:
            self._answering = False

    def _check_may_ask(self) -> None:
        if self.seller is None:
            raise Refused(401, {"reason": "not auth"})
        if not self._ready and self._faults().before_ready_400:
            raise Refused(400, {"reason": "not ready"})
        if not self.seller.logged_in:
            raise Refused(401, {"reason": "token invalid"})

    async def _reply(
        self, mid: object, body: object, code: int = 200, extra: dict[str, Any] | None = None
    ) -> None:
        now = self._hub.world.now_ms()
        frame: dict[str, Any] = {
            "headers": {"mid": mid, "server-timestamp": str(now), **(extra or {})},
            "code": code,
        }
        if body is not None:
            frame["body"] = body
        await self._write(orjson.dumps(frame).decode())

    async def _write(self, text: str) -> None:
        await self._until_whole()
        self._write_now(text)

    async def _until_whole(self) -> None:
        """Stand still for as long as the socket is half-open."""
        while self._faults().half_open:  # noqa: ASYNC110 - a switch that a person turns; nobody else waits
            await asyncio.sleep(0.1)

    # Logging in.

    async def _register(self, headers: dict[str, Any]) -> None:
        hub, mid = self._hub, headers.get("mid")
        token, device_id = str(headers.get("token", "")), str(headers.get("did", ""))
        seller = next((s for s in hub.world.sellers.values() if token in s.tokens), None)
        reason = refusal(seller, token, device_id, hub.world.now_ms())
        if seller is not None and not reason:
            reason = hub.faults.of(seller.user_id).reg_reject
        if seller is None or reason:
            if seller is not None:
                seller.last_error = reason
            await self._reply(mid, {"reason": reason}, 401)
            await self._connection.close(1000)
            return
        if isinstance(seller.listener, Session) and seller.listener is not self:
            hub.kicks += 1
            seller.listener.kick()
        if self.seller is not None and self.seller is not seller and self.seller.listener is self:
            self.seller.listener = None  # one socket serves one seller
        self.seller = seller
        seller.registrations += 1
        hub.registrations += 1
        now = hub.world.now_ms()
        extra = {
            "reg-uid": f"{seller.user_id}@goofish",
            "reg-sid": self._sid,
            "sid": self._sid,
            "dt": "j",
            "real-ip": "127.0.0.1",
            "timestamp": now,
        }
        await self._reply(mid, None, extra=extra)
        unread = [chat for chat in seller.chats.values() if chat.unread and chat.messages]
        notices = [
            (payloads.encode(payloads.notice_payload(chat), plain=False), 40000)
            for chat in unread[-MAX_NOTICES:]
        ]
        _, frame = payloads.sync_frame(self._sid, notices, now, "/s/vulcan")
        await self._write(frame)
        self._ready = True
        seller.listener = self

    def kick(self) -> None:
        """Another login takes the seller over (A22)."""
        self._hub.spawn(self._end_with("/push/kickout"))

    def remove(self) -> None:
        """The platform removes the session: too many (A22)."""
        self._hub.spawn(self._end_with("/s/session/remove"))

    async def _end_with(self, path: str) -> None:
        frame = {
            "lwp": path,
            "headers": {"mid": f"1{self._hub.world.now_ms()} 0", "sid": self._sid},
            "body": {},
        }
        try:
            await self._connection.send(orjson.dumps(frame).decode())
            await self._connection.close(1000)
        except ConnectionClosed:
            return

    def close(self, code: int) -> None:
        """End the socket with a code; 1006 ends it without a word."""
        if code == 1006:
            self._connection.transport.abort()
        else:
            self._hub.spawn(self._connection.close(code))

    def gone(self) -> None:
        """The socket ended."""
        self._unacknowledged.clear()
        if self.seller is not None and self.seller.listener is self:
            self.seller.listener = None

    # Pushing.

    def push(self, message: Message, chat: Chat) -> None:
        """Tell the client of a message, unless a fault says otherwise."""
        faults, draw = self._faults(), self._hub.random.random
        if faults.zombie or (faults.missed_pushes and draw() < faults.missed_pushes):
            return
        plain = bool(faults.plain_payloads) and draw() < faults.plain_payloads
        item = (payloads.encode(payloads.push_payload(message, chat), plain=plain), 40000)
        self._send_item(item, faults)
        if faults.duplicate_pushes and draw() < faults.duplicate_pushes:
            self._send_item(item, faults)

    def remind(self, chat: Chat, at_ms: int) -> None:
        """Tell it that a chat's order mark changed."""
        if not self._faults().zombie:
            item = (payloads.encode(payloads.reminder_payload(chat, at_ms), plain=False), 40105)
            self._send_item(item, self._faults())

    def _send_item(self, item: tuple[str, int], faults: Faults) -> None:
        if faults.malformed_frames:
            faults.malformed_frames -= 1
            self._hub.spawn(self._write(broken(faults.malformed_frames)))
        if faults.batch_pushes <= 1:
            self._send_items([item], faults)
            return
        self._batch.append(item)
        if len(self._batch) >= faults.batch_pushes:
            self._flush()
        elif not self._batch_due:
            self._batch_due = True
            asyncio.get_running_loop().call_later(REORDER_S, self._flush)

    def _flush(self) -> None:
        items, self._batch, self._batch_due = self._batch, [], False
        if items:
            self._send_items(items, self._faults())

    def _send_items(self, items: list[tuple[str, int]], faults: Faults) -> None:
        mid, frame = payloads.sync_frame(self._sid, items, self._hub.world.now_ms())
        self._hub.pushes += 1
        if faults.repush_ms:
            self._unacknowledged[mid] = (frame, self._hub.clock.monotonic() + faults.repush_ms / 1000)
        if faults.reorder_pushes and self._hub.random.random() < faults.reorder_pushes:
            asyncio.get_running_loop().call_later(REORDER_S, self._write_now, frame)
        elif self._answering:
            self._behind.append(frame)
        else:
            self._write_now(frame)

    def repush(self, now: float) -> None:
        """Say again what nobody acknowledged in time; `now` is monotonic seconds."""
        seconds = self._faults().repush_ms / 1000
        for mid, (frame, due) in list(self._unacknowledged.items()) if seconds else ():
            if now >= due:
                self._unacknowledged[mid] = (frame, now + seconds)
                self._write_now(frame)

    def _write_now(self, frame: str) -> None:
        """Write without a task; a client that reads too slowly is cut off."""
        connection = self._connection
        if self._faults().half_open:
            self._hub.spawn(self._write(frame))
        elif connection.state is State.OPEN:
            with suppress(OSError, RuntimeError):  # RuntimeError: uvloop's word for a closed transport
                connection.protocol.send_text(frame.encode())
                connection.send_data()
            if connection.transport.get_write_buffer_size() > MAX_UNREAD:
                connection.transport.abort()

    def _acknowledged(self, mid: object) -> None:
        if self._unacknowledged.pop(str(mid), None) is not None:
            self._hub.acks += 1

    # Methods.

    def _own(self) -> Seller:
        assert self.seller is not None
        return self.seller

    def _get_state(self, body: Any) -> dict[str, Any]:
        self._asked_state = True
        now = self._hub.world.now_ms()
        return {
            "pipeline": "sync",
            "tooLong2Tag": "PNM,1",
            "channel": "sync",
            "topic": "sync",
            "highPts": 0,
            "pts": now * 1000,
            "seq": 0,
            "timestamp": now,
        }

    def _ack_diff(self, body: Any) -> dict[str, Any]:
        if not self._asked_state and self._faults().forged_ackdiff_400:
            raise Refused(400, {"reason": "pts out of range"})
        if self._asked_state and self._faults().replay_on_reconnect:
            for chat in self._own().chats.values():
                for message in chat.unread_messages():
                    self.push(message, chat)
        return {"syncExtensionModel": {"fingerprint": 0}, "syncExtraType": {"type": 0}}

    def _send(self, body: Any) -> dict[str, Any] | None:
        seller, wanted, receivers = self._own(), body[0], body[1]["actualReceivers"]
        self._hub.sends += 1
        chat = self._chat(wanted["cid"])
        if {bare(r) for r in receivers} != {seller.user_id, chat.buyer_id}:
            raise Refused(500, {"reason": "system is error"})
        faults = self._faults()
        if faults.temporary_send_errors:
            faults.temporary_send_errors -= 1
            raise Refused(500, {"reason": "system is error", "moreInfo": "闲鱼走神了，您稍后再试～"})
        if faults.reject_sends:
            return {"reason": "forbidden", "moreInfo": faults.reject_sends}
        text, image = content_of(wanted["content"])
        message = self._hub.world.seller_says(
            seller, chat, text, image=image, hand=False, uid=str(wanted.get("uuid", ""))
        )
        chat.unread = 0
        if faults.drop_send_answers and self._hub.random.random() < faults.drop_send_answers:
            return None
        return {"messageId": message.message_id, "createAt": message.created_at_ms}

    def _create_chat(self, body: Any) -> dict[str, Any]:
        seller, pair = self._own(), (bare(body[0]["pairFirst"]), bare(body[0]["pairSecond"]))
        if seller.user_id not in pair:
            raise Refused(400, {"reason": "not a member"})
        buyer = pair[0] if pair[1] == seller.user_id else pair[1]
        if not _DIGITS.fullmatch(buyer):
            raise Refused(400, {"reason": "bad pair"})
        chat = self._hub.world.chat(seller, buyer, str(body[0].get("extension", {}).get("itemId", "")))
        return {"singleChatConversation": {"cid": f"{chat.chat_id}@goofish"}}

    def _history(self, body: Any) -> dict[str, Any]:
        chat, cursor, limit = (
            self._chat(body[0]),
            within(body[2], NEWEST),
            max(within(body[3], MAX_PAGE), 1),
        )
        older = [m for m in reversed(chat.messages) if m.created_at_ms < cursor]
        page = older[:limit]
        return {
            "hasMore": int(len(older) > limit),
            "nextCursor": page[-1].created_at_ms if page else cursor,
            "userMessageModels": [
                {"message": payloads.history_entry(m, chat), "readStatus": 1, "msgStatus": 1} for m in page
            ],
        }

    def _conversations(self, body: Any) -> dict[str, Any]:
        seller, cursor, limit = self._own(), within(body[0], NEWEST), max(within(body[1], MAX_PAGE), 1)
        chats = sorted(seller.chats.values(), key=lambda c: c.modified_at_ms, reverse=True)
        older = [c for c in chats if c.messages and c.modified_at_ms < cursor]
        page = older[:limit]
        return {
            "hasMore": int(len(older) > limit),
            "nextCursor": page[-1].modified_at_ms if page else cursor,
            "userConvs": [payloads.conversation_entry(c, title(seller, c)) for c in page],
        }

    def _read_messages(self, body: Any) -> dict[str, Any]:
        if not isinstance(body, list):
            raise Refused(400, {"reason": "bad request"})
        return {}

    def _clear(self, body: Any) -> dict[str, Any]:
        for chat_id in body[0]:
            self._chat(chat_id).unread = 0
        return {}

    def _chat(self, cid: object) -> Chat:
        chat = self._own().chats.get(bare(cid))
        if chat is None:
            raise Refused(400, {"reason": "no such conversation"})
        return chat


_METHODS: dict[str, Callable[[Session, Any], dict[str, Any] | None]] = {
    "/r/SyncStatus/getState": Session._get_state,
    "/r/SyncStatus/ackDiff": Session._ack_diff,
    "/r/MessageSend/sendByReceiverScope": Session._send,
    "/r/SingleChatConversation/create": Session._create_chat,
    "/r/MessageManager/listUserMessages": Session._history,
    "/r/Conversation/listNewestPagination": Session._conversations,
    "/r/MessageStatus/read": Session._read_messages,
    "/r/Conversation/clearRedPoint": Session._clear,
}
