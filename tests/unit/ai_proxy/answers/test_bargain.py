"""Limits of bargaining: the room, and answers held against it."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

import pytest
import yaml
from hypothesis import assume, example, given
from hypothesis import strategies as st

from frontdesk.ai_proxy.answers.bargain import Room, Verdict, check_offer, room_of
from frontdesk.ai_proxy.answers.policy import Policy
from support.answer_sets import FOLDER

ROOM = Room(Decimal(200), Decimal(160), rounds_left=3)
ASKED = ["最低多少"]


DISGUISES = yaml.safe_load((FOLDER / "disguises.yaml").read_text("utf-8"))


def said(**limits: str | int) -> Policy:
    """A policy with these limits."""
    return Policy(**{name: Decimal(v) if isinstance(v, str) else v for name, v in limits.items()})  # type: ignore[arg-type]


def check(text: str, *turns: str, room: Room = ROOM, newest: int = 1, offered: str | None = None) -> str:
    """Why a text may not leave."""
    field = None if offered is None else Decimal(offered)
    return check_offer(text, field, room, turns or ASKED, newest).reason


@pytest.mark.parametrize(
    ("policy", "price", "floor"),
    [
        (said(), "200", "200"),
        (said(floor_price="80"), "200", "200"),
        (said(max_discount_percent="0"), "200", "200"),
        (said(max_discount_percent="10"), "200", "180"),
        (said(max_discount_amount="15"), "200", "185"),
        (said(max_discount_percent="10", max_discount_amount="15"), "200", "185"),
        (said(max_discount_percent="10", max_discount_amount="0"), "200", "200"),
        (said(max_discount_percent="50", floor_price="150"), "200", "150"),
        (said(max_discount_percent="10", floor_price="300"), "200", "300"),
        (said(max_discount_percent="33.3"), "99.99", "66.69333"),
        (said(max_discount_percent="10"), None, None),
        (said(floor_price="80"), None, "80"),
    ],
)
def test_the_floor(policy: Policy, price: str | None, floor: str | None) -> None:
    """The highest of what is said holds; a discount that nobody said is none, and zero is zero."""
    room = room_of(policy, None if price is None else Decimal(price), 0, None)
    assert room.floor == (None if floor is None else Decimal(floor))


def test_rounds_are_counted() -> None:
    """What was offered is taken off; nothing is below none."""
    policy = said(max_discount_percent="10", max_rounds=2)
    assert [room_of(policy, Decimal(200), rounds, None).rounds_left for rounds in range(4)] == [2, 1, 0, 0]


@pytest.mark.parametrize(
    ("room", "lowest"),
    [
        (Room(Decimal(200), Decimal(160), 2), "180"),
        (Room(Decimal(200), Decimal(160), 1, Decimal(180)), "160"),
        (Room(Decimal(200), Decimal(160), 0), None),
        (Room(Decimal(200), Decimal(200), 3), None),
        (Room(None, Decimal(160), 3), None),
        (Room(Decimal(100), Decimal("66.6667"), 1), "66.67"),
    ],
)
def test_a_model_is_told_one_step(room: Room, lowest: str | None) -> None:
    """Each round goes an equal step, the last one to the floor, never under it."""
    assert room.next_offer() == (None if lowest is None else Decimal(lowest))


@pytest.mark.parametrize(
    ("text", "offered", "verdict"),
    [
        ("在的亲", None, Verdict()),
        ("200元", "200", Verdict()),
        ("180元", "180", Verdict(offer=Decimal(180))),
        ("180元", None, Verdict(offer=Decimal(180))),
        ("160元", "160", Verdict(offer=Decimal(160))),
        ("好说", "170", Verdict(offer=Decimal(170))),
        ("159.99元", None, Verdict("under_floor")),
        ("180元", "159", Verdict("under_floor")),
        ("159元", "180", Verdict("under_floor")),
        ("9折", None, Verdict(offer=Decimal("180.0"))),
        ("300元", "300", Verdict("unreadable")),
    ],
)
def test_field_and_words_are_both_held(text: str, offered: str | None, verdict: Verdict) -> None:
    """The lower of the two counts; the listed price is no offer, and nobody offers more than it."""
    assert check_offer(text, None if offered is None else Decimal(offered), ROOM, ASKED, 1) == verdict


def test_used_rounds_let_an_old_price_be_said_again() -> None:
    """A price that was offered stands; a new one may not be made."""
    room = Room(Decimal(200), Decimal(160), 0, Decimal(180))
    assert check("180元可以", room=room) == ""
    assert check("179元可以", room=room) == "rounds_used"
    assert check("可以便宜点", room=room) == "rounds_used"
    assert check("200元", room=room) == ""


def test_without_a_price_nothing_is_offered() -> None:
    """Neither number nor discount leaves while price and floor are unknown; with a floor, prices do."""
    nothing = Room(None, None, 3)
    assert check("180元", room=nothing) == "price_unknown"
    assert check("打9折", room=nothing) == "price_unknown"
    assert check("在的亲", room=nothing) == ""
    floor = Room(None, Decimal(100), 3)
    assert check("120元", room=floor) == ""
    assert check("99元", room=floor) == "under_floor"
    assert check("打9折", room=floor) == "under_floor"


def test_refusing_is_no_offer() -> None:
    """A buyer's price may be named to refuse it; what looks like a refusal and is none may not."""
    assert check("100元卖不了哦", "100卖吗") == ""
    assert check("不能100出", "100卖吗") == ""
    assert check("100 is too low", "100?") == ""
    assert check("7折做不到哦", "7折吧") == ""
    assert check("99元卖不了哦", "100卖吗") == "under_floor"  # not the buyer's price
    assert check("100元卖不了吗", "100卖吗") == "under_floor"
    assert check("不能低于100", "100卖吗") == "under_floor"
    assert check("100不行的话，98", "100卖吗") == "under_floor"


def test_agreeing_is_an_offer() -> None:
    """A yes to a price that the buyer named counts as that price, above the floor as well."""
    assert check("好的", "100可以吗") == "under_floor"
    assert check_offer("成交", None, ROOM, ["170行吗"], 1) == Verdict(offer=Decimal(170))
    assert check_offer("170成交", None, ROOM, ["80行吗", "170行吗"], 1) == Verdict(offer=Decimal(170))
    assert check("成交", "80行吗", "170也行", newest=1) == ""
    assert check("成交，按刚才说的", "80行吗", "170也行", newest=1) == "under_floor"
    assert check("好的，价格不能少了", "100可以吗") == ""
    assert check("价格不能少了，好的，行", "100可以吗") == "under_floor"
    assert check("按你说的价", "你看着办") == "under_floor"
    assert check("可以用三年", "100可以吗", "能用多久", newest=1) == ""


def test_no_disguise_leaves() -> None:
    """Hundreds of ways to write a price under the floor, and to say yes to one."""
    asked = [(turn, text) for turn, texts in DISGUISES["agreements"].items() for text in texts]
    assert len(DISGUISES["prices"]) + len(asked) > 300
    assert [text for text in DISGUISES["prices"] if not check(text)] == []
    assert [(turn, text) for turn, text in asked if not check(text, turn)] == []


def test_the_sellers_own_words_may_be_repeated() -> None:
    """Money of a statement behind its own words is no offer; elsewhere it is one."""
    statements = ["偏远地区补运费20元", "满2件减10元"]
    for text in ("偏远地区要补运费20元", "满2件减10元哦"):
        assert not check_offer(text, None, ROOM, ASKED, 1, statements).reason
    assert check_offer("20元卖你", None, ROOM, ASKED, 1, statements).reason == "under_floor"
    assert check_offer("只要补运费20元", None, ROOM, ASKED, 1, statements).reason == "under_floor"


def test_postage_is_promised_where_the_seller_does() -> None:
    """包邮 leaves when it is written somewhere, and not because its opposite is."""
    promise = "包邮的亲"
    assert check_offer(promise, None, ROOM, ["包邮吗"], 1, ["全店包邮"]).reason == ""
    assert check_offer(promise, None, ROOM, ["包邮吗"], 1, (), ["好物包邮"]).reason == ""
    assert check_offer(promise, None, ROOM, ["包邮吗"], 1, ["不包邮"]).reason == "under_floor"
    assert check_offer("不包邮哦", None, ROOM, ["包邮吗"], 1).reason == ""


def test_several_at_once() -> None:
    """The price of several is held by the piece."""
    assert check("3件300元") == "under_floor"
    assert check("打包价一共300", "买三件呢") == "under_floor"
    assert check("两件一共400元", "买两件呢") == ""


_SMALL = "零一二三四五六七八九"


def _chinese(n: int) -> str:
    """1 to 999 in Chinese."""
    hundreds, tens, ones = n // 100, n // 10 % 10, n % 10
    text = f"{_SMALL[hundreds]}百" if hundreds else ""
    if tens:
        text += ("" if tens == 1 and not hundreds else _SMALL[tens]) + "十"
    elif hundreds and ones:
        text += "零"
    return text + (_SMALL[ones] if ones else "")


def _financial(n: int) -> str:
    return _chinese(n).translate(str.maketrans("零一二三四五六七八九十百", "零壹贰叁肆伍陆柒捌玖拾佰"))


def _english(n: int) -> str:
    small = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen"
    small += " fifteen sixteen seventeen eighteen nineteen"
    tens = "twenty thirty forty fifty sixty seventy eighty ninety"
    if n >= 100:
        return f"{small.split(' ')[n // 100]} hundred" + (f" and {_english(n % 100)}" if n % 100 else "")
    if n < 20:
        return small.split(" ")[n]
    return tens.split(" ")[n // 10 - 2] + (f"-{_english(n % 10)}" if n % 10 else "")


def _digits(zero: str) -> Callable[[int], str]:
    return lambda n: str(n).translate({48 + digit: chr(ord(zero) + digit) for digit in range(10)})


_WRITINGS: dict[str, Callable[[int], str]] = {
    "plain": str,
    "cents": "{}.00".format,
    "full-width": _digits("０"),
    "mathematical": _digits("𝟘"),
    "arabic-indic": _digits("٠"),
    "keycaps": lambda n: "".join(f"{digit}\ufe0f\u20e3" for digit in str(n)),
    "zero-width": lambda n: "\u200b".join(str(n)),
    "chinese": _chinese,
    "financial": _financial,
    "one by one": lambda n: "".join(_SMALL[int(digit)] for digit in str(n)),
    "english": _english,
    "spaced": lambda n: " ".join(str(n)),
    "hyphens": lambda n: "-".join(str(n)),
}
_MARKS = (
    "{}元",
    "{}块",
    "{} 块钱",
    "¥{}",
    "{} yuan",
    "{}r",
    "RMB {}",
    "最低{}元哦",
    "给您{}元，包好",
    "只要{}元",
)
_BARE = ("{}", "最低{}", "给你{}吧", "那就{}", "{}成交", "拍下改成{}", "I can do {}", "{}拿走")


@given(st.integers(1, 159), st.sampled_from(sorted(_WRITINGS)), st.sampled_from(_MARKS))
@example(100, "chinese", "{}块")
def test_money_under_the_floor_is_caught(price: int, writing: str, mark: str) -> None:
    """In every writing of every amount, with every sign of money."""
    assume(writing != "english" or mark != "{}r")  # "fiftyr" is no word
    assert check(mark.format(_WRITINGS[writing](price))) == "under_floor"


@given(st.integers(1, 159), st.sampled_from(sorted(_WRITINGS)), st.sampled_from(_BARE))
@example(10, "english", "那就{}")
@example(10, "chinese", "{}成交")
def test_a_bare_number_under_the_floor_is_caught(price: int, writing: str, frame: str) -> None:
    """Where a price is spoken of, a number alone is one."""
    assert check(frame.format(_WRITINGS[writing](price))) == "under_floor"


@given(
    st.integers(161, 199), st.sampled_from(["plain", "cents", "full-width", "chinese", "english", "keycaps"])
)
def test_money_above_the_floor_is_an_offer(price: int, writing: str) -> None:
    """An allowed price leaves and is told, however it is written."""
    text = f"最低{_WRITINGS[writing](price)}元哦"
    assert check_offer(text, None, ROOM, ASKED, 1) == Verdict(offer=Decimal(price))


@given(
    st.integers(41, 200),
    st.sampled_from(["便宜{}", "减{}元", "优惠{}块", "给您少{}元", "{} yuan off", "立减{}"]),
)
def test_yuan_off_are_caught(less: int, frame: str) -> None:
    """What is taken off the listed price may not go under the floor either."""
    assert check(frame.format(less)) == "under_floor"


@given(st.integers(1, 79))
def test_shares_are_caught(percent: int) -> None:
    """So may no share of it, in tenths or percent."""
    if percent >= 10:
        assert check(f"打{percent}折") == "under_floor"
    assert check(f"打{percent / 10}折") == "under_floor"
    assert check(f"{100 - percent}% off") == "under_floor"
    assert check(f"优惠{100 - percent}%") == "under_floor"
