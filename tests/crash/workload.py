"""The calls of the crash tests: of every kind, from two threads, numbered; the content of each says which call it was.

The trainer process is a script in this folder that imports this file, so nothing here imports from the tests.
"""

from __future__ import annotations

import os
import random
import threading
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

KINDS = ("metric", "track", "log", "params", "image", "latest", "frame", "blob", "copy")

# 48 blocks hold 24 bits of number, 8 of thread and kind, 16 of checksum.
_BITS = 48
_BLOCKS_ACROSS = 8
SMALL = (48, 64)

# Larger than the 512 KiB that go through the record ring: such a call hands its bytes over in a file.
LARGE_BLOB = 600_000

STEPS_PER_LARGE = 40
"""Large blobs and copied files are slow, so they come once in so many steps."""

LONGEST_PAUSE_S = 0.003
"""Longest pause between two steps: the writer sleeps now and then, but is mostly busy."""


def word(kind: str, thread: int, number: int) -> int:
    """Return 48 bits that identify a call; random bits identify none."""
    value = KINDS.index(kind) << 28 | thread << 24 | number
    return value << 16 | (value * 40503 ^ value >> 13) & 0xFFFF


def pixels(kind: str, thread: int, number: int, shape: tuple[int, int] = SMALL) -> np.ndarray:
    """Make a gray RGB image that shows the word of its call, one block per bit, repeated over its whole area."""
    value = word(kind, thread, number)
    bits = np.array([value >> bit & 1 for bit in range(_BITS)], dtype=np.uint8).reshape(-1, _BLOCKS_ACROSS)
    tile = np.kron(bits * 200 + 20, np.ones((8, 8), dtype=np.uint8))
    repeats = (-(-shape[0] // tile.shape[0]), -(-shape[1] // tile.shape[1]))
    gray = np.tile(tile, repeats)[: shape[0], : shape[1]]
    # Gray, because JPEG stores colours at half the resolution and each pixel must show its bit.
    return np.repeat(gray[:, :, None], 3, axis=2)


def blob(thread: int, number: int, size: int = LARGE_BLOB) -> bytes:
    """Make bytes that repeat the name of their call up to their end."""
    line = b"%d-%d\n" % (thread, number)
    return (line * (size // len(line) + 1))[:size]


class Acknowledgements:
    """A file to which each call is reported after it has returned; it survives a SIGKILL of the process."""

    def __init__(self, path: str) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)

    def __call__(self, kind: str, thread: int, number: int, result: object = None) -> None:
        status = result["status"] if isinstance(result, dict) else "done"
        os.write(self._fd, f"{kind} {thread} {number} {status}\n".encode())


class Load:
    """One thread's calls on an open experiment. `slowest` is the longest that one took, in seconds.

    Args:
        exp: the experiment.
        thread: 0 or 1.
        acknowledge: called with kind, thread, number and the call's result after each call that returned.
        counters: the first number of each kind; it counts up.
        scratch: a folder for files to copy.
        shape: height and width of frames.
        only: the kinds to log.
        pace: whether to pause for a moment after each step.
    """

    def __init__(
        self,
        exp: Any,
        thread: int,
        acknowledge: Callable[..., None],
        counters: dict[str, int],
        scratch: str,
        shape: tuple[int, int] = SMALL,
        only: tuple[str, ...] = KINDS,
        pace: bool = True,
    ) -> None:
        self._exp = exp
        self._thread = thread
        self._acknowledge = acknowledge
        self._counters = counters
        self._scratch = Path(scratch)
        self._shape = shape
        self._only = only
        self._pace = pace
        self._random = random.Random(thread)
        self.slowest = 0.0
        self.failure = ""

    def run(self, stop: threading.Event) -> None:
        """Make calls until `stop` is set. A call that raises ends it, and `failure` holds the traceback."""
        try:
            self._run(stop)
        except Exception:
            self.failure = traceback.format_exc()
            raise

    def _run(self, stop: threading.Event) -> None:
        steps = 0
        while not stop.is_set():
            for kind in self._only:
                if kind not in ("blob", "copy") or steps % STEPS_PER_LARGE == STEPS_PER_LARGE - 1:
                    self.call(kind)
            steps += 1
            if self._pace:
                stop.wait(self._random.random() * LONGEST_PAUSE_S)

    def call(self, kind: str) -> None:
        """Make one call of that kind."""
        number = self._counters[kind]
        began = time.perf_counter()
        result = getattr(self, f"_{kind}")(number)
        self.slowest = max(self.slowest, time.perf_counter() - began)
        self._counters[kind] = number + 1
        self._acknowledge(kind, self._thread, number, result)

    def _metric(self, number: int) -> None:
        self._exp.metrics("train/loss").log(thread=self._thread, number=number)

    def _track(self, number: int) -> None:
        self._exp.tracks("robot/pose").append(thread=self._thread, number=number, _ts=float(2 * number + self._thread))

    def _log(self, number: int) -> None:
        self._exp.log("a step", thread=self._thread, number=number)

    def _params(self, number: int) -> None:
        self._exp.params.set({f"thread{self._thread}": number})

    def _image(self, number: int) -> Any:
        image = pixels("image", self._thread, number, self._shape)
        return self._exp.files("images").save_image(image, to=f"{self._thread}-{number:06d}.jpg")

    def _latest(self, number: int) -> Any:
        image = pixels("latest", self._thread, number, self._shape)
        to = f"latest-{self._thread}.jpg"
        return self._exp.files("images").save_image(image, to=to, metadata={"number": number})

    def _frame(self, number: int) -> None:
        frame = pixels("frame", self._thread, number, self._shape)
        self._exp.frames("camera/front").append(frame, thread=self._thread, number=number)

    def _blob(self, number: int) -> Any:
        return self._exp.files("blobs").save_blob(blob(self._thread, number), to=f"{self._thread}-{number:06d}.bin")

    def _copy(self, number: int) -> Any:
        source = self._scratch / f"{self._thread}.bin"
        source.write_bytes(blob(self._thread, number, 5_000))
        return self._exp.files("copies").save(source, to=f"{self._thread}-{number:06d}.bin")


def run_threads(loads: list[Load], stop: threading.Event) -> list[threading.Thread]:
    """Start a thread for each load."""
    threads = [
        threading.Thread(target=load.run, args=(stop,), name=f"load-{index}") for index, load in enumerate(loads)
    ]
    for thread in threads:
        thread.start()
    return threads
