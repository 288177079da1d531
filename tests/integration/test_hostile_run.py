"""A run's folder that another user has prepared: nothing outside of it changes, and everything is recorded in it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ml_dash import Experiment, open_run
from ml_dash.storage.beneath import HeldFolder, UnsafeFileError, open_file, read_file
from ml_dash.storage.disk import Disk
from tests.support import SUBPROCESS_SECONDS

PREFIX = "alice/walker/run"
SECRET = b"alias ll=ls"
INDEX_OUTSIDE = (
    b'{"id":"thesis","path":"/../../../../..","filename":"f"}\n'
    b'{"id":"70000000000000000","path":"/../../../../..","filename":"f"}\n'
)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "runs" / PREFIX
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A folder of the victim's own, with a file that has no newline at its end, and a folder with a file."""
    folder = tmp_path / "home"
    (folder / "thesis").mkdir(parents=True)
    (folder / "bashrc").write_bytes(SECRET)
    (folder / "thesis" / "main@1").write_bytes(b"chapter 1")
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def record(tmp_path: Path) -> None:
    with Experiment(PREFIX, dash_root=tmp_path / "runs", echo=False, description="d").run as exp:
        exp.log("one line")
        exp.params.set(lr=0.1)
        for step in range(3):
            exp.metrics("train").log(loss=float(step))
            exp.tracks("pose").append(q=[1.0, 2.0], _ts=float(step))
            exp.frames("cam").append(np.full((8, 8, 3), step, np.uint8), _ts=float(step))
        exp.files("a").save_text("text", to="t.txt")
        exp.files("a").save_image(np.zeros((8, 8, 3), np.uint8), to="i.png")


def check_recorded(tmp_path: Path) -> None:
    found = open_run(PREFIX, tmp_path / "runs")
    assert "COMPLETED" == found.status
    assert ["one line"] == [line["message"] for line in found.logs.read()]
    assert 0.1 == found.params.get()["lr"]
    assert [0.0, 1.0, 2.0] == [point["data"]["loss"] for point in found.metrics("train").read()["data"]]
    assert 3 == found.tracks("pose").read()["count"]
    assert 3 == len(found.frames("cam"))
    assert "text" == found.files("a").read_text("t.txt")


LINKS_TO_A_FILE = (
    ".experiment.json.tmp-main",
    ".parameters.json.tmp-main",
    "experiment.json",
    "parameters.json",
    "environment.json",
    "logs/logs.jsonl",
    "metrics/train/data.jsonl",
    "metrics/train/metadata.json",
    "metrics/train/.metadata.json.tmp-main",
    "tracks/pose/data.jsonl",
    "frames/cam/data.jsonl",
    "frames/cam/shard-00000.tar",
    "files/index.jsonl",
    "files/.files_metadata.json",
)
LINKS_TO_A_FOLDER = (
    "logs",
    "metrics",
    "metrics/train",
    "tracks/pose",
    "frames",
    "frames/cam",
    "files",
    "files/a",
    ".spill",
    "files/.staging",
    "quarantine",
)


@pytest.mark.parametrize("name", LINKS_TO_A_FILE)
def test_a_link_in_the_place_of_a_file_is_set_aside(tmp_path: Path, run: Path, outside: Path, name: str) -> None:
    before = contents(outside)
    (run / name).parent.mkdir(parents=True, exist_ok=True)
    (run / name).symlink_to(outside / "bashrc")

    record(tmp_path)

    assert before == contents(outside)
    check_recorded(tmp_path)


@pytest.mark.parametrize("name", LINKS_TO_A_FOLDER)
def test_a_link_in_the_place_of_a_folder_is_set_aside(tmp_path: Path, run: Path, outside: Path, name: str) -> None:
    before = contents(outside)
    (run / name).parent.mkdir(parents=True, exist_ok=True)
    (run / name).symlink_to(outside / "thesis")

    record(tmp_path)

    assert before == contents(outside)
    check_recorded(tmp_path)


@pytest.mark.parametrize("name", ["experiment.json", "logs/logs.jsonl", "parameters.json", "metrics/train/data.jsonl"])
@pytest.mark.parametrize("kind", ["fifo", "folder", "device"])
def test_what_is_no_file_keeps_no_writer_waiting(tmp_path: Path, run: Path, name: str, kind: str) -> None:
    (run / name).parent.mkdir(parents=True, exist_ok=True)
    if kind == "fifo":
        os.mkfifo(run / name)
    elif kind == "folder":
        (run / name).mkdir()
    else:
        (run / name).symlink_to("/dev/zero")

    record(tmp_path)

    check_recorded(tmp_path)


def test_an_index_that_names_files_outside_removes_and_reads_none_of_them(
    tmp_path: Path, run: Path, outside: Path
) -> None:
    before = contents(outside)
    (run / "files").mkdir()
    (run / "files/index.jsonl").write_bytes(INDEX_OUTSIDE + b'{"id":"dev","path":"/../../../../../../../../..",')

    record(tmp_path)

    assert before == contents(outside)
    check_recorded(tmp_path)


def test_a_journal_that_is_a_hard_link_is_copied_before_it_is_appended_to(
    tmp_path: Path, run: Path, outside: Path
) -> None:
    before = contents(outside)
    (run / "logs").mkdir()
    os.link(outside / "bashrc", run / "logs/logs.jsonl")

    record(tmp_path)

    assert before == contents(outside)
    check_recorded(tmp_path)


def test_what_was_set_aside_is_said_and_kept(tmp_path: Path, run: Path, outside: Path) -> None:
    (run / "logs").mkdir()
    (run / "logs/logs.jsonl").symlink_to(outside / "bashrc")

    with Experiment(PREFIX, dash_root=tmp_path / "runs", echo=False).run as exp:
        exp.log("one line")
        exp.flush()
        health = exp.health()

    [aside] = (run / "quarantine").iterdir()
    assert outside / "bashrc" == aside.readlink()
    assert "logs/logs.jsonl was in the way" in str(health["last_error"])


@pytest.mark.parametrize("name", [".spill", "files", "files/.staging"])
def test_large_records_and_uploads_are_handed_over_within_the_run(
    tmp_path: Path, run: Path, outside: Path, name: str
) -> None:
    before = contents(outside)
    (run / name).parent.mkdir(parents=True, exist_ok=True)
    (run / name).symlink_to(outside / "thesis")

    with Experiment(PREFIX, dash_root=tmp_path / "runs", echo=False).run as exp:
        exp.log("x" * 6_000_000)
        exp.files("a").upload(outside / "bashrc")

    found = open_run(PREFIX, tmp_path / "runs")
    assert before == contents(outside)
    assert [6_000_000] == [len(line["message"]) for line in found.logs.read()]
    assert SECRET == found.files("a").read_bytes("bashrc")


def test_a_stream_whose_folder_is_in_the_way_of_another_keeps_its_frames(tmp_path: Path) -> None:
    frame = np.zeros((8, 8, 3), np.uint8)

    with Experiment(PREFIX, dash_root=tmp_path / "runs", echo=False).run as exp:
        exp.frames("cam/shard-00000.tar").append(frame)
        exp.flush()
        exp.frames("cam").append(frame)
        exp.flush()

    found = open_run(PREFIX, tmp_path / "runs")
    assert 1 == len(found.frames("cam/shard-00000.tar"))
    assert (8, 8, 3) == found.frames("cam/shard-00000.tar").read(0).shape


def test_a_command_says_in_one_line_which_file_it_leaves_out(tmp_path: Path, run: Path, outside: Path) -> None:
    record(tmp_path)
    (run / "logs/logs.other.jsonl").symlink_to(outside / "bashrc")

    command = [sys.executable, "-m", "ml_dash", "tail", PREFIX, "--root", str(tmp_path / "runs"), "--no-follow"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=SUBPROCESS_SECONDS)

    expected = f"ml-dash: {str(run / 'logs/logs.other.jsonl')!r} is left out: it is a link, which is not followed\n"
    assert expected == done.stderr
    assert "one line" in done.stdout


class TestHeldFolder:
    def test_it_stays_the_same_folder_when_its_path_becomes_a_link(self, tmp_path: Path, outside: Path) -> None:
        folder = tmp_path / "held"
        folder.mkdir()
        disk = Disk(str(folder))
        disk.write_file(str(folder / "a"), [b"1"])
        before = contents(outside)

        folder.rename(tmp_path / "moved")
        folder.symlink_to(outside)
        disk.write_file(str(folder / "bashrc"), [b"2"])
        disk.release()

        assert before == contents(outside)
        assert b"2" == (tmp_path / "moved/bashrc").read_bytes()

    def test_a_folder_that_was_removed_is_made_again(self, tmp_path: Path) -> None:
        folder = tmp_path / "held"
        disk = Disk(str(folder))
        disk.write_file(str(folder / "a/b"), [b"1"])
        (folder / "a/b").unlink()
        (folder / "a").rmdir()
        folder.rmdir()

        disk.write_file(str(folder / "a/b"), [b"2"])
        disk.release()

        assert b"2" == (folder / "a/b").read_bytes()

    @pytest.mark.parametrize("path", ["../x", "a/../../x", "/etc/passwd"])
    def test_a_path_outside_is_refused(self, tmp_path: Path, path: str) -> None:
        held = HeldFolder(str(tmp_path))

        with pytest.raises(UnsafeFileError, match="outside"):
            held.names_of(path)

    def test_a_file_larger_than_its_limit_is_not_read(self, tmp_path: Path) -> None:
        (tmp_path / "a").write_bytes(b"12345")

        assert b"12345" == read_file(tmp_path / "a", limit=5)
        with pytest.raises(UnsafeFileError, match="larger than 4 bytes"):
            read_file(tmp_path / "a", limit=4)

    def test_a_fifo_is_refused_without_waiting(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "a")

        with pytest.raises(UnsafeFileError, match="no regular file"):
            open_file(tmp_path / "a")
