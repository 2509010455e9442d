"""What strangers write is read in time that grows with its length only: one buyer holds up no other."""

from __future__ import annotations

import time

import pytest

from frontdesk.ai_proxy.answers.filter import find_word, has_contact
from frontdesk.ai_proxy.answers.intent import guess
from frontdesk.ai_proxy.answers.prices import find_prices

LENGTH = 12_000


@pytest.mark.parametrize("piece", ["|", "l", "viii", "a.", "1", "1,000,", "5-", "a@", "+1 ", "运费", "五", " "])
def test_reading_takes_linear_time(piece: str) -> None:
    """Quadratic reading of a text as long as this takes several seconds."""
    text = piece * (LENGTH // len(piece)) + "x"
    started = time.process_time()
    find_prices(text)
    guess([text])
    has_contact(text)
    find_word(text, ("转人工", "a b", "x1"))
    assert time.process_time() - started < 1.5
