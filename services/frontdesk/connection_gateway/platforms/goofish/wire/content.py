"""What a message says: `1.6.3.5` of a push, `content` of a history entry (A13, A14, A18)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from frontdesk.connection_gateway.platforms.errors import WireError
from frontdesk.connection_gateway.platforms.goofish.wire import payload
from frontdesk.connection_gateway.platforms.goofish.wire.orders import CUSTOM
from frontdesk.connection_gateway.platforms.goofish.wire.values import (
    embedded,
    find,
    integer,
    mapping,
    sequence,
    text,
)

_MAX_IMAGES = 20
_MAX_WRAPPERS = 3
_ORDER_ID = re.compile(r"(?:\border_detail\?id=|\borderId=|\bbizOrderId=)(\d{10,20})\b", re.ASCII)
_ITEM_ID = re.compile(r"\bitemId=(\d{1,20})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Content:
    """A message's content; `title` is a card's heading, ids are empty when the content has none."""

    content_type: int = 0
    text: str = ""
    image_urls: tuple[str, ...] = ()
    title: str = ""
    order_id: str = ""
    item_id: str = ""


def from_push(six: dict[str, Any]) -> Content:
    """The content of field `1.6` of a pushed message: JSON text in `3.5`, in older pushes base64 in `3.1`."""
    three = mapping(six, "3")
    inner = embedded(three.get("5")) or _from_base64(three.get("1"))
    return parse(inner, integer(three.get("4")))


def from_history(content: object) -> Content:
    """The content of a history entry."""
    inner = mapping(content)
    return parse(inner, integer(inner.get("contentType")))


def parse(inner: dict[str, Any], declared_type: int = 0) -> Content:
    """A content object, without its wrappers of type 101."""
    content_type = integer(inner.get("contentType")) or declared_type
    for _ in range(_MAX_WRAPPERS):
        if "custom" not in inner:
            break
        inner = _from_base64(mapping(inner, "custom").get("data"))
        content_type = integer(inner.get("contentType")) or content_type
    if declared_type not in (0, CUSTOM):
        content_type = declared_type
    card = _card(inner)
    everything = payload.dumps(card) if card else ""
    pics = sequence(mapping(inner, "image").get("pics"))[:_MAX_IMAGES]
    main = mapping(card, "item", "main")
    return Content(
        content_type=content_type,
        text=text(mapping(inner, "text").get("text")),
        image_urls=tuple(url for pic in pics if (url := text(mapping(pic).get("url")))),
        title=text(mapping(main, "exContent").get("title")),
        order_id=find(_ORDER_ID, everything),
        item_id=find(_ITEM_ID, everything),
    )


def order_id_of_update_key(update_key: object) -> str:
    """The order of `<chat>:<order>:<state>` (A14); empty for anything else."""
    parts = text(update_key).split(":")
    candidate = parts[1] if len(parts) >= 2 else ""
    return candidate if candidate.isascii() and candidate.isdigit() and len(candidate) >= 10 else ""


def item_id_of_url(url: object) -> str:
    """The `itemId` of a link (A13)."""
    return find(_ITEM_ID, url)


def _card(inner: dict[str, Any]) -> dict[str, Any]:
    """The trade card; type 32 nests it (A14)."""
    return mapping(inner, "dxCard") or mapping(inner, "dynamicOperation", "changeContent", "dxCard")


def _from_base64(value: object) -> dict[str, Any]:
    if not isinstance(value, str) or not value:
        return {}
    try:
        return payload.decode(value)
    except WireError:
        return {}
