"""Text for people: numbers, times and values in short forms, safe for a terminal, measured, cut and wrapped. Pure."""

from __future__ import annotations

import datetime
import math
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from ml_dash._json import json
from ml_dash._printable import Printable, clean, clean_text

ELLIPSIS = "…"
NO_CLOCK = "--:--:--"
LEVEL_WIDTH = 5

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


# --- printable text


def clean_lines(text: str) -> list[Printable]:
    """Split prose into lines and clean each one."""
    return [clean_text(line) for line in re.split(r"\r\n|\r|\n", text)]


# --- width


def display_width(text: str) -> int:
    """Return the number of terminal columns that a text takes: two for an ideograph, none for an accent."""
    return len(text) if text.isascii() else _unicode_width(text)


@lru_cache(maxsize=4096)
def _unicode_width(text: str) -> int:
    from wcwidth import wcswidth, wcwidth

    total = wcswidth(text)
    return total if total >= 0 else sum(max(0, wcwidth(letter)) for letter in text)  # with control characters


def clip(text: Printable, width: int | None, *, keep_end: bool = False) -> Printable:
    """Cut a text to a number of terminal columns; an ellipsis marks the cut.

    Args:
        text: the text.
        width: terminal columns; None for no limit.
        keep_end: whether to cut away the beginning instead of the end.
    """
    if width is None or display_width(text) <= width:
        return text
    if width < 1:
        return Printable()
    # Search for the longest part that leaves a column for the ellipsis. The sum of the letters' widths would be
    # wrong: an emoji may be one with the letters around it.
    kept, too_long = 0, len(text)
    while too_long - kept > 1:
        count = (kept + too_long) // 2
        part = text[len(text) - count :] if keep_end else text[:count]
        if display_width(part) < width:
            kept = count
        else:
            too_long = count
    return Printable(ELLIPSIS + text[len(text) - kept :] if keep_end else text[:kept].rstrip() + ELLIPSIS)


def wrap(text: str, width: int | None, *, head: str = "", head_width: int = 0) -> list[str]:
    """Break a text between words into lines that fit a width; the lines after the first are indented below the text.

    Args:
        text: the prose that follows the head; it is cleaned here.
        width: terminal columns; None for no limit. A longer word keeps a line of its own.
        head: the beginning of the first line, painted or not.
        head_width: the columns that the head takes.
    """
    lines = [""]
    for word in clean_text(text).split(" "):
        longer = f"{lines[-1]} {word}" if lines[-1] else word
        if width is not None and lines[-1] and head_width + display_width(longer) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return [head + lines[0], *(" " * head_width + line for line in lines[1:])]


# --- numbers and times


def plural(count: int, one: str, many: str = "") -> str:
    """Return a count with its noun: ``1 run``, ``2,000 runs``."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def size(count: int) -> str:
    """Return a number of bytes in the largest unit that fits: ``412 B``, ``1.9 KiB``."""
    if count < 1024:
        return f"{count} B"
    value, unit = float(count), 0
    while value >= 1024 and unit < len(_UNITS) - 1:
        value, unit = value / 1024, unit + 1
    return f"{value:.1f} {_UNITS[unit]}"


def duration(seconds: float | None) -> str:
    """Return a time span in at most two units: ``0.4 s``, ``3 min 20 s``, ``2 h 5 min``, ``4 d 1 h``."""
    if seconds is None or not math.isfinite(seconds):
        return "-"
    if seconds < 10:
        return f"{max(seconds, 0.0):.1f} s"
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours < 24 else f"{hours // 24} d {hours % 24} h"


def age(time: datetime.datetime | None, now: datetime.datetime) -> str:
    """Return how long ago a time was, in one unit: ``12 s ago``, ``3 h ago``. A future time is given in full."""
    if time is None:
        return "-"
    seconds = (now - time).total_seconds()
    if seconds < 0:
        return local_time(time)
    for unit, length, until in (("s", 1, 90), ("min", 60, 5400), ("h", 3600, 129_600)):
        if seconds < until:
            return f"{seconds / length:.0f} {unit} ago"
    return f"{seconds / 86400:.0f} d ago"


def local_time(time: datetime.datetime | None) -> str:
    """Return a time in the reader's time zone, to the second: ``2026-03-01 12:00:00``."""
    try:
        return "-" if time is None else time.astimezone().strftime("%Y-%m-%d %H:%M:%S")
    except (OverflowError, ValueError, OSError):  # within hours of the year 1 or 9999
        return "-"


def clock(time: object) -> str:
    """Return the time of day in the reader's time zone: ``12:00:00``.

    Args:
        time: ISO text, or seconds since 1970.
    """
    from ml_dash.storage.documents import to_datetime

    try:
        if isinstance(time, (int, float)):
            parsed: datetime.datetime | None = datetime.datetime.fromtimestamp(time, datetime.UTC)
        else:
            parsed = to_datetime(time)
        return NO_CLOCK if parsed is None else parsed.astimezone().strftime("%H:%M:%S")
    except (ValueError, OverflowError, OSError):  # NaN, or a year outside 1 to 9999
        return NO_CLOCK


def number(value: float | None) -> str:
    """Return a number with at most six digits; a whole number keeps all of its digits."""
    if value is None:
        return "-"
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "inf" if value > 0 else "-inf"
    return f"{value:.0f}" if value == int(value) and abs(value) < 1e15 else f"{value:.6g}"


# --- values


def value_text(value: Any) -> Printable:
    """Return a parameter's value in full. Text is quoted only if it would look like another type, such as ``"4"``."""
    if isinstance(value, str):
        return clean_text(json.dumps(value, ensure_ascii=False) if _looks_like_another_type(value) else value)
    if isinstance(value, float):
        return Printable(repr(value) if math.isfinite(value) else number(value))
    if isinstance(value, (list, tuple)):
        return Printable("[" + ", ".join(value_text(item) for item in value) + "]")
    if isinstance(value, Mapping):
        items = (f"{clean(str(key))}: {value_text(item)}" for key, item in value.items())
        return Printable("{" + ", ".join(items) + "}")
    if value is None or isinstance(value, bool):
        return Printable({None: "null", True: "true", False: "false"}[value])
    return clean_text(str(value))


def _looks_like_another_type(text: str) -> bool:
    if text != text.strip() or not text or text in {"NaN", "inf", "-inf", "Infinity", "-Infinity"}:
        return True
    if text[0] not in "-0123456789tfn[{\"'":
        return False
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return text[0] in "\"'"
    return True


def short_value(value: Any) -> Printable:
    """Return a value as ``value_text`` does, but a float with at most six digits."""
    return Printable(number(value)) if isinstance(value, float) else value_text(value)


def pairs(values: Mapping[str, Any]) -> Printable:
    """Return named values on one line: ``loss=0.07 step=20``."""
    return Printable(" ".join(f"{clean(str(name))}={short_value(value)}" for name, value in values.items()))


def log_parts(entry: Mapping[str, Any]) -> tuple[str, Printable, Printable]:
    """Return the time of day, the level, and the message with its metadata, of an entry of the log."""
    text = clean_text(str(entry.get("message", "")))
    metadata = entry.get("metadata")
    if isinstance(metadata, Mapping) and metadata:
        text = Printable(f"{text}  {pairs(metadata)}")
    level = clean_text(str(entry.get("level") or ""))[:LEVEL_WIDTH]
    return clock(entry.get("timestamp")), Printable(level), text
