"""Helpers for tests of every kind: wait for a condition, run Python as a user would, read files."""

from __future__ import annotations

import fcntl
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ml_dash

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

REPOSITORY = Path(__file__).resolve().parents[1]

PREFIX = "alice/walker/run-1"
"""The prefix of runs in tests to which it makes no difference."""

# Short enough to add nothing to a test, long enough to leave the second core to the process waited for.
POLL_SECONDS = 0.01

# A busy machine with two cores starts Python and imports numpy in about a second; this only bounds a hang.
SUBPROCESS_SECONDS = 60.0


def wait_until(condition: Callable[[], object], timeout: float = 10.0, message: str = "") -> None:
    """Return once `condition()` is true.

    Args:
        condition: called about every 10 ms.
        timeout: seconds until giving up.
        message: name of the condition, for the failure.

    Raises:
        AssertionError: it was still false after `timeout` seconds.
    """
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not true within {timeout:g} s: {message or condition}")
        time.sleep(POLL_SECONDS)


def wait_released(run: Path) -> None:
    """Return once no process holds the lock of the run in this folder: neither its trainer nor its writer.

    A process that was killed holds its locks for a moment longer, even after its parent has noticed its end.
    """
    lock = run / ".lock"
    if lock.exists():
        wait_until(lambda: _is_free(lock), SUBPROCESS_SECONDS, f"the writer of {run} has ended")


def _is_free(lock: Path) -> bool:
    with lock.open("r+b") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


def lines(path: Path) -> list[Any]:
    """Read a file of JSON lines."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def file_time(folder: Path) -> int:
    """Return the time with which the file system of this folder stamps a file that is written now, in nanoseconds."""
    with tempfile.TemporaryFile(dir=folder) as file:
        file.write(b"x")
        file.flush()
        return os.fstat(file.fileno()).st_mtime_ns


def import_root() -> Path:
    """The folder from which this test run imports ml_dash: site-packages, or the checkout."""
    return Path(ml_dash.__path__[0]).resolve().parent


FORKS_BESIDE_THREADS = "ignore:This process:DeprecationWarning"
"""From Python 3.12 on, ``os.fork`` warns wherever there are threads, and so in nearly every program that trains."""


def python_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment for a subprocess that imports the same ml_dash and finds the same programs.

    Args:
        extra: variables to set on top.
    """
    environment = {"PYTHONWARNINGS": FORKS_BESIDE_THREADS, **os.environ, **(extra or {})}
    environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), environment.get("PATH", os.defpath)])
    paths = [str(import_root()), environment.get("PYTHONPATH", "")]
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    return environment


def run_python(
    code: str, cwd: Path, *, environment: Mapping[str, str] | None = None, timeout: float = SUBPROCESS_SECONDS
) -> str:
    """Run `code` with `python -c` in `cwd` and return what it printed.

    Args:
        code: the program.
        cwd: its working directory.
        environment: variables to set on top of the present ones.
        timeout: seconds until it is killed.

    Raises:
        AssertionError: it ended with another status than 0; the message holds its stderr.
        subprocess.TimeoutExpired: it took longer than `timeout`.
    """
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=cwd,
        env=python_environment(environment),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert 0 == done.returncode, done.stderr
    return done.stdout


def at_each_call_inside(function, action):
    """Run `function` again and again, each time with `action` where a signal handler could run next.

    The interpreter runs handlers when a function begins and after a call of C code returned; the profiler is called
    in the same places. Yields what `function` returned, until it ends before the n-th place.
    """
    for n in itertools.count():
        left = [n]

        def profile(frame, event, arg, left=left):
            if event not in ("call", "c_return") or arg is sys.setprofile:
                return
            left[0] -= 1
            if left[0] == -1:
                sys.setprofile(None)
                action()

        sys.setprofile(profile)
        try:
            result = function()
        finally:
            sys.setprofile(None)
        if left[0] >= 0:
            return
        yield result


def shown(value: object) -> str:
    """What a value is called in a test's name: the same in every process, as workers that share the tests need it."""
    text = repr(value)
    return type(value).__name__ if " at 0x" in text or isinstance(value, (set, frozenset)) else text
