"""Ids that grow with time, made by each process alone.

A run's id is a 64-bit number: 42 bits of milliseconds since 2024-01-01 UTC, 10 bits of worker (the process id), 12 bits
of sequence, which begins at random in each process. A file's id is decimal text: the milliseconds since 1970 times
4096, then ten digits of the process. Both may be made in several threads and in a forked child, and keep growing when
the clock is set back.
"""

from __future__ import annotations

import os
import threading
import time

from ml_dash import _fork

EPOCH_MS = 1_704_067_200_000
"""2024-01-01T00:00:00Z in Unix milliseconds."""

SEQUENCE_BITS = 12
WORKER_BITS = 10

_NS_PER_MS = 1_000_000
PROCESS_DIGITS = 10
"""Random digits of the process in a file's id. Two processes have the same ones in one of 20,000 runs of 1,000 processes."""

LEAST_TIME_PART = 10**15
"""The least time part of a file's id: all ids have as many digits, also before the clock of a machine is set."""

_PARTS_PER_S = 1000.0 * (1 << SEQUENCE_BITS)
"""Parts of a second in a file's id: about the precision of a float, which is much faster here than a long integer."""

_SEQUENCE_MASK = (1 << SEQUENCE_BITS) - 1
_WORKER_MASK = (1 << WORKER_BITS) - 1


class _RunIds:
    """The last `milliseconds << 12 | sequence` that was given; counting on carries into the milliseconds.

    The sequence begins at random: in containers all the processes of a job may have the same process id.
    """

    __slots__ = ("_first", "_last", "_lock", "_worker")

    def __init__(self, last: int = 0) -> None:
        self._lock = threading.RLock()
        self._last = last
        self._first = _random() & _SEQUENCE_MASK
        self._worker = os.getpid() & _WORKER_MASK

    def next(self) -> int:
        with self._lock:
            while True:
                before = self._last
                now = (time.time_ns() // _NS_PER_MS - EPOCH_MS) << SEQUENCE_BITS | self._first
                last = max(now, before + 1)
                if self._last == before:  # otherwise a signal handler took an id between these lines: try again
                    self._last = last
                    break
        milliseconds, sequence = last >> SEQUENCE_BITS, last & _SEQUENCE_MASK
        return ((milliseconds << WORKER_BITS | self._worker) << SEQUENCE_BITS) | sequence

    def in_child(self) -> _RunIds:
        # The child has another worker number, so it can go on from the parent's last id.
        return _RunIds(self._last)


class _FileIds:
    """The last time part that was given, and the digits of this process.

    A time alone is not unique, however fine: processes in step make ids at the same time, and of two files with one id a
    reader finds one.
    """

    __slots__ = ("_last", "_lock", "_process")

    def __init__(self, last: int = LEAST_TIME_PART) -> None:
        self._lock = threading.RLock()
        self._process = f"{_random() % 10**PROCESS_DIGITS:0{PROCESS_DIGITS}d}"
        self._last = last

    def next(self, now: float | None = None) -> str:
        parts = int((time.time() if now is None else now) * _PARTS_PER_S)
        with self._lock:
            while True:
                before = self._last
                last = parts if parts > before else before + 1
                if self._last == before:  # as above
                    self._last = last
                    return f"{last}{self._process}"

    def in_child(self) -> _FileIds:
        return _FileIds(self._last)


def _random() -> int:
    # Not from the module random: a user's seed would repeat our ids, and these would change the user's numbers.
    return int.from_bytes(os.urandom(8))


class _Ids:
    """The generators of this process, replaced in a forked child: another thread may have held a lock at the fork."""

    runs = _RunIds()
    files = _FileIds()

    @classmethod
    def renew(cls) -> None:
        cls.runs, cls.files = cls.runs.in_child(), cls.files.in_child()


_fork.call_in_child(_Ids.renew)


def generate_snowflake_id() -> int:
    """Return a new id for a run: positive, under 2**63, larger than all before it in this process.

    It never waits and never raises: when more than 4096 are made in a millisecond, or the clock is set back, the ids run
    ahead of the clock until it has caught up.
    """
    return _Ids.runs.next()


def file_id(now: float | None = None) -> str:
    """Return a new id for a file: 26 decimal digits (27 from the year 2047), growing, never the same in one process.

    The chance that another process can make the same ids is 1 in 10**10.

    Args:
        now: seconds since 1970; default the present.
    """
    return _Ids.files.next(now)
