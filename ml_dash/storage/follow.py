"""Read a journal as it grows: each look takes the whole lines that were added since the one before."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from ml_dash.storage.beneath import LINE_BYTES, UnsafeFileError

BLOCK_BYTES = 1 << 20
"""How much of a journal is read at once."""

TAIL_BYTES = 512
"""Bytes before the offset that are compared before reading on: a writer that took over may have cut a batch that was
not committed and written it again."""

FileState = tuple[int, int, int, int]
"""Device, inode, size and time of the last change (ns) of a file."""


def file_state(target: str | int) -> FileState:
    """Return the state of a file or folder, by path or descriptor: an equal one means the same file, unchanged."""
    status = os.stat(target)
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


@dataclass(slots=True)
class Position:
    """How far a journal was read.

    Attributes:
        offset: where the first line begins that was not read.
        state: the file at the last look; zeros before the first one.
        tail: up to ``TAIL_BYTES`` bytes before the offset; empty if they are not known.
    """

    offset: int = 0
    state: FileState = (0, 0, 0, 0)
    tail: bytes = b""

    def is_current(self, target: str | int) -> bool:
        """Whether a file, by path or descriptor, has not changed since the last look."""
        return file_state(target) == self.state

    def is_in(self, file: BinaryIO) -> bool:
        """Whether a file still begins with what was read; False if it was cut, rewritten or replaced by another."""
        state = file_state(file.fileno())
        if state[2] < self.offset or (any(self.state) and state[:2] != self.state[:2]):
            return False
        if not self.offset:
            return True
        # An offset that was stored without its tail is at the end of a line, unless that batch was undone.
        expected = self.tail or b"\n"
        file.seek(self.offset - len(expected))
        return file.read(len(expected)) == expected

    def read(
        self, file: BinaryIO, block_bytes: int = BLOCK_BYTES, *, once: bool = False
    ) -> Iterator[tuple[int, bytes]]:
        """Yield the whole lines after the offset in blocks; a line without a newline is left for later.

        The offset moves past a block when the next one is asked for. So a block whose lines could not be taken in, because
        an exception came in between, is read again.

        Args:
            file: the journal, in which the position is (see ``is_in``).
            block_bytes: how much is read at once. A block is longer only if it is a single line.
            once: whether to stop after one block.

        Yields:
            Where a block begins, and its lines without the last newline.

        Raises:
            UnsafeFileError: a line is longer than ``LINE_BYTES``; the position stays before it.
        """
        state = file_state(file.fileno())
        file.seek(self.offset)
        rest: list[bytes] = []  # the blocks of a line that has not ended: joined once, so that a long one costs no more
        size = 0
        while block := file.read(block_bytes):
            whole, newline, end = block.rpartition(b"\n")
            if newline:
                whole = b"".join([*rest, whole])
                rest, size = [], 0
                yield self.offset, whole
                self.offset += len(whole) + 1
                self.tail = (self.tail + whole[-TAIL_BYTES:] + newline)[-TAIL_BYTES:]
                if once:
                    return
            rest.append(end)
            size += len(end)
            if size > LINE_BYTES:
                raise UnsafeFileError(errno.EFBIG, f"a line in it is longer than {LINE_BYTES:,} bytes", file.name)
        self.state = state
