"""`POST /xianyu/reply`: one message in, one reply out, decided by the same code as every answer
(RE-01…RE-10).

The body is `{code, message, data, trace_id}`; 404 when nothing answers, 400 naming the field for bad input.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends
from pydantic import BaseModel, ConfigDict, Field

from frontdesk.api.replies.v1.reply_service_pb2 import ReplyRequest
from frontdesk.kit.http import require
from frontdesk.kit.telemetry.propagation import trace_id
from frontdesk.kit.tokens import Role
from frontdesk.reply_engine.rpc.replies import ReplyServicer

Needed = Annotated[str, Field(min_length=1, max_length=4000)]


class ReplyBody(BaseModel):
    """The fields of the request; all of them are needed (RE-02)."""

    model_config = ConfigDict(extra="ignore")

    cookie_id: Needed
    msg_time: Needed
    user_url: Needed
    send_user_id: Needed
    send_user_name: Needed
    item_id: Needed
    send_message: Needed
    chat_id: Needed


class ReplyData(BaseModel):
    """The answer: texts in order, addresses of images where a part is one."""

    send_msg: str
    parts: list[str]
    step: str
    rule_id: str


class ReplyAnswer(BaseModel):
    """The body of every answer (RE-04, X-11)."""

    code: str = "OK"
    message: str = ""
    data: ReplyData
    trace_id: str


def reply_router(servicer: ReplyServicer) -> APIRouter:
    """The routes of the reply-engine."""
    router = APIRouter()

    @router.post("/xianyu/reply", dependencies=[Depends(require(Role.agent))])
    async def reply(body: ReplyBody) -> ReplyAnswer:
        response = await servicer.decide(
            ReplyRequest(
                account_id=body.cookie_id,
                message_time_ms=_milliseconds(body.msg_time),
                user_url=body.user_url,
                send_user_id=body.send_user_id,
                send_user_name=body.send_user_name,
                item_id=body.item_id,
                send_message=body.send_message,
                chat_id=body.chat_id,
            )
        )
        parts = [p.image.url if p.HasField("image") else p.text for p in response.parts]
        data = ReplyData(send_msg="\n".join(parts), parts=parts, step=response.step, rule_id=response.rule_id)
        return ReplyAnswer(data=data, trace_id=trace_id())

    return router


def _milliseconds(text: str) -> int:
    """`msg_time` as Unix milliseconds; the sources send digits or a formatted time, which only dates the
    message."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 18 else 0
