"""The columnar copy of a journal: what it holds, when it is renewed, and that it is never trusted blindly."""

from __future__ import annotations

import datetime
import json
import math
import os
import random
import zlib

import numpy as np
import orjson
import pyarrow.parquet as pq
import pytest

from ml_dash.query import tables
from ml_dash.query.metric_stats import field_stats
from ml_dash.records.values import decode
from ml_dash.storage import compaction, metric_reading, parquet_copy, range_reading, track_reading
from ml_dash.storage.columns import rows_to_table
from ml_dash.storage.compaction import POINTS, ROWS
from tests.run_contents import copied_rows, copy_coverage


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    monkeypatch.setattr(compaction, "GROUP_LINES", 64)
    monkeypatch.setattr(range_reading, "LARGE_BYTES", 0)
    monkeypatch.setattr(range_reading, "TAIL_LINES", 50)
    monkeypatch.setenv("ML_DASH_COLUMNAR_ROWS", "0")  # readers make no copies, except in their own tests


@pytest.fixture
def _readers_make_copies(monkeypatch):
    monkeypatch.delenv("ML_DASH_COLUMNAR_ROWS")


def points(count, start=0):
    return [
        {
            "index": i,
            "data": {"loss": i * 0.5, "step": i, "_ts": 100.0 + i},
            "createdAt": "2026-03-01T09:00:05.000120Z",
        }
        for i in range(start, start + count)
    ]


def append(path, objects):
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        file.write(b"".join(orjson.dumps(value) + b"\n" for value in objects))


@pytest.fixture
def metric(tmp_path):
    return tmp_path / "run/metrics/train/data.jsonl"


@pytest.fixture
def track(tmp_path):
    return tmp_path / "run/tracks/pose/data.jsonl"


def run_of(journal):
    return str(journal.parents[2])


def table_of(journal, **window):
    given = {"start": None, "end": None, "columns": None} | window
    if journal.parts[-3] == "metrics":
        return tables.metric_table(run_of(journal), "train", **given)
    return tables.track_table(run_of(journal), "pose", **given)


def damage(path, where):
    data = bytearray(path.read_bytes())
    data[where] ^= 0xFF
    path.write_bytes(data)


def test_a_copy_holds_every_point_and_reads_with_any_reader_of_parquet(metric):
    append(metric, points(200))

    assert compaction.build(str(metric), POINTS)

    found = pq.read_table(metric.with_suffix(".parquet"))
    assert {"_index", "_ts", "loss", "step", "_createdAt"} == set(found.schema.names)
    assert [i * 0.5 for i in range(200)] == found["loss"].to_pylist()
    assert list(range(200)) == found["step"].to_pylist()


def test_a_complete_copy_is_left_alone(metric):
    append(metric, points(10))
    assert compaction.build(str(metric), POINTS)
    before = metric.with_suffix(".parquet").stat().st_ino

    assert not compaction.build(str(metric), POINTS)
    assert before == metric.with_suffix(".parquet").stat().st_ino


def test_a_journal_without_a_row_gets_no_copy(metric):
    append(metric, [{"index": 0}, 17])

    assert not compaction.build(str(metric), POINTS)
    assert not metric.with_suffix(".parquet").exists()


def test_an_older_copy_is_continued_and_its_large_groups_are_kept(metric):
    append(metric, points(64 * 2 + 5))
    compaction.build(str(metric), POINTS)
    append(metric, points(200, start=133))

    assert compaction.build(str(metric), POINTS)

    coverage = copy_coverage(str(metric))
    assert [64] * 5 + [13] == [group.rows for group in coverage.groups]
    assert list(range(333)) == table_of(metric)["step"].to_pylist()


def test_a_column_that_comes_later_or_changes_its_type_widens_the_copy(metric):
    append(metric, points(128))
    compaction.build(str(metric), POINTS)
    later = points(100, start=128)
    for point in later:
        point["data"] |= {"step": point["data"]["step"] + 0.5, "loss": "high", "extra": [1, 2]}
    append(metric, later)

    compaction.build(str(metric), POINTS)

    found = tables.to_numpy(table_of(metric))
    assert np.array_equal([*range(128), *np.arange(128, 228) + 0.5], found["step"])
    assert [0.0, 0.5] == list(found["loss"][:2])
    assert "high" == found["loss"][-1]
    assert found["extra"][0] is None
    assert [1, 2] == list(found["extra"][-1])


def test_the_points_after_the_copy_come_from_the_journal(metric):
    append(metric, points(100))
    compaction.build(str(metric), POINTS)
    append(metric, points(120, start=100))

    assert list(range(220)) == table_of(metric)["step"].to_pylist()
    assert list(range(95, 105)) == [
        point["index"] for point in metric_reading.metric_points(run_of(metric), "train", 95, 105)
    ]
    assert list(range(215, 220)) == [
        point["index"] for point in metric_reading.metric_points(run_of(metric), "train", 215)
    ]
    assert [] == list(metric_reading.metric_points(run_of(metric), "train", 220))


def test_a_torn_line_is_in_neither(metric):
    append(metric, points(100))
    with metric.open("ab") as file:
        file.write(b'{"index":100,"da')

    compaction.build(str(metric), POINTS)

    assert 100 == copied_rows(str(metric))
    assert list(range(100)) == table_of(metric)["step"].to_pylist()


def test_lines_that_are_no_points_are_passed_over(metric):
    append(metric, [*points(70), {"index": 1}, [], *points(70, start=70)])
    compaction.build(str(metric), POINTS)

    window = metric_reading.metric_points(run_of(metric), "train", 60, 80)

    assert list(range(60, 80)) == [point["index"] for point in window]
    assert 140 == len(table_of(metric))


def test_the_numbers_of_a_metric_are_the_same_from_its_copy(metric):
    some = points(150)
    for number, point in enumerate(some):
        point["data"] |= {"flag": True, "sometimes": 2.5} if number % 3 else {"nan": "NaN", "sub": {"x": number}}
    append(metric, some)
    compaction.build(str(metric), POINTS)
    append(metric, points(20, start=150))
    found = field_stats([str(metric)])
    metric.with_suffix(".parquet").unlink()
    expected = field_stats([str(metric)])

    assert {"loss", "step", "sometimes", "nan", "sub.x"} == set(expected["fields"])
    assert set(expected["fields"]) == set(found["fields"])
    for name, numbers in expected["fields"].items():
        assert pytest.approx(numbers, nan_ok=True) == found["fields"][name]
    assert [170, 170] == [expected["totalDataPoints"], found["totalDataPoints"]]


@pytest.mark.parametrize("part", [0.01, 0.3, 0.9, 0.97])
def test_a_damaged_copy_is_not_trusted_and_is_made_again(metric, part):
    append(metric, points(300))
    compaction.build(str(metric), POINTS)
    copy = metric.with_suffix(".parquet")
    for byte in range(40):
        damage(copy, int(copy.stat().st_size * part) + byte)

    assert list(range(300)) == table_of(metric)["step"].to_pylist()
    assert compaction.build(str(metric), POINTS)
    with parquet_copy.opened(str(metric)) as copy:
        assert copy.is_intact()


def test_a_byte_that_is_wrong_anywhere_in_a_copy_never_shows(metric):
    append(metric, points(30))
    compaction.build(str(metric), POINTS)
    copy = metric.with_suffix(".parquet")
    expected = table_of(metric).to_pydict()
    whole = copy.read_bytes()

    for place in range(0, len(whole), 7):
        copy.write_bytes(whole)
        damage(copy, place)
        assert expected == table_of(metric).to_pydict(), place


def test_a_copy_of_another_journal_is_not_trusted(metric):
    append(metric, points(300))
    compaction.build(str(metric), POINTS)
    metric.unlink()
    append(metric, points(300, start=1000))

    assert copy_coverage(str(metric)) is None
    assert list(range(1000, 1300)) == table_of(metric)["step"].to_pylist()


def test_a_copy_of_more_than_the_journal_has_is_not_trusted(metric):
    append(metric, points(300))
    compaction.build(str(metric), POINTS)
    with metric.open("rb+") as file:
        file.truncate(1000)

    assert copy_coverage(str(metric)) is None
    assert len(table_of(metric)) < 20


def test_a_missing_copy_changes_nothing_but_the_time(metric):
    append(metric, points(300))
    without = table_of(metric)
    compaction.build(str(metric), POINTS)

    assert without.to_pydict() == table_of(metric).to_pydict()


@pytest.mark.parametrize("window", [(None, 120.0), (150.0, None), (131.5, 260.0), (1e9, None), (90.0, 100.0)])
def test_a_window_of_time_is_the_same_with_and_without_a_copy(metric, window):
    append(metric, points(300))
    start, end = window
    expected = [i for i in range(300) if (start is None or 100 + i >= start) and (end is None or 100 + i <= end)]
    assert expected == table_of(metric, start=start, end=end)["step"].to_pylist()

    compaction.build(str(metric), POINTS)

    assert expected == table_of(metric, start=start, end=end)["step"].to_pylist()


def test_values_that_are_not_finite_stay_so(metric):
    append(
        metric, [{"index": 0, "data": {"a": "NaN", "_ts": 1.0}}, {"index": 1, "data": {"a": "-Infinity", "_ts": 2.0}}]
    )
    compaction.build(str(metric), POINTS)

    first, second = tables.to_numpy(table_of(metric))["a"]
    assert math.isnan(first)
    assert -math.inf == second


def test_a_value_with_the_name_of_a_column_of_ours_stands_beside_it(metric):
    append(metric, [{"index": 7, "data": {"_index": 3, "index": 4, "_ts": 1.0}}])
    compaction.build(str(metric), POINTS)

    row = table_of(metric).to_pylist()[0]
    assert [7, 3, 4] == [row["_index"], row["data._index"], row["index"]]


def random_rows(seed, count, unsorted):
    generator = random.Random(seed)
    times = [i * 0.25 for i in range(count)]
    if unsorted:
        generator.shuffle(times)
        times = [generator.choice(times[:40]) if generator.random() < 0.3 else time for time in times]
    rows = []
    for number, time in enumerate(times):
        fields = {"n": number, "q": [number, 0.5], "s": str(number), "none": None if number % 7 == 0 else 1}
        rows.append({"timestamp": time} | {k: v for k, v in fields.items() if generator.random() < 0.7})
    return rows


def model(rows, start=None, end=None):
    merged = {}
    for row in rows:
        merged.setdefault(row["timestamp"], {}).update(row)
    times = sorted(t for t in merged if (start is None or t >= start) and (end is None or t <= end))
    return [merged[time] for time in times]


def without_nulls(rows):
    return [{key: value for key, value in row.items() if value is not None} for row in rows]


@pytest.mark.parametrize("unsorted", [False, True], ids=["in order", "out of order and repeated"])
@pytest.mark.parametrize("built", [0, 150, 400], ids=["no copy", "older copy", "whole copy"])
def test_a_track_is_the_same_as_its_model_in_rows_and_in_columns(track, unsorted, built):
    rows = random_rows(1, 400, unsorted)
    append(track, rows[:built])
    if built:
        compaction.build(str(track), ROWS)
        assert built == copied_rows(str(track))
    append(track, rows[built:])

    for start, end in [(None, None), (10.0, 30.0), (50.25, 50.25), (99.0, None)]:
        expected = model(rows, start, end)
        assert expected == track_reading.merged_rows(run_of(track), "pose", start, end)
        table = table_of(track, start=start, end=end)
        assert without_nulls(expected) == without_nulls(table.to_pylist())


def test_rows_of_one_time_without_none_are_merged_in_columns(track):
    append(track, [{"timestamp": 1.0, "a": 1}, {"timestamp": 1.0, "b": [1, 2]}, {"timestamp": 0.5, "a": 3}])
    compaction.build(str(track), ROWS)

    found = table_of(track).to_pydict()

    assert {"timestamp": [0.5, 1.0], "a": [3, 1], "b": [None, [1, 2]]} == found


def test_lists_of_one_length_are_one_array(track):
    append(track, [{"timestamp": float(i), "q": [i, i + 1], "m": [[1, 2], [3, i]], "r": [0] * i} for i in range(5)])
    compaction.build(str(track), ROWS)

    found = tables.to_numpy(table_of(track))

    assert (5, 2) == found["q"].shape
    assert (5, 2, 2) == found["m"].shape
    assert 4 == found["m"][4, 1, 1]
    assert [3, (5,)] == [len(found["r"][3]), found["r"].shape]


def test_nothing_is_left_behind_when_a_copy_cannot_be_written(metric, monkeypatch):
    append(metric, points(10))

    def refuse(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(compaction.os, "replace", refuse)
    monkeypatch.setattr(compaction.os, "link", refuse)
    with pytest.raises(OSError, match="No space"):
        compaction.build(str(metric), POINTS)

    assert [metric] == list(metric.parent.iterdir())


def test_what_is_read_of_a_copy_belongs_together_while_it_is_renewed(track):
    """The small last group grows when the copy is renewed: reading it by its number would give rows twice."""
    append(track, [{"timestamp": float(i), "n": i} for i in range(100)])
    compaction.build(str(track), ROWS)
    with range_reading.copy_of(str(track)) as copy:
        append(track, [{"timestamp": float(i), "n": i} for i in range(100, 130)])
        assert compaction.build(str(track), ROWS)

        assert list(range(100)) == copy.read()["n"].to_pylist()
        assert 100 == sum(group.rows for group in copy.coverage.groups)


def test_names_that_are_no_utf_8_are_columns_as_well(metric):
    append(metric, points(3))
    with metric.open("ab") as file:
        file.write(b'{"index":3,"data":{"\\ud800":1.5,"_ts":103.0}}\n')

    assert compaction.build(str(metric), POINTS)
    assert [None, None, None, 1.5] == table_of(metric)["\\ud800"].to_pylist()


def test_a_time_beyond_the_largest_float_is_none(metric):
    append(metric, points(3))
    with metric.open("ab") as file:
        file.write(b'{"index":3,"data":{"_ts":1' + b"0" * 400 + b"}}\n")

    assert compaction.build(str(metric), POINTS)


def test_a_journal_with_very_many_names_gets_no_copy(metric, monkeypatch):
    monkeypatch.setattr(compaction, "MAX_COLUMNS", 20)
    append(metric, [{"index": i, "data": {f"episode_{i}/reward": i, "_ts": float(i)}} for i in range(100)])

    assert not compaction.build(str(metric), POINTS)
    assert [metric] == list(metric.parent.iterdir())
    assert 7 == table_of(metric)["episode_7/reward"].to_pylist()[7]


def test_a_column_is_asked_for_by_its_name_not_by_its_place_in_the_file(metric):
    append(metric, [{"index": i, "data": {"loss": [i, 1], "loss.list": i, "_ts": float(i)}} for i in range(5)])
    compaction.build(str(metric), POINTS)

    assert ["_index", "_ts", "loss.list"] == table_of(metric, columns=["loss.list"]).schema.names
    assert 5 == field_stats([str(metric)])["fields"]["loss.list"]["count"]


def test_truths_in_lists_stay_truths_where_others_are_floats():
    values = [[0.5, 1.5], [True, False]]

    assert values == [decode(text) for text in rows_to_table([{"a": value} for value in values])["a"].to_pylist()]


def test_values_with_our_names_have_the_same_numbers_with_and_without_a_copy(metric):
    append(metric, [{"index": i, "data": {"_index": i * 2.0, "_ts": float(i)}} for i in range(5)])
    expected = field_stats([str(metric)])["fields"]
    compaction.build(str(metric), POINTS)

    assert expected == field_stats([str(metric)])["fields"]


@pytest.mark.parametrize("memory", [0, 1 << 30], ids=["in a file", "in memory"])
def test_whatever_columns_the_pieces_have_the_copy_has_those_of_all(metric, monkeypatch, memory):
    """Whole numbers stay whole where a later piece makes JSON text of their column."""
    monkeypatch.setattr(compaction.TableSpill.__init__, "__defaults__", (memory,))
    values = [*range(64), *(i / 2 for i in range(64)), *("text" for _ in range(64))]
    append(metric, [{"index": i, "data": {"x": value, f"only{i // 64}": i}} for i, value in enumerate(values)])

    assert compaction.build(str(metric), POINTS)

    found = pq.read_table(metric.with_suffix(".parquet"))
    assert values == [decode(text) for text in found["x"].to_pylist()]
    assert "1" == found["x"][1].as_py()
    assert [None] * 128 + list(range(128, 192)) == found["only2"].to_pylist()


def test_a_name_that_is_no_utf_8_has_its_values_in_every_piece(metric):
    metric.parent.mkdir(parents=True)
    lines = [b'{"index":%d,"data":{"\\ud800":%s}}\n' % (i, b"1" if i < 64 else b'"t"') for i in range(128)]
    metric.write_bytes(b"".join(lines))

    assert compaction.build(str(metric), POINTS)

    assert ["1"] * 64 + ['"t"'] * 64 == pq.read_table(metric.with_suffix(".parquet"))["\\ud800"].to_pylist()


def experiment_document(journal, **changes):
    document = {"prefix": "a/b", "status": "COMPLETED"} | changes
    (journal.parents[2] / "experiment.json").write_bytes(orjson.dumps(document))


@pytest.mark.usefixtures("_readers_make_copies")
def test_who_reads_columns_of_an_ended_run_makes_the_copy_it_lacks(metric):
    append(metric, points(100))
    experiment_document(metric)

    assert 100 == len(table_of(metric, start=150.0, columns=["loss"])["loss"]) + 50
    assert 100 == copied_rows(str(metric))

    append(metric, points(100, start=100))
    assert list(range(200)) == table_of(metric)["step"].to_pylist()
    assert 200 == copied_rows(str(metric))


@pytest.mark.usefixtures("_readers_make_copies")
def test_a_copy_with_a_damaged_page_is_made_anew_by_its_reader(track):
    append(track, [{"timestamp": float(i), "x": i / 3} for i in range(300)])
    experiment_document(track)
    compaction.build(str(track), ROWS)
    copy = track.with_suffix(".parquet")
    damage(copy, copy.stat().st_size // 4)
    with parquet_copy.opened(str(track)) as damaged:
        assert damaged is not None
        assert not damaged.is_intact()

    assert [i / 3 for i in range(300)] == table_of(track)["x"].to_pylist()

    with parquet_copy.opened(str(track)) as renewed:
        assert renewed.is_intact()


@pytest.mark.usefixtures("_readers_make_copies")
def test_a_run_that_is_written_is_left_to_its_writer(metric):
    append(metric, points(100))
    experiment_document(metric, status="RUNNING", heartbeat_at=datetime.datetime.now(datetime.UTC).isoformat())

    assert 100 == len(table_of(metric))
    assert not metric.with_suffix(".parquet").exists()


def test_readers_make_no_copies_where_these_are_switched_off(metric):
    append(metric, points(100))
    experiment_document(metric)

    assert 100 == len(table_of(metric))
    assert not metric.with_suffix(".parquet").exists()


@pytest.mark.usefixtures("_readers_make_copies")
def test_a_small_journal_is_read_without_a_copy(metric, monkeypatch):
    monkeypatch.setattr(range_reading, "LARGE_BYTES", 1 << 20)
    append(metric, points(100))
    experiment_document(metric)

    assert 100 == len(table_of(metric))
    assert not metric.with_suffix(".parquet").exists()


@pytest.mark.usefixtures("_readers_make_copies")
def test_a_copy_that_cannot_be_written_costs_nothing_but_time(metric):
    append(metric, points(100))
    experiment_document(metric)
    place = metric.with_suffix(".parquet")
    place.mkdir()

    assert 100 == len(table_of(metric))
    assert [metric, place] == sorted(metric.parent.iterdir())


@pytest.mark.parametrize("time", ['""', '"soon"', "[1,null]", "true", "null", '{"a":1}'])
def test_a_point_whose_time_is_none_is_in_every_column_but_that(metric, time):
    metric.parent.mkdir(parents=True)
    metric.write_text('{"index":0,"data":{"x":1,"_ts":1.5}}\n' + f'{{"index":1,"data":{{"x":2,"_ts":{time}}}}}\n')
    without = table_of(metric)
    compaction.build(str(metric), POINTS)

    for found in (without, table_of(metric)):
        assert [1.5, None] == found["_ts"].to_pylist()
        assert [1, 2] == found["x"].to_pylist()


def test_a_row_whose_time_is_none_or_infinite_is_no_row(track):
    times = ['"x"', "true", "null", "1e400", "-1e400", "[1]", "2.5", "3"]
    track.parent.mkdir(parents=True)
    track.write_text("".join(f'{{"timestamp":{time},"x":1}}\n' for time in times))

    assert [2.5, 3.0] == table_of(track)["timestamp"].to_pylist()
    assert 2 == len(track_reading.merged_rows(run_of(track), "pose"))


@pytest.mark.parametrize("closings", [[192], [64, 192], [128, 192], [60, 150], [64, 128]])
def test_whole_numbers_in_a_column_of_several_types_stay_whole(metric, closings):
    """Whatever is in a copy when the first text comes, and whether it is in the copy or after it."""
    values = [*(2**60 + 1 if i % 2 else 5 for i in range(64)), *(0.5 for _ in range(64)), *("text" for _ in range(64))]
    lists = [[value] for value in values]
    done = 0
    for closed_at in closings:
        append(metric, [{"index": i, "data": {"x": values[i], "y": lists[i]}} for i in range(done, closed_at)])
        compaction.build(str(metric), POINTS)
        done = closed_at
    append(metric, [{"index": i, "data": {"x": values[i], "y": lists[i]}} for i in range(done, 192)])

    found = tables.to_numpy(table_of(metric))

    assert values == found["x"].tolist()
    assert lists == found["y"].tolist()
    assert int is type(found["x"][0])


def test_a_journal_is_known_by_the_checksum_of_each_group(metric):
    append(metric, points(100))
    compaction.build(str(metric), POINTS)

    groups = copy_coverage(str(metric)).groups
    content = metric.read_bytes()
    assert [zlib.crc32(content[group.start : group.end]) for group in groups] == [group.crc for group in groups]


@pytest.mark.usefixtures("_readers_make_copies")
def test_a_journal_with_too_many_names_is_not_read_through_for_a_copy_each_time(metric, monkeypatch):
    append(metric, [{"index": 0, "data": {f"x{number}": 1 for number in range(600)}}])
    experiment_document(metric)
    built = []
    real = compaction.build
    monkeypatch.setattr(compaction, "build", lambda *given: built.append(given) or real(*given))

    for _ in range(3):
        assert 1 == len(table_of(metric, columns=["x1"]))
    append(metric, [{"index": 0, "data": {f"x{number}": 1 for number in range(600)}}])
    table_of(metric)

    assert 2 == len(built)


def test_a_pipe_in_the_place_of_a_copy_keeps_nobody_waiting(metric):
    append(metric, points(100))
    os.mkfifo(metric.with_suffix(".parquet"))

    assert 100 == len(table_of(metric))
    assert copy_coverage(str(metric)) is None


def test_a_journal_that_was_edited_in_its_middle_is_found(track):
    append(track, [{"timestamp": float(i), "v": 100_000 + i, "pad": "x" * 200} for i in range(300)])
    compaction.build(str(track), ROWS)
    coverage = copy_coverage(str(track))
    assert parquet_copy.fits(coverage, str(track))

    track.write_bytes(track.read_bytes().replace(b'"v":100150,', b'"v":999999,'))

    assert coverage == copy_coverage(str(track))
    assert not parquet_copy.fits(coverage, str(track))


def test_a_copy_of_an_earlier_version_is_still_read(metric):
    """Its row groups also have a key ``sorted``."""
    append(metric, points(100))
    compaction.build(str(metric), POINTS)
    coverage = copy_coverage(str(metric))
    [document] = coverage.to_metadata().values()
    document = json.loads(document[8:])
    document["groups"] = [group | {"sorted": True} for group in document["groups"]]
    text = json.dumps(document).encode()

    assert coverage == parquet_copy.parse(b"%08x" % zlib.crc32(text) + text)
