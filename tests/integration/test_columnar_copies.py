"""Columnar copies as a run makes them: after its end, and while it goes on."""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from ml_dash import BufferConfig, Experiment
from ml_dash.cli.main import cli
from ml_dash.ipc import launch
from ml_dash.storage import parquet_copy
from ml_dash.writer import columnar
from tests.integration import frequent_copies
from tests.run_contents import copied_rows, copy_coverage
from tests.support import wait_until


def record(root, count=100, start=0, **settings):
    config = BufferConfig(echo=False, **settings)
    with Experiment("a/b/c", dash_root=str(root), buffer_config=config).run as exp:
        for i in range(start, start + count):
            exp.metrics("train").log(loss=i / 2, step=i)
            exp.tracks("robot/pose").append(q=[i, 0.5], _ts=i / 30)
    return root / "a/b/c"


def test_every_long_stream_has_its_copy_some_time_after_the_end(tmp_path):
    run = record(tmp_path, columnar_rows=50)
    copies = [run / "metrics/train/data.parquet", run / "tracks/robot/pose/data.parquet"]

    wait_until(lambda: all(copy.exists() for copy in copies), 30)

    assert list(range(100)) == pq.read_table(copies[0])["step"].to_pylist()
    assert [[i, 0.5] for i in range(100)] == pq.read_table(copies[1])["q"].to_pylist()


def test_a_short_stream_has_none(tmp_path):
    run = record(tmp_path, columnar_rows=101)
    other = record(tmp_path / "other", columnar_rows=1)
    wait_until((other / "metrics/train/data.parquet").exists, 30)

    assert not (run / "metrics/train/data.parquet").exists()


def test_a_run_that_goes_on_renews_its_copy_at_its_end(tmp_path):
    run = record(tmp_path, columnar_rows=1)
    copy = run / "metrics/train/data.parquet"
    wait_until(copy.exists, 30)

    record(tmp_path, start=100, columnar_rows=1)

    wait_until(lambda: 200 == copied_rows(str(run / "metrics/train/data.jsonl")), 30)
    assert list(range(200)) == pq.read_table(copy)["step"].to_pylist()


def test_the_run_is_free_while_its_copies_are_made(tmp_path):
    """The next writer is the run's first again, and has no file of its own beside it."""
    run = record(tmp_path, columnar_rows=1)
    record(tmp_path, start=100, columnar_rows=1)

    assert [run / "metrics/train/data.jsonl"] == list((run / "metrics/train").glob("*.jsonl"))


def test_no_copy_is_made_when_it_is_switched_off(tmp_path):
    run = record(tmp_path, columnar_rows=0)
    other = record(tmp_path / "other", columnar_rows=1)
    wait_until((other / "metrics/train/data.parquet").exists, 30)

    assert not (run / "metrics/train/data.parquet").exists()


def test_verify_finds_a_journal_that_was_edited_and_repair_makes_its_copy_anew(tmp_path):
    run = record(tmp_path, columnar_rows=1, count=400)
    journal, copy = run / "tracks/robot/pose/data.jsonl", run / "tracks/robot/pose/data.parquet"
    wait_until(copy.exists, 30)
    content = journal.read_bytes()
    journal.write_bytes(content.replace(b"[200,0.5]", b"[777,0.5]"))
    assert len(content) == journal.stat().st_size > 2 * parquet_copy.EDGE_BYTES

    found = CliRunner().invoke(cli, ["verify", str(run)])
    repaired = CliRunner().invoke(cli, ["verify", str(run), "--repair"])
    again = CliRunner().invoke(cli, ["verify", str(run)])

    assert [1, 0, 0] == [found.exit_code, repaired.exit_code, again.exit_code]
    assert "tracks/robot/pose/data.parquet: is damaged, or belongs to another journal" in found.stdout
    assert [777, 0.5] == pq.read_table(copy)["q"].to_pylist()[200]


@pytest.fixture
def journal(tmp_path):
    path = tmp_path / "data.jsonl"
    path.write_text("".join(f'{{"timestamp":{i}.0,"x":{i}}}\n' for i in range(100)))
    return str(path)


def test_a_copy_is_made_during_the_run_by_a_process_of_its_own(journal, monkeypatch):
    monkeypatch.setattr(columnar, "ROWS_BETWEEN", 100)
    problems = []
    copies = columnar.ColumnarCopies(1, problems.append)

    copies.step([columnar.Stream(journal, True, 99)])
    assert copies._process is None
    copies.step([columnar.Stream(journal, True, 100)])
    process = copies._process
    wait_until(lambda: process.poll() is not None, 30)
    copies.step([columnar.Stream(journal, True, 150)])

    assert 100 == copied_rows(journal)
    assert copies._process is None
    assert [] == problems


def test_a_live_run_gets_its_copy_when_it_has_enough_points(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parent)
    monkeypatch.setattr(launch, "WRITER_ENTRY", "frequent_copies")
    count = frequent_copies.ROWS
    assert 1_000_000 == columnar.ROWS_BETWEEN
    with Experiment("a/b/c", dash_root=str(tmp_path), echo=False).run as exp:
        log = exp.metrics("train").log
        for i in range(count):
            log(step=i)
        assert exp.flush(120)
        journal = exp.folder + "/metrics/train/data.jsonl"

        wait_until(lambda: copy_coverage(journal) is not None, 120)
        log(step=count)

        assert count == copied_rows(journal)
        assert [count - 1, count] == exp.metrics("train").table(["step"])["step"].to_pylist()[-2:]
        assert 0 == exp.health()["errors"]


def test_a_process_that_cannot_make_its_copy_is_reported(tmp_path, monkeypatch):
    monkeypatch.setattr(columnar, "ROWS_BETWEEN", 1)
    problems = []
    copies = columnar.ColumnarCopies(1, problems.append)

    copies.step([columnar.Stream(str(tmp_path / "missing/data.jsonl"), True, 1)])
    process = copies._process
    wait_until(lambda: process.poll() is not None, 30)
    copies.step([])

    assert ["the process that makes columnar copies ended with 1"] == problems


def test_what_a_killed_process_left_is_removed_later(journal, tmp_path):
    old, fresh = tmp_path / ".data.parquet.1.tmp", tmp_path / ".data.parquet.2.tmp"
    for path in (old, fresh):
        path.write_bytes(b"half")
    os.utime(old, (1, 1))

    assert columnar.make_copies([columnar.Stream(journal, True, 100)])

    assert [False, True] == [old.exists(), fresh.exists()]


def test_points_and_rows_come_back_as_columns_while_the_run_is_open(tmp_path):
    with Experiment("a/b/c", dash_root=str(tmp_path), echo=False).run as exp:
        for i in range(5):
            exp.metrics("train").log(loss=i / 2, step=i, _ts=float(i), **({"note": "high"} if i == 3 else {}))
            exp.tracks("pose").append(q=[i, 0.5], _ts=-float(i))
        metric, track = exp.metrics("train"), exp.tracks("pose")

        assert [1.0, 1.5] == metric.table(["loss"], start_timestamp=2, end_timestamp=3)["loss"].to_pylist()
        assert [None, None, None, "high", None] == metric.numpy()["note"].tolist()
        frame = metric.dataframe(["step"])
        assert [0, 1, 2, 3, 4] == frame["step"].tolist()
        assert ["_index", "_ts", "step"] == sorted(frame.columns)
        assert [[4, 0.5], [3, 0.5]] == track.numpy(end_timestamp=-3)["q"].tolist()
        assert [-4.0, -3.0] == track.dataframe(end_timestamp=-3)["timestamp"].tolist()
        assert ["_index", "_ts", "_createdAt"] == exp.metrics("nothing").table().schema.names
        assert ["timestamp"] == exp.tracks("nothing").table().schema.names
        assert [None] == metric.table(["note"], end_timestamp=0)["note"].to_pylist()
        with pytest.raises(ValueError, match="list of names"):
            metric.table([1])
        with pytest.raises(ValueError, match="did you mean 'loss'"):
            metric.numpy(["los"])
        with pytest.raises(ValueError, match="no values of the name 'e'; there are q, timestamp"):
            track.dataframe(columns=["e"])
        with pytest.raises(ValueError, match="no number"):
            metric.table(start_timestamp="soon")


def test_points_of_several_writers_are_one_table_in_the_order_of_time(tmp_path):
    with (
        Experiment("a/b/c", dash_root=str(tmp_path), echo=False).run as exp,
        Experiment("a/b/c", dash_root=str(tmp_path), echo=False).run as other,
    ):
        for i in range(6):
            (exp if i % 2 else other).metrics("train").log(step=i, _ts=float(i))
        other.flush()

        table = exp.metrics("train").table()

        assert list(range(6)) == table["step"].to_pylist()
        assert list(range(6)) == table["_index"].to_pylist()
        assert [4, 5] == exp.metrics("train").table(start_timestamp=4)["_index"].to_pylist()
