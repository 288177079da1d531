"""``ml-dash rm``: it asks, it shows what would go, and it removes that and nothing else."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from ml_dash import Experiment
from ml_dash.cli.main import cli
from tests.legacy.trees import OldRun
from tests.support import SUBPROCESS_SECONDS, python_environment

if TYPE_CHECKING:
    from pathlib import Path

    from click.testing import Result


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three runs of two people, as files alone."""
    monkeypatch.chdir(tmp_path)
    for prefix in ("alice/walker/seed-1", "alice/walker/seed-2", "bob/hopper/seed-3"):
        run = OldRun(tmp_path / ".dash", prefix, status="COMPLETED")
        run.metric("train", {"loss": 1.0})
        run.file("/models/best.pt", b"weights", "77")
    return tmp_path / ".dash"


def rm(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["rm", *arguments], prog_name="ml-dash")


def runs(root: Path) -> set[str]:
    return {str(path.parent.relative_to(root)) for path in root.rglob("experiment.json")}


def on_a_terminal(answer: str, *arguments: str, cwd: Path) -> tuple[int, str]:
    """Run the real command on a terminal on which somebody types ``answer``."""
    ours, theirs = pty.openpty()
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", "ml_dash", "rm", *arguments],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            cwd=cwd,
            env=python_environment({"TERM": "xterm", "COLUMNS": "80"}),
        )
        os.close(theirs)
        theirs = -1
        os.write(ours, answer.encode())
        return process.wait(SUBPROCESS_SECONDS), _everything(ours)
    finally:
        os.close(ours)
        if theirs >= 0:
            os.close(theirs)


def _everything(fd: int) -> str:
    printed = b""
    while True:
        try:
            block = os.read(fd, 65536)
        except OSError:  # the other side is closed
            return printed.decode()
        printed += block


def test_a_run_is_removed_with_the_empty_folders_above_it(root: Path) -> None:
    result = rm("seed-3", "--yes")

    assert (0, True) == (result.exit_code, result.stdout.startswith("removed 1 run, "))
    assert {"alice/walker/seed-1", "alice/walker/seed-2"} == runs(root)
    assert {"alice"} == {path.name for path in root.iterdir()}


def test_several_runs_are_removed_at_once_and_the_root_stays(root: Path) -> None:
    result = rm("seed-1", "alice/walker/seed-2", "alice/walker/seed-1", str(root / "bob/hopper/seed-3"), "-y")

    assert (0, "removed 3 runs") == (result.exit_code, result.stdout[:14])
    assert [] == list(root.iterdir())


def test_without_a_terminal_and_without_yes_nothing_is_removed(root: Path) -> None:
    result = rm("seed-1")

    assert (2, True) == (result.exit_code, "--yes" in result.stderr)
    assert 3 == len(runs(root))


def test_on_a_terminal_it_shows_what_would_go_and_takes_no_for_an_answer(root: Path, tmp_path: Path) -> None:
    status, shown = on_a_terminal("n\n", "seed-1", cwd=tmp_path)

    assert (1, 3) == (status, len(runs(root)))
    assert all(part in shown for part in ("alice/walker/seed-1", "completed", "Remove 1 run, 7 files", "[y/N]"))
    assert "nothing was removed" in shown


def test_on_a_terminal_yes_removes_it(root: Path, tmp_path: Path) -> None:
    status, shown = on_a_terminal("y\n", "seed-1", cwd=tmp_path)

    assert (0, {"alice/walker/seed-2", "bob/hopper/seed-3"}) == (status, runs(root)), shown


def test_what_is_put_in_the_place_of_a_run_while_it_asks_stays(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, run = tmp_path / "home", root / "alice/walker/seed-1"
    home.mkdir()
    (home / "thesis.tex").write_text("chapter 1")

    def swap(*_: Any, **__: Any) -> bool:
        run.rename(run.with_name("r2"))
        run.symlink_to(home)
        return True

    monkeypatch.setattr("ml_dash.cli.rm._confirm", swap)
    result = rm("seed-1", "seed-3")

    assert (1, "") == (result.exit_code, result.stdout)
    assert "seed-1' is no longer the folder that it was" in result.stderr
    assert ["thesis.tex"] == [path.name for path in home.iterdir()]
    assert {"alice/walker/r2", "alice/walker/seed-2", "bob/hopper/seed-3"} == runs(root)


def test_nothing_is_removed_if_one_of_the_runs_is_not_there(root: Path) -> None:
    result = rm("seed-1", "seed-9", "--yes")

    assert (1, True) == (result.exit_code, "no run 'seed-9'" in result.stderr)
    assert 3 == len(runs(root))


@pytest.mark.parametrize("name", ["alice", "alice/walker", ".", "", "/", "alice/walker/seed-1/metrics", ".."])
def test_a_folder_that_is_no_run_is_refused(name: str, root: Path) -> None:
    result = rm(name, "--yes")

    assert (1, 3) == (result.exit_code, len(runs(root))), result.output


def test_a_live_run_is_refused_without_force(root: Path) -> None:
    with Experiment("alice/walker/live", dash_root=str(root), echo=False).run as exp:
        exp.log("on disk")
        exp.flush()
        refused = rm("live", "seed-1", "--yes")
        kept = runs(root)
        forced = rm("live", "--yes", "--force")

    assert (1, True, 4) == (refused.exit_code, "is live" in refused.stderr, len(kept))
    assert 0 == forced.exit_code


def test_a_run_whose_lock_is_held_counts_as_live(root: Path) -> None:
    with (root / "alice/walker/seed-1/.lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        refused = rm("seed-1", "--yes")

    assert (1, True, 3) == (refused.exit_code, "its lock is held" in refused.stderr, len(runs(root)))


def test_runs_below_a_run_stay_unless_recursive(root: Path) -> None:
    OldRun(root, "alice/walker/seed-1/sweep/a")
    OldRun(root, "alice/walker/seed-1/b")

    kept = rm("alice/walker/seed-1", "--yes")
    after = runs(root)
    names = {path.name for path in (root / "alice/walker/seed-1").iterdir()}

    assert (0, {"sweep", "b"}) == (kept.exit_code, names)
    assert {"alice/walker/seed-1/sweep/a", "alice/walker/seed-1/b", "alice/walker/seed-2", "bob/hopper/seed-3"} == after


def test_recursive_removes_the_runs_below_it_too_but_no_live_one(root: Path) -> None:
    OldRun(root, "alice/walker/seed-1/sweep/a")
    with (root / "alice/walker/seed-1/sweep/a/.lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        refused = rm("alice/walker/seed-1", "--yes", "--recursive")

    removed = rm("alice/walker/seed-1", "alice/walker/seed-1/sweep/a", "--yes", "--recursive")

    assert (1, 0) == (refused.exit_code, removed.exit_code)
    assert {"alice/walker/seed-2", "bob/hopper/seed-3"} == runs(root)


def test_a_run_below_another_one_that_is_named_counts_once(root: Path) -> None:
    for prefix in ("alice/walker/seed-1/a", "alice/walker/seed-1/a/b"):
        OldRun(root, prefix)
    files = sum(path.is_file() for path in (root / "alice/walker/seed-1").rglob("*"))

    result = rm("alice/walker/seed-1/a", "alice/walker/seed-1", "alice/walker/seed-2", "--recursive", "--json", "-y")
    removed = {about["run"]: about for about in map(json.loads, result.stdout.splitlines())}

    assert {"alice/walker/seed-1", "alice/walker/seed-2"} == set(removed)
    assert files == removed["alice/walker/seed-1"]["files"]
    assert {"bob/hopper/seed-3"} == runs(root)


def test_the_runs_below_are_in_the_number_of_removed_ones(root: Path) -> None:
    for prefix in ("alice/walker/seed-1/a", "alice/walker/seed-1/a/b"):
        OldRun(root, prefix)
    files = sum(path.is_file() for path in (root / "alice/walker/seed-1").rglob("*"))

    result = rm("alice/walker/seed-1", "alice/walker/seed-1/a", "--recursive", "-y")

    assert f"removed 3 runs, {files} files, " == result.stdout[: len(f"removed 3 runs, {files} files, ")]


def test_links_are_removed_and_what_they_point_to_stays(root: Path, tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious/data.bin").write_bytes(b"precious")
    (root / "alice/walker/seed-1/files/link").symlink_to(tmp_path / "precious")
    (root / "alice/walker/seed-1/link").symlink_to(tmp_path / "precious")
    (root / "alice/walker/seed-1/files/other").symlink_to(tmp_path / "precious/data.bin")

    result = rm("seed-1", "--yes")

    assert (0, b"precious") == (result.exit_code, (tmp_path / "precious/data.bin").read_bytes())
    assert not (root / "alice/walker/seed-1").exists()


def test_a_run_behind_a_link_is_refused(root: Path, tmp_path: Path) -> None:
    OldRun(tmp_path / "elsewhere", "carol/run")
    (root / "carol").symlink_to(tmp_path / "elsewhere/carol")
    (root / "alice/walker/alias").symlink_to(root / "bob/hopper/seed-3")

    results = [rm(name, "--yes") for name in ("carol/run", "alice/walker/alias")]

    assert [2, 2] == [result.exit_code for result in results]
    assert all("is a link" in result.stderr for result in results)
    assert (tmp_path / "elsewhere/carol/run/experiment.json").exists()
    assert 3 == len(runs(root))


def test_a_removal_that_cannot_be_finished_can_be_repeated(root: Path) -> None:
    stuck = root / "alice/walker/seed-1/metrics/train"
    stuck.chmod(0o500)
    is_root = os.access(stuck, os.W_OK)  # nothing is refused to root

    first = rm("seed-1", "--yes")
    left = (root / "alice/walker/seed-1/experiment.json").exists()
    if stuck.exists():
        stuck.chmod(0o700)
    if left:
        assert 0 == rm("seed-1", "--yes").exit_code

    assert (0 if is_root else 1, not is_root) == (first.exit_code, left)
    assert {"alice/walker/seed-2", "bob/hopper/seed-3"} == runs(root)


def test_json_says_what_was_removed(root: Path) -> None:
    files = [path for path in (root / "alice/walker/seed-1").rglob("*") if path.is_file()]
    size = sum(path.stat().st_size for path in files)

    removed: dict[str, Any] = json.loads(rm("seed-1", "--yes", "--json").stdout)

    assert {
        "run": "alice/walker/seed-1",
        "folder": str(root / "alice/walker/seed-1"),
        "status": "COMPLETED",
        "live": False,
        "files": len(files),
        "bytes": size,
        "runs_below": [],
        "recursive": False,
        "removed": True,
    } == removed
