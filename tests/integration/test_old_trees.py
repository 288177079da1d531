"""What the published client wrote reads the same, goes on, and stays readable for it."""

from __future__ import annotations

import json
import math
from contextlib import contextmanager

import pytest

from ml_dash import Experiment
from ml_dash.catalog.index import read_index
from ml_dash.catalog.row_columns import to_list
from ml_dash.catalog.runs import runs
from ml_dash.query.run import open_run
from tests.legacy.trees import OldRun
from tests.legacy.upload import taken

PREFIX = "rosa/walker/seeds/run-7"


@pytest.fixture
def old(tmp_path):
    return OldRun(tmp_path, PREFIX)


@contextmanager
def opened(tmp_path, prefix=PREFIX, **options):
    with Experiment(prefix, **{"dash_root": tmp_path, "echo": False} | options).run as exp:
        yield exp


@contextmanager
def only_read(tmp_path, prefix=PREFIX):
    yield open_run(prefix, tmp_path)


@pytest.fixture(params=[only_read, opened], ids=["open_run", "Experiment"])
def reading(request, tmp_path):
    """Both ways to read: a run that nobody writes, and an experiment of the same prefix."""
    return lambda **options: request.param(tmp_path, **options)


def data_of(metric):
    return [point["data"] for point in metric.read(limit=None)["data"]]


def document(path):
    return json.loads(path.read_text())


class TestMetrics:
    def test_named_unnamed_and_nested_ones_are_read(self, old, reading):
        for name in ("train", "None", "train/loss"):
            old.metric(name, {"name": name, "_ts": 1.0}, {"name": name, "_ts": 2.0})
        with reading() as run:
            assert [None, "train", "train/loss"] == run.metrics.list()
            for name in (None, "train", "train/loss"):
                assert [{"name": str(name), "_ts": when} for when in (1.0, 2.0)] == data_of(run.metrics(name))

    def test_floats_that_are_not_finite_are_floats(self, old, reading):
        old.metric("train", {"loss": math.nan, "_ts": 1.0}, {"loss": [math.inf, -math.inf], "_ts": 2.0})
        with reading() as run:
            first, second = data_of(run.metrics("train"))

            assert math.isnan(first["loss"])
            assert [math.inf, -math.inf] == second["loss"]
            assert 1 == run.metrics("train").stats()["fields"]["loss"]["nan_count"]

    def test_the_order_of_lines_counts_where_indices_were_given_twice(self, old, reading):
        old.metric("train", *({"step": step, "_ts": 9.0 - step} for step in range(5)), indices=[0, 1, 2, 0, 1])
        with reading() as run:
            assert list(range(5)) == [data["step"] for data in data_of(run.metrics("train"))]
            assert [3, 4] == [p["data"]["step"] for p in run.metrics("train").read(3)["data"]]
            assert 5 == run.metrics("train").stats()["totalDataPoints"]

    @pytest.mark.parametrize("broken", [None, "", "{", "[]", '{"nextIndex": "x", "tags'])
    def test_a_broken_document_beside_the_points_does_not_matter(self, old, tmp_path, broken):
        old.metric("train", *({"step": step} for step in range(3)), torn='{"index": 3, "da')
        if broken is None:
            (old.folder / "metrics/train/metadata.json").unlink()
        else:
            old.text("metrics/train/metadata.json", broken)

        run = open_run(PREFIX, tmp_path)

        assert [0, 1, 2] == [data["step"] for data in data_of(run.metrics("train"))]
        assert [("train", 3)] == [(about["name"], about["totalDataPoints"]) for about in run.metrics.list_all()]


class TestFlatMetrics:
    """``metrics/<name>.jsonl``, a form that the published client no longer writes."""

    LINES = (
        {"timestamp": "2026-03-01T09:00:00Z", "data": {"value": 0.5, "step": 1}},
        {"timestamp": "2026-03-01T09:00:01.500000Z", "data": {"value": math.nan, "step": 2}},
        {"timestamp": "2026-03-01T09:00:02Z", "data": 0.25},
    )
    START = 1772355600.0

    def test_they_are_points_with_a_position_and_a_time(self, old, reading):
        old.lines("metrics/loss.jsonl", self.LINES, torn='{"timestamp": "2026')
        with reading() as run:
            points = run.metrics("loss").read()["data"]

            assert ["loss"] == run.metrics.list()
            assert [0, 1, 2] == [point["index"] for point in points]
            assert [self.START + second for second in (0, 1.5, 2)] == [point["data"]["_ts"] for point in points]
            assert (0.5, 0.25) == (points[0]["data"]["value"], points[2]["data"]["value"])
            assert [2] == [point["index"] for point in run.metrics("loss").read(2)["data"]]
            assert ("2026-03-01T09:00:02Z", 3) == (
                points[2]["createdAt"],
                run.metrics("loss").stats()["totalDataPoints"],
            )

    def test_they_are_columns(self, old, tmp_path):
        old.lines("metrics/loss.jsonl", self.LINES)
        metric = open_run(PREFIX, tmp_path).metrics("loss")

        assert [0, 1, 2] == metric.table()["_index"].to_pylist()
        assert [2] == metric.table(start_timestamp=self.START + 2)["_index"].to_pylist()
        assert 0.25 == metric.numpy(["value"])["value"][2]
        assert self.START + 2 == metric.stats()["lastTimestamp"]

    def test_all_names_are_found(self, old, tmp_path):
        """Also beside a folder, in one, and with the name of a journal."""
        old.metric("train", {"step": 0, "_ts": self.START + 9})
        for name in ("train", "None", "train/loss", "data"):
            old.lines(f"metrics/{name}.jsonl", self.LINES[:1])
        run = open_run(PREFIX, tmp_path)

        assert [None, "data", "train", "train/loss"] == run.metrics.list()
        assert [1, 0] == [data["step"] for data in data_of(run.metrics("train"))]
        assert [1, 1, 1] == [len(data_of(run.metrics(name))) for name in (None, "data", "train/loss")]

    def test_they_go_on_in_a_folder(self, old, tmp_path):
        old.lines("metrics/loss.jsonl", self.LINES)
        with opened(tmp_path) as exp:
            exp.metrics("loss").log(value=0.125)

            assert [0, 1, 2, 3] == [point["index"] for point in exp.metrics("loss").read()["data"]]
            assert 0.125 == data_of(exp.metrics("loss"))[3]["value"]
        assert 4 == document(old.folder / "metrics/loss/metadata.json")["nextIndex"]

    def test_tables_of_runs_have_them(self, old, tmp_path):
        old.lines("metrics/loss.jsonl", self.LINES[:1])
        old.lines("metrics/data.jsonl", [{"timestamp": "2026-03-01T09:00:00Z", "data": 2.0}])
        columns = read_index(str(tmp_path), cached=False).rows.columns

        assert [[0.5], [2.0]] == [to_list(columns[f"m:{name}/value"]) for name in ("loss", "data")]


class TestTracks:
    def test_a_folder_with_underscores_is_the_topic_with_slashes(self, old, reading):
        old.track("robot/arm", {"timestamp": 2.0, "q": [0.1]}, {"timestamp": 1.0, "cam.pos": [0, 0, 1]})
        with reading() as run:
            assert ["robot/arm"] == run.tracks.topics()
            assert [1.0, 2.0] == [row["timestamp"] for row in run.tracks("robot/arm").read()["entries"]]
            assert [[0, 0, 1]] == [row["cam.pos"] for row in run.tracks("robot/arm").slice(0, 1)]

    def test_rows_of_one_time_are_one_row_in_order_of_time(self, old, reading):
        old.track(
            "pose",
            {"timestamp": 3.0, "x": 3},
            {"timestamp": 1, "x": 1, "y": math.nan},
            {"timestamp": 3.0, "x": 4, "z": 0},
            torn='{"timestamp": 9.0',
        )
        with reading() as run:
            first, second = run.tracks("pose").read()["entries"]

            assert (1.0, 1, True) == (first["timestamp"], first["x"], math.isnan(first["y"]))
            assert {"timestamp": 3.0, "x": 4, "z": 0} == second

    def test_topics_that_shared_a_folder_have_its_rows_each(self, old, reading):
        """Which row was whose is not written anywhere, and that client gave all of them for either name."""
        old.track("a/b", {"timestamp": 1.0, "x": 1}, {"timestamp": 2.0, "x": 2})
        with reading() as run:
            for topic in ("a/b", "a_b"):
                assert [1, 2] == [row["x"] for row in run.tracks(topic).read()["entries"]]
            assert ["a/b"] == run.tracks.topics()

    @pytest.mark.parametrize("broken", [None, "", "{", '{"topic": 3}'])
    def test_they_are_read_by_topic_without_a_document_that_names_it(self, old, tmp_path, broken):
        old.track("robot/arm/left", {"timestamp": 1.0, "x": 1})
        if broken is None:
            (old.folder / "tracks/robot_arm_left/metadata.json").unlink()
        else:
            old.text("tracks/robot_arm_left/metadata.json", broken)
        run = open_run(PREFIX, tmp_path)

        assert [1] == [row["x"] for row in run.tracks("robot/arm/left").read()["entries"]]
        assert ["robot_arm_left"] == run.tracks.topics()

    def test_a_folder_of_this_client_is_one_topic(self, tmp_path):
        with opened(tmp_path) as exp:
            exp.tracks("a_b").append(x=1, _ts=1.0)

            assert [] == exp.tracks("a/b").read()["entries"]
        assert [] == open_run(PREFIX, tmp_path).tracks("a/b").read()["entries"]

    def test_what_is_appended_joins_what_was_there(self, old, tmp_path):
        old.track("robot/arm", {"timestamp": 1.0, "x": 1}, {"timestamp": 3.0, "x": 3})
        with opened(tmp_path) as exp:
            exp.tracks("robot/arm").append(y=1, _ts=1.0)
            exp.tracks("robot/arm").append(x=2, _ts=2.0)
        run = open_run(PREFIX, tmp_path)

        assert [
            {"timestamp": 1.0, "x": 1, "y": 1},
            {"timestamp": 2.0, "x": 2},
            {"timestamp": 3.0, "x": 3},
        ] == run.tracks("robot/arm").read()["entries"]
        assert ["robot/arm"] == run.tracks.topics()
        assert 4 == run.tracks.list()[0]["totalEntries"]


class TestParameters:
    @pytest.mark.parametrize(
        "content",
        [
            {"version": 2, "data": {"lr": 1e-3, "model.layers": 4}, "updatedAt": "2026-03-01T09:00:00Z"},
            {"lr": 1e-3, "model.layers": 4},
            {"lr": 1e-3, "model": {"layers": 4}},
        ],
        ids=["versioned", "bare", "nested"],
    )
    def test_every_form_is_read_flat_and_goes_on(self, old, tmp_path, content):
        old.document("parameters.json", content)

        assert {"lr": 1e-3, "model.layers": 4} == open_run(PREFIX, tmp_path).params.get()
        with opened(tmp_path) as exp:
            assert {"lr": 1e-3, "model": {"layers": 4}} == exp.params.get(flatten=False)
            exp.params.set(seed=1)
            assert {"lr": 1e-3, "model.layers": 4, "seed": 1} == exp.params.get()
        assert {"seed", "lr"} <= document(old.folder / "parameters.json")["data"].keys()

    def test_values_keep_their_kind(self, old, reading):
        values = {"big": 2**70, "none": None, "list": [1, {"a": 2}], "text": "ñ☃😀", "inf": -math.inf, "nan": math.nan}
        old.parameters(values)
        with reading() as run:
            found = run.params.get()

            assert math.isnan(found.pop("nan"))
            assert {name: value for name, value in values.items() if name != "nan"} == found


def test_text_that_reads_like_a_number_that_is_not_finite_is_text(old, tmp_path):
    old.parameters({"text": "NaN", "number": math.nan, "more": ["Infinity", -math.inf, "\\NaN"]})
    old.logs((0, "NaN"))
    old.metric("train", {"a": "NaN", "b": math.nan, "_ts": 1.0}, {"a": "x", "b": 1.0, "_ts": 2.0})
    old.track("pose", {"timestamp": 1.0, "a": "-Infinity", "b": -math.inf})
    old.file("/a.bin", b"a", "7353347710644449", description="NaN", metadata={"a": "NaN", "b": math.inf})

    def check(run):
        params, [first, *_] = run.params.get(), data_of(run.metrics("train"))
        [row], [record] = run.tracks("pose").read()["entries"], run.files.list()

        assert ("NaN", ["Infinity", -math.inf, "\\NaN"]) == (params["text"], params["more"])
        assert ("NaN", "NaN") == (run.logs.read()[0]["message"], first["a"])
        assert [True, True] == [math.isnan(params["number"]), math.isnan(first["b"])]
        assert ["b"] == list(run.metrics("train").stats()["fields"])
        assert ("-Infinity", -math.inf) == (row["a"], row["b"])
        assert ("NaN", {"a": "NaN", "b": math.inf}) == (record["description"], record["metadata"])

    check(open_run(PREFIX, tmp_path))
    with opened(tmp_path) as exp:
        exp.params.set(seed=1)
        exp.metrics("train").log(b=1)
        exp.files.save_blob(b"b", to="b.bin")
        exp.files.delete("b.bin")
        check(exp)
    check(open_run(PREFIX, tmp_path))
    columns = read_index(str(tmp_path), cached=False).rows.columns
    assert ["NaN"] == to_list(columns["c:text"])


class TestLogs:
    def test_lines_stay_in_their_order_whatever_their_numbers(self, old, reading):
        old.logs((0, "a"), (1, "b"), (0, "c"), (1, "d"), torn='{"sequenceNumber": 2, "mess')
        with reading() as run:
            assert ["a", "b", "c", "d"] == [line["message"] for line in run.logs.read()]
            assert ["c", "d"] == [line["message"] for line in run.logs.read(start="2026-03-01T09:00:02+00:00")]

    def test_a_full_second_comes_before_its_fractions_among_several_writers(self, old, tmp_path):
        old.logs((0, "first"))
        line = {"sequenceNumber": 0, "timestamp": "2026-03-01T09:00:00.250000Z", "level": "info", "message": "second"}
        old.lines("logs/logs.host-1.jsonl", [line])

        assert ["first", "second"] == [line["message"] for line in open_run(PREFIX, tmp_path).logs.read()]

    @pytest.mark.parametrize(
        ("numbers", "sequence", "following"),
        [
            ((0, 1, 2), "3", 3),
            ((0, 1, 2), None, 3),
            ((0, 1, 2), "9", 9),  # its last lines were lost
            ((0, 1, 2, 0), "1", 4),  # it began anew
            ((0, 1, 2), "x", 3),
            ((), "5", 5),
        ],
    )
    def test_no_number_is_given_again(self, old, tmp_path, numbers, sequence, following):
        old.logs(*((number, "old") for number in numbers), sequence=sequence)
        with opened(tmp_path) as exp:
            exp.log("new")

            assert [*numbers, following] == [line["sequenceNumber"] for line in exp.logs.read()]


class TestFiles:
    def test_live_ones_are_listed_and_read(self, old, reading):
        old.file("/ckpt/best.pt", b"weights", "7353347710644449", metadata={"epoch": 3, "loss": math.nan})
        old.file("/gone.bin", b"gone", "7353347710644450", deleted=True)
        old.file("/top.bin", b"top", "7353347710644451")
        with reading() as run:
            assert ["best.pt", "top.bin"] == [entry["filename"] for entry in run.files.list()]
            assert (b"weights", b"top") == (run.files.read_bytes("ckpt/best.pt"), run.files.read_bytes("top.bin"))
            assert math.isnan(run.files.record("ckpt/best.pt")["metadata"]["loss"])
            assert not run.files.exists("gone.bin")

    def test_a_file_that_was_deleted_and_saved_again_is_there(self, old, reading):
        old.file("/a.bin", b"old", "7353347710644449", deleted=True)
        old.file("/a.bin", b"new", "7353347710644450")
        with reading() as run:
            assert b"new" == run.files.read_bytes("a.bin")
            assert 1 == len(run.files.list())

    def test_two_files_of_one_id_are_two_files(self, old, tmp_path):
        """Its ids are a millisecond and twelve random bits."""
        old.file("/a.bin", b"a", "7353347710644449")
        old.file("/b.bin", b"b", "7353347710644449")
        alone = open_run(PREFIX, tmp_path)

        assert (b"a", b"b") == (alone.files.read_bytes("a.bin"), alone.files.read_bytes("b.bin"))
        with opened(tmp_path) as exp:
            exp.files.delete("b.bin")
            exp.files.save_blob(b"c", to="c.bin")

            assert (b"a", b"c") == (exp.files.read_bytes("a.bin"), exp.files.read_bytes("c.bin"))
            assert ["a.bin", "c.bin"] == [entry["filename"] for entry in exp.files.list()]
        assert {"a.bin": b"a", "c.bin": b"c"} == taken(tmp_path)[PREFIX].files

    def test_a_list_that_is_broken_costs_the_list_and_no_file(self, old, tmp_path):
        old.file("/ckpt/best.pt", b"weights", "7353347710644449")
        for broken in ("", "[]", '{"files": null}', '{"files": [{"id": "7353347710644449", "pa'):
            old.text("files/.files_metadata.json", broken)
            assert [] == open_run(PREFIX, tmp_path).files.list()
        with opened(tmp_path) as exp:
            exp.files.save_blob(b"new", to="new.bin")
        assert {"new.bin": b"new"} == taken(tmp_path)[PREFIX].files
        assert b"weights" == (old.folder / "files/ckpt/7353347710644449/best.pt").read_bytes()

    def test_a_record_that_leads_out_of_its_folder_removes_nothing(self, old, tmp_path):
        old.file("/a.bin", b"a", "7353347710644449")
        listed = document(old.folder / "files/.files_metadata.json")["files"]
        strays = [listed[0] | {"id": "..", "filename": name} for name in ("x", "x", "../../x", "../../x")]
        old.document("files/.files_metadata.json", {"files": [*listed, *strays]})
        with opened(tmp_path) as exp:
            exp.files.save_blob(b"b", to="b.bin")
        assert {"a.bin": b"a", "b.bin": b"b"} == taken(tmp_path)[PREFIX].files


class TestTurns:
    """A run that is written by this client and by the published one in turn."""

    @pytest.fixture
    def ours(self, tmp_path):
        with opened(tmp_path) as exp:
            exp.files.save_blob(b"1", to="kept.bin")
            exp.files.save_blob(b"2", to="deleted.bin")
            exp.files.save_blob(b"3", to="replaced.bin")
        return tmp_path / PREFIX

    def their_turn(self, ours):
        listed = document(ours / "files/.files_metadata.json")["files"]
        listed[1] |= {"deletedAt": "2099-01-01T00:00:00Z", "updatedAt": "2099-01-01T00:00:00Z"}
        number = str(int(listed[2]["id"][:16]) + 4096)  # theirs are the time alone
        for name, content, record in (("replaced.bin", b"4", number), ("added.bin", b"5", str(int(number) + 1))):
            blob = ours / "files" / record / name
            blob.parent.mkdir()
            blob.write_bytes(content)
        checksums = ("4b227777d4dd1fc61c6f884f48641d02b4d121d3fd328cb08b5531fcacdabf8a",)
        checksums += ("ef2d127de37b942baad06145e54b0c619a1f22327b2ebbcfbec78f5564afe39d",)
        added = listed[2] | {"id": str(int(number) + 1), "filename": "added.bin", "checksum": checksums[1]}
        listed[2] |= {"id": number, "checksum": checksums[0]}
        (ours / "files/.files_metadata.json").write_text(json.dumps({"files": [*listed, added]}))

    def test_each_sees_the_files_of_the_other(self, ours, tmp_path, reading):
        self.their_turn(ours)
        with reading() as run:
            assert ["added.bin", "kept.bin", "replaced.bin"] == sorted(e["filename"] for e in run.files.list())
            assert (b"4", b"5") == (run.files.read_bytes("replaced.bin"), run.files.read_bytes("added.bin"))
        with opened(tmp_path) as exp:
            exp.files.save_blob(b"6", to="last.bin")
        files = taken(tmp_path)[PREFIX].files

        assert {"kept.bin": b"1", "replaced.bin": b"4", "added.bin": b"5", "last.bin": b"6"} == files


class TestRuns:
    def test_what_the_run_says_of_itself_is_read(self, tmp_path):
        OldRun(tmp_path, f"/{PREFIX}", description="grün ☃", tags=["ppo"], metadata={"k": math.inf})
        (run,) = runs(tmp_path)

        assert (PREFIX, "walker", "rosa", None, False) == (run.prefix, run.project, run.owner, run.status, run.is_live)
        assert ("grün ☃", ["ppo"], {"k": math.inf}) == (run.readme, run.tags, run.metadata)
        assert PREFIX == open_run(run.folder, tmp_path / "elsewhere").prefix

    def test_a_prefix_of_one_segment_is_a_run(self, tmp_path):
        OldRun(tmp_path, "solo").parameters({"lr": 1})
        with opened(tmp_path, prefix="solo") as exp:
            exp.metrics("train").log(step=0)
            assert {"lr": 1} == exp.params.get()
        (run,) = runs(tmp_path)

        assert ("solo", None, 1) == (run.prefix, run.owner, len(data_of(run.metrics("train"))))

    @pytest.mark.parametrize("broken", ["", "{", "[]", "null", '{"name": "run-7", "pro'])
    def test_broken_documents_cost_only_what_they_held(self, old, tmp_path, broken):
        old.logs((0, "old"))
        old.metric("train", {"step": 0})
        for name in ("experiment.json", "parameters.json", "files/.files_metadata.json"):
            old.text(name, broken)
        (run,) = runs(tmp_path)

        assert (PREFIX, "walker", {}) == (run.prefix, run.project, run.params.get())
        with opened(tmp_path) as exp:
            exp.params.set(lr=1)
        about = taken(tmp_path)[PREFIX]
        assert ({"lr": 1}, ["old"], {"train": [{"step": 0}]}) == (
            about.parameters,
            [line["message"] for line in about.logs],
            about.metrics,
        )

    @pytest.mark.parametrize("kind", ["parameters", "metric", "flat"])
    def test_a_run_without_its_document_is_found_by_what_it_recorded(self, old, tmp_path, kind):
        if kind == "parameters":
            old.parameters({"lr": 1})
        elif kind == "metric":
            old.metric("train", {"step": 0})
        else:
            old.lines("metrics/train.jsonl", TestFlatMetrics.LINES)
        (old.folder / "experiment.json").unlink()
        index = read_index(str(tmp_path), cached=False)

        assert [PREFIX] == runs(tmp_path).prefixes()
        assert (PREFIX, "walker") == (open_run(PREFIX, tmp_path).prefix, open_run(PREFIX, tmp_path).project)
        assert ([PREFIX], []) == (index.paths, index.problems)

    def test_a_folder_without_any_record_is_no_run(self, tmp_path):
        (tmp_path / "rosa/metrics/run-1").mkdir(parents=True)
        (tmp_path / "rosa/metrics/run-1/experiment.json").write_text("{}")
        (tmp_path / "rosa/empty/metrics/train").mkdir(parents=True)
        (tmp_path / "rosa/empty/metrics/train/data.jsonl").touch()

        assert ["rosa/metrics/run-1"] == runs(tmp_path).prefixes()
        assert ["rosa/metrics/run-1"] == read_index(str(tmp_path), cached=False).paths


def test_a_run_that_goes_on_keeps_everything_and_is_uploaded(old, tmp_path):
    old.parameters({"lr": 0.1})
    old.logs((0, "old"), sequence="1")
    old.metric("train", {"step": 0, "_ts": 1.0}, {"step": 1, "_ts": 2.0})
    old.metric("None", {"epoch": 1, "_ts": 1.0})
    old.file("/ckpt/best.pt", b"weights", "7353347710644449", tags=["best"])
    with opened(tmp_path, tags=["more"]) as exp:
        exp.params.set(seed=1)
        exp.log("new")
        exp.metrics("train").log(step=2)
        exp.metrics.log(epoch=2)
        exp.files("ckpt").save_blob(b"better", to="last.pt")
    run = taken(tmp_path)[PREFIX]

    assert (["more"], "2026-03-01T09:00:00.100000Z") == (run.about["tags"], run.about["created_at"])
    assert {"lr": 0.1, "seed": 1} == run.parameters
    assert [(0, "old"), (1, "new")] == [(line["sequenceNumber"], line["message"]) for line in run.logs]
    assert [0, 1, 2] == [data["step"] for data in run.metrics["train"]]
    assert [1, 2] == [data["epoch"] for data in run.metrics["None"]]
    assert {"ckpt/best.pt": b"weights", "ckpt/last.pt": b"better"} == run.files
    assert (3, 3) == tuple(
        document(old.folder / "metrics/train/metadata.json")[key] for key in ("totalDataPoints", "nextIndex")
    )


def test_what_this_client_writes_is_what_the_published_upload_takes(tmp_path):
    prefixes = [PREFIX, "rosa/walker/run-8", "kim/other/x"]
    for prefix in prefixes:
        with opened(tmp_path, prefix=prefix, readme="grün ☃", tags=["ppo"]) as exp:
            exp.params.set(model={"layers": 4}, lr=math.nan, big=2**70)
            exp.log("hello ☃\nnew", metadata={"bad": math.inf})
            exp.metrics.log(epoch=1, train={"loss": 0.5}, eval={"loss": math.nan})
            for _ in range(2):
                exp.files("ckpt/deep").save_blob(b"x" * 9_000_000, to="ü.pt")  # too large to be hashed at once
            exp.files.save_text("gone", to="gone.txt")
            exp.files.delete("gone.txt")
    found = taken(tmp_path)

    assert sorted(prefixes) == sorted(found)
    for prefix, run in found.items():
        assert (prefix.split("/")[1], "grün ☃", ["ppo"], False) == tuple(
            run.about[key] for key in ("project", "description", "tags", "write_protected")
        )
        assert {"model.layers": 4, "lr": "NaN", "big": 2**70} == run.parameters
        assert ["hello ☃\nnew"] == [line["message"] for line in run.logs]
        assert ["None", "eval", "train"] == sorted(run.metrics)
        assert {"ckpt/deep/ü.pt": b"x" * 9_000_000} == run.files
