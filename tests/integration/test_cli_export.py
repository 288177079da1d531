"""``ml-dash export``: what is in the files is what was recorded, and nothing that was there is lost."""

from __future__ import annotations

import csv
import json
import math
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from ml_dash import Experiment, open_run
from ml_dash.cli.main import cli
from tests.support import SUBPROCESS_SECONDS, python_environment, run_python

if TYPE_CHECKING:
    from click.testing import Result

PREFIX = "alice/walker/seed-1"
STREAMS = {"metrics/train", "metrics/train/inner", "metrics/None", "tracks/robot/arm", "frames/camera"}
TABLES = {"params", "logs", "files", *STREAMS}
PARAMS = {"lr": 0.1, "model.layers": 4, "betas": [0.9, 0.999], "name": "1", "none": None, "on": True, "bad": math.inf}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("export") / "runs"
    with Experiment(PREFIX, dash_root=str(root), echo=False, tags=["ppo"]).run as exp:
        exp.params.set(**PARAMS)
        exp.log('it said "hi", and\nwent', level="warn", norm=[1, 2])
        for step in range(5):
            exp.metrics("train").log(loss=1 / (step + 1), nested={"a": step}, values=[step, 0.5], word=f"w{step}")
            exp.metrics("train/inner").log(reward=float("nan") if step == 2 else step / 2)
        exp.metrics().log(x=1)
        exp.tracks("robot/arm").append(q=[1, 2], _ts=1.0)
        exp.tracks("robot/arm").append(v=3, _ts=2.0)
        exp.files("models").save(b"weights" * 50, to="best.pt", metadata={"epoch": 3})
        exp.frames("camera").append(np.zeros((8, 8, 3), np.uint8), _ts=0.5, step=1)
    return root


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def call(root: Path, *arguments: str) -> Result:
    return CliRunner().invoke(cli, ["export", "seed-1", "-r", str(root), *arguments], prog_name="ml-dash")


def names(folder: Path, suffix: str) -> set[str]:
    return {str(path.relative_to(folder).with_suffix("")) for path in folder.rglob(f"*{suffix}")}


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


# --------------------------------------------------------------------------------------------------------------- csv


def test_csv_has_a_file_for_every_stream_with_dotted_columns_and_lists_as_json(root: Path, tmp_path: Path) -> None:
    result = call(root, "--to", "csv")
    made = tmp_path / "seed-1-csv"

    assert (0, True) == (result.exit_code, str(made) in result.stdout)
    assert TABLES == names(made, ".csv")
    points = rows(made / "metrics/train.csv")
    assert ["_index", "_ts", "loss", "nested.a", "values", "word", "_createdAt"] == list(points[0])
    assert [1.0, 0.5, 1 / 3, 0.25, 0.2] == [float(point["loss"]) for point in points]
    assert ([0.0, 0.5], "4", "w4") == (json.loads(points[0]["values"]), points[4]["nested.a"], points[4]["word"])
    assert ["0", "0.5", "nan", "1.5", "2"] == [point["reward"] for point in rows(made / "metrics/train/inner.csv")]
    assert [("1", "[1,2]", ""), ("2", "", "3")] == [
        (row["timestamp"], row["q"], row["v"]) for row in rows(made / "tracks/robot/arm.csv")
    ]


def test_csv_tells_the_types_of_parameters_and_keeps_log_lines_whole(root: Path, tmp_path: Path) -> None:
    call(root, "--to", "csv")
    made = tmp_path / "seed-1-csv"

    params = {row["name"]: (row["type"], row["value"]) for row in rows(made / "params.csv")}
    [line] = rows(made / "logs.csv")
    [file] = rows(made / "files.csv")
    [frame] = rows(made / "frames/camera.csv")

    assert {
        "lr": ("float", "0.1"),
        "model.layers": ("integer", "4"),
        "betas": ("list", "[0.9,0.999]"),
        "name": ("text", "1"),
        "none": ("null", "null"),
        "on": ("boolean", "true"),
        "bad": ("float", "inf"),
    } == params
    assert ('it said "hi", and\nwent', "warn", {"norm": [1, 2]}) == (
        line["message"],
        line["level"],
        json.loads(line["metadata"]),
    )
    assert ("best.pt", "350", {"epoch": 3}) == (file["filename"], file["sizeBytes"], json.loads(file["metadata"]))
    assert ("0", "shard-00000.tar", "[8,8,3]", "1") == (frame["seq"], frame["shard"], frame["shape"], frame["step"])


# ----------------------------------------------------------------------------------------------------------- parquet


def test_parquet_has_the_same_tables_as_the_reader(root: Path, tmp_path: Path) -> None:
    result = call(root, "--to", "parquet")
    made, run = tmp_path / "seed-1-parquet", open_run(PREFIX, root)

    assert (0, TABLES) == (result.exit_code, names(made, ".parquet"))
    for name in ("train", "train/inner"):
        assert str(run.metrics(name).table().to_pylist()) == str(
            pq.ParquetFile(made / f"metrics/{name}.parquet").read().to_pylist()
        )
    assert run.tracks("robot/arm").table().equals(pq.ParquetFile(made / "tracks/robot/arm.parquet").read())
    assert [0] == pq.ParquetFile(made / "logs.parquet").read()["sequenceNumber"].to_pylist()
    assert [0.5] == pq.ParquetFile(made / "frames/camera.parquet").read()["timestamp"].to_pylist()


# --------------------------------------------------------------------------------------------------------------- zip


def test_a_zip_unpacked_into_a_folder_of_runs_is_the_same_run_and_is_clean(root: Path, tmp_path: Path) -> None:
    assert 0 == call(root, "--to", "zip").exit_code

    with zipfile.ZipFile(tmp_path / "seed-1.zip") as archive:
        archive.extractall(tmp_path / "unpacked")
    checked = CliRunner().invoke(cli, ["verify", str(tmp_path / "unpacked")])
    copy, original = open_run(PREFIX, tmp_path / "unpacked"), open_run(PREFIX, root)

    assert 0 == checked.exit_code, checked.output
    assert original.params.get() == copy.params.get()
    assert original.metrics("train").read() == copy.metrics("train").read()
    assert b"weights" * 50 == copy.files.read_bytes("models/best.pt")
    assert (8, 8, 3) == copy.frames("camera").read(0).shape


# ------------------------------------------------------------------------------------------------------ where it goes


def test_what_is_there_already_is_only_replaced_with_force(root: Path, tmp_path: Path) -> None:
    for kind, place in (("zip", "a.zip"), ("csv", "table")):
        assert 0 == call(root, "--to", kind, "-o", place).exit_code
    (tmp_path / "a.zip").write_bytes(b"mine")
    (tmp_path / "table/mine.txt").write_text("mine")

    refused = [call(root, "--to", kind, "-o", place) for kind, place in (("zip", "a.zip"), ("csv", "table"))]
    kept = ((tmp_path / "a.zip").read_bytes(), (tmp_path / "table/mine.txt").exists())
    forced = [call(root, "--to", kind, "-o", place, "--force") for kind, place in (("zip", "a.zip"), ("csv", "table"))]

    assert [2, 2] == [result.exit_code for result in refused]
    assert all("--force replaces it" in result.output for result in refused)
    assert (b"mine", True) == kept
    assert [0, 0] == [result.exit_code for result in forced]
    assert (True, False) == (zipfile.is_zipfile(tmp_path / "a.zip"), (tmp_path / "table/mine.txt").exists())


def test_an_export_that_fails_leaves_nothing_behind(root: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")

    results = [call(root, "--to", kind, "-o", "file/out") for kind in ("csv", "parquet", "zip")]
    unknown = CliRunner().invoke(cli, ["export", "seed-9", "-r", str(root), "--to", "csv"])

    assert [1, 1, 1, 1] == [result.exit_code for result in (*results, unknown)]
    assert ["file"] == [path.name for path in tmp_path.iterdir()]


def test_a_live_run_is_exported_as_it_is_and_goes_on(tmp_path: Path) -> None:
    with Experiment("alice/live/seed-1", dash_root=str(tmp_path), echo=False).run as exp:
        exp.metrics("train").log(loss=1.0)
        exp.files.save(b"bytes", to="a.bin")
        exp.flush()
        with (tmp_path / "alice/live/seed-1/metrics/train/data.jsonl").open("ab") as file:
            file.write(b'{"index": 1, "da')  # a line that is just being written
        statuses = [call(tmp_path, "--to", kind, "-o", f"out-{kind}").exit_code for kind in ("csv", "zip")]
        with zipfile.ZipFile(tmp_path / "out-zip") as archive:
            journal = archive.read("alice/live/seed-1/metrics/train/data.jsonl")

    assert [0, 0] == statuses
    assert ["1"] == [row["loss"] for row in rows(tmp_path / "out-csv/metrics/train.csv")]
    assert (1, True) == (len(journal.splitlines()), journal.endswith(b"}\n"))


def test_the_real_command_prints_one_json_object_and_opens_no_socket(root: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "ml_dash", "export", PREFIX, "-r", str(root), "--to", "csv", "--json"]
    options: dict[str, Any] = {"cwd": tmp_path, "env": python_environment(), "stdin": subprocess.DEVNULL}
    done = subprocess.run(command, capture_output=True, text=True, timeout=SUBPROCESS_SECONDS, **options)
    guard = "import sys; sys.addaudithook(lambda e, a: sys.exit(e) if e.startswith('socket.') else None); "
    guarded = f"sys.argv = ['ml-dash', 'export', {PREFIX!r}, '-r', {str(root)!r}, '--to', 'parquet']; "

    run_python(guard + guarded + "from ml_dash.cli.main import main; main()", tmp_path)

    assert (0, "") == (done.returncode, done.stderr)
    made = json.loads(done.stdout)
    files = [path for path in Path(made["path"]).rglob("*") if path.is_file()]
    assert {"run": PREFIX, "kind": "csv", "path": str(tmp_path / "seed-1-csv")} == {
        name: made[name] for name in ("run", "kind", "path")
    }
    assert (len(files), sum(path.stat().st_size for path in files)) == (made["files"], made["bytes"])
