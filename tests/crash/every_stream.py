"""A short run that uses every stream, and a check that everything is on disk: nothing lost, doubled or torn."""

from __future__ import annotations

import hashlib
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from ml_dash.media.decode import decode_image
from ml_dash.storage import metric_reading, reading
from ml_dash.storage.journal import read_objects, shards
from tests.run_contents import frame_bytes, read_logs

ROWS = 3
"""Calls of each kind in each half of a run."""

LARGE_BLOB = 600_000
"""Bytes: more than the record ring takes."""

COPIED_FILE = 5_000
"""Bytes: enough for `faulty_disk` to hash the file at the end of the run."""

SMALL, LARGE = (48, 64, 3), (420, 640, 3)
"""Shapes of frames: one that fits into a frame ring of 1 MiB, and one that does not."""

_JPEG_ERROR = 12.0
"""Upper limit of the mean error of a decoded pixel at quality 95, in gray levels."""


def picture(number: int, shape: tuple[int, int, int] = SMALL) -> np.ndarray:
    """Make a smooth image that differs from that of every other number."""
    rows, columns = np.mgrid[0 : shape[0], 0 : shape[1]]
    base = (rows / shape[0] * 120 + columns / shape[1] * 40 + number * 13) % 256
    return np.stack([base, 255 - base, base / 2], axis=-1).astype(np.uint8)


class EveryStream:
    """Logs to a run, and checks the run's folder at the end.

    Args:
        scratch: a folder for the file that is copied.
    """

    def __init__(self, scratch: Path) -> None:
        self._source = scratch / "model.bin"
        self._source.write_bytes(bytes(range(250)) * (COPIED_FILE // 250))
        self.halves = 0

    def log(self, exp: Any) -> None:
        """Log one half of the run. It may be called any number of times."""
        half = self.halves
        self.halves += 1
        for index in range(half * ROWS, half * ROWS + ROWS):
            exp.log("a step", number=index)
            exp.params.set({f"key{index}": index, "last": index})
            exp.metrics("train/loss", description="what falls").log(number=index)
            exp.tracks("robot/pose").append(number=index, _ts=float(index))
            exp.files("images").save_image(picture(index), to=f"{index}.jpg")
            exp.frames("camera").append(picture(index), number=index)
        exp.frames("camera").append(picture(100 + half, LARGE), number=100 + half)
        exp.files("images").save_image(picture(100 + half, LARGE), to=f"{100 + half}.jpg")
        exp.files("config").save_json({"half": half}, to="config.json")
        exp.files("models").save(self._source, to=f"{half}.bin")
        exp.files("models").save_blob(self._blob(half), to=f"{half}.blob")

    def check(self, run: Path, status: str = "COMPLETED") -> None:
        """Compare everything in the run's folder with what was logged."""
        numbers = list(range(self.halves * ROWS))
        self._check_journals(run)
        self._check_rows(str(run), numbers)
        self._check_files(run, numbers)
        self._check_frames(run, numbers)
        self._check_end(run, status)

    def _check_journals(self, run: Path) -> None:
        for path in run.rglob("*.jsonl"):
            content = path.read_bytes()
            assert content.endswith(b"\n"), path
            for line in content.splitlines():
                orjson.loads(line)

    def _check_rows(self, run: str, numbers: list[int]) -> None:
        assert [(n, n) for n in numbers] == [
            (row["sequenceNumber"], row["metadata"]["number"]) for row in read_logs(run)
        ]
        points = metric_reading.read_metric(run, "train/loss", 0, None)["data"]
        assert [(n, n) for n in numbers] == [(point["index"], point["data"]["number"]) for point in points]
        about = json.loads(Path(run, "metrics/train/loss/metadata.json").read_bytes())
        assert ("what falls", len(numbers)) == (about["description"], about["totalDataPoints"])
        rows = [line for path in shards(f"{run}/tracks/robot/pose", "data") for line in read_objects(path)]
        assert numbers == [row["number"] for row in rows]
        assert len(numbers) == json.loads(Path(run, "tracks/robot/pose/metadata.json").read_bytes())["totalEntries"]
        assert {f"key{n}": n for n in numbers} | {"last": numbers[-1]} == reading.read_parameters(run)

    def _check_files(self, run: Path, numbers: list[int]) -> None:
        entries = {f"{entry['path']}/{entry['filename']}": entry for entry in reading.read_files(str(run))}
        halves = range(self.halves)
        names = [f"/images/{n}.jpg" for n in [*numbers, *(100 + half for half in halves)]]
        names += [f"/models/{half}.{suffix}" for half in halves for suffix in ("bin", "blob")]
        assert {*names, "/config/config.json"} == set(entries)
        contents = {name: self._content(run, entry) for name, entry in entries.items()}
        for half in halves:
            assert self._source.read_bytes() == contents[f"/models/{half}.bin"]
            assert self._blob(half) == contents[f"/models/{half}.blob"]
            assert_same_picture(picture(100 + half, LARGE), contents[f"/images/{100 + half}.jpg"])
        for number in numbers:
            assert_same_picture(picture(number), contents[f"/images/{number}.jpg"])
        assert {"half": self.halves - 1} == json.loads(contents["/config/config.json"])
        kept = {path for path in (run / "files").rglob("*") if path.is_file() and not path.name.startswith(".")}
        assert len(entries) == len(kept - set((run / "files").glob("index*.jsonl"))), "a replaced file is still there"
        listed = json.loads((run / "files/.files_metadata.json").read_bytes())["files"]
        assert entries == {f"{entry['path']}/{entry['filename']}": entry for entry in listed}

    def _content(self, run: Path, entry: dict[str, Any]) -> bytes:
        content = (run / "files" / entry["path"].lstrip("/") / entry["id"] / entry["filename"]).read_bytes()
        assert entry["sizeBytes"] == len(content)
        assert entry["checksum"] == hashlib.sha256(content).hexdigest()
        return content

    def _check_frames(self, run: Path, numbers: list[int]) -> None:
        frames = reading.read_frames(str(run), "camera")
        per_half = [[*range(half * ROWS, half * ROWS + ROWS), 100 + half] for half in range(self.halves)]
        expected = [number for half in per_half for number in half]
        assert [(seq, number) for seq, number in enumerate(expected)] == [(f["seq"], f["number"]) for f in frames]
        packed = []
        for shard in sorted((run / "frames/camera").glob("*.tar")):
            with tarfile.open(shard) as archive:
                packed += [archive.extractfile(member).read() for member in archive]
        assert packed == [frame_bytes(str(run), "camera", frame) for frame in frames]
        for number, content in zip(expected, packed, strict=True):
            assert_same_picture(picture(number, LARGE if number >= 100 else SMALL), content)

    def _check_end(self, run: Path, status: str) -> None:
        document = json.loads((run / "experiment.json").read_bytes())
        assert (status, 0) == (document["status"], document["records_refused"])
        assert document["prefix"].endswith(document["name"])
        left = [
            path for path in run.rglob("*") if ".tmp-" in path.name or path.name in (".spill", ".staging", "quarantine")
        ]
        assert [] == left
        assert not (run / ".writer-error.log").exists(), (run / ".writer-error.log").read_text()

    @staticmethod
    def _blob(half: int) -> bytes:
        return (b"%d\n" % half * LARGE_BLOB)[:LARGE_BLOB]


def assert_same_picture(expected: np.ndarray, encoded: bytes) -> None:
    """Compare two images with a tolerance for JPEG."""
    decoded = decode_image(encoded)
    assert expected.shape == decoded.shape
    assert np.abs(expected.astype(int) - decoded.astype(int)).mean() < _JPEG_ERROR
