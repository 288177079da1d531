"""Numbers, times and durations as a person writes them in a condition. Pure."""

from __future__ import annotations

import datetime
import math
import re
import time

TIMES = "90min, 12h, 2d or 1w for so long ago, or a date such as 2026-03-01"
"""The ways to write a time, for messages."""

_LONGEST_S = 1e15
"""A duration beyond this is no duration, and would not be a finite float."""

_NUMBER = re.compile(r"[-+]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?|[-+]?(?:nan|inf|infinity)", re.IGNORECASE)
_PERIODS = (
    (re.compile(r"\d{4}-?W\d\d"), datetime.timedelta(weeks=1)),
    (re.compile(r"\d{4}-?\d\d-?\d\d|\d{4}-?W\d\d-?\d"), datetime.timedelta(days=1)),
    (re.compile(r".{8,10}[T ]\d\d(?:Z|[-+].*)?"), datetime.timedelta(hours=1)),
    (re.compile(r".{8,10}[T ]\d\d:?\d\d(?:Z|[-+].*)?"), datetime.timedelta(minutes=1)),
    (re.compile(r".{8,10}[T ]\d\d:?\d\d:?\d\d(?:Z|[-+].*)?"), datetime.timedelta(seconds=1)),
)
"""ISO texts that name a period, and its length on the clock."""

_SPAN_TEXT = re.compile(r"(\d+(?:\.\d+)?) *(s|min|m|h|d|w)")
_SECONDS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


def number_of(text: str) -> int | float | None:
    """The number that a word is, NaN and the infinities included; None if it is none."""
    if _NUMBER.fullmatch(text) is None:
        return None
    try:
        return int(text)
    except ValueError:  # a float, or more digits than Python reads
        return float(text)


def time_of(text: str, now: float | None = None) -> float | None:
    """Seconds since 1970 of ISO text (local time without a zone), or of a span before now such as ``2d``; else None."""
    text = text.strip()
    seconds = _span(text.removeprefix("-"))
    if seconds is not None:
        return (time.time() if now is None else now) - seconds
    try:
        return datetime.datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError, OSError):
        return None


def period_of(text: str, now: float | None = None) -> tuple[float, float]:
    """The first second of the day, week, hour, minute or second that a text names, and the first one after it.

    Days and weeks are those of the calendar: one with a change of the clock has 23 or 25 hours. A span, and a text with
    fractions of a second, is one instant.

    Args:
        text: a text that ``time_of`` reads.
        now: seconds since 1970 from which spans count back; None is the time of this call.
    """
    text = text.strip()
    start = time_of(text, now)
    assert start is not None, "checked when it was parsed"
    for pattern, length in _PERIODS:
        if pattern.fullmatch(text) is None:
            continue
        first = datetime.datetime.fromisoformat(text)
        is_of_calendar = first.tzinfo is None and length.days > 0
        return start, (first + length).timestamp() if is_of_calendar else start + length.total_seconds()
    return start, math.nextafter(start, math.inf)


def seconds_of(text: str) -> float | None:
    """A length of time: seconds, or a number with a unit."""
    number = number_of(text)
    if number is None:
        return _span(text)
    return float(number) if abs(number) < _LONGEST_S else None


def _span(text: str) -> float | None:
    match = _SPAN_TEXT.fullmatch(text)
    return float(match[1]) * _SECONDS[match[2]] if match else None
