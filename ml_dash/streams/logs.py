"""Log lines: ``exp.log("text", level="info", lr=3e-4)`` and ``exp.logs.info("text")``."""

from __future__ import annotations

import enum
import sys
import time
from collections.abc import Mapping
from typing import Any

from ml_dash.errors import InvalidTypeError, InvalidValueError
from ml_dash.records.record import Kind
from ml_dash.records.values import encode
from ml_dash.storage import reading
from ml_dash.storage.names import closest
from ml_dash.streams.owner import Owner

_LOG = int(Kind.LOG)


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
        known = _LEVELS.get(level.lower()) if isinstance(level, str) else None
        if known is None:
            hint = closest(str(level).lower(), _LEVELS)
            advice = f"did you mean {hint!r}?" if hint else f"use one of {', '.join(cls)}"
            raise InvalidValueError(f"level={level!r} is not a log level; {advice}")
        return known


_LEVELS: dict[str, str] = {level.value: level.value for level in LogLevel} | {"warning": "warn", "critical": "fatal"}


class Logs:
    """The log of a run. Lines are numbered in the order of calls.

    Args:
        owner: the experiment.
        echo: whether each line is also printed: ``error`` and ``fatal`` to stderr, the others to stdout.
    """

    def __init__(self, owner: Owner, *, echo: bool) -> None:
        self._owner = owner
        self.echo = echo

    def log(
        self, message: str, level: str | None = None, metadata: Mapping[str, object] | None = None, **extra: object
    ) -> None:
        """Log one line.

        Args:
            message: the text.
            level: ``debug``, ``info`` (the default), ``warn``, ``error`` or ``fatal``, in any case.
            metadata: values that belong to the line.
            **extra: more of them.

        Raises:
            InvalidValueError: there is no such level.
            InvalidTypeError: the message is no text, or a value cannot be stored.
            ExperimentError: the experiment is not open.
        """
        started = time.perf_counter_ns()
        if level is None:
            level = "info"
        elif level not in _LEVELS or level != _LEVELS[level]:
            level = LogLevel.validate(level)
        if not isinstance(message, str):
            raise InvalidTypeError(
                f"message must be str, not {type(message).__name__} ({message!r:.80}); call str() on it"
            )
        line: dict[str, object] = {"level": level, "message": message}
        if metadata is not None:
            extra = {**_checked(metadata), **extra}
        if extra:
            line["metadata"] = extra
        data = encode(line, "a log line")
        self._owner.channel.publish(_LOG, b"", data, time.time(), started)
        if self.echo:
            echo(level, message, extra)

    def __call__(self, message: str, level: str | None = None, **extra: Any) -> None:
        """The same as ``log``."""
        self.log(message, level, **extra)

    def debug(self, message: str, **extra: Any) -> None:
        """Log at level ``debug``."""
        self.log(message, "debug", **extra)

    def info(self, message: str, **extra: Any) -> None:
        """Log at level ``info``."""
        self.log(message, "info", **extra)

    def warn(self, message: str, **extra: Any) -> None:
        """Log at level ``warn``."""
        self.log(message, "warn", **extra)

    warning = warn

    def error(self, message: str, **extra: Any) -> None:
        """Log at level ``error``."""
        self.log(message, "error", **extra)

    def fatal(self, message: str, **extra: Any) -> None:
        """Log at level ``fatal``."""
        self.log(message, "fatal", **extra)

    def read(self) -> list[dict[str, Any]]:
        """Every line so far: ``sequenceNumber``, ``timestamp``, ``level``, ``message`` and perhaps ``metadata``."""
        self._owner.flush()
        return reading.read_logs(self._owner.folder)


def echo(level: str, message: str, metadata: Mapping[str, object]) -> None:
    """Print a line as ``[LEVEL] message [k=v, ...]``. A stream that is closed or full stops no training."""
    stream = sys.stderr if level in ("error", "fatal") else sys.stdout
    rest = f" [{', '.join(f'{key}={_short(value)}' for key, value in metadata.items())}]" if metadata else ""
    try:
        stream.write(f"[{level.upper()}] {message}{rest}\n")
    except Exception:  # noqa: BLE001 - a closed pipe, no stream, whatever stands in for one: the line itself is logged
        return


def _short(value: object) -> str:
    """A value as a person reads it; the log itself keeps it exactly."""
    if isinstance(value, float):
        return f"{value:.6g}"
    return repr(value) if isinstance(value, str) and (" " in value or not value) else str(value)


def _checked(metadata: object) -> Mapping[str, object]:
    if not isinstance(metadata, Mapping):
        raise InvalidTypeError(f"metadata must be a dict, not {type(metadata).__name__}; pass names and values")
    return metadata
