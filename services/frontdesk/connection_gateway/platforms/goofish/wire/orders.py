"""Which texts mean which state of an order, and which messages the platform wrote (A13, A14)."""

from __future__ import annotations

from frontdesk.connection_gateway.platforms.model import OrderStatus

TEXT, IMAGE, AUDIO, EMOJI = 1, 2, 3, 5
AROUSE, TIPS, DONE, TRADE_CARD, DYNAMIC_CARD, CUSTOM = 8, 14, 25, 26, 32, 101
"""Content types (A13)."""

_CARDS = frozenset({TIPS, DONE, TRADE_CARD, DYNAMIC_CARD})
_PLATFORM_ONLY = _CARDS | {AROUSE}
_TYPED = frozenset({IMAGE, AUDIO, EMOJI})  # their summary is a `[...]` text although a person sent them

_STATUS = {
    # cards (A14, CG-63)
    "我已拍下,待付款": OrderStatus.CREATED,
    "我已修改价格,等待你付款": OrderStatus.CREATED,
    "我已付款,等待你发货": OrderStatus.PAID,
    "已付款,待发货": OrderStatus.PAID,
    "记得及时发货": OrderStatus.PAID,
    "买家已付款": OrderStatus.PAID,
    "付款完成": OrderStatus.PAID,
    "你已发货": OrderStatus.SHIPPED,
    "买家确认收货,交易成功": OrderStatus.DONE,
    "你关闭了订单,钱款已原路退返": OrderStatus.CLOSED,
    "我发起了退款申请": OrderStatus.REFUND_REQUESTED,
    "退款成功,钱款已原路退返": OrderStatus.REFUNDED,
    # red reminders (A14)
    "等待买家付款": OrderStatus.CREATED,
    "等待卖家发货": OrderStatus.PAID,
    "交易关闭": OrderStatus.CLOSED,
    # states of the order pages (A20)
    "待付款": OrderStatus.CREATED,
    "已付款": OrderStatus.PAID,
    "待发货": OrderStatus.PAID,
    "已发货": OrderStatus.SHIPPED,
    "交易成功": OrderStatus.DONE,
    "退款中": OrderStatus.REFUND_REQUESTED,
    "退款成功": OrderStatus.REFUNDED,
    "已退款": OrderStatus.REFUNDED,
}


def status_of(*texts: str) -> OrderStatus:
    """The state the first text that names one means; UNKNOWN when none does."""
    for words in texts:
        plain = words.strip().strip("[]【】").replace("，", ",").replace(" ", "")
        if plain in _STATUS:
            return _STATUS[plain]
        if "not_pay" in plain or plain.startswith("已拍下_未付款"):
            return OrderStatus.CREATED
    return OrderStatus.UNKNOWN


def is_card(content_type: int, msg_arg: str, red_reminder: str) -> bool:
    """Whether a message is the platform's card, the only kind that may change an order.

    A text a buyer typed is never one, whatever it says: otherwise typing `[我已付款，等待你发货]` would ship
    goods. Pushes without a content type count when they carry the card's own fields.
    """
    return content_type in _CARDS or (content_type == 0 and (msg_arg == "MsgCard" or bool(red_reminder)))


def is_system(*, own: bool, content_type: int, words: str, msg_arg: str, need_push: bool) -> bool:
    """Whether the platform wrote a message, so that nobody answers it (CG-63, A13).

    The account's own typed messages are never the platform's, or a seller's takeover would go unseen.
    """
    if content_type in _PLATFORM_ONLY or msg_arg in ("MsgTips", "MsgCard"):
        return True
    if own:
        return False
    bracketed = words.startswith("[") and words.endswith("]") and content_type not in _TYPED
    return bracketed or not need_push
