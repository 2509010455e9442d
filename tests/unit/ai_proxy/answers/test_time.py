"""What strangers write is read in time that grows with its length only: one buyer holds up no other."""

from __future__ import annotations

import time
from decimal import Decimal

import pytest

from frontdesk.ai_proxy.answers.bargain import Room, check_offer
from frontdesk.ai_proxy.answers.filter import find_word, has_contact
from frontdesk.ai_proxy.answers.fold import bounded, fold
from frontdesk.ai_proxy.answers.intent import Intent, guess
from frontdesk.ai_proxy.answers.prices import find_prices

LENGTH = 12_000


@pytest.mark.parametrize(
    "piece", ["|", "l", "viii", "a.", "1", "1,000,", "5-", "a@", "+1 ", "运费", "五", " "]
)
def test_reading_takes_linear_time(piece: str) -> None:
    """Quadratic reading of a text as long as this takes several seconds."""
    text = piece * (LENGTH // len(piece)) + "x"
    started = time.process_time()
    find_prices(text)
    guess([text])
    has_contact(text)
    find_word(text, ("转人工", "a b", "x1"))
    assert time.process_time() - started < 1.5


@pytest.mark.parametrize("piece", ["a.", "五", "a@", "便宜点"])
def test_an_intent_is_guessed_of_the_newest_words(piece: str) -> None:
    """A buyer's twenty longest messages hold up nobody, and what was said last counts."""
    turns = [piece * (2000 // len(piece))] * 20
    started = time.process_time()
    for _ in range(20):
        guess(turns)
    assert time.process_time() - started < 1
    assert guess([*turns, "嗯" * 1000 + "支持退货吗"]) is Intent.AFTER_SALE


def test_characters_that_become_sentences_are_not_read_at_length() -> None:
    """A buyer's twenty longest messages are read in about the time that plain ones take."""
    assert bounded("便宜点" * 1000, 2000) == ("便宜点" * 1000)[:2000]
    turn = bounded("\ufdfa" * 2000, 2000)
    assert len(fold(turn)) <= 2000
    started = time.process_time()
    check_offer("最低150元", None, Room(Decimal(200), Decimal(150), 1), [turn] * 20, 20)
    assert time.process_time() - started < 1.5
