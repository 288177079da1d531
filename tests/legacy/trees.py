"""A run of the published client, file by file, without that client."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

MOMENT = "2026-03-01T09:00:00.100000Z"


class OldRun:
    """Writes a run's files in that client's form: a space after each colon, bare NaN tokens, lock files beside.

    Args:
        root: folder of all runs.
        prefix: the run's place in it; that client kept a leading slash in experiment.json.
    """

    def __init__(self, root: Path, prefix: str, **about: Any) -> None:
        self.folder = root / prefix.strip("/")
        self.prefix = prefix
        self._records: list[dict[str, Any]] = []
        for name in ("logs", "metrics", "files"):
            (self.folder / name).mkdir(parents=True)
        segments = prefix.strip("/").split("/")
        self.document("experiment.json", self._experiment(segments) | about)
        (self.folder / ".experiment.lock").touch()

    def _experiment(self, segments: list[str]) -> dict[str, Any]:
        project = segments[1] if len(segments) > 1 else "scratch"
        about = {"name": segments[-1], "project": project, "description": None, "tags": [], "bindrs": []}
        return about | {"prefix": self.prefix, "metadata": None, "created_at": MOMENT, "write_protected": False}

    def document(self, name: str, content: Any) -> None:
        """Write a JSON document."""
        self.text(name, json.dumps(content))

    def text(self, name: str, content: str) -> None:
        """Write any file, with its folder."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)

    def lines(self, name: str, content: Iterable[Any], *, torn: str = "") -> None:
        """Write a journal; ``torn`` is what a crash left after its last newline."""
        self.text(name, "".join(json.dumps(line) + "\n" for line in content) + torn)

    def parameters(self, data: Mapping[str, Any], version: int = 2) -> None:
        """Write flat parameters; from the second write on there is no createdAt."""
        self.document("parameters.json", {"version": version, "data": data, "updatedAt": MOMENT})

    def logs(self, *numbered: tuple[int, str], sequence: str | None = None, torn: str = "") -> None:
        """Write log lines of these numbers and messages, the timestamps a second apart."""
        entries = (
            {"sequenceNumber": number, "timestamp": f"2026-03-01T09:00:{second:02}Z", "level": "info", "message": text}
            for second, (number, text) in enumerate(numbered)
        )
        self.lines("logs/logs.jsonl", entries, torn=torn)
        if sequence is not None:
            self.text("logs/.log_sequence", sequence)

    def metric(self, name: str, *points: Any, indices: Iterable[int] | None = None, torn: str = "") -> None:
        """Write a metric's points, with these indices if its writer had lost count."""
        numbers = list(indices if indices is not None else range(len(points)))
        lines = [{"index": n, "data": data, "createdAt": MOMENT} for n, data in zip(numbers, points, strict=True)]
        self.lines(f"metrics/{name}/data.jsonl", lines, torn=torn)
        following = numbers[-1] + 1 if numbers else 0
        about = {"metricId": f"local-metric-{name}", "name": None if name == "None" else name, "description": None}
        about |= {"tags": [], "metadata": None, "totalDataPoints": following, "nextIndex": following}
        self.document(f"metrics/{name}/metadata.json", about | {"createdAt": MOMENT, "updatedAt": MOMENT})
        self.text(f"metrics/{name}/.metadata.lock", "")

    def track(self, topic: str, *rows: Mapping[str, Any], torn: str = "") -> None:
        """Write a track's rows into the folder that has an underscore for each slash of the topic."""
        folder = f"tracks/{topic.replace('/', '_')}"
        times = [row["timestamp"] for row in rows]
        self.lines(f"{folder}/data.jsonl", rows, torn=torn)
        about = {"trackId": f"local-track-{topic.replace('/', '_')}", "topic": topic}
        about |= {"columns": sorted({key for row in rows for key in row} - {"timestamp"}), "totalEntries": len(rows)}
        about |= {"firstTimestamp": min(times), "lastTimestamp": max(times), "createdAt": MOMENT}
        self.document(f"{folder}/metadata.json", about)
        self.text(f"{folder}/.metadata.lock", "")

    def file(self, path: str, content: bytes, number: str, *, deleted: bool = False, **about: Any) -> None:
        """Store a file under ``/folder/name`` and write the list anew."""
        folder, _, name = path.rpartition("/")
        blob = self.folder / "files" / folder.strip("/") / number / name
        blob.parent.mkdir(parents=True, exist_ok=True)
        blob.write_bytes(content)
        record = {"id": number, "experimentId": f"walker/{self.prefix}", "path": folder or "/", "filename": name}
        record |= {"description": None, "tags": [], "bindrs": [], "contentType": "application/octet-stream"}
        record |= {"sizeBytes": len(content), "checksum": hashlib.sha256(content).hexdigest(), "metadata": None}
        record |= {"uploadedAt": MOMENT, "updatedAt": MOMENT, "deletedAt": MOMENT if deleted else None} | about
        self._records.append(record)
        self.document("files/.files_metadata.json", {"files": self._records})
