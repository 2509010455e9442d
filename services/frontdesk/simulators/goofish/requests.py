"""What clients send, read with suspicion (A6, A7, A16), and frames that are broken on purpose."""

from __future__ import annotations

import base64
import binascii
from typing import Any

import orjson

from frontdesk.simulators.goofish import payloads
from frontdesk.simulators.goofish.state import Chat, Image, Seller


class Refused(Exception):
    """A request that is answered with another code than 200."""

    def __init__(self, code: int, body: dict[str, Any]) -> None:
        super().__init__(str(code))
        self.code = code
        self.body = body


def refusal(seller: Seller | None, token: str, device_id: str, now_ms: int) -> str:
    """Why a `/reg` is refused, empty when it is not (A7)."""
    if seller is None:
        return "invalid token"
    bound, until_ms = seller.tokens[token]
    if until_ms <= now_ms or not seller.logged_in:
        return "token invalid"
    if bound != device_id:
        return "device id or appkey is not equal"
    return ""


def content_of(content: dict[str, Any]) -> tuple[str, Image | None]:
    """Text and image of a send (A16); raises Refused."""
    try:
        inner = orjson.loads(base64.b64decode(content["custom"]["data"]))
        if inner["contentType"] == payloads.IMAGE:
            pic = inner["image"]["pics"][0]
            return "", Image(str(pic["url"]), int(pic.get("width", 0)), int(pic.get("height", 0)))
        return str(inner["text"]["text"]), None
    except (binascii.Error, orjson.JSONDecodeError) as error:
        raise Refused(400, {"reason": "bad content"}) from error


def title(seller: Seller, chat: Chat) -> str:
    """The title of the item that a chat is about, empty when it is not on sale."""
    item = seller.items.get(chat.item_id)
    return item.title if item else ""


def within(value: Any, most: int) -> int:
    """A whole number from 0 to `most`; a client's may be beyond what an answer can hold."""
    return min(max(int(value), 0), most)


def bare(value: object) -> str:
    """An id without `@goofish`."""
    return str(value).partition("@")[0]


BROKEN = (
    "{",
    '{"lwp":"/s/sync"}',
    '{"lwp":"/s/sync","headers":{"mid":"1 0"},"body":{"syncPushPackage":{"data":[{"data":"!!!"}]}}}',
    '{"lwp":"/s/sync","headers":{"mid":"2 0"},"body":{"syncPushPackage":{"data":[7,{"data":{"1":[[]]}}]}}}',
    '{"headers":{"mid":5},"code":"x"}',
    '{"lwp":"/s/sync","headers":{"mid":"3 0"},"body":[1,2,3]}',
)


def broken(number: int) -> str:
    """A frame that no client should fall over; they take turns."""
    return BROKEN[number % len(BROKEN)]
