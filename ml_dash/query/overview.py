"""Summarise one run as plain values: the JSON of ``ml-dash show``, from which its screen is made as well.

Every value is of a JSON type, but metadata, parameters and metrics may hold floats that are not finite.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from ml_dash.storage import layout, metric_reading, track_reading
from ml_dash.storage.beneath import UnsafeFileError, open_file, regular_size, warn_refused
from ml_dash.storage.file_index import full_name
from ml_dash.storage.follow import Position
from ml_dash.storage.journal import shards
from ml_dash.storage.liveness import open_seconds

if TYPE_CHECKING:
    from ml_dash.query.run import RunReader

NEWEST_FILES = 5
"""Files that are listed one by one."""

_TIMES = ("created_at", "started_at", "ended_at", "heartbeat_at")


def overview(run: RunReader, log_lines: int) -> dict[str, Any]:
    """Summarise a run, without the values of its metrics.

    Args:
        run: the run.
        log_lines: how many of the newest log lines to include.

    Returns:
        ``run`` (the prefix), ``folder``, ``project``, ``status``, ``status_reason``, ``live``, ``created_at``,
        ``started_at``, ``ended_at`` and ``heartbeat_at`` (ISO 8601), ``duration_s``, ``host``, ``pid``, ``tags``,
        ``readme``, ``metadata``, ``environment`` (see ``environment_summary``), ``params`` (flat), ``metrics`` (an empty
        list, for ``metric_summaries``), ``streams`` (see ``stream_sizes``), ``files`` (see ``file_totals``),
        ``tracker`` (see ``RunReader.health``) and ``log`` (see ``LogReader.read``). A value that is not known is None.
    """
    document = run.document()
    return {
        "run": run.prefix,
        "folder": run.folder,
        "project": document.get("project"),
        "status": document.get("status"),
        "status_reason": document.get("status_reason"),
        "live": run.is_live,
        **{name: document.get(name) for name in _TIMES},
        "duration_s": open_seconds(document, live=run.is_live),
        "host": document.get("host"),
        "pid": document.get("pid"),
        "tags": run.tags,
        "readme": run.readme,
        "metadata": document.get("metadata"),
        "environment": environment_summary(run),
        "params": run.params.get(),
        "metrics": [],
        "streams": stream_sizes(run),
        "files": file_totals(run),
        "tracker": {name: to_count(count) for name, count in run.health().items()},
        "log": run.logs.read(limit=log_lines) if log_lines else [],
    }


def environment_summary(run: RunReader) -> dict[str, Any]:
    """Return the facts of environment.json that people ask for first; an empty dict if the run recorded none.

    Returns:
        ``command`` (a list), ``cwd``, ``user``, ``python``, ``system``, ``cpu``, ``gpus``, ``packages`` (their number)
        and ``code`` (``commit``, ``branch``, ``dirty``, ``remote``; None if it was not recorded).
    """
    environment = run.environment()
    if not environment:
        return {}
    process, python, system, code = (_dict(environment.get(name)) for name in ("process", "python", "system", "code"))
    return {
        "command": process.get("command"),
        "cwd": process.get("cwd"),
        "user": process.get("user"),
        "python": python.get("version"),
        "system": system.get("distribution") or system.get("platform"),
        "cpu": system.get("cpu"),
        "gpus": environment.get("gpus") or None,
        "packages": len(_dict(environment.get("packages"))),
        "code": {name: code.get(name) for name in ("commit", "branch", "dirty", "remote")} if code else None,
    }


def stream_sizes(run: RunReader) -> list[dict[str, Any]]:
    """Return the size of the log and of each metric, track and frame stream.

    Returns:
        Dicts with ``kind`` (``log``, ``metric``, ``track`` or ``frames``), ``name`` (None for the log and for the
        unnamed metric), ``count`` (lines, points, rows or frames) and ``bytes`` on disk, without columnar copies.
    """
    log = shards(os.path.join(run.folder, "logs"), "logs")
    journals: list[tuple[str, str | None, list[str]]] = [("log", None, log)] if log else []
    journals += [("metric", name, metric_reading.metric_shards(run.folder, name)) for name in run.metrics.list()]
    journals += [("track", topic, track_reading.track_shards(run.folder, topic)) for topic in run.tracks.topics()]
    sizes: list[dict[str, Any]] = [
        {"kind": kind, "name": name, "count": _count_lines(paths), "bytes": sum(map(regular_size, paths))}
        for kind, name, paths in journals
    ]
    for stream in run.frames.list():
        folder = os.path.join(run.folder, layout.frames_folder(stream["topic"]))
        size = _folder_bytes(folder)
        sizes.append({"kind": "frames", "name": stream["topic"], "count": stream["totalFrames"], "bytes": size})
    return sizes


def file_totals(run: RunReader) -> dict[str, Any]:
    """Return the ``count`` and ``bytes`` of the run's files, and the ``newest``: ``path``, ``bytes``, ``saved_at``."""
    try:
        entries = run.files.list()
    except (AttributeError, TypeError, ValueError):  # a damaged index: verify reports it, and the rest is shown
        entries = []
    named = [entry for entry in entries if isinstance(entry["path"], str) and isinstance(entry["filename"], str)]
    newest = [
        {"path": full_name(entry), "bytes": entry.get("sizeBytes"), "saved_at": entry.get("uploadedAt")}
        for entry in named[: -NEWEST_FILES - 1 : -1]
    ]
    size = sum(to_count(entry.get("sizeBytes")) for entry in entries)
    return {"count": len(entries), "bytes": size, "newest": newest}


def metric_summaries(run: RunReader) -> list[dict[str, Any]]:
    """Return the statistics of each field of each metric, which takes a pass over all points.

    Returns:
        Dicts with ``metric`` (None for the unnamed one), ``field``, ``count``, ``nan_count``, ``last``, ``min``, ``max``
        and ``mean``; see ``MetricReader.stats``.
    """
    kept = ("count", "nan_count", "last", "min", "max", "mean")
    return [
        {"metric": name, "field": field, **{key: statistics[key] for key in kept}}
        for name in run.metrics.list()
        for field, statistics in run.metrics(name).stats()["fields"].items()
        if field != "_ts"
    ]


def to_count(value: Any) -> int:
    """Return a number of things as it is, and 0 for any other value that a damaged document may have."""
    return value if type(value) is int and 0 <= value < 2**63 else 0


def _count_lines(paths: list[str]) -> int:
    total = 0
    for path in paths:
        try:
            with open_file(path) as file:
                total += sum(block.count(b"\n") + 1 for _, block in Position().read(file))
        except UnsafeFileError as error:
            warn_refused(error)
        except FileNotFoundError:  # removed meanwhile
            continue
    return total


def _folder_bytes(folder: str) -> int:
    try:
        with os.scandir(folder) as entries:
            return sum(
                entry.stat(follow_symlinks=False).st_size for entry in entries if entry.is_file(follow_symlinks=False)
            )
    except OSError:
        return 0


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
