"""Bodies of the IM's answers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from frontdesk.connection_gateway.platforms.goofish.wire import answers, payload
from frontdesk.connection_gateway.platforms.goofish.wire.events import Response
from frontdesk.connection_gateway.platforms.model import ChatMessage, OrderStatus, SendResult, SendState

OWN, BUYER = "2200000000001", "3300000000002"


def _message(message_id: str, sender: str, text: str) -> dict[str, object]:
    data = payload.base64_json({"contentType": 1, "text": {"text": text}})
    return {
        "message": {
            "messageId": message_id,
            "createAt": 1700000000000,
            "cid": "5@goofish",
            "sender": {"uid": f"{sender}@goofish"},
            "content": {"contentType": 101, "custom": {"type": 1, "data": data}},
        }
    }


@pytest.mark.parametrize(
    ("code", "body", "state"),
    [
        (200, {"messageId": "1.PNM", "createAt": 5}, SendState.ACCEPTED),
        (
            200,
            {"messageId": "1.PNM", "reason": "CSI_FORBID", "moreInfo": "CSI_FORBID||安全拦截"},
            SendState.REJECTED,
        ),
        (200, {"moreInfo": "CSI_FORBID||安全拦截"}, SendState.REJECTED),
        (400, {"reason": "bad"}, SendState.REJECTED),
        (400, None, SendState.REJECTED),
        (200, {"reason": "system is error"}, SendState.TEMPORARY),
        (400, {"reason": "闲鱼走神了，您稍后再试～"}, SendState.TEMPORARY),
        (200, {"code": "400600001"}, SendState.TEMPORARY),
        (500, {}, SendState.TEMPORARY),
        (401, {}, SendState.TEMPORARY),
        (200, {}, SendState.UNANSWERED),
        (200, None, SendState.UNANSWERED),
    ],
)
def test_outcome_of_a_send(code: int, body: object, state: SendState) -> None:
    """Refusals are read before the code; 200 without an id proves nothing."""
    result = answers.send_result(Response("1", code, body))
    assert result.state is state
    assert result.written
    assert (result.reason == "") is (state is SendState.ACCEPTED)
    assert result.message_id == ("1.PNM" if state is SendState.ACCEPTED else "")


def test_only_not_written_is_not_written() -> None:
    """Every other state may have reached the platform."""
    assert [s for s in SendState if not SendResult(s).written] == [SendState.NOT_WRITTEN]


def test_history_page_keeps_order_and_cursor() -> None:
    """Messages stay in the platform's order; entries without an id are left out."""
    body = {
        "hasMore": 1,
        "nextCursor": 77,
        "userMessageModels": [_message("2.PNM", OWN, "b"), {"message": {}}, 5, _message("1.PNM", BUYER, "a")],
    }
    page = answers.history_page(body, OWN)
    assert (page.has_more, page.next_cursor) == (True, 77)
    assert [e.message_id for e in page.events] == ["2.PNM", "1.PNM"]
    assert [isinstance(e, ChatMessage) and e.own for e in page.events] == [True, False]


def test_conversation_page_names_peer_item_and_last_message() -> None:
    """The peer is whoever of the pair is not us."""
    chat = {
        "redPoint": 2,
        "modifyTime": 1700000000001,
        "lastMessage": _message("9.PNM", BUYER, "在吗"),
        "singleChatConversation": {
            "cid": "5@goofish",
            "pairFirst": f"{OWN}@goofish",
            "pairSecond": f"{BUYER}@goofish",
            "extension": {"itemId": "900000000001", "itemTitle": "鞋"},
        },
        "user_extension": {"redReminder": "等待卖家发货"},
    }
    body = {"hasMore": False, "nextCursor": "3", "userConvs": [{"singleChatUserConversation": chat}, {}]}
    page = answers.conversation_page(body, OWN)
    assert (page.has_more, page.next_cursor, len(page.conversations)) == (False, 3, 1)
    found = page.conversations[0]
    assert (found.chat_id, found.peer_id, found.item_id, found.item_title) == (
        "5",
        BUYER,
        "900000000001",
        "鞋",
    )
    assert (found.unread, found.modified_at_ms, found.status) == (2, 1700000000001, OrderStatus.PAID)
    assert isinstance(found.last, ChatMessage)
    assert found.last.text == "在吗"


@pytest.mark.parametrize(
    "body",
    [
        {"singleChatConversation": {"cid": "5@goofish"}},
        [{"singleChatConversation": {"cid": "5@goofish"}}],
        {"singleChatUserConversation": {"singleChatConversation": {"cid": "5@goofish"}}},
        {"data": {"singleChatConversation": {"cid": "5@goofish"}}},
        {"cid": "5"},
    ],
)
def test_created_chat_is_found_in_every_known_place(body: object) -> None:
    """All observed shapes of the answer name the chat."""
    assert answers.created_chat_id(body) == "5"


_TREES = st.recursive(
    st.none() | st.integers() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(["userConvs", "userMessageModels", "message", "singleChatUserConversation", "cid",
                         "singleChatConversation", "data", "reason", "extension", "content", "custom"]),
        inner, max_size=4,
    ),
    max_leaves=20,
)  # fmt: skip


@given(_TREES)
def test_no_body_raises(body: object) -> None:
    """Any body is a result."""
    answers.send_result(Response("1", 200, body))
    answers.history_page(body, OWN)
    answers.conversation_page(body, OWN)
    answers.created_chat_id(body)
