"""Planned and done removals of run folders that are written by hand."""

from __future__ import annotations

import fcntl
import shutil
from pathlib import Path

import pytest

from ml_dash import InvalidValueError, MissingFileError
from ml_dash.catalog import removal
from ml_dash.catalog.removal import Removal, plan_removal, remove
from tests.run_folders import PREFIX, RunFolder


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """A run with some files, and one below it."""
    folder = RunFolder(tmp_path / "runs")
    folder.metric("train", {"loss": 1.0})
    folder.file("models/best.pt", b"weights", 77)
    RunFolder(folder.root, f"{PREFIX}/sweep/a").metric("train", {"loss": 1.0})
    return folder


def plan(run: RunFolder, *, recursive: bool = False) -> Removal:
    return plan_removal(str(run.folder), PREFIX, str(run.root), recursive=recursive)


def files_of(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_a_plan_counts_the_files_of_the_run_alone(run: RunFolder) -> None:
    own = [path for path in files_of(run.folder) if "sweep" not in path.parts]

    planned = plan(run)

    assert {
        "run": PREFIX,
        "folder": str(run.folder),
        "status": "COMPLETED",
        "live": False,
        "files": len(own),
        "bytes": sum(path.stat().st_size for path in own),
        "runs_below": [f"{PREFIX}/sweep/a"],
        "recursive": False,
    } == planned.as_json()
    assert set(own) <= set(files_of(run.folder)), "a plan removes nothing"


def test_a_recursive_plan_counts_the_runs_below_too(run: RunFolder) -> None:
    planned = plan(run, recursive=True)

    assert len(files_of(run.folder)) == planned.files
    assert sum(path.stat().st_size for path in files_of(run.folder)) == planned.size


def test_a_run_below_stays_and_the_folders_above_it_too(run: RunFolder) -> None:
    remove(plan(run), str(run.root))

    assert ["sweep"] == [path.name for path in run.folder.iterdir()]
    assert (run.folder / "sweep/a/experiment.json").exists()


def test_a_recursive_removal_leaves_only_the_root(run: RunFolder) -> None:
    remove(plan(run, recursive=True), str(run.root))

    assert [] == list(run.root.iterdir())


def test_a_folder_above_with_something_else_in_it_stays(run: RunFolder) -> None:
    (run.root / "alice/notes.txt").write_text("mine")

    remove(plan(run, recursive=True), str(run.root))

    assert ["notes.txt"] == [path.name for path in (run.root / "alice").iterdir()]


def test_a_run_below_that_is_being_written_makes_a_recursive_plan_live(run: RunFolder) -> None:
    lock = run.folder / "sweep/a/.lock"
    with lock.open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)

        assert ("", "sweep/a: its lock is held") == (plan(run).live, plan(run, recursive=True).live)


def test_a_folder_that_is_no_run_is_refused(run: RunFolder) -> None:
    with pytest.raises(MissingFileError, match="is no run, and is not removed"):
        plan_removal(str(run.folder / "metrics"), "x", str(run.root), recursive=True)


@pytest.mark.parametrize("link", ["alice", "alice/walker", PREFIX])
def test_a_run_behind_a_link_is_refused(link: str, run: RunFolder, tmp_path: Path) -> None:
    (run.root / link).rename(tmp_path / "elsewhere")
    (run.root / link).symlink_to(tmp_path / "elsewhere")

    with pytest.raises(InvalidValueError, match=f"{link}' is a link"):
        plan(run)


def test_links_are_removed_and_what_they_point_to_stays(run: RunFolder, tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious/data.bin").write_bytes(b"precious")
    for link in ("link", "files/link", "metrics/train/link"):
        (run.folder / link).symlink_to(tmp_path / "precious")
    (run.folder / "files/other").symlink_to(tmp_path / "precious/data.bin")

    remove(plan(run, recursive=True), str(run.root))

    assert b"precious" == (tmp_path / "precious/data.bin").read_bytes()
    assert not run.folder.exists()


def test_an_interrupted_removal_leaves_a_run_that_can_be_removed(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    rmtree = shutil.rmtree

    def interrupted(path: str) -> None:
        if path.endswith("metrics"):
            raise OSError(5, "Input/output error", path)
        rmtree(path)

    monkeypatch.setattr(removal.shutil, "rmtree", interrupted)
    with pytest.raises(OSError, match="Input/output error"):
        remove(plan(run, recursive=True), str(run.root))
    assert (run.folder / "experiment.json").exists()
    monkeypatch.undo()
    remove(plan(run, recursive=True), str(run.root))

    assert not run.folder.exists()


def test_a_folder_that_fills_up_while_it_is_removed_is_removed_all_the_same(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    rmtree, late = shutil.rmtree, [3]

    def busy(path: str) -> None:
        rmtree(path)
        if late[0] and path.endswith("metrics"):
            late[0] -= 1
            (Path(path) / "train").mkdir(parents=True)
            (Path(path) / "train/data.parquet").write_bytes(b"PAR1")
            raise OSError(39, "Directory not empty", path)

    monkeypatch.setattr(removal.shutil, "rmtree", busy)
    remove(plan(run, recursive=True), str(run.root))

    assert (0, False) == (late[0], run.folder.exists())
