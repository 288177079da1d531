"""The JSON that show, diff and tail make of run folders that are written by hand; a page shows the same."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ml_dash import open_run
from ml_dash.query.differences import compare_code, compare_runs, last_values
from ml_dash.query.follow import Follower
from ml_dash.query.overview import file_totals, metric_summaries, overview, stream_sizes, to_count
from ml_dash.query.run import RunReader
from tests.run_folders import PREFIX, TIME, RunFolder, lines

JPEG = b"\xff\xd8\xff" + bytes(100) + b"\xff\xd9"


def reader(folder: RunFolder) -> RunReader:
    return open_run(folder.prefix, folder.root)


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    """A run with something in every stream, which two writers wrote."""
    run = RunFolder(tmp_path, tags=["ppo", 7], description="a walk", active_seconds=60.0, frames_written=2, pid=12)
    run.params(lr=0.1)
    run.logs("one", "two", "three")
    run.logs("from the other", writer_id="w2")
    run.metric("train", {"loss": 2.0}, {"loss": 1.0, "word": "w"})
    run.metric("None", {"score": 3})
    run.track("robot/arm", {"timestamp": 1.0, "q": 1}, {"timestamp": 1.0, "v": 2})
    run.frames("camera", JPEG, JPEG)
    for number in range(7):
        run.file(f"models/{number}.pt", b"x" * number, number)
    return run


def test_an_overview_is_json_with_every_key(folder: RunFolder) -> None:
    found = overview(reader(folder), 2)

    assert found == json.loads(json.dumps(found))
    assert {
        "run": PREFIX,
        "folder": str(folder.folder),
        "project": "walker",
        "status": "COMPLETED",
        "status_reason": None,
        "live": False,
        "created_at": TIME,
        "started_at": TIME,
        "ended_at": TIME,
        "heartbeat_at": TIME,
        "duration_s": 60.0,
        "host": "vm",
        "pid": 12,
        "tags": ["ppo"],
        "readme": "a walk",
        "metadata": None,
        "environment": {},
        "params": {"lr": 0.1},
        "metrics": [],
        "tracker": {"frames_written": 2, "frames_dropped": 0, "records_refused": 0, "tracker_errors": 0},
    } == {name: value for name, value in found.items() if name not in {"streams", "files", "log"}}
    assert ["two", "three"] == [line["message"] for line in found["log"]]
    assert (7, 21) == (found["files"]["count"], found["files"]["bytes"])
    assert [] == overview(reader(folder), 0)["log"]


def test_an_overview_of_an_empty_folder_has_the_same_keys(folder: RunFolder, tmp_path: Path) -> None:
    empty = RunFolder(tmp_path, "a/b/c")
    empty.write("experiment.json", b"{}")

    found = overview(reader(empty), 5)

    assert set(overview(reader(folder), 5)) == set(found)
    assert (None, None, [], []) == (found["status"], found["duration_s"], found["streams"], found["log"])
    assert {"count": 0, "bytes": 0, "newest": []} == found["files"]


def test_every_stream_has_its_count_and_its_bytes(folder: RunFolder) -> None:
    def size(*names: str) -> int:
        return sum((folder.folder / name).stat().st_size for name in names)

    assert [
        {"kind": "log", "name": None, "count": 4, "bytes": size("logs/logs.jsonl", "logs/logs.w2.jsonl")},
        {"kind": "metric", "name": None, "count": 1, "bytes": size("metrics/None/data.jsonl")},
        {"kind": "metric", "name": "train", "count": 2, "bytes": size("metrics/train/data.jsonl")},
        {"kind": "track", "name": "robot/arm", "count": 2, "bytes": size("tracks/robot/arm/data.jsonl")},
        {
            "kind": "frames",
            "name": "camera",
            "count": 2,
            "bytes": size("frames/camera/data.jsonl", "frames/camera/shard-00000.tar"),
        },
    ] == stream_sizes(reader(folder))


def test_the_newest_files_are_named_newest_first(folder: RunFolder) -> None:
    newest = file_totals(reader(folder))["newest"]

    assert [f"models/{number}.pt" for number in (6, 5, 4, 3, 2)] == [file["path"] for file in newest]
    assert {"path": "models/6.pt", "bytes": 6, "saved_at": TIME} == newest[0]


def test_an_index_of_files_that_is_damaged_leaves_the_rest(folder: RunFolder) -> None:
    folder.write("files/index.jsonl", lines({"id": "7", "path": [], "filename": {}}))

    assert {"count": 0, "bytes": 0, "newest": []} == file_totals(reader(folder))


def test_the_fields_of_metrics_have_statistics(folder: RunFolder) -> None:
    loss = {"count": 2, "nan_count": 0, "last": 1.0, "min": 1.0, "max": 2.0, "mean": 1.5}
    score = {"count": 1, "nan_count": 0, "last": 3.0, "min": 3.0, "max": 3.0, "mean": 3.0}

    assert [
        {"metric": None, "field": "score", **score},
        {"metric": "train", "field": "loss", **loss},
    ] == metric_summaries(reader(folder))


@pytest.mark.parametrize(
    ("value", "expected"), [(3, 3), (0, 0), (-1, 0), (2**63, 0), (True, 0), (1.5, 0), ("3", 0), (None, 0)]
)
def test_a_count_of_a_damaged_document_is_0(value: object, expected: int) -> None:
    assert expected == to_count(value)


class TestDifferences:
    @pytest.fixture
    def runs(self, tmp_path: Path) -> tuple[RunFolder, RunFolder]:
        """Two runs of one program, started one after the other."""
        first, second = RunFolder(tmp_path, "a/b/one"), RunFolder(tmp_path, "a/b/two")
        for number, run in enumerate((first, second)):
            run.params(lr=0.1)
            run.metric("train", {"loss": 1.0})
            code = {"commit": "abc", "branch": "main", "dirty": False}
            process = {"pid": number, "command": ["train.py"]}
            run.document(
                "environment.json", started_at=str(number), process=process, packages={"numpy": "2.0"}, code=code
            )
        return first, second

    def test_two_runs_of_one_program_are_equal(self, runs: tuple[RunFolder, RunFolder]) -> None:
        nothing = {"changed": {}, "added": {}, "removed": {}}
        code = {"commit": "abc", "branch": "main", "dirty": False}

        assert {
            "a": "a/b/one",
            "b": "a/b/two",
            "equal": True,
            "params": nothing,
            "environment": nothing,
            "packages": nothing,
            "code": {"a": code, "b": code, "changed": False, "diff_of": None, "diff": []},
            "metrics": {"train/loss": {"a": 1.0, "b": 1.0}},
        } == compare_runs(*map(reader, runs))

    def test_whatever_differs_is_named(self, runs: tuple[RunFolder, RunFolder]) -> None:
        second = runs[1]
        second.params(lr=0.2, seed=1)
        second.metric("None", {"score": 2})
        second.change("environment.json", packages={"torch": "2.6"}, process={"pid": 9, "command": ["other.py"]})

        found = compare_runs(*map(reader, runs))

        assert not found["equal"]
        assert {"changed": {"lr": {"a": 0.1, "b": 0.2}}, "added": {"seed": 1}, "removed": {}} == found["params"]
        assert {"changed": {}, "added": {"torch": "2.6"}, "removed": {"numpy": "2.0"}} == found["packages"]
        assert {"process.command": {"a": ["train.py"], "b": ["other.py"]}} == found["environment"]["changed"]
        assert {"score": {"b": 2.0}, "train/loss": {"a": 1.0, "b": 1.0}} == found["metrics"]
        assert {"score": 2.0, "train/loss": 1.0} == last_values(reader(second))

    def test_changes_of_one_run_are_its_own_and_those_of_both_are_compared(
        self, runs: tuple[RunFolder, RunFolder]
    ) -> None:
        first, second = runs
        second.write("code.diff", b"+1\n")
        of_one = compare_code(reader(first), reader(second))
        swapped = compare_code(reader(second), reader(first))
        first.write("code.diff", b"+2\n")
        of_both = compare_code(reader(first), reader(second))

        assert ("b", ["+1"], True) == (of_one["diff_of"], of_one["diff"], of_one["changed"])
        assert ("a", ["+1"], True) == (swapped["diff_of"], swapped["diff"], swapped["changed"])
        assert "both" == of_both["diff_of"]
        assert ["--- a/b/one/code.diff", "+++ a/b/two/code.diff", "@@ -1 +1 @@", "-+2", "++1"] == of_both["diff"]

    def test_a_run_without_code_has_none(self, runs: tuple[RunFolder, RunFolder]) -> None:
        runs[0].change("environment.json", code=None)

        found = compare_code(*map(reader, runs))

        assert (None, "abc", True) == (found["a"], found["b"]["commit"], found["changed"])


class TestFollower:
    def test_the_newest_entries_of_both_streams_are_sorted_by_time(self, folder: RunFolder) -> None:
        entries = Follower(str(folder.folder), logs=True, metrics=True).last(2)

        assert [("metric", "train"), ("metric", "train"), ("log", None), ("log", None)] == [
            (entry.stream, entry.metric) for entry in entries
        ]
        assert ["two", "three"] == [entry.body["message"] for entry in entries[2:]]

    def test_an_entry_as_json_names_its_stream(self, folder: RunFolder) -> None:
        (line,) = Follower(str(folder.folder), logs=True, metrics=False).last(1)
        (point,) = Follower(str(folder.folder), logs=False, metrics=True).last(1)

        assert ("log", "three") == (line.as_json()["stream"], line.as_json()["message"])
        assert ("metric", "train", {"loss": 1.0, "word": "w", "_ts": 1.0}) == tuple(
            point.as_json()[key] for key in ("stream", "metric", "data")
        )

    def test_entries_that_are_added_come_once_and_new_metrics_from_their_start(self, folder: RunFolder) -> None:
        follower = Follower(str(folder.folder), logs=True, metrics=True)
        assert [] == follower.last(0)
        folder.metric("eval", {"score": 1})
        with (folder.folder / "logs/logs.jsonl").open("ab") as file:
            file.write(lines({"message": "four"}))

        first, second = follower.added(), follower.added()

        assert {("log", "four"), ("metric", "eval")} == {
            (entry.stream, entry.metric or entry.body["message"]) for entry in first
        }
        assert [] == second
