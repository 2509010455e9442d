"""Amounts of money and of tokens, exact: decimal text outside, `Decimal` here, whole pico-units in sums.

A float would lose some, and a sum in SQL over decimal text would go through one. So what a call cost is kept
as an integer of 10^-12 of the currency's unit: a price of a million tokens with up to six decimals loses
nothing, anything finer is rounded to it, once, before it is counted anywhere.
"""

from __future__ import annotations

import re
from decimal import ROUND_HALF_EVEN, Context, Decimal

from frontdesk.kit.errors import InvalidArgument

PLACES = 12
PICO = Decimal(1).scaleb(-PLACES)
# Less than this fits, with all places, into the 28 digits that Decimal adds without rounding.
MOST = Decimal(10) ** 15
# A call that cost more than a column of 64 bits holds is none.
MOST_COST = Decimal(2**63 - 1).scaleb(-PLACES)

_AMOUNT = re.compile(r"[0-9]{1,15}(\.[0-9]{1,12})?")
_WIDE = Context(prec=80, rounding=ROUND_HALF_EVEN)


def parse_amount(text: str, field: str) -> Decimal:
    """An amount as a person writes it, zero or more; raises InvalidArgument naming `field`."""
    if not _AMOUNT.fullmatch(text):
        raise InvalidArgument(
            field, f"must be a decimal of at most 15 digits and {PLACES} decimals, e.g. 12.50"
        )
    return Decimal(text)


def rounded(amount: Decimal) -> Decimal:
    """`amount` with at most `PLACES` decimals, and less than `MOST`: what is beyond fits no budget anyway."""
    if not amount.is_finite() or amount >= MOST:
        return MOST
    return amount.quantize(PICO, context=_WIDE)


def amount_text(amount: Decimal) -> str:
    """Decimal text without an exponent and without zeros at its end."""
    text = f"{amount:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def to_pico(amount: Decimal) -> int:
    """Whole 10^-12 of a unit."""
    return int(_WIDE.scaleb(rounded(amount), PLACES))


def from_pico(pico: int) -> Decimal:
    """What `to_pico` made an integer of, or a sum of such."""
    return _WIDE.scaleb(Decimal(pico), -PLACES)
