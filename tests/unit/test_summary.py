"""What runs look like in a table: cells, columns, names, and the conditions on them."""

from __future__ import annotations

import datetime
import json
import os
from pathlib import Path

import pytest

from ml_dash import InvalidTypeError, InvalidValueError
from ml_dash.catalog import index_cache, row_columns, walk
from ml_dash.catalog.dataframe import column_names, to_dataframe
from ml_dash.catalog.pandas_query import select_rows
from ml_dash.catalog.row_columns import from_rows, to_list
from ml_dash.catalog.summary import summarise
from ml_dash.catalog.walk import Walk
from ml_dash.managed import cells
from ml_dash.managed.cells import add_flat
from ml_dash.managed.toml_values import MARK, dumps, encode

UTC = datetime.UTC
NOON = datetime.datetime(2026, 3, 1, 12, tzinfo=datetime.timezone(datetime.timedelta(hours=2)))


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ML_DASH_CACHE_DIR", str(tmp_path / "cache"))


def flat(values):
    row = {}
    add_flat(row, encode(values, "test"), "")
    return row


def dtypes(values):
    return str(to_dataframe(from_rows([{"c:x": value} for value in values]))["x"].dtype)


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def found_in(root):
    return Walk(str(root), {}).runs()


def row_of(root, place):
    [found] = [found for found in found_in(root) if found.path == place]
    return summarise(str(root), found)


def test_nested_values_get_dotted_names():
    assert {"model.name": "CNN", "model.size.x": 3, "lr": 0.1, "empty": {}} == flat(
        {"model": {"name": "CNN", "size": {"x": 3}}, "lr": 0.1, "empty": {}}
    )


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        (2**70, 2**70),
        (b"ab", "YWI="),
        ({3}, [3]),
        (datetime.timedelta(minutes=2), 120.0),
        (datetime.date(2026, 3, 1), "2026-03-01"),
        (datetime.time(12, 30), "12:30:00"),
        (NOON.replace(tzinfo=None), NOON.replace(tzinfo=None)),
        (NOON, datetime.datetime(2026, 3, 1, 10, tzinfo=UTC)),
        ([NOON, None, [{"a": b"ab"}]], [NOON.isoformat(), None, [{"a": "YWI="}]]),
        ("\ud800", "\ud800"),
        ({"__ml_dash__": "x"}, {"__ml_dash__": "x"}),
    ],
)
def test_a_value_that_toml_does_not_have_becomes_plain(value, expected):
    assert {"x": expected} == flat({"x": value})


def test_a_mark_that_is_not_known_stays_what_it_is():
    row = {}
    add_flat(row, {"x": {MARK: "from the future", "value": 1}, "y": {MARK: "integer", "value": "no"}}, "")

    assert {"x": {MARK: "from the future", "value": 1}, "y": {MARK: "integer", "value": "no"}} == row


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1, 2], "int64"),
        ([1, None], "Int64"),
        ([1, 2.5], "float64"),
        ([1.5, None], "float64"),
        ([True, False], "bool"),
        ([True, None], "boolean"),
        ([True, 1], "object"),
        (["a", None], "str"),
        (["a", 1], "object"),
        ([2**63, 1], "object"),
        ([[1], [2]], "object"),
        ([None, None], "object"),
        ([NOON.astimezone(UTC), None], "datetime64[us, UTC]"),
        ([NOON.replace(tzinfo=None)], "datetime64[us]"),
        ([NOON.astimezone(UTC), NOON.replace(tzinfo=None)], "object"),
    ],
)
def test_a_column_has_the_type_of_its_values(values, expected):
    assert expected == dtypes(values)


def test_a_list_that_is_as_long_as_the_table_is_still_one_value():
    frame = to_dataframe(from_rows([{"c:x": [1, 2]}, {"c:x": [3, 4]}]))

    assert [[1, 2], [3, 4]] == frame["x"].tolist()


def test_no_name_hides_another():
    names = ["f:run_id", "c:status", "c:lr", "m:lr", "m:accuracy", "m:run_id", "c:metrics.lr"]

    shown = column_names(names)

    assert {"c:status": "config.status", "c:lr": "lr", "m:lr": "metrics.metrics.lr"}.items() <= shown.items()
    assert {
        "m:accuracy": "accuracy",
        "m:run_id": "metrics.run_id",
        "c:metrics.lr": "metrics.lr",
    }.items() <= shown.items()
    assert len(shown) == len(set(shown.values()))


def test_a_column_is_mixed_only_as_long_as_a_row_makes_it_so():
    columns = row_columns.concat([from_rows([{"c:x": 1}, {"c:y": "a"}]), from_rows([{"c:x": "one"}, {"c:x": None}])])

    assert [1, None, "one", None] == to_list(columns.columns["c:x"])
    assert "int64" == str(columns.take([0, 1, 3]).columns["c:x"].type)
    assert ["c:x"] == columns.take([3]).names()
    assert ["c:y", "c:x"] == columns.take([1, 0]).names()


def test_a_run_of_the_original_tool_has_its_row(tmp_path):
    write(tmp_path / "demo/abc/config.toml", 'lr = 0.1\n[_wandb]\nrun_id = "abc"\n[_meta]\ngit_commit = "f00"\n')
    write(tmp_path / "demo/abc/metrics.toml", "accuracy = 0.5\n[eval]\nf1 = 1\n")
    os.utime(tmp_path / "demo/abc/config.toml", (1_000, 1_000))

    assert {
        "f:run_id": "abc",
        "f:project_name": "demo",
        "f:created_at": datetime.datetime.fromtimestamp(1_000, UTC),
        "f:ended_at": None,
        "f:git_commit": "f00",
        "f:status": "UNKNOWN",
        "f:tags": [],
        "c:lr": 0.1,
        "m:accuracy": 0.5,
        "m:eval.f1": 1,
    } == row_of(tmp_path, "demo/abc")


def test_metrics_beyond_metrics_toml_come_from_the_journals(tmp_path):
    """As it is after a kill: metrics.toml says how far it knows the journal."""
    run = tmp_path / "demo/abc"
    first = json.dumps({"data": {"a": 1, "b\\.c": 2, "_ts": 5.0}}) + "\n"
    rest = json.dumps({"data": {"a": 3, "d": encode({"v": {1}}, "x", for_json=True)["v"], "_ts": 6.0}}) + '\n{"broken'
    write(run / "config.toml", "lr = 1")
    write(run / "metrics/None/data.jsonl", first + rest)
    header = f'# The last value of each metric. Journals up to: {{"data.jsonl":{len(first)}}}\n'
    write(run / "metrics.toml", header + dumps({"a": 100, "b.c": 200}))

    row = row_of(tmp_path, "demo/abc")
    write(run / "metrics/None/data.w2.jsonl", json.dumps({"data": {"a": 4, "_ts": 5.5}}) + "\n")
    merged = row_of(tmp_path, "demo/abc")

    assert (3, 200, [1]) == (row["m:a"], row["m:b.c"], row["m:d"])
    assert (3, 2, [1]) == (merged["m:a"], merged["m:b.c"], merged["m:d"])


def test_a_configuration_that_is_empty_is_damaged(tmp_path):
    write(tmp_path / "demo/abc/config.toml", "")
    write(tmp_path / "demo/abc/metrics.toml", "a = 1")

    with pytest.raises(ValueError, match=r"^config\.toml is empty$"):
        row_of(tmp_path, "demo/abc")


def test_a_damaged_metrics_toml_is_made_up_for_by_a_journal(tmp_path):
    run = tmp_path / "demo/abc"
    write(run / "config.toml", "lr = 1")
    write(run / "metrics.toml", "a = = 1")
    with pytest.raises(ValueError, match=r"metrics\.toml is damaged"):
        row_of(tmp_path, "demo/abc")

    write(run / "metrics/None/data.jsonl", json.dumps({"data": {"a": 7, "_ts": 5.0}}) + "\n")

    assert 7 == row_of(tmp_path, "demo/abc")["m:a"]


def test_an_experiment_of_the_published_client_has_its_row(tmp_path):
    run = tmp_path / "rosa/walker/run-7"
    about = {"name": "run-7", "project": "walker", "tags": ["ppo"], "created_at": "2026-03-01T09:00:00.100000Z"}
    write(run / "experiment.json", json.dumps(about))
    params = {"lr": 3e-4, "model.layers": 4, "betas": [0.9, 0.999], "opt": {}, "opt.name": "adam", "seen": float("nan")}
    write(run / "parameters.json", json.dumps({"version": 2, "data": params}))
    points = [{"index": k, "data": {"loss": 1 / (k + 1), "note": "text", "_ts": float(k)}} for k in range(4)]
    write(run / "metrics/train/deep/data.jsonl", "".join(json.dumps(point) + "\n" for point in points))
    write(run / "metrics/None/data.jsonl", json.dumps({"data": {"reward": 2, "_ts": 0}}) + "\n")

    row = row_of(tmp_path, "rosa/walker/run-7")

    assert ("rosa/walker/run-7", "walker", None, ["ppo"]) == tuple(
        row[f"f:{name}"] for name in ("run_id", "project_name", "status", "tags")
    )
    assert {"c:lr": 3e-4, "c:model.layers": 4, "c:betas": [0.9, 0.999], "c:opt.name": "adam"}.items() <= row.items()
    assert "c:opt" not in row
    assert row["c:seen"] != row["c:seen"]  # a float that is not a number
    assert [0.25, 0.25, 1.0, pytest.approx(25 / 48)] == [
        row[f"m:train/deep/loss{suffix}"] for suffix in ("", ".min", ".max", ".mean")
    ]
    assert (2.0, 2.0) == (row["m:reward"], row["m:reward.mean"])


@pytest.mark.parametrize("order", [("loss", "loss.min"), ("loss.min", "loss")])
def test_a_field_that_is_called_like_a_statistic_has_that_column(tmp_path, order):
    run = tmp_path / "rosa/walker/run-7"
    write(run / "experiment.json", "{}")
    values = [{"loss": 4.0, "loss.min": 100.0}, {"loss": 2.0, "loss.min": 50.0}]
    points = [{"data": {name: point[name] for name in order} | {"_ts": 1.0}} for point in values]
    write(run / "metrics/train/data.jsonl", "".join(json.dumps(point) + "\n" for point in points))

    row = row_of(tmp_path, "rosa/walker/run-7")

    assert (2.0, 50.0, 4.0) == (row["m:train/loss"], row["m:train/loss.min"], row["m:train/loss.max"])


def test_a_file_that_changed_a_moment_ago_has_no_signature(tmp_path, monkeypatch):
    write(tmp_path / "demo/abc/config.toml", "")
    [young] = found_in(tmp_path)
    monkeypatch.setattr(walk, "YOUNG_NS", -1_000_000_000)
    [old] = found_in(tmp_path)

    assert "" == young.signature
    assert old.signature.startswith("config.toml ")


def test_a_folder_is_listed_again_where_its_times_cannot_be_trusted(tmp_path, monkeypatch):
    write(tmp_path / "demo/abc/config.toml", "")
    monkeypatch.setattr(walk, "YOUNG_NS", -1_000_000_000)
    monkeypatch.setattr(walk, "STEADY_FILE_SYSTEMS", frozenset())
    one = Walk(str(tmp_path), {})
    one.runs()

    assert {""} == {listing[0] for listing in one.listings.values()}


@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "other root", "other version"])
def test_a_damaged_index_is_none(tmp_path, monkeypatch, damage):
    root = str(tmp_path / "runs")
    saved = index_cache.Saved({"": ["k", [], []]}, ["a/b"], [True], ["s"], from_rows([{"c:x": 1, "c:y": [1]}]), [])
    index_cache.save(root, saved)
    path = Path(index_cache.folder_of(root), "index")
    content = path.read_bytes()

    assert ["a/b"] == index_cache.load(root).paths
    if damage == "other version":
        monkeypatch.setattr(index_cache, "__version__", "0")
    elif damage == "other root":
        monkeypatch.setattr(index_cache, "folder_of", lambda _: str(path.parent))
        root = "/elsewhere"
    else:
        half = len(content) // 2
        flipped = content[:half] + bytes([content[half] ^ 1]) + content[half + 1 :]
        path.write_bytes({"cut": content[:-1], "flip": flipped, "empty": b""}[damage])

    assert index_cache.load(root) is None


FRAME_ROWS = [
    {
        "f:run_id": "a",
        "f:created_at": NOON.astimezone(UTC),
        "c:model.name": "CNN",
        "c:n": 1,
        "m:acc": 0.5,
        "c:flag": True,
    },
    {"f:run_id": "b", "f:created_at": None, "c:model.name": "it's `x`", "m:acc": 0.9, "f:tags": ["ppo", "é"]},
]
ODD_ROWS = [
    {"f:run_id": "a", "m:t/loss": 0.5, "m:t/loss.min": 0.25, "m:my loss": 1, "c:lambda": 0.95, "m:top@5": 2, "c:5": 1}
]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("acc > 0.6", ["b"]),
        ("`model.name` == 'CNN' and acc < 0.6", ["a"]),
        ('`model.name` == "it\'s `x`"', ["b"]),
        ("acc > 0.1 & n == 1", ["a"]),
        ("0.4 < acc < 0.6", ["a"]),
        ("not acc > 0.6", ["a"]),
        ("n in [1, 2]", ["a"]),
        ("run_id not in ['a']", ["b"]),
        ("flag", ["a"]),
        ("n.isna()", ["b"]),
        ("`model.name`.str.contains('N')", ["a"]),
        ("created_at >= '2026-03-01 10:00'", ["a"]),
        ("created_at > '2026-03-01 10:00'", []),
        ("created_at.dt.year == 2026", ["a"]),
        ("acc * 2 - n > 0 or acc ** 2 > 0.8", ["b"]),
        ("acc\n>\n0.6", ["b"]),
        ("acc % 0.4 < 0.2", ["a", "b"]),
        ("'ppo' in tags", ["b"]),
        ("'pp' in tags", []),
        ("'é' in `tags` and 'ppo' in tags and acc > 0.6", ["b"]),
        ("('ppo' not in tags) & (acc < 0.6)", ["a"]),
        ("not 'ppo' in tags or acc > 0.6", ["a", "b"]),
        ("tags.str.len() == 2", ["b"]),
        ("tags.str.join(',').str.contains('pp')", ["b"]),
        ("tags.isna()", ["a"]),
    ],
)
def test_a_condition_chooses_rows(query, expected):
    assert expected == select_rows(to_dataframe(from_rows(FRAME_ROWS)), query)["run_id"].tolist()


@pytest.mark.parametrize(
    ("query", "hint"),
    [
        ("ac > 0.5", "`acc`"),
        ("name == 'CNN'", "`model.name`"),
        ("model.name == 'CNN'", "write `model.name` in backticks"),
        ("`model.nme` == 'CNN'", "`model.name`"),
        ("acc >", "cannot be read"),
        ("`acc > 1", "a backtick is not closed"),
        ("acc", "gives no yes or no"),
        ("1 == 1", "names no column"),
        ("acc > 'a'", "failed: TypeError"),
        ("", "1 to"),
        ("acc > @limit", "no variables"),
        ("acc.to_csv('stolen.csv') > 1", "neither a column nor a method"),
        ("run_id.__class__ == 1", "neither a column nor a method"),
        ("acc.str == 1", "failed: AttributeError"),
        ("__import__('os').system('touch stolen.csv') == 0", "no part of a condition|neither a column"),
        ("[x for x in acc] == 1", "no part of a condition"),
        ("(lambda: acc)() > 1", "no part of a condition"),
        ("acc > 9 ** 9 ** 9", "no part of a condition"),
        ("acc > '%2000000000d' % 5", "no part of a condition"),
        ("acc > ('%2000000000d' + '') % 5", "no part of a condition"),
        ("acc > '%2000000000d'.strip() % 5", "no part of a condition|neither a column"),
        ("run_id == ('a' + 'b') * 999999999", "no part of a condition"),
        ("run_id == 'long'.join(['a', 'b'])", "neither a column nor a method"),
        ("run_id.str.join('long').str.join('long') == 'a'", "neither a column nor a method"),
        ("tags == 'ppo'", r"'tags' holds lists; compare their items, as in \('x' in tags\)"),
        ("`tags`.isin(['ppo'])", r"as in \('x' in `tags`\)"),
        ("tags.str.contains('ppo')", "'tags' holds lists"),
        ("'ppo' in tags & acc > 0", "'tags' holds lists"),
        ("run_id == 'a' * 999999999", "no part of a condition"),
        ("acc > 1 if True else 2", "no part of a condition"),
        ("acc = 1", "cannot be read"),
        ("acc > f'{acc}'", "no part of a condition"),
    ],
)
def test_anything_else_is_refused_with_a_hint(query, hint, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    with pytest.raises(InvalidValueError, match=hint):
        select_rows(to_dataframe(from_rows(FRAME_ROWS)), query)

    assert [] == list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("query", "hint"),
    [
        ("t/loss > 0", "there is no column 't'; write `t/loss` in backticks"),
        ("t/loss.min > 0", "write `t/loss.min` in backticks"),
        ("my loss > 0", "cannot be read: write `my loss` in backticks"),
        ("lambda > 0.9", "cannot be read: write `lambda` in backticks"),
        ("top@5 > 1", "in backticks a name that has an @"),
        ("missing > 5", "there is no column 'missing'; there are"),
        ("loss == 'my loss'", "there is no column 'loss'; the nearest are `t/loss`"),
    ],
)
def test_a_column_that_lacks_its_backticks_is_named(query, hint):
    with pytest.raises(InvalidValueError) as refused:
        select_rows(to_dataframe(from_rows(ODD_ROWS)), query)

    assert hint in str(refused.value)
    assert ["a"] == select_rows(to_dataframe(from_rows(ODD_ROWS)), "`top@5` > 1 and `lambda` < 1")["run_id"].tolist()


def test_an_item_is_looked_for_where_only_some_cells_are_lists():
    frame = to_dataframe(from_rows([{"f:run_id": "a", "c:x": [1, 2]}, {"f:run_id": "b", "c:x": 2}, {"f:run_id": "c"}]))

    assert ["a", "b"] == select_rows(frame, "2 in x")["run_id"].tolist()
    assert ["c"] == select_rows(frame, "2 not in x")["run_id"].tolist()


def test_a_condition_is_text():
    with pytest.raises(InvalidTypeError, match="must be text"):
        select_rows(to_dataframe(from_rows(FRAME_ROWS)), 5)


def test_a_cell_is_made_once_from_a_moment_at_the_end_of_time():
    latest = datetime.datetime.max.replace(tzinfo=datetime.timezone(-datetime.timedelta(hours=3)))

    assert latest.isoformat() == cells.cell(latest)
