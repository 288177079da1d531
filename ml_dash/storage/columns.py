"""Rows of JSON values as columns of Arrow, and the one schema that holds several batches of them.

A column is typed where its values allow it: booleans, whole numbers, floats, text, and lists of these. Whole numbers and
floats together are floats. Anything else (dicts, several types in one column, integers beyond 64 bits) is kept as JSON
text, in a column whose field says so. A value that is missing and one that is None are both null.

pyarrow is loaded by the functions that need it: a training process reads columns only when it is asked to.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from ml_dash.records.values import encode_slowly

JSON_MARK = {b"ml_dash": b"json"}
"""The metadata of a field whose values are JSON text."""


def rows_to_table(
    rows: Iterable[Mapping[str, Any]], first: str | None = None, as_json: Collection[str] = frozenset()
) -> Any:
    """Rows as a ``pyarrow.Table``, columns in the order in which they come up.

    Args:
        rows: values by name, as ``decode`` returns them.
        first: a column that comes first and is a float, whether or not there is a row.
        as_json: columns that are JSON text whatever they hold, by the name of their field.
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
    """The names of all values, in the order in which they come up, after ``first``."""
    return list(dict.fromkeys(itertools.chain([] if first is None else [first], *rows)))


def column_of(rows: Iterable[Mapping[str, Any]], name: str) -> list[Any]:
    """The values of a name, one for each row; None where it is missing."""
    return [row.get(name) for row in rows]


def kind_of(values: Sequence[Any]) -> Any:
    """The type of a column: an Arrow type, or None for JSON text."""
    import pyarrow as pa

    try:
        kind = pa.array(values).type
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        return None
    if not _is_plain(kind) or (_innermost_is_float(kind) and bool in _types_in(values)):  # pyarrow takes True for 1.0
        return None
    return kind


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

    text = text_of(name)
    return pa.field(text, pa.string(), metadata=JSON_MARK) if kind is None else pa.field(text, kind)


def text_of(name: str) -> str:
    """A column's name as its field has it: what of it is no UTF-8 is an escape."""
    return name.encode("utf-8", "backslashreplace").decode()


def kind_of_field(field: Any) -> Any:
    """The inverse of ``field_of``."""
    return None if (field.metadata or {}).get(b"ml_dash") == b"json" else field.type


def name_of(kind: Any) -> str:
    """A type as text, the same before it was written to a file and after; JSON text is ``json``."""
    import pyarrow as pa

    if kind is None:
        return "json"
    return f"list<{name_of(kind.value_type)}>" if pa.types.is_list(kind) else str(kind)


def kind_named(name: str) -> Any:
    """The inverse of ``name_of``."""
    import pyarrow as pa

    if name.startswith("list<"):
        return pa.list_(kind_named(name[5:-1]))
    plain = (pa.null(), pa.bool_(), pa.int64(), pa.float64(), pa.string())
    return None if name == "json" else {str(kind): kind for kind in plain}[name]


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


def _types_in(values: Iterable[Any]) -> set[type]:
    """The types of values, and of what is in lists among them."""
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
