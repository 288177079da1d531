"""Run programs that crash tests kill, and read the files that they leave."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from ml_dash.storage import journal, metric_reading, reading
from ml_dash.storage.documents import read_document
from tests.run_contents import read_logs
from tests.support import SUBPROCESS_SECONDS, python_environment, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

PREFIX = "alice/walker/run"

PROLOGUE = f"""
import multiprocessing, os, select, signal, sys, threading, time
import numpy as np
from ml_dash import Experiment

def experiment():
    return Experiment("{PREFIX}", dash_root="root", echo=False)

def say(*words):
    os.write(1, (" ".join(map(str, words)) + "\\n").encode())

def wait_for_the_test():
    os.read(0, 1)

def wait_for_a_signal():
    # Not signal.pause(): a signal that comes just before it is noted, and the pause that follows never ends.
    while True:
        select.select([], [], [], 0.1)
"""

FOREGROUND = """
import fcntl, signal, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
# Ignored signals are inherited, and tests are run in the background and with nohup too.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
"""

ROUNDS = int(os.environ.get("ML_DASH_CRASH_ROUNDS", "0"))
"""Number of repetitions of a random crash; 0: each test's own small number."""


class Program:
    """A running program. Its output is read line by line; it waits for the test by reading from stdin."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self.lines: list[str] = []
        self._rest = b""

    @property
    def pid(self) -> int:
        return self.process.pid

    def next_line(self, timeout: float = SUBPROCESS_SECONDS) -> str:
        """Return the next line that it prints; fail if none comes in time."""
        while b"\n" not in self._rest:
            data = self._read(timeout)
            assert data, f"the program ended early: {self.errors()}"
            self._rest += data
        line, self._rest = self._rest.split(b"\n", 1)
        self.lines.append(line.decode())
        return self.lines[-1]

    def expect(self, word: str) -> list[str]:
        """Read lines up to one that begins with `word`, and return the other words of that line."""
        while True:
            first, *others = self.next_line().split(" ")
            if first == word:
                return others

    def release(self) -> None:
        """Let the program, and every child of it that waits for the test, go on."""
        assert self.process.stdin is not None
        self.process.stdin.close()

    def wait(self, timeout: float = SUBPROCESS_SECONDS) -> int:
        """Return its exit status, or minus the number of the signal that ended it."""
        return self.process.wait(timeout)

    def remaining(self) -> list[str]:
        """Return the lines up to the end of its output: until every process that holds the pipe has closed it."""
        while data := self._read(SUBPROCESS_SECONDS):
            self._rest += data
        return self._rest.decode().splitlines()

    def errors(self) -> str:
        """Return what it has written to stderr."""
        assert isinstance(self.process.args, list)
        return Path(self.process.args[-1]).with_suffix(".stderr").read_text()

    def _read(self, timeout: float) -> bytes:
        assert self.process.stdout is not None
        ready, _, _ = select.select([self.process.stdout], [], [], timeout)
        assert ready, f"the program printed nothing for {timeout:g} s: {self.errors()}"
        return os.read(self.process.stdout.fileno(), 65536)


@contextlib.contextmanager
def running(code: str, folder: Path, name: str = "program") -> Iterator[Program]:
    """Run `PROLOGUE` and `code` in `folder`; at the end of the block kill the program and its children."""
    path = folder / f"{name}.py"
    path.write_text(PROLOGUE + code)
    with path.with_suffix(".stderr").open("wb") as errors:
        process = subprocess.Popen(
            [sys.executable, str(path)],
            cwd=folder,
            env=python_environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            start_new_session=True,
        )
    try:
        yield Program(process)
    finally:
        _clear(process)


class Terminal(Program):
    """A program in the foreground of a terminal of its own."""

    def __init__(self, process: subprocess.Popen[bytes], screen: int) -> None:
        super().__init__(process)
        self._screen = screen

    def type(self, keys: bytes) -> None:
        """Type text."""
        os.write(self._screen, keys)

    def hang_up(self) -> None:
        """Close the terminal."""
        screen, self._screen = self._screen, -1
        if screen >= 0:
            os.close(screen)


@contextlib.contextmanager
def terminal(code: str, folder: Path) -> Iterator[Terminal]:
    """Run a program in a terminal: stdin and stderr are the terminal, stdout is a pipe to the test."""
    path = folder / "program.py"
    path.write_text(FOREGROUND + PROLOGUE + code)
    screen, device = os.openpty()
    process = subprocess.Popen(
        [sys.executable, str(path)],
        cwd=folder,
        env=python_environment(),
        stdin=device,
        stdout=subprocess.PIPE,
        stderr=device,
        start_new_session=True,
    )
    os.close(device)
    path.with_suffix(".stderr").write_text("see the terminal")
    program = Terminal(process, screen)
    try:
        yield program
    finally:
        _clear(process)
        program.hang_up()


def run(code: str, folder: Path, status: int = 0) -> list[str]:
    """Run a program to its end, check its exit status, and return the lines that it printed."""
    with running(code, folder) as program:
        program.release()
        lines = program.remaining()
        assert status == program.wait(), program.errors()
        return lines


def writers_of(pid: int) -> list[psutil.Process]:
    """Return the writer processes that a process has started."""
    return [child for child in psutil.Process(pid).children() if "ml_dash.writer.main" in " ".join(child.cmdline())]


def writer_of(pid: int) -> psutil.Process:
    """Return the only writer of a process. A new process has no command line for a moment, so this waits."""
    wait_until(lambda: writers_of(pid), SUBPROCESS_SECONDS, f"process {pid} has a writer")
    (writer,) = writers_of(pid)
    return writer


def run_folder(folder: Path) -> str:
    """Return the run's folder of a program that was started in `folder`."""
    return str(folder / "root" / PREFIX)


def document(folder: Path) -> dict[str, Any]:
    """Read the run's experiment.json."""
    return reading.read_experiment(run_folder(folder))


def ending(folder: Path) -> tuple[str, str | None]:
    """Read the run's status and its reason."""
    found = document(folder)
    return found["status"], found["status_reason"]


def others(folder: Path) -> list[str]:
    """Read the status of each further writer of the run."""
    found = [read_document(path) for path in Path(run_folder(folder), ".writers").glob("*.json")]
    return [str(entry["status"]) for entry in found if entry]


def points(folder: Path, name: str = "train") -> list[dict[str, Any]]:
    """Read the points of a metric without their times; points of several writers are in order of time."""
    data = [point["data"] for point in metric_reading.read_metric(run_folder(folder), name, 0, None)["data"]]
    times = [point.pop("_ts") for point in data]
    assert sorted(times) == times or len(shards(folder, name)) == 1
    return data


def messages(folder: Path) -> list[str]:
    """Read the messages of the log."""
    return [line["message"] for line in read_logs(run_folder(folder))]


def shards(folder: Path, name: str = "train") -> list[str]:
    """Return the names of a metric's files, that of the first writer first."""
    return [Path(path).name for path in journal.shards(f"{run_folder(folder)}/metrics/{name}", "data")]


def wait_for_exit(pids: Sequence[int], timeout: float = 30.0) -> None:
    """Return once none of the processes exists, or only as a zombie."""
    wait_until(lambda: not any(_exists(pid) for pid in pids), timeout, f"the end of the processes {pids}")


def _exists(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _clear(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            with contextlib.suppress(BrokenPipeError):
                stream.close()
