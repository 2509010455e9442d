"""Numbers and prices in texts."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from frontdesk.ai_proxy.answers.fold import fold, squeeze
from frontdesk.ai_proxy.answers.numerals import numbers
from frontdesk.ai_proxy.answers.prices import Kind, find_prices, quantities

_NUMBERS = """
50=50 ５０=50 5️⃣0️⃣=50 ⑤⓪=50 𝟝𝟘=50 ٥٠=50 ❺⓿=50 ¹²⁰=120 🔟=10 💯=100 1,280.5=1280.5
3k=3000 1.2w=12000 1w2=12000 2k5=2500 3百5=350 1百20=120 8十=80
五十=50 伍拾=50 十五=15 二十五=25 廿五=25 一百二=120 两百五=250 百八=180 一百零五=105 一千二=1200
两千零五=2005 一万二=12000 三万五=35000 五零=50 一二零=120 一百二十五=125 三点五=3.5 七八十=70 三五百=300
fifty=50 twenty-five=25 ninetynine=99
"""
_OTHERS = """
42码有货|256G的|2023年买的|3天内发货|电池健康92%|95新|九成新|iPhone 13 Pro|RTX3080|支持5G|4K屏
身高175体重130|第2个|12:30发货|2024-05-01|1920x1080|8+256|千万别|十分抱歉|一样的|一起买|三星手机|一个月
不包邮|免费维修|送您一张膜|库存还有3件|7天无理由|百分百正品|小米10|i5处理器|16.1英寸|1-2天|稍等一下
一手的|送你一根数据线|还剩一半|双十一买的|2 to 3 days|size 42|version 2
"""


@pytest.mark.parametrize("pair", _NUMBERS.split())
def test_a_number_is_read_in_every_writing(pair: str) -> None:
    """Digits of any script, Chinese numerals as people say them, scales and English words."""
    text, _, value = pair.partition("=")
    assert [number.value for number in numbers(fold(text))] == [Decimal(value)]


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("one hundred and twenty", [120]),
        ("two thousand five hundred", [2500]),
        ("five zero", [50]),
        ("120一件", [120, 1]),
        ("一百二一台", [120, 1]),
        ("someone often", []),
        ("kw 元", []),
    ],
)
def test_numbers_end_where_others_begin(text: str, values: list[int]) -> None:
    """A count after a price is a number of its own; words that hold a number's letters are none."""
    assert [number.value for number in numbers(fold(text))] == values


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        ("50元", Kind.MONEY, "50"),
        ("￥50", Kind.MONEY, "50"),
        ("50r", Kind.MONEY, "50"),
        ("rmb 50", Kind.MONEY, "50"),
        ("五块五", Kind.MONEY, "5.5"),
        ("8毛", Kind.MONEY, "0.8"),
        ("百来块", Kind.MONEY, "100"),
        ("50吧", Kind.BARE, "50"),
        ("给你十", Kind.BARE, "10"),
        ("50米给你", Kind.BARE, "50"),
        ("8折", Kind.FACTOR, "0.8"),
        ("85折", Kind.FACTOR, "0.85"),
        ("半价", Kind.FACTOR, "0.5"),
        ("优惠10%", Kind.FACTOR, "0.9"),
        ("20% off", Kind.FACTOR, "0.8"),
        ("七成价", Kind.FACTOR, "0.7"),
        ("便宜三成", Kind.FACTOR, "0.7"),
        ("四分之三的价格", Kind.FACTOR, "0.75"),
        ("百分之八十的价格", Kind.FACTOR, "0.8"),
        ("买一送一", Kind.FACTOR, "0.5"),
        ("便宜20", Kind.OFF, "20"),
        ("减二十块", Kind.OFF, "20"),
        ("50元优惠券", Kind.OFF, "50"),
        ("免费送你", Kind.MONEY, "0"),
        ("it is free", Kind.MONEY, "0"),
        ("抹个零", Kind.ROUND, "0"),
        ("可以便宜点", Kind.VAGUE, "0"),
        ("wushi块", Kind.UNREADABLE, "0"),
        ("骨折价", Kind.UNREADABLE, "0"),
    ],
)
def test_what_a_price_says(text: str, kind: Kind, value: str) -> None:
    """Money, shares, discounts and gifts are told apart."""
    found = [(price.kind, price.value) for price in find_prices(text)[0]]
    assert (kind, Decimal(value)) in found


@pytest.mark.parametrize("text", ["5 0", "五 十", "五-十", "f i f t y", "F-I-F-T-Y"])
def test_gaps_are_closed(text: str) -> None:
    """A number with gaps is read as one, in one of the ways to read the text."""
    assert [Decimal(50)] in [[price.value for price in view] for view in find_prices(text)]


@pytest.mark.parametrize(
    "text",
    _OTHERS.strip().replace("\n", "|").split("|"),
)
def test_other_numbers_are_no_prices(text: str) -> None:
    """Sizes, dates, conditions, names of models, counts and sayings."""
    assert not any(find_prices(text))


def test_many_numbers_are_not_read() -> None:
    """A text of nothing but numbers is bounded: its rest can't be read."""
    found = find_prices("9999 " * 500)[0]
    assert len(found) < 100
    assert found[-1].kind is Kind.UNREADABLE


def test_pieces() -> None:
    """Several things of a kind are counted, one is not."""
    assert quantities("买3件或者两台，一个也行") == [3, 2]


@given(st.text(max_size=80))
def test_any_text_is_read(text: str) -> None:
    """Nothing that is written raises, and what is folded stays as it is."""
    find_prices(text)
    assert fold(fold(text)) == fold(text)
    assert squeeze(squeeze(text)) == squeeze(text)
