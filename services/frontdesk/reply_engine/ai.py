"""The AI step: a call to ai-proxy, and never a reason for a buyer to wait in vain.

While nobody answers for ai-proxy, or it does not answer in time, the step is skipped and the decision's trace
says so; the chain goes on with the default reply.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import grpc
import grpc.aio

from frontdesk.api.ai.v1 import ai_service_pb2
from frontdesk.api.ai.v1.ai_service_pb2 import AnswerRequest, Item, Turn
from frontdesk.api.ai.v1.ai_service_pb2_grpc import AiServiceStub
from frontdesk.reply_engine.decide import AiOutcome, AiTurn


class Ai:
    """Asks ai-proxy for answers, at most `limit` at a time, each within `seconds`."""

    def __init__(self, stub: AiServiceStub, seconds: float, limit: int = 64) -> None:
        self._stub = stub
        self._seconds = seconds
        self._slots = asyncio.Semaphore(limit)

    def begin(self, turn: AiTurn, turns: Sequence[tuple[str, str]]) -> asyncio.Task[AiOutcome]:
        """Start one call; awaiting the task never raises an error of the model or the fleet."""
        return asyncio.ensure_future(self._complete(turn, turns))

    async def _complete(self, turn: AiTurn, turns: Sequence[tuple[str, str]]) -> AiOutcome:
        request = AnswerRequest(
            organization_id=turn.organization_id,
            account_id=turn.account_id,
            chat_id=turn.chat_id,
            item=Item(item_id=turn.item_id),
            turns=[
                Turn(
                    author=ai_service_pb2.AUTHOR_BUYER if author == "buyer" else ai_service_pb2.AUTHOR_SELLER,
                    text=text,
                )
                for author, text in turns
            ],
        )
        async with self._slots:
            try:
                response = await self._stub.Answer(request, timeout=self._seconds)
            except grpc.aio.AioRpcError as error:
                return AiOutcome(turn, reason=f"unavailable: {error.code().name}")
        if response.needs_person or not response.text:
            return AiOutcome(turn, reason="needs a person", needs_person=True)
        return AiOutcome(turn, text=response.text)
