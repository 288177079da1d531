"""Hold tables until all of them are known: in memory while they are few, then in an unnamed file."""

from __future__ import annotations

import tempfile
from types import TracebackType
from typing import IO, Any, Self

MEMORY_BYTES = 32 * 1024 * 1024
"""Bytes of tables kept in memory: a journal of about 300 000 lines then needs no file."""


class TableSpill:
    """A list of ``pyarrow`` tables, each with its own columns, of which the last ones may lie in a file.

    The file is in the given folder, which has room for the result too. It has no name, and is gone when the process is.

    Args:
        folder: where the file is made.
        memory_bytes: bytes of tables kept in memory.
    """

    def __init__(self, folder: str, memory_bytes: int = MEMORY_BYTES) -> None:
        self._folder = folder
        self._memory_left = memory_bytes
        self._tables: list[Any] = []  # a table, or its offset in the file
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
        """Append a table.

        Raises:
            OSError: the file cannot be written.
        """
        import pyarrow as pa

        self._memory_left -= table.nbytes
        if self._memory_left >= 0:
            self._tables.append(table)
            return
        if self._file is None:
            self._file = tempfile.TemporaryFile(dir=self._folder)  # noqa: SIM115 - closed by __exit__
        offset = self._file.seek(0, 2)
        with pa.ipc.new_stream(self._file, table.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as stream:
            stream.write_table(table)
        self._tables.append(offset)

    def __getitem__(self, index: int) -> Any:
        """Return a table by its position.

        Raises:
            OSError: the file cannot be read.
        """
        import pyarrow as pa

        table = self._tables[index]
        if not isinstance(table, int):
            return table
        assert self._file is not None
        self._file.seek(table)
        with pa.ipc.open_stream(self._file) as stream:
            return stream.read_all()
