"""One run as a row: its facts, parameters and metrics.

Names in a row start with the kind of the value: ``f:status`` is a fact of the run, ``c:model.name`` a parameter,
``m:accuracy`` a metric.
"""

from __future__ import annotations

import datetime
import os
from collections.abc import Callable
from typing import Any

from ml_dash.catalog.walk import ListedRun
from ml_dash.managed import history, toml_values
from ml_dash.managed.cells import add_flat, in_utc
from ml_dash.managed.toml_values import TOML_BYTES
from ml_dash.query.metric_stats import field_stats
from ml_dash.query.params import without_filled
from ml_dash.records.values import decode, flatten, parse
from ml_dash.storage import layout, legacy
from ml_dash.storage.beneath import read_below
from ml_dash.storage.documents import parameters_in, to_datetime

FACT, PARAMETER, METRIC = "f:", "c:", "m:"
FACTS = ("run_id", "project_name", "created_at", "ended_at", "git_commit", "status", "tags")

STATISTICS = ("min", "max", "mean")
"""Columns of a metric besides its last value: each name follows the metric's after a dot."""

DESCRIPTION_BYTES = 16 * 1024 * 1024
"""The largest JSON document that is read for a row: a hundred times that of a run with a thousand parameters. Parsed, it
may take fifty times its size."""

Cells = dict[str, Any]

_OWN_TABLES = ("_wandb", "_meta")


def summarise(root: str, run: ListedRun) -> Cells:
    """The row of one run.

    Args:
        root: absolute path of the tree.
        run: the run in it.

    Raises:
        OSError: a file cannot be read.
        ValueError: a file is damaged; the text names it.
    """
    folder = os.path.join(root, *run.path.split("/")) if run.path else root
    return _managed_row(folder, run) if run.is_managed else _experiment_row(folder, run)


def _managed_row(folder: str, run: ListedRun) -> Cells:
    """From config.toml and metrics.toml; the status, and metrics with a name, from the run's own files."""
    config_path = os.path.join(folder, layout.CONFIG_TOML)
    config = _read_config(folder)
    wandb, meta = (table if isinstance(table := config.pop(name, None), dict) else {} for name in _OWN_TABLES)
    document = _readable(folder, layout.EXPERIMENT) if layout.EXPERIMENT in run.files else {}
    project, run_id = run.path.split("/")
    row: Cells = {
        "f:run_id": run_id,
        "f:project_name": project,
        "f:created_at": _time(meta.get("created_at"))
        or datetime.datetime.fromtimestamp(os.stat(config_path).st_mtime, datetime.UTC),
        "f:ended_at": _time(document.get("ended_at")),
        "f:git_commit": _text(meta.get("git_commit")),
        "f:status": _text(document.get("status")) or _text(meta.get("status")) or "UNKNOWN",
        "f:tags": _tags(document.get("tags")) or _tags(meta.get("tags")) or _tags(wandb.get("tags")),
    }
    add_flat(row, config, PARAMETER)
    try:
        row |= history.last_values(folder, run.files, METRIC)
    except ValueError as error:
        raise ValueError(f"{layout.METRICS_TOML} is damaged: {error}") from error
    for name, journals in _metrics(folder, run.files).items():
        if name != layout.UNNAMED_METRIC:
            row |= _metric_cells(journals, f"{METRIC}{name}/")
    return row


def _experiment_row(folder: str, run: ListedRun) -> Cells:
    document = _read_json(folder, layout.EXPERIMENT) if layout.EXPERIMENT in run.files else {}
    prefix = run.path or os.path.basename(folder)
    segments = prefix.split("/")
    code = _readable(folder, layout.ENVIRONMENT).get("code") if layout.ENVIRONMENT in run.files else None
    row: Cells = {
        "f:run_id": prefix,
        "f:project_name": _text(document.get("project")) or (segments[1] if len(segments) > 1 else None),
        "f:created_at": _time(document.get("created_at")),
        "f:ended_at": _time(document.get("ended_at")),
        "f:git_commit": _text(code.get("commit")) if isinstance(code, dict) else None,
        "f:status": _text(document.get("status")),
        "f:tags": _tags(document.get("tags")),
    }
    if layout.PARAMETERS in run.files:
        add_flat(row, without_filled(flatten(parameters_in(_read_json(folder, layout.PARAMETERS, decode)))), PARAMETER)
    for name, journals in _metrics(folder, run.files).items():
        row |= _metric_cells(journals, METRIC if name == layout.UNNAMED_METRIC else f"{METRIC}{name}/")
    return row


def _metrics(folder: str, files: list[str]) -> dict[str, list[str]]:
    """The absolute paths of the journals of each metric, the first writer's before the others'."""
    found: dict[str, list[str]] = {}
    for file in sorted(files, key=lambda name: (os.path.dirname(name), not name.endswith("/data.jsonl"), name)):
        if file.startswith("metrics/") and file.endswith(legacy.JOURNAL):
            found.setdefault(_metric_of(file.removeprefix("metrics/")), []).append(os.path.join(folder, file))
    return found


def _metric_of(journal: str) -> str:
    """The name of the metric of ``train/data.jsonl``, and of ``train.jsonl``, as old trees have it."""
    folder, _, file = journal.rpartition("/")
    return folder if folder and legacy.is_data(file) else journal.removesuffix(legacy.JOURNAL)


def _metric_cells(journals: list[str], prefix: str) -> Cells:
    """The last, smallest, largest and mean value of each field with numbers. A field of the same name comes first."""
    cells: Cells = {}
    for path in journals:
        history.check_regular(path)
    fields = field_stats(journals)["fields"]
    for name, about in fields.items():
        cells[prefix + name] = about["last"]
        for what in STATISTICS:
            if f"{name}.{what}" not in fields:
                cells[f"{prefix}{name}.{what}"] = about[what]
    return cells


def _read_config(folder: str) -> dict[str, Any]:
    content = read_below(folder, layout.CONFIG_TOML, TOML_BYTES)
    if not content.strip():  # another program was killed while it wrote in place: the file always has tables
        raise ValueError(f"{layout.CONFIG_TOML} is empty")
    try:
        return toml_values.parse(content)
    except ValueError as error:
        raise ValueError(f"{layout.CONFIG_TOML} is damaged: {error}") from error


def _read_json(folder: str, name: str, read: Callable[[bytes], Any] = parse) -> dict[str, Any]:
    content = read_below(folder, name, DESCRIPTION_BYTES)
    try:
        document = read(content)
    except ValueError as error:
        raise ValueError(f"{name} is damaged: {error}") from error
    if not isinstance(document, dict):
        raise ValueError(f"{name} is damaged: it holds no object")  # noqa: TRY004 - of a file, not of an argument
    return document


def _readable(folder: str, name: str) -> dict[str, Any]:
    """A document that is not essential to the row; empty if it is damaged."""
    try:
        return _read_json(folder, name)
    except ValueError:
        return {}


def _time(value: Any) -> datetime.datetime | None:
    """A time in UTC, from a TOML datetime or from ISO text."""
    time = value if isinstance(value, datetime.datetime) else to_datetime(value)
    if time is None:
        return None
    try:
        return in_utc(time if time.tzinfo is not None else time.replace(tzinfo=datetime.UTC))
    except OverflowError:  # within hours of the year 1 or 9999
        return None


def _tags(value: Any) -> list[str]:
    return [tag for tag in value if isinstance(tag, str)] if isinstance(value, list) else []


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None
