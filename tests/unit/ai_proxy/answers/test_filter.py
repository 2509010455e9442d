"""Blocked words and ways around the platform."""

from __future__ import annotations

import pytest

from frontdesk.ai_proxy.answers.filter import find_word, has_contact

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
