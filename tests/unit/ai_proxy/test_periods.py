"""When periods begin."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from frontdesk.ai_proxy.periods import Period, check_time_zone, in_zone, next_period, period_start
from frontdesk.kit.errors import InvalidArgument

ZONES = (
    *("", "Asia/Shanghai", "Europe/Berlin", "America/New_York", "America/St_Johns", "Asia/Kathmandu"),
    # Clocks that change at midnight, go half an hour, or left out a whole day.
    *("Africa/Cairo", "America/Havana", "America/Sao_Paulo", "Asia/Beirut", "Australia/Lord_Howe"),
    *("Pacific/Apia", "Pacific/Kiritimati"),
)


def ms(text: str, zone: str = "UTC", fold: int = 0) -> int:
    moment = datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone), fold=fold)
    return int(moment.timestamp()) * 1000


@pytest.mark.parametrize(
    ("period", "zone", "now", "start", "after"),
    [
        (Period.DAY, "", "2026-11-21T00:00:00", "2026-11-21T00:00:00", "2026-11-22T00:00:00"),
        (Period.DAY, "", "2026-11-21T23:59:59", "2026-11-21T00:00:00", "2026-11-22T00:00:00"),
        (Period.MONTH, "", "2024-02-29T12:00:00", "2024-02-01T00:00:00", "2024-03-01T00:00:00"),
        (Period.MONTH, "", "2026-01-31T23:59:59", "2026-01-01T00:00:00", "2026-02-01T00:00:00"),
        (Period.MONTH, "", "2026-12-31T23:59:59", "2026-12-01T00:00:00", "2027-01-01T00:00:00"),
        # 00:30 in Shanghai is still yesterday, and last month, in Greenwich.
        (Period.DAY, "Asia/Shanghai", "2026-10-31T16:30:00", "2026-10-31T16:00:00", "2026-11-01T16:00:00"),
        (Period.MONTH, "Asia/Shanghai", "2026-10-31T16:30:00", "2026-10-31T16:00:00", "2026-11-30T16:00:00"),
        # Days of 23 and of 25 hours.
        (Period.DAY, "Europe/Berlin", "2026-03-29T10:00:00", "2026-03-28T23:00:00", "2026-03-29T22:00:00"),
        (Period.DAY, "Europe/Berlin", "2026-10-25T10:00:00", "2026-10-24T22:00:00", "2026-10-25T23:00:00"),
        # In Cairo the clock went from 23:59:59 to 01:00: the day began with the change.
        (Period.DAY, "Africa/Cairo", "2024-04-26T09:00:00", "2024-04-25T22:00:00", "2024-04-26T21:00:00"),
        # In Havana midnight comes twice: the day begins with the first.
        (Period.DAY, "America/Havana", "2024-11-03T05:30:00", "2024-11-03T04:00:00", "2024-11-04T05:00:00"),
        # On Samoa there was no 30 December 2011.
        (Period.DAY, "Pacific/Apia", "2011-12-30T09:59:59", "2011-12-29T10:00:00", "2011-12-30T10:00:00"),
        (Period.DAY, "Pacific/Apia", "2011-12-30T10:00:00", "2011-12-30T10:00:00", "2011-12-31T10:00:00"),
    ],
)
def test_periods_begin_where_the_clock_on_the_wall_says(
    period: Period, zone: str, now: str, start: str, after: str
) -> None:
    """Days and months of the budget's own time zone, times here in UTC."""
    assert period_start(period, zone, ms(now)) == ms(start)
    assert next_period(period, zone, ms(now)) == ms(after)


def test_total_never_ends() -> None:
    """A total begins with Unix time."""
    assert period_start(Period.TOTAL, "Asia/Shanghai", ms("2026-11-21T00:00:00")) == 0
    assert next_period(Period.TOTAL, "Asia/Shanghai", ms("2026-11-21T00:00:00")) is None


@given(
    period=st.sampled_from([Period.DAY, Period.MONTH]),
    zone=st.sampled_from(ZONES),
    now=st.integers(min_value=0, max_value=ms("2080-01-01T00:00:00")),
)
def test_periods_follow_each_other_without_a_gap(period: Period, zone: str, now: int) -> None:
    """Every moment belongs to one period: that which began last."""
    start, after = period_start(period, zone, now), next_period(period, zone, now)
    assert after is not None
    assert start <= now < after
    assert period_start(period, zone, start) == start
    assert period_start(period, zone, after - 1) == start
    assert period_start(period, zone, after) == after


@pytest.mark.parametrize(
    "name", ["Mars/Olympus", "../etc/passwd", "America", "asia/\x00", "/etc/localtime", "x" * 5000]
)
def test_what_is_no_time_zone_is_said_so(name: str) -> None:
    """Names that no database of time zones has, and none that leads to a file."""
    with pytest.raises(InvalidArgument) as caught:
        check_time_zone(name, "budget.time_zone")
    assert caught.value.field == "budget.time_zone"


def test_moments_for_people() -> None:
    """With the zone, so that nobody has to guess."""
    assert in_zone("Asia/Shanghai", ms("2026-11-21T16:00:00")) == "2026-11-22 00:00 Asia/Shanghai"
    assert in_zone("", ms("2026-11-21T16:00:00")) == "2026-11-21 16:00 UTC"
