"""Rows of JSON values as Arrow columns, and one schema for several batches of them.

A column has a type where its values allow it: booleans, whole numbers, floats, text, and lists of these. Whole numbers
and floats together are floats. Anything else (dicts, several types in one column, integers beyond 64 bits) is JSON text,
in a column whose field is marked so. A missing value and None are both null.

A "kind" here is the type of a column: an Arrow type, or None for JSON text.

The functions import pyarrow when they are called: a training process reads columns only on request.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from ml_dash.records.values import encode_slowly

JSON_MARK = {b"ml_dash": b"json"}
"""Metadata of a field whose values are JSON text."""


def rows_to_table(
    rows: Iterable[Mapping[str, Any]], first: str | None = None, as_json: Collection[str] = frozenset()
) -> Any:
    """Return rows as a ``pyarrow.Table``, with the columns in the order in which they first occur.

    Args:
        rows: values by name, as ``decode`` returns them.
        first: the column that comes first; it holds floats, and is there even without a row.
        as_json: names of fields that are JSON text whatever they hold.
    """
    import pyarrow as pa

    rows = list(rows)
    fields, arrays = [], []
    for name in names_in(rows, first):
        values = column_of(rows, name)
        kind = pa.float64() if name == first else None if text_of(name) in as_json else kind_of(values)
        fields.append(field_of(name, kind))
        arrays.append(array_of(values, kind))
    return pa.Table.from_arrays(arrays, schema=pa.schema(fields))


def names_in(rows: Iterable[Mapping[str, Any]], first: str | None = None) -> list[str]:
    """Return the names of all values, in the order in which they first occur, after ``first``."""
    return list(dict.fromkeys(itertools.chain([] if first is None else [first], *rows)))


def column_of(rows: Iterable[Mapping[str, Any]], name: str) -> list[Any]:
    """Return the values of a name, one for each row; None where it is missing."""
    return [row.get(name) for row in rows]


def kind_of(values: Sequence[Any]) -> Any:
    """Return the kind of a column of values."""
    import pyarrow as pa

    try:
        kind = pa.array(values).type
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        return None
    if not _is_plain(kind) or (_innermost_is_float(kind) and bool in _types_in(values)):  # pyarrow takes True for 1.0
        return None
    return kind


def wider(one: Any, other: Any) -> Any:
    """Return the kind that holds the values of two kinds."""
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
    """Return the field of a column."""
    import pyarrow as pa

    text = text_of(name)
    return pa.field(text, pa.string(), metadata=JSON_MARK) if kind is None else pa.field(text, kind)


def text_of(name: str) -> str:
    """Return a name or value as text of UTF-8, with escapes for lone surrogates."""
    return name.encode("utf-8", "backslashreplace").decode()


def kind_of_field(field: Any) -> Any:
    """Return the kind of a field's column."""
    return None if (field.metadata or {}).get(b"ml_dash") == b"json" else field.type


def name_of(kind: Any) -> str:
    """Return a kind as text, the same before it was written to a file and after; JSON text is ``json``."""
    import pyarrow as pa

    if kind is None:
        return "json"
    return f"list<{name_of(kind.value_type)}>" if pa.types.is_list(kind) else str(kind)


def kind_named(name: str) -> Any:
    """Return the kind that ``name_of`` gave that name."""
    import pyarrow as pa

    if name.startswith("list<"):
        return pa.list_(kind_named(name[5:-1]))
    plain = (pa.null(), pa.bool_(), pa.int64(), pa.float64(), pa.string())
    return None if name == "json" else {str(kind): kind for kind in plain}[name]


def array_of(values: Sequence[Any], kind: Any) -> Any:
    """Return values as an Arrow array of a kind that holds them."""
    import pyarrow as pa

    if kind is None:
        return pa.array([None if value is None else to_json_text(value) for value in values], pa.string())
    try:
        return pa.array(values, kind)
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        # The only value that fits and is refused: an integer of more than 53 bits in a column of floats.
        return pa.array([_as_float(value) for value in values], kind)


def recast(array: Any, old: Any, new: Any) -> Any:
    """Convert a chunked array to a wider kind."""
    import pyarrow as pa

    if old is None or (new is not None and old.equals(new)):
        return array
    if new is None:
        return pa.chunked_array([array_of(array.to_pylist(), None)], pa.string())
    return array.cast(new, safe=False)


def with_schema(table: Any, schema: Any) -> Any:
    """Return a table with the columns of a schema, each as wide as the table's own; those it does not have are null."""
    import pyarrow as pa

    arrays = []
    for field in schema:
        if field.name in table.schema.names:
            old = table.schema.field(field.name)
            arrays.append(recast(table[field.name], kind_of_field(old), kind_of_field(field)))
        else:
            arrays.append(pa.nulls(len(table), field.type))
    return pa.Table.from_arrays(arrays, schema=schema)


def to_json_text(value: Any) -> str:
    """Return a value as JSON text, with the words of the journals for not-a-number and the infinities."""
    return encode_slowly({"v": value}, "a column").decode()[5:-1]


def _as_float(value: Any) -> Any:
    if isinstance(value, list):
        return [_as_float(item) for item in value]
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _types_in(values: Iterable[Any]) -> set[type]:
    """Return the types of values, and of the items of lists among them."""
    types = set(map(type, values))
    if list in types:
        inner = (value for value in values if type(value) is list)
        types |= _types_in(list(itertools.chain.from_iterable(inner)))
    return types


def _innermost_is_float(kind: Any) -> bool:
    import pyarrow as pa

    return _innermost_is_float(kind.value_type) if pa.types.is_list(kind) else pa.types.is_floating(kind)


def _is_plain(kind: Any) -> bool:
    import pyarrow as pa

    if pa.types.is_list(kind):
        return _is_plain(kind.value_type)
    return kind in {pa.null(), pa.bool_(), pa.int64(), pa.float64(), pa.string()}
