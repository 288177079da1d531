"""Continue a run that the published client wrote: its list of files becomes our index, once."""

from __future__ import annotations

import os

from ml_dash.records.values import parse
from ml_dash.storage import layout
from ml_dash.storage.disk import Disk
from ml_dash.storage.documents import to_json


def adopt_files(run: str, disk: Disk) -> None:
    """Write ``files/index.jsonl`` from ``.files_metadata.json``, if there is only the latter.

    Without it the files of before would vanish from the list, and from the document that is written at the end.
    """
    index = os.path.join(run, layout.file_index())
    if disk.size(index) is not None:
        return
    content = disk.read_file(os.path.join(run, layout.FILES_METADATA))
    entries = _entries(content) if content is not None else []
    if entries:
        disk.write_file(index, [to_json(entry) + b"\n" for entry in entries])


def _entries(content: bytes) -> list[dict[str, object]]:
    try:
        listed = parse(content)["files"]
    except (ValueError, KeyError, TypeError):  # broken, as a killed writer of that client leaves it
        return []
    return [entry for entry in listed if isinstance(entry, dict) and {"id", "path", "filename"} <= entry.keys()]
