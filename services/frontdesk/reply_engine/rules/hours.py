"""Active hours: `HH:MM-HH:MM`, several a day, over midnight when the end is before the start.

The start is included, the end is not; `24:00` may be an end. Days and holidays are not part of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from frontdesk.kit.errors import InvalidArgument

DAY = 24 * 60
MINUTE_MS = 60_000

_INTERVAL = re.compile(r"\s*([0-9]{1,2}):([0-9]{2})\s*[-–~]\s*([0-9]{1,2}):([0-9]{2})\s*")


def parse_interval(text: str, field: str = "active_hours") -> tuple[int, int]:
    """Start and end in minutes of the day, 0 to 1440. InvalidArgument names `field`."""
    found = _INTERVAL.fullmatch(text)
    if not found:
        raise InvalidArgument(field, f"{text[:40]!r} is not of the form HH:MM-HH:MM")
    hour, minute, end_hour, end_minute = (int(group) for group in found.groups())
    start, end = hour * 60 + minute, end_hour * 60 + end_minute
    if minute > 59 or end_minute > 59 or start >= DAY or end > DAY:
        raise InvalidArgument(field, f"{text[:40]!r} names a time that no clock shows")
    if start == end:
        raise InvalidArgument(field, f"{text[:40]!r} is empty; leave the hours out to mean always")
    return start, end


def format_interval(interval: tuple[int, int]) -> str:
    """The normal form of an interval, e.g. `09:00-18:30`."""
    start, end = interval
    return f"{start // 60:02d}:{start % 60:02d}-{end // 60:02d}:{end % 60:02d}"


def minute_of_day(now_ms: int, utc_offset_minutes: int) -> int:
    """The wall clock's minute, 0 to 1439, at an offset from UTC."""
    return (now_ms // MINUTE_MS + utc_offset_minutes) % DAY


def within(intervals: Iterable[tuple[int, int]], minute: int) -> bool:
    """Whether a minute of the day lies in one of the intervals."""
    return any(
        start <= minute < end if start <= end else minute >= start or minute < end for start, end in intervals
    )


def utc_offset_minutes(time_zone: str, now_ms: int, field: str = "time_zone") -> int:
    """Offset of an IANA time zone at a moment. InvalidArgument names `field` when there is no such zone."""
    try:
        zone = ZoneInfo(time_zone)
    except (ValueError, OSError, KeyError) as error:  # ZoneInfoNotFoundError is a KeyError
        raise InvalidArgument(field, f"{time_zone[:64]!r} is not an IANA time zone") from error
    offset = datetime.fromtimestamp(now_ms / 1000, UTC).astimezone(zone).utcoffset()
    return round(offset.total_seconds() / 60) if offset else 0
