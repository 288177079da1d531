"""What may not be read is told and left alone: by ``verify`` and its repair, by ``ls``, and by ``ml_dash.runs``."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from ml_dash import Experiment
from ml_dash.cli import exits
from tests.support import SUBPROCESS_SECONDS, python_environment

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

RIGHTS = "-dac_override,-dac_read_search"
"""What lets root read everything."""

LOCKED, OTHER = "alice/walker/seed-1", "bob/hopper/seed-2"

pytestmark = pytest.mark.skipif(
    os.geteuid() == 0 and shutil.which("setpriv") is None,
    reason="root may read everything, and there is no setpriv (util-linux) to give that up",
)


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    """Two runs. Whatever a test closes is opened again, so that it can be removed."""
    for prefix in (LOCKED, OTHER):
        with Experiment(prefix, dash_root=str(tmp_path / "runs"), echo=False, record_environment=True).run as exp:
            exp.params.set(lr=0.1)
            exp.log("started")
            exp.metrics("train").log(loss=1.0)
            exp.files("models").save(b"weights", to="best.bin")
    yield tmp_path / "runs"
    for prefix in ("alice", "bob", LOCKED, f"{LOCKED}/sweep"):
        if (tmp_path / "runs" / prefix).exists():
            (tmp_path / "runs" / prefix).chmod(0o700)


def python(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run Python as somebody to whom the rights of files apply."""
    before = ["setpriv", f"--bounding-set={RIGHTS}", f"--inh-caps={RIGHTS}"] if os.geteuid() == 0 else []
    return subprocess.run(
        [*before, sys.executable, *arguments],
        cwd=cwd,
        env=python_environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SUBPROCESS_SECONDS,
    )


def program(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return python("-m", "ml_dash", *arguments, cwd=cwd)


def findings(done: subprocess.CompletedProcess[str]) -> dict[str, list[tuple[str, str, str, str | None]]]:
    """What was found, by run."""
    reports = [json.loads(line) for line in done.stdout.splitlines()]
    keys = ("severity", "path", "problem", "repair")
    return {report["run"]: [tuple(one[key] for key in keys) for one in report["findings"]] for report in reports}


@pytest.mark.parametrize(
    "name",
    [
        "experiment.json",
        "parameters.json",
        "environment.json",
        "metrics/train/metadata.json",
        "metrics/train/data.jsonl",
        "logs/logs.jsonl",
        "files/index.jsonl",
        "files/.files_metadata.json",
        "metrics",
        "metrics/train",
        "logs",
        "files/models",
    ],
)
def test_a_repair_leaves_what_may_not_be_read_and_says_so(name: str, root: Path) -> None:
    place = root / LOCKED / name
    before = sorted(str(path) for path in root.rglob("*"))
    rights = place.stat().st_mode
    place.chmod(0)

    done = program("verify", "-r", ".", "--repair", "--json", cwd=root)
    place.chmod(rights)
    found = findings(done)

    assert exits.NOT_FOUND == done.returncode, done.stderr
    assert ("error", name, "cannot be read: Permission denied", None) in found[LOCKED]
    assert [] == found[OTHER]
    assert before == sorted(str(path) for path in root.rglob("*")), "nothing got another name"
    assert exits.OK == program("verify", "-r", ".", cwd=root).returncode


@pytest.mark.parametrize(
    ("closed", "left"), [(LOCKED, [OTHER]), ("alice", [OTHER]), (f"{LOCKED}/sweep", [LOCKED, OTHER])]
)
def test_a_folder_that_may_not_be_listed_is_told(closed: str, left: list[str], root: Path) -> None:
    (root / closed).mkdir(exist_ok=True)
    (root / closed).chmod(0)
    code = """
import warnings, ml_dash
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    print(*ml_dash.runs(".").prefixes())
print(*(f"{one.category.__name__} {one.filename}: {one.message}" for one in caught), sep="\\n")
"""

    checked = program("verify", "-r", ".", "--json", cwd=root)
    said = program("verify", "-r", ".", cwd=root)
    listed = program("ls", ".", "--json", cwd=root)
    prefixes, *warned = python("-c", code, cwd=root).stdout.splitlines()

    told = f"1 folder cannot be read, and what is in it is left out: {closed} (Permission denied)"
    assert (exits.NOT_FOUND, "") == (checked.returncode, checked.stderr)
    assert {closed: [("error", ".", "cannot be read: Permission denied", None)]} | {name: [] for name in left} == (
        findings(checked)
    )
    assert "something is wrong (1 error)" in said.stdout.splitlines()[-1]
    assert (exits.OK, f"ml-dash: {told}\n") == (listed.returncode, listed.stderr)
    assert left == sorted(json.loads(line)["run"] for line in listed.stdout.splitlines())
    assert " ".join(left) == prefixes
    assert [f"UserWarning <string>: {str(root)!r}: {told}"] == warned


def test_where_no_folder_may_be_listed_there_is_no_advice_to_record_a_run(root: Path) -> None:
    for name in ("alice", "bob"):
        (root / name).chmod(0)

    listed = program("ls", ".", cwd=root)
    checked = program("verify", "alice", "-r", ".", cwd=root)

    assert (exits.NOT_FOUND, "") == (listed.returncode, listed.stdout)
    assert "can be read; 2 folders cannot be read" in listed.stderr
    assert "yet; record one" not in listed.stderr
    assert (exits.NOT_FOUND, True) == (checked.returncode, "error    .: cannot be read" in checked.stdout)
