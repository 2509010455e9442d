"""The AI step: one question to ai-proxy, and never a reason for a buyer to wait in vain.

A question is the buyer's words with what was said before, the item's facts and what was offered so far; all
that is read when the question's turn comes, with no lock held. From its beginning it has `seconds`: for a
free place, for the facts, for the call, which carries what is left as its deadline to ai-proxy and on to the
model. A call that ends UNAVAILABLE is made once more: no replica of ai-proxy took it, its replica stopped, or
lacked its own database or NATS, and another may do better. Where the error names a provider, ai-proxy asked
those that there are, and is not asked again. Whatever goes wrong is an outcome with a reason; the chain goes
on with what follows the AI.
"""

from __future__ import annotations

import asyncio
import logging
from decimal import Decimal, InvalidOperation

import grpc
import grpc.aio

from frontdesk.api.ai.v1 import ai_service_pb2 as pb
from frontdesk.api.ai.v1.ai_service_pb2_grpc import AiServiceStub
from frontdesk.kit.clock import Clock
from frontdesk.kit.database import Database
from frontdesk.kit.errors import FrontdeskError
from frontdesk.kit.rpc.status import from_rpc_error
from frontdesk.reply_engine.conversation import read_conversation
from frontdesk.reply_engine.facts import FactSource
from frontdesk.reply_engine.model import AiOutcome, AiTurn
from frontdesk.reply_engine.rules.model import LIMITS
from frontdesk.reply_engine.traces import ai_trace

log = logging.getLogger(__name__)

INTENTS = {
    pb.INTENT_PRICE: "price",
    pb.INTENT_TECHNICAL: "technical",
    pb.INTENT_AFTER_SALE: "after_sale",
    pb.INTENT_OTHER: "other",
}
NAME_LENGTH = 200
PRICE_LENGTH = 40
AGAIN_AFTER_S = 0.2


class Ai:
    """Asks ai-proxy, at most `parallel` questions at once, each within `seconds`.

    `history` is how many messages a question has, with the one to be answered.
    """

    def __init__(
        self,
        stub: AiServiceStub,
        database: Database,
        facts: FactSource,
        clock: Clock,
        *,
        seconds: float,
        parallel: int = 64,
        history: int = 20,
    ) -> None:
        self._stub = stub
        self._database = database
        self._facts = facts
        self._clock = clock
        self._seconds = seconds
        self._history = history
        self._slots = asyncio.Semaphore(parallel)

    async def ask(self, turn: AiTurn) -> AiOutcome:
        """Ask one question; raises no error of the model, the fleet or the database."""
        until = self._clock.monotonic() + self._seconds
        try:
            async with asyncio.timeout(self._seconds):
                await self._slots.acquire()
        except TimeoutError:
            return AiOutcome(turn, reason="busy")
        try:
            with ai_trace(turn.traceparent):
                return await self._ask(turn, until)
        except FrontdeskError as error:
            log.warning("an answer goes without the AI: %s", error)
            return AiOutcome(turn, reason=error.code.lower())
        finally:
            self._slots.release()

    async def _ask(self, turn: AiTurn, until: float) -> AiOutcome:
        try:
            async with asyncio.timeout(until - self._clock.monotonic()):
                request = await self._request(turn)
        except TimeoutError:
            return AiOutcome(turn, reason="deadline_exceeded")
        for again in (True, False):
            left = until - self._clock.monotonic()
            if left <= 0:
                break
            try:
                return outcome_of(turn, await self._stub.Answer(request, timeout=left))
            except grpc.aio.AioRpcError as error:
                code = error.code()
                left = until - self._clock.monotonic()
                asked = "provider" in from_rpc_error(error).facts
                lost = code is grpc.StatusCode.UNAVAILABLE and not asked
                if again and lost and left > AGAIN_AFTER_S:
                    await self._clock.sleep(AGAIN_AFTER_S)
                    continue
                return AiOutcome(turn, reason=code.name.lower())
        return AiOutcome(turn, reason="deadline_exceeded")

    async def _request(self, turn: AiTurn) -> pb.AnswerRequest:
        place = (turn.account_id, turn.item_id)
        facts = (await self._facts.find([place]))[place]
        async with self._database.read() as connection:
            conversation = await read_conversation(connection, turn, self._history - 1)
        turns = [
            pb.Turn(author=pb.AUTHOR_BUYER if is_buyer else pb.AUTHOR_SELLER, text=text)
            for is_buyer, text in conversation.turns
        ]
        return pb.AnswerRequest(
            organization_id=turn.organization_id,
            account_id=turn.account_id,
            chat_id=turn.chat_id,
            item=pb.Item(
                item_id=turn.item_id,
                title=facts.item_title,
                price=facts.item_price,
                description=facts.item_description,
            ),
            turns=[*turns, pb.Turn(author=pb.AUTHOR_BUYER, text=turn.text)],
            bargain=pb.Bargain(rounds=conversation.rounds, lowest_offer=conversation.lowest_offer),
        )


def outcome_of(turn: AiTurn, response: pb.AnswerResponse) -> AiOutcome:
    """What ai-proxy said; an answer that can't be sent or stored as it is needs a person."""
    text = response.text.replace("\x00", "").strip()
    reason, reason_text = response.reason[:NAME_LENGTH], response.reason_text[: LIMITS.text_length]
    if not response.needs_person:
        reason, reason_text = _problem(text, response.offered_price)
    needs_person = response.needs_person or bool(reason)
    return AiOutcome(
        turn,
        text="" if needs_person else text,
        reason=(reason or "asked") if needs_person else "",
        reason_text=reason_text,
        needs_person=needs_person,
        intent=INTENTS.get(response.intent, ""),
        offered_price="" if needs_person else response.offered_price,
        provider=response.outcome.provider[:NAME_LENGTH],
        model=response.outcome.model[:NAME_LENGTH],
    )


def _problem(text: str, price: str) -> tuple[str, str]:
    if not text:
        return "no_answer", "The AI said nothing."
    if len(text) > LIMITS.text_length:
        return "unreadable", "The AI's answer is too long for a message."
    try:
        readable = not price or (len(price) <= PRICE_LENGTH and Decimal(price).is_finite())
    except InvalidOperation:
        readable = False
    return ("", "") if readable else ("unreadable", "The AI's offer is no price.")
