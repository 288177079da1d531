"""Rows of JSON values as columns of Arrow, and the one schema that holds several batches of them.

A column is typed where its values allow it: booleans, whole numbers, floats, text, and lists of these. Whole numbers and
floats together are floats. Anything else (dicts, several types in one column, integers beyond 64 bits) is kept as JSON
text, in a column whose field says so. A value that is missing and one that is None are both null.

pyarrow is loaded by the functions that need it: a training process reads columns only when it is asked to.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ml_dash.records.values import encode_slowly

JSON_MARK = {b"ml_dash": b"json"}
"""The metadata of a field whose values are JSON text."""


def rows_to_table(rows: Iterable[Mapping[str, Any]], first: str | None = None) -> Any:
    """Rows as a ``pyarrow.Table``, columns in the order in which they come up.

    Args:
        rows: values by name, as ``decode`` returns them.
        first: a column that comes first and is a float, whether or not there is a row.
    """
    import pyarrow as pa

    rows = list(rows)
    columns = {first: [row.get(first) for row in rows]} if first is not None else {}
    columns |= columns_of(rows, skip=first)
    fields, arrays = [], []
    for name, values in columns.items():
        kind = pa.float64() if name == first else kind_of(values)
        fields.append(field_of(name, kind))
        arrays.append(array_of(values, kind))
    return pa.Table.from_arrays(arrays, schema=pa.schema(fields))


def columns_of(rows: Sequence[Mapping[str, Any]], skip: str | None = None) -> dict[str, list[Any]]:
    """The values of each name, one for each row; None where it is missing."""
    names = dict.fromkeys(name for row in rows for name in row if name != skip)
    return {name: [row.get(name) for row in rows] for name in names}


def kind_of(values: Sequence[Any]) -> Any:
    """The type of a column: an Arrow type, or None for JSON text."""
    import pyarrow as pa

    try:
        kind = pa.array(values).type
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        return None
    if pa.types.is_floating(kind) and bool in set(map(type, values)):  # pyarrow takes True for 1.0
        return None
    return kind if _is_plain(kind) else None


def wider(one: Any, other: Any) -> Any:
    """The type that holds the values of both; None is JSON text."""
    import pyarrow as pa

    if one is None or other is None or one.equals(other):
        return one if other is not None else None
    if pa.types.is_null(one) or pa.types.is_null(other):
        return other if pa.types.is_null(one) else one
    if {one, other} == {pa.int64(), pa.float64()}:
        return pa.float64()
    if pa.types.is_list(one) and pa.types.is_list(other):
        inner = wider(one.value_type, other.value_type)
        return None if inner is None else pa.list_(inner)
    return None


def field_of(name: str, kind: Any) -> Any:
    """The field of a column of that type."""
    import pyarrow as pa

    return pa.field(name, pa.string(), metadata=JSON_MARK) if kind is None else pa.field(name, kind)


def kind_of_field(field: Any) -> Any:
    """The inverse of ``field_of``."""
    return None if (field.metadata or {}).get(b"ml_dash") == b"json" else field.type


def name_of(kind: Any) -> str:
    """A type as text, the same before it was written to a file and after; JSON text is ``json``."""
    import pyarrow as pa

    if kind is None:
        return "json"
    return f"list<{name_of(kind.value_type)}>" if pa.types.is_list(kind) else str(kind)


def array_of(values: Sequence[Any], kind: Any) -> Any:
    """Values as an Arrow array of a type that ``kind_of`` or ``wider`` gave."""
    import pyarrow as pa

    if kind is None:
        return pa.array([None if value is None else to_json_text(value) for value in values], pa.string())
    try:
        return pa.array(values, kind)
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        # An integer of more than 53 bits in a column of floats is the only value that fits and is refused.
        return pa.array([_as_float(value) for value in values], kind)


def recast(array: Any, old: Any, new: Any) -> Any:
    """A chunked array of one type as another, wider one."""
    import pyarrow as pa

    if old is None or (new is not None and old.equals(new)):
        return array
    if new is None:
        return pa.chunked_array([array_of(array.to_pylist(), None)], pa.string())
    return array.cast(new, safe=False)


def to_json_text(value: Any) -> str:
    """A value as JSON text, not-a-number and the infinities as the words that the journals use."""
    return encode_slowly({"v": value}, "a column").decode()[5:-1]


def _as_float(value: Any) -> Any:
    if isinstance(value, list):
        return [_as_float(item) for item in value]
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _is_plain(kind: Any) -> bool:
    import pyarrow as pa

    if pa.types.is_list(kind):
        return _is_plain(kind.value_type)
    return kind in {pa.null(), pa.bool_(), pa.int64(), pa.float64(), pa.string()}
