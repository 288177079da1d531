"""What the commands print of a run whose every string holds control characters, in a pipe and on a terminal."""

from __future__ import annotations

import datetime
import json
import re
import sys
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from ml_dash import Experiment, InvalidNameError, open_run
from ml_dash.catalog.removal import plan_removal
from ml_dash.cli import exits, rm
from ml_dash.cli.main import COMMANDS, cli
from ml_dash.cli.table import WIDEST_CELL
from ml_dash.storage import scan
from tests.hostile_text import HOSTILE, KINDS, SURROGATE, forbidden_in, hostile_run, segment
from tests.run_folders import TIME, RunFolder, lines
from tests.terminal import ML_DASH, Terminal

if TYPE_CHECKING:
    from pathlib import Path

STYLE = re.compile(r"\x1b\[(?:[0-9;]*m|K)|\r(?=.*\x1b\[K)")
ROOT = ("-r", "runs")
METRIC = segment(HOSTILE.replace("\n", ""))
TOPIC = HOSTILE.replace("\n", "")
EVERY_COLUMN = "run,name,status,created,ended,duration,tags,project,host,pid,reason,folder,lr,list,quoted"

CALLS = {
    "ls": ("ls", "runs"),
    "ls of a folder": ("ls", *ROOT),
    "ls with columns": ("ls", "runs", "--columns", EVERY_COLUMN),
    "ls with the name of a parameter": ("ls", "runs", "--columns", HOSTILE + SURROGATE),
    "ls of a place that does not exist": ("ls", *ROOT, HOSTILE),
    "ls below a root that does not exist": ("ls", "-r", HOSTILE),
    "ls with a tag": ("ls", *ROOT, "--tag", HOSTILE),
    "ls with a column that does not exist": ("ls", *ROOT, "--columns", f"no{HOSTILE}"),
    "ls with a condition": ("ls", *ROOT, "--param", HOSTILE),
    "ls with a time": ("ls", *ROOT, "--since", HOSTILE),
    "ls with an option that does not exist": ("ls", f"--{HOSTILE}"),
    "ls with a choice that does not exist": ("ls", "--sort", HOSTILE),
    "a command that does not exist": (HOSTILE,),
    "show": ("show", "seed-1", *ROOT),
    "show --all": ("show", "seed-1", "--all", *ROOT),
    "show of no run": ("show", HOSTILE, *ROOT),
    "show with too many arguments": ("show", "seed-1", HOSTILE),
    "tail": ("tail", "seed-1", *ROOT),
    "tail that follows": ("tail", "seed-1", "-f", *ROOT),
    "tail of a run that was killed": ("tail", "killed", "-f", *ROOT),
    "tail with a number that is none": ("tail", "seed-1", "-n", HOSTILE),
    "diff": ("diff", "seed-1", "seed-2", *ROOT),
    "diff --all": ("diff", "seed-1", "seed-2", "--all", *ROOT),
    "plot": ("plot", "seed-1", "loss/value", *ROOT),
    "plot with an axis": ("plot", "seed-1", "loss/value", "--x", HOSTILE + SURROGATE, *ROOT),
    "plot of a field that is not named": ("plot", "seed-1", "loss", *ROOT),
    "plot of a metric that does not exist": ("plot", "seed-1", HOSTILE, *ROOT),
    "plot of a hostile metric": ("plot", "seed-1", METRIC, "--field", "loss", *ROOT),
    "plot into a picture": ("plot", "seed-1", "loss/value", "--png", f"{HOSTILE}.png", *ROOT),
    "plot into no folder": ("plot", "seed-1", "loss/value", "--png", f"{HOSTILE}/x.png", *ROOT),
    "video of a topic that does not exist": ("video", "seed-1", "none", "-o", "x.mp4", *ROOT),
    "video of frames that are damaged": ("video", "seed-1", TOPIC, "-o", "x.mp4", *ROOT),
    "video of an ending that does not exist": ("video", "seed-1", TOPIC, "-o", HOSTILE, *ROOT),
    "export": ("export", "seed-1", "--to", "csv", "-o", f"csv{HOSTILE}", *ROOT),
    "export again": ("export", "seed-1", "--to", "csv", "-o", f"csv{HOSTILE}", *ROOT),
    "export to parquet": ("export", "seed-1", "--to", "parquet", *ROOT),
    "export to zip": ("export", "seed-1", "--to", "zip", *ROOT),
    "verify": ("verify", *ROOT),
    "verify of one run": ("verify", "seed-1", *ROOT),
    "verify of no run": ("verify", HOSTILE, *ROOT),
    "verify --repair": ("verify", "--repair", *ROOT),
    "rm without an answer": ("rm", "seed-1", *ROOT),
    "rm of no run": ("rm", HOSTILE, *ROOT),
    "rm of a live run": ("rm", "live", *ROOT),
    "rm": ("rm", "--yes", "seed-2", *ROOT),
    "doctor": ("doctor", HOSTILE),
    "completion": ("completion", HOSTILE),
    "version": ("version", HOSTILE),
}
"""Calls in the order in which they are made."""

FINE = ("ls", "ls of a folder", "ls with columns", "show", "show --all", "tail", "diff", "diff --all", "plot", "rm")
FINE += ("plot of a hostile metric", "plot into a picture", "export", "export to parquet", "export to zip")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    root = tmp_path / "runs"
    hostile_run(root, "seed-1")
    hostile_run(root, "seed-2", status="COMPLETED")
    hostile_run(root, "killed", status="RUNNING", heartbeat_at="2020-01-01\x9b05:24:59Z")
    now = datetime.datetime.now(datetime.UTC).isoformat("\x9b")
    hostile_run(root, "live", status="RUNNING", heartbeat_at=now)
    (root / segment() / "not json").mkdir()
    (root / segment() / "not json/experiment.json").write_bytes(f'{{"status": {HOSTILE}'.encode())
    return tmp_path


def test_every_command_is_called() -> None:
    assert set(COMMANDS) == {arguments[0] for arguments in CALLS.values()} - {HOSTILE}


def test_a_pipe_gets_ink_alone_and_json_gets_json(place: Path) -> None:
    for name, arguments in CALLS.items():
        for json_option in ([], ["--json"]):
            done = CliRunner().invoke(cli, [*arguments, *json_option], prog_name="ml-dash")
            printed, said = done.stdout_bytes.decode(), done.stderr_bytes.decode()

            assert [] == forbidden_in(printed), f"{name}: {printed!r}"
            assert [] == forbidden_in(said), f"{name}: {said!r}"
            assert exits.INTERNAL != done.exit_code, said
            if name in FINE and not (json_option and name in {"export", "export to parquet", "export to zip", "rm"}):
                assert exits.OK == done.exit_code, f"{name}: {said}"
            if json_option:
                assert all(json.loads(line) is not None for line in printed.splitlines()), name


PROGRAM = """
import json, sys
from ml_dash.cli.main import cli
from ml_dash.cli.output import prepare_streams

prepare_streams()
for name, arguments in json.load(open(sys.argv[1])).items():
    try:
        cli.main(arguments, prog_name="ml-dash")
    except SystemExit as end:
        assert end.code != 3, name
"""


def test_a_terminal_gets_ink_and_styles_alone(place: Path) -> None:
    (place / "program.py").write_text(PROGRAM)
    (place / "calls.json").write_text(json.dumps(CALLS))
    terminal = Terminal(sys.executable, "program.py", "calls.json", cwd=place, columns=100)
    terminal.send("n\nn\n")  # to the question of rm, also about the live run if this takes longer than a minute

    printed, status = terminal.end()

    assert 0 == status, printed
    assert [] == forbidden_in(STYLE.sub("", printed)), ascii(printed)
    assert "nothing was removed" in printed


def test_a_terminal_gets_no_style_that_a_run_holds(place: Path) -> None:
    terminal = Terminal(*ML_DASH, "show", "seed-1", *ROOT, cwd=place, columns=100, NO_COLOR="1")

    printed, status = terminal.end()

    assert (0, []) == (status, forbidden_in(printed))
    assert "\\x1b[31m" in printed


@pytest.mark.parametrize("kind", KINDS)
def test_runs_with_different_names_look_different(kind: str, tmp_path: Path) -> None:
    names = {"ab", f"a{KINDS[kind]}b", "a b", "a    b", "ab ", " ab"}
    names |= {f"a{KINDS[kind]}b".encode("unicode_escape").decode()}
    for name in names:
        RunFolder(tmp_path, f"p/{name}")

    shown = CliRunner().invoke(cli, ["ls", str(tmp_path), "--columns", "run"]).stdout.splitlines()[1:]

    assert len(names) == len(set(shown)) == len(shown)


def test_a_wide_cell_makes_no_other_line_wide(tmp_path: Path) -> None:
    for number in range(3):
        RunFolder(tmp_path, f"a/b/{number}", status="x" * 100_000 if number else "COMPLETED").params(
            **{"k" * 100_000: 1}
        )

    listed = CliRunner().invoke(cli, ["ls", str(tmp_path)]).stdout.splitlines()
    shown = CliRunner().invoke(cli, ["show", "0", "-r", str(tmp_path)]).stdout.splitlines()
    document = json.loads(CliRunner().invoke(cli, ["show", "0", "--json", "-r", str(tmp_path)]).stdout)

    assert all(len(line) < WIDEST_CELL + 100 for line in [*listed, *shown])
    assert any(len(line) > WIDEST_CELL for line in listed)
    assert ["k" * 100_000] == list(document["params"])


def test_a_warning_about_folders_is_printable() -> None:
    text = scan.left_out([scan.Unreadable(f"/runs/{segment()}", "Permission denied")], "/runs")

    assert text.startswith("1 folder cannot be read")
    assert [] == forbidden_in(text)


@pytest.mark.parametrize("value", [[1], {"a": 1}, 1.5, True, "", [HOSTILE]], ids=ascii)
def test_a_document_with_another_type_where_text_belongs_ends_no_command(value: object, tmp_path: Path) -> None:
    facts = ("status", "status_reason", "host", "pid", "description", "tags", "name", "project", "prefix", "created_at")
    facts += ("started_at", "ended_at", "heartbeat_at", "bindrs", "metadata", "active_seconds", "frames_written")
    for name in ("one", "two"):
        run = RunFolder(tmp_path, f"a/b/{name}")
        run.change("experiment.json", **dict.fromkeys(facts, value))
        run.params(lr=1)
        run.document(
            "environment.json", process=value, python=value, system=value, code=value, packages=value, gpus=value
        )
        run.write("logs/logs.jsonl", lines(dict.fromkeys(("sequenceNumber", "timestamp", "level", "message"), value)))
        run.metric("loss", {"value": 1.0}, {"value": value}, {"_ts": value})
        run.file("a.txt", b"x", 1)
        run.change("files/.files_metadata.json", files=value)
    root = ("-r", str(tmp_path))

    for arguments in (
        ("ls", str(tmp_path)),
        ("ls", str(tmp_path), "--columns", EVERY_COLUMN),
        ("ls", str(tmp_path), "--where", "status = failed or created > 1d or host ~ a or tags has x or name = 1"),
        *(("ls", str(tmp_path), "--sort", by) for by in ("created", "name", "status", "duration")),
        ("show", "one", *root),
        ("tail", "one", *root),
        ("diff", "one", "two", *root),
        *(("export", "one", "--to", kind, "--force", "-o", str(tmp_path / kind), *root) for kind in ("csv", "zip")),
        ("verify", *root),
        ("plot", "one", "loss/value", *root),
        ("rm", "two", "--yes", *root),
    ):
        for json_option in ([], ["--json"]):
            done = CliRunner().invoke(cli, [*arguments, *json_option], prog_name="ml-dash")
            assert exits.INTERNAL != done.exit_code, done.stderr
            if arguments[0] == "rm":
                break


def test_the_question_of_rm_shows_a_status_of_any_type(tmp_path: Path) -> None:
    run = RunFolder(tmp_path, "a/b/c", status=[1])

    lines_of_question = rm._lines([plan_removal(str(run.folder), run.prefix, str(tmp_path), recursive=False)])

    assert "[1]" in lines_of_question[1]


def test_the_heartbeat_of_a_live_run_is_printable_in_verify(tmp_path: Path) -> None:
    beat = datetime.datetime.now(datetime.UTC).isoformat("\x9b")
    host = {"host": "h\x1b[31m", "pid": "\u202e7"}
    run = RunFolder(tmp_path, "a/b/c", status="RUNNING", ended_at=None, heartbeat_at=beat, **host)
    run.write("logs/logs.jsonl", b"{broken\n")

    done = CliRunner().invoke(cli, ["verify", "c", "-r", str(tmp_path)])

    assert [] == forbidden_in(done.stdout)
    assert beat.replace("\x9b", "\\x9b") in done.stdout


@pytest.mark.parametrize("data", ["\x1b]52;c;cm0g\x07", ["\u202e"], None, 5], ids=ascii)
def test_a_point_that_is_no_object_is_printable_in_tail(data: object, tmp_path: Path) -> None:
    RunFolder(tmp_path, "a/b/c").write("metrics/m/data.jsonl", lines({"index": 0, "data": data, "createdAt": TIME}))

    done = CliRunner().invoke(cli, ["tail", "c", "-r", str(tmp_path)])

    assert (exits.OK, []) == (done.exit_code, forbidden_in(done.stdout)), done.stderr


def test_the_path_of_a_picture_is_printable_in_plot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    RunFolder(tmp_path, "a/b/c").metric("m", {"x": 1.0}, {"x": 2.0})

    done = CliRunner().invoke(cli, ["plot", "c", "m/x", "-r", ".", "--png", "a\x1b[31m\u202e.png"])

    assert f"{tmp_path}/a\\x1b[31m\\u202e.png\n" == done.stdout
    assert (tmp_path / "a\x1b[31m\u202e.png").is_file()


def test_half_of_an_emoji_that_the_api_took_ends_no_command(tmp_path: Path) -> None:
    cut = "cut \ud83d"
    for name in ("one", "two"):
        with Experiment(f"a/b/{name}", dash_root=str(tmp_path), echo=False, readme=cut, tags=[cut]).run as exp:
            exp.log(cut, detail=cut)
            exp.params.set({cut: cut, "only": name + cut})
            exp.metrics("m").log({cut: 1.0, "text": cut})
            exp.track("t").append({cut: cut}, _ts=1.0)
            exp.files.save_text(cut, to="a.txt")
    root = ("-r", str(tmp_path))

    for arguments in (
        ("ls", str(tmp_path), "--columns", EVERY_COLUMN.replace("lr,list,quoted", "only")),
        ("show", "one", *root),
        ("tail", "one", *root),
        ("diff", "one", "two", *root),
        ("verify", *root),
        *(
            ("export", "one", "--to", kind, "-o", str(tmp_path / f"made-{kind}"), *root)
            for kind in ("csv", "parquet", "zip")
        ),
    ):
        done = CliRunner().invoke(cli, arguments, prog_name="ml-dash")
        assert exits.OK == done.exit_code, done.output
        if arguments[0] in {"show", "tail"}:
            assert "cut \\ud83d" in done.stdout


def test_a_metric_of_another_program_is_listed_and_read(tmp_path: Path) -> None:
    run = RunFolder(tmp_path, "a/b/c")
    name = segment("\x1b[31m\n")
    run.write(f"metrics/{name}/data.jsonl", lines({"index": 0, "data": {"x": 1.5, "_ts": 1.0}, "createdAt": TIME}))
    run.write(f"tracks/{name}/data.jsonl", lines({"timestamp": 1.0, "x": 2}))
    reader = open_run("c", tmp_path)

    assert [name] == reader.metrics.list() == [about["name"] for about in reader.metrics.list_all()]
    assert [{"x": 1.5, "_ts": 1.0}] == [point["data"] for point in reader.metrics(name).read()["data"]]
    assert [1.5] == reader.metrics(name).numpy()["x"].tolist()
    assert [name] == reader.tracks.topics()
    assert [{"timestamp": 1.0, "x": 2}] == reader.tracks(name).read()["entries"]
    for other in ("\x1b", "../x", ""):
        with pytest.raises(InvalidNameError):
            reader.metrics(other)
        with pytest.raises(InvalidNameError):
            reader.tracks(other)
