"""Frames of the IM's protocol "LWP": one JSON object a text frame (A6), and the bodies we send."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from frontdesk.connection_gateway.platforms.errors import WireError
from frontdesk.connection_gateway.platforms.goofish.wire import payload
from frontdesk.connection_gateway.platforms.goofish.wire.ids import (
    address,
    bare,
    mid_key,
    ordered_pair,
    send_uuid,
)
from frontdesk.connection_gateway.platforms.model import Push, UploadedImage

# Paths (A7 to A11, A16 to A18).
REGISTER = "/reg"
HEARTBEAT = "/!"
READY = "/s/vulcan"
KICKOUT = "/push/kickout"
SESSION_REMOVE = "/s/session/remove"
GET_STATE = "/r/SyncStatus/getState"
ACK_DIFF = "/r/SyncStatus/ackDiff"
SEND = "/r/MessageSend/sendByReceiverScope"
CREATE_CHAT = "/r/SingleChatConversation/create"
HISTORY = "/r/MessageManager/listUserMessages"
CONVERSATIONS = "/r/Conversation/listNewestPagination"
READ = "/r/MessageStatus/read"
CLEAR_RED_POINT = "/r/Conversation/clearRedPoint"

IM_APP_KEY = "444e9908a51d1cb236a27862abc769c9"
NEWEST = 9007199254740991  # the cursor that means "from the newest" (A18)
BROWSER_UA = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) "
    "Chrome/133.0.0.0 Safari/537.36"
)
IM_UA = (
    f"{BROWSER_UA} DingTalk(2.1.5) OS(Windows/10) Browser(Chrome/133.0.0.0) "
    "DingWeb/2.1.5 IMPaaS DingWeb/2.1.5"
)


@dataclass(frozen=True, slots=True)
class LwpResponse:
    """An answer to a request of ours. A missing code counts as 200, as data answers may lack it (A6)."""

    mid: str
    headers: dict[str, object]
    code: int
    body: object


@dataclass(frozen=True, slots=True)
class LwpRequest:
    """A request of the platform: a push, which wants an acknowledgement."""

    lwp: str
    headers: dict[str, object]
    body: object

    def push(self, *, resync: bool = False) -> Push:
        """What `ack` needs of it."""
        return Push(self.lwp, self.headers, resync)


def parse(text: str | bytes) -> LwpRequest | LwpResponse:
    """One frame of the platform. Raises WireError for anything that is none."""
    value = payload.loads(text)
    if not isinstance(value, dict):
        raise WireError("frame is no object")
    headers = value.get("headers")
    if not isinstance(headers, dict):
        raise WireError("frame without headers")
    lwp = value.get("lwp")
    if isinstance(lwp, str) and lwp and value.get("code") is None:
        return LwpRequest(lwp, headers, value.get("body"))
    mid = headers.get("mid")
    if not isinstance(mid, (str, int)) or isinstance(mid, bool):
        raise WireError("answer without mid")
    return LwpResponse(mid_key(str(mid)), headers, _code(value.get("code")), value.get("body"))


def _code(value: object) -> int:
    if value is None:
        return 200
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 10:
        return int(value)
    raise WireError("answer with a code that is no number")


def request(lwp: str, mid: str, body: object) -> str:
    """A request of ours."""
    return payload.dumps({"lwp": lwp, "headers": {"mid": mid}, "body": body})


def register(token: str, device_id: str, mid: str) -> str:
    """`/reg`; it has no body (A7)."""
    headers = {
        "cache-header": "app-key token ua wv",
        "app-key": IM_APP_KEY,
        "token": token,
        "ua": IM_UA,
        "dt": "j",
        "wv": "im:3,au:3,sy:6",
        "sync": "0,0;0;0;",
        "did": device_id,
        "mid": mid,
    }
    return payload.dumps({"lwp": REGISTER, "headers": headers})


def heartbeat(mid: str) -> str:
    """`/!`; no body (A9)."""
    return payload.dumps({"lwp": HEARTBEAT, "headers": {"mid": mid}})


def ack(headers: dict[str, object]) -> str:
    """The acknowledgement of a push: all of its headers, with code 200 (A10)."""
    return payload.dumps({"code": 200, "headers": headers})


def get_state_body() -> list[Any]:
    """Body of getState (A8)."""
    return [{"topic": "sync"}]


def send_body(
    chat_id: str, own_id: str, peer_id: str, content: dict[str, Any], outgoing_id: str
) -> list[Any]:
    """Body of a send (A16).

    `content` is `text_content` or `image_content`; both people have to be receivers.
    """
    return [
        {
            "uuid": send_uuid(outgoing_id),
            "cid": address(chat_id),
            "conversationType": 1,
            "content": {"contentType": 101, "custom": {"type": 1, "data": payload.base64_json(content)}},
            "redPointPolicy": 0,
            "extension": {"extJson": "{}"},
            "ctx": {"appVersion": "1.0", "platform": "web"},
            "mtags": {},
            "msgReadStatusSetting": 1,
        },
        {"actualReceivers": [address(peer_id), address(own_id)]},
    ]


def text_content(text: str) -> dict[str, Any]:
    """Content of a text (A16)."""
    return {"contentType": 1, "text": {"text": text}}


def image_content(image: UploadedImage) -> dict[str, Any]:
    """Content of an image the platform keeps (A16)."""
    pic = {"type": 0, "url": image.url, "width": image.width, "height": image.height}
    return {"contentType": 2, "image": {"pics": [pic]}}


def create_chat_body(own_id: str, buyer_id: str, item_id: str) -> list[Any]:
    """Body of creating a chat; the pair is sorted by number (A17)."""
    first, second = ordered_pair(bare(own_id), bare(buyer_id))
    return [
        {
            "pairFirst": address(first),
            "pairSecond": address(second),
            "bizType": "1",
            "extension": {"itemId": item_id, "orderId": "", "source": ""},
            "ctx": {"appVersion": "1.0", "platform": "web"},
        }
    ]


def history_body(chat_id: str, limit: int, cursor: int | None) -> list[Any]:
    """Body of a page of a chat, backwards from `cursor` (A18)."""
    return [address(chat_id), False, NEWEST if cursor is None else cursor, limit, False]


def conversations_body(limit: int, cursor: int | None) -> list[Any]:
    """Body of a page of the chats (A18)."""
    return [NEWEST if cursor is None else cursor, limit]
