"""Run a program for its output, within a time and a size, and leave nothing of it behind."""

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
"""How often a waiting call looks whether it is still wanted."""

_REAP_S = 1.0
"""How long a program that was killed may take to be gone: one that hangs in a network file system stays longer."""

_ERROR_BYTES = 4_096
"""What is kept of what a program says on stderr."""

_BLOCK = 65_536


class GaveNoAnswerError(Exception):
    """A program did not end in time, or was no longer wanted."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a program said.

    Attributes:
        status: its exit status; 0 also if it was stopped at the limit.
        output: its stdout, at most the limit.
        error: the beginning of its stderr.
        truncated: it had more to say than the limit.
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
    wanted: Callable[[], bool],
) -> Answer:
    """Run a program in a session of its own, so that whatever it starts can be ended with it.

    Args:
        command: an absolute path and arguments.
        cwd: where.
        environment: its variables, all of them.
        limit: bytes of stdout, after which it is stopped.
        deadline: moment of ``time.monotonic()`` at which it is stopped.
        wanted: whether the answer is still of use; asked 20 times a second.

    Raises:
        GaveNoAnswerError: it took too long, or nobody wants the answer any more.
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
        output, error, ended = _read(process, limit, deadline, wanted)
        if ended:
            return Answer(process.wait(max(_TICK_S, deadline - time.monotonic())), output, error, truncated=False)
        return Answer(0, output[:limit], error, truncated=True)
    except subprocess.TimeoutExpired:
        raise GaveNoAnswerError(f"{os.path.basename(command[0])} closed its output and did not end") from None
    finally:
        _end(process)


def _read(
    process: subprocess.Popen[bytes], limit: int, deadline: float, wanted: Callable[[], bool]
) -> tuple[bytes, bytes, bool]:
    """Stdout, stderr, and whether both came to their end before the limit."""
    assert process.stdout is not None
    assert process.stderr is not None
    out, err = process.stdout.fileno(), process.stderr.fileno()
    said = {out: bytearray(), err: bytearray()}
    unfinished = {out, err}
    while unfinished:
        if time.monotonic() > deadline or not wanted():
            raise GaveNoAnswerError("it took too long")
        for fd in select.select(list(unfinished), [], [], _TICK_S)[0]:
            block = os.read(fd, _BLOCK)
            if not block:
                unfinished.discard(fd)
            elif fd == out or len(said[err]) < _ERROR_BYTES:
                said[fd] += block
        if len(said[out]) > limit:
            return bytes(said[out]), bytes(said[err]), False
    return bytes(said[out]), bytes(said[err]), True


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill what is left of a program and what it started; close our ends."""
    import subprocess

    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_REAP_S)
    for stream in (process.stdout, process.stderr):
        if stream is not None:
            stream.close()
