"""Results as models write them."""

from __future__ import annotations

import time
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from frontdesk.ai_proxy.answers.intent import Intent
from frontdesk.ai_proxy.answers.structured import Result, UnreadableResult, read_result

PLAIN = '{"text":"在的","intent":"other","offered_price":null,"confidence":0.9,"needs_person":false}'


@pytest.mark.parametrize(
    "answer",
    [PLAIN, f"```json\n{PLAIN}\n```", f"Here you are: {PLAIN} Enjoy!", f"{{no}} {PLAIN}", f"{{}}{PLAIN}"],
)
def test_wrappings_are_passed_over(answer: str) -> None:
    """Fences, words around the object and things that only look like one."""
    assert read_result(answer) == Result("在的", Intent.OTHER, None, 0.9, needs_person=False)


@pytest.mark.parametrize(
    ("value", "price"),
    [
        *((nothing, None) for nothing in ("null", '""', '"无"')),
        *((price, price) for price in ("180", "179.5", "0", "-5")),
        ('"180"', "180"),
        ('"¥180.00"', "180"),
        ('"一百八"', "180"),
        ('"-5"', "-5"),
        ('"180-190"', "180"),
    ],
)
def test_prices_are_read(value: str, price: str | None) -> None:
    """Numbers, texts, none; the lowest of several."""
    result = read_result(f'{{"text":"x","offered_price":{value}}}')
    assert result.offered_price == (None if price is None else Decimal(price))


@pytest.mark.parametrize(
    "answer",
    [
        *("", "在的", "{}", '{"text":', "[1]", '{"reply":"x"}', '{"text":5}', "{" * 5000),
        *(
            f'{{"text":"x","offered_price":{price}}}'
            for price in ('"八折"', '"cheap"', "[1]", "NaN", "Infinity", "9" * 400, "1e300", f'"{"9" * 30}"')
        ),
    ],
)
def test_what_is_no_result(answer: str) -> None:
    """No object, no text, and a price that is none."""
    with pytest.raises(UnreadableResult):
        read_result(answer)


@pytest.mark.parametrize(
    ("value", "confidence"),
    [
        *(("0.7", 0.7), ("1", 1.0), ("85", 0.85), ('"0.6"', 0.6), ("1e9", 1.0)),
        *((nothing, 0.0) for nothing in ('"high"', "null", "-1", "NaN", "{}", "9" * 400)),
    ],
)
def test_confidence_is_between_0_and_1(value: str, confidence: float) -> None:
    """Percents are taken for what they mean; what is no number is none."""
    assert read_result(f'{{"text":"x","confidence":{value}}}').confidence == confidence


def test_a_long_price_is_not_looked_into() -> None:
    """It holds up nobody: a provider may send some megabytes of it."""
    started = time.process_time()
    with pytest.raises(UnreadableResult):
        read_result(f'{{"text":"x","offered_price":"{"1 2,5 " * 500_000}"}}')
    assert time.process_time() - started < 0.5


def test_what_is_left_out() -> None:
    """A text alone is a result without intent, price or confidence."""
    assert read_result('{"text":" x "}') == Result("x", None, None, 0.0, needs_person=False)
    assert read_result('{"text":null,"needs_person":"true"}') == Result(
        "", None, None, 0.0, needs_person=True
    )
    assert read_result('{"text":"x","intent":"After-Sale"}').intent is Intent.AFTER_SALE
    assert read_result('{"text":"x","intent":"buy"}').intent is None


@given(st.text())
def test_any_answer_is_read_or_refused(answer: str) -> None:
    """Nothing a model says raises anything else."""
    for text in (answer, f'{{"text":"x","offered_price":"{answer}"}}'):
        try:
            read_result(text)
        except UnreadableResult:
            continue
