"""Prices in a text: money, discounts, and numbers that nothing shows to be something else.

A number is a price unless a unit, a label or its shape says otherwise, as an attacker picks the disguise.
What comes back is read downwards: of two readings the lower one. Chinese and English, on folded text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from itertools import zip_longest

from frontdesk.ai_proxy.answers import price_words as words
from frontdesk.ai_proxy.answers.fold import fold
from frontdesk.ai_proxy.answers.numerals import Number, numbers

MOST_PIECES = 1_000
MOST_NUMBERS = 60
NEAR = 40  # characters of a clause that are looked at beside a number


class Kind(StrEnum):
    """What a price says."""

    MONEY = "money"  # this many yuan, said so
    BARE = "bare"  # a number alone that may be a price
    FACTOR = "factor"  # this share of the price
    OFF = "off"  # this many yuan less
    ROUND = "round"  # the odd change is left off
    VAGUE = "vague"  # less, but not how much
    UNREADABLE = "unreadable"  # a currency's sign with a number that can't be read


@dataclass(frozen=True, slots=True)
class Price:
    """A price found, and what stands near it in its clause, folded. `pricey`: the clause talks of money."""

    kind: Kind
    value: Decimal
    before: str
    after: str
    pricey: bool


def find_prices(text: str) -> list[list[Price]]:
    """The prices of a text, once for each way to read it: as it stands, and with gaps inside words closed.

    Of a text with more than MOST_NUMBERS numbers the rest is one price that can't be read.
    """
    folded = _mend_digits(fold(text))
    closed = words.GAP.sub("", words.SPELLED.sub(lambda match: re.sub(r"\W+", "", match[0]), folded))
    views = [folded] if closed == folded else [folded, closed]
    return [list(_in_view(view)) for view in views]


def _in_view(view: str) -> Iterator[Price]:
    left = MOST_NUMBERS
    for clause in clauses(view):
        found = numbers(clause)
        yield from _in_clause(clause, found[: max(0, left)])
        left -= len(found)
        if left < 0:
            yield Price(Kind.UNREADABLE, Decimal(0), "", "", pricey=True)
            return


def clauses(folded: str) -> list[str]:
    """The clauses of a folded text; points and commas inside numbers don't end one."""
    return [clause for clause in words.CLAUSE_END.split(folded) if clause.strip()]


def quantities(text: str) -> list[Decimal]:
    """How many things of a kind a text speaks of, where it is more than one."""
    folded = fold(text)
    counted = (number for number in numbers(folded) if words.PIECES_AFTER.match(folded, number.end))
    return [number.value for number in counted if 2 <= number.value <= MOST_PIECES]


def is_about_price(folded: str) -> bool:
    """Whether a folded clause talks of buying, selling or money."""
    return bool(words.PRICEY.search(folded))


def _mend_digits(folded: str) -> str:
    """Letters that stand in for digits: 5o元, l00."""
    folded = re.sub(r"(?<=[0-9])o+(?![a-z])", lambda match: "0" * len(match[0]), folded)
    return re.sub(r"(?<![a-z0-9|])[l|]+(?=[0-9o]*[0-9])", lambda match: "1" * len(match[0]), folded)


def _in_clause(clause: str, found: Sequence[Number]) -> Iterator[Price]:
    pricey = is_about_price(clause)
    yield from _phrases(clause, pricey)
    masked = [match.span() for pattern in words.MASKS for match in pattern.finditer(clause)]
    end = 0
    for number, following in zip_longest(found, found[1:]):
        if number.start < end or any(a <= number.start and number.end <= b for a, b in masked):
            continue
        price, end = _classify(_Place(clause, number, following, pricey))
        if price is not None:
            yield price


def _phrases(clause: str, pricey: bool) -> Iterator[Price]:
    """Prices without a number."""
    for kind, value, pattern in words.PHRASES:
        for match in pattern.finditer(clause):
            before = clause[max(0, match.start() - NEAR) : match.start()]
            yield Price(Kind(kind), value, before, clause[match.end() : match.end() + NEAR], pricey)


@dataclass(frozen=True, slots=True)
class _Place:
    """A number in its clause, and the number after it."""

    clause: str
    number: Number
    following: Number | None
    pricey: bool

    @property
    def before(self) -> str:
        return self.clause[max(0, self.number.start - NEAR) : self.number.start]

    def after(self, end: int | None = None) -> str:
        end = self.number.end if end is None else end
        return self.clause[end : end + NEAR]

    def price(self, kind: Kind, value: Decimal, end: int | None = None) -> Price:
        return Price(kind, value, self.before, self.after(end), self.pricey)


def _classify(place: _Place) -> tuple[Price | None, int]:
    """What a number is, None for no price, and where it ends with what belongs to it."""
    number, following = place.number, place.following
    share = _share(place)
    if share is not None:
        return share
    if words.FULL_BEFORE.search(place.before):
        return None, number.end
    marked = words.MONEY_AFTER.match(place.after())
    if not marked and not words.MONEY_BEFORE.search(place.before):
        return _unmarked(place), number.end
    value, end = number.value, number.end + (marked.end() if marked else 0)
    if marked and marked["small"]:
        value /= 10
    elif marked and marked["cents"]:
        value /= 100
    elif following is not None and marked and following.start == end and following.value < 10:
        value, end = value + following.value / 10, following.end  # 五块五
    less = words.LESS_BEFORE.search(place.before) or words.LESS_AFTER.match(place.after(end))
    return place.price(Kind.OFF if less else Kind.MONEY, value, end), end


def _share(place: _Place) -> tuple[Price | None, int] | None:
    """A share of the price: 三分之一, 8折, 10%, 七成; None when the number is none."""
    number, following, after = place.number, place.following, place.after()
    if (
        following is not None
        and place.clause[number.end : following.start].strip() == "分之"
        and number.value
    ):
        if number.value == 100:
            return _percent(place, following.value, following.end), following.end
        share = place.price(Kind.FACTOR, following.value / number.value, following.end)
        return (share if place.pricey else None), following.end
    if words.DISCOUNT_UNIT.match(after):
        tenths = number.value / (100 if number.value >= 10 else 10)
        return place.price(Kind.FACTOR, tenths), number.end
    if match := words.PERCENT.match(after):
        return _percent(place, number.value, number.end + match.end()), number.end
    if words.TENTHS.match(after):
        tenths = number.value / 10
        less = words.LESS_BEFORE.search(place.before)
        return place.price(Kind.FACTOR, 1 - tenths if less else tenths), number.end
    return None


def _percent(place: _Place, value: Decimal, end: int) -> Price | None:
    after = place.after(end)
    if words.LESS_BEFORE.search(place.before) or words.LESS_AFTER.match(after):
        share = 1 - value / 100
    elif not place.before.strip() and words.ALONE_AFTER.fullmatch(after):
        share = value / 100
    elif not place.pricey:
        return None
    else:
        share = value / 100 if words.OF_AFTER.match(after) else min(value, 100 - value) / 100
    return place.price(Kind.FACTOR, share, end)


def _unmarked(place: _Place) -> Price | None:
    """A number with no sign of money."""
    number, before, after = place.number, place.before, place.after()
    bare = place.price(Kind.BARE, number.value)
    if words.UNIT_AFTER.match(after) or words.LABEL_BEFORE.search(before):
        return None
    single = number.chinese and number.end - number.start == 1
    if words.LESS_BEFORE.search(before) or words.LESS_AFTER.match(after):
        # 少一个, 便宜一点: no yuan.
        said = not single or (words.LESS_STRONG.search(before) and not words.COMPOUND_AFTER.match(after))
        notes = 100 if after.startswith("张") else 1  # of a hundred yuan
        return place.price(Kind.OFF, number.value * notes) if said or notes > 1 else None
    alone = words.ALONE_AFTER.fullmatch(after) and not before.strip()
    if measure := words.MEASURE_AFTER.match(after):
        slang = measure[0].strip() in words.SLANG_UNITS
        only = slang and not before.strip() and words.ALONE_AFTER.fullmatch(after[measure.end() :])
        return bare if only or (place.pricey and (slang or number.value > 9)) else None
    asked = words.ASKED_BEFORE.search(before) and not words.COMPOUND_AFTER.match(after)
    if single:
        return bare if alone or asked else None
    if number.chinese and not (alone or asked or place.pricey):
        idiom = words.IDIOM.match(place.clause, number.start)
        if idiom and idiom.end() >= number.end:
            return None
    first = place.clause[number.start]
    english = first.isascii() and first.isalpha() and number.value < 20
    named = words.MODEL_BEFORE.search(before) or words.LETTERS_AFTER.match(after)
    if english or named:  # "one", "two"; iPhone 13, RTX3080
        return bare if place.pricey or ((alone or asked) and not named) else None
    return bare
