"""``data.parquet``: the rows of a journal as columns. What a copy covers, and whether it still fits its journal.

The file's metadata has the key ``ml_dash``. Its value is the CRC-32, as 8 hexadecimal digits, of the JSON object that
follows it:

- ``version``;
- ``columns``: their names and types, because nothing else guards the file's own footer;
- ``size``: the bytes of the journal that are covered; ``head`` and ``tail``: checksums of the first and last of them;
- ``nulls``: whether a value was None;
- ``groups``: for each row group where its lines ``start`` and ``end`` in the journal, the numbers of ``lines`` and of
  ``rows`` among them, the ``first`` and ``last`` time, and the CRC-32 of the lines (``crc``). Earlier versions also
  wrote ``sorted``, which is not read.

So a range of the journal is found without reading the rest, and a copy that does not fit its journal is not used.
"""

from __future__ import annotations

import contextlib
import os
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ml_dash._json import json
from ml_dash.storage import layout
from ml_dash.storage.beneath import open_file
from ml_dash.storage.columns import kind_of_field, name_of

VERSION = 2
KEY = b"ml_dash"

GROWTH = 16
"""How many times the bytes of its lines a column may take before compression: a short number takes 8 bytes, its level
and the escapes of JSON text some more."""

SLACK_BYTES = 1 << 20
"""Bytes that a column may take on top of that: headers and dictionaries."""

EDGE_BYTES = 4096
"""How much of the beginning and of the end of the covered part is compared, by checksum."""


@dataclass(frozen=True, slots=True)
class Group:
    """One row group and the lines of the journal that it holds.

    Attributes:
        start: the offset of its first line, in bytes.
        end: the offset of the line after its last one.
        lines: the number of its lines.
        rows: the number of rows among them; the other lines cannot be read.
        first: the smallest time among the rows; infinity if there is none.
        last: the largest time; minus infinity if there is none.
        crc: the CRC-32 of its lines in the journal.
    """

    start: int
    end: int
    lines: int
    rows: int
    first: float
    last: float
    crc: int


@dataclass(frozen=True, slots=True)
class Coverage:
    """What a copy holds of its journal; the attributes are those of the metadata."""

    size: int
    head: int
    tail: int
    nulls: bool
    columns: list[list[str]]
    groups: list[Group]

    def numbers_in_file(self, groups: Iterable[int]) -> list[int]:
        """Return the row groups of the file that hold these groups; a group without rows has none."""
        with_rows = [number for number, group in enumerate(self.groups) if group.rows]
        position = {number: position for position, number in enumerate(with_rows)}
        return [position[number] for number in groups if number in position]

    def to_metadata(self) -> dict[bytes, bytes]:
        """Return the metadata of the file's schema."""
        document = json.dumps({"version": VERSION, **asdict(self)}).encode()
        return {KEY: b"%08x" % zlib.crc32(document) + document}


def path_of(journal: str) -> str:
    """Return the path of a journal's copy: ``data.parquet`` beside ``data.jsonl``."""
    return journal.removesuffix(".jsonl") + layout.COPY_SUFFIX


class Copy:
    """An open copy. All that is read of it belongs together, also when the file is replaced meanwhile.

    Attributes:
        coverage: what it covers.
    """

    def __init__(self, path: str, file: Any, coverage: Coverage) -> None:
        self.coverage = coverage
        self._path = path
        self._file = file

    def read(self, groups: Sequence[int] | None = None, columns: Sequence[str] | None = None) -> Any:
        """Return row groups as a ``pyarrow.Table``; every page is compared with its checksum.

        Args:
            groups: their positions in ``coverage.groups``; None for all.
            columns: names; None for all. A name that the file does not have is left out.

        Raises:
            OSError: the file is damaged.
        """
        import pyarrow as pa

        chosen = range(len(self.coverage.groups)) if groups is None else groups
        try:
            known = self._file.schema_arrow.names
            names = None if columns is None else [name for name in columns if name in known]
            table = self._file.read_row_groups(self.coverage.numbers_in_file(chosen), columns=names)
            # pyarrow also takes a name as a path: "a.list" for that column, and for the items of the lists in "a".
            return table if names is None else table.select(names)
        except (pa.ArrowException, UnicodeDecodeError) as error:
            raise OSError(f"{self._path} is damaged: {error}") from error

    def is_intact(self) -> bool:
        """Whether every page can be read and fits its checksum."""
        try:
            return all(len(self.read([number])) == group.rows for number, group in enumerate(self.coverage.groups))
        except OSError:
            return False


@contextlib.contextmanager
def opened(journal: str) -> Iterator[Copy | None]:
    """Open the copy beside a journal; yield None if there is none, or it is damaged or does not fit the journal."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = path_of(journal)
    with contextlib.ExitStack() as stack:
        try:
            # Opened here, because pyarrow follows links, and leaves a file open whose footer is damaged.
            source = stack.enter_context(open_file(path))
            file = stack.enter_context(pq.ParquetFile(source, page_checksum_verification=True))
            schema = file.schema_arrow
            coverage = parse((schema.metadata or {}).get(KEY, b""))
            if coverage is not None:
                ends = edges(journal, coverage.size)
                is_of_journal = columns_in(schema) == coverage.columns and ends == (coverage.head, coverage.tail)
                if not is_of_journal or not _is_possible(coverage, file.metadata):
                    coverage = None
        except (OSError, pa.ArrowException, UnicodeDecodeError):
            coverage = None
        yield None if coverage is None else Copy(path, file, coverage)


def _is_possible(coverage: Coverage, footer: Any) -> bool:
    """Whether a journal of this size can have the lines, rows and values that a copy claims.

    A file of a few bytes may claim millions of rows, and takes their memory when it is read. Each line of a journal ends
    in a newline, and each value is at least one byte of it.
    """
    end = 0
    for group in coverage.groups:
        if not (end == group.start <= group.end <= coverage.size and 0 <= group.rows <= group.lines):
            return False
        if group.lines > group.end - group.start:
            return False
        end = group.end
    with_rows = [group for group in coverage.groups if group.rows]
    if footer.num_row_groups != len(with_rows):
        return False
    for number, group in enumerate(with_rows):
        stored, journal_bytes = footer.row_group(number), group.end - group.start
        columns = [stored.column(index) for index in range(stored.num_columns)]
        # A row without the column takes one value of it as well.
        if stored.num_rows != group.rows or any(c.num_values > group.rows + journal_bytes for c in columns):
            return False
        if any(c.total_uncompressed_size > SLACK_BYTES + GROWTH * journal_bytes for c in columns):
            return False
    return True


def columns_in(schema: Any) -> list[list[str]]:
    """Return the names and types of the fields of a schema; the type of JSON text is ``json``."""
    return [[field.name, name_of(kind_of_field(field))] for field in schema]


def parse(metadata: bytes) -> Coverage | None:
    """Read what ``Coverage.to_metadata`` made; None if it is damaged or of another version."""
    try:
        if zlib.crc32(metadata[8:]) != int(metadata[:8], 16):
            return None
        document = json.loads(metadata[8:])
        if document.pop("version") != VERSION:
            return None
        groups = []
        for group in document.pop("groups"):
            group.pop("sorted", None)  # of an earlier version
            groups.append(Group(**group))
        return Coverage(groups=groups, **document)
    except (ValueError, TypeError, KeyError, AttributeError):
        return None


def edges(journal: str, size: int) -> tuple[int, int] | None:
    """Return checksums of the beginning and the end of a journal's first ``size`` bytes; None if it is shorter."""
    with open_file(journal) as file:
        if os.fstat(file.fileno()).st_size < size:
            return None
        head = file.read(min(EDGE_BYTES, size))
        file.seek(max(0, size - EDGE_BYTES))
        return zlib.crc32(head), zlib.crc32(file.read(min(EDGE_BYTES, size)))


def fits(coverage: Coverage, journal: str) -> bool:
    """Whether every line that a copy covers is unchanged; reads all of them."""
    with open_file(journal) as file:
        for group in coverage.groups:
            file.seek(group.start)
            if zlib.crc32(file.read(group.end - group.start)) != group.crc:
                return False
    return True


def lines_of(journal: str, group: Group) -> list[bytes]:
    """Return the lines of a journal that a row group holds."""
    with open_file(journal) as file:
        file.seek(group.start)
        return file.read(group.end - group.start).split(b"\n")[:-1]
