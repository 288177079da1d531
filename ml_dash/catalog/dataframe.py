"""Columns of runs as a ``pandas.DataFrame``."""

from __future__ import annotations

from typing import Any

from ml_dash.catalog.row_columns import RowColumns, Values
from ml_dash.catalog.summary import FACT, FACTS, METRIC, PARAMETER
from ml_dash.query.tables import load_pandas, objects

_NONE = type(None)


def to_dataframe(rows: RowColumns) -> Any:
    """One row for each run.

    Returns:
        A ``pandas.DataFrame``: the facts of each run, then the parameters, then the metrics. Whole numbers of which
        some are missing are ``Int64``, booleans ``boolean``; whole numbers and floats in one column are floats; a
        column of several types holds Python objects.

    Raises:
        MissingExtraError: pandas is not installed.
    """
    pd = load_pandas()
    names = column_names(rows.names())
    return pd.DataFrame({shown: _series(pd, _typed(name, rows)) for name, shown in names.items()}, copy=False)


def column_names(names: list[str]) -> dict[str, str]:
    """The column of each name, in the order of the columns.

    Facts and parameters have their own names. A parameter called like a fact is ``config.<name>``, a metric called like
    a fact or a parameter ``metrics.<name>``.
    """
    shown = {f"{FACT}{name}": name for name in FACTS}
    taken = set(FACTS)
    for kind, prefix in ((PARAMETER, "config."), (METRIC, "metrics.")):
        for name in names:
            if name.startswith(kind):
                text = name[len(kind) :].encode("utf-8", "backslashreplace").decode()
                while text in taken:
                    text = prefix + text
                taken.add(text)
                shown[name] = text
    return shown


def _typed(name: str, rows: RowColumns) -> Values:
    """A column; a fact that no row has gets its usual type."""
    import pyarrow as pa

    values = rows.columns.get(name, pa.nulls(len(rows)))
    if isinstance(values, list) or values.type != pa.null() or not name.startswith(FACT) or name == f"{FACT}tags":
        return values
    kind = pa.timestamp("us", "UTC") if name.endswith("_at") else pa.string()
    return pa.nulls(len(values), kind)


def _series(pd: Any, values: Values) -> Any:
    if isinstance(values, list):
        return _of_objects(pd, values)
    kind = str(values.type)
    if kind == "null":
        return pd.Series([None] * len(values), dtype=object)
    if values.null_count and kind in ("int64", "bool"):
        mask = values.is_null().to_numpy(zero_copy_only=False)
        filled = values.fill_null(False if kind == "bool" else 0).to_numpy(zero_copy_only=False)
        array = pd.arrays.BooleanArray if kind == "bool" else pd.arrays.IntegerArray
        return pd.Series(array(filled, mask))
    return values.to_pandas()


def _of_objects(pd: Any, values: list[Any]) -> Any:
    kinds = set(map(type, values)) - {_NONE}
    if kinds == {int, float}:
        try:
            return pd.Series([float("nan") if value is None else float(value) for value in values], dtype="float64")
        except OverflowError:  # an integer beyond the largest float
            pass
    return pd.Series(objects(values), dtype=object)
