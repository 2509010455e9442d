"""Answers of the mtop calls."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from frontdesk.connection_gateway.platforms.goofish import http_model
from frontdesk.connection_gateway.platforms.model import Item, Order, OrderStatus, Sku, UploadedImage


def test_item_with_variants() -> None:
    """Variant prices come in fen, the item's in yuan."""
    data = {
        "itemDO": {
            "itemId": 900000000001,
            "title": "鞋",
            "desc": "九成新",
            "soldPrice": "88.00",
            "quantity": "3",
            "itemStatus": 0,
            "skuList": [
                {"price": 8805, "quantity": 2, "propertyList": [{"valueText": "红"}, {"valueText": "42"}]},
                "broken",
            ],
        }
    }
    found = http_model.item(data, "900000000001")
    assert found == Item(
        "900000000001", "鞋", "九成新", "88.00", 3, "0", (Sku("红;42", "88.05", 2), Sku("", "0.00", 0))
    )


def test_item_list_page() -> None:
    """A full page may have a next one, a short one has not."""
    card = {"cardData": {"id": "1", "title": "a", "priceInfo": {"price": "¥ 5"}, "itemStatus": 0}}
    page = http_model.item_page({"cardList": [card, {}]}, 2)
    assert [(i.item_id, i.title, i.price) for i in page.items] == [("1", "a", "5")]
    assert page.has_more
    assert not http_model.item_page({"cardList": [card]}, 2).has_more


def _order(*nodes: tuple[str, bool]) -> dict[str, Any]:
    return {
        "itemId": "900000000001",
        "peerUserId": "3300000000002",
        "components": [
            {
                "render": "orderInfoVO",
                "data": {"itemInfo": {"price": "10.00", "buyAmount": "2", "skuInfo": "颜色:红"}},
            },
            {
                "render": "orderStatusVO",
                "data": {"orderStatusNodeList": [{"title": t, "completed": c} for t, c in nodes]},
            },
        ],
    }


@pytest.mark.parametrize(
    ("nodes", "status", "to_ship"),
    [
        ([("已拍下", True), ("已付款", False)], OrderStatus.CREATED, False),
        ([("已拍下", True), ("已付款", True), ("待发货", False)], OrderStatus.PAID, True),
        ([("已付款", True), ("已刀成", True)], OrderStatus.PAID, True),
        ([("已付款", True), ("待刀成", False)], OrderStatus.PAID, False),
        ([("已付款", True), ("待发货", True), ("已发货", True)], OrderStatus.SHIPPED, False),
        ([("已付款", True), ("待发货", True), ("交易成功", True)], OrderStatus.DONE, False),
        ([("交易关闭", True)], OrderStatus.CLOSED, False),
        ([], OrderStatus.UNKNOWN, False),
    ],
)
def test_order_state_follows_the_completed_steps(
    nodes: list[tuple[str, bool]], status: OrderStatus, to_ship: bool
) -> None:
    """The furthest completed step is the state; shipping is due when paid and nothing is left to wait for."""
    found = http_model.order(_order(*nodes), "1234567890123")
    assert found == Order(
        "1234567890123", "900000000001", "3300000000002", "", 2, "颜色:红", "10.00", status, to_ship
    )


@pytest.mark.parametrize("wrap", [lambda rows: {"items": rows}, lambda rows: {"module": {"items": rows}}])
def test_sold_orders(wrap: Any) -> None:
    """A refund overrides the state, and a group bargain is marked."""
    row: dict[str, Any] = {
        "commonData": {"orderId": "1", "itemId": "2", "orderStatus": "待发货", "inRefund": False},
        "buyerInfoVO": {"buyerId": "3", "userNick": "n"},
        "priceVO": {"totalPrice": "9.9", "buyNum": 1},
        "rightVO": {"btnList": [{"tradeAction": "SKIP_PIN"}]},
    }
    refund = {**row, "commonData": {**row["commonData"], "orderId": "4", "inRefund": True}}
    page = http_model.order_page(wrap([row, refund, {}]), 3)
    assert page.has_more
    first, second = page.orders
    assert first == Order("1", "2", "3", "n", 1, "", "9.9", OrderStatus.PAID, True, group_bargain=True)
    assert (second.status, second.to_ship) == (OrderStatus.REFUND_REQUESTED, False)


def test_uploaded_image() -> None:
    """Pixels come as `WxH`; an odd text is no size."""
    assert http_model.uploaded({"object": {"url": "u", "pix": "3x4"}}) == UploadedImage("u", 3, 4)
    assert http_model.uploaded({"object": {"url": "u", "pix": "3x"}}) == UploadedImage("u", 0, 0)


_TREES = st.recursive(
    st.none() | st.floats() | st.integers() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(["itemDO", "skuList", "cardList", "cardData", "components", "render", "data", "items",
                         "commonData", "orderId", "object", "pix", "price"]),
        inner, max_size=4,
    ),
    max_leaves=15,
)  # fmt: skip


@given(
    st.dictionaries(
        st.sampled_from(["itemDO", "cardList", "components", "items", "object", "module"]), _TREES
    )
)
def test_no_answer_raises(data: dict[str, Any]) -> None:
    """Any answer is a result with empty fields for what it lacks."""
    http_model.item(data, "1")
    http_model.item_page(data, 20)
    http_model.order(data, "1")
    http_model.order_page(data, 20)
    http_model.uploaded(data)
