"""Many runs: find them, filter them, and put them into one table."""

from __future__ import annotations

import datetime
import fnmatch
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, overload

from ml_dash.errors import InvalidTypeError, InvalidValueError, MissingFileError
from ml_dash.query.metrics import canonical_name
from ml_dash.query.run import RunReader
from ml_dash.query.tables import metric_table
from ml_dash.query.validation import check_columns, check_there
from ml_dash.storage import range_reading, scan
from ml_dash.storage.names import closest

_WILDCARDS = frozenset("*?[")
Condition = Callable[[RunReader], bool]


def runs(
    dash_root: str | os.PathLike[str] = ".dash",
    match: str | None = None,
    *,
    tags: str | Sequence[str] | None = None,
    status: str | Sequence[str] | None = None,
    params: Mapping[str, Any] | None = None,
    since: datetime.datetime | str | float | None = None,
    until: datetime.datetime | str | float | None = None,
) -> Runs:
    """The runs below a folder that meet every condition, in the order of their prefixes.

    A folder that cannot be read is left out; a ``UserWarning`` names it.

    Args:
        dash_root: folder of all runs.
        match: a glob over the prefix, such as ``alice/*/seed-?`` (a ``*`` also stands for slashes); without a wildcard
            the run of that prefix and every run below it.
        tags: words that a run must all have.
        status: one status or several, in any case; ``NONE`` for runs that keep none.
        params: values by dotted name, each to be equal or a function that says whether it fits.
        since: only runs created then or later: a datetime, ISO text, or seconds since 1970. Without a time zone it is
            local time.
        until: only runs created then or earlier.

    Raises:
        InvalidTypeError: an argument has the wrong type.
        InvalidValueError: a time cannot be read, or there is no such status.
        MissingFileError: there is no such folder.
    """
    if not isinstance(dash_root, (str, os.PathLike)):
        raise InvalidTypeError(f"dash_root={dash_root!r:.80} must be the path of a folder")
    root = os.path.abspath(os.fspath(dash_root))
    conditions = _conditions(tags, status, params, since, until)
    if not os.path.isdir(root):
        raise MissingFileError(f"there is no folder {root!r}; name the dash_root= of the experiments")
    unreadable: list[scan.Unreadable] = []
    found = (RunReader(folder, scan.prefix_of(folder, root)) for folder in scan.find_runs(root, unreadable))
    chosen = [run for run in found if _matches(run.prefix, match) and all(fits(run) for fits in conditions)]
    if unreadable:
        warnings.warn(f"{root!r}: {scan.left_out(unreadable, root)}", stacklevel=2)
    return Runs(root, chosen)


class Runs(Sequence[RunReader]):
    """Some runs of one tree. Get them from ``ml_dash.runs``.

    Attributes:
        root: absolute path of the tree.
    """

    def __init__(self, root: str, found: Sequence[RunReader]) -> None:
        self.root = root
        self._runs = list(found)

    def __len__(self) -> int:
        return len(self._runs)

    @overload
    def __getitem__(self, index: int) -> RunReader: ...
    @overload
    def __getitem__(self, index: slice) -> Runs: ...
    def __getitem__(self, index: int | slice) -> RunReader | Runs:
        return Runs(self.root, self._runs[index]) if isinstance(index, slice) else self._runs[index]

    def __iter__(self) -> Iterator[RunReader]:
        return iter(self._runs)

    def __repr__(self) -> str:
        return f"<{len(self)} runs below {self.root!r}>"

    def prefixes(self) -> list[str]:
        """The prefix of each run."""
        return [run.prefix for run in self._runs]

    def dataframe(self) -> Any:
        """The runs as a ``pandas.DataFrame``, one row each: what is known of it, its parameters, its metrics.

        Runs that did not change since the last time, in whatever process, are not read again. A run that is damaged or
        gone has no row.

        Returns:
            The columns ``run_id`` (the prefix), ``project_name``, ``created_at``, ``ended_at``, ``git_commit``,
            ``status``, ``tags``; then the parameters under dotted names; then for each number of a metric
            ``train/loss`` (the last value), ``train/loss.min``, ``.max`` and ``.mean``.

        Raises:
            MissingExtraError: pandas is not installed.
        """
        from ml_dash.catalog.dataframe import load_pandas, to_dataframe
        from ml_dash.catalog.index import read_index

        load_pandas()
        return to_dataframe(read_index(self.root).rows_of([run.folder for run in self._runs]))

    def metric(self, name: str | None, *fields: str) -> Any:
        """Some values of a metric over all runs, as one long ``pyarrow.Table``.

        Args:
            name: the metric; a run that has none of that name adds no row.
            *fields: the values wanted, such as ``"loss"``; none means all.

        Returns:
            The columns ``run`` (its prefix), ``_index``, ``_ts`` and the values; points of a run are together. A value
            that is called ``run`` itself is ``data.run``.

        Raises:
            InvalidNameError: the name cannot be a metric's.
            InvalidValueError: no run has a value of that name in this metric.
        """
        name = canonical_name(name)
        wanted = check_columns(list(fields), "runs") or None
        tables = [_with_prefix(metric_table(run.folder, name, None, None, wanted), run.prefix) for run in self._runs]
        tables = [table for table in tables if len(table)]
        if not tables:
            return _empty()
        found = range_reading.concat(tables, "_ts")
        if missing := [field for field in fields if field not in found.schema.names]:
            check_there(missing, self.metric(name).schema.names, f"metric {name!r} of these runs")
        return found


RUN = "run"
"""The column that says which run a row is of."""


def _with_prefix(table: Any, prefix: str) -> Any:
    import pyarrow as pa

    names = [f"data.{name}" if name == RUN else name for name in table.schema.names]
    prefixes = pa.array([prefix]).take(pa.array([0] * len(table), pa.int64()))
    return table.rename_columns(names).add_column(0, RUN, prefixes)


def _empty() -> Any:
    import pyarrow as pa

    return pa.schema({RUN: pa.string(), "_index": pa.int64(), "_ts": pa.float64()}).empty_table()


def _matches(prefix: str, match: str | None) -> bool:
    if match is None:
        return True
    if not isinstance(match, str):
        raise InvalidTypeError(f"match={match!r:.80} must be text, such as 'alice/*'")
    if _WILDCARDS.isdisjoint(match):
        wanted = match.strip("/")
        return not wanted or prefix == wanted or prefix.startswith(f"{wanted}/")
    return fnmatch.fnmatchcase(prefix, match)


def _conditions(tags: object, status: object, params: object, since: object, until: object) -> list[Condition]:
    conditions: list[Condition] = []
    if tags is not None:
        wanted = set(_texts("tags", tags))
        conditions.append(lambda run: wanted <= set(run.tags))
    if status is not None:
        states = {_state(text) for text in _texts("status", status)}
        conditions.append(lambda run: str(run.status).upper() in states)
    if params is not None:
        conditions.append(_params_condition(params))
    if since is not None:
        first = _moment("since", since)
        conditions.append(lambda run: (run.created_at or first - _MOMENT) >= first)
    if until is not None:
        last = _moment("until", until)
        conditions.append(lambda run: (run.created_at or last + _MOMENT) <= last)
    return conditions


_MOMENT = datetime.timedelta(microseconds=1)
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_LONGEST_S = 60e9
"""Seconds before and after 1970 that a date can hold: about 1900 years."""

STATES = ("RUNNING", "COMPLETED", "FAILED", "CANCELLED", "NONE")


def _params_condition(params: object) -> Condition:
    if not isinstance(params, Mapping):
        raise InvalidTypeError(f"params={params!r:.80} must be a dict of names and values")
    wanted = dict(params)

    def fits(run: RunReader) -> bool:
        found = run.params.get()
        return all(name in found and _fits(found[name], value) for name, value in wanted.items())

    return fits


def _fits(found: Any, wanted: Any) -> bool:
    return bool(wanted(found)) if callable(wanted) else bool(found == wanted)


def _state(text: str) -> str:
    if text.upper() in STATES:
        return text.upper()
    near = closest(text, STATES)
    advice = f"did you mean {near!r}?" if near else f"use one of {', '.join(STATES)}"
    raise InvalidValueError(f"status={text!r:.80} is no status of a run; {advice}")


def _texts(what: str, given: object) -> list[str]:
    texts = [given] if isinstance(given, str) else given
    if not isinstance(texts, Sequence) or not all(isinstance(text, str) for text in texts):
        raise InvalidTypeError(f"{what}={given!r:.80} must be text or a list of texts")
    return list(texts)


def _moment(what: str, given: object) -> datetime.datetime:
    if isinstance(given, datetime.datetime):
        return given if given.tzinfo is not None else given.astimezone()
    if isinstance(given, (int, float)) and not isinstance(given, bool):
        given = _EPOCH + datetime.timedelta(seconds=given) if abs(given) < _LONGEST_S else "beyond the year 9999"
    try:
        moment = given if isinstance(given, datetime.datetime) else datetime.datetime.fromisoformat(str(given))
    except ValueError:
        raise InvalidValueError(
            f"{what}={given!r:.80} is no time; pass a datetime, ISO text such as '2026-03-01', or seconds since 1970"
        ) from None
    return moment if moment.tzinfo is not None else moment.astimezone()
