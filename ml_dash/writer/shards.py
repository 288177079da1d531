"""Frame streams: encoded frames appended to tar shards, one index line per frame.

A shard is a growing tar file (POSIX ustar), which ``tar -xf`` reads at any time. A new writer continues the newest shard if
it ends exactly where its last indexed frame does, else it begins another one: nothing is appended after an end-of-archive
mark or after half a frame.
"""

from __future__ import annotations

import os
import tarfile

from ml_dash.records.values import parse
from ml_dash.storage import layout
from ml_dash.storage.disk import Disk
from ml_dash.storage.documents import to_json
from ml_dash.storage.journal import last_line
from ml_dash.writer.batch import Batch
from ml_dash.writer.encode import EncodeJob

SHARD_BYTES = 256 * 1024 * 1024
"""Size from which a shard is ended and the next one begun."""

MAX_TAR_TIME = 8**11 - 1
"""The latest time that a tar header holds, in seconds; the earliest is 0. A clock may be set to any time."""

_BLOCK = 512
_END = bytes(2 * _BLOCK)


class FrameShards:
    """Adds frames to the shards of their topics.

    Args:
        run: absolute path of the run's directory.
        writer_id: empty for the run's first writer.
        disk: the file operations.
    """

    def __init__(self, run: str, writer_id: str, disk: Disk) -> None:
        self._run = run
        self._writer_id = writer_id
        self._prefix = f"shard.{writer_id}-" if writer_id else "shard-"
        self._disk = disk
        self._ends: dict[str, tuple[str, int]] = {}

    def forget(self) -> None:
        """Read again from disk where each shard ends, after a batch was undone."""
        self._ends.clear()

    def add(self, topic: str, job: EncodeJob, when: float, batch: Batch) -> None:
        """Add an encoded frame and its index line to the batch.

        Args:
            topic: the frame stream's name.
            job: the encoded frame.
            when: seconds since 1970.
            batch: the batch of its record.
        """
        folder = layout.frames_folder(topic)
        shard, offset = self._ends.get(topic) or self._open(folder)
        extension = "png" if job.image_format == "png" else "jpg"
        member = tar_member(f"{job.entry['seq']:09d}.{extension}", len(job.encoded), when)
        padding = bytes(-job.size % _BLOCK)
        batch.starts.setdefault(f"{folder}/{shard}", offset)
        batch.add(f"{folder}/{shard}", member + bytes(job.encoded) + padding)
        line = {name: value for name, value in job.entry.items() if name != "frame"}  # where the pixels were
        line |= {"shard": shard, "offset": offset + len(member), "size": job.size, "format": job.image_format}
        batch.add(layout.data(folder, self._writer_id), to_json(line) + b"\n")
        offset += len(member) + job.size + len(padding)
        if offset >= SHARD_BYTES:
            batch.add(f"{folder}/{shard}", _END)
            number = int(shard[len(self._prefix) : -4]) + 1
            shard, offset = f"{self._prefix}{number:05d}.tar", 0
        self._ends[topic] = (shard, offset)

    def _open(self, folder: str) -> tuple[str, int]:
        """The name of the shard that the next frame is appended to, and its size."""
        prefix = self._prefix
        path = os.path.join(self._run, folder)
        names = self._disk.list_folder(path) or []
        shards = (name[len(prefix) : -4] for name in names if name.startswith(prefix) and name.endswith(".tar"))
        numbers = [int(number) for number in shards if number.isdigit()]
        number = max(numbers, default=-1)
        newest = f"{prefix}{number:05d}.tar"
        size = self._disk.size(os.path.join(path, newest)) if number >= 0 else None
        if size is not None and size in (0, self._indexed_end(folder, newest)):
            return newest, size
        return f"{prefix}{number + 1:05d}.tar", 0

    def _indexed_end(self, folder: str, shard: str) -> int:
        """The offset after the last frame in the index; -1 if that is in another shard."""
        line = last_line(os.path.join(self._run, layout.data(folder, self._writer_id)), self._disk.open_read)
        try:
            frame = parse(line) if line else {}
            return frame["offset"] + frame["size"] + -frame["size"] % _BLOCK if frame["shard"] == shard else -1
        except (ValueError, KeyError, TypeError):
            return -1


def tar_member(name: str, size: int, when: float) -> bytes:
    """Return the header block of a file in a ustar archive. A time out of its range becomes the nearest one in it."""
    info = tarfile.TarInfo(name)
    info.size, info.mtime, info.mode = size, min(max(int(when), 0), MAX_TAR_TIME), 0o644
    return info.tobuf(tarfile.USTAR_FORMAT)
