"""Messages as the platform writes them: data items of pushes (A12 to A15) and entries of histories (A18)."""

from __future__ import annotations

import base64
import itertools
from typing import Any

import msgpack
import orjson

from frontdesk.simulators.goofish.state import Chat, Message, Order

TEXT, IMAGE, CARD = 1, 2, 26
# The names of a state in `taskName` and `updateKey`; only the first is known (A14).
_MARKS = {"created": ("已拍下_未付款_卖家", "1_not_pay_seller")}
_mids = itertools.count(1)


def _json(value: object) -> str:
    return orjson.dumps(value).decode()


def base64_json(value: object) -> str:
    """A value as base64 of its JSON."""
    return base64.b64encode(orjson.dumps(value)).decode()


def content_of(message: Message) -> tuple[int, dict[str, Any]]:
    """Content type and content of a message."""
    if message.order is not None:
        return CARD, _card(message.order, message.text)
    if message.image is not None:
        pic = {
            "type": 0,
            "url": message.image.url,
            "width": message.image.width,
            "height": message.image.height,
        }
        return IMAGE, {"atUsers": [], "contentType": IMAGE, "image": {"pics": [pic]}}
    return TEXT, {"atUsers": [], "contentType": TEXT, "text": {"text": message.text}}


def _card(order: Order, words: str) -> dict[str, Any]:
    main = {
        "targetUrl": f"fleamarket://order_detail?id={order.order_id}&role=seller",
        "exContent": {
            "title": words.strip("[]"),
            "desc": "",
            "button": {
                "text": "查看",
                "targetUrl": f"fleamarket://order_detail?id={order.order_id}&bizOrderId={order.order_id}",
            },
        },
    }
    return {
        "contentType": CARD,
        "dxCard": {"item": {"main": main}, "template": {"name": "idlefish_message_trade"}},
    }


def summary_of(message: Message) -> str:
    """What a notification shows."""
    return "[图片]" if message.image is not None else message.text


def note_of(message: Message, chat: Chat) -> dict[str, Any]:
    """The notification fields: `1.10` of a push, `extension` of an entry."""
    plain_id = f"{message.created_at_ms:032x}"
    extra: dict[str, Any] = {"quickReply": "1", "messageId": plain_id, "tag": "u"}
    tag: dict[str, Any] = {"sourceId": "S:1", "messageId": plain_id}
    note: dict[str, Any] = {
        "_platform": "android",
        "_appVersion": "7.8.10",
        "detailNotice": summary_of(message),
        "reminderContent": summary_of(message),
        "reminderNotice": "发来一条新消息",
        "reminderTitle": message.sender_name,
        "reminderUrl": (
            f"fleamarket://message_chat?itemId={chat.item_id}&peerUserId={chat.buyer_id}"
            f"&peerUserNick={chat.buyer_name[:1]}***&sid={chat.chat_id}&messageId={plain_id}&adv=no"
        ),
        "senderUserId": message.sender_id,
        "senderUserType": "0",
        "sessionType": "1",
    }
    if message.order is not None:
        task, mark = _MARKS.get(
            message.order_state, (f"{message.text.strip('[]')}_卖家", message.order_state)
        )
        extra = {
            "msgArg1": "MsgCard",
            "updateKey": f"{chat.chat_id}:{message.order.order_id}:{mark}",
            "itemId": chat.item_id,
        }
        tag = {"sourceId": "C2C", "taskName": task}
        note |= {"redReminder": chat.reminder, "redReminderStyle": "1", "receiver": chat.seller_id}
    note["bizTag"], note["extJson"] = _json(tag), _json(extra)
    return note


def push_payload(message: Message, chat: Chat) -> dict[Any, Any]:
    """The decoded payload of a chat message (A13), with the platform's integer keys."""
    content_type, content = content_of(message)
    return {
        1: {
            1: {1: f"{message.sender_id}@goofish"},
            2: f"{chat.chat_id}@goofish",
            3: message.message_id,
            4: 0,
            5: message.created_at_ms,
            6: {
                1: 101,
                3: {1: "", 2: summary_of(message), 3: "", 4: content_type, 5: _json(content)},
            },
            7: 2,
            8: 1,
            9: 0,
            10: note_of(message, chat),
            12: 1,
        },
        3: {"needPush": "true"},
    }


def reminder_payload(chat: Chat, at_ms: int) -> dict[Any, Any]:
    """The decoded payload of a changed red reminder (A14)."""
    return {
        1: f"{chat.chat_id}@goofish",
        2: 1,
        3: {"redReminder": chat.reminder, "redReminderStyle": "1"},
        4: at_ms,
    }


def notice_payload(chat: Chat) -> dict[Any, Any]:
    """The decoded payload that says only that a chat has something new (A15)."""
    newest = chat.messages[-1]
    return {1: f"{chat.chat_id}@goofish", 2: 1, 3: newest.message_id, 4: str(newest.created_at_ms)}


def encode(payload: dict[Any, Any], *, plain: bool) -> str:
    """A payload as the text of a data item: base64 of old-spec MessagePack, or of JSON (A12)."""
    if plain:
        return base64.b64encode(orjson.dumps(payload, option=orjson.OPT_NON_STR_KEYS)).decode()
    return base64.b64encode(msgpack.packb(payload, use_bin_type=False)).decode()


def sync_frame(sid: str, items: list[tuple[str, int]], now_ms: int, path: str = "/s/sync") -> tuple[str, str]:
    """A push of data items, each (text, object type); returns its mid and the frame (A11)."""
    mid = f"{next(_mids)}{now_ms} 0"
    data = [
        {"bizType": 40, "objectType": kind, "streamId": str(index), "data": text}
        for index, (text, kind) in enumerate(items)
    ]
    frame = {
        "lwp": path,
        "headers": {
            "mid": mid,
            "sid": sid,
            "app-key": "444e9908a51d1cb236a27862abc769c9",
            "ua": "",
            "dt": "j",
        },
        "body": {
            "syncPushPackage": {
                "maxHighPts": 0,
                "startSeq": 0,
                "endSeq": len(data),
                "minCreateTime": now_ms,
                "maxPts": now_ms * 1000,
                "hasMore": 0,
                "timestamp": now_ms,
                "data": data,
            },
            "syncExtensionModel": {"reconnectType": 0, "failover": 0, "fingerprint": 0},
        },
    }
    return mid, orjson.dumps(frame).decode()


def history_entry(message: Message, chat: Chat) -> dict[str, Any]:
    """A message as histories and conversation lists have it (A18)."""
    content_type, content = content_of(message)
    return {
        "messageId": message.message_id,
        "createAt": message.created_at_ms,
        "cid": f"{chat.chat_id}@goofish",
        "sender": {"uid": f"{message.sender_id}@goofish"},
        "content": {
            "contentType": 101,
            "custom": {"type": content_type, "summary": summary_of(message), "data": base64_json(content)},
        },
        "extension": note_of(message, chat),
    }


def conversation_entry(chat: Chat, title: str) -> dict[str, Any]:
    """A chat as the conversation list has it (A18)."""
    own_view: dict[str, Any] = {
        "redPoint": chat.unread,
        "modifyTime": chat.modified_at_ms,
        "singleChatConversation": {
            "cid": f"{chat.chat_id}@goofish",
            "pairFirst": f"{chat.seller_id}@goofish",
            "pairSecond": f"{chat.buyer_id}@goofish",
            "bizType": "1",
            "extension": {"itemId": chat.item_id, "itemTitle": title, "extUserId": chat.buyer_id},
        },
        "user_extension": {"redReminder": chat.reminder} if chat.reminder else {},
    }
    if chat.messages:
        own_view["lastMessage"] = {"message": history_entry(chat.messages[-1], chat)}
    return {"type": 1, "singleChatUserConversation": own_view}
