"""``data.parquet``: a journal's rows as columns. What it covers, and whether it still belongs to its journal.

The file's metadata has the key ``ml_dash``: the CRC-32, as 8 hexadecimal digits, of the JSON object that follows it:
``version``; the names and types of the ``columns``, since nothing else guards the file's own footer; ``size``, the bytes of the journal that are covered,
and the checksums of its ``head`` and ``tail`` within them; ``rows``; ``nulls``, whether a value was None; and for each
row group where its lines ``start`` in the journal, how many ``lines`` and ``rows`` they are, and the ``first`` and
``last`` time among them, whether their times grow (``sorted``), and the CRC-32 of the lines (``crc``). So a window of the journal is found without reading
the rest, and a copy that does not belong to the journal beside it is not used.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ml_dash._json import json
from ml_dash.storage import layout
from ml_dash.storage.columns import kind_of_field, name_of

VERSION = 2
KEY = b"ml_dash"

EDGE_BYTES = 4096
"""How much of the journal's beginning and of the end of the covered part is compared, by checksum."""


@dataclass(frozen=True, slots=True)
class Group:
    """One row group and the lines of the journal that it holds.

    Attributes:
        start: where its first line begins, in bytes.
        end: where the line after its last one begins.
        lines: how many lines that is.
        rows: how many of them are rows; the others cannot be read.
        first: the smallest time among the rows; NaN if there is no row.
        last: the largest one.
        sorted: whether each time is larger than the one before it.
        crc: the CRC-32 of its lines in the journal.
    """

    start: int
    end: int
    lines: int
    rows: int
    first: float
    last: float
    sorted: bool
    crc: int


@dataclass(frozen=True, slots=True)
class Coverage:
    """What a copy holds of its journal."""

    size: int
    head: int
    tail: int
    nulls: bool
    columns: list[list[str]]
    groups: list[Group]

    @property
    def rows(self) -> int:
        """Rows in all groups."""
        return sum(group.rows for group in self.groups)

    @property
    def sorted(self) -> bool:
        """Whether the time of each row is larger than that of the row before it, over all groups."""
        groups = [group for group in self.groups if group.rows]
        following = itertools.pairwise(groups)
        return all(group.sorted for group in groups) and all(one.last < other.first for one, other in following)

    def numbers_in_file(self, groups: Iterable[int]) -> list[int]:
        """The row groups of the file that hold these groups; one without rows has none."""
        with_rows = [number for number, group in enumerate(self.groups) if group.rows]
        place = {number: position for position, number in enumerate(with_rows)}
        return [place[number] for number in groups if number in place]

    def to_metadata(self) -> dict[bytes, bytes]:
        """The schema's metadata."""
        document = json.dumps({"version": VERSION, **asdict(self)}).encode()
        return {KEY: b"%08x" % zlib.crc32(document) + document}


def path_of(journal: str) -> str:
    """The copy of a journal: ``data.parquet`` beside ``data.jsonl``."""
    return journal.removesuffix(".jsonl") + layout.COPY_SUFFIX


class Copy:
    """The copy beside a journal, open: what is read of it belongs together, whoever renews it meanwhile.

    Attributes:
        coverage: what it covers.
    """

    def __init__(self, path: str, file: Any, coverage: Coverage) -> None:
        self.coverage = coverage
        self._path = path
        self._file = file

    def read(self, groups: Sequence[int] | None = None, columns: Sequence[str] | None = None) -> Any:
        """Row groups as a ``pyarrow.Table``; every page is compared with its checksum.

        Args:
            groups: their numbers in ``coverage.groups``; None for all.
            columns: names; None for all, and one that is not there is left out.

        Raises:
            OSError: the file is damaged.
        """
        import pyarrow as pa

        wanted = range(len(self.coverage.groups)) if groups is None else groups
        try:
            there = self._file.schema_arrow.names
            names = None if columns is None else [name for name in columns if name in there]
            found = self._file.read_row_groups(self.coverage.numbers_in_file(wanted), columns=names)
            # A name is also taken as a path: "a.list" for the column of that name and for what is in the lists of "a".
            return found if names is None else found.select(names)
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
    """The copy beside a journal; None if there is none, or none that can be trusted."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = path_of(journal)
    with contextlib.ExitStack() as stack:
        try:
            if not os.path.isfile(path):  # to open a pipe would wait for its other end
                raise FileNotFoundError(path)
            # Opened by us, since pyarrow leaves a file open whose footer is damaged.
            source = stack.enter_context(pa.OSFile(path))
            file = stack.enter_context(pq.ParquetFile(source, page_checksum_verification=True))
            coverage = _coverage_of(file, journal)
        except (OSError, pa.ArrowException, UnicodeDecodeError):
            coverage = None
        yield None if coverage is None else Copy(path, file, coverage)


def load(journal: str) -> Coverage | None:
    """What the copy beside a journal covers; None if there is none, or none that can be trusted."""
    with opened(journal) as copy:
        return None if copy is None else copy.coverage


def _coverage_of(file: Any, journal: str) -> Coverage | None:
    import pyarrow as pa

    try:
        schema = file.schema_arrow
        coverage = parse((schema.metadata or {}).get(KEY, b""))
        if coverage is None or columns_in(schema) != coverage.columns:
            return None
        return coverage if edges(journal, coverage.size) == (coverage.head, coverage.tail) else None
    except (OSError, pa.ArrowException, UnicodeDecodeError):
        return None


def columns_in(schema: Any) -> list[list[str]]:
    """The names and types of the columns of a file; the type of JSON text is ``json``."""
    return [[field.name, name_of(kind_of_field(field))] for field in schema]


def parse(metadata: bytes) -> Coverage | None:
    """The inverse of ``Coverage.to_metadata``; None for what it is not."""
    try:
        if zlib.crc32(metadata[8:]) != int(metadata[:8], 16):
            return None
        document = json.loads(metadata[8:])
        if document.pop("version") != VERSION:
            return None
        groups = [Group(**group) for group in document.pop("groups")]
        return Coverage(groups=groups, **document)
    except (ValueError, TypeError, KeyError, AttributeError):
        return None


def edges(journal: str, size: int) -> tuple[int, int] | None:
    """Checksums of the beginning and the end of a journal's first ``size`` bytes; None if it is shorter."""
    with open(journal, "rb") as file:
        if os.fstat(file.fileno()).st_size < size:
            return None
        head = file.read(min(EDGE_BYTES, size))
        file.seek(max(0, size - EDGE_BYTES))
        return zlib.crc32(head), zlib.crc32(file.read(min(EDGE_BYTES, size)))


def fits(coverage: Coverage, journal: str) -> bool:
    """Whether every line that a copy covers is as it was; reads all of them."""
    with open(journal, "rb") as file:
        for group in coverage.groups:
            file.seek(group.start)
            if zlib.crc32(file.read(group.end - group.start)) != group.crc:
                return False
    return True


def lines_of(journal: str, group: Group) -> list[bytes]:
    """The lines of a journal that a row group holds."""
    with open(journal, "rb") as file:
        file.seek(group.start)
        return file.read(group.end - group.start).split(b"\n")[:-1]
