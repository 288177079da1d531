"""Run a program for its output, with limits of time and size, and kill whatever it started."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import subprocess

_TICK_S = 0.05
"""Interval at which a waiting call checks whether its answer is still wanted."""

_REAP_S = 1.0
"""Time that a killed program gets to end. One that hangs in a network file system takes longer and is left."""

_ERROR_BYTES = 4_096
"""Bytes of stderr that are kept."""

_BLOCK = 65_536


class GaveNoAnswerError(Exception):
    """A program did not end in time, or its answer was no longer wanted."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The output of a program.

    Attributes:
        status: its exit status; 0 also if it was stopped at the limit.
        output: its stdout, up to the limit.
        error: the beginning of its stderr.
        truncated: whether its stdout was longer than the limit.
    """

    status: int
    output: bytes
    error: bytes
    truncated: bool


def ask(
    command: Sequence[str],
    cwd: str,
    environment: Mapping[str, str],
    *,
    limit: int,
    deadline: float,
    is_wanted: Callable[[], bool],
) -> Answer:
    """Run a program in its own session, so that all that it starts can be killed with it.

    Args:
        command: an absolute path and arguments.
        cwd: its current folder.
        environment: all of its variables.
        limit: bytes of stdout after which it is stopped.
        deadline: time of ``time.monotonic()`` at which it is stopped.
        is_wanted: whether the answer is still wanted; called 20 times a second.

    Raises:
        GaveNoAnswerError: it took too long, or the answer is no longer wanted.
        OSError: it could not be started.
    """
    import subprocess

    process = subprocess.Popen(
        list(command),
        cwd=cwd,
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        output, error, ended = _read(process, limit, deadline, is_wanted)
        if ended:
            return Answer(process.wait(max(_TICK_S, deadline - time.monotonic())), output, error, truncated=False)
        return Answer(0, output[:limit], error, truncated=True)
    except subprocess.TimeoutExpired:
        raise GaveNoAnswerError(f"{os.path.basename(command[0])} closed its output and did not end") from None
    finally:
        _end(process)


def _read(
    process: subprocess.Popen[bytes], limit: int, deadline: float, is_wanted: Callable[[], bool]
) -> tuple[bytes, bytes, bool]:
    """Return stdout, stderr, and whether both ended before the limit."""
    assert process.stdout is not None
    assert process.stderr is not None
    out, err = process.stdout.fileno(), process.stderr.fileno()
    received = {out: bytearray(), err: bytearray()}
    unfinished = {out, err}
    while unfinished:
        if time.monotonic() > deadline or not is_wanted():
            raise GaveNoAnswerError("it took too long")
        for fd in select.select(list(unfinished), [], [], _TICK_S)[0]:
            block = os.read(fd, _BLOCK)
            if not block:
                unfinished.discard(fd)
            elif fd == out or len(received[err]) < _ERROR_BYTES:
                received[fd] += block
        if len(received[out]) > limit:
            return bytes(received[out]), bytes(received[err]), False
    return bytes(received[out]), bytes(received[err]), True


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill what is left of a program and of its children, and close our ends of its pipes."""
    import subprocess

    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_REAP_S)
    for stream in (process.stdout, process.stderr):
        if stream is not None:
            stream.close()
