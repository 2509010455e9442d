"""What ai-proxy says, and what becomes of it."""

from __future__ import annotations

import pytest

from frontdesk.api.ai.v1 import ai_service_pb2 as pb
from frontdesk.api.ai.v1.chat_pb2 import Outcome
from frontdesk.reply_engine.ai import outcome_of
from frontdesk.reply_engine.model import AiTurn

TURN = AiTurn("a/c", "token", "org", "a", "c", "", "在吗")


def test_an_answer_with_an_offer() -> None:
    """Text, intent, offer and who answered; a NUL, which PostgreSQL stores in no text, is left out."""
    response = pb.AnswerResponse(
        text=" 最低\x0080元\n",
        intent=pb.INTENT_PRICE,
        offered_price="80.00",
        outcome=Outcome(provider="p", model="m"),
    )
    outcome = outcome_of(TURN, response)
    assert (outcome.text, outcome.intent, outcome.offered_price) == ("最低80元", "price", "80.00")
    assert (outcome.by, outcome.needs_person, outcome.reason) == ("p/m", False, "")


@pytest.mark.parametrize(
    ("response", "reason"),
    [
        (pb.AnswerResponse(text="", offered_price="1"), "no_answer"),
        (pb.AnswerResponse(text="\x00 "), "no_answer"),
        (pb.AnswerResponse(text="长" * 2001), "unreadable"),
        (pb.AnswerResponse(text="好", offered_price="80 yuan"), "unreadable"),
        (pb.AnswerResponse(text="好", offered_price="NaN"), "unreadable"),
        (pb.AnswerResponse(text="好", offered_price="1" * 41), "unreadable"),
        (pb.AnswerResponse(text="好", needs_person=True, reason="contact", offered_price="1"), "contact"),
        (pb.AnswerResponse(needs_person=True), "asked"),
    ],
    ids=["empty", "blank", "long", "words", "nan", "endless", "contact", "no-reason"],
)
def test_what_can_not_leave_needs_a_person(response: pb.AnswerResponse, reason: str) -> None:
    """No text and no offer of it is kept."""
    outcome = outcome_of(TURN, response)
    assert (outcome.needs_person, outcome.reason) == (True, reason)
    assert (outcome.text, outcome.offered_price) == ("", "")
