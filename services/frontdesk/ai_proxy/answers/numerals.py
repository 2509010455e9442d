"""Numbers in folded text, however they are written: 50, 1,280.5, 3k, 1.2w, 五十, 一百二, 3百5, fifty.

Where a writing can be read in two ways, it is read as the smaller number: who guards a floor errs downwards.
"""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass
from decimal import Decimal

_DIGITS = {char: value for value, char in enumerate("零一二三四五六七八九")}
_DIGITS |= {char: value for value, char in enumerate("零壹贰叁肆伍陆柒捌玖")}
_DIGITS |= {"两": 2, "俩": 2, "仨": 3, "幺": 1, "弌": 1, "弍": 2, "弎": 3}
_SCALES = {
    "十": 10,
    "拾": 10,
    "百": 100,
    "佰": 100,
    "千": 1000,
    "仟": 1000,
    "k": 1000,
    "万": 10_000,
    "w": 10_000,
}
_TENS = {"廿": 20, "卅": 30}
CHINESE_DIGITS = "".join(_DIGITS)
CHINESE = CHINESE_DIGITS + "十拾百佰千仟万廿卅"

_ENGLISH = {
    **{"zero": 0, "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8},
    **{"nine": 9, "ten": 10, "eleven": 11, "twelve": 12, "thirteen": 13, "fourteen": 14, "fifteen": 15},
    **{"sixteen": 16, "seventeen": 17, "eighteen": 18, "nineteen": 19, "twenty": 20, "thirty": 30},
    **{"forty": 40, "fourty": 40, "fifty": 50, "sixty": 60, "seventy": 70, "eighty": 80, "ninety": 90},
    **{"hundred": 100, "thousand": 1000},
}

ENGLISH = "|".join(sorted(_ENGLISH, key=len, reverse=True))
_ARABIC = r"[0-9]{1,3}(?:,[0-9]{3})+(?:\.[0-9]+)?|[0-9]+(?:\.[0-9]+)?|\.[0-9]+"
_SCALE = "[十拾百佰千仟万]|[kw](?![a-z])"
_PIECE = rf"(?:{_ARABIC}|[{CHINESE_DIGITS}]|[廿卅]|{_SCALE}|点(?=[0-9{CHINESE_DIGITS}]))"
_RUN = re.compile(
    rf"(?P<english>(?<![a-z])(?:{ENGLISH})(?:(?:[\s-]+and[\s-]+|[\s-]*)(?:{ENGLISH}))*(?![a-z]))"
    rf"|(?P<run>(?:{_ARABIC}|[{CHINESE}])(?:{_PIECE})*)"
)
# Where one number ends and the next begins: 120一件, 一百二一台.
_SPLIT = re.compile(
    rf"(?<=[0-9])(?=[{CHINESE_DIGITS}])|(?<=[{CHINESE_DIGITS}])(?=[0-9])"
    rf"|(?<=[{CHINESE_DIGITS}])(?=[一两二三]$)"
)
_COUNTED = re.compile(r"\s*[个件台只部套本双条份张把]")
_PIECES = re.compile(rf"{_ARABIC}|.")
_ENGLISH_WORDS = re.compile(ENGLISH)


@dataclass(frozen=True, slots=True)
class Number:
    """A number and where it stands. `chinese`: written in Chinese characters only."""

    start: int
    end: int
    value: Decimal
    chinese: bool = False


def numbers(text: str) -> list[Number]:
    """Every number of a folded text, in order."""
    found = []
    for match in _RUN.finditer(text):
        if match["english"]:
            value = _read_english(match["english"])
            found.append(Number(match.start(), match.end(), value))
        else:
            found += _of_run(match.start(), match["run"], bool(_COUNTED.match(text, match.end())))
    return found


def _of_run(start: int, run: str, counted: bool) -> list[Number]:
    """The numbers of a run; `counted`: a measure follows, which the last digit alone may belong to."""
    ends = [match.start() for match in _SPLIT.finditer(run)]
    if not counted:
        ends = [end for end in ends if run[end - 1].isascii() or run[end].isascii()]
    found = []
    for begin, end in itertools.pairwise([0, *ends, len(run)]):
        piece = run[begin:end]
        chinese = not any(char.isascii() for char in piece)
        found.append(Number(start + begin, start + end, _read(piece), chinese))
    return found


def _read(run: str) -> Decimal:
    """A run of digits and scales, as people say it: 一百二 is 120, 三万五 35,000, 五零 50, 七八十 70."""
    whole, dot, fraction = run.partition("点")
    if dot:
        decimals = "".join(str(_DIGITS.get(char, char)) for char in fraction)
        return _read(whole) + Decimal("0." + "".join(char for char in decimals if char.isdigit()))
    total = section = Decimal(0)
    digits: list[str] = []  # of the number that is being said
    scale = 0  # the last one
    zero = False
    for piece in _PIECES.findall(run):
        if piece in _SCALES:
            factor = _SCALES[piece]
            if factor == 10_000:
                total += (section + _before_scale(digits) if digits or section else 1) * factor
                section = Decimal(0)
            else:
                section += (_before_scale(digits) if digits else 1) * factor
            digits, scale, zero = [], factor, False
        elif piece in _TENS:
            section += _TENS[piece]
            digits, scale = [], 10
        elif piece in _DIGITS and _DIGITS[piece] == 0 and scale and not digits:
            zero = True
        else:
            digits.append(str(_DIGITS.get(piece, piece.replace(",", ""))))
    return total + section + _after_scale("".join(digits), 0 if zero else scale)


def _before_scale(digits: list[str]) -> Decimal:
    """七八十 is seventy or eighty, 三五百 three to five hundred."""
    if len(digits) > 1:
        return min(map(_decimal, digits))
    return _decimal(digits[0]) if digits else Decimal(0)


def _after_scale(digits: str, scale: int) -> Decimal:
    """The 二 of 一百二 is twenty; the 5 of 1百05, and the 20 of 1百20, are what they say."""
    if len(digits) == 1 and scale > 10:
        return _decimal(digits) * (scale // 10)
    return _decimal(digits)


def _decimal(digits: str) -> Decimal:
    """Digits as a number; of `1.2.3`, which nobody says, the first two."""
    head, dot, tail = digits.partition(".")
    return Decimal((head or "0") + dot + tail.replace(".", "") if tail else head or "0")


def _read_english(text: str) -> Decimal:
    total = current = 0
    digits = ""
    words = [_ENGLISH[word] for word in _ENGLISH_WORDS.findall(text)]
    if all(value < 10 for value in words):
        digits = "".join(map(str, words))
        return Decimal(digits)
    if len(words) > 1 and all(value < 100 for value in words) and words[0] >= 10 and words[-1] >= 10:
        return Decimal(min(words))  # "fifty sixty": one of them
    for value in words:
        if value == 1000:
            total += (current or 1) * value
            current = 0
        elif value == 100:
            current = (current or 1) * value
        else:
            current += value
    return Decimal(total + current)
