"""``ml-dash`` as a program reads it: what it prints into a pipe, its JSON, and how it ends."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest
from click.testing import CliRunner

from ml_dash import Experiment, __version__
from ml_dash.cli import arguments, exits, main
from ml_dash.cli.main import COMMANDS, cli
from tests.support import REPOSITORY, SUBPROCESS_SECONDS, python_environment, run_python

if TYPE_CHECKING:
    from click.testing import Result

SUMMARY_KEYS = {"run", "folder", "project", "tags", "live", "duration_s", "status", "status_reason", "host", "pid"} | {
    "created_at",
    "started_at",
    "ended_at",
}
OVERVIEW_KEYS = (
    SUMMARY_KEYS | {"heartbeat_at", "readme", "metadata", "environment", "params", "metrics", "streams"}
) | {
    "files",
    "tracker",
    "log",
}

# Any use of a socket ends the command at once.
NO_SOCKETS = """
import sys

def refuse(event, arguments):
    if event.startswith("socket."):
        raise SystemExit(f"{event} {arguments}")

sys.addaudithook(refuse)
sys.argv = ["ml-dash", *sys.argv[1:]]
from ml_dash.cli.main import main
main()
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three runs: two that completed, and one that failed, whose names are not ASCII."""
    root = tmp_path_factory.mktemp("cli") / "runs"
    for seed in range(2):
        options: dict[str, Any] = {"tags": ["ppo", f"seed-{seed}"], "readme": "A walker.\n\nIt learns."}
        with Experiment(f"alice/walker/seed-{seed}", dash_root=str(root), echo=False, **options).run as exp:
            exp.params.set(lr=0.1 * (seed + 1), env="Walker2d", layers=4, flag=True)
            for step in range(40):
                exp.metrics("train").log(loss=float(seed + step), reward=-float(step), step=step * 10)
                exp.metrics("eval").log(score=float(step) if step else float("nan"))
            exp.tracks("robot/pose").append(q=[1, 2], _ts=1.0)
            exp.log("started [bold]here[/bold]")
            exp.log("clipped", level="warn", norm=12.5)
            exp.files("models").save_text("weights", to="best.txt")
    with pytest.raises(ZeroDivisionError):
        record_a_failure(root)
    return root


def record_a_failure(root: Path) -> None:
    with Experiment("bob/größe/漢字", dash_root=str(root), echo=False).run as exp:
        exp.metrics().log(loss=2.5)
        exp.log("\x1b[31mred\x1b[0m\nsecond line")
        raise ZeroDivisionError("nothing to divide")


@pytest.fixture(autouse=True)
def _in_the_folder_of_runs(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``--root`` is ``.dash`` unless it is given; here the commands find their runs below ``runs``."""
    monkeypatch.chdir(root.parent)


def call(*arguments: str) -> Result:
    """Run a command in this process."""
    return CliRunner().invoke(cli, list(arguments), prog_name="ml-dash")


def lines(*arguments: str) -> list[str]:
    """What a command that succeeds prints."""
    result = call(*arguments)
    assert 0 == result.exit_code, result.stderr
    return result.stdout.splitlines()


def documents(*arguments: str) -> list[dict[str, Any]]:
    """The JSON that a command that succeeds prints."""
    return [json.loads(line) for line in lines(*arguments, "--json")]


def document(*arguments: str) -> dict[str, Any]:
    [found] = documents(*arguments)
    return found


def program(*arguments: str, cwd: Path, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run the real command."""
    return subprocess.run(
        [sys.executable, "-m", "ml_dash", *arguments],
        cwd=cwd,
        env=python_environment(options.pop("environment", None)),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=SUBPROCESS_SECONDS,
        **({"encoding": "utf-8"} | options),
    )


# ----------------------------------------------------------------------------------------------------- the whole of it


def test_every_command_is_in_the_help_with_the_line_of_the_table() -> None:
    printed = " ".join(" ".join(lines("--help")).split())

    assert [] == [name for name, (_, about) in COMMANDS.items() if f"{name} {about}" not in printed]


def test_without_a_command_the_help_is_printed() -> None:
    assert lines("--help") == lines()


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_and_json(name: str) -> None:
    printed = "\n".join(lines(name, "--help"))

    assert f"ml-dash {name}" in printed
    assert "--json" in printed


def test_the_help_loads_nothing_heavy(tmp_path: Path) -> None:
    code = """
import sys
from ml_dash.cli.main import cli
cli.main(["--help"], prog_name="ml-dash", standalone_mode=False)
heavy = {"wcwidth", "numpy", "pyarrow", "cv2", "pandas", "httpx", "wandb", "orjson", "ml_dash.experiment"}
print(sorted(heavy & set(sys.modules)))
"""
    assert "[]" == run_python(code, tmp_path).splitlines()[-1]


def test_listing_runs_loads_neither_numpy_nor_pyarrow(root: Path) -> None:
    code = """
import sys
from ml_dash.cli.main import cli
cli.main(["ls", "runs"], prog_name="ml-dash", standalone_mode=False)
print(sorted({"numpy", "pyarrow", "cv2", "pandas"} & set(sys.modules)))
"""
    assert "[]" == run_python(code, root.parent).splitlines()[-1]


@pytest.mark.parametrize(
    "arguments",
    [
        ("ls", "runs"),
        ("show", "seed-0", "-r", "runs"),
        ("tail", "seed-0", "-r", "runs"),
        ("diff", "seed-0", "seed-1", "-r", "runs"),
        ("plot", "seed-0", "eval", "-r", "runs"),
        ("version",),
        ("completion", "bash"),
    ],
    ids=lambda arguments: arguments[0],
)
def test_no_command_opens_a_socket(root: Path, arguments: tuple[str, ...]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", NO_SOCKETS, *arguments],
        cwd=root.parent,
        env=python_environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SUBPROCESS_SECONDS,
    )

    assert (0, "") == (done.returncode, done.stderr)
    assert done.stdout


def test_a_reader_that_goes_away_is_no_error(root: Path) -> None:
    command = f"{sys.executable} -m ml_dash tail seed-0 -r runs -n 40 | true; exit ${{PIPESTATUS[0]}}"

    done = subprocess.run(
        ["bash", "-c", command], cwd=root.parent, env=python_environment(), capture_output=True, text=True
    )

    assert (exits.PIPE_CLOSED, "") == (done.returncode, done.stderr)


CLOSED = (
    "ls runs",
    "show seed-0 -r runs",
    "tail seed-0 -r runs",
    "diff seed-0 seed-1 -r runs",
    "plot seed-0 eval -r runs",
    "verify -r runs",
    "version",
    "completion bash",
    "doctor",
    "--help",
    "--version",
)


def in_a_shell(command: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command line in which ``ml-dash`` is the real command."""
    script = f'ml-dash() {{ {sys.executable} -m ml_dash "$@"; }}; {command}'
    return subprocess.run(
        ["bash", "-c", script],
        cwd=cwd,
        env=python_environment(environment),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SUBPROCESS_SECONDS,
    )


@pytest.mark.parametrize("command", CLOSED)
def test_a_closed_output_ends_a_command_in_one_line(command: str, root: Path) -> None:
    done = in_a_shell(f"ml-dash {command} >&-", root.parent)

    assert (exits.NOT_FOUND, "") == (done.returncode, done.stdout)
    assert ["ml-dash: the output is closed; send it to /dev/null if only the exit status counts"] == (
        done.stderr.splitlines()
    )


def test_nothing_is_removed_where_the_output_is_closed(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run/experiment.json").write_text("{}")

    done = in_a_shell("ml-dash rm run -r . -y >&-", tmp_path)

    assert (exits.NOT_FOUND, True) == (done.returncode, (tmp_path / "run/experiment.json").exists())


def test_the_other_streams_may_be_closed(root: Path) -> None:
    listed = in_a_shell("ml-dash ls runs <&- 2>&-", root.parent)
    failed = in_a_shell("ml-dash ls nowhere 2>&-", root.parent)
    asked = in_a_shell("ml-dash rm seed-0 -r runs <&-", root.parent)

    assert (exits.OK, 4) == (listed.returncode, len(listed.stdout.splitlines()))
    assert (exits.NOT_FOUND, "") == (failed.returncode, failed.stdout)
    assert (exits.USAGE, True) == (asked.returncode, "nobody can be asked" in asked.stderr)


@pytest.mark.parametrize("command", ["ls runs", "--help", "--version"])
def test_a_full_disk_behind_the_output_is_told_in_one_line(command: str, root: Path) -> None:
    done = in_a_shell(f"ml-dash {command} >/dev/full", root.parent)

    assert (exits.NOT_FOUND, "ml-dash: No space left on device\n") == (done.returncode, done.stderr)


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """More runs than fit a pipe when they are listed."""
    root = tmp_path_factory.mktemp("many")
    for number in range(1500):
        folder = root / f"owner/a-project-with-a-name-of-some-length/seed-{number}"
        folder.mkdir(parents=True)
        (folder / "experiment.json").write_text('{"status": "COMPLETED"}')
    return root


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("option", ["", "--json"])
def test_long_output_is_written_whole_and_a_reader_that_goes_away_is_noticed(
    many: Path, option: str, unbuffered: str
) -> None:
    whole = in_a_shell(f"ml-dash ls . {option}", many, PYTHONUNBUFFERED=unbuffered)
    cut = in_a_shell(f"ml-dash ls . {option} | head -1; exit ${{PIPESTATUS[0]}}", many, PYTHONUNBUFFERED=unbuffered)

    assert (exits.OK, 1500 + (not option)) == (whole.returncode, len(whole.stdout.splitlines()))
    assert len(whole.stdout) > 65_536
    assert (exits.PIPE_CLOSED, "", whole.stdout.splitlines()[:1]) == (
        cut.returncode,
        cut.stderr,
        cut.stdout.splitlines(),
    )


def test_names_that_the_output_cannot_hold_are_escaped(root: Path) -> None:
    done = program("ls", "runs", cwd=root.parent, environment={"PYTHONIOENCODING": "latin-1"}, encoding="latin-1")

    assert 0 == done.returncode, done.stderr
    assert "bob/größe/\\u6f22\\u5b57" in done.stdout


def test_a_name_that_is_no_text_is_listed(tmp_path: Path) -> None:
    folder = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9")
    Path(folder).mkdir()
    (Path(folder) / "experiment.json").write_text("{}")

    assert "caf\\udce9" in program("ls", str(tmp_path), cwd=tmp_path).stdout
    assert "caf\udce9" == json.loads(program("ls", str(tmp_path), "--json", cwd=tmp_path).stdout)["run"]


def test_a_defect_is_told_as_one_with_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: str) -> str:
        raise LookupError("a defect")

    monkeypatch.setattr(arguments, "require_folder", fail)
    monkeypatch.setattr("ml_dash.cli.ls.require_folder", fail)

    result = call("ls", "runs")

    assert exits.INTERNAL == result.exit_code
    assert "Traceback" in result.stderr
    assert "ml-dash: this is an error of ml-dash itself (LookupError)" in result.stderr.splitlines()[-1]


def test_ctrl_c_ends_a_command_with_130(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_: str) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr("ml_dash.cli.ls.require_folder", interrupted)

    assert exits.INTERRUPTED == call("ls", "runs").exit_code


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("plot", "seed-0", "eval", "-r", "runs", "--png", "x.jpg"), "let the name end in .png"),
        (("ls", "runs", "--status", "done"), "'done' is not one of 'running', 'completed'"),
        (("ls", "runs", "--param", "lr>>1"), "--param 'lr>>1' is no condition"),
        (("ls", "runs", "--param", "lr>"), "--param 'lr>' is no condition"),
        (("ls", "runs", "--columns", "run,lrr"), "--columns 'lrr': no column"),
        (("lss",), "no command 'lss'; did you mean 'ls'?"),
        (("frobnicate",), "see ml-dash --help"),
        (("ls", "--statsu", "failed"), "--statsu"),
        (("ls", "runs", "--since", "yesterday"), "--since 'yesterday' is no time"),
        (("ls", "runs", "--param", "lr"), "--param 'lr' is no condition"),
        (("plot", "seed-0", "train", "-r", "runs"), "train/loss, train/reward"),
        (("plot", "seed-0", "train/loss", "-r", "runs", "--x", "lap"), "no such field; it has loss, reward, step"),
        (("plot", "seed-0", "eval", "-r", "runs", "--png", "x.png", "--width", "3"), "pixels"),
        (("show",), "RUN"),
    ],
)
def test_wrong_usage_ends_with_2_and_says_what_is_wrong(arguments: tuple[str, ...], said: str) -> None:
    result = call(*arguments)

    assert exits.USAGE == result.exit_code
    assert said in " ".join(result.stderr.split())
    assert "" == result.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("ls", "nowhere"), "does not exist"),
        (("ls", "runs/alice/walker/seed-0/experiment.json"), "is no folder"),
        (("ls", "runs", "--tag", "ppo", "--status", "failed"), "none of 3 runs fits"),
        (("show", "seed-9", "-r", "runs"), "there is 'alice/walker/seed-1'"),
        (
            ("show", "alice/walker", "-r", "runs"),
            "is no run, but 'alice/walker/seed-0', 'alice/walker/seed-1' below it",
        ),
        (("show", "seed-0"), ".dash' does not exist"),
        (("tail", "nothing", "-r", "runs"), "no run 'nothing'"),
        (("diff", "seed-0", "nothing", "-r", "runs"), "no run 'nothing'"),
        (("plot", "seed-0", "nothing", "-r", "runs"), "its metrics: eval, train"),
        (("plot", "seed-0", "train/nothing", "-r", "runs"), "it has loss, reward, step"),
        (("plot", "seed-0", "eval", "-r", "runs", "--png", "nowhere/x.png"), "nowhere' does not exist"),
    ],
)
def test_what_is_not_there_ends_with_1_and_one_line(arguments: tuple[str, ...], said: str) -> None:
    result = call(*arguments)

    assert exits.NOT_FOUND == result.exit_code
    assert "" == result.stdout
    [line] = result.stderr.splitlines()
    assert line.startswith("ml-dash: ")
    assert said in line


@pytest.mark.parametrize("arguments", [("ls", "empty"), ("show", "x", "-r", "empty"), ("ls", "empty", "--json")])
def test_an_empty_root_is_told_in_one_line(root: Path, arguments: tuple[str, ...]) -> None:
    (root.parent / "empty").mkdir(exist_ok=True)

    result = call(*arguments)

    assert (exits.NOT_FOUND, "") == (result.exit_code, result.stdout)
    assert result.stderr.startswith("ml-dash: no runs below ")


# ------------------------------------------------------------------------------------------------------------------- ls


def test_ls_lists_the_newest_run_last_with_whole_values() -> None:
    heading, *rows = lines("ls", "runs")

    assert ["RUN", "STATUS", "CREATED", "DURATION_S", "TAGS"] == heading.split()
    assert all(re.fullmatch(r"\d+\.\d{3}", row.split()[3]) for row in rows)
    assert ["alice/walker/seed-0", "alice/walker/seed-1", "bob/größe/漢字"] == [row.split()[0] for row in rows]
    assert ["completed", "completed", "failed"] == [row.split()[1] for row in rows]
    assert "ppo,seed-0" == rows[0].split()[-1]
    assert rows[0].split()[2] == documents("ls", "runs")[0]["created_at"]


def test_ls_as_json_is_an_object_for_each_run(root: Path) -> None:
    first, *_, last = documents("ls", "runs")

    assert SUMMARY_KEYS == set(first)
    assert "alice/walker/seed-0" == first["run"]
    assert str(root / "alice/walker/seed-0") == first["folder"]
    assert ("COMPLETED", False, ["ppo", "seed-0"]) == (first["status"], first["live"], first["tags"])
    assert 0 <= first["duration_s"] < SUBPROCESS_SECONDS
    assert ("FAILED", "ZeroDivisionError: nothing to divide") == (last["status"], last["status_reason"])


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--match", "alice"), ["seed-0", "seed-1"]),
        (("--match", "alice/*/seed-[1]"), ["seed-1"]),
        (("--match", "ali"), None),
        (("--tag", "ppo", "--tag", "seed-1"), ["seed-1"]),
        (("--status", "failed"), ["漢字"]),
        (("--status", "FAILED", "--status", "completed"), ["seed-0", "seed-1", "漢字"]),
        (("--status", "live"), None),
        (("--param", "lr=0.1"), ["seed-0"]),
        (("--param", "lr>0.1", "--param", "env=Walker2d"), ["seed-1"]),
        (("--since", "1h"), ["seed-0", "seed-1", "漢字"]),
        (("--until", "1h"), None),
        (("--since", "2020-01-01", "--until", "2100-01-01T00:00:00+02:00"), ["seed-0", "seed-1", "漢字"]),
        (("--sort", "name", "--reverse"), ["漢字", "seed-1", "seed-0"]),
        (("--sort", "status"), ["seed-0", "seed-1", "漢字"]),
        (("--limit", "2"), ["seed-1", "漢字"]),
        (("-n", "1", "--sort", "name", "--match", "alice"), ["seed-1"]),
    ],
)
def test_ls_filters_orders_and_limits(options: tuple[str, ...], expected: list[str] | None) -> None:
    result = call("ls", "runs", "--json", *options)

    names = [json.loads(line)["run"].rsplit("/", 1)[-1] for line in result.stdout.splitlines()]
    assert (expected or []) == names
    assert (exits.NOT_FOUND if expected is None else exits.OK) == result.exit_code


def test_ls_shows_the_columns_that_are_asked_for() -> None:
    columns = "name,lr,train/loss,train/step,/loss"

    rows = [line.split() for line in lines("ls", "runs", "--columns", columns)]
    found = [run["columns"] for run in documents("ls", "runs", "--columns", columns)]

    assert ["NAME", "lr", "train/loss", "train/step", "/loss"] == rows[0]
    assert ["seed-1", "0.2", "40.0", "390", "-"] == rows[2]
    assert ["漢字", "-", "-", "-", "2.5"] == rows[3]
    assert {
        "name": "seed-0",
        "lr": 0.1,
        "train/loss": 39.0,
        "train/step": 390,
        "/loss": None,
    } == found[0]


def test_ls_survives_runs_of_other_clients_and_damaged_ones(tmp_path: Path) -> None:
    for name, text in (("old", '{"name": "old", "tags": null}'), ("cut", '{"name": "cu'), ("odd", '{"created_at": 5}')):
        (tmp_path / name).mkdir()
        (tmp_path / name / "experiment.json").write_text(text)

    rows = [line.split() for line in lines("ls", str(tmp_path))[1:]]

    assert [["cut", "-", "-", "-"], ["odd", "-", "5", "-"], ["old", "-", "-", "-"]] == rows


# ----------------------------------------------------------------------------------------------------------------- show


def test_show_has_a_section_for_everything() -> None:
    printed = lines("show", "seed-1", "-r", "runs")

    assert printed[0].startswith("alice/walker/seed-1  completed after ")
    for heading in ("Parameters", "Metrics", "Streams", "Files  1 file, 7 B", "Tracker  nothing dropped", "Log"):
        assert any(line.startswith(heading) for line in printed), heading
    text = "\n".join(printed)
    assert "started [bold]here[/bold]" in text
    assert "clipped  norm=12.5" in text
    assert "models/best.txt" in text


def test_show_draws_each_curve_with_its_last_value_and_limits() -> None:
    [loss] = [line.split() for line in lines("show", "seed-1", "-r", "runs") if "train/loss" in line]

    assert ["train/loss", "40", "▁▁▂▂▂▃▃▃▃▄▄▄▅▅▅▆▆▆▆▇▇▇██", "1", "..", "40", "40", "points"] == loss


def test_show_says_that_the_counts_are_of_the_last_opening(tmp_path: Path) -> None:
    counts = []
    for _ in range(2):
        with Experiment("a/b/c", dash_root=str(tmp_path), echo=False).run as exp:
            exp.frames("camera").append(np.zeros((8, 8, 3), np.uint8), format="png")
        counts += [line for line in lines("show", "c", "-r", str(tmp_path)) if "1 frame written" in line]

    assert [False, True] == ["since the last opening" in line for line in counts]


def test_show_tells_why_a_run_failed_and_shows_what_would_control_the_terminal() -> None:
    printed = lines("show", "bob/größe/漢字", "-r", "runs")

    assert "ZeroDivisionError: nothing to divide" == printed[1].strip()
    assert "\\x1b[31mred\\x1b[0m\\nsecond line" in printed[-1]


def test_show_as_json_has_stable_keys() -> None:
    found = document("show", "seed-1", "-r", "runs")

    assert OVERVIEW_KEYS == set(found)
    assert {"lr": 0.2, "env": "Walker2d", "layers": 4, "flag": True} == found["params"]
    facts = {(about["metric"], about["field"]): about for about in found["metrics"]}
    assert {"metric", "field", "count", "nan_count", "last", "min", "max", "mean"} == set(facts["train", "loss"])
    assert (40.0, 1.0, 40.0, 40) == tuple(facts["train", "loss"][key] for key in ("last", "min", "max", "count"))
    assert 1 == facts["eval", "score"]["nan_count"]
    assert [("log", None, 2), ("metric", "eval", 40), ("metric", "train", 40), ("track", "robot/pose", 1)] == [
        (stream["kind"], stream["name"], stream["count"]) for stream in found["streams"]
    ]
    assert (1, 7, "models/best.txt") == (
        found["files"]["count"],
        found["files"]["bytes"],
        found["files"]["newest"][0]["path"],
    )
    assert {"frames_written": 0, "frames_dropped": 0, "records_refused": 0, "tracker_errors": 0} == found["tracker"]
    assert ["started [bold]here[/bold]", "clipped"] == [line["message"] for line in found["log"]]


@pytest.mark.parametrize("name", ["runs/alice/walker/seed-0", "alice/walker/seed-0", "alice/walker/seed-0/", "seed-0"])
def test_a_run_can_be_named_by_folder_prefix_or_the_end_of_it(root: Path, name: str) -> None:
    assert str(root / "alice/walker/seed-0") == document("show", name, "-r", "runs")["folder"]


def test_an_end_that_several_runs_have_is_refused_with_their_names(root: Path, tmp_path: Path) -> None:
    for prefix in ("a/one/last", "b/two/last"):
        (tmp_path / prefix).mkdir(parents=True)
        (tmp_path / prefix / "experiment.json").write_text("{}")

    result = call("show", "last", "-r", str(tmp_path))

    assert exits.NOT_FOUND == result.exit_code
    assert "2 runs end in 'last': a/one/last, b/two/last" in result.stderr


@pytest.mark.parametrize(
    "value",
    ["text", -1, 1.5, None, [], {"a": 1}, 10**400, "0001-01-01T00:00:00+14:00"],
    ids=lambda value: repr(value)[:9],
)
def test_show_survives_whatever_a_damaged_document_holds(tmp_path: Path, value: object) -> None:
    counts = ("frames_written", "frames_dropped", "records_refused", "tracker_errors")
    others = ("status", "status_reason", "created_at", "ended_at", "heartbeat_at", "active_seconds", "tags", "host")
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "experiment.json").write_text(json.dumps(dict.fromkeys((*counts, *others, "description"), value)))

    found = document("show", "run", "-r", str(tmp_path))

    assert dict.fromkeys(counts, 0) == found["tracker"]
    assert "run  " == lines("show", "run", "-r", str(tmp_path))[0][:5]
    assert ["run"] == [row["run"] for row in documents("ls", str(tmp_path))]


def test_a_document_that_nests_too_deep_hides_no_other_run(tmp_path: Path) -> None:
    for name, text in (("deep", "[" * 200_000), ("good", '{"status": "COMPLETED"}')):
        (tmp_path / name).mkdir()
        (tmp_path / name / "experiment.json").write_text(text)

    shown = call("show", "deep", "-r", str(tmp_path))

    assert [["deep", "-"], ["good", "completed"]] == [row.split()[:2] for row in lines("ls", str(tmp_path))[1:]]
    assert (exits.OK, True) == (shown.exit_code, "no status kept" in shown.stdout)
    assert "is no JSON object" in call("verify", str(tmp_path)).stdout


# ----------------------------------------------------------------------------------------------------------------- diff


def test_diff_shows_what_differs_and_nothing_else() -> None:
    printed = [line.split() for line in lines("diff", "seed-0", "seed-1", "-r", "runs")]

    assert ["~", "lr", "0.1", "->", "0.2"] in printed
    assert ["~", "train/loss", "39.0", "->", "40.0", "+2.6", "%"] in printed
    assert not any("env" in words or "train/reward" in words for words in printed)


def test_diff_as_json_has_stable_keys() -> None:
    found = document("diff", "seed-0", "bob/größe/漢字", "-r", "runs")

    assert {"a", "b", "equal", "params", "environment", "packages", "code", "metrics"} == set(found)
    assert not found["equal"]
    assert ["lr", "env", "layers", "flag"] == list(found["params"]["removed"])
    assert {} == found["params"]["added"] | found["params"]["changed"]
    assert {"b": 2.5} == found["metrics"]["loss"]
    assert {"a": 39.0} == found["metrics"]["train/loss"]


def test_a_run_is_equal_to_itself() -> None:
    assert document("diff", "seed-0", "seed-0", "-r", "runs")["equal"]
    assert "the same parameters, environment and code" == lines("diff", "seed-0", "seed-0", "-r", "runs")[-1]


@pytest.mark.parametrize(
    ("changes", "which", "expected"),
    [
        (("+one\n", "+one\n"), None, []),
        (("", "+one\n"), "b", ["+one"]),
        (("+one\n", ""), "a", ["+one"]),
        (("+one\n", "+two\n"), "both", ["-+one", "++two"]),
    ],
)
def test_diff_compares_the_code_that_was_recorded(
    tmp_path: Path, changes: tuple[str, str], which: str | None, expected: list[str]
) -> None:
    for name, text, commit in (("a", changes[0], "c0ffee"), ("b", changes[1], "badcab")):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "experiment.json").write_text("{}")
        code = {"commit": commit, "branch": "main", "dirty": bool(text)}
        packages = {"numpy": "2.0" if name == "a" else "2.1"}
        (folder / "environment.json").write_text(json.dumps({"code": code, "packages": packages, "complete": True}))
        if text:
            (folder / "code.diff").write_text(text)

    found = document("diff", "a", "b", "-r", str(tmp_path))
    printed = lines("diff", "a", "b", "-r", str(tmp_path))

    assert ("c0ffee", "badcab", True) == (
        found["code"]["a"]["commit"],
        found["code"]["b"]["commit"],
        found["code"]["changed"],
    )
    assert which == found["code"]["diff_of"]
    assert expected == [line for line in found["code"]["diff"] if not line.startswith(("---", "+++", "@@"))]
    assert {"numpy": {"a": "2.0", "b": "2.1"}} == found["packages"]["changed"]
    assert any("c0ffee on main" in line for line in printed)
    assert [] == [line for line in expected if f"  {line}" not in printed]


# ----------------------------------------------------------------------------------------------------------------- plot


@pytest.mark.parametrize(
    ("arguments", "label", "x_label"),
    [
        (("seed-1", "train/loss"), "train/loss", "step"),
        (("seed-1", "train", "--field", "reward"), "train/reward", "step"),
        (("seed-1", "train/loss", "--x", "index"), "train/loss", "index"),
        (("seed-1", "train/loss", "--x", "time"), "train/loss", "seconds"),
        (("seed-1", "train/loss", "--x", "reward"), "train/loss", "reward"),
        (("seed-1", "eval"), "eval/score", "index"),
        (("漢字", "loss"), "loss", "index"),
        (("漢字", "None"), "loss", "index"),
    ],
)
def test_plot_draws_the_field_that_is_meant(arguments: tuple[str, ...], label: str, x_label: str) -> None:
    title, *drawn = lines("plot", *arguments, "-r", "runs")

    assert label == title.split()[0]
    assert drawn[-1].endswith(x_label)
    assert any("⠀" < letter <= "⣿" for letter in "".join(drawn))


def test_plot_as_json_has_the_points() -> None:
    found = document("plot", "seed-1", "train/loss", "-r", "runs")

    assert ("alice/walker/seed-1", "train", "loss", "step") == tuple(
        found[key] for key in ("run", "metric", "field", "x_label")
    )
    assert [step * 10.0 for step in range(40)] == found["x"]
    assert [1.0 + step for step in range(40)] == found["y"]
    assert "NaN" == document("plot", "seed-1", "eval", "-r", "runs")["y"][0]


def test_plot_writes_a_picture_of_the_size_that_is_asked_for(tmp_path: Path) -> None:
    target = tmp_path / "loss.png"

    printed = lines(
        "plot", "seed-1", "train/loss", "-r", "runs", "--png", str(target), "--width", "300", "--height", "200"
    )

    assert [str(target)] == printed
    assert (200, 300, 3) == cv2.imread(str(target)).shape
    assert [target] == list(tmp_path.iterdir())


# -------------------------------------------------------------------------------------------------------------- the rest


def test_the_version_is_printed() -> None:
    assert f"ml-dash {__version__}" == lines("version")[0] == lines("--version")[0]
    assert {"ml_dash", "python", "executable", "folder"} == set(document("version"))


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_ask_ml_dash(shell: str) -> None:
    assert f"_ML_DASH_COMPLETE={shell}_complete" in "\n".join(lines("completion", shell))


def test_the_shell_of_the_user_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHELL", "/usr/bin/fish")
    assert "fish" == document("completion")["shell"]

    monkeypatch.setenv("SHELL", "/bin/nologin")
    assert exits.USAGE == call("completion").exit_code


def test_the_names_of_runs_are_completed(root: Path) -> None:
    environment = {"_ML_DASH_COMPLETE": "bash_complete", "COMP_WORDS": "ml-dash show -r runs alice/", "COMP_CWORD": "4"}

    done = program(cwd=root.parent, environment=environment)

    assert ["plain,alice/walker/seed-0", "plain,alice/walker/seed-1"] == done.stdout.splitlines(), done.stderr


def test_the_reference_is_what_the_commands_say() -> None:
    """Run ``python docs/generate_cli.py`` when this fails."""
    spec = spec_from_file_location("generate_cli", REPOSITORY / "docs" / "generate_cli.py")
    assert spec is not None
    assert spec.loader is not None
    generator = module_from_spec(spec)
    spec.loader.exec_module(generator)

    assert generator.PAGE.read_text(encoding="utf-8") == generator.reference()


def test_the_table_names_commands_that_exist() -> None:
    context = main.cli.make_context("ml-dash", ["version"])

    assert [] == [name for name in COMMANDS if name != getattr(cli.get_command(context, name), "name", None)]
