"""Kill real processes and compare the acknowledged calls with the files on disk.

The files are read with `json`, `tarfile`, `hashlib` and OpenCV alone: a reader of ml_dash that shares a mistake with the
writer would hide it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import subprocess
import sys
import tarfile
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from tests.crash.workload import KINDS, SMALL, blob, pixels
from tests.support import SUBPROCESS_SECONDS, python_environment, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

ROUNDS = int(os.environ.get("ML_DASH_CRASH_ROUNDS", "15"))
"""Number of kills of the trainer in all, and of kills of the writer."""


def kills_of_runs(rounds: int, most: int) -> list[int]:
    """Distribute a number of kills over runs, at most `most` for each."""
    return [min(most, rounds - first) for first in range(0, rounds, most)]


DEADLINE_S = 30.0
"""Time after which a test gives up waiting, on a busy machine too."""

LONGEST_RUN_S = 0.4
"""A process lives for a random time up to this before it is killed."""

JPEG_ERROR = 40
"""Largest error of a pixel of the test images, in gray levels; two different bits are 200 apart."""

THREADS = (0, 1)

Key = tuple[str, int]


@dataclass
class Acknowledged:
    """The numbers of the calls that returned, by kind and thread: kept ones, and ones that the policy dropped."""

    kept: dict[Key, list[int]] = field(default_factory=lambda: defaultdict(list))
    dropped: dict[Key, list[int]] = field(default_factory=lambda: defaultdict(list))
    opened: int = 0

    def add(self, kind: str, thread: int, number: int, status: str = "done") -> None:
        """Add the number of one call."""
        assert status in ("done", "queued", "dropped"), status
        (self.dropped if status == "dropped" else self.kept)[kind, thread].append(number)

    def __call__(self, kind: str, thread: int, number: int, result: object = None) -> None:
        """Add the number of a call in this process."""
        self.add(kind, thread, number, result["status"] if isinstance(result, dict) else "done")

    @classmethod
    def read(cls, path: Path) -> Acknowledged:
        """Read the file that a killed trainer left."""
        acknowledged = cls()
        for line in path.read_text().splitlines():
            kind, thread, number, status = line.split(" ")
            if kind == "open":
                acknowledged.opened += 1
            else:
                acknowledged.add(kind, int(thread), int(number), status)
        return acknowledged

    @property
    def total(self) -> int:
        """Number of the calls that returned."""
        return sum(len(numbers) for group in (self.kept, self.dropped) for numbers in group.values())


def fresh_counters() -> dict[str, int]:
    """Return the first number of each kind."""
    return dict.fromkeys(KINDS, 0)


def next_counters(acknowledged: Acknowledged, found: dict[Key, list[int]]) -> list[dict[str, int]]:
    """Return for each thread the numbers with which it continues after a kill, so that none is used twice."""
    sources = (acknowledged.kept, acknowledged.dropped, found)
    return [
        {kind: max(max(source.get((kind, thread)) or [-1]) for source in sources) + 1 for kind in KINDS}
        for thread in THREADS
    ]


class Trainer:
    """A training process, killed at the end of the block at the latest."""

    def __init__(self, folder: Path, counters: list[dict[str, int]], settings: dict[str, Any], load: dict[str, Any]):
        self.acknowledged = folder / "acknowledged"
        options = {
            "root": str(folder / "dash"),
            "prefix": "alice/walker/run",
            "settings": settings,
            "acknowledged": str(self.acknowledged),
            "counters": counters,
            "load": {"scratch": str(folder), **load},
        }
        self._opened_before = self._opened()
        self._errors = folder / "stderr"
        with self._errors.open("wb") as errors:
            self._process = subprocess.Popen(
                [sys.executable, str(Path(__file__).with_name("trainer.py")), json.dumps(options)],
                cwd=folder,
                env=python_environment(),
                stdin=subprocess.DEVNULL,
                stderr=errors,
            )
        self.pid = self._process.pid

    def __enter__(self) -> Trainer:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def wait_open(self) -> None:
        """Wait until its experiment is open."""
        wait_until(lambda: self._opened() > self._opened_before or self._process.poll() is not None, SUBPROCESS_SECONDS)

    def let_run(self, seconds: float) -> None:
        """Wait so many seconds; fail if it ends by itself."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)
            raise AssertionError(self._errors.read_text())

    def kill(self) -> None:
        """Send SIGKILL and wait for the end."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()

    def _opened(self) -> int:
        return Acknowledged.read(self.acknowledged).opened if self.acknowledged.exists() else 0


def status_of(run: Path) -> dict[str, Any]:
    """Read the run's experiment.json."""
    return json.loads((run / "experiment.json").read_bytes())


def find(
    run: Path, shape: tuple[int, int] = SMALL, checked: set[tuple[str, int]] | None = None
) -> dict[Key, list[int]]:
    """Return the numbers on disk by kind and thread, in the order of their files; check each file and line.

    Args:
        run: the run's folder.
        shape: height and width of the frames.
        checked: names and sizes of the files and frames whose content was checked before: only their size is checked
            again. This call adds to it. None: check the content of all.
    """
    found: dict[Key, list[int]] = defaultdict(list)
    for finder in (_find_metric, _find_track, _find_logs, _find_params):
        for kind, thread, number in finder(run):
            found[kind, thread].append(number)
    for finder in (_find_files, _find_frames):
        for kind, thread, number in finder(run, shape, set() if checked is None else checked):
            found[kind, thread].append(number)
    return found


def compare(acknowledged: Acknowledged, found: dict[Key, list[int]], in_flight: int) -> None:
    """Check that each acknowledged call is there once and in order, and that no other is but those in flight at a kill.

    Args:
        acknowledged: the calls that returned.
        found: the numbers on disk.
        in_flight: kills of the trainer: each may add one call of each thread.
    """
    extra: Counter[int] = Counter()
    for key in sorted({*acknowledged.kept, *acknowledged.dropped, *found}):
        kept, dropped, here = acknowledged.kept[key], acknowledged.dropped[key], found.get(key, [])
        assert [] == sorted(set(kept) - set(here)), f"{key}: lost"
        assert [] == sorted(number for number, count in Counter(here).items() if count > 1), f"{key}: doubled"
        assert sorted(here) == here, f"{key}: out of order"
        assert [] == sorted(set(here) & set(dropped)), f"{key}: dropped, and there all the same"
        if key[0] != "params":  # a later call overwrites an earlier one
            extra[key[1]] += len(set(here) - set(kept))
    assert all(count <= in_flight for count in extra.values()), f"never called: {extra}"


def assert_tidy(run: Path, quarantined: bool = False) -> None:
    """Check that no temporary file is left and that no record was set aside."""
    names = [str(path.relative_to(run)) for path in run.rglob("*")]
    assert [] == [name for name in names if ".tmp-" in name or ".staging" in name or ".spill" in name]
    assert not (run / ".writer-error.log").exists(), (run / ".writer-error.log").read_text()
    set_aside = [path.read_text() for path in run.glob("quarantine/*.json")]
    assert quarantined == bool(set_aside), set_aside


def lines(path: Path) -> list[dict[str, Any]]:
    """Read a journal; fail if its last line is not whole."""
    if not path.exists():
        return []
    *whole, rest = path.read_bytes().split(b"\n")
    assert rest == b"", f"{path} ends within a line: {rest!r:.200}"
    return [json.loads(line) for line in whole]


def _find_metric(run: Path) -> Iterator[tuple[str, int, int]]:
    folder = run / "metrics" / "train/loss"
    points = lines(folder / "data.jsonl")
    assert list(range(len(points))) == [point["index"] for point in points]
    if points:
        about = json.loads((folder / "metadata.json").read_bytes())
        assert (len(points), len(points)) == (about["totalDataPoints"], about["nextIndex"])
    for point in points:
        yield "metric", point["data"]["thread"], point["data"]["number"]


def _find_track(run: Path) -> Iterator[tuple[str, int, int]]:
    folder = run / "tracks" / "robot/pose"
    rows = lines(folder / "data.jsonl")
    if rows:
        assert len(rows) == json.loads((folder / "metadata.json").read_bytes())["totalEntries"]
    for row in rows:
        assert row["timestamp"] == 2 * row["number"] + row["thread"]
        yield "track", row["thread"], row["number"]


def _find_logs(run: Path) -> Iterator[tuple[str, int, int]]:
    entries = lines(run / "logs/logs.jsonl")
    assert list(range(len(entries))) == [entry["sequenceNumber"] for entry in entries]
    for entry in entries:
        yield "log", entry["metadata"]["thread"], entry["metadata"]["number"]


def _find_params(run: Path) -> Iterator[tuple[str, int, int]]:
    path = run / "parameters.json"
    data = json.loads(path.read_bytes())["data"] if path.exists() else {}
    for thread in THREADS:
        for number in range(data.get(f"thread{thread}", -1) + 1):
            yield "params", thread, number


def _find_files(run: Path, shape: tuple[int, int], checked: set[tuple[str, int]]) -> Iterator[tuple[str, int, int]]:
    entries = lines(run / "files/index.jsonl")
    stored = {path for path in (run / "files").rglob("*") if path.is_file() and path.parent != run / "files"}
    newest = {(entry["path"], entry["filename"]): entry["id"] for entry in entries}
    kept = [entry for entry in entries if newest[entry["path"], entry["filename"]] == entry["id"]]
    assert stored == {_stored(run, entry) for entry in kept}
    assert len(entries) == len({entry["id"] for entry in entries})
    if entries:
        snapshot = json.loads((run / "files/.files_metadata.json").read_bytes())["files"]
        assert [entry["id"] for entry in kept] == [entry["id"] for entry in snapshot]
    ids = {entry["id"] for entry in kept}
    for entry in entries:
        if entry["filename"].startswith("latest-"):
            kind, thread, number = "latest", int(Path(entry["filename"]).stem[-1]), entry["metadata"]["number"]
        else:
            kind = {"/images": "image", "/blobs": "blob", "/copies": "copy"}[entry["path"]]
            thread, number = (int(part) for part in Path(entry["filename"]).stem.split("-"))
        if entry["id"] in ids:
            _check_file(kind, thread, number, entry, _stored(run, entry), shape, checked)
        yield kind, thread, number


def _check_file(
    kind: str,
    thread: int,
    number: int,
    entry: dict[str, Any],
    path: Path,
    shape: tuple[int, int],
    checked: set[tuple[str, int]],
) -> None:
    assert path.stat().st_size == entry["sizeBytes"]
    if (entry["id"], entry["sizeBytes"]) in checked:
        return
    data = path.read_bytes()
    assert (len(data), hashlib.sha256(data).hexdigest()) == (entry["sizeBytes"], entry["checksum"])
    _check_content(kind, thread, number, data, shape)
    checked.add((entry["id"], entry["sizeBytes"]))


def _stored(run: Path, entry: dict[str, Any]) -> Path:
    return run / "files" / entry["path"].strip("/") / entry["id"] / entry["filename"]


def _find_frames(run: Path, shape: tuple[int, int], checked: set[tuple[str, int]]) -> Iterator[tuple[str, int, int]]:
    folder = run / "frames" / "camera/front"
    frames = lines(folder / "data.jsonl")
    assert len(frames) == len({frame["seq"] for frame in frames})
    members = {shard.name: _members(shard) for shard in folder.glob("*.tar")}
    assert sum(map(len, members.values())) == len(frames)
    for frame in frames:
        name = f"{frame['seq']:09d}.jpg"
        assert members[frame["shard"]][name] == (frame["offset"], frame["size"])
        if (name, frame["size"]) not in checked:
            with (folder / frame["shard"]).open("rb") as file:
                data = os.pread(file.fileno(), frame["size"], frame["offset"])
            _check_content("frame", frame["thread"], frame["number"], data, shape)
            checked.add((name, frame["size"]))
        yield "frame", frame["thread"], frame["number"]


def _members(shard: Path) -> dict[str, tuple[int, int]]:
    with tarfile.open(shard, "r:") as archive:
        found = [(member.name, (member.offset_data, member.size)) for member in archive]
    assert len(found) == len(dict(found))
    return dict(found)


def _check_content(kind: str, thread: int, number: int, data: bytes, shape: tuple[int, int]) -> None:
    if kind == "blob":
        assert blob(thread, number) == data
    elif kind == "copy":
        assert blob(thread, number, 5_000) == data
    else:
        expected = pixels(kind, thread, number, shape).astype(np.int16)
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
        assert image is not None, f"{kind} {thread}-{number} is no image"
        assert np.abs(image - expected).max() < JPEG_ERROR, f"{kind} {thread}-{number} shows something else"
