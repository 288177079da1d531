"""Read the log of a run: its lines by level, time and text."""

from __future__ import annotations

import datetime
import enum
import operator
import re
import sys
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from ml_dash.errors import InvalidTypeError, InvalidValueError
from ml_dash.query.reader import Source
from ml_dash.storage import reading
from ml_dash.storage.documents import to_datetime
from ml_dash.storage.names import closest

Line = dict[str, Any]
Test = Callable[[Line], bool]


class LogLevel(enum.StrEnum):
    """Levels of log lines, from the least to the most serious."""

    DEBUG = "debug"
    INFO = "info"
    WARN = "warn"
    ERROR = "error"
    FATAL = "fatal"

    @classmethod
    def validate(cls, level: object) -> str:
        """Return the name of a level: in lower case, ``warn`` for ``warning`` and ``fatal`` for ``critical``.

        Raises:
            InvalidValueError: there is no such level.
        """
        name = LEVELS.get(level.lower()) if isinstance(level, str) else None
        if name is None:
            hint = closest(level.lower(), LEVELS) if isinstance(level, str) else None
            advice = f"did you mean {hint!r}?" if hint else f"use one of {', '.join(cls)}"
            raise InvalidValueError(f"level={level!r:.80} is not a log level; {advice}")
        return name


LEVELS: dict[str, str] = {level.value: level.value for level in LogLevel} | {"warning": "warn", "critical": "fatal"}
"""Level of each accepted spelling."""

_ORDER = [level.value for level in LogLevel]


class LogReader:
    """The log of a run.

    Args:
        source: the run.
    """

    def __init__(self, source: Source) -> None:
        self._source = source

    def read(
        self,
        level: str | Iterable[str] | None = None,
        min_level: str | None = None,
        start: datetime.datetime | str | float | None = None,
        end: datetime.datetime | str | float | None = None,
        contains: str | re.Pattern[str] | None = None,
        limit: int | None = None,
    ) -> list[Line]:
        """Read log lines in the order of their calls, including lines that were just logged; by default all of them.

        Args:
            level: only lines of this level, or of these levels.
            min_level: only lines of this level or a more serious one.
            start: only lines of this time or later: a datetime, ISO 8601 text or seconds since 1970. A datetime or
                text without a time zone is local time.
            end: only lines of this time or earlier, in the same forms.
            contains: only lines whose message contains this text, in upper or lower case, or this compiled pattern.
            limit: only the last ``limit`` of these lines, which alone are kept in memory.

        Returns:
            One dict for each line: ``sequenceNumber``, ``timestamp``, ``level``, ``message`` and perhaps ``metadata``.

        Raises:
            InvalidValueError: a level, a time or the limit is out of its range.
            InvalidTypeError: an argument is of another type.
        """
        tests = [*_level_tests(level, min_level), *_time_tests(start, end), *_text_tests(contains)]
        count = _check_limit(limit)
        self._source.flush()
        lines = (line for line in reading.iter_logs(self._source.folder) if all(test(line) for test in tests))
        return list(lines) if count is None else list(deque(lines, maxlen=count))


def _level_tests(level: object, min_level: object) -> list[Test]:
    if level is None and min_level is None:
        return []
    levels = set(_ORDER)
    if level is not None:
        if not isinstance(level, Iterable):
            raise InvalidTypeError(f"level={level!r:.80} must be the name of a level, or a list of them")
        levels &= {LogLevel.validate(name) for name in ([level] if isinstance(level, str) else level)}
    if min_level is not None:
        levels &= set(_ORDER[_ORDER.index(LogLevel.validate(min_level)) :])
    return [lambda line: LEVELS.get(str(line.get("level")).lower()) in levels]


def _time_tests(start: object, end: object) -> list[Test]:
    first = None if start is None else _check_time("start", start)
    last = None if end is None else _check_time("end", end)
    if first is None and last is None:
        return []

    def is_within(line: Line) -> bool:
        time = to_datetime(line.get("timestamp"))
        return time is not None and (first is None or time >= first) and (last is None or time <= last)

    return [is_within]


def _check_time(name: str, value: Any) -> datetime.datetime:
    """Return a bound as a datetime with a time zone, in microseconds like the times of the lines."""
    try:
        if isinstance(value, str):
            value = datetime.datetime.fromisoformat(value)
        if isinstance(value, datetime.datetime):
            return value.astimezone(datetime.UTC)  # without a time zone it is local time
        if isinstance(value, bool):
            raise TypeError
        return datetime.datetime.fromtimestamp(float(value), datetime.UTC)
    except TypeError:
        raise InvalidTypeError(f"{name}={value!r:.80} must be a datetime, ISO text or seconds since 1970") from None
    except (ValueError, OverflowError, OSError) as error:
        raise InvalidValueError(
            f"{name}={value!r:.80} is no time ({error}); use a datetime, ISO text or seconds since 1970"
        ) from None


def _text_tests(contains: object) -> list[Test]:
    if contains is None:
        return []
    if isinstance(contains, str):
        text = contains.casefold()
        return [lambda line: text in str(line.get("message", "")).casefold()]
    if isinstance(contains, re.Pattern) and isinstance(contains.pattern, str):
        pattern = contains
        return [lambda line: pattern.search(str(line.get("message", ""))) is not None]
    raise InvalidTypeError(f"contains={contains!r:.80} must be text, or a pattern of text from re.compile")


def _check_limit(limit: object) -> int | None:
    if limit is None:
        return None
    try:
        count = operator.index(limit)  # type: ignore[arg-type]  # anything but an integer raises TypeError
    except TypeError:
        count = None
    if count is None or isinstance(limit, bool):
        raise InvalidTypeError(f"limit={limit!r:.80} must be a whole number, or None for all lines")
    if count < 0:
        raise InvalidValueError(f"limit={count} must be 0 or more, or None for all lines")
    return count if count <= sys.maxsize else None  # a deque takes no larger length, and no log is longer
