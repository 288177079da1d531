"""How the commands take the names that a person types: places, columns, tags, and what a shell completes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from ml_dash import Experiment
from ml_dash.cli import exits
from ml_dash.cli.main import cli

if TYPE_CHECKING:
    from pathlib import Path

    from click.testing import Result


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working folder with runs below ``.dash``; one of them has metrics."""
    place = tmp_path_factory.mktemp("names")
    with Experiment("bob/hopper/job_0", dash_root=str(place / ".dash"), echo=False, tags=["sweep"]).run as exp:
        exp.params.set(lr=0.1, none=None)
        exp.metrics("train").log(loss=0.5, early=1)
        exp.metrics().log(score=2.0)
    for prefix in ("bob/hopper/job_1", "alice/walker/job_1", "alice/walker/final"):
        (place / ".dash" / prefix).mkdir(parents=True)
        (place / ".dash" / prefix / "experiment.json").write_text("{}")
    (place / "there").mkdir()
    return place


@pytest.fixture(autouse=True)
def _in_the_working_folder(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)


def call(*arguments: str, **environment: str) -> Result:
    return CliRunner().invoke(cli, list(arguments), prog_name="ml-dash", env=environment)


def names(*arguments: str) -> list[str]:
    result = call("ls", "--json", *arguments)
    assert 0 == result.exit_code, result.stderr
    return sorted(json.loads(line)["run"] for line in result.stdout.splitlines())


BOB = ["bob/hopper/job_0", "bob/hopper/job_1"]
ALICE = ["alice/walker/final", "alice/walker/job_1"]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((), ALICE + BOB),
        ((".dash",), ALICE + BOB),
        (("bob/hopper",), BOB),
        (("bob",), BOB),
        (("*/job_1",), ["alice/walker/job_1", "bob/hopper/job_1"]),
        (("-r", ".dash"), ALICE + BOB),
        (("--root", ".dash", "alice/walker"), ALICE),
        (("-r", ".dash/bob"), ["hopper/job_0", "hopper/job_1"]),
        ((".dash/bob",), ["hopper/job_0", "hopper/job_1"]),
        (("bob", "--match", "*_1"), ["bob/hopper/job_1"]),
        (("lr > 0",), ["bob/hopper/job_0"]),
        (("not has(lr)", "--match", "bob"), ["bob/hopper/job_1"]),
        (("--where", "tags has sweep and train/loss < 1"), ["bob/hopper/job_0"]),
        (("bob", "-w", "lr is missing or score > 5"), ["bob/hopper/job_1"]),
        (("score.max = 2 and train/early.min = 1", "-r", ".dash"), ["bob/hopper/job_0"]),
        (("alice", "-w", "not has(lr)"), ALICE),
        (("--where", "has(train)"), ["bob/hopper/job_0"]),
    ],
)
def test_ls_takes_a_folder_or_where_runs_are_below_the_root(arguments: tuple[str, ...], expected: list[str]) -> None:
    assert expected == names(*arguments)


def test_ls_takes_the_prefix_of_a_run_with_brackets(tmp_path: Path) -> None:
    for prefix in ("bob/x[1]/d", "bob/x1/d"):
        (tmp_path / prefix).mkdir(parents=True)
        (tmp_path / prefix / "experiment.json").write_text("{}")

    for arguments in (("bob/x[1]/d",), ("bob/x[1]",), ("--match", "bob/x[1]"), ("-w", "prefix = 'bob/x[1]/d'")):
        assert ["bob/x[1]/d"] == names("-r", str(tmp_path), *arguments)


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (("bob/hoper",), 1, "'bob/hoper' is no folder, and no prefix of runs below "),
        (("bob/hoper",), 1, "did you mean 'bob/hopper'?"),
        (("hopper",), 1, "did you mean 'bob/hopper'?"),
        (("there",), 1, "no runs below "),
        (("there", "-r", ".dash"), 1, "'there' is no folder, and no prefix"),
        (("bob", "-r", "nowhere"), 1, "nowhere' does not exist"),
        (("--tag", "swep"), 1, "no run has the tag 'swep'; did you mean 'sweep'?"),
        (("--tag", "zzz"), 1, "no run has the tag 'zzz'; the tags are sweep"),
        (("bob/hopper/job_1", "--tag", "zzz"), 1, "no run has the tag 'zzz'; none has any"),
        (("--param", "lrr=1"), 1, "no run has a parameter 'lrr'; did you mean 'lr'?"),
        (("--param", "lr=1"), 1, "none of 4 runs fits"),
        (("--where", "lrr = 1"), 1, "no run has a parameter or a metric 'lrr'; did you mean 'lr'?"),
        (("lrr = 1",), 1, "no run has a parameter or a metric 'lrr'; did you mean 'lr'?"),
        (("lr = 1",), 1, "none of 4 runs fits"),
        (("--where", "not stauts = failed"), 1, "did you mean 'status'?"),
        (("--where", "lrr is missing or lr > 0"), 1, "did you mean 'lr'?"),
        (("bob", "--where", "has(lrr)"), 1, "did you mean 'lr'?"),
        (("--param", "lr<O.1"), 1, "'O.1' is none; write digits"),
        (("--where", "tags has swep"), 1, "no run has the tag 'swep'; did you mean 'sweep'?"),
        (("--where", "lr <"), 2, "condition 'lr <', at the end: a value is missing"),
        (("lr <",), 2, "condition 'lr <', at the end: a value is missing"),
        (("lr > 0", "-r", "nowhere"), 1, "nowhere' does not exist"),
        (("--columns", "run,lrr"), 2, "did you mean 'lr'?"),
        (("--columns", "RUN"), 2, "did you mean 'run'?"),
        (("--columns", "train/los", "--json"), 2, "did you mean 'train/loss'?"),
        (("--columns", "/scor"), 2, "did you mean 'score'?"),
        (("--columns", "zzzzz"), 2, "there is run, name, status,"),
    ],
)
def test_a_name_that_nothing_has_is_told_with_the_closest(arguments: tuple[str, ...], status: int, said: str) -> None:
    result = call("ls", *arguments)

    [line] = result.stderr.splitlines()
    assert said in line
    assert (status, "") == (result.exit_code, result.stdout)


def test_a_column_that_only_another_run_has_is_no_mistake() -> None:
    columns = ("--columns", "name,lr,none,train/loss,/score")

    result = call("ls", "bob", *columns)
    hidden = call("ls", "--match", "bob/hopper/job_1", *columns)

    assert ["job_0", "0.1", "-", "0.5", "2.0"] == next(
        line.split() for line in result.stdout.splitlines() if "job_0" in line
    )
    assert (exits.OK, ["job_1", "-", "-", "-", "-"]) == (hidden.exit_code, hidden.stdout.splitlines()[1].split())


def test_a_value_that_was_logged_long_ago_is_no_mistake(tmp_path: Path) -> None:
    journal = tmp_path / "run/metrics/train/data.jsonl"
    journal.parent.mkdir(parents=True)
    (tmp_path / "run/experiment.json").write_text("{}")
    later = '{"data": {"loss": 1.5, "_ts": 2}}\n'
    journal.write_text('{"data": {"early": 1, "_ts": 1}}\n' + later * 3000)

    result = call("ls", str(tmp_path), "--columns", "run,train/early,train/loss")

    assert ["run", "-", "1.5"] == result.stdout.splitlines()[1].split()


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("show bob/", BOB),
        ("show job_0", ["job_0"]),
        ("show job", ["job_0"]),  # two runs end in job_1
        ("show hopper/", ["hopper/job_0", "hopper/job_1"]),
        ("show fin", ["final"]),
        ("show ", [*ALICE, *BOB]),
        ("rm final job_0", ["job_0"]),
        ("plot job_0 tr", ["train/loss", "train/early"]),
        ("plot job_0 ", ["score", "train/loss", "train/early"]),
        ("plot -r .dash job_0 s", ["score"]),
        ("plot nothing t", []),
        ("plot job_1 t", []),
        ("video job_0 c", []),
    ],
)
def test_runs_and_metrics_are_completed(typed: str, expected: list[str]) -> None:
    words = f"ml-dash {typed}"
    environment = {"_ML_DASH_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}

    result = call(**environment)

    found = [line.removeprefix("plain,") for line in result.stdout.splitlines() if line]
    assert expected == found
