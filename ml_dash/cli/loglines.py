"""A line of the log as a person reads it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ml_dash.cli import formatting
from ml_dash.cli.table import Cell

LEVEL_WIDTH = 5
NO_CLOCK = "--:--:--"
LEVEL_STYLES = {"debug": "dim", "info": "green", "warn": "yellow", "error": "red", "fatal": "bold red"}


def log_cells(line: Mapping[str, Any]) -> tuple[Cell, Cell, Cell]:
    """When it was logged (in the reader's time zone), its level, and what it says with what was given beside it."""
    level = str(line.get("level") or "")
    details = line.get("metadata")
    text = formatting.clean(str(line.get("message", "")))
    if isinstance(details, Mapping) and details:
        text = f"{text}  {pairs(details)}"
    return (
        (clock(line.get("timestamp")), "dim"),
        (formatting.clean(level)[:LEVEL_WIDTH], LEVEL_STYLES.get(level, "")),
        text,
    )


def pairs(values: Mapping[str, Any]) -> str:
    """Values by name: ``loss=0.07 step=20``."""
    return " ".join(f"{formatting.clean(str(name))}={_short(value)}" for name, value in values.items())


def clock(moment: object) -> str:
    """The time of day of ISO text or of seconds since 1970."""
    import datetime

    from ml_dash.storage.documents import to_datetime

    try:
        found = to_datetime(moment)
        if isinstance(moment, (int, float)):
            found = datetime.datetime.fromtimestamp(moment, datetime.UTC)
        return NO_CLOCK if found is None else found.astimezone().strftime("%H:%M:%S")
    except (ValueError, OverflowError, OSError):  # NaN, or beyond the years that there are
        return NO_CLOCK


def _short(value: Any) -> str:
    return formatting.number(value) if isinstance(value, float) else formatting.value_text(value)
