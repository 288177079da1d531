"""The settings of the buffers between the training process and the disk, and of what a run records."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from ml_dash.errors import ConfigurationError

_TRUE = frozenset(("1", "true", "yes", "on"))
_FALSE = frozenset(("0", "false", "no", "off"))
POLICIES = ("block", "drop")
_KINDS = {int: "must be a whole number", float: "must be a number", bool: "must be True or False", str: "must be text"}

MOST_ENCODERS = 8
"""Frames encoded at the same time by default: with more, the disk or the training loop is the limit."""


def usable_processors() -> int:
    """Return the number of processors that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS
        return os.cpu_count() or 1


@dataclass(frozen=True)
class BufferConfig:
    """Sizes, time limits and policies of the buffers, and switches for what a run records.

    Attributes:
        frame_buffer_mb: memory for pixels that wait for the encoder, in MiB, 1 to 65536; less if the machine has less.
        frame_policy: when that memory is full, ``block`` waits (nothing is lost), ``drop`` drops the frame and counts it.
        encoders: frames encoded at the same time, 1 to 64; 0 means half of the processors, at most 4, and twice as
            many while training waits for room.
        sync_interval: seconds between syncs to the disk; a loss of power loses at most the data of that time.
        stall_timeout: seconds that a call waits for a writer without progress before it drops a record.
        fault_timeout: seconds that it waits while the disk cannot be written to (full, unreachable).
        close_timeout: seconds that closing a run waits for a writer without progress.
        echo: whether log lines are also printed.
        record_environment: whether the run records its command line, machine, packages and code.
        capture_output: whether the output of the process is also logged.
        columnar_rows: rows from which a metric or track gets a columnar copy when the run ends; 0 for no copies.
        flush_interval, log_batch_size, metric_batch_size, track_batch_size, file_upload_workers, buffer_enabled,
            max_retries, retry_base_delay, retry_max_delay: read for compatibility with the published client. The
            local engine needs no batches; the retry settings and the workers are for uploads.
    """

    flush_interval: float = 5.0
    log_batch_size: int = 100
    metric_batch_size: int = 1000
    track_batch_size: int = 100
    file_upload_workers: int = 4
    buffer_enabled: bool = True
    max_retries: int = 3
    retry_base_delay: float = 1.0
    retry_max_delay: float = 30.0
    frame_buffer_mb: int = 64
    frame_policy: str = "block"
    encoders: int = 0
    sync_interval: float = 2.0
    stall_timeout: float = 60.0
    fault_timeout: float = 5.0
    close_timeout: float = 60.0
    echo: bool = True
    record_environment: bool = True
    capture_output: bool = False
    columnar_rows: int = 1

    def __post_init__(self) -> None:
        """Check every value.

        Raises:
            ConfigurationError: a value has the wrong type or is out of range.
        """
        for field in fields(self):
            self._check(
                field.name, _is_kind(getattr(self, field.name), type(field.default)), _KINDS[type(field.default)]
            )
        self._check("frame_policy", self.frame_policy in POLICIES, f"must be one of {', '.join(POLICIES)}")
        self._check("frame_buffer_mb", 1 <= self.frame_buffer_mb <= 65536, "must be 1 to 65536 (MiB)")
        self._check("encoders", 0 <= self.encoders <= 64, "must be 0 (automatic) to 64")
        self._check("columnar_rows", self.columnar_rows >= 0, "must be 0 (never) or more")
        for name in ("sync_interval", "stall_timeout", "fault_timeout", "close_timeout", "flush_interval"):
            self._check(name, 0 < getattr(self, name) < 1e6, "must be a positive number of seconds")

    def _check(self, name: str, fits: bool, rule: str) -> None:
        if not fits:
            raise ConfigurationError(f"{name}={getattr(self, name)!r}: {rule}")

    @property
    def encoder_count(self) -> int:
        """Frames encoded at the same time, with ``encoders=0`` resolved."""
        return self.encoders or max(1, min(MOST_ENCODERS // 2, usable_processors() // 2))

    @property
    def burst_encoder_count(self) -> int:
        """Frames encoded at the same time while training waits for memory, which leaves its processors free."""
        return self.encoders or max(1, min(MOST_ENCODERS, usable_processors()))

    def replaced(self, **given: Any) -> BufferConfig:
        """Return a copy with other values; a value of None changes nothing.

        Raises:
            ConfigurationError: a value is out of range.
        """
        return replace(self, **{name: value for name, value in given.items() if value is not None})

    @classmethod
    def from_env(cls, environ: Mapping[str, str] = os.environ) -> BufferConfig:
        """Return the settings of the ``ML_DASH_<NAME>`` variables.

        Raises:
            ConfigurationError: a variable has an invalid value; the text names it.
        """
        values = {}
        for field in fields(cls):
            variable = f"ML_DASH_{field.name.upper()}"
            if environ.get(variable, "").strip():
                values[field.name] = _parse(variable, environ[variable].strip(), type(field.default))
        return cls(**values)


def _is_kind(value: object, kind: type) -> bool:
    if kind is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    return isinstance(value, kind) and (kind is bool or not isinstance(value, bool))


def _parse(variable: str, text: str, kind: type) -> Any:
    if kind is bool:
        if text.lower() in _TRUE | _FALSE:
            return text.lower() in _TRUE
        raise ConfigurationError(f"{variable}={text!r} is neither true nor false; use 1/true/yes/on or 0/false/no/off")
    convert: Callable[[str], Any] = kind
    try:
        return convert(text)
    except ValueError:
        raise ConfigurationError(f"{variable}={text!r} is not a {kind.__name__}; correct or unset it") from None
