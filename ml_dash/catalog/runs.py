"""Many runs: find them, filter them, and put them into one table."""

from __future__ import annotations

import contextlib
import datetime
import itertools
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Never, overload

from ml_dash._printable import clean
from ml_dash.catalog.filter import (
    STATUSES,
    Comparison,
    Condition,
    Predicate,
    Prefix,
    Value,
    all_of,
    is_condition,
    parse,
)
from ml_dash.catalog.literals import time_of
from ml_dash.catalog.matching import is_same, matcher
from ml_dash.catalog.rows import Row, find_rows
from ml_dash.catalog.sign_hints import STATUS_WORDS
from ml_dash.catalog.suggestions import checked, with_exact_prefixes
from ml_dash.errors import InvalidTypeError, InvalidValueError, MissingFileError
from ml_dash.query.metrics import canonical_name
from ml_dash.query.reader import check_columns, check_known
from ml_dash.query.run import RunReader
from ml_dash.query.tables import load_pandas, metric_table
from ml_dash.records.values import decode, encode
from ml_dash.storage import range_reading, scan
from ml_dash.storage.file_index import without_collector
from ml_dash.storage.names import NamesClosest, closest, unknown_keyword

RUN = "run"
"""The column that says which run a row is of."""

NAMED_PROBLEMS = 3
"""Runs that a warning names; it counts the others."""

STATES = tuple(status.upper() for status in STATUSES)

_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_KEYWORDS = ("match", "tags", "status", "params", "since", "until")
_LONGEST_S = 60e9
"""Seconds before and after 1970 that a date can hold: about 1900 years."""


def runs(
    dash_root: str | os.PathLike[str] = ".dash",
    where: str | None = None,
    *,
    match: str | None = None,
    tags: str | Sequence[str] | None = None,
    status: str | Sequence[str] | None = None,
    params: Mapping[str, Any] | None = None,
    since: datetime.datetime | str | float | None = None,
    until: datetime.datetime | str | float | None = None,
    **unknown: Never,
) -> Runs:
    """The runs below a folder that meet every condition, in the order of their prefixes.

    ``runs("lr < 1e-3 and status = failed")`` is short for ``runs(".dash", "lr < 1e-3 and status = failed")``: where the
    first argument is no folder and reads as a condition, it is one. So is a prefix or glob of runs, ``runs("alice/*")``.

    A folder that cannot be read is left out; a ``UserWarning`` names it.

    Args:
        dash_root: folder of all runs.
        where: a condition, such as ``lr < 1e-3 and (status = failed or tags has ppo)``, or a prefix or glob as for
            ``match``; see "Compare runs" in the documentation. Text that is, as a glob, the prefix of a run is a glob.
        match: a glob over the prefix, such as ``alice/*/seed-?`` (a ``*`` also stands for slashes); without a wildcard
            the run of that prefix and every run below it.
        tags: words that a run must all have.
        status: one status or several, in any case; ``NONE`` for runs without one, ``LIVE`` for runs that are being
            written now.
        params: values by name, nested or dotted. Each is a value, equal as in a condition (NaN is NaN, ``1`` is ``1.0``
            but not ``True``), or a function of the parameter's value that returns whether it fits.
        since: only runs created then or later: a datetime, ISO text, a span such as ``2d`` for so long ago, or seconds
            since 1970. Without a time zone it is local time.
        until: only runs created then or earlier. A date alone is its first instant: ``until="2026-03-02"`` includes the
            runs of March 1st, and none of March 2nd.
        **unknown: not accepted; the error names the closest keyword.

    Raises:
        InvalidTypeError: an argument has the wrong type.
        InvalidValueError: a condition or a time cannot be read, there is no such status, ``where`` or ``params`` names
            a parameter or metric that no run has, also below ``not`` or in ``has(...)``, or a function of ``params``
            fails. A tree without runs has every name.
        MissingFileError: there is no such folder, and no run below ``.dash`` with such a prefix.
    """
    for name in unknown:
        raise unknown_keyword(name, (*_KEYWORDS, "dash_root", "where"), "runs()")
    if not isinstance(dash_root, (str, os.PathLike)):
        raise InvalidTypeError(f"dash_root={dash_root!r:.80} must be the path of a folder")
    folder: str | os.PathLike[str] = dash_root
    if where is None and isinstance(dash_root, str) and not os.path.isdir(dash_root) and _is_where(dash_root):
        folder, where = ".dash", dash_root
    _keywords(match, tags, status, params, since, until)
    parsed = None if where is None else parse(where)
    root = os.path.abspath(os.fspath(folder))
    if not os.path.isdir(root):
        what = "" if folder is dash_root else f" to look for {where!r:.80} in"
        raise MissingFileError(f"there is no folder {root!r}{what}; name the dash_root= of the experiments")
    unreadable: list[scan.Unreadable] = []
    with without_collector():
        rows = list(find_rows(root, unreadable))
        condition = checked(_keywords(match, tags, status, params, since, until), rows)
        if where is not None and parsed is not None:
            meant = _meant(where, parsed, rows)
            if folder is not dash_root and isinstance(parsed, Prefix) and not any(map(matcher(meant), rows)):
                raise MissingFileError(
                    f"there is no folder {os.path.abspath(where)!r}, and no run below {root!r} has the prefix {where!r:.80}"
                )
            condition = all_of([meant, condition])
        chosen = list(filter(matcher(condition), rows))
    if unreadable:
        warnings.warn(f"{root!r}: {scan.left_out(unreadable, root)}", stacklevel=2)
    return Runs(root, [RunReader(row.folder, row.prefix) for row in chosen])


def _is_where(text: str) -> bool:
    """Whether a text that is no folder chooses runs below ``.dash``: a condition, or a prefix or glob."""
    if is_condition(text):
        return True
    return bool(text.strip()) and text[0] not in "/~.\\" and os.path.isdir(".dash")


def _meant(where: str, parsed: Condition, rows: list[Row]) -> Condition:
    """The condition to ask: a text such as alice/lr=0.1/* can be read both ways, and one that fits a run is a glob."""
    as_glob = with_exact_prefixes(Prefix(where), rows)
    if any(map(matcher(as_glob), rows)):
        return as_glob
    try:
        return checked(parsed, rows)
    except InvalidValueError as error:
        raise InvalidValueError(f"where={where!r:.120}: {error}") from None


def _keywords(match: object, tags: object, status: object, params: object, since: object, until: object) -> Condition:
    """The keyword arguments as one condition."""
    parts: list[Condition] = []
    if match is not None:
        if not isinstance(match, str):
            raise InvalidTypeError(f"match={match!r:.80} must be text, such as 'alice/*'")
        parts.append(Prefix(match))
    if tags is not None:
        parts += [Comparison("tags", "has", (Value(tag, is_quoted=True),)) for tag in _texts("tags", tags)]
    if status is not None:
        parts.append(Comparison("status", "in", tuple(Value(_state(text)) for text in _texts("status", status))))
    if params is not None:
        if not isinstance(params, Mapping):
            raise InvalidTypeError(f"params={params!r:.80} must be a dict of names and values")
        parts += itertools.starmap(_parameter, _wanted(params))
    for name, sign, given in (("since", ">=", since), ("until", "<=", until)):
        if given is not None:
            parts.append(Comparison("created", sign, (Value(_time_text(name, given), is_quoted=True),)))
    return all_of(parts)


def _wanted(params: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Each parameter's dotted name, and the function or the value as it is stored."""
    for name, value in params.items():
        if not isinstance(name, str):
            raise InvalidTypeError(f"params: the name {name!r:.80} must be text")
        if callable(value):
            yield name, value
        elif isinstance(value, Mapping) and value:
            yield from _wanted({f"{name}.{key}": item for key, item in value.items()})
        else:
            yield name, decode(encode({name: value}, "params"))[name]


def _parameter(name: str, wanted: Any) -> Predicate:
    if callable(wanted):
        return Predicate(name, lambda found: bool(wanted(found)))
    return Predicate(name, lambda found: is_same(found, wanted))


def _state(text: str) -> str:
    if text.upper() in STATES:
        return text.upper()
    near = STATUS_WORDS.get(text.lower(), "").upper() or closest(text, STATES)
    advice = f"did you mean {near!r}?" if near else f"use one of {', '.join(STATES)}"
    raise InvalidValueError(f"status={text!r:.80} is no status of a run; {advice}")


def _texts(name: str, given: object) -> list[str]:
    texts = [given] if isinstance(given, str) else given
    if not isinstance(texts, Sequence) or not all(isinstance(text, str) for text in texts):
        raise InvalidTypeError(f"{name}={given!r:.80} must be text or a list of texts")
    return list(texts)


def _time_text(name: str, given: object) -> str:
    """A time as text that ``time_of`` reads."""
    if isinstance(given, datetime.datetime):
        return (given if given.tzinfo is not None else given.astimezone()).isoformat()
    if isinstance(given, (int, float)) and not isinstance(given, bool) and abs(given) < _LONGEST_S:
        return (_EPOCH + datetime.timedelta(seconds=given)).isoformat()
    if isinstance(given, str) and time_of(given) is not None:
        return given
    raise InvalidValueError(
        f"{name}={given!r:.80} is no time; pass a datetime, ISO text such as '2026-03-01' or '2d' for so long ago, or "
        "seconds since 1970"
    )


class Runs(NamesClosest, Sequence[RunReader]):
    """Some runs of one tree. Get them from ``ml_dash.runs``.

    Attributes:
        root: absolute path of the tree.
    """

    def __init__(self, root: str, readers: Sequence[RunReader]) -> None:
        self.root = root
        self._runs = list(readers)

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
        """The runs as a ``pandas.DataFrame``, one row each: its facts, parameters and metrics.

        Runs that did not change since the last time, in whatever process, are not read again. A run that is damaged or
        gone has no row, and one with more than 10,000 values lacks some; a ``UserWarning`` names those that are there.

        Returns:
            The columns ``run_id`` (the prefix), ``project_name``, ``created_at``, ``ended_at``, ``git_commit``,
            ``status``, ``tags``; then the parameters under dotted names; then for each number of a metric
            ``train/loss`` (the last value), ``train/loss.min``, ``.max`` and ``.mean``.

        Raises:
            MissingExtraError: pandas is not installed.
        """
        from ml_dash.catalog.dataframe import to_dataframe
        from ml_dash.catalog.index import read_index

        load_pandas()
        index = read_index(self.root)
        folders = [run.folder for run in self._runs]
        asked = set(folders)
        if problems := [problem for problem in index.problems if problem.folder in asked]:
            named = [f"{clean(scan.prefix_of(folder, self.root))} ({clean(reason)})" for folder, reason in problems]
            more = f" and {len(named) - NAMED_PROBLEMS:,} more" if len(named) > NAMED_PROBLEMS else ""
            text = f"runs or parts of them are left out: {', '.join(named[:NAMED_PROBLEMS])}{more}"
            with contextlib.suppress(Warning):  # a damaged run must not hide the others
                warnings.warn(text, stacklevel=2)
        return to_dataframe(index.rows_of(folders))

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
        columns = check_columns(list(fields), "runs") or None
        tables = [_with_prefix(metric_table(run.folder, name, None, None, columns), run.prefix) for run in self._runs]
        tables = [table for table in tables if len(table)]
        if not tables:
            import pyarrow as pa

            return pa.schema({RUN: pa.string(), "_index": pa.int64(), "_ts": pa.float64()}).empty_table()
        table = range_reading.concat(tables, "_ts")
        if missing := [field for field in fields if field not in table.schema.names]:
            check_known(missing, self.metric(name).schema.names, f"metric {name!r} of these runs")
        return table


def _with_prefix(table: Any, prefix: str) -> Any:
    import pyarrow as pa

    names = [f"data.{name}" if name == RUN else name for name in table.schema.names]
    prefixes = pa.array([prefix]).take(pa.array([0] * len(table), pa.int64()))
    return table.rename_columns(names).add_column(0, RUN, prefixes)
