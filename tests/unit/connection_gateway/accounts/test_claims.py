"""The last question before a write."""

from __future__ import annotations

from typing import cast

import grpc
import grpc.aio
import pytest

from frontdesk.api.replies.v1 import reply_service_pb2 as pb
from frontdesk.api.replies.v1.reply_service_pb2_grpc import ReplyServiceStub
from frontdesk.connection_gateway.accounts.claims import Claims
from frontdesk.kit.clock import SystemClock
from frontdesk.kit.errors import Unavailable


class Engine:
    """A reply-engine that drops one answer, or refuses to say anything."""

    def __init__(self, refuses: grpc.StatusCode | None = None) -> None:
        self._refuses = refuses

    async def Claim(self, request: pb.ClaimRequest, timeout: float) -> pb.ClaimResponse:
        if self._refuses is not None:
            nothing = grpc.aio.Metadata()
            raise grpc.aio.AioRpcError(self._refuses, nothing, nothing, "no")
        drop = pb.ClaimVerdict(outgoing_id="b", verdict=pb.VERDICT_DROP, reason="paused")
        return pb.ClaimResponse(verdicts=[drop])


def claims(engine: Engine) -> Claims:
    return Claims(cast("ReplyServiceStub", engine), SystemClock())


async def test_each_answer_gets_its_verdict() -> None:
    """A reason not to send, or nothing."""
    asking = claims(Engine())
    assert [await asking.ask(outgoing_id) for outgoing_id in ("a", "b")] == ["", "paused"]
    await asking.close()


@pytest.mark.parametrize("code", [grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.UNAVAILABLE])
async def test_a_refused_question_buries_no_answer(code: grpc.StatusCode) -> None:
    """Whatever is wrong with the question, the answers wait: the error is one that is tried again."""
    asking = claims(Engine(code))
    with pytest.raises(Unavailable):
        await asking.ask("a")
    await asking.close()
