"""Rows of runs as columns, without loss: columns of parts, concatenated, are those of all rows together.

A column whose values are of one type is an Arrow array. One of several types, of lists, or of integers beyond 64 bits
is a list of Python values.
"""

from __future__ import annotations

import datetime
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Values = Any
"""A ``pyarrow.Array``, or a list."""

Shape = tuple[str, ...]
"""The names of one row, in order. Most runs share theirs."""

_NONE = type(None)


@dataclass(slots=True)
class RowColumns:
    """Rows by column.

    Attributes:
        shapes: the distinct shapes.
        shape_of: the number of each row's shape.
        columns: for each name the values of all rows; None where a row has no value.
    """

    shapes: list[Shape]
    shape_of: list[int]
    columns: dict[str, Values]

    def __len__(self) -> int:
        return len(self.shape_of)

    def names(self) -> list[str]:
        """The names of all rows, in the order in which they first appear."""
        used = dict.fromkeys(self.shape_of)
        return list(dict.fromkeys(name for number in used for name in self.shapes[number]))

    def take(self, rows: Sequence[int]) -> RowColumns:
        """These rows, in this order; names that none of them has are left out."""
        if len(rows) == len(self) and all(row == number for number, row in enumerate(rows)):
            return self
        shape_of = [self.shape_of[row] for row in rows]
        numbers = {old: new for new, old in enumerate(dict.fromkeys(shape_of))}
        taken = RowColumns([self.shapes[old] for old in numbers], [numbers[old] for old in shape_of], {})
        taken.columns = {name: _take(self.columns[name], rows) for name in taken.names()}
        return taken


def from_rows(rows: Sequence[Mapping[str, Any]]) -> RowColumns:
    """Rows as columns.

    Args:
        rows: cells by name; see ``managed.cells``.
    """
    numbers: dict[Shape, int] = {}
    shape_of = [numbers.setdefault(tuple(row), len(numbers)) for row in rows]
    packed = RowColumns(list(numbers), shape_of, {})
    packed.columns = {name: _packed([row.get(name) for row in rows]) for name in packed.names()}
    return packed


def names_within(shapes: Mapping[Shape, int], most: int) -> set[str] | None:
    """The names that a table with a limited number of columns keeps.

    Names of short rows come first, so that one row with very many names costs the others none of theirs; of these,
    names that many rows have.

    Args:
        shapes: how many rows have each shape.
        most: how many names are kept.

    Returns:
        The names; None for all of them.
    """
    if sum(map(len, shapes)) <= most:
        return None
    shortest: dict[str, int] = {}
    rows: dict[str, int] = {}
    for shape, count in sorted(shapes.items(), key=lambda item: len(item[0])):
        for name in shape:
            shortest.setdefault(name, len(shape))
            rows[name] = rows.get(name, 0) + count
    if len(rows) <= most:
        return None
    return set(sorted(rows, key=lambda name: (shortest[name], -rows[name]))[:most])


def concat(parts: Sequence[RowColumns], kept: Container[str] | None = None) -> RowColumns:
    """The rows of all parts, in order.

    Args:
        parts: the parts.
        kept: the names to keep; None for all.
    """
    if kept is not None:
        parts = [_only(part, kept) for part in parts]
    if len(parts) < 2:
        return parts[0] if parts else RowColumns([], [], {})
    numbers: dict[Shape, int] = {}
    shape_of: list[int] = []
    for part in parts:
        renumbered = [numbers.setdefault(shape, len(numbers)) for shape in part.shapes]
        shape_of += [renumbered[number] for number in part.shape_of]
    names = dict.fromkeys(name for part in parts for name in part.columns)
    columns = {name: _joined([(part.columns.get(name), len(part)) for part in parts]) for name in names}
    return RowColumns(list(numbers), shape_of, columns)


def _only(rows: RowColumns, kept: Container[str]) -> RowColumns:
    """Rows without the names that are not kept."""
    numbers: dict[Shape, int] = {}
    new = [numbers.setdefault(tuple(name for name in shape if name in kept), len(numbers)) for shape in rows.shapes]
    columns = {name: values for name, values in rows.columns.items() if name in kept}
    return RowColumns(list(numbers), [new[number] for number in rows.shape_of], columns)


def to_list(values: Values) -> list[Any]:
    """The Python values of a column."""
    if isinstance(values, list):
        return values
    cells: list[Any] = values.to_pylist()
    if cells and str(values.type).startswith("timestamp[us, tz"):  # Arrow gives a zone object of its own
        return [cell and cell.replace(tzinfo=datetime.UTC) for cell in cells]
    return cells


def _packed(values: list[Any]) -> Values:
    """Values as an Arrow array if one type holds them all without loss, else as the list."""
    import pyarrow as pa

    kinds = set(map(type, values))
    kinds.discard(_NONE)
    kind = _arrow_type(kinds, values)
    if kind is None:
        return values
    try:
        return pa.array(values, kind)
    except (pa.ArrowException, OverflowError, ValueError, TypeError):  # beyond 64 bits; text that is no UTF-8
        return values


def _arrow_type(kinds: set[type], values: list[Any]) -> Any:
    import pyarrow as pa

    if not kinds:
        return pa.null()
    if len(kinds) > 1:
        return None
    [kind] = kinds
    if kind is datetime.datetime:
        zones = {value.tzinfo for value in values if value is not None}
        if len(zones) > 1:
            return None
        return pa.timestamp("us") if zones == {None} else pa.timestamp("us", "UTC")
    return {bool: pa.bool_(), int: pa.int64(), float: pa.float64(), str: pa.string()}.get(kind)


def _joined(parts: list[tuple[Values | None, int]]) -> Values:
    import pyarrow as pa

    kinds = {part.type for part, _ in parts if part is not None and not isinstance(part, list) and not _is_empty(part)}
    if len(kinds) <= 1 and not any(isinstance(part, list) for part, _ in parts):
        kind = kinds.pop() if kinds else pa.null()
        arrays = [pa.nulls(count, kind) if part is None or _is_empty(part) else part for part, count in parts]
        return pa.concat_arrays(arrays)
    return _packed([value for part, count in parts for value in ([None] * count if part is None else to_list(part))])


def _take(values: Values, rows: Sequence[int]) -> Values:
    import pyarrow as pa

    if isinstance(values, list):
        return _packed([values[row] for row in rows])
    taken = values.take(pa.array(rows, pa.int64()))
    return pa.nulls(len(rows)) if _is_empty(taken) else taken


def _is_empty(values: Any) -> bool:
    return bool(values.null_count == len(values))
