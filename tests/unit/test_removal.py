"""Planned and done removals of run folders that are written by hand."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from ml_dash import ExperimentError, InvalidValueError, MissingFileError
from ml_dash.catalog import removal
from ml_dash.catalog.removal import Removal, check_unchanged, plan_removal, remove
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

    def interrupted(name: str, dir_fd: int) -> None:
        if name == "metrics":
            raise OSError(5, "Input/output error", name)
        rmtree(name, dir_fd=dir_fd)

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

    def busy(name: str, dir_fd: int) -> None:
        rmtree(name, dir_fd=dir_fd)
        if late[0] and name == "metrics":
            late[0] -= 1
            (run.folder / "metrics/train").mkdir(parents=True)
            (run.folder / "metrics/train/data.parquet").write_bytes(b"PAR1")
            raise OSError(39, "Directory not empty", name)

    monkeypatch.setattr(removal.shutil, "rmtree", busy)
    remove(plan(run, recursive=True), str(run.root))

    assert (0, False) == (late[0], run.folder.exists())


@pytest.mark.parametrize("swapped", ["alice/walker", PREFIX])
@pytest.mark.parametrize("by_link", [True, False])
@pytest.mark.parametrize("recursive", [True, False])
def test_what_took_the_place_of_a_planned_run_stays(
    swapped: str, by_link: bool, recursive: bool, run: RunFolder, tmp_path: Path
) -> None:
    planned = plan(run, recursive=recursive)
    before = {str(path.relative_to(run.folder)): path.read_bytes() for path in files_of(run.folder)}
    aside = tmp_path / "aside"
    (run.root / swapped).rename(aside)
    shutil.copytree(aside, tmp_path / "home")
    if by_link:
        (run.root / swapped).symlink_to(tmp_path / "home")
    else:
        (tmp_path / "home").rename(run.root / swapped)

    for act in (check_unchanged, remove):
        with pytest.raises(ExperimentError, match="no longer the folder that it was"):
            act(planned, str(run.root))

    assert before == {str(path.relative_to(run.folder)): path.read_bytes() for path in files_of(run.folder)}
    assert len(before) == len(files_of(aside))


def test_a_run_that_another_process_removed_is_no_error(run: RunFolder) -> None:
    planned = plan(run)
    shutil.rmtree(run.folder)

    check_unchanged(planned, str(run.root))
    remove(planned, str(run.root))

    assert not run.folder.exists()


def test_a_folder_that_becomes_a_link_within_the_removal_is_not_followed(
    run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "thesis.tex").write_text("chapter 1")
    rmtree = shutil.rmtree

    def swapping(name: str, dir_fd: int) -> None:
        if run.folder.is_dir() and not run.folder.is_symlink():
            run.folder.rename(tmp_path / "aside")
            run.folder.symlink_to(home)
        rmtree(name, dir_fd=dir_fd)

    monkeypatch.setattr(removal.shutil, "rmtree", swapping)
    remove(plan(run, recursive=True), str(run.root))

    assert "chapter 1" == (home / "thesis.tex").read_text()
    assert [] == list((tmp_path / "aside").iterdir())


def test_a_run_made_since_the_plan_stays(run: RunFolder) -> None:
    planned = plan(run)
    RunFolder(run.root, f"{PREFIX}/later/b").metric("train", {"loss": 1.0})

    remove(planned, str(run.root))

    assert {"sweep", "later"} == {path.name for path in run.folder.iterdir()}


@pytest.mark.parametrize("depth", [1800, 2300])
def test_a_tree_of_any_depth_is_removed(run: RunFolder, depth: int) -> None:
    fd = os.open(run.folder / "metrics", os.O_RDONLY)
    for _ in range(depth):
        os.mkdir("d", dir_fd=fd)
        below = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.close(os.open("file", os.O_WRONLY | os.O_CREAT, dir_fd=fd))
        os.symlink("d", "link", dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(fd)

    try:
        remove(plan(run, recursive=True), str(run.root))

        assert [] == list(run.root.iterdir())
    finally:  # pytest cannot remove folders that nest deep, and would end by them
        subprocess.run(["rm", "-rf", str(run.folder)], check=True, timeout=60)


def test_a_plan_names_the_other_users_whose_runs_these_are(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    assert [] == plan(run).owners

    monkeypatch.setattr(os, "geteuid", lambda: 2**31 - 7)

    assert 1 == len(plan(run, recursive=True).owners)
