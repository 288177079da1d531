"""The numbers of a run's metrics, as the commands draw and list them."""

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
"""Fields that say where a point belongs. They are an axis, and no curve unless somebody asks for one."""

READ_BYTES = 128 << 20
"""Journals of a run that ``show`` reads for curves, together: beyond that only the last values are told."""

_OURS = frozenset({"_index", "_ts", "_createdAt"})


@dataclass(frozen=True, slots=True)
class Series:
    """One field of a metric.

    Attributes:
        metric: the metric's name, None for the unnamed one.
        field: the field's name.
        values: one for each point, NaN where it has none.
        table: every numeric column of the metric, ``_ts`` among them.
    """

    metric: str | None
    field: str
    values: Floats
    table: dict[str, Floats]

    @property
    def label(self) -> str:
        """``train/loss``; only the field for the unnamed metric."""
        return label_of(self.metric, self.field)

    def x(self, axis: str | None) -> tuple[Floats, str]:
        """Where the points lie, and what that is called.

        Args:
            axis: ``time``, ``index``, or a field; None for the field that counts steps, or the index.

        Raises:
            WrongCallError: there is no such field.
        """
        import numpy as np

        counter = next((name for name in self.table if name in COUNTERS and name != self.field), None)
        axis = axis or counter or "index"
        if axis == "step" and axis not in self.table:
            axis = counter or axis
        if axis == "time" and "time" not in self.table:
            return _since_first(self.table["_ts"])
        if axis in self.table:
            return self.table[axis], axis
        if axis == "index":
            return np.arange(len(self.values), dtype=np.float64), "index"
        raise WrongCallError(f"--x {axis!r}: {self.label} has no such field; {_named(self.table)}, time or index")


def label_of(metric: str | None, field: str) -> str:
    """``train/loss``; only the field for the unnamed metric."""
    return f"{metric}/{field}" if metric else field


def numbers_of(run: RunReader, metric: str | None) -> dict[str, Floats]:
    """The numeric columns of a metric, by name: ``_ts``, then the fields in the order of their first points."""
    import numpy as np

    columns = run.metrics(metric).numpy()
    return {
        name: values.astype(np.float64, copy=False)
        for name, values in columns.items()
        if name not in _OURS - {"_ts"} and values.ndim == 1 and np.issubdtype(values.dtype, np.number)
    }


def curves_of(run: RunReader, metric: str | None) -> list[Series]:
    """Every field of a metric that is a curve; its counters if it has nothing else."""
    table = numbers_of(run, metric)
    fields = [name for name in table if name != "_ts"]
    shown = [name for name in fields if name not in COUNTERS] or fields
    return [Series(metric, name, table[name], table) for name in shown]


def journal_bytes(run: RunReader, metric: str | None) -> int:
    """Bytes of a metric's journals."""
    from ml_dash.storage import metric_reading

    return sum(os.path.getsize(path) for path in metric_reading.metric_shards(run.folder, metric))


def find_series(run: RunReader, name: str, field: str | None) -> Series:
    """The field that a person means with METRIC, METRIC/FIELD, or a field of the unnamed metric.

    Raises:
        CommandError: there is none.
        WrongCallError: the metric has several, and none was named.
    """
    metrics = run.metrics.list()
    for metric, wanted in _readings(name, field):
        if metric in metrics:
            table = numbers_of(run, metric)
            found = wanted or _only_field(metric, table)
            if found in table and found != "_ts":
                return Series(metric, found, table[found], table)
            if metric is not None or field is not None:
                raise CommandError(f"{metric or 'the unnamed metric'!s} has no numbers {found!r}; {_named(table)}")
    known = ", ".join(metric or "None (unnamed)" for metric in metrics) or "none at all"
    raise CommandError(f"{run.prefix} has no metric {name!r}; its metrics: {known}")


def _readings(name: str, field: str | None) -> list[tuple[str | None, str | None]]:
    """What a name may mean, the likeliest first."""
    metric, slash, last = name.rpartition("/")
    whole: list[tuple[str | None, str | None]] = [(_canonical(name), field)]
    if field is not None:
        return whole
    return [*whole, *([(_canonical(metric), last)] if slash else []), (None, name)]


def _canonical(name: str) -> str | None:
    return None if name in {"", "None"} else name


def _only_field(metric: str | None, table: dict[str, Any]) -> str:
    fields = [name for name in table if name != "_ts"]
    curves = [name for name in fields if name not in COUNTERS] or fields
    if len(curves) == 1:
        return curves[0]
    what = repr(metric) if metric else "the unnamed metric"
    if not curves:
        raise CommandError(f"{what} has no numbers to draw")
    raise WrongCallError(
        f"{what} has several fields; say which one: {', '.join(f'{metric or None}/{one}' for one in curves)}"
    )


def _named(table: dict[str, Any]) -> str:
    return "it has " + (", ".join(name for name in table if name != "_ts") or "none")


def _since_first(stamps: Floats) -> tuple[Floats, str]:
    import numpy as np

    if not len(stamps) or not np.isfinite(stamps).any():
        return stamps, "seconds"
    seconds = stamps - np.nanmin(stamps)
    span = float(np.nanmax(seconds))
    for length, name in ((86400.0, "days"), (3600.0, "hours"), (60.0, "minutes")):
        if span > 3 * length:
            return seconds / length, name
    return seconds, "seconds"
