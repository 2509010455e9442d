"""Limits of bargaining, held against what a model says: in its field and in its words.

An offer is a price under the listed one. The floor is the highest of what the seller's floor price and
discounts leave; a discount that was not said is none. What can't be understood may not leave.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal
from functools import cached_property

from frontdesk.ai_proxy.answers.consent import (
    accepts,
    accepts_some_price,
    declines,
    looks_back,
    promises_shipping,
)
from frontdesk.ai_proxy.answers.fold import fold, squeeze
from frontdesk.ai_proxy.answers.policy import Policy
from frontdesk.ai_proxy.answers.price_words import AGAIN, ALONE_AFTER, ASKS_AFTER, EACH, HAGGLE, TOTAL
from frontdesk.ai_proxy.answers.prices import Kind, Price, clauses, find_prices, is_about_price, quantities

UNDER_FLOOR = "under_floor"
ROUNDS_USED = "rounds_used"
PRICE_UNKNOWN = "price_unknown"
UNREADABLE = "unreadable"

_ABSOLUTE = (Kind.MONEY, Kind.BARE)
_NOT_LESS = re.compile(
    r"(?:(?<![要能可好行对差])(?:不能|不会|不可以|不支持|不接受|不给|不打|不做|不参加|不再|不减|不降|不)|没法|无法|没有|谢绝|cannot|can't)"
    r"\s*(?:再|给您|给你|打|给|做|参加|offer|do|give|take)*\s*(?:便宜|减|优惠|少|让|降)?\s*$"
)
_DOUBLE = re.compile(r"不是|并非|不得不|没有不|非不|无不|谁说|没说|难道|吗|么|不能不|不会不|isn't|not that")
_REFUSED_AFTER = re.compile(
    r"\s*(?:折|off)?(?:真的|确实|实在|这个价|的话|的价格?|是|有点|也|就|都|太|肯定|恐怕|可能|我们?|亲|哈|\s)*"
    r"(?:太低|低了|不行|不可以|卖不了|出不了|做不到|做不了|不卖|不出|没法(?:卖|出|给|做)?|不够|亏本?|接受不了|不能接受|不考虑|不能卖"
    r"|(?:is |'s )?(?:way |much |a bit )*too low|(?:is|are|'s) not (?:possible|enough)"
    r"|won't work|doesn't work)"
    r"(?:了|的|哦|呢|哈|呀|啊|噢|喔|亲|for me|for this|sorry|\s)*$"
)
_REFUSED_BEFORE = re.compile(
    r"(?:(?<!能)(?<!可)不能|没法|无法|接受不了|卖不了|不接受|不可能|做不到"
    r"|can't do|cannot do|can't accept|cannot accept"
    r"|can't sell (?:it|this) for|cannot sell (?:it|this) for|can't go down to|cannot go down to)"
    r"\s*(?:按|以|用|降到|做到|给到)?\s*$"
)
_LIMIT_AFTER = re.compile(r"\s*(?:不|以下|以内|之下|below|or less)")
_FEE_BEFORE = re.compile(
    r"(?:运费|邮费|快递费|物流费|shipping)(?:是|大概|大约|约|要|需要|另付|另算|另加|补|为|is|:|\s|[0-9.]+\s*[元块]?(?:到|至|-|~))*$"
)
_FEE_RANGE = re.compile(r"\s*(?:到|至|-|~)\s*[0-9.]+\s*[元块]")
_ONLY = re.compile(r"只|仅|就行|就可以|即可|就够|就好|就能|(?<![a-z])only(?![a-z])|(?<![a-z])just(?![a-z])")


@dataclass(frozen=True, slots=True)
class Room:
    """What may be offered: `price` is the listed one, `floor` the lowest; None is unknown. So many prices as
    `rounds_left` may still be offered; `lowest_offer` was offered already and may be said again."""

    price: Decimal | None
    floor: Decimal | None
    rounds_left: int = 0
    lowest_offer: Decimal | None = None

    @property
    def is_open(self) -> bool:
        """Whether anything under the listed price may be offered."""
        below = self.floor is not None and (self.price is None or self.floor < self.price)
        return below and self.rounds_left > 0

    def next_offer(self) -> Decimal | None:
        """The lowest price that a model is told it may offer now: an equal step each round, the floor in the
        last one, in whole cents; None where nothing may be offered."""
        if not self.is_open or self.price is None or self.floor is None:
            return None
        start = min(self.price, self.lowest_offer or self.price)
        step = start - (start - self.floor) / self.rounds_left
        return max(self.floor, step).quantize(Decimal("0.01"), rounding=ROUND_CEILING)


@dataclass(frozen=True, slots=True)
class Verdict:
    """Why an answer may not leave, empty when it may; and the price it offers, if any."""

    reason: str = ""
    offer: Decimal | None = None


def room_of(policy: Policy, price: Decimal | None, rounds: int, lowest_offer: Decimal | None) -> Room:
    """What the policy allows for an item of `price` after `rounds` offers."""
    floor = policy.floor_price
    if price is not None:
        floors = [policy.floor_price] if policy.floor_price is not None else []
        percent, amount = policy.max_discount_percent, policy.max_discount_amount
        if percent is not None:
            floors.append(price * (100 - percent) / 100)
        if amount is not None:
            floors.append(price - amount)
        if percent is None and amount is None:
            floors.append(price)
        floor = max(floors)
    return Room(price, floor, max(0, policy.max_rounds - rounds), lowest_offer)


def check_offer(
    text: str,
    offered: Decimal | None,
    room: Room,
    buyer_turns: Sequence[str],
    newest: int = 1,
    statements: Sequence[str] = (),
    known: Sequence[str] = (),
) -> Verdict:
    """Whether an answer keeps within `room`.

    `offered` is the model's own field. `buyer_turns` are what the buyer wrote, oldest first, the last
    `newest` of them since the seller spoke. `statements` are the seller's own sentences, whose money may be
    repeated; `known` is what is known of the item, whose bare numbers may be.
    """
    wanted = _wanted(buyer_turns, room.price)
    now = list(buyer_turns[-newest:]) if newest else []
    wanted_now = _wanted(now, room.price)
    talk = bool(wanted) or any(map(_haggles, (text, *buyer_turns)))
    repeats = _Repeats(statements, known)
    lows: list[Decimal] = []
    vague = unknown = own_price = False
    declined = declines(text)
    for view in find_prices(text):
        refused = [price for price in view if _is_refused(price, room.price, wanted)]
        prices = [price for price in view if price not in refused and not _harmless(price, repeats)]
        declined |= bool(refused)
        if not talk:
            prices = [price for price in prices if price.kind is not Kind.BARE or _alone(price)]
        lows += _lowest(prices, room.price)
        kinds = {price.kind for price in prices}
        vague |= bool(kinds & {Kind.VAGUE, Kind.ROUND})
        unknown |= Kind.UNREADABLE in kinds or (room.price is None and bool(kinds & {Kind.FACTOR, Kind.OFF}))
        own_price |= Kind.MONEY in kinds
    if promises_shipping(text) and not any(map(promises_shipping, (*statements, *known))):
        unknown = True
    if wanted and accepts(text, wanted_now, has_own_price=own_price, asked_now=bool(wanted_now)):
        recent = wanted_now and not any(map(looks_back, (text, *now)))
        lows.append(min(wanted_now if recent else wanted))
    elif not wanted and accepts_some_price(text):
        unknown = True
    if asked := _asked(now, room):
        # A price under the floor was just asked for: what neither declines nor says another may mean yes.
        another = any(room.floor is not None and low >= room.floor for low in lows)
        lows += [] if another or declined else [asked]
    lows += _of_each(text, now)
    if offered is not None:
        lows.append(offered)
    return _verdict(lows, offered, room, vague=vague, unknown=unknown)


def _verdict(
    lows: Sequence[Decimal], offered: Decimal | None, room: Room, *, vague: bool, unknown: bool
) -> Verdict:
    low = min(lows, default=None)
    if room.floor is None:
        return Verdict(PRICE_UNKNOWN) if low is not None or vague or unknown else Verdict()
    if unknown or (low is not None and low < room.floor):
        return Verdict(UNDER_FLOOR)
    if room.price is not None and offered is not None and offered > room.price:
        return Verdict(UNREADABLE)
    if low is None or (room.price is not None and low >= room.price):
        if vague and not room.is_open:
            closed = room.price is not None and room.floor >= room.price
            return Verdict(UNDER_FLOOR if closed else ROUNDS_USED)
        return Verdict()
    repeated = room.lowest_offer is not None and low >= room.lowest_offer
    if room.rounds_left <= 0 and not repeated:
        return Verdict(ROUNDS_USED)
    return Verdict(offer=low)


def _haggles(said: str) -> bool:
    folded = fold(said)
    return is_about_price(folded) or bool(HAGGLE.search(folded))


def _asked(turns: Sequence[str], room: Room) -> Decimal | None:
    """The lowest price under the floor that the buyer just asked for, in so many words."""
    if room.floor is None:
        return None
    views = (view for turn in turns for view in find_prices(turn))
    plain = (
        [p for p in view if p.kind is not Kind.BARE or p.pricey or ASKS_AFTER.match(p.after)]
        for view in views
    )
    lows = [low for view in plain for low in _lowest(view, room.price)]
    low = min(lows, default=room.floor)
    return low if low < room.floor else None


def _wanted(turns: Sequence[str], price: Decimal | None) -> list[Decimal]:
    """The prices that a buyer named; nothing at all for one that can't be read."""
    views = [view for turn in turns for view in find_prices(turn)]
    unreadable = any(found.kind is Kind.UNREADABLE for view in views for found in view)
    return [*(low for view in views for low in _lowest(view, price)), *([Decimal(0)] * unreadable)]


def _lowest(prices: Sequence[Price], base: Decimal | None) -> list[Decimal]:
    """The prices said, and what all discounts together make of the listed one."""
    said = [price.value for price in prices if price.kind in _ABSOLUTE]
    less = [price for price in prices if price.kind in (Kind.FACTOR, Kind.OFF) and not _denied(price)]
    changes = [price for price in prices if price.kind is Kind.ROUND]
    results = list(said)
    if base is not None and (less or changes):
        reduced = _reduced(base, less)
        results.append(_rounded(reduced) if changes else reduced)
    if said and any(AGAIN.search(price.before) for price in less):
        results.append(_reduced(min(said), [price for price in less if AGAIN.search(price.before)]))
    return results


def _reduced(base: Decimal, less: Sequence[Price]) -> Decimal:
    for price in less:
        if price.kind is Kind.FACTOR:
            base *= price.value
    return base - sum(price.value for price in less if price.kind is Kind.OFF)


def _rounded(price: Decimal) -> Decimal:
    """A price without its odd change: 188 is 180, 1,234 is 1,200; and a round one is less by a tenth."""
    unit = Decimal(10) ** max(0, price.adjusted() - 1)
    rounded = price // unit * unit
    return rounded if rounded < price else price * Decimal("0.9")


def _denied(price: Price) -> bool:
    return bool(_NOT_LESS.search(price.before)) and not _DOUBLE.search(price.before + price.after)


def _of_each(text: str, asked: Sequence[str]) -> Iterator[Decimal]:
    """What one costs where a price is that of several."""
    everywhere = quantities("\n".join((text, *asked)))
    for clause in clauses(fold(text)):
        counts = quantities(clause)
        if TOTAL.search(clause):
            counts += everywhere
        if counts and not EACH.search(clause):
            said = (price for view in find_prices(clause) for price in view)
            yield from (
                price.value / max(counts) for price in said if price.kind is Kind.MONEY or price.value > 99
            )


def _alone(price: Price) -> bool:
    """Whether a clause has nothing else in it."""
    return not price.before.strip() and bool(ALONE_AFTER.fullmatch(price.after))


def _is_refused(price: Price, base: Decimal | None, wanted: Sequence[Decimal]) -> bool:
    """Whether a number is one that the buyer named, said to refuse it."""
    value = price.value if price.kind in _ABSOLUTE else None
    if price.kind in (Kind.OFF, Kind.FACTOR) and base is not None:
        value = _reduced(base, [price])
    if value not in wanted or _DOUBLE.search(f"{price.before} {price.after}"):
        return False
    before = _REFUSED_BEFORE.search(price.before) and not _LIMIT_AFTER.match(price.after)
    return bool(before or _REFUSED_AFTER.match(price.after))


def _harmless(price: Price, repeats: _Repeats) -> bool:
    """Whether a number is no offer although it is a price: a fee, or the seller's own words."""
    if price.kind not in (*_ABSOLUTE, Kind.OFF) or _ONLY.search(f"{price.before} {price.after}"):
        return False
    fee = price.kind is Kind.MONEY or _FEE_RANGE.match(price.after)
    if fee and _FEE_BEFORE.search(price.before):
        return True
    near = squeeze(price.before)[-3:]
    if price.kind is Kind.BARE:
        return not price.pricey and (near[-2:], price.value) in repeats.of_item
    return len(near) == 3 and (near, price.value) in repeats.of_seller


class _Repeats:
    """Numbers that an answer may repeat behind the same characters as in the seller's texts."""

    def __init__(self, statements: Sequence[str], known: Sequence[str]) -> None:
        self._statements = statements
        self._known = known

    @cached_property
    def of_seller(self) -> set[tuple[str, Decimal]]:
        """Of sentences that a manager wrote: three characters before."""
        return _numbers(self._statements, 3)

    @cached_property
    def of_item(self) -> set[tuple[str, Decimal]]:
        """Of everything known of the item: two characters before."""
        return _numbers(self._known, 2)


def _numbers(texts: Sequence[str], characters: int) -> set[tuple[str, Decimal]]:
    found = (price for text in texts for view in find_prices(text) for price in view)
    numbers = ((squeeze(price.before)[-characters:], price.value) for price in found if price.value)
    return {(near, value) for near, value in numbers if near}
