"""A handler of Python's ``logging`` for a run: ``logging.getLogger().addHandler(exp.logs.handler())``."""

from __future__ import annotations

import logging
import threading
import traceback
from typing import TYPE_CHECKING, Any

from ml_dash.errors import InvalidValueError
from ml_dash.query.logs import LogLevel

if TYPE_CHECKING:
    from ml_dash.streams.log_sink import LogSink

MAX_NESTED = 2
"""Depth of records that are logged while another record is stored, such as by a value's ``__str__``."""

NUMBERS = {"debug": 10, "info": 20, "warn": 30, "error": 40, "fatal": 50}
"""The numbers of ``logging`` for our levels."""

_STANDARD_FIELDS = frozenset((*vars(logging.makeLogRecord({})), "message", "asctime", "taskName"))


class LogHandler(logging.Handler):
    """Sends the records of ``logging`` to the log of a run.

    The line's metadata has ``logger``, ``file``, ``line``, the values of ``extra=``, and ``exception`` (the traceback)
    if there was one. Nothing is printed: that is the job of the program's other handlers. While the run is closed the
    handler does nothing. It never raises.

    Args:
        sink: takes the lines.
        level: the least serious level that is sent.
    """

    def __init__(self, sink: LogSink, level: str | int = logging.NOTSET) -> None:
        super().__init__(to_number(level))
        self._sink = sink
        self._busy = threading.local()

    def emit(self, record: logging.LogRecord) -> None:
        """Store one record; called by ``logging``."""
        depth = getattr(self._busy, "depth", 0)
        if depth >= MAX_NESTED:
            return
        self._busy.depth = depth + 1
        try:
            self._store(record)
        except Exception:  # noqa: BLE001 - the run is closed, or a value's methods raise: logging must not stop training
            return
        finally:
            self._busy.depth = depth

    def _store(self, record: logging.LogRecord) -> None:
        level, message = to_level(record.levelno), self._message(record)
        about = _about(record)
        extra = {name: value for name, value in vars(record).items() if name not in _STANDARD_FIELDS}
        try:
            self._sink.keep_record(level, message, about | extra, record.created)
        except (TypeError, ValueError):  # a value of extra= cannot be stored; the line is kept without extra=
            self._sink.keep_record(level, message, about, record.created)

    def _message(self, record: logging.LogRecord) -> str:
        try:
            return self.formatter.format(record) if self.formatter is not None else record.getMessage()
        except Exception:  # noqa: BLE001 - arguments that do not fit the text, or whose methods raise
            return f"{record.msg} {record.args!r:.1000}"


def to_level(number: int) -> str:
    """Return our level for a number of ``logging``: the highest one that is not above it."""
    return next((level for level in reversed(NUMBERS) if number >= NUMBERS[level]), "debug")


def to_number(level: str | int) -> int:
    """Return the number of ``logging`` for one of our levels; a number is returned unchanged.

    Raises:
        InvalidValueError: the level is not known.
    """
    if isinstance(level, int) and not isinstance(level, bool):
        return level
    if not isinstance(level, str):
        raise InvalidValueError(f"level={level!r:.80} is no log level; use a name such as 'info', or logging.INFO")
    return NUMBERS[LogLevel.validate(level)]


def _about(record: logging.LogRecord) -> dict[str, Any]:
    about: dict[str, Any] = {"logger": record.name, "file": record.pathname, "line": record.lineno}
    if record.exc_info and record.exc_info[0] is not None:
        about["exception"] = "".join(traceback.format_exception(*record.exc_info)).rstrip()
    elif record.exc_text:
        about["exception"] = record.exc_text
    if record.stack_info:
        about["stack"] = record.stack_info
    return about
