"""What an answer may not say: blocked words, and ways around the platform to reach or pay somebody.

Words are looked for in folded text with gaps allowed between their characters, so that neither spaces nor
full-width, invisible or look-alike characters hide them.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from frontdesk.ai_proxy.answers.fold import fold, is_chinese, squeeze

_GAPS = re.compile(r"[\W_]+")
# What may not go on beside a word that begins or ends with a letter, or with a digit.
_RUNS = {True: re.compile("[a-z]+"), False: re.compile("[0-9]+")}
_DIGIT_WORDS = str.maketrans(
    "零一二三四五六七八九壹贰叁肆伍陆柒捌玖幺洞拐勾两", "01234567891234567891" + "0792"
)
_SEPARATED = r"[\s\-_.,、*~·/()|+]{0,3}"
_MOBILE = re.compile(rf"(?<![0-9])1{_SEPARATED}[3-9](?:{_SEPARATED}[0-9]){{9}}(?![0-9])")
_LANDLINE = re.compile(
    r"(?<![0-9])0[0-9]{2,3}[-\s)]{1,2}[0-9]{7,8}(?![0-9])"
    r"|\+[0-9]{1,3}[-\s]?[0-9][0-9\s-]{6,}[0-9]"
)
_CARD = re.compile(r"(?<![0-9])[3-6][0-9]{3}(?:[\s-]?[0-9]{4}){3}(?:[0-9]{1,3})?(?![0-9])")
_SPELLED = re.compile(r"(?:(?:zero|oh|one|two|three|four|five|six|seven|eight|nine)\W*){7,}")
_MAIL = re.compile(
    r"(?<![\w.+-])[\w.+-]+\s*(?:@|\(at\)|\[at\]|\sat\s|艾特)\s*[\w-]+\s*(?:\.|点|\sdot\s"
    r"|\(dot\))\s*[a-z]{2,}|(?<![0-9])[0-9]{5,}@|@[a-z0-9-]+\.com"
)
_LINK = re.compile(
    r"https?:|www\s*\.|(?<![\w.])[a-z0-9-]{1,63}\s?\.\s?(?:com|cn|net|org|top|xyz|me|cc|io|vip|shop"
    r"|link|club|ly|co)(?![a-z])"
)
_NUMBER_NEAR = re.compile(
    r"(?:电话|手机|号码|联系|热线|call|phone|tel|mobile|text me)\D{0,8}[0-9](?:[\s\-]?[0-9]){5,}"
)
_NAMES = re.compile(
    r"微\s*信|威信|薇信|围信|徽信|唯信|v信|vx|weixin|wechat|we\s?chat|wx(?![a-z])"
    r"|(?<![a-z0-9])v\W{0,2}x(?![a-z])|(?<![a-z0-9])w\W{1,2}x(?![a-z])"
    r"|(?:加|\+|➕)\s*(?:我|个|下)?\s*(?:v|薇|微|威|卫星|w|q)(?![a-z]{2})"
    r"|(?<![a-z0-9])[vq]\s*(?:号|群|:)|卫星号?:|绿泡泡|扫码|二维码|qr\s?code"
    r"|(?<![a-z])q\s*q(?![a-z])|扣扣|企鹅号|球球号|telegram|whatsapp|(?<![a-z])tg(?![a-z])"
    r"|line号|飞机号|抖音号|快手号|小红书号|朋友圈|私聊我|加好友"
    r"|支付宝|收款码|付款码|转账|转款|打款|汇款|银行卡|卡号|alipay|zhifubao|paypal"
    r"|bank\s?transfer|wire\s?transfer|venmo|zelle|usdt|比特币|线下交易|私下交易"
    r"|转我|v我\s*[0-9]|联系方式|手机号|电话(?:是|:|号)|my (?:phone|number|email)"
)
# A word that says no, close before: "不加微信" gives nobody away.
_DENIED = re.compile(
    r"(?:不|没|勿|别|无法|禁止|谢绝|拒绝|避免|不要|don't|not|never|no|can't|cannot|avoid|without)[^,。!?;]{0,12}$"
)
_ID = re.compile(r"(?<![a-z0-9])(?=[a-z_-]*[0-9])[a-z][a-z0-9_-]{4,}|[0-9]{5,}|[a-z]+_[a-z0-9_]+")


def find_word(text: str, words: Sequence[str]) -> str:
    """The first of `words` that stands in `text`, empty for none. A Latin word stands alone, not inside
    another.

    Nothing is compiled of what sellers wrote: a text without its gaps is looked through as it is.
    """
    if not words:
        return ""
    folded = fold(text)
    letters = _GAPS.sub("", folded)
    places: list[int] = []
    for word, sought, signs in _made(tuple(words)):
        if not sought:
            if signs and signs in folded:
                return word
        elif sought in letters:
            if is_chinese(sought):
                return word
            places = places or [place for place, char in enumerate(folded) if char.isalnum()]
            if _alone(sought, letters, folded, places):
                return word
    return ""


class _Word(NamedTuple):
    """A blocked word: its letters and digits, and what it is when it has none."""

    word: str
    letters: str
    signs: str


# The longest lists take about 0.1 MB each.
@lru_cache(256)
def _made(words: tuple[str, ...]) -> tuple[_Word, ...]:
    return tuple(_Word(word, squeeze(word), fold(word).strip()) for word in words)


def _alone(word: str, letters: str, folded: str, places: Sequence[int]) -> bool:
    """Whether `word` stands somewhere in `letters`, whose `places` are in `folded`, with no letter beside its
    first and last one; where it begins or ends with a digit, no digit."""
    before, after = (_RUNS[char.isalpha()] for char in (word[0], word[-1]))
    at = letters.find(word)
    while at >= 0:
        first, last = places[at], places[at + len(word) - 1]
        inside = bool(first and before.fullmatch(folded[first - 1]))
        if not inside and not after.match(folded, last + 1):
            return True
        # Inside a run of letters no word begins: a long one is not tried letter by letter.
        run = before.match(folded, first) if inside else None
        at = letters.find(word, max(at + 1, bisect_left(places, run.end()) if run else 0))
    return False


def has_contact(text: str) -> bool:
    """Whether a text says a phone number, an address, a link or a way to pay, or names a place to meet."""
    folded = fold(text)
    digits = folded.translate(_DIGIT_WORDS)
    if _MOBILE.search(digits) or _NUMBER_NEAR.search(digits):
        return True
    if any(pattern.search(folded) for pattern in (_LANDLINE, _CARD, _SPELLED, _MAIL, _LINK)):
        return True
    named = list(_NAMES.finditer(folded))
    if not named:
        return False
    denied = all(_DENIED.search(folded[: name.start()]) for name in named)
    return not denied or bool(_ID.search(folded))
