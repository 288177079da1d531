"""Frame streams: encoded frames appended to tar shards, one index line per frame.

A shard is a tar file (POSIX ustar) that grows: ``tar -xf`` reads it at any moment. A new writer goes on with the newest
shard if that ends exactly where its last indexed frame does, else it starts another: nothing is ever appended behind
an end-of-archive mark, or behind half a frame.
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
"""A shard that has reached this size is ended and the next one begun."""

MAX_TAR_TIME = 8**11 - 1
"""The latest second that a tar header holds; the earliest is 0, in 1970. A clock may be set to any."""

_BLOCK = 512
_END = bytes(2 * _BLOCK)


class FrameShards:
    """Where the next frame of each topic goes."""

    def __init__(self, run: str, writer_id: str, disk: Disk) -> None:
        self._run = run
        self._writer_id = writer_id
        self._disk = disk
        self._current: dict[str, tuple[str, int]] = {}

    def forget(self) -> None:
        """A batch was undone: look at the disk again."""
        self._current.clear()

    def add(self, topic: str, job: EncodeJob, when: float, batch: Batch) -> None:
        """Append one encoded frame and its index line to the batch."""
        folder = layout.frames_folder(topic)
        shard, offset = self._current.get(topic) or self._open(folder)
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
            shard, offset = self._following(shard), 0
        self._current[topic] = (shard, offset)

    def _open(self, folder: str) -> tuple[str, int]:
        prefix = self._prefix()
        path = os.path.join(self._run, folder)
        names = self._disk.list_folder(path) or []
        numbers = [int(name[len(prefix) : -4]) for name in names if self._is_ours(name)]
        number = max(numbers, default=-1)
        newest = f"{prefix}{number:05d}.tar"
        size = self._disk.size(os.path.join(path, newest)) if number >= 0 else None
        if size is not None and size in (0, self._indexed_end(folder, newest)):
            return newest, size
        return f"{prefix}{number + 1:05d}.tar", 0

    def _indexed_end(self, folder: str, shard: str) -> int:
        """Where the last frame in the index ends, or -1 if it lies in another shard."""
        line = last_line(os.path.join(self._run, layout.data(folder, self._writer_id)))
        try:
            frame = parse(line) if line else {}
            return frame["offset"] + frame["size"] + -frame["size"] % _BLOCK if frame["shard"] == shard else -1
        except (ValueError, KeyError, TypeError):
            return -1

    def _is_ours(self, name: str) -> bool:
        prefix = self._prefix()
        return name.startswith(prefix) and name.endswith(".tar") and name[len(prefix) : -4].isdigit()

    def _prefix(self) -> str:
        return f"shard.{self._writer_id}-" if self._writer_id else "shard-"

    def _following(self, shard: str) -> str:
        number = int(shard[len(self._prefix()) : -4]) + 1
        return f"{self._prefix()}{number:05d}.tar"


def tar_member(name: str, size: int, when: float) -> bytes:
    """The header block of a regular file in a ustar archive. A time that it cannot hold becomes the closest."""
    info = tarfile.TarInfo(name)
    info.size, info.mtime, info.mode = size, min(max(int(when), 0), MAX_TAR_TIME), 0o644
    return info.tobuf(tarfile.USTAR_FORMAT)
