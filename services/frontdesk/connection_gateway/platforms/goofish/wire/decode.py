"""Payloads to events (A13 to A15) and history entries to the same events (A18).

Nothing here raises: an item that cannot be understood becomes a Notice, so that its frame's other items live.
All data items of a frame are read; several clients read the first only and lose the rest (A23).
"""

from __future__ import annotations

import re
from typing import Any

from frontdesk.connection_gateway.platforms.errors import WireError
from frontdesk.connection_gateway.platforms.goofish.wire import payload
from frontdesk.connection_gateway.platforms.goofish.wire.content import (
    Content,
    from_history,
    from_push,
    item_id_of_url,
    order_id_of_update_key,
)
from frontdesk.connection_gateway.platforms.goofish.wire.ids import bare
from frontdesk.connection_gateway.platforms.goofish.wire.orders import IMAGE, is_card, is_system, status_of
from frontdesk.connection_gateway.platforms.goofish.wire.values import (
    embedded,
    find,
    integer,
    mapping,
    sequence,
    text,
)
from frontdesk.connection_gateway.platforms.model import (
    ChatEvent,
    ChatMessage,
    Notice,
    OrderStatus,
    OrderUpdate,
    ReadReceipt,
    Typing,
)

_PEER = re.compile(r"\bpeerUserId=(\d{1,20})", re.ASCII)
_NOTICE_KINDS = {  # objectType of an item whose payload has no shape we know (A11)
    40000: "new_message",
    40004: "read",
    40006: "typing",
    40101: "deleted",
    40102: "read",
    40103: "read",
    40104: "recalled",
    40105: "extension",
    40106: "cleared",
}


def decode_push(body: object, own_id: str) -> tuple[ChatEvent, ...]:
    """What all data items of a push say, in their order. `own_id` is the account's user id."""
    events: list[ChatEvent] = []
    for part in body if isinstance(body, list) else [body]:  # both forms are documented
        items = sequence(mapping(part, "syncPushPackage").get("data"))
        events.extend(_item(mapping(item), own_id) for item in items)
    return tuple(events)


def _item(item: dict[str, Any], own_id: str) -> ChatEvent:
    try:
        decoded = payload.decode(item.get("data"))
    except WireError:
        return Notice("unknown")
    return decode_payload(decoded, own_id, integer(item.get("objectType")))


def decode_payload(decoded: dict[str, Any], own_id: str, object_type: int = 0) -> ChatEvent:
    """What one decoded payload says; its shape decides, `object_type` only names what has no known shape."""
    one, three = decoded.get("1"), decoded.get("3")
    if isinstance(one, dict):
        return _message(decoded, own_id)
    if isinstance(one, list):
        return _receipt_or_typing(one, decoded)
    if isinstance(one, str) and isinstance(decoded.get("4"), dict):
        return _card_update(decoded, own_id)
    if isinstance(one, str) and text(mapping(three).get("redReminder")):
        return _red_reminder(bare(one), text(mapping(three).get("redReminder")), decoded)
    kind = _NOTICE_KINDS.get(object_type, "unknown")
    if isinstance(one, str) and isinstance(three, str) and decoded.get("2") == 1:
        return Notice("new_message", bare(one), three, integer(decoded.get("4")))
    if isinstance(decoded.get("operation"), dict):
        kind, one = "operation", decoded.get("sessionId")
    return Notice(kind, bare(one))


def _message(decoded: dict[str, Any], own_id: str) -> ChatEvent:
    """The chat envelope of A13."""
    one = mapping(decoded, "1")
    note = mapping(one, "10")
    chat_id = bare(one.get("2"))
    message_id = (
        text(one.get("3"))
        or text(embedded(note.get("bizTag")).get("messageId"))
        or text(embedded(note.get("extJson")).get("messageId"))
    )
    if not chat_id or not message_id or not (note or one.get("6")):
        typing = isinstance(one.get("1"), str) and not message_id
        return Typing(bare(one.get("1"))) if typing else Notice("unknown", chat_id, message_id)
    sender = one.get("1")
    return _assemble(
        own_id=own_id,
        chat_id=chat_id,
        message_id=message_id,
        sender_id=bare(note.get("senderUserId")) or bare(mapping(sender).get("1")) or bare(sender),
        created_at_ms=integer(one.get("5")),
        content=from_push(mapping(one, "6")),
        summary=text(mapping(one, "6", "3").get("2")),
        note=note,
        need_push=str(mapping(decoded, "3").get("needPush", "true")).lower() != "false",
    )


def decode_history_message(message: object, own_id: str) -> ChatMessage | OrderUpdate | None:
    """One `message` of a history page or of a conversation's `lastMessage` (A18); None when it has no id."""
    entry = mapping(message)
    note = mapping(entry, "extension")
    chat_id, message_id = bare(entry.get("cid")), text(entry.get("messageId"))
    if not chat_id or not message_id:
        return None
    content = entry.get("content")
    return _assemble(
        own_id=own_id,
        chat_id=chat_id,
        message_id=message_id,
        sender_id=bare(note.get("senderUserId")) or bare(mapping(entry, "sender").get("uid")),
        created_at_ms=integer(entry.get("createAt")),
        content=from_history(content),
        summary=text(mapping(content, "custom").get("summary")),
        note=note,
        need_push=True,
    )


def _assemble(
    *,
    own_id: str,
    chat_id: str,
    message_id: str,
    sender_id: str,
    created_at_ms: int,
    content: Content,
    summary: str,
    note: dict[str, Any],
    need_push: bool,
) -> ChatMessage | OrderUpdate:
    """Both models to one event; `note` are the notification fields (`1.10`, or `extension`)."""
    extra, tag = embedded(note.get("extJson")), embedded(note.get("bizTag"))
    own = bool(own_id) and sender_id == own_id
    words = content.text or text(note.get("reminderContent")) or summary or content.title
    msg_arg = text(extra.get("msgArg1"))
    item_id = (
        item_id_of_url(note.get("reminderUrl"))
        or text(tag.get("itemId"))
        or text(extra.get("itemId"))
        or content.item_id
    )
    system = is_system(
        own=own, content_type=content.content_type, words=words, msg_arg=msg_arg, need_push=need_push
    )
    peer_id = _peer(own_id, sender_id, note, prefer_link=own or system)
    red_reminder = text(note.get("redReminder"))
    if is_card(content.content_type, msg_arg, red_reminder):
        status = status_of(
            text(note.get("reminderContent")),
            content.title,
            summary,
            red_reminder,
            text(extra.get("updateKey")),
            text(tag.get("taskName")),
        )
        if status is not OrderStatus.UNKNOWN:
            order_id = order_id_of_update_key(extra.get("updateKey")) or content.order_id
            return OrderUpdate(chat_id, order_id, status, words, item_id, peer_id, message_id, created_at_ms)
    return ChatMessage(
        chat_id=chat_id,
        message_id=message_id,
        sender_id=sender_id,
        sender_name=text(note.get("reminderTitle")),
        text="" if content.content_type == IMAGE and content.image_urls else words,
        content_type=content.content_type,
        image_urls=content.image_urls,
        item_id=item_id,
        created_at_ms=created_at_ms,
        own=own,
        system=system,
        peer_id=peer_id,
    )


def _peer(own_id: str, sender_id: str, note: dict[str, Any], *, prefer_link: bool) -> str:
    """The other person. The sender of a plain message is; of own and platform messages the link's peer is."""
    linked = [find(_PEER, note.get("reminderUrl")), bare(note.get("receiver"))]
    candidates = [*linked, sender_id] if prefer_link else [sender_id, *linked]
    return next((candidate for candidate in candidates if candidate and candidate != own_id), "")


def _receipt_or_typing(one: list[Any], decoded: dict[str, Any]) -> ChatEvent:
    """`1` is a list of message ids, or of maps with the chat (A15)."""
    first = one[0] if one else None
    if isinstance(first, dict):
        return Typing(bare(first.get("1")))
    message_ids = tuple(entry for entry in one if isinstance(entry, str))
    chat_id = bare(decoded.get("3"))
    if message_ids and chat_id:
        return ReadReceipt(chat_id, message_ids, integer(decoded.get("5")))
    return Notice("unknown", chat_id)


def _red_reminder(chat_id: str, reminder: str, decoded: dict[str, Any]) -> ChatEvent:
    """A chat's order mark changed; `1` is the chat, not a user (A14)."""
    created_at_ms = integer(decoded.get("4"))
    status = status_of(reminder)
    if status is OrderStatus.UNKNOWN:
        return Notice("card", chat_id, "", created_at_ms)
    return OrderUpdate(chat_id, "", status, reminder, "", "", "", created_at_ms)


def _card_update(decoded: dict[str, Any], own_id: str) -> ChatEvent:
    """A card was rewritten in place: `2` chat, `4` notification fields, `5` time (A14).

    It repeats the id of the card it rewrites, so its event carries none.
    """
    note = mapping(decoded, "4")
    extra, tag = embedded(note.get("extJson")), embedded(note.get("bizTag"))
    chat_id, created_at_ms = bare(decoded.get("2")), integer(decoded.get("5"))
    words = text(note.get("reminderContent"))
    status = status_of(
        words, text(note.get("redReminder")), text(extra.get("updateKey")), text(tag.get("taskName"))
    )
    if status is OrderStatus.UNKNOWN or not chat_id:
        return Notice("card", chat_id, "", created_at_ms)
    return OrderUpdate(
        chat_id=chat_id,
        order_id=order_id_of_update_key(extra.get("updateKey")),
        status=status,
        text=words,
        item_id=item_id_of_url(note.get("reminderUrl"))
        or text(tag.get("itemId"))
        or text(extra.get("itemId")),
        buyer_id=_peer(own_id, bare(note.get("senderUserId")), note, prefer_link=True),
        message_id="",
        created_at_ms=created_at_ms,
    )
