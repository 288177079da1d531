"""Reading the log: its levels, and lines by level, time and text."""

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
from ml_dash.query.source import Source
from ml_dash.storage import reading
from ml_dash.storage.documents import to_datetime
from ml_dash.storage.names import closest

Line = dict[str, Any]
Test = Callable[[Line], bool]


class LogLevel(enum.StrEnum):
    """The levels of a log line, from the least to the most serious."""

    DEBUG = "debug"
    INFO = "info"
    WARN = "warn"
    ERROR = "error"
    FATAL = "fatal"

    @classmethod
    def validate(cls, level: object) -> str:
        """The level in lower case; ``warning`` is ``warn`` and ``critical`` is ``fatal``.

        Raises:
            InvalidValueError: there is no such level.
        """
        known = LEVELS.get(level.lower()) if isinstance(level, str) else None
        if known is None:
            hint = closest(level.lower(), LEVELS) if isinstance(level, str) else None
            advice = f"did you mean {hint!r}?" if hint else f"use one of {', '.join(cls)}"
            raise InvalidValueError(f"level={level!r:.80} is not a log level; {advice}")
        return known


LEVELS: dict[str, str] = {level.value: level.value for level in LogLevel} | {"warning": "warn", "critical": "fatal"}
"""The level that each accepted spelling means."""

_ORDER = [level.value for level in LogLevel]


class LogReader:
    """The log of a run, to be read.

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
        """Lines in the order of their calls, those just logged included; all of them if nothing is asked for.

        Args:
            level: one level or several; only lines of these.
            min_level: only lines of this level or a more serious one.
            start: only lines of this moment or later: a datetime, ISO 8601 text or seconds since 1970. A datetime or
                text without a time zone is local time.
            end: the same for the last moment; it is included.
            contains: only lines whose message has this text in it, in any case, or in which this compiled pattern is
                found.
            limit: only the last so many of the lines that fit; memory is needed for these only.

        Returns:
            One dict for each line: ``sequenceNumber``, ``timestamp``, ``level``, ``message`` and perhaps ``metadata``.

        Raises:
            InvalidValueError: a level, a time or the limit is out of its range.
            InvalidTypeError: an argument is of another type.
        """
        tests = [*_level_tests(level, min_level), *_time_tests(start, end), *_text_tests(contains)]
        last = _checked_limit(limit)
        self._source.flush()
        lines = (line for line in reading.iter_logs(self._source.folder) if all(test(line) for test in tests))
        return list(lines) if last is None else list(deque(lines, maxlen=last))


def _level_tests(level: object, min_level: object) -> list[Test]:
    wanted = set(_ORDER)
    if level is not None:
        wanted &= {LogLevel.validate(one) for one in _several(level)}
    if min_level is not None:
        wanted &= set(_ORDER[_ORDER.index(LogLevel.validate(min_level)) :])
    if level is None and min_level is None:
        return []
    return [lambda line: LEVELS.get(str(line.get("level")).lower()) in wanted]


def _several(level: object) -> list[object]:
    if isinstance(level, str):
        return [level]
    if not isinstance(level, Iterable):
        raise InvalidTypeError(f"level={level!r:.80} must be the name of a level, or a list of them")
    return list(level)


def _time_tests(start: object, end: object) -> list[Test]:
    first = None if start is None else _moment("start", start)
    last = None if end is None else _moment("end", end)
    if first is None and last is None:
        return []

    def is_within(line: Line) -> bool:
        moment = to_datetime(line.get("timestamp"))
        return moment is not None and (first is None or moment >= first) and (last is None or moment <= last)

    return [is_within]


def _moment(what: str, value: object) -> datetime.datetime:
    """A bound as a moment with a time zone, rounded to microseconds as the lines' own times are."""
    try:
        return _to_moment(value)
    except TypeError:
        raise InvalidTypeError(f"{what}={value!r:.80} must be a datetime, ISO text or seconds since 1970") from None
    except (ValueError, OverflowError, OSError) as error:
        raise InvalidValueError(
            f"{what}={value!r:.80} is no time ({error}); use a datetime, ISO text or seconds since 1970"
        ) from None


def _to_moment(value: Any) -> datetime.datetime:
    if isinstance(value, str):
        value = datetime.datetime.fromisoformat(value)
    if isinstance(value, datetime.datetime):
        return value.astimezone(datetime.UTC)  # without a zone it is taken as local time
    if isinstance(value, bool):
        raise TypeError
    return datetime.datetime.fromtimestamp(float(value), datetime.UTC)


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


def _checked_limit(limit: object) -> int | None:
    if limit is None:
        return None
    try:
        last = operator.index(limit)  # type: ignore[arg-type]  # what is no integer raises TypeError
    except TypeError:
        last = None
    if last is None or isinstance(limit, bool):
        raise InvalidTypeError(f"limit={limit!r:.80} must be a whole number, or None for all lines")
    if last < 0:
        raise InvalidValueError(f"limit={last} must be 0 or more, or None for all lines")
    return last if last <= sys.maxsize else None  # no log has so many lines, and no deque counts so far
