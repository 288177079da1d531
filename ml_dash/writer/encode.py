"""Threads that encode frames in shared memory to image files, while the writer's loop writes journals."""

from __future__ import annotations

import hashlib
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ml_dash.media.frames import FrameSpec, view
from ml_dash.storage.disk import Disk

if TYPE_CHECKING:
    from typing_extensions import Buffer  # collections.abc has it from Python 3.12 on


@dataclass(slots=True)
class EncodeJob:
    """A frame to encode.

    Attributes:
        entry: the frame's index entry, as the training process sent it.
        spec: shape and type of the pixels.
        offset: where the pixels begin in shared memory; -1 if they are in the file ``raw``.
        raw: absolute path of a file with the pixels, C-contiguous, for a frame larger than the frame buffer takes.
        image_format: ``jpeg`` or ``png``.
        quality: 1 to 100, for JPEG.
        target: absolute path of the file to write; empty for a frame whose bytes are kept in ``encoded``.
        done: whether the job has ended.
        error: the exception that ended it.
        encoded: the file's bytes, without a target.
        size: bytes of the file.
        checksum: SHA-256 of the file, with a target.
    """

    entry: dict[str, Any]
    spec: FrameSpec
    offset: int
    raw: str
    image_format: str
    quality: int
    target: str
    done: bool = False
    error: Exception | None = None
    encoded: bytes | memoryview = b""
    size: int = 0
    checksum: str = ""


class EncoderPool:
    """Threads that run jobs in the order of submission.

    There is one thread more than may encode: it writes and hashes a file while the others encode. While training waits
    for room in the frame buffer, its processors are idle, and more frames are encoded at the same time.

    Args:
        memory: the shared memory that holds the pixels.
        disk: the file operations.
        count: number of frames encoded at the same time.
        burst: the same number while training waits.
        on_done: called from a thread when a job is done.
        training_waits: returns whether training waits for room now.
    """

    def __init__(
        self,
        memory: Buffer,
        disk: Disk,
        *,
        count: int,
        burst: int,
        on_done: Callable[[], None],
        training_waits: Callable[[], bool],
    ) -> None:
        self._count = count
        self._burst = burst - count
        self._training_waits = training_waits
        self._extra = 0
        self._extra_lock = threading.Lock()
        self._memory = memory
        self._disk = disk
        self._on_done = on_done
        self._encoding = threading.Semaphore(count)
        self._jobs: queue.SimpleQueue[EncodeJob | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []

    def submit(self, job: EncodeJob) -> None:
        """Queue a job. At its end ``done`` becomes True, and ``error`` is set if it failed."""
        job.done, job.error = False, None
        self._jobs.put(job)
        self._adapt()
        if len(self._threads) <= self._count + self._extra:
            self._add_thread()

    def _add_thread(self) -> None:
        thread = threading.Thread(target=self._work, name=f"ml_dash-encoder-{len(self._threads)}", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # no thread can be started
            if not self._threads:
                self._jobs.put(None)
                self._work()
            return
        self._threads.append(thread)

    def close(self) -> None:
        """End the threads once all queued jobs are done. Idempotent."""
        for _ in self._threads:
            self._jobs.put(None)
        for thread in self._threads:
            thread.join()
        self._threads.clear()

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            try:
                self._run(job)
            except Exception as error:  # noqa: BLE001 - kept in the job: the writer's loop tries again, or sets the record aside
                job.error = error
            job.done = True
            self._on_done()
            self._adapt()

    def _adapt(self) -> None:
        """Allow one more frame at the same time while training waits, and one less once it goes on."""
        with self._extra_lock:
            if self._training_waits():
                if self._extra < self._burst:
                    self._extra += 1
                    self._encoding.release()
            elif self._extra and self._encoding.acquire(blocking=False):
                self._extra -= 1

    def _run(self, job: EncodeJob) -> None:
        with self._encoding:
            pixels = self._pixels(job)
            if job.image_format == "png":
                from ml_dash.media.png import encode_png

                data = encode_png(pixels)
            else:
                from ml_dash.media.jpeg import encode_jpeg

                data = encode_jpeg(pixels, job.quality)
        job.size = len(data)
        if not job.target:
            job.encoded = data
            return
        self._disk.write_file(job.target, [data])
        job.checksum = hashlib.sha256(data).hexdigest()

    def _pixels(self, job: EncodeJob) -> Any:
        if job.offset >= 0:
            return view(self._memory, job.offset, job.spec)
        content = self._disk.read_file(job.raw, limit=None)
        if content is None:
            raise LookupError(f"{job.raw} is gone: another program changed the run's folder")
        return view(memoryview(content), 0, job.spec)
