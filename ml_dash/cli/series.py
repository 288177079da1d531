"""The numeric fields of a run's metrics, as ``plot`` and ``show`` draw them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ml_dash.cli.exits import CommandError, WrongCallError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from ml_dash.query.run import RunReader

    Floats = npt.NDArray[np.float64]

COUNTERS = frozenset({"step", "steps", "global_step", "_step", "epoch", "iteration", "frame", "frames"})
"""Fields that give the position of a point. They are an axis, and drawn as a curve only if a person names them."""

READ_BYTES = 128 << 20
"""Bytes of a run's journals that ``show`` reads for curves; of the metrics beyond it shows the last values alone."""

_OWN_COLUMNS = frozenset({"_index", "_createdAt"})


@dataclass(frozen=True, slots=True)
class Series:
    """One field of a metric.

    Attributes:
        metric: the metric's name; None for the unnamed one.
        field: the field's name.
        values: float64, one for each point; NaN where the point has no value.
        table: every numeric column of the metric, including ``_ts``.
    """

    metric: str | None
    field: str
    values: Floats
    table: dict[str, Floats]

    @property
    def label(self) -> str:
        """Metric and field: ``train/loss``."""
        return label_of(self.metric, self.field)

    def x(self, axis: str | None) -> tuple[Floats, str]:
        """Return the horizontal positions of the points and the label of that axis.

        Args:
            axis: ``time``, ``index``, or a field; default the field that counts steps, or else the index.

        Raises:
            WrongCallError: there is no such field.
        """
        import numpy as np

        counter = next((name for name in self.table if name in COUNTERS and name != self.field), None)
        axis = axis or counter or "index"
        if axis == "step" and axis not in self.table:
            axis = counter or axis
        if axis == "time" and "time" not in self.table:
            return _elapsed(self.table["_ts"])
        if axis in self.table:
            return self.table[axis], axis
        if axis == "index":
            return np.arange(len(self.values), dtype=np.float64), "index"
        raise WrongCallError(f"--x {axis!r}: {self.label} has no such field; {_fields_of(self.table)}, time or index")


def label_of(metric: str | None, field: str) -> str:
    """Return metric and field as ``train/loss``, or the field alone for the unnamed metric."""
    return f"{metric}/{field}" if metric else field


def numbers_of(run: RunReader, metric: str | None) -> dict[str, Floats]:
    """Return the numeric columns of a metric by name: ``_ts``, then the fields in the order of their first points."""
    import numpy as np

    columns = run.metrics(metric).numpy()
    return {
        name: values.astype(np.float64, copy=False)
        for name, values in columns.items()
        if name not in _OWN_COLUMNS and values.ndim == 1 and np.issubdtype(values.dtype, np.number)
    }


def curves_of(run: RunReader, metric: str | None) -> list[Series]:
    """Return the fields of a metric without its counters, or the counters if there is nothing else."""
    table = numbers_of(run, metric)
    return [Series(metric, name, table[name], table) for name in _curve_fields(table)]


def _curve_fields(table: dict[str, Any]) -> list[str]:
    fields = [name for name in table if name != "_ts"]
    return [name for name in fields if name not in COUNTERS] or fields


def journal_bytes(run: RunReader, metric: str | None) -> int:
    """Return the size of a metric's journals."""
    from ml_dash.storage import metric_reading

    return sum(os.path.getsize(path) for path in metric_reading.metric_shards(run.folder, metric))


def find_series(run: RunReader, name: str, field: str | None) -> Series:
    """Return the series that a person names: METRIC, METRIC/FIELD, or a field of the unnamed metric.

    Args:
        run: the run.
        name: the name; it is tried as a metric first, then as METRIC/FIELD, then as a field.
        field: the field, if ``name`` is only the metric.

    Raises:
        CommandError: there is no such series.
        WrongCallError: the metric has several fields, and none was named.
    """
    prefix, slash, last = name.rpartition("/")
    candidates: list[tuple[str, str | None]] = [(name, field)]
    if field is None:
        candidates += [*([(prefix, last)] if slash else []), ("", name)]
    metrics = run.metrics.list()
    for given, wanted in candidates:
        metric = None if given in {"", "None"} else given
        if metric in metrics:
            table = numbers_of(run, metric)
            chosen = wanted or _only_field(metric, table)
            if chosen in table and chosen != "_ts":
                return Series(metric, chosen, table[chosen], table)
            if metric is not None or field is not None:
                raise CommandError(f"{metric or 'the unnamed metric'} has no numbers {chosen!r}; {_fields_of(table)}")
    known = ", ".join(metric or "None (unnamed)" for metric in metrics) or "none at all"
    raise CommandError(f"{run.prefix} has no metric {name!r}; its metrics: {known}")


def _only_field(metric: str | None, table: dict[str, Any]) -> str:
    curves = _curve_fields(table)
    if len(curves) == 1:
        return curves[0]
    subject = repr(metric) if metric else "the unnamed metric"
    if not curves:
        raise CommandError(f"{subject} has no numbers to draw")
    raise WrongCallError(
        f"{subject} has several fields; say which one: {', '.join(f'{metric or None}/{name}' for name in curves)}"
    )


def _fields_of(table: dict[str, Any]) -> str:
    return "it has " + (", ".join(name for name in table if name != "_ts") or "none")


def _elapsed(stamps: Floats) -> tuple[Floats, str]:
    """Return the time since the first point, and its unit: the largest of which there are more than three."""
    import numpy as np

    if not len(stamps) or not np.isfinite(stamps).any():
        return stamps, "seconds"
    seconds = stamps - np.nanmin(stamps)
    span = float(np.nanmax(seconds))
    for length, name in ((86400.0, "days"), (3600.0, "hours"), (60.0, "minutes")):
        if span > 3 * length:
            return seconds / length, name
    return seconds, "seconds"
