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
from ml_dash.streams.base import NOT_GIVEN, NotGiven, Owner, RunStream
from ml_dash.streams.log_sink import LogSink

if TYPE_CHECKING:
    from ml_dash.streams.log_handler import LogHandler

__all__ = ["LogBuilder", "LogLevel", "Logs"]

_LOG = int(Kind.LOG)
_BY_NAME = "format the message yourself, f'...', and pass values as keywords, such as lr=0.1"


class Logs(RunStream, LogReader):
    """The log of a run. Lines are numbered in the order of calls.

    Attributes:
        echo: whether each line is also printed: ``error`` and ``fatal`` to stderr, the others to stdout. May be set
            at any time.

    Args:
        owner: the run.
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
        message: NotGiven = NOT_GIVEN,
        level: Literal[None] = None,
        metadata: Mapping[str, object] | None = None,
        **extra: object,
    ) -> LogBuilder: ...

    def log(
        self,
        message: str | NotGiven = NOT_GIVEN,
        level: str | None = None,
        metadata: Mapping[str, object] | None = None,
        **extra: object,
    ) -> LogBuilder | None:
        """Log one line.

        Args:
            message: the text. Without it nothing is logged yet: ``exp.log(metadata={...}).info("text")``.
            level: ``debug``, ``info`` (the default), ``warn``, ``error`` or ``fatal``, in upper or lower case.
            metadata: values that belong to the line, by name.
            **extra: more values; they override those of ``metadata``.

        Returns:
            None; without a message, a builder with a method for each level.

        Raises:
            InvalidValueError: the level is not known.
            InvalidTypeError: the message is no text, or a value cannot be stored.
            ExperimentError: the experiment is not open.
        """
        started = time.perf_counter_ns()
        if level is None:
            level = "info"
        elif type(level) is not str or level != LEVELS.get(
            level
        ):  # type first: an unhashable level cannot be looked up
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
        """Log a line at level ``debug``; arguments and errors as for ``log``."""
        self._log_at("debug", message, metadata, extra)

    def info(self, message: str, metadata: Mapping[str, object] | None = None, **extra: Any) -> None:
        """Log a line at level ``info``; arguments and errors as for ``log``."""
        self._log_at("info", message, metadata, extra)

    def warn(self, message: str, metadata: Mapping[str, object] | None = None, **extra: Any) -> None:
        """Log a line at level ``warn``; arguments and errors as for ``log``."""
        self._log_at("warn", message, metadata, extra)

    warning = warn

    def error(self, message: str, metadata: Mapping[str, object] | None = None, **extra: Any) -> None:
        """Log a line at level ``error``; arguments and errors as for ``log``."""
        self._log_at("error", message, metadata, extra)

    def fatal(self, message: str, metadata: Mapping[str, object] | None = None, **extra: Any) -> None:
        """Log a line at level ``fatal``; arguments and errors as for ``log``."""
        self._log_at("fatal", message, metadata, extra)

    critical = fatal

    def handler(self, level: str | int = 0) -> LogHandler:
        """Return a handler for Python's ``logging``: ``logging.getLogger().addHandler(exp.logs.handler())``.

        It sends records to this log with their logger, file, line and exception as metadata, and prints nothing. It
        never raises, and does nothing while the run is closed.

        Args:
            level: the least serious level that is sent: a level of ours, or a number of ``logging``; 0 sends all.

        Raises:
            InvalidValueError: the level is not known.
        """
        from ml_dash.streams.log_handler import LogHandler  # loads logging

        return LogHandler(LogSink(self._owner), level)

    def _log_at(
        self, level: str, message: str, metadata: Mapping[str, object] | None, extra: dict[str, object]
    ) -> None:
        """Log for a method that is named like its level: there a keyword ``level`` is a value of the line."""
        names: tuple[str, ...] = ("level", "metadata")
        clashing = {name: extra.pop(name) for name in names if name in extra}
        if clashing:
            more = _checked(clashing.pop("metadata")) if "metadata" in clashing else {}
            metadata = {**(_checked(metadata) if metadata is not None else {}), **more, **clashing}
        self.log(message, level, metadata, **extra)

    def _builder(
        self, message: object, level: str, metadata: Mapping[str, object] | None, extra: dict[str, object]
    ) -> LogBuilder:
        if message is not NOT_GIVEN or level != "info":
            what = "it is missing" if message is NOT_GIVEN else f"not {type(message).__name__} ({message!r:.80})"
            raise InvalidTypeError(f"message must be str, {what}; call str() on it")
        return LogBuilder(self, {**_checked(metadata or {}), **extra})


class LogBuilder:
    """Logs lines with the same metadata: ``exp.log(metadata={...}).info("text")``.

    Args:
        logs: the log.
        metadata: values that belong to the lines, by name.
    """

    def __init__(self, logs: Logs, metadata: Mapping[str, object]) -> None:
        self._logs = logs
        self._metadata = metadata

    def debug(self, message: str, **extra: Any) -> None:
        """Log a line at level ``debug``; arguments and errors as for ``Logs.log``."""
        self._logs._log_at("debug", message, self._metadata, extra)  # noqa: SLF001 - classes of one module

    def info(self, message: str, **extra: Any) -> None:
        """Log a line at level ``info``; arguments and errors as for ``Logs.log``."""
        self._logs._log_at("info", message, self._metadata, extra)  # noqa: SLF001 - classes of one module

    def warn(self, message: str, **extra: Any) -> None:
        """Log a line at level ``warn``; arguments and errors as for ``Logs.log``."""
        self._logs._log_at("warn", message, self._metadata, extra)  # noqa: SLF001 - classes of one module

    warning = warn

    def error(self, message: str, **extra: Any) -> None:
        """Log a line at level ``error``; arguments and errors as for ``Logs.log``."""
        self._logs._log_at("error", message, self._metadata, extra)  # noqa: SLF001 - classes of one module

    def fatal(self, message: str, **extra: Any) -> None:
        """Log a line at level ``fatal``; arguments and errors as for ``Logs.log``."""
        self._logs._log_at("fatal", message, self._metadata, extra)  # noqa: SLF001 - classes of one module

    critical = fatal


def echo(level: str, message: str, metadata: Mapping[str, object]) -> None:
    """Print a line as ``[LEVEL] message [k=v, ...]``. Never raises."""
    try:
        rest = f" [{', '.join(f'{key}={_short(value)}' for key, value in metadata.items())}]" if metadata else ""
    except Exception:  # noqa: BLE001 - a value's __str__ may raise anything; the line was logged
        rest = ""
    console.write(2 if level in ("error", "fatal") else 1, f"[{level.upper()}] {message}{rest}\n")


def _short(value: object) -> str:
    """Return a short text of a value for people; the log itself keeps it exactly."""
    if isinstance(value, float):
        return f"{value:.6g}"
    return repr(value) if isinstance(value, str) and (" " in value or not value) else str(value)


def _level(level: object, message: object) -> str:
    """Return the level as it is stored."""
    try:
        return LogLevel.validate(level)
    except InvalidValueError as error:
        if isinstance(message, str) and "%" in message:  # in the style of logging, with the level's place for a value
            raise InvalidValueError(f"{error}. The message has a '%': {_BY_NAME}") from None
        raise


def _checked(metadata: object) -> Mapping[str, object]:
    if not isinstance(metadata, Mapping):
        raise InvalidTypeError(f"metadata must be a dict, not {type(metadata).__name__} ({metadata!r:.80}); {_BY_NAME}")
    return metadata
