"""Payloads and history entries to events."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from frontdesk.connection_gateway.platforms.goofish.wire import payload
from frontdesk.connection_gateway.platforms.goofish.wire.decode import (
    decode_history_message,
    decode_payload,
    decode_push,
)
from frontdesk.connection_gateway.platforms.model import (
    ChatMessage,
    Notice,
    OrderStatus,
    OrderUpdate,
    ReadReceipt,
    Typing,
)

OWN, BUYER, CHAT, ITEM = "2200000000001", "3300000000002", "50000000001", "900000000001"
PNM = "1700000000000542.PNM"
T = 1_700_000_000_000

RED_REMINDER = (
    "hAGzNTAwMDAwMDAwMDFAZ29vZmlzaAIBA4KrcmVkUmVtaW5kZXKy562J5b6F5Y2W5a625Y+R6LSnsHJlZFJlbWluZGVyU3R5bGWhMQTPAAABi8/l"
    "aAA="
)
READ = "hQGRtDE3MDAwMDAwMDAwMDA1NDIuUE5NAgIDszUwMDAwMDAwMDAxQGdvb2Zpc2gEAQXPAAABi8/laAA="
TYPING = "gQGRhAGzNTAwMDAwMDAwMDFAZ29vZmlzaAIBAwEEtTMzMDAwMDAwMDAwMDJAZ29vZmlzaA=="
CHAT_MESSAGE = (
    "ggGLAYEBtTMzMDAwMDAwMDAwMDJAZ29vZmlzaAKzNTAwMDAwMDAwMDFAZ29vZmlzaAO0MTcwMDAwMDAwMDAwMDU0Mi5QTk0EAAXPAAABi8/laAAG"
    "ggFlA4UBoAKm5Zyo5ZCXA6AEAQXaADd7ImF0VXNlcnMiOltdLCJjb250ZW50VHlwZSI6MSwidGV4dCI6eyJ0ZXh0Ijoi5Zyo5ZCXIn19BwIIAQkA"
    "CoupX3BsYXRmb3Jtp2FuZHJvaWSmYml6VGFn2gBBeyJzb3VyY2VJZCI6IlM6MSIsIm1lc3NhZ2VJZCI6IjAxMjM0NTY3ODlhYmNkZWYwMTIzNDU2"
    "Nzg5YWJjZGVmIn2sZGV0YWlsTm90aWNlpuWcqOWQl6dleHRKc29u2gBLeyJxdWlja1JlcGx5IjoiMSIsIm1lc3NhZ2VJZCI6IjAxMjM0NTY3ODlh"
    "YmNkZWYwMTIzNDU2Nzg5YWJjZGVmIiwidGFnIjoidSJ9r3JlbWluZGVyQ29udGVudKblnKjlkJeucmVtaW5kZXJOb3RpY2W15Y+R5p2l5LiA5p2h"
    "5paw5raI5oGvrXJlbWluZGVyVGl0bGWlYnV5ZXKrcmVtaW5kZXJVcmzaAJtmbGVhbWFya2V0Oi8vbWVzc2FnZV9jaGF0P2l0ZW1JZD05MDAwMDAw"
    "MDAwMDEmcGVlclVzZXJJZD0zMzAwMDAwMDAwMDAyJnBlZXJVc2VyTmljaz1iKioqciZzaWQ9NTAwMDAwMDAwMDEmbWVzc2FnZUlkPTAxMjM0NTY3"
    "ODlhYmNkZWYwMTIzNDU2Nzg5YWJjZGVmJmFkdj1ub6xzZW5kZXJVc2VySWStMzMwMDAwMDAwMDAwMq5zZW5kZXJVc2VyVHlwZaEwq3Nlc3Npb25U"
    "eXBloTEMAQOBqG5lZWRQdXNopHRydWU="
)


def _push(*data: str) -> dict[str, Any]:
    items = [{"bizType": 40, "objectType": 40000, "streamId": "1", "data": item} for item in data]
    return {"syncPushPackage": {"data": items}}


def _message(
    text: str,
    content: dict[str, Any] | None = None,
    *,
    content_type: int = 1,
    sender: str = BUYER,
    need_push: str = "true",
    **note: object,
) -> dict[str, Any]:
    inner = content or {"contentType": content_type, "text": {"text": text}}
    return {
        "1": {
            "1": {"1": f"{sender}@goofish"},
            "2": f"{CHAT}@goofish",
            "3": PNM,
            "5": T,
            "6": {"1": 101, "3": {"1": "", "2": text, "4": content_type, "5": json.dumps(inner)}},
            "10": {
                "reminderContent": text,
                "reminderTitle": "buyer",
                "reminderUrl": f"fleamarket://message_chat?itemId={ITEM}&peerUserId={BUYER}&sid={CHAT}",
                "senderUserId": sender,
                **note,
            },
        },
        "3": {"needPush": need_push},
    }


def _chat(decoded: dict[str, Any]) -> ChatMessage:
    event = decode_payload(decoded, OWN)
    assert isinstance(event, ChatMessage)
    return event


def _card(
    title: str, *, nested: bool = False, target: str = "order_detail?id=1234567890123"
) -> dict[str, Any]:
    main = {"targetUrl": f"fleamarket://{target}&role=seller", "exContent": {"title": title, "desc": ""}}
    card = {"dxCard": {"item": {"main": main}, "template": {}}}
    if nested:
        return {"contentType": 32, "dynamicOperation": {"changeContent": card}}
    return {"contentType": 26, **card}


def test_golden_frames_decode_in_order_within_one_push() -> None:
    """All four published vectors in one frame give their four events, none lost."""
    red, read, typing, chat = decode_push(_push(RED_REMINDER, READ, TYPING, CHAT_MESSAGE), OWN)
    assert red == OrderUpdate(CHAT, "", OrderStatus.PAID, "等待卖家发货", "", "", "", T)
    assert read == ReadReceipt(CHAT, (PNM,), T)
    assert typing == Typing(CHAT)
    assert chat == ChatMessage(
        chat_id=CHAT,
        message_id=PNM,
        sender_id=BUYER,
        sender_name="buyer",
        text="在吗",
        content_type=1,
        image_urls=(),
        item_id=ITEM,
        created_at_ms=T,
        own=False,
        system=False,
        peer_id=BUYER,
    )


def test_an_undecodable_item_does_not_hide_its_neighbours() -> None:
    """Garbage becomes an unknown notice in its place."""
    assert [type(event) for event in decode_push(_push("!!", CHAT_MESSAGE), OWN)] == [Notice, ChatMessage]


def test_a_body_that_is_a_list_is_read_too() -> None:
    """Both documented forms of a body carry data items."""
    assert len(decode_push([_push(TYPING), _push(READ)], OWN)) == 2


def test_own_message_is_own_whatever_it_looks_like() -> None:
    """The seller's hand-typed answer is neither system nor without a peer, also when it is not pushed."""
    event = _chat(_message("[好的]", sender=OWN, need_push="false"))
    assert (event.own, event.system, event.peer_id, event.text) == (True, False, BUYER, "[好的]")


@pytest.mark.parametrize(
    ("decoded", "why"),
    [
        (_message("[一条提示]"), "text in brackets"),
        (_message("在吗", need_push="false"), "not pushed"),
        (_message("tip", content_type=14), "tip"),
        (_message("hint", content_type=8), "session hint"),
        (_message("promo", extJson='{"msgArg1":"MsgTips"}'), "marketing tip"),
        (_message("快给ta一个评价吧~", _card("快给ta一个评价吧~"), content_type=26), "rate card"),
        (_message("我已小刀，待刀成", _card("我已小刀，待刀成"), content_type=26), "bargain card"),
        (
            _message(
                "[你已发货]", content_type=14, sender=OWN, extJson='{"msgArg1":"MsgCard"}', need_push="x"
            ),
            "",
        ),
    ],
)
def test_platform_texts_are_system(decoded: dict[str, Any], why: str) -> None:
    """Cards, tips, bracketed texts and unpushed messages are never a person's words."""
    event = decode_payload(decoded, OWN)
    assert isinstance(event, OrderUpdate) or (isinstance(event, ChatMessage) and event.system), why


def test_image_has_addresses_and_no_text() -> None:
    """A buyer's image is a person's message although its summary is in brackets."""
    pics = [{"url": "https://img/1.jpg", "width": 1, "height": 2}, {"url": ""}, 5]
    event = _chat(_message("[图片]", {"contentType": 2, "image": {"pics": pics}}, content_type=2))
    assert (event.text, event.image_urls, event.system) == ("", ("https://img/1.jpg",), False)


def test_custom_wrapper_is_opened() -> None:
    """Type 101 holds base64 of the real content, also in the older field."""
    inner = {"contentType": 1, "text": {"text": "hi"}}
    wrapped = {"contentType": 101, "custom": {"type": 1, "data": payload.base64_json(inner)}}
    event = _chat(_message("sum", wrapped, content_type=101))
    assert (event.text, event.content_type) == ("hi", 1)
    older = _message("sum")
    older["1"]["6"] = {"1": 101, "3": {"1": payload.base64_json(inner), "2": "sum"}}
    assert (_chat(older).text, _chat(older).content_type) == ("hi", 1)


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("[我已拍下，待付款]", OrderStatus.CREATED),
        ("[我已修改价格，等待你付款]", OrderStatus.CREATED),
        ("[我已付款，等待你发货]", OrderStatus.PAID),
        ("[已付款，待发货]", OrderStatus.PAID),
        ("[记得及时发货]", OrderStatus.PAID),
        ("[买家已付款]", OrderStatus.PAID),
        ("[付款完成]", OrderStatus.PAID),
        ("[你已发货]", OrderStatus.SHIPPED),
        ("[买家确认收货，交易成功]", OrderStatus.DONE),
        ("[你关闭了订单，钱款已原路退返]", OrderStatus.CLOSED),
        ("[我发起了退款申请]", OrderStatus.REFUND_REQUESTED),
        ("[退款成功，钱款已原路退返]", OrderStatus.REFUNDED),
    ],
)
@pytest.mark.parametrize("nested", [False, True])
def test_trade_cards_tell_order_states(text: str, status: OrderStatus, nested: bool) -> None:
    """Each documented card text, in both card types, is an order update with order, item and buyer."""
    decoded = _message(text, _card(text.strip("[]"), nested=nested), content_type=32 if nested else 26)
    assert decode_payload(decoded, OWN) == OrderUpdate(
        CHAT, "1234567890123", status, text, ITEM, BUYER, PNM, T
    )


@pytest.mark.parametrize(
    "target", ["x?orderId=1234567890123", "adjust_price?flutter=true&bizOrderId=1234567890123"]
)
def test_order_id_is_found_in_every_documented_link(target: str) -> None:
    """`orderId` and `bizOrderId` links name the order."""
    event = decode_payload(_message("[付款完成]", _card("x", target=target), content_type=26), OWN)
    assert isinstance(event, OrderUpdate)
    assert event.order_id == "1234567890123"


def test_update_key_names_order_and_state() -> None:
    """A card whose texts say nothing is understood by its key."""
    key = f'{{"updateKey":"{CHAT}:4444444444444:1_not_pay_seller"}}'
    event = decode_payload(_message("card", _card("?"), content_type=26, extJson=key), OWN)
    assert isinstance(event, OrderUpdate)
    assert (event.order_id, event.status) == ("4444444444444", OrderStatus.CREATED)


def test_a_typed_order_text_never_changes_an_order() -> None:
    """A buyer who types the paid text is not answered and does not count as having paid."""
    assert _chat(_message("[我已付款，等待你发货]")).system


def test_card_update_and_red_reminder_have_no_message_id() -> None:
    """A rewritten card is an order update of its own, as it repeats the id of the card it rewrites."""
    note = {
        "reminderContent": "[我已付款，等待你发货]",
        "senderUserId": BUYER,
        "reminderUrl": f"fleamarket://message_chat?itemId={ITEM}&peerUserId={BUYER}",
        "extJson": f'{{"updateKey":"{CHAT}:4444444444444:2_paid"}}',
    }
    decoded = {"1": PNM, "2": f"{CHAT}@goofish", "4": note, "5": T}
    assert decode_payload(decoded, OWN) == OrderUpdate(
        CHAT, "4444444444444", OrderStatus.PAID, "[我已付款，等待你发货]", ITEM, BUYER, "", T
    )
    note["reminderContent"] = "something else"
    assert decode_payload(decoded, OWN) == Notice("card", CHAT, "", T)


def test_notices_are_told_apart() -> None:
    """Light notices, operations and item types without a known shape are named, not dropped."""
    light = {"1": f"{CHAT}@goofish", "2": 1, "3": PNM, "4": str(T)}
    assert decode_payload(light, OWN) == Notice("new_message", CHAT, PNM, T)
    operation = {"chatType": 1, "sessionId": CHAT, "operation": {"content": {"contentType": 8}}}
    assert decode_payload(operation, OWN) == Notice("operation", CHAT)
    assert decode_payload({"1": f"{CHAT}@goofish"}, OWN, 40104) == Notice("recalled", CHAT)
    assert decode_payload({"x": 1}, OWN) == Notice("unknown")


def test_message_without_a_platform_id_keeps_another() -> None:
    """Without `1.3` the message's other id serves, so that it is not lost."""
    decoded = _message("hi", bizTag='{"messageId":"abc"}')
    del decoded["1"]["3"]
    assert _chat(decoded).message_id == "abc"


def test_history_and_push_agree() -> None:
    """The same message read back from the history is the same event."""
    entry = {
        "messageId": PNM,
        "createAt": T,
        "cid": f"{CHAT}@goofish",
        "sender": {"uid": f"{BUYER}@goofish"},
        "content": {
            "contentType": 101,
            "custom": {
                "type": 1,
                "summary": "在吗",
                "data": payload.base64_json({"contentType": 1, "text": {"text": "在吗"}}),
            },
        },
        "extension": {
            "senderUserId": BUYER,
            "reminderTitle": "buyer",
            "reminderContent": "在吗",
            "reminderUrl": f"fleamarket://message_chat?itemId={ITEM}&peerUserId={BUYER}",
        },
    }
    assert decode_history_message(entry, OWN) == decode_push(_push(CHAT_MESSAGE), OWN)[0]
    del entry["messageId"]
    assert decode_history_message(entry, OWN) is None


def test_own_history_entry_without_notification_fields() -> None:
    """An answer of ours in the history is own by its sender."""
    data = payload.base64_json({"contentType": 1, "text": {"text": "还在"}})
    entry = {
        "messageId": PNM,
        "createAt": str(T),
        "cid": CHAT,
        "sender": {"uid": f"{OWN}@goofish"},
        "content": {"contentType": 101, "custom": {"type": 1, "data": data}},
    }
    event = decode_history_message(entry, OWN)
    assert isinstance(event, ChatMessage)
    assert (event.own, event.system, event.text, event.created_at_ms) == (True, False, "还在", T)


_LEAVES = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just(f"{CHAT}@goofish")
)
_KEYS = st.sampled_from(
    ["1", "2", "3", "4", "5", "6", "10", "reminderContent", "extJson", "operation", "redReminder"]
)
_TREES = st.recursive(
    _LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_KEYS, inner, max_size=5),
    max_leaves=25,
)


@given(st.dictionaries(_KEYS, _TREES, max_size=6), st.integers(0, 50000))
def test_any_shape_of_payload_is_an_event(decoded: dict[str, Any], object_type: int) -> None:
    """No combination of the known keys raises."""
    assert decode_payload(decoded, OWN, object_type) is not None


@given(_TREES)
def test_any_body_of_a_push_is_a_tuple(body: object) -> None:
    """No body of a push or entry of a history raises."""
    assert isinstance(decode_push(body, OWN), tuple)
    decode_history_message(body, OWN)


@given(st.binary(max_size=200))
def test_random_bytes_as_items_become_notices_or_events(raw: bytes) -> None:
    """One item in, one event out."""
    assert len(decode_push(_push(base64.b64encode(raw).decode()), OWN)) == 1


@given(st.integers(0, len(CHAT_MESSAGE) - 1), st.sampled_from("ABCxyz019+/=!"))
def test_a_damaged_golden_message_raises_nothing(position: int, character: str) -> None:
    """One wrong character anywhere gives one event."""
    damaged = CHAT_MESSAGE[:position] + character + CHAT_MESSAGE[position + 1 :]
    assert len(decode_push(_push(damaged), OWN)) == 1
