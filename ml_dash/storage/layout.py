"""The names of a run's files, relative to its directory. Pure: no file is touched here.

A run's first writer has an empty writer id and writes the plain files. Any other writer of the run has its own files
beside them, with its id in their names, and readers merge them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from typing import Any

UNNAMED_METRIC = "None"
EXPERIMENT = "experiment.json"
PARAMETERS = "parameters.json"
PARAMETERS_LOCK = ".parameters.lock"
EXPERIMENT_LOCK = ".experiment.lock"
ENVIRONMENT = "environment.json"
ENVIRONMENT_HISTORY = "environment.history.jsonl"
ENVIRONMENT_LOCK = ".environment.lock"
CODE_DIFF = "code.diff"
RUN_LOCK = ".lock"
METADATA = "metadata.json"
FILES_METADATA = "files/.files_metadata.json"
STAGING = "files/.staging"
SPILL = ".spill"
QUARANTINE = "quarantine"
WRITERS = ".writers"
COPY_SUFFIX = ".parquet"
CONFIG_TOML = "config.toml"
METRICS_TOML = "metrics.toml"

_SHARD = re.compile(r"(?:data|logs|index)(?:\.[^/]+)?\.jsonl")


def journal(folder: str, stem: str, writer_id: str) -> str:
    """Return ``folder/stem.jsonl``, or ``folder/stem.<writer_id>.jsonl`` for a writer that is not the first."""
    return f"{folder}/{stem}.{writer_id}.jsonl" if writer_id else f"{folder}/{stem}.jsonl"


def logs(writer_id: str = "") -> str:
    """Return the journal of log lines."""
    return journal("logs", "logs", writer_id)


def metric_folder(name: str | None) -> str:
    """Return the folder of a metric; that of the unnamed one is called ``None``."""
    return f"metrics/{name or UNNAMED_METRIC}"


def track_folder(topic: str) -> str:
    """Return the folder of a track."""
    return f"tracks/{topic}"


def frames_folder(topic: str) -> str:
    """Return the folder of a frame stream."""
    return f"frames/{topic}"


def old_track_folder(topic: str) -> str:
    """Return the folder of a track in runs of older clients: one level, with an underscore for each slash."""
    return f"tracks/{topic.replace('/', '_')}"


def data(folder: str, writer_id: str = "") -> str:
    """Return the journal of a metric, track or frame stream."""
    return journal(folder, "data", writer_id)


def metric_description(name: str | None, writer_id: str) -> str:
    """Return the document in which a writer that is not the first keeps the description of a metric."""
    return f"{metric_folder(name)}/metadata.{writer_id}.json"


def file_index(writer_id: str = "") -> str:
    """Return the journal of files."""
    return journal("files", "index", writer_id)


def blob(path: str, file_id: str, filename: str) -> str:
    """Return the path of a stored file. ``path`` is as in its record: ``/`` or ``/folder/...``."""
    return os.path.normpath(f"files/{path}/{file_id}/{filename}")


def stored_file(entry: Mapping[str, Any]) -> str | None:
    """Return the path of the stored file of a record; None if the record names a place that no client stores to.

    A record is input: one with ``..`` in it, or whose id is no number, could name any file or folder.
    """
    file_id, filename = entry["id"], entry["filename"]
    path = blob(entry["path"], file_id, filename)
    is_in_its_place = path.startswith("files/") and path.split("/")[-2:] == [file_id, filename]
    return path if is_in_its_place and file_id.isdecimal() else None


def is_metric_description(name: str) -> bool:
    """Whether a file name is that of ``metric_description``."""
    return name.startswith("metadata.") and name.endswith(".json") and name != METADATA


def is_shard(name: str, stem: str) -> bool:
    """Whether a file name is that of the journal ``stem`` of any writer."""
    return bool(_SHARD.fullmatch(name)) and name.startswith(f"{stem}.")


def has_data(names: Iterable[str]) -> bool:
    """Whether one of the file names in a folder is a journal of points, rows or frames."""
    return any(is_shard(name, "data") for name in names)
