"""A run's folder that another user has prepared: whoever reads, checks or repairs it is not hurt."""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import shutil
import stat
import struct
import subprocess
import sys
import time
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from ml_dash import InvalidValueError, StorageError, open_run
from ml_dash.cli.main import cli
from ml_dash.media.decode import decode_image
from ml_dash.media.jpeg import encode_jpeg
from ml_dash.media.png import encode_png
from ml_dash.query.follow import Follower
from ml_dash.storage import compaction, locks, parquet_copy
from ml_dash.storage.liveness import is_live
from ml_dash.storage.own_files import own_files
from ml_dash.verify.repair import repair_run
from ml_dash.verify.run import verify_run
from tests.integration import read_odd_runs
from tests.run_folders import RunFolder
from tests.support import SUBPROCESS_SECONDS, python_environment

SECONDS = 240.0


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root with one run with a file of every sort."""
    root = tmp_path_factory.mktemp("whole") / "runs"
    run = RunFolder(root)
    run.document("environment.json", complete=True, code=None)
    run.params(lr=0.1)
    run.logs("one", "two")
    run.metric("train", *({"loss": float(step)} for step in range(50)))
    run.metric("flat-neighbour", {"loss": 1.0})
    run.track("robot/arm", *({"timestamp": row / 10, "q": [row, 1.5]} for row in range(20)))
    run.file("notes.txt", b"readme", 7353347710644450)
    run.frames("camera", encode_jpeg(np.zeros((8, 8, 3), np.uint8)))
    run.frames("depth", encode_png(np.zeros((8, 8, 3), np.uint8)))
    compaction.build(str(run.folder / "metrics/train/data.jsonl"), compaction.POINTS)
    compaction.build(str(run.folder / "tracks/robot/arm/data.jsonl"), compaction.ROWS)
    return run.folder


@pytest.mark.parametrize("kind", ["whole", "fifo", "socket", "device", "loop", "folder", "sparse file of 1 TiB"])
def test_what_is_no_file_stops_no_reader(whole: Path, tmp_path: Path, kind: str) -> None:
    """No call hangs, ends in an odd exception, or takes more than 4 GiB of address space."""
    run = tmp_path / "runs/alice/walker/run"
    shutil.copytree(whole, run)

    done = subprocess.run(
        [sys.executable, read_odd_runs.__file__, str(run), kind],
        cwd=tmp_path,
        env=python_environment({"OPENBLAS_NUM_THREADS": "1"}),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )

    assert ("", 0) == (done.stdout, done.returncode), done.stdout + done.stderr


def contents(folder: Path) -> dict[str, tuple[bytes, int]]:
    """The content and the permissions of each file below a folder."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): (path.read_bytes(), stat.S_IMODE(path.stat().st_mode)) for path in files}


def is_private(path: Path) -> bool:
    """Whether a file has the text of a private one. A link only leads to it."""
    return path.is_file() and not path.is_symlink() and b"private" in path.read_bytes()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Files of the user outside of the run, one of them private."""
    folder = tmp_path / "home"
    (folder / "startup").mkdir(parents=True)
    (folder / "bashrc").write_bytes(b"alias ll=ls\n")
    (folder / "lines.jsonl").write_bytes(b'{"token":"private"}\nbroken\n{"unfinished"')
    (folder / "key.pem").write_bytes(b"PRIVATE KEY")
    for name in ("lines.jsonl", "key.pem"):
        (folder / name).chmod(0o600)
    return folder


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    run = RunFolder(tmp_path / "runs", status="RUNNING", heartbeat_at="2020-01-01T00:00:00Z", ended_at=None)
    run.logs("one")
    run.metric("train", {"loss": 1.0})
    run.frames("camera", encode_jpeg(np.zeros((8, 8, 3), np.uint8)))
    return run


class TestRepair:
    @pytest.fixture(autouse=True)
    def _outside_is_as_it_was(self, home: Path) -> Iterator[None]:
        before = contents(home)
        yield
        assert before == contents(home)

    @pytest.mark.parametrize(
        "name", [".experiment.json.tmp-repair", "metrics/train/.metadata.json.tmp-repair", "experiment.json"]
    )
    def test_no_document_is_written_through_a_link(self, run: RunFolder, home: Path, name: str) -> None:
        (run.folder / "metrics/train/metadata.json").write_bytes(b"{")
        (run.folder / name).unlink(missing_ok=True)
        (run.folder / name).symlink_to(home / "bashrc")

        repair_run(str(run.folder))

    @pytest.mark.parametrize("kind", ["link", "hard link"])
    def test_no_tar_file_is_cut_through_a_link(self, run: RunFolder, home: Path, kind: str) -> None:
        shard = run.folder / "frames/camera/shard-00001.tar"
        if kind == "link":
            shard.symlink_to(home / "key.pem")
        else:
            os.link(home / "key.pem", shard)

        repair_run(str(run.folder))

        for kept in run.folder.glob("frames/camera/*damaged*"):
            assert 0o600 == stat.S_IMODE(kept.stat().st_mode)

    def test_a_tar_file_that_is_cut_keeps_its_mode_and_so_does_the_rest(self, run: RunFolder) -> None:
        shard = run.folder / "frames/camera/shard-00000.tar"
        with shard.open("ab") as file:
            file.write(b"x" * 100)
        shard.chmod(0o600)

        report = repair_run(str(run.folder))

        [kept] = run.folder.glob("frames/camera/*damaged*")
        assert [0o600, 0o600] == [stat.S_IMODE(path.stat().st_mode) for path in (shard, kept)]
        assert any("100 bytes were cut off" in done for done in report.repaired)

    def test_a_leftover_is_moved_into_no_folder_outside(self, run: RunFolder, home: Path) -> None:
        (run.folder / "quarantine").symlink_to(home / "startup")
        run.write(".x.tmp-.py", b"print(1)")

        repair_run(str(run.folder))

        [moved] = run.folder.glob("quarantine/leftover-*.x.tmp-.py")
        assert b"print(1)" == moved.read_bytes()

    @pytest.mark.parametrize(
        "name", ["logs/logs.jsonl", "logs", "metrics/train/data.jsonl", "metrics/train", "metrics"]
    )
    def test_no_journal_is_rewritten_or_copied_through_a_link(self, run: RunFolder, home: Path, name: str) -> None:
        dataset = home / "dataset"
        for journal in ("logs.jsonl", "data.jsonl", "train/data.jsonl"):
            (dataset / journal).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(home / "lines.jsonl", dataset / journal)
        before = contents(dataset)
        place = run.folder / name
        shutil.rmtree(place) if place.is_dir() else place.unlink()
        place.symlink_to(home / "lines.jsonl" if name.endswith(".jsonl") else dataset)

        report = repair_run(str(run.folder))

        assert before == contents(dataset)
        shutil.rmtree(dataset)
        assert any(name == finding.path and "link" in finding.problem for finding in report.findings)
        assert not [path for path in run.folder.rglob("*") if is_private(path)]

    def test_a_journal_that_is_rewritten_keeps_its_mode(self, run: RunFolder) -> None:
        journal = run.write("logs/logs.jsonl", b'{"sequenceNumber":0,"message":"one"}\nbroken\n')
        journal.chmod(0o600)

        repair_run(str(run.folder))

        assert b'{"sequenceNumber":0,"message":"one"}\n' == journal.read_bytes()
        modes = {stat.S_IMODE(path.stat().st_mode) for path in run.folder.glob("logs/*.jsonl*")}
        assert {0o600} == modes

    def test_a_run_of_another_user_is_reported_and_not_repaired(
        self, run: RunFolder, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        before = contents(run.folder)
        monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)

        report = repair_run(str(run.folder))

        assert before == contents(run.folder)
        assert any("belongs to another user" in finding.problem for finding in report.findings)
        assert [] == report.repaired

    def test_a_lock_that_is_a_link_keeps_the_run_from_repair(self, run: RunFolder, home: Path) -> None:
        (run.folder / ".lock").symlink_to(home / "missing")

        report = repair_run(str(run.folder))

        assert any(".lock" == finding.path for finding in report.findings)
        assert [] == report.repaired


class TestColumnarCopies:
    @pytest.fixture
    def work(self, home: Path) -> Path:
        """A folder of the user's own with a journal that is large enough for a copy, and a file with a copy's name."""
        folder = home / "work/ds"
        folder.mkdir(parents=True)
        point = b'{"index":%d,"data":{"loss":%d,"note":"private","_ts":%d},"createdAt":"x"}\n'
        (folder / "data.jsonl").write_bytes(b"".join(point % (n, n, n) for n in range(20_000)))
        (folder / "data.jsonl").chmod(0o600)
        (folder / "data.parquet").write_bytes(b"MINE")
        return folder

    @pytest.mark.parametrize("name", ["metrics", "metrics/ds", "metrics/ds/data.jsonl"])
    def test_none_is_made_through_a_link(self, run: RunFolder, work: Path, name: str) -> None:
        shutil.rmtree(run.folder / "metrics")
        place = run.folder / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to({"metrics": work.parent, "metrics/ds": work}.get(name, work / "data.jsonl"))
        run.change("experiment.json", status="COMPLETED")
        before = contents(work)

        with contextlib.suppress(UserWarning):
            open_run(run.folder).metrics("ds").table()

        assert before == contents(work)
        assert not [path for path in run.folder.rglob("*") if is_private(path)]
        assert not [*run.folder.rglob("*.parquet")]

    @pytest.mark.parametrize("kind", ["own", "another's", "hard link"])
    def test_one_is_made_beside_the_users_own_journal_only(
        self, run: RunFolder, work: Path, kind: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        run.change("experiment.json", status="COMPLETED")
        journal = run.folder / "metrics/train/data.jsonl"
        journal.unlink()
        os.link(work / "data.jsonl", journal) if kind == "hard link" else shutil.copy(work / "data.jsonl", journal)
        if kind == "another's":
            monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)

        assert 20_000 == len(open_run(run.folder).metrics("train").table())

        assert ("own" == kind) == journal.with_suffix(".parquet").exists()

    def test_one_with_more_rows_than_its_journal_has_bytes_is_damaged(self, run: RunFolder, work: Path) -> None:
        journal = run.folder / "metrics/train/data.jsonl"
        shutil.copy(work / "data.jsonl", journal)
        size = journal.stat().st_size
        head, tail = parquet_copy.edges(str(journal), size) or (0, 0)
        rows = 3 * size
        group = parquet_copy.Group(0, size, rows, rows, 0.0, 1.0, zlib.crc32(journal.read_bytes()))
        coverage = parquet_copy.Coverage(size, head, tail, False, [["_index", "int64"]], [group])
        table = pa.table({"_index": pa.array(np.zeros(rows, np.int64))})
        table = table.replace_schema_metadata(coverage.to_metadata())
        pq.write_table(table, journal.with_suffix(".parquet"), row_group_size=rows, compression="zstd")

        with parquet_copy.opened(str(journal)) as copy:
            assert copy is None
        assert 20_000 == len(open_run(run.folder).metrics("train").table())


class TestFrames:
    @staticmethod
    def png(rows: int, columns: int) -> bytes:
        """A PNG that claims a size, with hardly any data."""
        header = struct.pack(">IIBBBBB", columns, rows, 16, 6, 0, 0, 0)
        chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(bytes(1000))), (b"IEND", b"")]
        parts = [
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
            for kind, data in chunks
        ]
        return b"\x89PNG\r\n\x1a\n" + b"".join(parts)

    @pytest.mark.parametrize(
        ("size", "problem"),
        [
            ((16_000, 16_000), "more than 1 GiB"),
            ((0, 8), "more than 1 GiB"),
            ((2**31 - 1, 8), "more than 1 GiB"),
            ((9, 8), "9 rows"),
        ],
    )
    def test_an_image_that_claims_another_size_is_not_decoded(
        self, run: RunFolder, size: tuple[int, int], problem: str
    ) -> None:
        run.frames("camera", self.png(*size))

        with pytest.raises(InvalidValueError, match=problem):
            open_run(run.folder).frames("camera").read(0)

    def test_a_jpeg_of_another_shape_is_not_decoded(self, run: RunFolder) -> None:
        run.frames("camera", encode_jpeg(np.zeros((16, 8, 3), np.uint8)))

        with pytest.raises(InvalidValueError, match="16 rows and 8 columns where 8 and 8 were saved"):
            open_run(run.folder).frames("camera").read(0)

    @pytest.mark.parametrize(
        "start", [b"BM", b"II*\0", b"GIF89a", b"RIFF", b"\xff\xd8\xff\xe0", b"\x89PNG\r\n\x1a\n", b""]
    )
    def test_no_other_format_is_decoded(self, start: bytes) -> None:
        with pytest.raises(InvalidValueError, match="no JPEG or PNG"):
            decode_image(start + bytes(100))

    @pytest.mark.parametrize("field", ["size", "offset"])
    @pytest.mark.parametrize("value", [2**40, 2**62, 2**63 - 1, 20 * 10**9])
    def test_a_frame_outside_of_its_tar_file_is_an_error(self, run: RunFolder, field: str, value: int) -> None:
        index = run.folder / "frames/camera/data.jsonl"
        index.write_text(json.dumps(json.loads(index.read_text()) | {field: value}) + "\n")

        with pytest.raises(StorageError):
            open_run(run.folder).frames("camera").read(0)
        assert any("not whole" in finding.problem for finding in verify_run(str(run.folder)).findings)

    def test_a_shard_with_a_nul_in_its_name_is_no_frame(self, run: RunFolder) -> None:
        index = run.folder / "frames/camera/data.jsonl"
        index.write_text(json.dumps(json.loads(index.read_text()) | {"shard": "a\0.tar"}) + "\n")

        assert 0 == len(open_run(run.folder).frames("camera"))

    @pytest.mark.parametrize(
        "length", [b"-0000001000\0", b"-1\0", b"+0000000010\0", b"0_0\0", b"0o10\0", b"\0", b"8\0"]
    )
    def test_a_tar_header_with_an_odd_size_ends_the_check(self, run: RunFolder, length: bytes) -> None:
        header = bytearray(512)
        header[124 : 124 + len(length)] = length
        header[257:262] = b"ustar"
        header[148:156] = b" " * 8
        header[148:156] = b"%06o\0 " % sum(header)
        run.write("frames/camera/shard-00000.tar", bytes(header) + bytes(512))

        assert any("no tar" in finding.problem for finding in verify_run(str(run.folder)).findings)


def test_a_long_line_is_read_in_linear_time(run: RunFolder) -> None:
    """Each block once: to put these 100 MB together block by block copies 80 GB."""
    for name, end in (("logs/logs.jsonl", b"\n"), ("files/index.jsonl", b""), ("frames/camera/data.jsonl", b"")):
        path = run.write(name, b"")
        os.truncate(path, 100_000_000)
        with path.open("ab") as file:
            file.write(end)
    reader = open_run(run.folder)

    began = time.process_time()
    assert ([], [], 0) == (reader.logs.read(), reader.files.list(), len(reader.frames("camera")))
    assert [] == Follower(str(run.folder), logs=True, metrics=False).last(3)
    assert [] == Follower(str(run.folder), logs=True, metrics=False).added()
    assert time.process_time() - began < 6


def test_a_line_longer_than_any_record_is_left_out_and_named(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ml_dash.storage.follow.LINE_BYTES", 100)
    run.write("logs/logs.jsonl", b"x" * 2_000_000)

    with pytest.warns(UserWarning, match=r"logs.jsonl' is left out: a line in it is longer than 100 bytes"):
        assert [] == open_run(run.folder).logs.read()


@pytest.fixture
def deep_run(run: RunFolder) -> Iterator[RunFolder]:
    """A run that is removed by a program afterwards: pytest cannot remove folders that nest deep, and would end by them."""
    yield run
    subprocess.run(["rm", "-rf", str(run.folder)], check=True, timeout=SUBPROCESS_SECONDS)


def test_folders_that_nest_deep_end_no_reader(deep_run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """1800 of them, made from within, since no path may be as long."""
    run = deep_run
    for top in ("metrics", "tracks", "frames", "files", "quarantine"):
        (run.folder / top).mkdir(exist_ok=True)
        monkeypatch.chdir(run.folder / top)
        for _ in range(1800):
            Path("d").mkdir()
            os.chdir("d")
        monkeypatch.chdir(run.folder)
    reader = open_run(run.folder)

    assert (["train"], [], 1) == (reader.metrics.list(), reader.tracks.topics(), len(reader.frames.list()))
    assert [*own_files(str(run.folder))]
    assert not any("Recursion" in finding.problem for finding in verify_run(str(run.folder)).findings)
    assert 0 == CliRunner().invoke(cli, ["show", str(run.folder)]).exit_code


def test_a_time_of_4000_digits_is_no_time(run: RunFolder) -> None:
    line = b'{"index":0,"data":{"loss":1.0,"_ts":1%s},"createdAt":"x"}\n' % (b"0" * 4000)
    run.write("metrics/train/data.jsonl", line)
    run.write("metrics/train/data.w2.jsonl", line)
    run.write("metrics/flat.jsonl", b'{"timestamp": 1%s, "data": {"loss": 1.0}}\n' % (b"0" * 4000))

    assert [1.0, 1.0] == [point["data"]["loss"] for point in open_run(run.folder).metrics("train").read()["data"]]
    for command in (["show"], ["tail", "-F"], ["verify"]):
        done = CliRunner().invoke(cli, [*command, str(run.folder)])
        assert done.exit_code in (0, 1), done.output


@pytest.mark.parametrize(("ahead_s", "live"), [(0, True), (300, True), (3600, False), (7900 * 365 * 86400, False)])
def test_a_heartbeat_from_the_future_is_not_live_for_ever(ahead_s: float, live: bool) -> None:
    beat = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=ahead_s)

    assert live == is_live({"status": "RUNNING", "heartbeat_at": beat.isoformat()})


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o600), (0o077, 0o600), (0o002, 0o660), (0o000, 0o660)])
def test_nobody_else_can_hold_a_lock(tmp_path: Path, mask: int, mode: int) -> None:
    """Read permission is enough to hold a lock, and so to keep a writer waiting."""
    before = os.umask(mask)
    try:
        os.close(locks.acquire(str(tmp_path / "a"), 0.0))
        os.close(locks.open_lock(str(tmp_path / "b")))
        with locks.document_lock(str(tmp_path / "c")):
            modes = {name: stat.S_IMODE((tmp_path / name).stat().st_mode) for name in "abc"}
    finally:
        os.umask(before)

    assert dict.fromkeys("abc", mode) == modes


class TestDownload:
    @pytest.mark.parametrize(
        "record",
        [
            {"filename": "../x"},
            {"filename": ".."},
            {"filename": "a\0b"},
            {"path": "/../../.."},
            {"path": 7},
            {"filename": "x" * 300},
            {"filename": "missing"},
        ],
    )
    def test_one_bad_record_does_not_keep_the_others(
        self, run: RunFolder, tmp_path: Path, record: dict[str, object]
    ) -> None:
        run.file("a.txt", b"a", 7353347710644450)
        run.file("z.txt", b"z", 7353347710644452)
        index = run.folder / "files/index.jsonl"
        first, last = index.read_bytes().splitlines(keepends=True)
        odd = json.loads(first) | {"id": "7353347710644451"} | record
        index.write_bytes(first + json.dumps(odd).encode() + b"\n" + last)

        with warnings.catch_warnings(record=True), contextlib.suppress(StorageError):
            open_run(run.folder).files.download("*", to=tmp_path / "copies")

        assert {"a.txt": b"a", "z.txt": b"z"} == {
            name: data for name, (data, _) in contents(tmp_path / "copies").items()
        }

    def test_a_record_that_leads_out_is_named(self, run: RunFolder, tmp_path: Path) -> None:
        run.file("a.txt", b"a", 7353347710644450)
        run.file("b.txt", b"b", 7353347710644451)
        index = run.folder / "files/index.jsonl"
        first, last = index.read_bytes().splitlines(keepends=True)
        index.write_bytes(first + json.dumps(json.loads(last) | {"path": "/../../.."}).encode() + b"\n")

        with pytest.warns(UserWarning, match=r"a file is left out: the record of .*b.txt' leads out"):
            paths = open_run(run.folder).files.download("*", to=tmp_path / "copies")

        assert [str(tmp_path / "copies/a.txt")] == paths

    def test_a_glob_replaces_no_hidden_file_that_it_does_not_name(self, run: RunFolder, tmp_path: Path) -> None:
        run.file(".bashrc", b"evil", 7353347710644450)
        (tmp_path / ".bashrc").write_bytes(b"mine")

        with pytest.warns(UserWarning, match="hidden, and is not replaced"):
            assert [] == open_run(run.folder).files.download("*", to=tmp_path)
        assert b"mine" == (tmp_path / ".bashrc").read_bytes()

        open_run(run.folder).files.download(".bash*", to=tmp_path)
        assert b"evil" == (tmp_path / ".bashrc").read_bytes()

    def test_a_copy_has_no_right_that_the_umask_takes(self, run: RunFolder, tmp_path: Path) -> None:
        run.file("a.txt", b"a", 7353347710644450).chmod(0o777)
        before = os.umask(0o027)
        try:
            path = open_run(run.folder).files.download("a.txt", to=tmp_path / "copies/")
        finally:
            os.umask(before)

        assert 0 == stat.S_IMODE(Path(str(path)).stat().st_mode) & 0o027
