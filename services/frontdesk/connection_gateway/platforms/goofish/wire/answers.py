"""Bodies of the IM's answers to what a session asks (A16 to A18)."""

from __future__ import annotations

from typing import Any

from frontdesk.connection_gateway.platforms.errors import ErrorKind, from_im
from frontdesk.connection_gateway.platforms.goofish.wire.decode import decode_history_message
from frontdesk.connection_gateway.platforms.goofish.wire.events import Response
from frontdesk.connection_gateway.platforms.goofish.wire.ids import bare
from frontdesk.connection_gateway.platforms.goofish.wire.orders import status_of
from frontdesk.connection_gateway.platforms.goofish.wire.values import integer, mapping, sequence, text
from frontdesk.connection_gateway.platforms.model import (
    Conversation,
    ConversationPage,
    HistoryPage,
    SendResult,
    SendState,
)

_TEMPORARY = ("system is error", "闲鱼走神了")


def send_result(response: Response) -> SendResult:
    """The outcome of a send (A16).

    A refusal of the content may come with a code that looks fine, so `reason` and `moreInfo` are read
    first; 200 without a message id proves nothing and counts as no answer.
    """
    body = mapping(response.body)
    said = "; ".join(part for part in (text(body.get("reason")), text(body.get("moreInfo"))) if part)[:500]
    error = from_im(response.code, response.body)
    if any(words in said for words in _TEMPORARY):
        return SendResult(SendState.TEMPORARY, reason=said)
    if error is not None and error.kind is not ErrorKind.BUSINESS:
        return SendResult(SendState.TEMPORARY, reason=said or error.reason)
    if said or error is not None:
        return SendResult(SendState.REJECTED, reason=said or (error.reason if error else ""))
    message_id = text(body.get("messageId"))
    if not message_id:
        return SendResult(SendState.UNANSWERED, reason="answer without a message id")
    return SendResult(SendState.ACCEPTED, message_id, integer(body.get("createAt")))


def history_page(body: object, own_id: str) -> HistoryPage:
    """A page of a chat."""
    page = mapping(body)
    events = [
        decode_history_message(mapping(model).get("message"), own_id)
        for model in sequence(page.get("userMessageModels"))
    ]
    return HistoryPage(
        events=tuple(event for event in events if event is not None),
        next_cursor=integer(page.get("nextCursor")),
        has_more=_flag(page.get("hasMore")),
    )


def conversation_page(body: object, own_id: str) -> ConversationPage:
    """A page of the chats."""
    page = mapping(body)
    found = [_conversation(mapping(entry), own_id) for entry in sequence(page.get("userConvs"))]
    return ConversationPage(
        conversations=tuple(conversation for conversation in found if conversation is not None),
        next_cursor=integer(page.get("nextCursor")),
        has_more=_flag(page.get("hasMore")),
    )


def _conversation(entry: dict[str, Any], own_id: str) -> Conversation | None:
    own_view = mapping(entry, "singleChatUserConversation")
    chat = mapping(own_view, "singleChatConversation")
    chat_id = bare(chat.get("cid"))
    if not chat_id:
        return None
    extension = mapping(chat, "extension")
    people = (bare(chat.get("pairFirst")), bare(chat.get("pairSecond")), bare(extension.get("extUserId")))
    marks = mapping(own_view, "user_extension") or mapping(own_view, "userExtension")
    return Conversation(
        chat_id=chat_id,
        peer_id=next((person for person in people if person and person != own_id), ""),
        item_id=text(extension.get("itemId")),
        item_title=text(extension.get("itemTitle")),
        unread=integer(own_view.get("redPoint")),
        modified_at_ms=integer(own_view.get("modifyTime")),
        status=status_of(text(marks.get("redReminder"))),
        last=decode_history_message(mapping(own_view, "lastMessage").get("message"), own_id),
    )


def created_chat_id(body: object) -> str:
    """The id of a created chat, in any of the places it is seen (A17); empty when there is none."""
    for part in body if isinstance(body, list) else [body]:
        inner = mapping(part)
        for place in (inner, mapping(inner, "data")):
            for holder in (
                mapping(place, "singleChatConversation"),
                mapping(place, "singleChatUserConversation", "singleChatConversation"),
                place,
            ):
                chat_id = bare(holder.get("cid"))
                if chat_id:
                    return chat_id
    return ""


def _flag(value: object) -> bool:
    return value is True or integer(value) > 0
