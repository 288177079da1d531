"""Damages of a run's folder, each with words that a check of the run says about it.

The run has 50 points of ``train``, 40 rows of ``robot/arm``, six frames each of ``camera`` (JPEG) and ``depth`` (PNG),
a file ``models/best.bin`` of 700 bytes, columnar copies of ``train`` and ``robot/arm``, and a second writer.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

LONG_AGO = "2026-01-01T00:00:00.000000Z"

Damage = Callable[[Path], object]


def append(name: str, content: bytes) -> Damage:
    def damage(run: Path) -> None:
        with (run / name).open("ab") as file:
            file.write(content)

    return damage


def replace_line(name: str, number: int, content: bytes) -> Damage:
    def damage(run: Path) -> None:
        parts = (run / name).read_bytes().split(b"\n")
        parts[number - 1] = content
        (run / name).write_bytes(b"\n".join(parts))

    return damage


def overwrite(name: str, content: bytes) -> Damage:
    return lambda run: (run / name).write_bytes(content)


def change(name: str, **fields: Any) -> Damage:
    return lambda run: (run / name).write_text(json.dumps(json.loads((run / name).read_bytes()) | fields))


def flip(name: str, offset: int) -> Damage:
    def damage(run: Path) -> None:
        content = bytearray((run / name).read_bytes())
        content[offset] ^= 0xFF
        (run / name).write_bytes(content)

    return damage


def shorten(name: str, count: int) -> Damage:
    return lambda run: os.truncate(run / name, (run / name).stat().st_size - count)


def without_checksum(run: Path) -> None:
    path = run / "files/index.jsonl"
    before, line, after = path.read_bytes().partition(next(re.finditer(rb".*best\.bin.*", path.read_bytes()))[0])
    path.write_bytes(before + json.dumps(json.loads(line) | {"checksum": None}).encode() + after)


def zeros(name: str, start: int, count: int) -> Damage:
    def damage(run: Path) -> None:
        content = (run / name).read_bytes()
        (run / name).write_bytes(content[:start] + bytes(count) + content[start + count :])

    return damage


def add(name: str, content: bytes) -> Damage:
    def damage(run: Path) -> None:
        (run / name).parent.mkdir(parents=True, exist_ok=True)
        (run / name).write_bytes(content)

    return damage


def half_a_copy(run: Path) -> None:
    place = run / "metrics/train/.data.parquet.77.tmp"
    place.write_bytes(b"PAR1")
    os.utime(place, (0, 0))


crash = change("experiment.json", status="RUNNING", heartbeat_at=LONG_AGO, ended_at=None)


def crash_of_the_other(run: Path) -> None:
    [other] = (run / ".writers").iterdir()
    change(f".writers/{other.name}", status="RUNNING", heartbeat_at=LONG_AGO, ended_at=None)(run)


MENDABLE: dict[str, tuple[Damage, str]] = {
    "a torn line of a metric": (append("metrics/train/data.jsonl", b'{"index": 50, "da'), "never finished"),
    "a torn log line": (append("logs/logs.jsonl", b'{"seq'), "never finished"),
    "a torn track": (append("tracks/robot/arm/data.jsonl", b"\0\0\0"), "ends in 3 bytes"),
    "a torn index": (append("files/index.jsonl", b'{"id"'), "never finished"),
    "a torn frame index": (append("frames/camera/data.jsonl", b'{"seq"'), "never finished"),
    "a broken last line": (append("metrics/train/data.jsonl", b"\0\0\0\0\n"), "line 51 cannot be read"),
    "a broken row": (replace_line("tracks/robot/arm/data.jsonl", 3, b"garbage"), "line 3 cannot be read"),
    "a row without a time": (replace_line("tracks/robot/arm/data.jsonl", 9, b'{"q": 1}'), "line 9 cannot be read"),
    "a broken change in the index": (append("files/index.jsonl", b"[]\n"), "cannot be read"),
    "a wrong count of points": (change("metrics/train/metadata.json", totalDataPoints=3), "says 3 points"),
    "a next index that is used": (change("metrics/train/metadata.json", nextIndex=3), "says nextIndex 3"),
    "a next index that is no number": (change("metrics/train/metadata.json", nextIndex=None), "says nextIndex None"),
    "a wrong count of rows": (change("tracks/robot/arm/metadata.json", totalEntries=9), "says 9 rows"),
    "a wrong time of a track": (change("tracks/robot/arm/metadata.json", firstTimestamp=3), "other times"),
    "no metadata": (lambda run: (run / "metrics/train/metadata.json").unlink(), "is missing"),
    "broken metadata": (overwrite("metrics/train/metadata.json", b'{"metricId"'), "is no JSON object"),
    "broken metadata of a track": (overwrite("tracks/robot/arm/metadata.json", b""), "is empty"),
    "broken parameters": (overwrite("parameters.json", b'{"version": 1, "da'), "is no JSON object"),
    "an empty experiment.json": (overwrite("experiment.json", b""), "is empty"),
    "broken environment": (overwrite("environment.json", b"{"), "is no JSON object"),
    "a broken list of files": (overwrite("files/.files_metadata.json", b'{"files": ['), "is no list of files"),
    "a damaged copy": (zeros("metrics/train/data.parquet", 100, 400), "is damaged"),
    "a copy without an end": (shorten("tracks/robot/arm/data.parquet", 10), "is damaged"),
    "no checksum": (without_checksum, "without a checksum"),
    "half a frame in the tar": (append("frames/camera/shard-00000.tar", b"\1" * 700), "the rest is no tar"),
    "half a header in the tar": (append("frames/camera/shard-00000.tar", b"\1" * 100), "never finished"),
    "a tar without padding": (shorten("frames/camera/shard-00000.tar", 1), "is not filled up"),
    "a cut frame": (shorten("frames/depth/shard-00000.tar", 512), "names a frame that is not whole"),
    "a crashed machine": (crash, "nobody writes the run"),
    "a crash of the second writer": (crash_of_the_other, "nobody writes the run"),
    "a large record": (add(".spill/main-1-2-0", b"key and data"), "was never written out"),
    "a staged copy": (add("files/.staging/main-1-2", b"a file"), "never got into the index"),
    "a half-written file": (add("files/5/.x.png.tmp-main", b"half"), "never written to its end"),
    "a half-written copy": (half_a_copy, "never written to its end"),
}

NOT_ENOUGH = {"half a frame in the tar"}
"""Found, but the bytes behind the last member could be anything: they are left alone."""


def stored(run: Path, name: str) -> Path:
    [path] = (run / "files").rglob(name)
    return path


UNMENDABLE: dict[str, tuple[Damage, str]] = {
    "a changed file": (lambda run: stored(run, "best.bin").write_bytes(b"Weights" * 100), "its SHA-256 is another"),
    "a cut file": (lambda run: stored(run, "best.bin").write_bytes(b"we"), "has 2 bytes where 700 were saved"),
    "a missing file": (lambda run: stored(run, "best.bin").unlink(), "is missing"),
    "an orphan": (add("files/models/123/x.bin", b"x"), "1 file is in no index: models/123/x.bin"),
    "a missing shard": (lambda run: (run / "frames/camera/shard-00000.tar").unlink(), "is missing, with 6 frames"),
    "a missing journal": (lambda run: (run / "metrics/train/data.jsonl").unlink(), "its journal data.jsonl is gone"),
    "a lost line": (replace_line("logs/logs.jsonl", 2, b'{"sequenceNumber": 2}'), "the sequenceNumber 1 did not"),
    "a line that is there twice": (append("logs/logs.jsonl", b'{"sequenceNumber": 3}\n'), "3 came up twice"),
    "a changed difference": (change("environment.json", code={"diff_sha256": "0"}), "is missing"),
    "another difference": (
        lambda run: [
            change("environment.json", code={"diff_sha256": "0"})(run),
            add("code.diff", b"+1")(run),
        ],
        "is not what was recorded: its SHA-256 is another",
    ),
    "a record that was set aside": (
        add("quarantine/1-2.json", b'{"error": "Traceback\\nValueError: no"}'),
        "1 record was set aside, the first because of ValueError: no",
    ),
    "broken TOML": (add("metrics.toml", b"a = ="), "is no TOML"),
    "rubbish in a tar": (flip("frames/camera/shard-00000.tar", 0), "the rest is no tar"),
    "a journal that is a folder": (
        lambda run: [(run / "logs/logs.jsonl").unlink(), (run / "logs/logs.jsonl").mkdir()],
        "cannot be read: Is a directory",
    ),
}
