"""ChatService: what was said, who answers, and a person's own words."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc.aio
from google.protobuf.message import DecodeError
from nats.aio.msg import Msg
from sqlalchemy import select, tuple_

from frontdesk.api.chats.v1 import chat_service_pb2 as pb
from frontdesk.api.chats.v1.chat_service_pb2_grpc import ChatServiceServicer
from frontdesk.api.events.v1 import event_pb2, inbound_pb2, outbound_pb2
from frontdesk.api.events.v1.event_pb2 import Event
from frontdesk.kit import pages, subjects
from frontdesk.kit.access import allowed_organization, check_owner
from frontdesk.kit.bus import Bus
from frontdesk.kit.clock import Clock
from frontdesk.kit.database import Database
from frontdesk.kit.errors import InvalidArgument, NotFound, ResourceExhausted
from frontdesk.reply_engine.chats.takeover import Takeover
from frontdesk.reply_engine.intake import AUTHORS
from frontdesk.reply_engine.model import chat_key
from frontdesk.reply_engine.outbox import ORIGINS
from frontdesk.reply_engine.receipts import STATES
from frontdesk.reply_engine.rpc.parts import check_id, number_of, words_from_proto
from frontdesk.reply_engine.tables import chats, decisions, messages, outgoing

AUTHOR_NUMBERS = {name: number for number, name in AUTHORS.items()}
STATE_NUMBERS = {state.value: number for number, state in STATES.items()}
WATCH_QUEUE = 1_000


class ChatServicer(ChatServiceServicer):
    """Chats of an organization."""

    def __init__(self, database: Database, bus: Bus, takeover: Takeover, clock: Clock) -> None:
        self._database = database
        self._bus = bus
        self._takeover = takeover
        self._clock = clock

    async def ListChats(
        self, request: pb.ListChatsRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.ListChatsResponse:
        organization_id = allowed_organization(request.organization_id, need="viewer")
        size = pages.page_size(request.page_size, default=50, most=500)
        after = pages.decode(request.page_token, 2)
        query = select(chats).where(chats.c.organization_id == organization_id)
        if request.account_id:
            check_id(request.account_id, "account_id")
            query = query.where(chats.c.account_id == request.account_id)
        if request.waiting_only:
            query = query.where(chats.c.waiting_since_ms > 0, chats.c.waiting_reason != "")
        if after:
            last = (number_of(after[0]), after[1])
            query = query.where(tuple_(chats.c.last_message_at_ms, chats.c.chat_key) < last)
        query = query.order_by(chats.c.last_message_at_ms.desc(), chats.c.chat_key.desc()).limit(size + 1)
        async with self._database.read() as connection:
            rows = (await connection.execute(query)).all()
        token = ""
        if len(rows) > size:
            token = pages.encode(rows[size - 1].last_message_at_ms, rows[size - 1].chat_key)
        now = self._clock.now_ms()
        return pb.ListChatsResponse(chats=[_chat(r, now) for r in rows[:size]], next_page_token=token)

    async def GetChat(
        self, request: pb.GetChatRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.GetChatResponse:
        row = await self._find(request.account_id, request.chat_id, need="viewer")
        return pb.GetChatResponse(chat=_chat(row, self._clock.now_ms()))

    async def ListMessages(
        self, request: pb.ListMessagesRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.ListMessagesResponse:
        chat = await self._find(request.account_id, request.chat_id, need="viewer")
        size = pages.page_size(request.page_size, default=50, most=500)
        after = pages.decode(request.page_token, 2)
        query = (
            select(messages, outgoing.c.state.label("send_state"), outgoing.c.reason.label("send_reason"))
            .add_columns(decisions.c.origin)
            .select_from(
                messages.outerjoin(
                    outgoing,
                    (outgoing.c.message_id == messages.c.message_id)
                    & (outgoing.c.chat_key == messages.c.chat_key),
                ).outerjoin(decisions, decisions.c.decision_id == outgoing.c.decision_id)
            )
            .where(messages.c.chat_key == chat.chat_key)
        )
        if after:
            last = (number_of(after[0]), after[1])
            query = query.where(tuple_(messages.c.created_at_ms, messages.c.message_id) < last)
        query = query.order_by(messages.c.created_at_ms.desc(), messages.c.message_id.desc()).limit(size + 1)
        async with self._database.read() as connection:
            rows = (await connection.execute(query)).all()
        token = ""
        if len(rows) > size:
            token = pages.encode(rows[size - 1].created_at_ms, rows[size - 1].message_id)
        return pb.ListMessagesResponse(
            messages=[_message(r, chat.buyer_id) for r in rows[:size]], next_page_token=token
        )

    async def Send(
        self, request: pb.SendRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.SendResponse:
        check_id(request.request_id, "request_id")  # so that a repeat does not speak twice
        parts = words_from_proto(request.parts, "parts")
        minutes = request.pause_minutes if request.HasField("pause_minutes") else None
        if minutes is not None:
            _check_minutes("pause_minutes", minutes, least=0)
        chat = await self._find(request.account_id, request.chat_id, need="agent")
        ids = await self._takeover.send(chat.chat_key, request.request_id, parts, minutes)
        return pb.SendResponse(outgoing_ids=ids)

    async def PauseChat(
        self, request: pb.PauseChatRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.PauseChatResponse:
        _check_minutes("minutes", request.minutes, least=1)
        chat = await self._find(request.account_id, request.chat_id, need="agent")
        await self._takeover.pause(chat.chat_key, request.minutes, "paused by a person")
        return pb.PauseChatResponse(chat=await self._again(request.account_id, request.chat_id))

    async def ResumeChat(
        self, request: pb.ResumeChatRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.ResumeChatResponse:
        chat = await self._find(request.account_id, request.chat_id, need="agent")
        await self._takeover.resume(chat.chat_key, skip_waiting=request.skip_waiting)
        return pb.ResumeChatResponse(chat=await self._again(request.account_id, request.chat_id))

    async def WatchChats(
        self, request: pb.WatchChatsRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[pb.WatchChatsResponse]:
        organization_id = allowed_organization(request.organization_id, need="viewer")
        queue: asyncio.Queue[Event | None] = asyncio.Queue(WATCH_QUEUE)

        if request.account_id:
            check_id(request.account_id, "account_id")

        async def heard(msg: Msg) -> None:
            try:
                event = Event.FromString(msg.data)
            except DecodeError:
                return  # whoever stores events reports it; a live view has nothing to say of it
            if event.organization_id != organization_id or event.WhichOneof("kind") == "session":
                return
            if queue.full():
                queue.get_nowait()
                queue.put_nowait(None)
                return
            queue.put_nowait(event)

        subject = subjects.event_filter("*", request.account_id or None)
        subscription = await self._bus.nc.subscribe(subject, cb=heard)
        try:
            while (event := await queue.get()) is not None:
                yield pb.WatchChatsResponse(event=event)
            raise ResourceExhausted(
                "you read too slowly; events were dropped, list the chats and watch again"
            )
        finally:
            await subscription.unsubscribe()

    async def _find(self, account_id: str, chat_id: str, *, need: str) -> Any:
        check_id(account_id, "account_id")
        check_id(chat_id, "chat_id")
        query = select(chats).where(chats.c.chat_key == chat_key(account_id, chat_id))
        async with self._database.read() as connection:
            row = (await connection.execute(query)).one_or_none()
        check_owner(row.organization_id if row else None, need=need, what="chat")
        return row

    async def _again(self, account_id: str, chat_id: str) -> pb.Chat:
        row = await self._find(account_id, chat_id, need="viewer")
        if row is None:
            raise NotFound("no such chat")
        return _chat(row, self._clock.now_ms())


def _check_minutes(field: str, minutes: int, *, least: int) -> None:
    if not least <= minutes <= 1440:
        raise InvalidArgument(field, f"must be {least} to 1440")


def _chat(row: Any, now_ms: int) -> pb.Chat:
    pause = max(0, row.paused_until_ms - now_ms)
    return pb.Chat(
        account_id=row.account_id,
        chat_id=row.chat_id,
        buyer_id=row.buyer_id,
        buyer_name=row.buyer_name,
        item_id=row.item_id,
        last_text=row.last_text,
        last_message_at_ms=row.last_message_at_ms,
        waiting_since_ms=row.waiting_since_ms,
        waiting_reason=row.waiting_reason,
        pause_seconds=-(-pause // 1000),
        pause_reason=row.pause_reason if pause else "",
    )


def _message(row: Any, buyer_id: str) -> pb.StoredMessage:
    return pb.StoredMessage(
        message=inbound_pb2.ChatMessage(
            message_id=row.message_id,
            author=AUTHOR_NUMBERS[row.author],
            sender_id=row.sender_id,
            sender_name=row.sender_name,
            buyer_id=buyer_id,
            text=row.text,
            image_urls=row.image_urls,
            item_id=row.item_id,
            created_at_ms=row.created_at_ms,
        ),
        decision_id=row.decision_id,
        send_state=STATE_NUMBERS.get(row.send_state, event_pb2.SEND_STATE_UNSPECIFIED),
        origin=ORIGINS.get(row.origin, outbound_pb2.ORIGIN_UNSPECIFIED),
        reason=row.reason or row.send_reason or "",
    )
