"""Numbers, times and text as a person reads them. Pure."""

from __future__ import annotations

import datetime
import math
import re
from collections.abc import Mapping
from typing import Any

from ml_dash._json import json

_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
"""What would move the cursor, end the line or turn the text around: a log line may hold anything."""

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def clean(text: str) -> str:
    """Text for one line of a terminal: what controls it is shown as an escape."""
    if text.isascii() and text.isprintable():
        return text
    return _CONTROL.sub(lambda found: _escape(found[0]), text).replace("\t", "    ")


def _escape(letter: str) -> str:
    code = ord(letter)
    if letter in "\n\r":
        return "\\n" if letter == "\n" else "\\r"
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"


def lines_of(text: str) -> list[str]:
    """The lines of a text, each one cleaned."""
    return [clean(line) for line in re.split(r"\r\n|\r|\n", text)]


def plural(count: int, one: str, many: str = "") -> str:
    """``1 run``, ``2 runs``; thousands are set apart."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def size(count: int) -> str:
    """Bytes in the unit that keeps the number small: ``412 B``, ``1.9 KiB``."""
    if count < 1024:
        return f"{count} B"
    value, unit = float(count), 0
    while value >= 1024 and unit < len(_UNITS) - 1:
        value, unit = value / 1024, unit + 1
    return f"{value:.1f} {_UNITS[unit]}"


def duration(seconds: float | None) -> str:
    """A time span in two units at most: ``0.4 s``, ``3 min 20 s``, ``2 h 5 min``, ``4 d 1 h``."""
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


def age(moment: datetime.datetime | None, now: datetime.datetime) -> str:
    """How long ago, in one unit: ``12 s ago``, ``3 h ago``. A moment to come is told as it stands."""
    if moment is None:
        return "-"
    seconds = (now - moment).total_seconds()
    if seconds < 0:
        return local_time(moment)
    for unit, length, until in (("s", 1, 90), ("min", 60, 5400), ("h", 3600, 129_600)):
        if seconds < until:
            return f"{seconds / length:.0f} {unit} ago"
    return f"{seconds / 86400:.0f} d ago"


def local_time(moment: datetime.datetime | None) -> str:
    """A moment in the reader's own time zone, to the second."""
    try:
        return "-" if moment is None else moment.astimezone().strftime("%Y-%m-%d %H:%M:%S")
    except (OverflowError, ValueError, OSError):  # within hours of the year 1 or 9999
        return "-"


def number(value: float | None) -> str:
    """A number in at most six digits, whole ones in full."""
    if value is None:
        return "-"
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "inf" if value > 0 else "-inf"
    return f"{value:.0f}" if value == int(value) and abs(value) < 1e15 else f"{value:.6g}"


def value_text(value: Any) -> str:
    """A parameter's value. Text stands as it is unless it could be taken for something else: then it is quoted."""
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False) if _looks_like_another(value) else clean(value)
    if isinstance(value, float):
        return repr(value) if math.isfinite(value) else number(value)
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(value_text(one) for one in value) + "]"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{clean(str(key))}: {value_text(one)}" for key, one in value.items()) + "}"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return clean(str(value))


def _looks_like_another(text: str) -> bool:
    if text != text.strip() or not text or text in {"NaN", "inf", "-inf", "Infinity", "-Infinity"}:
        return True
    if text[0] not in "-0123456789tfn[{\"'":
        return False
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return text[0] in "\"'"
    return True
