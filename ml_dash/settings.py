"""Every setting of the buffers between the training process and the disk: its name, its default, its reason."""

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
"""Frames encoded at the same time, unless the user asks for more: beyond that the disk or the loop is the limit."""


def _processors() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS
        return os.cpu_count() or 1


@dataclass(frozen=True)
class BufferConfig:
    """How much is buffered, and what happens when a buffer is full.

    Attributes:
        frame_buffer_mb: room for pixels that wait for the encoder, in MiB, 1 to 65536; less if the machine has less.
        frame_policy: when that room is full, ``block`` waits (nothing is lost), ``drop`` counts and goes on.
        encoders: frames encoded at the same time, 1 to 64; 0 means half of the processors, at most 4, and twice as
            many while training waits for room.
        sync_interval: seconds between syncs to the disk; only a loss of power can lose more than this.
        stall_timeout: seconds that a call waits for a writer that makes no progress before it gives a record up.
        fault_timeout: the same while the disk refuses to write (full, unreachable).
        close_timeout: seconds that closing a run waits for a writer that makes no progress.
        echo: whether log lines are printed too.
        record_environment: whether the run records its command line, machine, packages and code.
        capture_output: whether what the process prints is logged too.
        columnar_rows: a metric or track of at least so many rows gets a columnar copy when the run ends; 0 means none.
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
        """Refuse what cannot work.

        Raises:
            ConfigurationError: a value has the wrong type or is out of its range.
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
        return self.encoders or max(1, min(MOST_ENCODERS // 2, _processors() // 2))

    @property
    def burst_encoder_count(self) -> int:
        """The same while training waits for room: then its processors are free."""
        return self.encoders or max(1, min(MOST_ENCODERS, _processors()))

    def replaced(self, **given: Any) -> BufferConfig:
        """The same with other values; one that is None stays as it is.

        Raises:
            ConfigurationError: a value is out of its range.
        """
        return replace(self, **{name: value for name, value in given.items() if value is not None})

    @classmethod
    def from_env(cls, environ: Mapping[str, str] = os.environ) -> BufferConfig:
        """Settings from ``ML_DASH_<NAME>`` variables.

        Raises:
            ConfigurationError: a variable cannot be read; the text names it.
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
