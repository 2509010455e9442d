"""Amounts are exact."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from frontdesk.ai_proxy.model import Price, Usage
from frontdesk.ai_proxy.money import MOST, amount_text, from_pico, parse_amount, rounded, to_pico
from frontdesk.kit.errors import InvalidArgument

AMOUNTS = st.decimals(min_value=0, max_value=10**15 - 1, places=12)


@given(AMOUNTS)
def test_text_and_back(amount: Decimal) -> None:
    """What is written is read again as it was, without an exponent."""
    text = amount_text(amount)
    assert parse_amount(text, "x") == amount
    assert "E" not in text
    assert text == "0" or not text.endswith((".", "0")) or "." not in text


@given(st.lists(st.decimals(min_value=0, max_value=1000, places=12), max_size=50))
def test_a_sum_of_whole_units_is_the_sum(amounts: list[Decimal]) -> None:
    """Integers of 10^-12 lose nothing."""
    assert from_pico(sum(to_pico(amount) for amount in amounts)) == sum(amounts)


@pytest.mark.parametrize(
    "text",
    *[
        [
            "",
            " 1",
            "1 ",
            "-1",
            "+1",
            "1e5",
            "NaN",
            "Infinity",
            "1,5",
            ".5",
            "5.",
            "１",
            "0x1",
            "1_000",
            "1" * 16,
            "0." + "1" * 13,
        ]
    ],
)
def test_what_is_no_amount_is_said_so(text: str) -> None:
    """Only plain decimals, zero or more, with an end."""
    with pytest.raises(InvalidArgument) as caught:
        parse_amount(text, "budget.limit")
    assert caught.value.field == "budget.limit"


def test_a_price_with_six_decimals_loses_nothing() -> None:
    """One token of a model at 0.123457 a million costs exactly that, and a third is rounded once."""
    cost = Price(prompt=Decimal("0.123457"), currency="USD").cost(Usage(prompt_tokens=1))
    assert rounded(cost) == cost == Decimal("0.000000123457")
    assert amount_text(rounded(Decimal(1) / 3)) == "0.333333333333"


def test_what_is_beyond_every_limit_is_cut() -> None:
    """An absurd price must not break a budget: it fits into none."""
    assert rounded(Decimal(10) ** 40) == MOST
    assert rounded(Decimal("NaN")) == MOST
