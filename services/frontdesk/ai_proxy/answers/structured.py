"""A model's result: one JSON object, however it is wrapped."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from frontdesk.ai_proxy.answers.intent import Intent
from frontdesk.ai_proxy.answers.prices import Kind, find_prices

MOST_STARTS = 20
# No price is longer, or more.
MOST_PRICE_CHARS = 40
MOST_PRICE = Decimal(10) ** 12
_NO_PRICE = ("", "none", "null", "n/a", "na", "无", "没有", "-", "undefined")


class UnreadableResult(ValueError):
    """What a model said is no result."""


@dataclass(frozen=True, slots=True)
class Result:
    """What a model answers. `intent` is None when it named none of ours; without a number for its confidence
    it has none."""

    text: str
    intent: Intent | None
    offered_price: Decimal | None
    confidence: float
    needs_person: bool


def read_result(answer: str) -> Result:
    """The result in a model's answer; code fences, and words before and after the object, are passed over.

    Raises UnreadableResult when there is no object with a text, or its price is no price.
    """
    body = next(_objects(answer), None)
    if body is None:
        raise UnreadableResult("no JSON object with a text in it")
    text = body["text"]
    return Result(
        text=text.strip() if isinstance(text, str) else "",
        intent=_intent(body.get("intent")),
        offered_price=_price(body.get("offered_price")),
        confidence=_confidence(body.get("confidence")),
        needs_person=_yes(body.get("needs_person")),
    )


def _objects(answer: str) -> Iterator[dict[str, Any]]:
    decoder = json.JSONDecoder(strict=False)
    for number, start in enumerate(re.finditer(r"\{", answer)):
        if number >= MOST_STARTS:
            return
        try:
            value, _end = decoder.raw_decode(answer, start.start())
        except (ValueError, RecursionError):
            continue
        if isinstance(value, dict) and isinstance(value.get("text"), str | None) and "text" in value:
            yield value


def _intent(value: object) -> Intent | None:
    name = value.strip().lower().replace("-", "_").replace(" ", "_") if isinstance(value, str) else ""
    return Intent(name) if name in set(Intent) else None


def _price(value: object) -> Decimal | None:
    if value is None or isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        if (isinstance(value, float) and not math.isfinite(value)) or not -MOST_PRICE < value < MOST_PRICE:
            raise UnreadableResult("its price is no number")
        return Decimal(str(value))
    if not isinstance(value, str) or len(value) > MOST_PRICE_CHARS:
        raise UnreadableResult("its price is no number")
    if value.strip().lower() in _NO_PRICE:
        return None
    prices = [price for view in find_prices(value) for price in view]
    if not prices or any(price.kind not in (Kind.MONEY, Kind.BARE) for price in prices):
        raise UnreadableResult("its price is no price")
    lowest = min(price.value for price in prices)
    if lowest >= MOST_PRICE:
        raise UnreadableResult("its price is no price")
    return -lowest if value.strip().startswith("-") else lowest


def _confidence(value: object) -> float:
    try:
        number = float(value) if isinstance(value, int | float | str) else 0.0
    except (ValueError, OverflowError):
        return 0.0
    if not math.isfinite(number) or number < 0:
        return 0.0
    return number if number <= 1 else min(number / 100, 1.0)


def _yes(value: object) -> bool:
    return value.strip().lower() in ("true", "yes", "1", "是") if isinstance(value, str) else bool(value)
