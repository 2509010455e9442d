"""The order of steps, and active hours."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from frontdesk.kit.errors import InvalidArgument
from frontdesk.reply_engine.rules.hours import (
    format_interval,
    minute_of_day,
    parse_interval,
    utc_offset_minutes,
    within,
)
from frontdesk.reply_engine.rules.model import Scope
from frontdesk.reply_engine.rules.order import DEFAULT_CHAIN, Step, scopes_of, steps_after, validate_chain


def test_default_chain() -> None:
    """Account rules come first, then global ones, the AI, the default reply, and then nothing (X-10)."""
    assert list(steps_after(DEFAULT_CHAIN)) == ["account", "global", "ai", "default"]


def test_own_chain() -> None:
    """An account may put the AI first and leave steps out."""
    chain = validate_chain(["ai", "account"])
    assert list(steps_after(chain)) == [Step.AI, Step.ACCOUNT]
    assert list(steps_after(chain, "ai")) == [Step.ACCOUNT]
    assert not steps_after(chain, "account")
    assert not steps_after(chain, "default")
    assert not steps_after(())


@pytest.mark.parametrize(
    ("names", "field"),
    [
        ([], "chain"),
        (["account", "magic"], "chain[1]"),
        (["ai", "global", "ai"], "chain[2]"),
        ([""], "chain[0]"),
    ],
)
def test_bad_chain(names: list[str], field: str) -> None:
    """A chain that is empty, unknown or names a step twice is refused with the place."""
    with pytest.raises(InvalidArgument) as caught:
        validate_chain(names)
    assert caught.value.field == field


def test_scopes_of_steps() -> None:
    """The account step asks item rules before account rules; AI and default ask none."""
    assert scopes_of("account") == (Scope.ITEM, Scope.ACCOUNT)
    assert scopes_of("global") == (Scope.GLOBAL,)
    assert scopes_of("ai") == scopes_of("default") == ()


@pytest.mark.parametrize(
    ("text", "normal"),
    [("09:00-18:30", "09:00-18:30"), (" 9:05 - 24:00 ", "09:05-24:00"), ("22:00~06:00", "22:00-06:00")],
)
def test_interval_normal_form(text: str, normal: str) -> None:
    """Hours are read leniently and written in one form."""
    assert format_interval(parse_interval(text)) == normal


@pytest.mark.parametrize(
    "text", ["", "9-18", "25:00-26:00", "09:60-10:00", "24:00-01:00", "10:00-10:00", "1:00-24:01"]
)
def test_bad_interval(text: str) -> None:
    """Hours that no clock shows, or that hold no time, are refused."""
    with pytest.raises(InvalidArgument) as caught:
        parse_interval(text, "active_hours[1]")
    assert caught.value.field == "active_hours[1]"


def test_within() -> None:
    """The start is included, the end is not, and an interval may pass midnight."""
    day, night = (9 * 60, 18 * 60), (22 * 60, 6 * 60)
    assert [within([day], m) for m in (539, 540, 1079, 1080)] == [False, True, True, False]
    assert [within([night], m) for m in (1319, 1320, 0, 359, 360)] == [False, True, True, True, False]
    assert within([day, night], 0) and within([day, night], 600) and not within([day, night], 420)


def test_minute_of_day() -> None:
    """The account's clock decides, also across the date line and in zones that are not whole hours."""
    noon_utc = int(datetime(2026, 1, 2, 12, 0, tzinfo=UTC).timestamp() * 1000)
    assert minute_of_day(noon_utc, 0) == 720
    assert minute_of_day(noon_utc, 480) == 20 * 60
    assert minute_of_day(noon_utc, 330) == 17 * 60 + 30
    assert minute_of_day(noon_utc, 14 * 60) == 2 * 60
    assert minute_of_day(noon_utc, -13 * 60) == 23 * 60


def test_offset_of_a_zone() -> None:
    """The offset is the zone's at that moment; a zone that isn't is refused by field."""
    summer = int(datetime(2026, 7, 1, tzinfo=UTC).timestamp() * 1000)
    winter = int(datetime(2026, 1, 1, tzinfo=UTC).timestamp() * 1000)
    assert utc_offset_minutes("Asia/Shanghai", summer) == 480
    assert (utc_offset_minutes("Europe/Berlin", summer), utc_offset_minutes("Europe/Berlin", winter)) == (
        120,
        60,
    )
    for name in ("Mars/Base", "", "../etc/passwd", "\x00"):
        with pytest.raises(InvalidArgument) as caught:
            utc_offset_minutes(name, winter)
        assert caught.value.field == "time_zone"
