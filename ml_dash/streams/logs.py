"""Log lines: ``exp.log("text", level="info", lr=3e-4)`` and ``exp.logs.info("text")``."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal, overload

from ml_dash.capture import console
from ml_dash.errors import InvalidTypeError, InvalidValueError
from ml_dash.query.logs import LEVELS, LogLevel, LogReader
from ml_dash.records.record import Kind
from ml_dash.records.values import encode
from ml_dash.streams.base import Owner, RunStream
from ml_dash.streams.log_sink import LogSink

if TYPE_CHECKING:
    from ml_dash.streams.log_handler import LogHandler

__all__ = ["LogBuilder", "LogLevel", "Logs"]

_LOG = int(Kind.LOG)
_BY_NAME = "format the message yourself, f'...', and pass values as keywords, such as lr=0.1"


class Missing:
    """What a message is that was not given: None is one that was, by mistake."""


MISSING = Missing()


class Logs(RunStream, LogReader):
    """The log of a run. Lines are numbered in the order of calls.

    Attributes:
        echo: whether each line is also printed: ``error`` and ``fatal`` to stderr, the others to stdout. May be set
            at any time.

    Args:
        owner: the experiment.
        echo: the attribute's first value.
    """

    _instead: ClassVar[dict[str, str]] = {"append": "log(text)", "write": "log(text)"}

    def __init__(self, owner: Owner, *, echo: bool) -> None:
        super().__init__(owner)
        self._owner = owner
        self.echo = echo

    @overload
    def log(
        self, message: str, level: str | None = None, metadata: Mapping[str, object] | None = None, **extra: object
    ) -> None: ...

    @overload
    def log(
        self,
        message: Missing = MISSING,
        level: Literal[None] = None,
        metadata: Mapping[str, object] | None = None,
        **extra: object,
    ) -> LogBuilder: ...

    def log(
        self,
        message: str | Missing = MISSING,
        level: str | None = None,
        metadata: Mapping[str, object] | None = None,
        **extra: object,
    ) -> LogBuilder | None:
        """Log one line.

        Args:
            message: the text. Without it nothing is logged: ``exp.log(metadata={...}).info("text")`` gives it later.
            level: ``debug``, ``info`` (the default), ``warn``, ``error`` or ``fatal``, in any case.
            metadata: values that belong to the line.
            **extra: more of them.

        Returns:
            None; without a message, a builder whose methods are named like the levels.

        Raises:
            InvalidValueError: there is no such level.
            InvalidTypeError: the message is no text, or a value cannot be stored.
            ExperimentError: the experiment is not open.
        """
        started = time.perf_counter_ns()
        if level is None:
            level = "info"
        elif type(level) is not str or level != LEVELS.get(level):  # one that is unhashable has no place in a dict
            level = _level(level, message)
        if not isinstance(message, str):
            return self._builder(message, level, metadata, extra)
        line: dict[str, object] = {"level": level, "message": message}
        if metadata is not None:
            extra = {**_checked(metadata), **extra}
        if extra:
            line["metadata"] = extra
        data = encode(line, "a log line")
        self._owner.channel.publish(_LOG, b"", data, time.time(), started)
        if self.echo:
            echo(level, message, extra)
        return None

    __call__ = log

    def debug(self, message: str, metadata: Mapping[str, object] | None = None, **extra: Any) -> None:
        """Log at level ``debug``; ``metadata`` and ``extra`` as in ``log``."""
        self._log_at("debug", message, metadata, extra)

    def info(self, message: str, metadata: Mapping[str, object] | None = None, **extra: Any) -> None:
        """Log at level ``info``."""
        self._log_at("info", message, metadata, extra)

    def warn(self, message: str, metadata: Mapping[str, object] | None = None, **extra: Any) -> None:
        """Log at level ``warn``."""
        self._log_at("warn", message, metadata, extra)

    warning = warn

    def error(self, message: str, metadata: Mapping[str, object] | None = None, **extra: Any) -> None:
        """Log at level ``error``."""
        self._log_at("error", message, metadata, extra)

    def fatal(self, message: str, metadata: Mapping[str, object] | None = None, **extra: Any) -> None:
        """Log at level ``fatal``."""
        self._log_at("fatal", message, metadata, extra)

    critical = fatal

    def handler(self, level: str | int = 0) -> LogHandler:
        """A handler for Python's ``logging``: ``logging.getLogger().addHandler(exp.logs.handler())``.

        It sends records to this log with their logger, file, line and exception as metadata, and prints nothing. It
        never raises, and does nothing while the run is closed.

        Args:
            level: the least serious level that is sent: one of ours, or a number of ``logging``; 0 sends all.

        Raises:
            InvalidValueError: there is no such level.
        """
        from ml_dash.streams.log_handler import LogHandler  # loads logging

        return LogHandler(LogSink(self._owner), level)

    def _log_at(
        self, level: str, message: str, metadata: Mapping[str, object] | None, extra: dict[str, object]
    ) -> None:
        """The same for a method that is named like its level: there ``level`` and ``metadata`` may be values."""
        names: tuple[str, ...] = ("level", "metadata")
        taken = {name: extra.pop(name) for name in names if name in extra}
        if taken:
            more = _checked(taken.pop("metadata")) if "metadata" in taken else {}
            metadata = {**(_checked(metadata) if metadata is not None else {}), **more, **taken}
        self.log(message, level, metadata, **extra)

    def _builder(
        self, message: object, level: str, metadata: Mapping[str, object] | None, extra: dict[str, object]
    ) -> LogBuilder:
        if message is not MISSING or level != "info":
            what = "it is missing" if message is MISSING else f"not {type(message).__name__} ({message!r:.80})"
            raise InvalidTypeError(f"message must be str, {what}; call str() on it")
        return LogBuilder(self, {**_checked(metadata or {}), **extra})


class LogBuilder:
    """A line without its text: ``exp.log(metadata={...}).info("text")``. Each call logs one line.

    Args:
        logs: the log.
        metadata: values that belong to the lines.
    """

    def __init__(self, logs: Logs, metadata: Mapping[str, object]) -> None:
        self._logs = logs
        self._metadata = metadata

    def debug(self, message: str, **extra: Any) -> None:
        """Log at level ``debug``."""
        self._logs._log_at("debug", message, self._metadata, extra)

    def info(self, message: str, **extra: Any) -> None:
        """Log at level ``info``."""
        self._logs._log_at("info", message, self._metadata, extra)

    def warn(self, message: str, **extra: Any) -> None:
        """Log at level ``warn``."""
        self._logs._log_at("warn", message, self._metadata, extra)

    warning = warn

    def error(self, message: str, **extra: Any) -> None:
        """Log at level ``error``."""
        self._logs._log_at("error", message, self._metadata, extra)

    def fatal(self, message: str, **extra: Any) -> None:
        """Log at level ``fatal``."""
        self._logs._log_at("fatal", message, self._metadata, extra)

    critical = fatal


def echo(level: str, message: str, metadata: Mapping[str, object]) -> None:
    """Print a line as ``[LEVEL] message [k=v, ...]``. A stream that is closed or full stops no training."""
    try:
        rest = f" [{', '.join(f'{key}={_short(value)}' for key, value in metadata.items())}]" if metadata else ""
    except Exception:  # noqa: BLE001 - a value whose own text cannot be had; the line itself is logged
        rest = ""
    console.write(2 if level in ("error", "fatal") else 1, f"[{level.upper()}] {message}{rest}\n")


def _short(value: object) -> str:
    """A value as a person reads it; the log itself keeps it exactly."""
    if isinstance(value, float):
        return f"{value:.6g}"
    return repr(value) if isinstance(value, str) and (" " in value or not value) else str(value)


def _level(level: object, message: object) -> str:
    """The level as it is stored; what is no level may be a value for a message in the style of ``logging``."""
    try:
        return LogLevel.validate(level)
    except InvalidValueError as error:
        if isinstance(message, str) and "%" in message:
            raise InvalidValueError(f"{error}. The message has a '%': {_BY_NAME}") from None
        raise


def _checked(metadata: object) -> Mapping[str, object]:
    if not isinstance(metadata, Mapping):
        raise InvalidTypeError(f"metadata must be a dict, not {type(metadata).__name__} ({metadata!r:.80}); {_BY_NAME}")
    return metadata
