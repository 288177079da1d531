"""Reading a run's directory: whole lines only, every writer's files, whatever state they were left in."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from ml_dash.records.values import flatten, revive
from ml_dash.storage import file_index, layout, legacy
from ml_dash.storage.documents import parameters_in, read_document, read_raw_document
from ml_dash.storage.journal import read_objects, shards


def read_experiment(run: str) -> dict[str, Any]:
    """experiment.json, or an empty dict."""
    found = read_raw_document(os.path.join(run, layout.EXPERIMENT)) or {}
    # Only these hold values; a tag or a reason that reads "NaN" is text.
    return found | {"metadata": revive(found["metadata"])} if "metadata" in found else found


def read_environment(run: str) -> dict[str, Any]:
    """Read environment.json of a run's newest start; an empty dict if there is none.

    Returns:
        ``process``, ``python``, ``system``, ``gpus``, ``container``, ``packages``, ``code``, ``variables``, ``slurm``,
        ``distributed`` and ``problems``. While ``complete`` is False, only the facts of the training process are there.
    """
    # Not revived: a host or a branch that reads "NaN" is text.
    return read_raw_document(os.path.join(run, layout.ENVIRONMENT)) or {}


def read_parameters(run: str) -> dict[str, Any]:
    """Flat parameters; also reads a document without ``data``, and nested ones, as older clients wrote them."""
    document = read_document(os.path.join(run, layout.PARAMETERS)) or {}
    return flatten(parameters_in(document))


def iter_logs(run: str) -> Iterator[dict[str, Any]]:
    """Every log line; by time if several writers wrote, each one's lines in its own order. One line is held at a time."""
    journals = [read_objects(path) for path in shards(os.path.join(run, "logs"), "logs")]
    if len(journals) == 1:
        return journals[0]
    import heapq

    # A full second has no fraction, and its Z would put it behind the times that have one.
    return heapq.merge(*journals, key=lambda line: str(line.get("timestamp")).rstrip("Z"))


def read_files(run: str) -> list[dict[str, Any]]:
    """The newest version of every stored file that was not deleted, in the order of saving."""
    paths = shards(os.path.join(run, "files"), "index")
    with file_index.without_collector():
        journals = [file_index.read_entries(path) for path in paths]
        has_index = os.path.join(run, layout.file_index()) in paths
        listed = _listed_files(run, has_index=has_index)
        if listed and journals:
            known = {entry["id"]: entry for journal in journals for entry in journal}
            journals.insert(len(journals) if has_index else 0, legacy.news(listed, known))
        # The list alone is taken as it is: that client gave two files one id now and then.
        found = file_index.merge(journals) if journals else listed
        return [entry for entry in found if not entry.get("deletedAt")]


def read_frames(run: str, topic: str) -> list[dict[str, Any]]:
    """The index of a frame stream in the order of its numbers."""
    paths = shards(os.path.join(run, layout.frames_folder(topic)), "data")
    return sorted((line for path in paths for line in read_objects(path)), key=lambda line: line.get("seq", 0))


def _listed_files(run: str, *, has_index: bool) -> list[dict[str, Any]]:
    """What ``.files_metadata.json`` lists, as far as it says anything that the index does not."""
    path = os.path.join(run, layout.FILES_METADATA)
    if has_index and not legacy.is_published(path):
        return []
    try:
        with open(path, "rb") as file:
            entries = legacy.listed_files(file.read())
    except OSError:
        return []
    for entry in entries:
        file_index.revive_values(entry)
    return entries
