"""What ``show`` has to say of a run, as plain values: its JSON, from which the screen is made as well."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from ml_dash.storage.liveness import open_seconds

if TYPE_CHECKING:
    from ml_dash.query.run import RunReader

NEWEST_FILES = 5
"""Files that are named; the others are counted."""

_TIMES = ("created_at", "started_at", "ended_at", "heartbeat_at")


def overview(run: RunReader, log_lines: int) -> dict[str, Any]:
    """Everything but the curves. The keys are those of ``ml-dash show --json``.

    Args:
        run: the run.
        log_lines: lines of the log's end.
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
        "environment": environment_digest(run),
        "params": run.params.get(),
        "metrics": [],
        "streams": streams(run),
        "files": files(run),
        "tracker": {name: whole(count) for name, count in run.health().items()},
        "log": run.logs.read(limit=log_lines) if log_lines else [],
    }


def environment_digest(run: RunReader) -> dict[str, Any]:
    """The few facts of environment.json that a person asks for first; empty if the run did not record it."""
    found = run.environment()
    if not found:
        return {}
    process, python, system, code = (_dict(found.get(name)) for name in ("process", "python", "system", "code"))
    names = ("commit", "branch", "dirty", "remote")
    return {
        "command": process.get("command"),
        "cwd": process.get("cwd"),
        "user": process.get("user"),
        "python": python.get("version"),
        "system": system.get("distribution") or system.get("platform"),
        "cpu": system.get("cpu"),
        "gpus": found.get("gpus") or None,
        "packages": len(_dict(found.get("packages"))),
        "code": {name: code.get(name) for name in names} if code else None,
    }


def streams(run: RunReader) -> list[dict[str, Any]]:
    """The log, metrics, tracks and frame streams: how much there is of each."""
    from ml_dash.storage import layout, metric_reading, track_reading
    from ml_dash.storage.journal import shards

    def journals(paths: list[str]) -> int:
        return sum(os.path.getsize(path) for path in paths)

    found = []
    paths = shards(os.path.join(run.folder, "logs"), "logs")
    if paths:
        found.append({"kind": "log", "name": None, "count": count_lines(paths), "bytes": journals(paths)})
    for name in run.metrics.list():
        paths = metric_reading.metric_shards(run.folder, name)
        found.append({"kind": "metric", "name": name, "count": count_lines(paths), "bytes": journals(paths)})
    for topic in run.tracks.topics():
        paths = track_reading.track_shards(run.folder, topic)
        found.append({"kind": "track", "name": topic, "count": count_lines(paths), "bytes": journals(paths)})
    for about in run.frames.list():
        folder = os.path.join(run.folder, layout.frames_folder(about["topic"]))
        found.append(
            {"kind": "frames", "name": about["topic"], "count": about["totalFrames"], "bytes": _folder_bytes(folder)}
        )
    return found


def files(run: RunReader) -> dict[str, Any]:
    """How many files there are, how large, and the newest of them."""
    from ml_dash.storage.file_index import full_name

    try:
        entries = run.files.list()
    except (AttributeError, TypeError, ValueError):  # a damaged index: verify says so, and the rest is shown
        entries = []
    named = [entry for entry in entries if isinstance(entry["path"], str) and isinstance(entry["filename"], str)]
    newest = [
        {"path": full_name(entry), "bytes": entry.get("sizeBytes"), "saved_at": entry.get("uploadedAt")}
        for entry in named[: -NEWEST_FILES - 1 : -1]
    ]
    return {"count": len(entries), "bytes": sum(whole(entry.get("sizeBytes")) for entry in entries), "newest": newest}


def metric_facts(run: RunReader) -> list[dict[str, Any]]:
    """For each field of each metric: its points, and the last, least and greatest value and the mean."""
    found = []
    for name in run.metrics.list():
        fields = run.metrics(name).stats()["fields"]
        for field, about in fields.items():
            if field != "_ts":
                kept = {key: about[key] for key in ("count", "nan_count", "last", "min", "max", "mean")}
                found.append({"metric": name, "field": field, **kept})
    return found


def count_lines(paths: list[str]) -> int:
    """The whole lines of journals."""
    total = 0
    for path in paths:
        with open(path, "rb") as file:
            while block := file.read(1 << 20):
                total += block.count(b"\n")
    return total


def _folder_bytes(folder: str) -> int:
    try:
        with os.scandir(folder) as entries:
            return sum(entry.stat().st_size for entry in entries if entry.is_file(follow_symlinks=False))
    except OSError:
        return 0


def whole(value: Any) -> int:
    """A number of things; 0 for what a damaged document has in its place."""
    return value if type(value) is int and 0 <= value < 2**63 else 0


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
