"""Answers of the mtop calls to the platform-neutral model (A20)."""

from __future__ import annotations

import re
from typing import Any

from frontdesk.connection_gateway.platforms.goofish.wire.ids import bare
from frontdesk.connection_gateway.platforms.goofish.wire.orders import status_of
from frontdesk.connection_gateway.platforms.goofish.wire.values import integer, mapping, sequence, text
from frontdesk.connection_gateway.platforms.model import (
    Item,
    ItemPage,
    Order,
    OrderPage,
    OrderStatus,
    Sku,
    UploadedImage,
)

_PIX = re.compile(r"(\d{1,5})x(\d{1,5})", re.ASCII)


def item(data: dict[str, Any], item_id: str) -> Item:
    """`mtop.taobao.idle.pc.detail`."""
    found = mapping(data, "itemDO")
    return Item(
        item_id=text(found.get("itemId")) or item_id,
        title=text(found.get("title")),
        description=text(found.get("desc")),
        price=price(found.get("soldPrice")),
        quantity=integer(found.get("quantity")),
        status=text(found.get("itemStatus")),
        skus=tuple(_sku(mapping(sku)) for sku in sequence(found.get("skuList"))),
    )


def item_page(data: dict[str, Any], size: int) -> ItemPage:
    """`mtop.idle.web.xyh.item.list`. It says no total: a full page may have a next one."""
    cards = [mapping(card, "cardData") for card in sequence(data.get("cardList"))]
    items = tuple(
        Item(
            item_id=text(card.get("id")),
            title=text(card.get("title")),
            description="",
            price=price(mapping(card, "priceInfo").get("price")),
            quantity=integer(card.get("quantity")),
            status=text(card.get("itemStatus")),
            skus=(),
        )
        for card in cards
        if text(card.get("id"))
    )
    return ItemPage(items, has_more=len(cards) >= size)


def order(data: dict[str, Any], order_id: str) -> Order:
    """`mtop.idle.web.trade.order.detail`."""
    info = mapping(_component(data, "orderInfoVO"), "itemInfo")
    nodes = [mapping(n) for n in sequence(_component(data, "orderStatusVO").get("orderStatusNodeList"))]
    done = [text(node.get("title")) for node in nodes if node.get("completed") in (True, "true", 1)]
    titles = [text(node.get("title")) for node in nodes]
    # The rule of the shipping implementations (A20).
    to_ship = (
        "已付款" in done
        and "已发货" not in done
        and "交易成功" not in done
        and any(word in title for title in titles for word in ("待发货", "已刀成"))
    )
    return Order(
        order_id=order_id,
        item_id=text(data.get("itemId")) or text(info.get("itemId")),
        buyer_id=bare(data.get("peerUserId")),
        buyer_name="",
        quantity=integer(info.get("buyAmount")),
        sku=text(info.get("skuInfo")),
        price=price(info.get("price")),
        status=_furthest(done),
        to_ship=to_ship,
    )


def order_page(data: dict[str, Any], size: int) -> OrderPage:
    """`mtop.taobao.idle.trade.merchant.sold.get`."""
    rows = sequence(data.get("items")) or sequence(mapping(data, "module").get("items"))
    orders = tuple(sold for row in rows if (sold := _sold(mapping(row))).order_id)
    return OrderPage(orders, has_more=len(rows) >= size)


def uploaded(answer: dict[str, Any]) -> UploadedImage:
    """The upload's `object`; an empty url when there is none (A1)."""
    found = mapping(answer, "object")
    pixels = _PIX.fullmatch(text(found.get("pix")))
    width, height = (int(pixels[1]), int(pixels[2])) if pixels else (0, 0)
    return UploadedImage(text(found.get("url")), width, height)


def price(value: object) -> str:
    """Yuan as text, whatever the answer wrote it as."""
    if isinstance(value, float):
        return f"{value:.2f}"
    return text(value).strip().lstrip("¥￥").strip()


def fen(value: object) -> str:
    """Fen (hundredths) as yuan."""
    hundredths = integer(value)
    return f"{hundredths // 100}.{hundredths % 100:02d}"


def _sku(sku: dict[str, Any]) -> Sku:
    values = [text(mapping(entry).get("valueText")) for entry in sequence(sku.get("propertyList"))]
    return Sku(";".join(v for v in values if v), fen(sku.get("price")), integer(sku.get("quantity")))


def _component(data: dict[str, Any], render: str) -> dict[str, Any]:
    for component in sequence(data.get("components")):
        if mapping(component).get("render") == render:
            return mapping(component, "data")
    return {}


def _furthest(done: list[str]) -> OrderStatus:
    """The last completed step that means a state."""
    for title in reversed(done):
        status = status_of(title)
        if status is not OrderStatus.UNKNOWN:
            return status
    return OrderStatus.CREATED if done else OrderStatus.UNKNOWN


def _sold(row: dict[str, Any]) -> Order:
    common, buyer, paid = mapping(row, "commonData"), mapping(row, "buyerInfoVO"), mapping(row, "priceVO")
    buttons = sequence(mapping(row, "rightVO").get("btnList"))
    status = status_of(text(common.get("orderStatus")))
    if common.get("inRefund") in (True, "true", 1) and status is not OrderStatus.REFUNDED:
        status = OrderStatus.REFUND_REQUESTED
    return Order(
        order_id=text(common.get("orderId")),
        item_id=text(common.get("itemId")),
        buyer_id=bare(buyer.get("buyerId")),
        buyer_name=text(buyer.get("userNick")),
        quantity=integer(paid.get("buyNum")),
        sku="",
        price=price(paid.get("totalPrice")),
        status=status,
        to_ship=status is OrderStatus.PAID,
        group_bargain=any(mapping(button).get("tradeAction") == "SKIP_PIN" for button in buttons),
    )
