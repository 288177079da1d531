"""``MLProject``: all runs of a folder as one table."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from ml_dash.catalog import dataframe, pandas_query, row_columns
from ml_dash.catalog.index import Index, Problem, read_index
from ml_dash.errors import ExperimentError, InvalidValueError, MissingFileError
from ml_dash.manager.run import MLRun
from ml_dash.manager.validation import checked_root
from ml_dash.query.run import RunReader, ending_in, near_prefixes
from ml_dash.query.tables import load_pandas
from ml_dash.storage.names import NamesClosest

AnyRun = MLRun | RunReader


class MLProject(NamesClosest):
    """The runs below a folder: those of ``MLRun``, those of the ML manager before it, and experiments.

    Iterating gives the runs as objects, in the order of ``df``; ``len`` is how many there are.

    Attributes:
        base_dir: absolute path of the folder.
        df: a ``pandas.DataFrame`` with a row for each run, in the order of their folders. Its columns: ``run_id``,
            ``project_name``, ``created_at`` and ``ended_at`` (in UTC), ``git_commit``, ``status``, ``tags``; then the
            parameters under dotted names; then the metrics. Of the metrics that a run logged by name, ``train/loss`` is
            the last value, ``train/loss.min``, ``.max`` and ``.mean`` are of all. A metric that is called like one of
            the columns before it is ``metrics.<name>``, a parameter ``config.<name>``.
        problems: what could not be read: a list of ``folder`` and ``reason``. These runs are not in ``df``, or lack some
            of their columns there: a table has at most 10,000.
    """

    df: Any
    problems: list[Problem]
    _index: Index

    def __init__(self, base_dir: str | os.PathLike[str]) -> None:
        """Scan the folder.

        Args:
            base_dir: the ``base_dir`` of the runs, or any folder of runs. A missing folder is listed in ``problems``.

        Raises:
            InvalidTypeError: it is no path.
            MissingExtraError: pandas is not installed.
        """
        self.base_dir = checked_root(base_dir)
        self.load_project()

    def load_project(self) -> None:
        """Scan the folder again. Only runs that changed since the last scan, by any process, are read."""
        load_pandas()
        self._index = read_index(self.base_dir)
        self.df = dataframe.to_dataframe(self._index.rows)
        self.problems = self._index.problems
        if not os.path.isdir(self.base_dir):
            self.problems = [Problem(self.base_dir, "there is no such folder"), *self.problems]

    def search(self, query_string: str, return_objects: bool = False) -> Any:
        """The runs that meet a condition.

        Args:
            query_string: as for ``pandas.DataFrame.query``: ``accuracy > 0.9 and `model.name` == 'BERT'``. Names with
                a dot or a slash are in backticks. Comparisons, ``and``, ``or``, ``not``, ``in``, arithmetic, and some
                methods such as ``.isna()`` and ``.str.contains('x')`` can be used; variables (``@x``) cannot.
            return_objects: True for the runs themselves.

        Returns:
            A ``pandas.DataFrame``, the rows of ``df`` that meet it; or a list of ``MLRun``, with a read-only run, as
            ``ml_dash.open_run`` gives, for each experiment.

        Raises:
            InvalidValueError: it is no condition; the text says why, and names the nearest columns.
            InvalidTypeError: it is no text.
        """
        found = pandas_query.select_rows(self.df, query_string)
        return [self._open(self._row(label)) for label in found.index] if return_objects else found

    def get_run(self, run_id: str, project_name: str | None = None) -> AnyRun:
        """One run.

        Args:
            run_id: its id, as in the column ``run_id``. That of an experiment is its prefix, ``alice/walker/seed-1``;
                the end of it (``seed-1``) does if only one has it.
            project_name: its project; None searches all.

        Returns:
            The ``MLRun``; for an experiment a read-only run as ``ml_dash.open_run`` gives.

        Raises:
            MissingFileError: there is no such run; the text names the nearest ids.
            ExperimentError: several runs have that id, or end in it; the text names them.
            InvalidNameError: it cannot be an id.
            StorageError: a file of the run is damaged.
        """
        ids = self._ids(project_name)
        named = [row for row, known in ids.items() if run_id in (known, self._index.paths[row])]
        if named and (run_id == self._index.paths[named[0]] or not self._index.managed[named[0]]):
            return self._open(named[0])
        given: object = run_id  # callers without a type checker may pass anything
        if named or not isinstance(given, str) or "/" not in given:
            try:  # the run may have been made, or damaged, since the scan
                return MLRun.load(run_id, self.base_dir, project_name)
            except MissingFileError:
                pass
        return self._open(self._ending_in(run_id, ids, project_name))

    def __len__(self) -> int:
        return len(self._index.paths)

    def __iter__(self) -> Iterator[AnyRun]:
        return map(self._open, range(len(self)))

    def __repr__(self) -> str:
        if not os.path.isdir(self.base_dir):
            return f"<0 runs: there is no folder {self.base_dir!r}>"
        damaged = f", {len(self.problems)} with problems" if self.problems else ""
        return f"<{len(self)} runs below {self.base_dir!r}{damaged}>"

    def _row(self, label: object) -> int:
        if not isinstance(label, int) or not 0 <= label < len(self):
            raise InvalidValueError(f"df has rows with labels of your own ({label!r:.80}); call load_project() first")
        return label

    def _open(self, row: int) -> AnyRun:
        path = self._index.paths[row]
        if not self._index.managed[row]:
            return RunReader(self._index.folder(row), path or os.path.basename(self.base_dir))
        project, run_id = path.split("/")
        return MLRun.load(run_id, self.base_dir, project)

    def _ids(self, project_name: str | None) -> dict[int, str]:
        """The run ids by row, of one project or of all."""
        if not len(self):
            return {}
        columns = self._index.rows.columns
        ids, projects = (row_columns.to_list(columns[f"f:{name}"]) for name in ("run_id", "project_name"))
        return {row: run_id for row, run_id in enumerate(ids) if project_name in (None, projects[row])}

    def _ending_in(self, run_id: str, ids: dict[int, str], project_name: str | None) -> int:
        """The row of the only run whose prefix ends in ``run_id``."""
        rows = {self._index.paths[row] or known: row for row, known in ids.items()}
        found = ending_in(run_id, rows)
        if len(found) == 1:
            return rows[found[0]]
        if found:
            raise ExperimentError(
                f"{len(found)} runs end in {run_id!r}: {', '.join(map(repr, found))}; give more of the prefix"
            )
        where = "" if project_name is None else f" of project {project_name!r}"
        near = near_prefixes(run_id, list(dict.fromkeys(ids.values())))
        known = f"the nearest ids are {', '.join(map(repr, near))}" if near else "there is none at all"
        raise MissingFileError(f"no run {run_id!r}{where} below {self.base_dir!r}; {known}")
