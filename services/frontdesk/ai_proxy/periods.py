"""When a budget's period began and when the next one begins, in the budget's time zone.

A day begins at its first moment: at midnight, or where a clock that goes forward skips midnight, at the
change. `total` began with Unix time and never ends.
"""

from __future__ import annotations

from datetime import date, datetime, timedelta
from enum import StrEnum
from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from frontdesk.kit.errors import InvalidArgument

UTC_NAME = "UTC"


class Period(StrEnum):
    """How long a budget counts before it begins anew."""

    DAY = "day"
    MONTH = "month"
    TOTAL = "total"


def check_time_zone(name: str, field: str) -> str:
    """The name of an IANA time zone, or nothing for UTC; raises InvalidArgument naming `field`."""
    if name:
        try:
            zone(name)
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:
            raise InvalidArgument(
                field, "is no IANA time zone; one looks like Asia/Shanghai, empty is UTC"
            ) from error
    return name


@lru_cache(1024)
def zone(name: str) -> ZoneInfo:
    """The time zone of a name; nothing is UTC. Raises ZoneInfoNotFoundError, ValueError or OSError."""
    return ZoneInfo(name or UTC_NAME)


def period_start(period: Period, time_zone: str, now_ms: int) -> int:
    """When the period of `now_ms` began, Unix milliseconds."""
    if period is Period.TOTAL:
        return 0
    return _ms(_first_day(period, _date(time_zone, now_ms)), time_zone)


def next_period(period: Period, time_zone: str, now_ms: int) -> int | None:
    """When the period after that of `now_ms` begins, Unix milliseconds; None for never."""
    if period is Period.TOTAL:
        return None
    first = _first_day(period, _date(time_zone, now_ms))
    # 32 days after the first of a month is in the next one, whatever its length.
    return _ms(_first_day(period, first + timedelta(days=1 if period is Period.DAY else 32)), time_zone)


def in_zone(time_zone: str, at_ms: int) -> str:
    """A moment for people, e.g. `2026-11-22 00:00 Asia/Shanghai`."""
    return f"{datetime.fromtimestamp(at_ms // 1000, zone(time_zone)):%Y-%m-%d %H:%M} {time_zone or UTC_NAME}"


def _date(time_zone: str, now_ms: int) -> date:
    return datetime.fromtimestamp(now_ms // 1000, zone(time_zone)).date()


def _first_day(period: Period, day: date) -> date:
    return day.replace(day=1) if period is Period.MONTH else day


def _ms(day: date, time_zone: str) -> int:
    """When a day begins. A midnight that a change of the clock skips is read by the offset before it, which
    gives the moment of the change; one that comes twice is its first."""
    return int(datetime(day.year, day.month, day.day, tzinfo=zone(time_zone)).timestamp()) * 1000
