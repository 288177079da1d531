"""Exports of run folders that are written by hand: tables, archives, and where they go."""

from __future__ import annotations

import csv
import json
import math
import os
import zipfile
from io import BytesIO
from pathlib import Path, PureWindowsPath

import pyarrow.parquet as pq
import pytest

from ml_dash import InvalidValueError, open_run
from ml_dash.export.run import Exported, export_run
from ml_dash.query.run import RunReader
from ml_dash.verify.run import verify_run
from tests.legacy.trees import OldRun
from tests.run_folders import PREFIX, RunFolder, lines

STREAMS = {"metrics/train", "metrics/train/inner", "metrics/None", "tracks/robot/arm", "frames/camera"}
TABLES = {"params", "logs", "files", *STREAMS}


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    """A run with something in every stream."""
    run = RunFolder(tmp_path / "runs", tags=["ppo"])
    run.document("parameters.json", version=1, data={
        "lr": 0.1, "model.layers": 4, "betas": [0.9, 0.999], "name": "1", "none": None, "on": True, "bad": "Infinity",
    })  # fmt: skip
    line = {"sequenceNumber": 0, "timestamp": "2026-03-01T09:00:00Z", "level": "warn"}
    run.write("logs/logs.jsonl", lines(line | {"message": 'it said "hi", and\nwent', "metadata": {"norm": [1, 2]}}))
    run.metric(
        "train",
        *({"loss": 1 / (n + 1), "nested": {"a": n}, "values": [n, 0.5], "word": f"w{n}"} for n in range(5)),
    )
    run.metric("train/inner", *({"reward": "NaN" if n == 2 else n / 2} for n in range(5)))
    run.metric("None", {"x": 1})
    run.track("robot/arm", {"timestamp": 1.0, "q": [1, 2]}, {"timestamp": 2.0, "v": 3})
    run.file("models/best.pt", b"weights" * 50, 7353347710644449, metadata={"epoch": 3})
    run.frames("camera", b"\xff\xd8\xff" + bytes(100) + b"\xff\xd9")
    return run


@pytest.fixture
def run(folder: RunFolder) -> RunReader:
    return open_run(folder.folder)


@pytest.fixture(autouse=True)
def _working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def names(folder: Path, suffix: str) -> set[str]:
    return {str(path.relative_to(folder).with_suffix("")) for path in folder.rglob(f"*{suffix}")}


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


# --------------------------------------------------------------------------------------------------------------- csv


def test_csv_has_a_file_for_every_stream_with_dotted_columns_and_lists_as_json(run: RunReader, tmp_path: Path) -> None:
    read: list[int] = []
    made = tmp_path / "seed-1-csv"

    exported = export_run(run, "csv", advance=read.append)

    files = [path for path in made.rglob("*") if path.is_file()]
    assert Exported(str(made), len(files), sum(path.stat().st_size for path in files)) == exported
    assert sum(read) == exported.size - (made / "export.json").stat().st_size
    assert TABLES == names(made, ".csv")
    points = rows(made / "metrics/train.csv")
    assert ["_index", "_ts", "loss", "nested.a", "values", "word", "_createdAt"] == list(points[0])
    assert [1.0, 0.5, 1 / 3, 0.25, 0.2] == [float(point["loss"]) for point in points]
    assert ([0.0, 0.5], "4", "w4") == (json.loads(points[0]["values"]), points[4]["nested.a"], points[4]["word"])
    assert ["0", "0.5", "nan", "1.5", "2"] == [point["reward"] for point in rows(made / "metrics/train/inner.csv")]
    assert [("1", "[1,2]", ""), ("2", "", "3")] == [
        (row["timestamp"], row["q"], row["v"]) for row in rows(made / "tracks/robot/arm.csv")
    ]


def test_csv_tells_the_types_of_parameters_and_keeps_log_lines_whole(run: RunReader, tmp_path: Path) -> None:
    export_run(run, "csv")
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
    assert ('it said "hi", and\nwent', "warn") == (line["message"], line["level"])
    assert {"norm": [1, 2]} == json.loads(line["metadata"])
    assert ("best.pt", "350", {"epoch": 3}) == (file["filename"], file["sizeBytes"], json.loads(file["metadata"]))
    assert ("0", "shard-00000.tar", "[8,8,3]") == (frame["seq"], frame["shard"], frame["shape"])


def test_the_manifest_names_the_run_and_the_files(run: RunReader, tmp_path: Path) -> None:
    export_run(run, "csv")

    manifest = json.loads((tmp_path / "seed-1-csv/export.json").read_text())

    assert (PREFIX, run.folder, "csv") == (manifest["run"], manifest["folder"], manifest["kind"])
    assert (["ppo"], "COMPLETED") == (manifest["experiment"]["tags"], manifest["experiment"]["status"])
    assert {f"{name}.csv" for name in TABLES} == set(manifest["files"])


def test_streams_whose_names_would_meet_on_disk_are_both_kept(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path, "alice/odd/seed-1")
    folder.metric("a", {"x": 1})
    folder.metric("a.csv/b", {"x": 2})

    export_run(open_run(folder.folder), "csv", "out")

    assert ["1"] == [row["x"] for row in rows(tmp_path / "out/metrics/a.csv")]
    assert ["2"] == [row["x"] for row in rows(tmp_path / "out/metrics/a.csv_/b.csv")]


def test_a_name_that_is_too_long_with_its_ending_is_cut(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path, "alice/odd/seed-1")
    for last in "ab":
        folder.metric("x" * 250 + last, {"x": last})

    export_run(open_run(folder.folder), "parquet", "out")

    assert {"x" * 240 + ".parquet", "x" * 240 + "_.parquet"} == {
        path.name for path in (tmp_path / "out/metrics").iterdir()
    }


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_run_without_any_stream_has_empty_tables(kind: str, tmp_path: Path) -> None:
    OldRun(tmp_path, "alice/old/seed-1").text("logs/logs.jsonl", "")

    export_run(open_run("alice/old/seed-1", tmp_path), kind, "out")

    expected = {"params", "logs", "files"}
    assert expected == names(tmp_path / "out", f".{kind}")
    if kind == "csv":
        assert [[], [], []] == [rows(tmp_path / f"out/{name}.csv") for name in expected]
    else:
        assert [0, 0, 0] == [pq.read_metadata(tmp_path / f"out/{name}.parquet").num_rows for name in expected]


def test_a_run_of_the_published_client_is_exported(tmp_path: Path) -> None:
    old = OldRun(tmp_path, "/alice/old/seed-1")
    old.metric("train", {"loss": float("nan"), "_ts": 1.0}, {"loss": 2.0, "_ts": 2.0}, torn='{"ind')
    old.track("robot/arm", {"timestamp": 2.0, "q": 1}, {"timestamp": 1.0, "q": 2})
    old.file("/models/best.pt", b"weights", "7353347710644449")

    export_run(open_run("alice/old/seed-1", tmp_path), "csv", "out")

    assert ["nan", "2"] == [row["loss"] for row in rows(tmp_path / "out/metrics/train.csv")]
    assert ["2", "1"] == [row["q"] for row in rows(tmp_path / "out/tracks/robot/arm.csv")]
    assert ["best.pt"] == [row["filename"] for row in rows(tmp_path / "out/files.csv")]


def test_values_of_another_type_than_their_column_do_not_end_an_export(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path, "alice/odd/seed-1")
    numbers = [2**70, "seven", None, True, 3]
    folder.write("logs/logs.jsonl", lines(*({"sequenceNumber": n, "message": {"a": [n]}} for n in numbers)))

    export_run(open_run(folder.folder), "parquet", "out")

    table = pq.read_table(tmp_path / "out/logs.parquet")
    assert [None, None, None, None, 3] == table["sequenceNumber"].to_pylist()
    assert {"a": ["seven"]} == json.loads(table["message"].to_pylist()[1])


FORMULAS = [
    "=1+1",
    "+1+1",
    "-1+1",
    "@SUM(1)",
    "\t=1",
    "\r=1",
    "\n=1",
    "-",
    "- item",
    "\uff1d1",
    "+a",
    "-1-",
    "--1",
    "-1\n",
]
NO_FORMULAS = ["-1", "+1", "-1.5e-3", "-.5", "+2.", "-inf", "a=1", " =1", "'=1", "1-1", ""]


def test_csv_marks_text_that_a_spreadsheet_would_run(run: RunReader, folder: RunFolder, tmp_path: Path) -> None:
    texts = [*FORMULAS, *NO_FORMULAS]
    folder.params(**{f"p{number}": text for number, text in enumerate(texts)} | {"=name": "x", "list": ["=1"]})
    folder.metric("words", *({"=word": text, "-1": -1.5} for text in texts))

    export_run(run, "csv", "marked")
    export_run(run, "csv", "exact", raw=True)
    export_run(run, "parquet", "typed")

    marked = [f"'{text}" for text in FORMULAS] + NO_FORMULAS
    for made, name, expected in (("marked", "'=word", marked), ("exact", "=word", texts)):
        params = [row["value"] for row in rows(tmp_path / made / "params.csv")]
        assert expected == params[: len(texts)]
        assert [name.replace("word", "name"), '["=1"]'] == [
            rows(tmp_path / made / "params.csv")[-2]["name"],
            params[-1],
        ]
        assert expected == [row[name] for row in rows(tmp_path / made / "metrics/words.csv")]
        assert {"-1.5"} == {row["-1"] for row in rows(tmp_path / made / "metrics/words.csv")}
    assert texts == pq.read_table(tmp_path / "typed/metrics/words.parquet")["=word"].to_pylist()


@pytest.mark.parametrize("kind", ["csv", "parquet", "zip"])
def test_text_with_a_lone_surrogate_is_exported_with_its_code(
    kind: str, run: RunReader, folder: RunFolder, tmp_path: Path
) -> None:
    cut = "cut \ud83d"
    folder.logs(cut)
    folder.params(**{cut: cut})
    folder.metric(f"{cut[:3]}\udcff", {cut: 1.0, "text": cut})
    folder.track(f"{cut[:3]}\udcff", {"timestamp": 1.0, cut: cut})
    folder.file("plain.txt", b"x", 5, description=cut, metadata={cut: cut})

    made = Path(export_run(run, kind, str(tmp_path / "made")).path)

    if kind == "zip":
        with zipfile.ZipFile(made) as archive:
            assert f"{PREFIX}/metrics/cut%FF/data.jsonl" in archive.namelist()
    else:
        read = rows if kind == "csv" else lambda path: pq.read_table(path).to_pylist()
        assert ["cut \\ud83d"] == [row["message"] for row in read(made / f"logs.{kind}")]
        assert [("cut \\ud83d", "cut \\ud83d")] == [
            (row["name"], row["value"]) for row in read(made / f"params.{kind}")
        ]
        [point] = read(made / f"metrics/cut%FF.{kind}")
        assert 1.0 == float(point["cut \\ud83d"])
        assert '"cut \\ud83d"' == point["text"]


# ----------------------------------------------------------------------------------------------------------- parquet


def test_parquet_has_the_same_tables_as_the_reader(run: RunReader, tmp_path: Path) -> None:
    export_run(run, "parquet")
    made = tmp_path / "seed-1-parquet"

    assert TABLES == names(made, ".parquet")
    for name in ("train", "train/inner"):
        exported = pq.ParquetFile(made / f"metrics/{name}.parquet").read()
        assert str(run.metrics(name).table().to_pylist()) == str(exported.to_pylist())
    assert run.tracks("robot/arm").table().equals(pq.ParquetFile(made / "tracks/robot/arm.parquet").read())
    assert [0] == pq.ParquetFile(made / "logs.parquet").read()["sequenceNumber"].to_pylist()
    assert [0.0] == pq.ParquetFile(made / "frames/camera.parquet").read()["timestamp"].to_pylist()
    assert math.isnan(pq.read_table(made / "metrics/train/inner.parquet")["reward"].to_pylist()[2])


# --------------------------------------------------------------------------------------------------------------- zip


def test_a_zip_unpacked_into_a_folder_of_runs_is_the_same_run_and_is_clean(run: RunReader, tmp_path: Path) -> None:
    exported = export_run(run, "zip")

    with zipfile.ZipFile(exported.path) as archive:
        assert exported.files == len(archive.namelist())
        archive.extractall(tmp_path / "unpacked")
    copy = open_run(PREFIX, tmp_path / "unpacked")

    assert [] == verify_run(copy.folder).findings
    assert run.params.get() == copy.params.get()
    assert str(run.metrics("train").read()) == str(copy.metrics("train").read())
    assert b"weights" * 50 == copy.files.read_bytes("models/best.pt")
    assert run.frames("camera").read_bytes(0) == copy.frames("camera").read_bytes(0)


def test_a_zip_leaves_out_locks_half_written_files_and_other_runs_and_is_the_same_each_time(
    folder: RunFolder, run: RunReader, tmp_path: Path
) -> None:
    for name in (".spill/main-1-2", "files/.staging/main-1", "metrics/.x.json.tmp-main", ".lock", ".experiment.lock"):
        folder.write(name, b"half")
    OldRun(folder.root, f"{PREFIX}/below")
    (tmp_path / "secret.txt").write_text("secret")
    (folder.folder / "files/link.txt").symlink_to(tmp_path / "secret.txt")

    export_run(run, "zip")
    first = (tmp_path / "seed-1.zip").read_bytes()
    export_run(run, "zip", force=True)
    with zipfile.ZipFile(tmp_path / "seed-1.zip") as archive:
        infos = {info.filename.removeprefix(f"{PREFIX}/"): info for info in archive.infolist()}

    assert first == (tmp_path / "seed-1.zip").read_bytes()
    assert sorted(infos) == list(infos)
    assert not [name for name in infos if any(part in name for part in (".lock", "tmp", "main-", "below", "link.txt"))]
    assert zipfile.ZIP_STORED == infos["frames/camera/shard-00000.tar"].compress_type
    assert zipfile.ZIP_DEFLATED == infos["metrics/train/data.jsonl"].compress_type


def test_a_stored_file_whose_name_looks_like_a_lock_or_a_temporary_one_is_in_the_zip(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path, "alice/odd/seed-1")
    for number, name in enumerate((".lock", ".x.tmp-1", "data.jsonl")):
        folder.file(f"a/{name}", str(number).encode(), number)

    export_run(open_run(folder.folder), "zip")

    with zipfile.ZipFile(tmp_path / "seed-1.zip") as archive:
        stored = {Path(name).name: archive.read(name) for name in archive.namelist() if "/files/a/" in name}
    assert {".lock": b"0", ".x.tmp-1": b"1", "data.jsonl": b"2"} == stored


def test_the_unfinished_line_of_a_journal_is_left_out(folder: RunFolder, run: RunReader, tmp_path: Path) -> None:
    with (folder.folder / "metrics/train/data.jsonl").open("ab") as file:
        file.write(b'{"index": 5, "da')

    export_run(run, "zip")

    with zipfile.ZipFile(tmp_path / "seed-1.zip") as archive:
        journal = archive.read(f"{PREFIX}/metrics/train/data.jsonl")
    assert (5, True) == (len(journal.splitlines()), journal.endswith(b"}\n"))


# ------------------------------------------------------------------------------------------------------ where it goes


@pytest.mark.parametrize(("kind", "name"), [("zip", "a.zip"), ("csv", "table")])
def test_an_export_that_is_there_already_is_only_replaced_with_force(
    kind: str, name: str, run: RunReader, tmp_path: Path
) -> None:
    export_run(run, kind, name)
    mine = tmp_path / name if kind == "zip" else tmp_path / name / "mine.txt"
    mine.write_bytes(b"mine")

    with pytest.raises(InvalidValueError, match="is there already; --force replaces it"):
        export_run(run, kind, name)
    assert b"mine" == mine.read_bytes()
    export_run(run, kind, name, force=True)

    assert zipfile.is_zipfile(mine) if kind == "zip" else not mine.exists()


def test_force_never_replaces_a_folder_that_is_no_export(run: RunReader, tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "work/thesis.tex").write_text("years of work")
    (tmp_path / "file").write_text("a file")

    for kind in ("csv", "parquet"):
        with pytest.raises(InvalidValueError, match="holds something else than an export"):
            export_run(run, kind, "work", force=True)
    with pytest.raises(InvalidValueError, match="is a file, and an export to csv is a folder"):
        export_run(run, "csv", "file", force=True)
    inside = export_run(run, "zip", "work", force=True)

    assert str(tmp_path / "work/seed-1.zip") == inside.path
    assert {"thesis.tex", "seed-1.zip"} == {path.name for path in (tmp_path / "work").iterdir()}


@pytest.mark.parametrize("kind", ["csv", "zip"])
@pytest.mark.parametrize("below", ["", "files/out"])
def test_an_export_into_the_run_itself_is_refused(kind: str, below: str, run: RunReader) -> None:
    with pytest.raises(InvalidValueError, match="run's own folder"):
        export_run(run, kind, str(Path(run.folder) / below))

    assert not (Path(run.folder) / "files/out").exists()


def test_an_unknown_kind_is_refused(run: RunReader) -> None:
    with pytest.raises(InvalidValueError, match="'xlsx' is no kind of export; it is one of csv, parquet, zip"):
        export_run(run, "xlsx")


@pytest.mark.parametrize("kind", ["csv", "parquet", "zip"])
def test_an_export_that_fails_leaves_nothing_behind(kind: str, run: RunReader, tmp_path: Path) -> None:
    def fail(written: int) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        export_run(run, kind, "made/out", advance=fail)

    assert [] == list((tmp_path / "made").iterdir())


@pytest.mark.parametrize("prefix", ["C:\\evil/..\\..\\x", "../../x", "/x", "..\\x", "c:/x"])
def test_a_name_in_an_archive_stays_in_its_folder_on_every_system(prefix: str, tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "other", "a/b/c")
    run.change("experiment.json", prefix=prefix)
    run.file("a.txt", b"x", 1)
    run.write("notes/..\\..\\x.txt", b"x")
    run.write("notes/..%5C..%5Cx.txt", b"y")
    run.write("notes/line\n.txt", b"z")

    made = export_run(open_run(run.folder), "zip", "made.zip").path

    with zipfile.ZipFile(made) as archive:
        assert len(set(archive.namelist())) == len(archive.namelist())
        assert {b"x", b"y"} == {archive.read(name) for name in archive.namelist() if "%5Cx.txt" in name}
    for name in archive.namelist():
        path = PureWindowsPath(name)
        assert ("", False) == (path.drive, path.is_absolute())
        assert ".." not in path.parts
        assert name.isprintable()


def test_an_archive_keeps_no_right_that_others_could_use(run: RunReader, folder: RunFolder, tmp_path: Path) -> None:
    folder.write("open.sh", b"x").chmod(0o6777)

    export_run(run, "zip", "made.zip")

    with zipfile.ZipFile(tmp_path / "made.zip") as archive:
        assert 0o100755 == archive.getinfo(f"{PREFIX}/open.sh").external_attr >> 16


@pytest.mark.parametrize("time", [-(2**40), 0, 2**33])
def test_a_file_of_any_time_is_archived(time: int, run: RunReader, folder: RunFolder, tmp_path: Path) -> None:
    path = folder.write("old.txt", b"x")
    os.utime(path, (time, time))

    export_run(run, "zip", "made.zip")

    with zipfile.ZipFile(tmp_path / "made.zip") as archive:
        assert b"x" == archive.read(f"{PREFIX}/old.txt")


@pytest.mark.parametrize(
    ("kind", "made"), [("csv", "n\udcff\x1b-csv"), ("parquet", "n\udcff\x1b-parquet"), ("zip", "n\udcff\x1b.zip")]
)
def test_a_run_whose_name_is_no_utf8_is_exported_under_that_name(kind: str, made: str, tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "runs", "a/b/n\udcff\x1b")
    run.metric("m", {"x": 1.5})

    exported = export_run(open_run(run.folder), kind)

    assert str(tmp_path / made) == exported.path
    if kind == "csv":
        assert ["1.5"] == [row["x"] for row in rows(tmp_path / made / "metrics/m.csv")]
    elif kind == "parquet":
        assert [1.5] == pq.read_table(BytesIO((tmp_path / made / "metrics/m.parquet").read_bytes()))["x"].to_pylist()
    else:
        with zipfile.ZipFile(exported.path) as archive:
            assert "a/b/n%FF%1B/metrics/m/data.jsonl" in archive.namelist()
