"""``ml-dash verify``: damage of every kind is found, told in a line, and repaired without losing what was intact."""

from __future__ import annotations

import fcntl
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from ml_dash import BufferConfig, Experiment, open_run
from ml_dash.cli.main import cli
from tests.damage import LONG_AGO, MENDABLE, NOT_ENOUGH, append, change, crash, replace_line, stored
from tests.legacy.trees import OldRun
from tests.support import SUBPROCESS_SECONDS, python_environment, run_python, wait_released, wait_until

PREFIX = "alice/walker/seed-1"
POINTS = 50
FRAMES = 6
ROWS = 40


def record(exp: Experiment, count: int) -> None:
    """Something in every stream."""
    exp.params.set(lr=0.1, model={"layers": 4})
    for step in range(count):
        exp.log(f"step {step}")
        exp.metrics("train").log(loss=1 / (step + 1))
        exp.metrics("train/inner").log(reward=float(step))
    for row in range(ROWS):
        exp.tracks("robot/arm").append(q=[row, 1.5], _ts=row / 10)
    exp.files("models").save(b"weights" * 100, to="best.bin")
    exp.files.save_text("readme", to="notes.txt")
    for number in range(FRAMES):
        image = np.full((24, 32, 3), number * 20, np.uint8)
        exp.files("images").save_image(image, to=f"{number}.png")
        exp.frames("camera").append(image, _ts=number / 30)
        exp.frames("depth").append(image, _ts=number / 30, format="png", step=number)


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root with one run that two writers wrote, with columnar copies; it is copied before it is damaged."""
    root = tmp_path_factory.mktemp("verify") / "runs"
    config = BufferConfig(columnar_rows=1)
    with Experiment(PREFIX, dash_root=str(root), echo=False, buffer_config=config).run as first:
        record(first, POINTS)
        with Experiment(PREFIX, dash_root=str(root), echo=False).run as second:
            second.metrics("train").log(loss=7.0)
            second.log("from the other one")
            second.frames("other").append(np.zeros((8, 8), np.uint8))
            second.files("models").save(b"other", to="other.bin")
    copies = [root / PREFIX / "metrics/train/data.parquet", root / PREFIX / "tracks/robot/arm/data.parquet"]
    wait_until(lambda: all(copy.exists() for copy in copies))
    wait_until(lambda: not list((root / PREFIX).rglob("*.tmp")))
    return root


@pytest.fixture
def root(healthy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the healthy root, as the root that is meant without ``--root``."""
    shutil.copytree(healthy, tmp_path / ".dash")
    monkeypatch.chdir(tmp_path)
    return tmp_path / ".dash"


def verify(*arguments: str) -> tuple[int, str]:
    """The exit status and what is printed."""
    result = CliRunner().invoke(cli, ["verify", *arguments], prog_name="ml-dash")
    return result.exit_code, result.output


def findings(*arguments: str) -> list[dict[str, Any]]:
    _, printed = verify(*arguments, "--json")
    return [finding for line in printed.splitlines() for finding in json.loads(line)["findings"]]


def contents(root: Path) -> dict[str, bytes]:
    """Every file with its bytes; those that exist to be locked are left out."""
    files = (path for path in root.rglob("*") if path.is_file() and path.suffix != ".lock" and path.name != ".lock")
    return {str(path.relative_to(root)): path.read_bytes() for path in files}


# --------------------------------------------------------------------------------------------------- what is healthy


def test_a_healthy_run_of_every_stream_and_two_writers_is_clean(root: Path) -> None:
    before = contents(root)

    assert [] == findings()
    assert (0, True) == ((result := verify())[0], "all is well" in result[1])
    assert (0, True) == ((result := verify("--repair"))[0], "all is well" in result[1])
    assert before == contents(root)


def test_a_run_is_named_by_prefix_by_its_end_by_its_folder_or_by_a_folder_above(root: Path) -> None:
    names = (PREFIX, "seed-1", "alice", str(root / PREFIX), str(root), "alice/walker")

    found = {name: [json.loads(line)["run"] for line in verify(name, "--json")[1].splitlines()] for name in names}

    assert {name: [PREFIX] for name in names} == found


def test_a_folder_without_runs_is_an_error(root: Path) -> None:
    (root / "empty").mkdir()

    status, printed = verify("empty")

    assert (1, True) == (status, "no runs below" in printed)


# ------------------------------------------------------------------------------------------ what a repair can mend


def test_a_run_whose_machine_crashed_is_set_to_failed_with_a_reason_and_can_be_continued(root: Path) -> None:
    crash(root / PREFIX)

    verify("--repair")
    run = open_run(PREFIX, root)
    status, reason, ended = run.status, run.status_reason, run.document()["ended_at"]
    with Experiment(PREFIX, dash_root=str(root), echo=False).run as exp:
        exp.metrics("train").log(loss=0.0)

    assert ("FAILED", LONG_AGO) == (status, ended)
    assert "nobody writes the run any more" in reason
    assert ("COMPLETED", None) == (run.status, run.status_reason)
    assert (0, POINTS + 2) == (verify()[0], len(run.metrics("train").read(limit=None)["data"]))


def test_a_run_that_cannot_be_read_is_a_finding_and_the_others_are_checked(root: Path) -> None:
    broken = OldRun(root, "alice/a/first")
    (broken.folder / "logs/logs.jsonl").mkdir()

    status, printed = verify("--json")

    reports = {report["run"]: report for report in map(json.loads, printed.splitlines())}
    assert (1, True) == (status, reports[PREFIX]["clean"])
    [finding] = reports["alice/a/first"]["findings"]
    assert ("logs/logs.jsonl", "cannot be read: Is a directory") == (finding["path"], finding["problem"])


def test_a_line_with_values_of_wrong_types_is_a_finding_and_the_other_runs_are_checked(root: Path) -> None:
    OldRun(root, "bob/later/run").logs((0, "one"))
    append("files/index.jsonl", b'{"id": "7", "path": [], "filename": {}}\n')(root / PREFIX)

    status, printed = verify("--json")

    reports = {report["run"]: report for report in map(json.loads, printed.splitlines())}
    assert (1, True) == (status, reports["bob/later/run"]["clean"])
    found = [finding["problem"] for finding in reports[PREFIX]["findings"]]
    assert any("line 9 cannot be read" == problem for problem in found), found


def test_several_kinds_of_damage_are_repaired_at_once(root: Path) -> None:
    for name, (damage, _) in MENDABLE.items():
        if name not in {"an empty experiment.json", "broken environment", *NOT_ENOUGH, "half a header in the tar"}:
            damage(root / PREFIX) if "metadata" not in name else None

    first = verify("--repair")
    second = verify("--repair")

    assert (0, 0) == (first[0], second[0]), first[1]
    assert "  repaired parameters.json: the damaged one is kept as parameters.json.damaged-" in first[1]
    assert "repaired" not in second[1]
    run = open_run(PREFIX, root)
    assert (FRAMES, FRAMES - 1) == (len(list(run.frames("camera").iter())), len(list(run.frames("depth").iter())))
    assert POINTS + 1 == len(run.metrics("train").read(limit=None)["data"]) == len(run.logs.read())
    assert ROWS - 2 == run.tracks("robot/arm").read()["count"] == len(run.tracks("robot/arm").table())
    assert b"weights" * 100 == run.files.read_bytes("models/best.bin")


# ------------------------------------------------------------------------------------------------------ live runs


def test_a_run_whose_lock_is_held_is_not_repaired(root: Path) -> None:
    journal = root / PREFIX / "metrics/train/data.jsonl"
    replace_line("metrics/train/data.jsonl", 7, b"{broken")(root / PREFIX)
    before = contents(root)

    with (root / PREFIX / ".lock").open("rb+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        status, printed = verify("--repair")

    assert (1, before) == (status, contents(root)), journal
    assert "its lock is held" in printed
    assert "line 7 cannot be read" in printed
    assert "not repaired, since the run is live" in " ".join(printed.split())


def test_an_experiment_that_is_open_is_clean_and_left_alone(root: Path) -> None:
    with Experiment("alice/walker/live", dash_root=str(root), echo=False).run as exp:
        record(exp, 5)
        exp.flush()
        report = json.loads(verify("alice/walker/live", "--repair", "--json")[1])
        exp.log("still here")

    assert (True, True, []) == (report["clean"], report["live"], report["repaired"])
    assert (0, 6) == (verify("alice/walker/live")[0], len(open_run("alice/walker/live", root).logs.read()))


KILLED = """
import os, signal
import numpy as np
from ml_dash import Experiment

exp = Experiment("alice/walker/killed", dash_root=".dash", echo=False)
exp.run.start()
for step in range(100):
    exp.metrics("train").log(step=step)
    exp.frames("camera").append(np.full((8, 8), step, np.uint8), _ts=step)
exp.flush()
os.kill(exp.health()["writer_pid"], signal.SIGSTOP)  # it sees nothing of what follows
exp.metrics("train").log(step=100)
# This program is stopped as well, so that it starts no other writer between the two kills.
os.system(f"kill -STOP {os.getpid()}; kill -KILL {exp.health()['writer_pid']} {os.getpid()}")
"""


def test_a_run_whose_processes_were_all_killed_is_closed_with_all_that_was_written(root: Path, tmp_path: Path) -> None:
    with pytest.raises(AssertionError):
        run_python(KILLED, tmp_path)
    wait_released(root / "alice/walker/killed")
    change("experiment.json", heartbeat_at=LONG_AGO)(root / "alice/walker/killed")

    found = {one["path"]: one["problem"] for one in findings("alice/walker/killed")}
    repaired = verify("alice/walker/killed", "--repair")
    run = open_run("alice/walker/killed", root)

    assert "nobody writes the run" in found["experiment.json"]
    assert (0, 0) == (repaired[0], verify("alice/walker/killed")[0]), repaired[1]
    assert ("FAILED", 100) == (run.status, json.loads((run_folder(root) / "metadata.json").read_bytes())["nextIndex"])
    assert list(range(100)) == [point["data"]["step"] for point in run.metrics("train").read()["data"]]
    assert 100 == len(list(run.frames("camera").iter()))


def run_folder(root: Path) -> Path:
    return root / "alice/walker/killed/metrics/train"


# -------------------------------------------------------------------------------------------- as a program sees it


def test_the_real_command_says_what_it_found_in_lines_and_in_json(root: Path, tmp_path: Path) -> None:
    stored(root / PREFIX, "best.bin").write_bytes(b"?" * 700)
    append("logs/logs.jsonl", b"{")(root / PREFIX)

    def program(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "ml_dash", "verify", *arguments]
        options: dict[str, Any] = {"cwd": tmp_path, "env": python_environment(), "stdin": subprocess.DEVNULL}
        return subprocess.run(command, capture_output=True, text=True, timeout=SUBPROCESS_SECONDS, **options)

    plain, as_json = program(), program("--json")
    path = stored(root / PREFIX, "best.bin").relative_to(root / PREFIX)

    assert (1, "", 1, "") == (plain.returncode, plain.stderr, as_json.returncode, as_json.stderr)
    lines = plain.stdout.splitlines()
    assert [
        PREFIX,
        "  warning  logs/logs.jsonl: ends in 1 byte of a line that was never finished; --repair cuts them off",
        f"  error    {path}: is not what was saved: its SHA-256 is another",
    ] == lines[:3]
    assert "something is wrong (1 error, 1 warning)" in lines[3]
    report = json.loads(as_json.stdout)
    assert (PREFIX, False, False) == (report["run"], report["clean"], report["live"])
    assert ["cuts them off", None] == [finding["repair"] for finding in report["findings"]]
