"""Read a run's documents, log, files and frames: whole lines only, of every writer, in whatever state they are."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from ml_dash.records.values import flatten, revive
from ml_dash.storage import file_index, layout, legacy
from ml_dash.storage.beneath import UnsafeFileError, read_file, warn_refused
from ml_dash.storage.documents import parameters_in, read_document, read_raw_document
from ml_dash.storage.journal import read_objects, shards


def read_experiment(run: str) -> dict[str, Any]:
    """Read experiment.json; an empty dict if it is missing or broken."""
    document = read_raw_document(os.path.join(run, layout.EXPERIMENT)) or {}
    # Only the metadata has values; a tag or a reason that reads "NaN" is text.
    return document | {"metadata": revive(document["metadata"])} if "metadata" in document else document


def read_environment(run: str) -> dict[str, Any]:
    """Read environment.json of a run's newest start; an empty dict if there is none.

    Returns:
        ``process``, ``python``, ``system``, ``gpus``, ``container``, ``packages``, ``code``, ``variables``, ``slurm``,
        ``distributed`` and ``problems``. While ``complete`` is False, only the facts of the training process are there.
    """
    # Not revived: a host or a branch that reads "NaN" is text.
    return read_raw_document(os.path.join(run, layout.ENVIRONMENT)) or {}


def read_parameters(run: str) -> dict[str, Any]:
    """Read the parameters as one flat dict; also from nested documents of older clients, and those without ``data``."""
    document = read_document(os.path.join(run, layout.PARAMETERS)) or {}
    return flatten(parameters_in(document))


def iter_logs(run: str) -> Iterator[dict[str, Any]]:
    """Yield every log line; of several writers by time, each one's lines in their own order. One line is held at a time."""
    journals = [read_objects(path) for path in shards(os.path.join(run, "logs"), "logs")]
    if len(journals) == 1:
        return journals[0]
    import heapq

    # A full second has no fraction, and its Z would sort it behind the times that have one.
    return heapq.merge(*journals, key=lambda line: str(line.get("timestamp")).rstrip("Z"))


def read_files(run: str) -> list[dict[str, Any]]:
    """Return the newest version of every stored file that was not deleted, in the order of saving."""
    paths = shards(os.path.join(run, "files"), "index")
    with file_index.without_collector():
        journals = [file_index.read_entries(path) for path in paths]
        has_index = os.path.join(run, layout.file_index()) in paths
        listed = _listed_files(run, has_index=has_index)
        if listed and journals:
            known = {entry["id"]: entry for journal in journals for entry in journal}
            journals.insert(len(journals) if has_index else 0, legacy.new_entries(listed, known))
        # A list alone is not merged: the published client sometimes gave two files one id.
        entries = file_index.merge(journals) if journals else listed
        return [entry for entry in entries if not entry.get("deletedAt")]


def read_frames(run: str, topic: str) -> list[dict[str, Any]]:
    """Return the index lines of a frame stream, by their numbers."""
    paths = shards(os.path.join(run, layout.frames_folder(topic)), "data")
    return sorted((line for path in paths for line in read_objects(path)), key=lambda line: line.get("seq", 0))


def _listed_files(run: str, *, has_index: bool) -> list[dict[str, Any]]:
    """Return the records in ``.files_metadata.json``; none if it was made from the index."""
    path = os.path.join(run, layout.FILES_METADATA)
    if has_index and not legacy.is_published(path):
        return []
    try:
        entries = legacy.listed_files(read_file(path))
    except UnsafeFileError as error:
        warn_refused(error)
        return []
    except OSError:
        return []
    for entry in entries:
        file_index.revive_values(entry)
    return entries
