"""What the commands are made of: texts for people, tables, the filters of ``ls``, and the end of a journal."""

from __future__ import annotations

import datetime
import itertools
import math
import re
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_dash._printable import clean
from ml_dash.catalog.matching import matcher
from ml_dash.catalog.rows import Row, last_values, read_rows
from ml_dash.cli import formatting, output
from ml_dash.cli.exits import WrongCallError
from ml_dash.cli.filters import options_condition, parameter_condition
from ml_dash.cli.formatting import clip, display_width
from ml_dash.cli.screen import Section, fit, metric_lines, time_lines
from ml_dash.cli.table import Column, table
from ml_dash.query.differences import changes, same
from ml_dash.query.follow import Follower
from ml_dash.query.run import RunReader
from ml_dash.records.values import encode
from ml_dash.storage import scan

if TYPE_CHECKING:
    from pathlib import Path

NOW = datetime.datetime(2026, 3, 1, 12, tzinfo=datetime.UTC)


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        *((None, "-"), (0.04, "0.0 s"), (9.94, "9.9 s"), (59, "59 s"), (200, "3 min 20 s"), (7500, "2 h 5 min")),
        *((90_000, "1 d 1 h"), (float("inf"), "-"), (-1, "0.0 s")),
    ],
)
def test_a_time_span_is_told_in_two_units_at_most(seconds: float | None, expected: str) -> None:
    assert expected == formatting.duration(seconds)


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0, "0 s ago"), (89, "89 s ago"), (120, "2 min ago"), (7200, "2 h ago"), (3 * 86400, "3 d ago")],
)
def test_an_age_is_told_in_one_unit(seconds: float, expected: str) -> None:
    assert expected == formatting.age(NOW - datetime.timedelta(seconds=seconds), NOW)


def test_a_moment_to_come_is_told_as_it_stands() -> None:
    assert formatting.age(NOW + datetime.timedelta(days=1), NOW).startswith("2026-03-0")


@pytest.mark.parametrize(
    ("count", "expected"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (5 << 30, "5.0 GiB"), (1 << 60, "1048576.0 TiB")],
)
def test_bytes_are_told_in_the_unit_that_keeps_the_number_small(count: int, expected: str) -> None:
    assert expected == formatting.size(count)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("relu", "relu"),
        ("4", '"4"'),
        ("true", '"true"'),
        ("", '""'),
        (" x", '" x"'),
        ("NaN", '"NaN"'),
        ("[1", "[1"),
        (4, "4"),
        (1, "1"),
        (True, "true"),
        (None, "null"),
        (0.1, "0.1"),
        (float("nan"), "NaN"),
        ([1, "a", None], "[1, a, null]"),
        ({"a": [True]}, "{a: [true]}"),
        ("a\x1b[31mb\nc", "a\\x1b[31mb\\nc"),
        ("left\u202eright", "left\\u202eright"),
        (" \x9b2J\u202e", '" \\x9b2J\\u202e"'),
    ],
)
def test_text_cannot_be_taken_for_another_value_nor_control_the_terminal(value: Any, expected: str) -> None:
    assert expected == formatting.value_text(value)


@given(st.text(), st.integers(0, 40))
def test_what_is_clipped_fits(text: str, width: int) -> None:
    cleaned = clean(text)

    assert display_width(clip(cleaned, width)) <= max(width, 0) or display_width(cleaned) <= width
    assert display_width(clip(cleaned, width, keep_end=True)) <= max(width, 0) or display_width(cleaned) <= width


def test_a_table_is_aligned_by_what_a_terminal_shows() -> None:
    lines = table([Column("NAME"), Column("N", right=True)], [["漢字", "1"], ["é", "100"]], None)

    assert ["NAME    N", "漢字    1", "é     100"] == lines


def test_a_table_shows_control_characters_as_escapes() -> None:
    assert ["failed\\x1b[2J  \\u202eb"] == table([Column(), Column()], [[("failed\x1b[2J", "red"), "\u202eb"]], None)


def test_a_column_is_shown_from_the_width_of_a_terminal_on() -> None:
    columns = [Column("NAME"), Column("SIZE", shown_from=50), Column("AGE")]

    assert ["NAME  AGE", "a     2"] == table(columns, [["a", "1", "2"]], 49)
    assert ["NAME  SIZE  AGE", "a     1     2"] == table(columns, [["a", "1", "2"]], 50)
    assert ["NAME  SIZE  AGE", "a     1     2"] == table(columns, [["a", "1", "2"]], None)


def test_a_table_cuts_its_widest_column_first_and_at_the_end_that_is_wanted() -> None:
    columns = [Column(least=5, keep_end=True), Column(least=5), Column()]

    assert ["…stuvwxyz  0123456789  whole"] == table(
        columns, [["abcdefghijklmnopqrstuvwxyz", "0123456789", "whole"]], 28
    )
    assert ["…wxyz  0123…  whole"] == table(columns, [["abcdefghijklmnopqrstuvwxyz", "0123456789", "whole"]], 19)


@given(st.lists(st.integers(1, 60), min_size=1, max_size=8), st.integers(10, 80))
def test_sections_are_cut_until_they_fit_or_cannot_be_cut(wanted: list[int], height: int) -> None:
    first, *others = [["x"] * count for count in wanted]
    sections = [
        Section("", first),
        *(Section("title", lines, cut_order=place % 3) for place, lines in enumerate(others)),
    ]

    limits = fit(sections, height)

    assert all(1 <= limit <= count for limit, count in zip(limits, wanted, strict=True))
    assert all(
        limit == len(section.lines) for limit, section in zip(limits, sections, strict=True) if not section.cut_order
    )
    fits = sum(limits) + len(others) < height
    assert fits or all(limit <= 2 for limit, section in zip(limits, sections, strict=True) if section.cut_order)
    assert wanted == fit(sections, None)


def test_what_counts_least_gives_way_first() -> None:
    first = Section("", ["a", "b"])
    numbers = Section("Metrics", ["x"] * 10, cut_order=2)
    files = Section("Files", ["y"] * 5, note="5 files:", note_alone="5 files", cut_order=1, least=0)
    log = Section("Log", ["old", "new"], cut_order=1, least=1, keep_end=True)
    sections = [first, numbers, files, log]

    assert [2, 10, 5, 2] == fit(sections, 23)
    assert [2, 10, 2, 2] == fit(sections, 20)
    assert [2, 10, 0, 1] == fit(sections, 17)
    assert [2, 4, 0, 1] == fit(sections, 11)
    assert [2, 2, 0, 1] == fit(sections, 5)
    assert (["Files  5 files"], ["Log  the last 1; see --all", "new"]) == (files.cut(0), log.cut(1))
    assert ["Metrics", "x", "  ... and 9 more; see --all"] == numbers.cut(2)


def test_the_times_of_a_run_are_never_cut_within_a_word() -> None:
    day = {"created_at": "2026-03-01T12:00:00Z", "started_at": None, "ended_at": "2026-03-01T12:30:00Z"}
    resumed = day | {"started_at": "2026-04-01T12:00:00Z", "ended_at": "2026-04-03T12:30:00Z"}

    [one] = time_lines(day, 80)
    found = time_lines(resumed, 80)

    assert re.fullmatch(r"2026-03-01 \S+ \(.* ago\), ended \d\d:30:00", one)
    assert [re.sub(r" \d.*$", "", line) for line in found] == ["2026-03-01", "ended"]
    assert found[0].endswith(":00:00,")
    assert ", restarted 2026-04-01 " in found[0]
    assert all(len(line) <= 69 for line in found)
    assert 1 == len(time_lines(resumed, None))
    assert all(len(line) <= 29 for line in time_lines(day, 40))


def test_curves_come_before_what_was_logged_once(tmp_path: Path) -> None:
    for name, count in (("a_final", 1), ("train", 3), ("b_final", 1)):
        (tmp_path / "metrics" / name).mkdir(parents=True)
        (tmp_path / "metrics" / name / "data.jsonl").write_text('{"data": {"loss": 1, "_ts": 3}}\n' * count)

    assert ["train/loss", "a_final/loss", "b_final/loss"] == [
        line.split()[0] for line in metric_lines(RunReader(str(tmp_path), "run"), None)
    ]


@pytest.mark.parametrize(
    ("found", "sign", "wanted", "expected"),
    [
        (0.1, "=", "0.1", True),
        (0.1, "=", "1e-1", True),
        (0.1, "=", ".1", True),
        (0.1, "!=", ".1", False),
        (0.2, ">", ".1", True),
        (5, "=", "5.", True),
        (".1", "=", ".1", True),
        (float("nan"), "=", "nan", True),
        (float("inf"), "=", "inf", True),
        ([1, 2], "=", "5", False),
        (1, "=", "true", False),
        (True, "=", "true", True),
        (None, "=", "null", True),
        ("4", "=", "4", False),
        ("4", "=", '"4"', True),
        ("relu", "=", "relu", True),
        ("relu", "!=", "tanh", True),
        ([1, 2], "=", "[1,2]", True),
        (3, ">", "2", True),
        (3, ">=", "3", True),
        (3, "<", "3", False),
        ("b", ">", "a", True),
        ("b", ">", "1", False),
        (True, ">", "0", False),
        (float("nan"), ">", "0", False),
        ("Walker2d-v4", "~", "walker", True),
        ([1, 25], "~", "25", True),
    ],
)
def test_a_parameter_is_compared_as_what_it_is(found: Any, sign: str, wanted: str, expected: bool) -> None:
    fits = matcher(parameter_condition(f"x{sign}{wanted}"))

    assert expected == fits(SimpleNamespace(params={"x": found}))


def test_a_condition_on_a_parameter_that_a_run_does_not_have_is_not_met(tmp_path: Path) -> None:
    (tmp_path / "experiment.json").write_text("{}")
    (tmp_path / "parameters.json").write_text('{"version": 1, "data": {"a.b": 2}}')
    [row] = read_rows(str(tmp_path))

    def fits(*params: str) -> bool:
        return matcher(options_condition(None, None, (), (), params, None, None))(row)

    assert fits("a.b>=2", "a.b != 3")
    assert not fits("missing!=3")


@pytest.mark.parametrize("text", ["", "tomorrow", "5 years", "2026-13-01"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(WrongCallError, match="is no time"):
        options_condition(None, None, (), (), (), None, text)


def test_rows_are_those_that_the_readers_find(tmp_path: Path) -> None:
    for place in ("", "a", "a/b", "a/b/c", "ü"):
        (tmp_path / place).mkdir(parents=True, exist_ok=True)
        if place != "a":
            (tmp_path / place / "experiment.json").write_text("{}")

    rows = read_rows(str(tmp_path))

    found = list(scan.find_runs(str(tmp_path)))
    assert [(folder, scan.prefix_of(folder, str(tmp_path))) for folder in found] == [
        (row.folder, row.prefix) for row in rows
    ]


def test_values_are_the_same_whatever_their_kind_of_number_but_no_number_is_true() -> None:
    assert same(float("nan"), float("nan"))
    assert same(1, 1.0)
    assert not same(1, True)
    assert {"changed": {"x": {"a": 1, "b": 2}}, "added": {"z": 0}, "removed": {"y": 0}} == changes(
        {"x": 1, "y": 0, "same": 5}, {"x": 2, "z": 0, "same": 5}
    )


def test_a_follower_takes_each_whole_line_once(tmp_path: Path) -> None:
    path = tmp_path / "logs" / "logs.jsonl"
    path.parent.mkdir()
    follower = Follower(str(tmp_path), logs=True, metrics=True)
    numbers = itertools.count()
    seen: list[int] = []

    def add(text: bytes) -> None:
        with path.open("ab") as file:
            file.write(text)
        seen.extend(item.body["n"] for item in follower.added())

    assert [] == follower.last(10)
    add(b'{"n": %d}\n{"n": %d}\n{"n"' % (next(numbers), next(numbers)))
    assert [0, 1] == seen
    add(b": %d}\n" % next(numbers))
    add(b"not json\n")
    path.write_bytes(b"")  # a writer that took over cut it back
    add(b"")
    add(b'{"n": %d}\n' % next(numbers))

    assert [0, 1, 2, 3] == seen


def test_a_follower_gives_text_that_reads_like_a_number_as_text(tmp_path: Path) -> None:
    path = tmp_path / "logs" / "logs.jsonl"
    path.parent.mkdir()
    path.write_bytes(encode({"message": "NaN"}, "a line") + b"\n" + encode({"message": math.inf}, "a line") + b"\n")

    last = Follower(str(tmp_path), logs=True, metrics=True).last(2)
    added = Follower(str(tmp_path), logs=True, metrics=True).added()

    assert ["NaN", math.inf] == [item.body["message"] for item in last]
    assert ["NaN", math.inf] == [item.body["message"] for item in added]


def test_the_last_values_are_those_of_the_newest_points_of_every_writer(tmp_path: Path) -> None:
    folder = tmp_path / "metrics" / "train"
    folder.mkdir(parents=True)
    (folder / "data.jsonl").write_text(
        '{"data":{"loss":9,"lr":0.1,"_ts":1}}\n{"data":{"loss":"NaN","_ts":3}}\nbroken\n{"data":5}\n'
    )
    (folder / "data.other.jsonl").write_text('{"data": {"loss": 7, "n": {"a": 1}, "_ts": 2}}\n{"data": {"loss": 8, "_t')

    values = last_values(str(tmp_path), "train")

    assert {"loss", "lr", "n.a", "_ts"} == set(values)
    assert (0.1, 1) == (values["lr"], values["n.a"])
    assert math.isnan(values["loss"])


def test_a_value_of_a_condition_is_found_however_long_ago_it_was_logged(tmp_path: Path) -> None:
    (tmp_path / "metrics" / "train").mkdir(parents=True)
    later = '{"data": {"loss": 1.5, "_ts": 2}}\n' * 3000
    (tmp_path / "metrics" / "train" / "data.jsonl").write_text(
        '{"data": {"early": 1, "loss": 0.5, "_ts": 1}}\n' + later
    )
    row = Row(str(tmp_path), "run")

    assert [1, 1.5, 0.5, 1, None, None] == [
        row.metric(f"train/{name}") for name in ("early", "loss", "loss.min", "early.max", "zzz", "zzz.min")
    ]


def test_a_condition_reads_metrics_of_the_run_alone(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "data.jsonl").write_text('{"data": {"loss": 1, "_ts": 1}}\n')
    row = Row(str(tmp_path / "run"), "run")

    assert [None] * 3 == [row.metric(name) for name in ("../../other/loss", "../../other/loss.min", "/etc/passwd")]


def test_a_metric_that_is_too_long_to_draw_is_told_by_its_last_value(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "metrics" / "train").mkdir(parents=True)
    (tmp_path / "metrics" / "train" / "data.jsonl").write_text('{"data": {"loss": 0.5, "_ts": 3}}\n')
    run = RunReader(str(tmp_path), "run")
    drawn = metric_lines(run, None)

    monkeypatch.setattr("ml_dash.cli.series.READ_BYTES", 10)

    assert ["  train/loss  0.5  ▄  0.5 .. 0.5  1 point"] == drawn
    assert ["  train/loss  0.5    too long to draw here"] == metric_lines(run, None)


def test_what_is_painted_and_written_holds_no_style_of_its_own(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(output, "has_colour", lambda: True)

    painted = output.paint("a\x1b[31mb\x1b[0m", "bold")
    output.write([f"{painted} \x1b]0;title\x07\u202e", "\x9b2J"])

    assert "\x1b[1ma\\x1b[31mb\\x1b[0m\x1b[0m" == painted
    assert f"{painted} \\x1b]0;title\\x07\\u202e\n\\x9b2J\n" == capsys.readouterr().out
