"""Blocked words and ways around the platform."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from frontdesk.ai_proxy.answers.filter import find_word, has_contact
from frontdesk.ai_proxy.answers.fold import fold, is_chinese, squeeze

_CONTACTS = """
13800138000|１３８００１３８０００|138-0013-8000|1 3 8 0 0 1 3 8 0 0 0|幺三八零零幺三八零零零
壹叁捌零零壹叁捌零零零|+86 138 0013 8000|021-12345678|手机 8001 2345
one three eight zero zero one three eight|加微信|微 信 abc|VX: abc123|加v|加我薇
威信号|wx abc123|weixin|QQ 12345678|扣扣|加q|企鹅号|telegram|WhatsApp
me@example.com|me at example dot com|12345@qq|https://example.com
www.example.com|example.top|t.me|支付宝转我|收款码|银行卡|6222 0200 1111 2222
alipay|转账给我|扫码付|加好友|私聊我|v我50|不能加微信，你记 abc12345|不加微信，加 qq 12345678
"""
_OTHERS = """
不方便加微信哦|平台不支持线下交易|请勿私下转账|we do not use WeChat|单号 SF1234567890123
订单尾号8000|型号 RTX3060 i5-12400F|尺寸 120x60x75|2024-05-01|支持5G|价格1280元
运费12元|在平台上聊就好|请走平台付款
"""


@pytest.mark.parametrize(
    ("text", "words", "found"),
    [
        ("最好的选择", ["最好"], "最好"),
        ("最　好", ["最好"], "最好"),
        ("最\u200b好", ["最好"], "最好"),
        ("最.好", ["最好"], "最好"),
        ("ＢＥＳＴ buy", ["best"], "best"),
        ("b e s t", ["best"], "best"),
        ("bеst", ["best"], "best"),  # the second letter is Cyrillic
        ("the bestseller", ["best"], ""),
        ("wechat123", ["wechat"], "wechat"),
        ("第一品牌", ["best", "第一"], "第一"),
        ("好的 ❤️", ["❤"], "❤"),
        ("a+b", ["+"], "+"),
        ("在的", ["第一"], ""),
        ("在的", [], ""),
    ],
)
def test_words_are_found_in_disguise(text: str, words: list[str], found: str) -> None:
    """Case, width, invisible characters and gaps hide no word; a Latin word stands alone."""
    assert find_word(text, words) == found


@pytest.mark.parametrize(
    "text",
    _CONTACTS.strip().replace("\n", "|").split("|"),
)
def test_contacts_are_found(text: str) -> None:
    """Numbers, names of other platforms, addresses, links and ways to pay."""
    assert has_contact(text)


@pytest.mark.parametrize(
    "text",
    _OTHERS.strip().replace("\n", "|").split("|"),
)
def test_other_things_are_no_contacts(text: str) -> None:
    """Refusals, numbers of parcels and orders, models and measures."""
    assert not has_contact(text)


def plainly(text: str, words: Sequence[str]) -> bool:
    """The rule, as one pattern a word."""
    folded = fold(text)
    for word in words:
        letters = squeeze(word)
        pattern = r"[\W_]*".join(letters) if letters else re.escape(fold(word).strip()) or "(?!)"
        if letters and not is_chinese(letters):
            before, after = ("a-z" if char.isalpha() else "0-9" for char in (letters[0], letters[-1]))
            pattern = f"(?<![{before}]){pattern}(?![{after}])"
        if re.search(pattern, folded):
            return True
    return False


CHARS = st.one_of(
    st.text("ab ", max_size=14),
    st.text("a1 -", max_size=14),
    st.text("aab12_.-\n微信ｖ\u200b한é①٣ß❤", max_size=14),
)


@given(CHARS, st.lists(CHARS.map(lambda text: text[:3]), max_size=3))
def test_any_words_are_found_where_their_patterns_are(text: str, words: list[str]) -> None:
    """In any text, among any others."""
    assert bool(find_word(text, words)) == plainly(text, words)


HARD = [
    ("ab" * 1000, ["ab" * length + end for length in range(1, 33) for end in ("", "a", "b")]),
    ("a" * 2000, ["a" * length for length in range(1, 65)]),
    ("x yz " * 400, [("xyzxyz" * 11)[begin:end] for begin in range(3) for end in range(9, 65)]),
    ("中" * 2000, ["中" * 63 + chr(0x4E00 + number) for number in range(300)]),
    ("1 " * 1000, ["1" * 63 + chr(0x4E00 + number) for number in range(300)]),
    ("한" * 2000, ["한" * 63 + chr(0xAC00 + number) for number in range(300)]),
]


@pytest.mark.parametrize(("text", "words"), HARD)
def test_the_longest_lists_hold_nobody_up(text: str, words: list[str]) -> None:
    """A list that is new, and the texts that are hardest for it: some ms of CPU, where it was 500."""
    before = time.thread_time()
    for number in range(5):
        find_word(text, [f"new{number}", *words])
    assert time.thread_time() - before < 5 * 0.1
