"""Names in a condition that no run has, and the nearest names that runs do have."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence

from ml_dash.catalog.filter import FIELDS, METRIC, PARAMETER, STATISTICS, Condition, comparisons
from ml_dash.catalog.rows import Row, last_values, metric_journals
from ml_dash.query.metric_stats import field_stats
from ml_dash.query.run import RunReader
from ml_dash.storage.names import closest

SEARCHED_RUNS = 200
"""Runs whose metrics are read in full before a name is said to be unknown. With more runs than that it counts as known."""

SAMPLED_RUNS = 50
"""Runs, the last ones, whose metrics are compared with a name that is unknown."""

NAMED = 8
"""Names that a message lists if none is close."""


def unknown_name(condition: Condition, rows: Sequence[Row]) -> str:
    """A message on the first parameter or metric of a condition that no run has; empty if there is none.

    Args:
        condition: names that it asks for with ``has(...)`` need not be there.
        rows: every run.
    """
    for comparison in comparisons(condition):
        name = comparison.name
        if name in FIELDS or not rows:
            continue
        if name.startswith(PARAMETER):
            parameter = name.removeprefix(PARAMETER)
            if not any(parameter in row.params or name in row.params for row in rows):
                return f"no run has a parameter {parameter!r}; {_advice(parameter, _parameters(rows), 'the parameters are')}"
        elif not is_known(name, rows):
            near = nearest(name.removeprefix(METRIC), rows, FIELDS)
            advice = f"did you mean {near!r}?" if near else f"the fields of every run are {', '.join(FIELDS)}"
            return f"no run has a parameter or a metric {name!r}; {advice}"
    return ""


def unknown_tag(condition: Condition, rows: Sequence[Row]) -> str:
    """A message on the first tag of a condition that no run has; empty if there is none."""
    for comparison in comparisons(condition):
        if comparison.name != "tags" or comparison.sign != "has":
            continue
        tag = comparison.values[0].text
        if not any(tag in row.tags for row in rows):
            return f"no run has the tag {tag!r}; {_advice(tag, _distinct(row.tags for row in rows), 'the tags are')}"
    return ""


def is_known(name: str, rows: Sequence[Row]) -> bool:
    """Whether a run has a parameter of that name, or logged it as METRIC/FIELD, or as a field of the unnamed metric.

    Args:
        name: may end in ``.min``, ``.max`` or ``.mean``.
        rows: every run.
    """
    if any(name in row.params for row in rows):
        return True
    metric, _, field = name.removeprefix(METRIC).rpartition("/")
    fields = {field, field.rpartition(".")[0]} if field.endswith(STATISTICS) else {field}
    journals = (metric_journals(row.folder, metric) for row in rows)
    logged = [paths for paths in journals if paths]
    return len(logged) > SEARCHED_RUNS or any(not fields.isdisjoint(field_stats(paths)["fields"]) for paths in logged)


def nearest(name: str, rows: Sequence[Row], others: Iterable[str]) -> str | None:
    """The closest of the parameters and metrics of runs, and of other names."""
    return closest(name, [*others, *_parameters(rows), *_distinct(map(_metric_fields, rows[-SAMPLED_RUNS:]))])


def _metric_fields(row: Row) -> Iterator[str]:
    for metric in RunReader(row.folder, row.prefix).metrics.list():
        fields = (field for field in last_values(row.folder, metric) if field != "_ts")
        yield from (f"{metric}/{field}" if metric else field for field in fields)


def _parameters(rows: Sequence[Row]) -> list[str]:
    return _distinct(row.params for row in rows)


def _distinct(names: Iterable[Iterable[str]]) -> list[str]:
    return list(dict.fromkeys(itertools.chain.from_iterable(names)))


def _advice(name: str, known: list[str], listing: str) -> str:
    near = closest(name, known)
    if near:
        return f"did you mean {near!r}?"
    more = f" and {len(known) - NAMED:,} more" if len(known) > NAMED else ""
    return f"{listing} {', '.join(known[:NAMED])}{more}" if known else "none has any"
