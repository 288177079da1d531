"""Tables that are set aside until all of them are known: in memory while they are few, then in a file that has no name."""

from __future__ import annotations

import tempfile
from types import TracebackType
from typing import IO, Any, Self

MEMORY_BYTES = 32 * 1024 * 1024
"""What is kept in memory: a journal of some 300 000 lines then needs no file."""


class Spool:
    """Holds ``pyarrow`` tables, each with columns of its own, in the order in which they were added.

    The file is in the folder given, which has room for what is made of the tables, and is gone when the process is.

    Args:
        folder: where the file would be.
        memory_bytes: what is kept in memory.
    """

    def __init__(self, folder: str, memory_bytes: int = MEMORY_BYTES) -> None:
        self._folder = folder
        self._left = memory_bytes
        self._tables: list[Any] = []
        self._file: IO[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._tables = []
        if self._file is not None:
            self._file.close()
            self._file = None

    def __len__(self) -> int:
        return len(self._tables)

    def add(self, table: Any) -> None:
        """Set a table aside.

        Raises:
            OSError: the file cannot be written.
        """
        self._left -= table.nbytes
        self._tables.append(table if self._left >= 0 else self._write(table))

    def __getitem__(self, number: int) -> Any:
        """The table that was added as the ``number``-th one.

        Raises:
            OSError: the file cannot be read.
        """
        import pyarrow as pa

        found = self._tables[number]
        if not isinstance(found, int):
            return found
        assert self._file is not None
        self._file.seek(found)
        with pa.ipc.open_stream(self._file) as stream:
            return stream.read_all()

    def _write(self, table: Any) -> int:
        import pyarrow as pa

        if self._file is None:
            self._file = tempfile.TemporaryFile(dir=self._folder)  # noqa: SIM115 - closed with the spool
        place = self._file.seek(0, 2)
        with pa.ipc.new_stream(self._file, table.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as stream:
            stream.write_table(table)
        return place
