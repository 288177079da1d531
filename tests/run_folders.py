"""Run folders written by hand, in the form that this client's writer leaves them: tests that need no process use them."""

from __future__ import annotations

import hashlib
import json
import tarfile
from io import BytesIO
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

PREFIX = "alice/walker/seed-1"
TIME = "2026-03-01T09:00:00.000000Z"


def lines(*objects: Mapping[str, Any]) -> bytes:
    """The lines of a journal."""
    return b"".join(json.dumps(one, separators=(",", ":")).encode() + b"\n" for one in objects)


class RunFolder:
    """Writes the files of one run that is complete. Every method writes whole files, and may be called once for each.

    Args:
        root: folder of all runs.
        prefix: the run's path in it.
        **fields: keys of experiment.json, in place of those of a run that ended well.
    """

    def __init__(self, root: Path, prefix: str = PREFIX, **fields: Any) -> None:
        self.root = root
        self.prefix = prefix
        self.folder = root / prefix
        self._files: list[dict[str, Any]] = []
        project, name = prefix.split("/")[-2:]
        document = {"name": name, "project": project, "description": None, "tags": [], "bindrs": [], "prefix": prefix}
        document |= {"metadata": None, "created_at": TIME, "write_protected": False, "host": "vm", "pid": 7}
        document |= {"started_at": TIME, "heartbeat_at": TIME, "status": "COMPLETED", "ended_at": TIME}
        self.document("experiment.json", **document | fields)

    def write(self, name: str, content: bytes) -> Path:
        """Write any file, with its folder."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return path

    def document(self, path: str, /, **fields: Any) -> Path:
        """Write a JSON document."""
        return self.write(path, json.dumps(fields, separators=(",", ":")).encode())

    def change(self, path: str, /, **fields: Any) -> None:
        """Change some keys of a JSON document."""
        self.document(path, **json.loads((self.folder / path).read_bytes()) | fields)

    def writer(self, writer_id: str, **fields: Any) -> None:
        """Announce a further writer."""
        self.document(f".writers/{writer_id}.json", **{"status": "COMPLETED", "heartbeat_at": TIME} | fields)

    def params(self, **flat: Any) -> None:
        """Write parameters, with dotted names for nested ones."""
        self.document("parameters.json", version=1, data=flat, createdAt=TIME, updatedAt=TIME)

    def logs(self, *messages: str, writer_id: str = "") -> None:
        """Write log lines a second apart."""
        entries = [
            {"sequenceNumber": n, "timestamp": f"2026-03-01T09:00:{n:02}Z", "level": "info", "message": text}
            for n, text in enumerate(messages)
        ]
        self.write(_journal("logs", "logs", writer_id), lines(*entries))

    def metric(self, name: str, *points: Mapping[str, Any], writer_id: str = "") -> None:
        """Write the points of a metric a second apart, unless they have a ``_ts``."""
        entries = [{"index": n, "data": {"_ts": float(n), **data}, "createdAt": TIME} for n, data in enumerate(points)]
        self.write(_journal(f"metrics/{name}", "data", writer_id), lines(*entries))
        if not writer_id:
            document = {"metricId": f"local-metric-{name}", "name": None if name == "None" else name}
            document |= {"description": None, "tags": [], "metadata": None, "createdAt": TIME, "updatedAt": TIME}
            count = len(points)
            self.document(f"metrics/{name}/metadata.json", **document, totalDataPoints=count, nextIndex=count)

    def track(self, topic: str, *rows: Mapping[str, Any]) -> None:
        """Write the rows of a track; each has a ``timestamp``."""
        times = [row["timestamp"] for row in rows]
        columns = sorted({key for row in rows for key in row} - {"timestamp"})
        self.write(f"tracks/{topic}/data.jsonl", lines(*rows))
        document = {"trackId": f"local-track-{topic.replace('/', '_')}", "topic": topic, "createdAt": TIME}
        document |= {"columns": columns, "totalEntries": len(rows)}
        self.document(f"tracks/{topic}/metadata.json", **document, firstTimestamp=min(times), lastTimestamp=max(times))

    def file(self, path: str, content: bytes, file_id: int, **fields: Any) -> Path:
        """Store a file, and write the index and the list anew."""
        folder, _, name = path.rpartition("/")
        record = {"id": str(file_id), "experimentId": f"walker/{self.prefix}", "path": f"/{folder}", "filename": name}
        record |= {"description": None, "tags": [], "bindrs": [], "contentType": "application/octet-stream"}
        record |= {"sizeBytes": len(content), "checksum": hashlib.sha256(content).hexdigest(), "metadata": None}
        record |= {"uploadedAt": TIME, "updatedAt": TIME, "deletedAt": None} | fields
        self._files.append(record)
        self.write("files/index.jsonl", lines(*self._files))
        self.document("files/.files_metadata.json", files=self._files)
        return self.write("/".join(filter(None, ("files", folder, str(file_id), name))), content)

    def frames(self, topic: str, *images: bytes, writer_id: str = "", step_s: float = 0.1) -> None:
        """Write a frame stream: encoded images in one tar file, ``step_s`` seconds apart, and their index."""
        kind = "png" if images and images[0].startswith(b"\x89PNG") else "jpg"
        stream, entries = BytesIO(), []
        shard = f"shard-{writer_id}-00000.tar" if writer_id else "shard-00000.tar"
        with tarfile.open(fileobj=stream, mode="w", format=tarfile.USTAR_FORMAT) as archive:
            for number, image in enumerate(images):
                info = tarfile.TarInfo(f"{number:09d}.{kind}")
                info.size = len(image)
                entries.append({"timestamp": number * step_s, "shape": [8, 8, 3], "seq": number, "shard": shard})
                entries[-1] |= {"offset": archive.offset + 512, "size": len(image), "format": kind}
                archive.addfile(info, BytesIO(image))
            end = archive.offset
        self.write(f"frames/{topic}/{shard}", stream.getvalue()[:end])  # the writer leaves out the two blocks of zeros
        self.write(_journal(f"frames/{topic}", "data", writer_id), lines(*entries))


def _journal(folder: str, stem: str, writer_id: str) -> str:
    return f"{folder}/{stem}.{writer_id}.jsonl" if writer_id else f"{folder}/{stem}.jsonl"
