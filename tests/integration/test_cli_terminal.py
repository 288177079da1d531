"""``ml-dash`` on a real terminal: its width and height, colours, and following a run that goes on."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from ml_dash import Experiment
from ml_dash.cli import exits
from ml_dash.cli.formatting import display_width
from tests.support import SUBPROCESS_SECONDS, python_environment, wait_until
from tests.terminal import ML_DASH, Terminal

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

STYLE = re.compile(r"\x1b\[[0-9;]*m")

COMMANDS = (
    ("ls", "."),
    ("show", "seed-0", "-r", "."),
    ("tail", "seed-0", "-r", ".", "-n", "2"),
    ("diff", "seed-0", "seed-1", "-r", "."),
    ("plot", "seed-0", "train/loss", "-r", "."),
)

WIDE = (
    *COMMANDS,
    ("ls", ".", "--columns", "run,env,model.name,long,lr,train/loss"),
    ("ls", ".", "--columns", "run,status,created,duration,tags,project,host,pid,folder,long,lr,train/loss"),
    ("show", "seed-1", "-r", ".", "--all"),
    ("diff", "seed-0", "seed-1", "-r", ".", "--all"),
    ("diff", "seed-0", "seed-0", "-r", "."),
)


def on_terminal(*arguments: str, cwd: Path, columns: int = 80, lines: int = 24, **environment: str) -> str:
    printed, status = Terminal(*ML_DASH, *arguments, cwd=cwd, columns=columns, lines=lines, **environment).end()
    assert 0 == status, printed
    return printed


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs with more of everything than a small screen holds, and with long names."""
    root = tmp_path_factory.mktemp("terminal")
    for seed in range(2):
        prefix = f"größe/{'a-long-project-name-' * 3}漢字/seed-{seed}"
        with Experiment(prefix, dash_root=str(root), echo=False, tags=["tag"] * 5 + ["long-tag-" * 5]).run as exp:
            exp.params.set({f"group.parameter_{number}": "value " * number for number in range(30)})
            exp.params.set(lr=0.1 * (seed + 1), env="Walker2d-v4", long="y" * 50, model={"name": "x" * 40})
            exp.metrics("a/very/long/name").log(with_a_field_of_a_long_name=-1.234567e200 * (seed + 1))
            exp.tracks("robot/with/a/long/name").append(q=[1], _ts=1.0)
            for step in range(100):
                exp.metrics("train").log(
                    {f"field_{number}": step * number for number in range(15)} | {"loss": 1.0 / (step + 1)}
                )
            for number in range(12):
                exp.log("a line that goes on " * 10, number=number)
                exp.files(f"folder/{number}" * 5).save_text("x", to="file.txt")
    return root


@pytest.mark.parametrize("arguments", WIDE, ids=" ".join)
@pytest.mark.parametrize(("columns", "lines"), [(80, 24), (200, 50), (50, 24), (40, 24)])
def test_nothing_but_a_log_line_is_wider_than_the_terminal(
    root: Path, arguments: tuple[str, ...], columns: int, lines: int
) -> None:
    printed = STYLE.sub("", on_terminal(*arguments, cwd=root, columns=columns, lines=lines)).splitlines()

    # `tail` prints lines as they come, in full: what is cut could not be copied.
    assert printed
    assert [] == [line for line in printed if display_width(line) > columns and arguments[0] != "tail"]


@pytest.mark.parametrize("columns", [50, 80, 101])
def test_a_long_reason_fits_the_terminal(tmp_path: Path, columns: int) -> None:
    experiment = Experiment("a/b/c", dash_root=str(tmp_path), echo=False)
    experiment.run.start()
    experiment.run.fail("a reason that goes on " * 20)

    printed = STYLE.sub("", on_terminal("show", "c", "-r", ".", cwd=tmp_path, columns=columns)).splitlines()

    assert printed[1].startswith("  a reason that goes on")
    assert columns == max(display_width(line) for line in printed)


def test_where_the_log_has_more_lines_its_heading_says_so(root: Path) -> None:
    printed = STYLE.sub("", on_terminal("show", "seed-0", "-r", ".", cwd=root))

    assert re.search(r"^Log  the last \d+; see --all$", printed, re.MULTILINE), printed


@pytest.mark.parametrize(("columns", "lines"), [(80, 24), (200, 50)])
@pytest.mark.parametrize("command", ["show", "plot"])
def test_it_fits_the_screen_with_room_for_the_prompt(root: Path, command: str, columns: int, lines: int) -> None:
    arguments = next(arguments for arguments in COMMANDS if arguments[0] == command)

    printed = on_terminal(*arguments, cwd=root, columns=columns, lines=lines)

    assert len(printed.splitlines()) < lines


def test_what_does_not_fit_is_counted_and_shown_with_all(root: Path) -> None:
    short = STYLE.sub("", on_terminal("show", "seed-0", "-r", ".", cwd=root))
    whole = STYLE.sub("", on_terminal("show", "seed-0", "-r", ".", "--all", cwd=root))

    left_out = int(re.search(r"Parameters\n(?:.*\n)*?  \.\.\. and (\d+) more; see --all", short)[1])
    shown = len(re.findall(r"^  .*(?:parameter_|lr)", short, re.MULTILINE))
    assert 34 == left_out + shown
    assert "see --all" not in whole
    assert "group.parameter_29" in whole


@pytest.mark.parametrize("arguments", COMMANDS, ids=lambda arguments: arguments[0])
def test_colours_are_there_unless_they_are_unwanted(root: Path, arguments: tuple[str, ...]) -> None:
    coloured = on_terminal(*arguments, cwd=root, NO_COLOR="")
    plain = on_terminal(*arguments, cwd=root, NO_COLOR="1")
    dumb = on_terminal(*arguments, cwd=root, NO_COLOR="", TERM="dumb")

    assert STYLE.search(coloured)
    assert "\x1b" not in plain + dumb


def test_ls_shows_what_differs_and_how_many_runs_there_are(root: Path) -> None:
    printed = on_terminal("ls", ".", cwd=root, columns=200, NO_COLOR="1")
    heading, *rows, counts = printed.splitlines()

    assert ["RUN", "STATUS", "CREATED", "DURATION", "TAGS", "lr"] == heading.split()
    assert ["0.1", "0.2"] == [row.split()[-1] for row in rows]
    assert "2 runs: 2 completed" == counts
    assert all(" ago " in row for row in rows)


@pytest.fixture
def live(tmp_path: Path) -> Iterator[Experiment]:
    """A run that is being written."""
    with Experiment("alice/live/one", dash_root=str(tmp_path), echo=False).run as exp:
        exp.log("first")
        exp.metrics("train").log(loss=1.0, step=0)
        assert exp.flush()
        yield exp


def test_tail_follows_a_run_until_it_ends(live: Experiment, tmp_path: Path) -> None:
    terminal = Terminal(*ML_DASH, "tail", "one", "-r", ".", cwd=tmp_path, NO_COLOR="1")
    wait_until(lambda: "train loss=1 step=0" in terminal.text, SUBPROCESS_SECONDS)
    live.log("second", level="error", code=7)
    wait_until(lambda: "second  code=7" in terminal.text, SUBPROCESS_SECONDS)
    live.metrics("eval").log(score=0.5)
    wait_until(lambda: "eval score=0.5" in terminal.text, SUBPROCESS_SECONDS)
    live.run.complete()

    printed, status = terminal.end()

    assert exits.OK == status
    assert "ml-dash: alice/live/one completed" == printed.splitlines()[-1]
    assert 4 == len(printed.splitlines()) - 1


def test_ctrl_c_ends_tail_quietly(live: Experiment, tmp_path: Path) -> None:
    terminal = Terminal(*ML_DASH, "tail", "one", "-r", ".", cwd=tmp_path)
    wait_until(lambda: "loss" in terminal.text, SUBPROCESS_SECONDS)

    terminal.process.send_signal(signal.SIGINT)
    printed, status = terminal.end()

    assert exits.INTERRUPTED == status
    assert "Traceback" not in printed
    assert live.flush()  # what is watched goes on


def test_ls_marks_a_live_run(live: Experiment, tmp_path: Path) -> None:
    assert live.flush()
    assert "running ●" in on_terminal("ls", ".", cwd=tmp_path, NO_COLOR="1")


def follow(cwd: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "ml_dash", "tail", "one", "-r", ".", "--follow", *arguments],
        cwd=cwd,
        env=python_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_tail_as_json_misses_nothing_and_repeats_nothing(live: Experiment, tmp_path: Path) -> None:
    with follow(tmp_path, "--json", "-n", "5") as process:
        assert process.stdout is not None
        first = [json.loads(process.stdout.readline()) for _ in range(2)]
        for step in range(1, 3001):
            live.metrics("train").log(loss=0.5, step=step)
        live.log("last")
        live.run.complete()
        *items, end = [json.loads(line) for line in process.stdout]

    assert {"log", "metric"} == {item["stream"] for item in first}
    assert [*range(1, 3001)] == [item["data"]["step"] for item in items if item["stream"] == "metric"]
    assert ["last"] == [item["message"] for item in items if item["stream"] == "log"]
    assert {"stream", "run", "status", "status_reason", "live"} == set(end)
    assert ("status", "COMPLETED", False) == (end["stream"], end["status"], end["live"])
    assert 0 == process.returncode


@pytest.mark.parametrize(
    ("options", "expected"),
    [((), {"log", "metric", "status"}), (("--logs",), {"log", "status"}), (("--metrics",), {"metric", "status"})],
)
def test_tail_shows_the_log_or_the_metrics(root: Path, options: tuple[str, ...], expected: set[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ml_dash", "tail", "seed-0", "-r", ".", "-n", "3", "--json", *options],
        cwd=root,
        env=python_environment(),
        capture_output=True,
        text=True,
        timeout=SUBPROCESS_SECONDS,
    )

    items: list[dict[str, Any]] = [json.loads(line) for line in done.stdout.splitlines()]
    assert expected == {item["stream"] for item in items}
    assert 3 * (len(expected) - 1) + 1 == len(items)


def test_tail_of_a_run_that_was_killed_with_its_machine_ends_with_1(tmp_path: Path) -> None:
    folder = tmp_path / "one"
    folder.mkdir()
    (folder / "experiment.json").write_text('{"status": "RUNNING", "heartbeat_at": "2020-01-01T00:00:00Z"}')

    with follow(tmp_path) as process:
        assert process.stderr is not None
        said = process.stderr.read()

    assert exits.NOT_FOUND == process.returncode
    assert "nothing was heard of one since 2020-01-01T00:00:00Z" in said
