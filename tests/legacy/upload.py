"""The part of a folder of runs that the published client's ``upload`` reads, by the rules of its format."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

LEAST_SEGMENTS = 3


@dataclass
class Taken:
    """One run."""

    about: dict[str, Any]
    parameters: dict[str, Any] = field(default_factory=dict)
    logs: list[dict[str, Any]] = field(default_factory=list)
    metrics: dict[str, list[Any]] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)


def taken(root: Path) -> dict[str, Taken]:
    """Return every run that it finds, by prefix. Fail where it would warn or leave something out."""
    found = {}
    for path in root.rglob("*/experiment.json"):
        about = json.loads(path.read_text())
        assert {"name", "project"} <= about.keys()
        assert len(about["prefix"].strip("/").split("/")) >= LEAST_SEGMENTS
        found[about["prefix"]] = _taken(path.parent, about)
    return found


def _taken(run: Path, about: dict[str, Any]) -> Taken:
    found = Taken(about)
    if (run / "parameters.json").exists():
        document = json.loads((run / "parameters.json").read_text())
        found.parameters = document.get("data", document)
    found.logs = _lines(run / "logs/logs.jsonl")
    assert all("message" in line for line in found.logs)
    for folder in (run / "metrics").iterdir():
        if (folder / "data.jsonl").exists():
            found.metrics[folder.name] = [line["data"] for line in _lines(folder / "data.jsonl")]
    if (run / "files/.files_metadata.json").exists():
        for record in json.loads((run / "files/.files_metadata.json").read_text())["files"]:
            if record["deletedAt"] is None:
                found.files[f"{record['path'].strip('/')}/{record['filename']}".strip("/")] = _blob(run, record)
    return found


def _blob(run: Path, record: dict[str, Any]) -> bytes:
    content = (run / "files" / record["path"].lstrip("/") / record["id"] / record["filename"]).read_bytes()
    assert record["sizeBytes"] == len(content)
    assert record["checksum"] == hashlib.sha256(content).hexdigest()
    assert {"contentType", "description", "tags", "metadata"} <= record.keys()
    return content


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
