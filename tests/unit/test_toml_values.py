"""User values to TOML and back, and the commit of a folder."""

from __future__ import annotations

import datetime
import decimal
import enum
import math
import pathlib
import tomllib
import uuid
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pytest

from ml_dash.errors import InvalidTypeError, InvalidValueError
from ml_dash.managed.toml_values import dumps, loads
from ml_dash.provenance.head import current_commit
from tests.support import shown

BERLIN_1890 = datetime.timezone(datetime.timedelta(minutes=53, seconds=28))
UTC = datetime.UTC
COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Colour(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


class Point(NamedTuple):
    x: int
    y: float


@dataclass
class Model:
    name: str
    dropout: float | None = None


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        0,
        -(2**63),
        2**63,
        -(2**63) - 1,
        10**400,
        1e300,
        -0.0,
        math.inf,
        -math.inf,
        "",
        'quotes " and \\ and \n \r\n \t \x00 \x7f ünï 🙂',
        "lone \ud800 surrogate",
        b"\x00\xff",
        b"",
        [],
        {},
        [1, "a", None, 2.5, [True, {"b": None}], {}],
        {"a": {"b": {"c": {}}}, "d": {"e": [{"f": {"g": 1}}, {}]}},
        {"": 1, "a.b": 2, "q\"uo'te": 3, "ü": 4, "a b": 5, "\n": 6},
        {"__ml_dash__": "none"},
        {"__ml_dash__": "table", "value": {"__ml_dash__": 1}},
        {"__ml_dash__": {"__ml_dash__": None}},
        set(),
        {1, "a", None, (1, (2, frozenset({3})))},
        decimal.Decimal("1.10"),
        decimal.Decimal("Infinity"),
        datetime.date(1, 1, 1),
        datetime.time(23, 59, 59, 999999),
        datetime.time(1, 2, tzinfo=UTC),
        datetime.datetime(2024, 2, 29, 12, 0, 0, 1),  # noqa: DTZ001 - without a zone on purpose
        datetime.datetime(2024, 2, 29, tzinfo=UTC),
        datetime.datetime(1890, 1, 1, tzinfo=BERLIN_1890),
        datetime.timedelta(days=-1, microseconds=1),
    ],
    ids=shown,
)
def test_a_value_comes_back_equal_and_of_its_type(value):
    read = loads(dumps({"top": value, "nested": {"value": value}, "list": [value]}))

    assert {"top": value, "nested": {"value": value}, "list": [value]} == read
    assert type(value) is type(read["top"])


def test_nan_comes_back_as_nan_also_of_negative_sign():
    read = loads(dumps({"a": math.nan, "b": [-math.nan]}))

    assert math.isnan(read["a"])
    assert math.isnan(read["b"][0])


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ((1, (2,)), [1, [2]]),
        (range(3), [0, 1, 2]),
        (np.float32(0.5), 0.5),
        (np.int64(3), 3),
        (np.bool_(True), True),
        (np.array([[1, 2], [3, 4]]), [[1, 2], [3, 4]]),
        (np.array(1.5), 1.5),
        (np.array([1.0, np.inf]), [1.0, math.inf]),
        (np.array([None, 1], dtype=object), [None, 1]),
        (Colour.RED, "red"),
        (Level.HIGH, 3),
        (Point(1, 2.0), {"x": 1, "y": 2.0}),
        (Model("CNN"), {"name": "CNN", "dropout": None}),
        (pathlib.Path("a/b"), "a/b"),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (bytearray(b"a"), b"a"),
        (frozenset({1}), {1}),
        ({1: "a", None: "b", 2.5: "c", Colour.RED: "d"}, {"1": "a", "None": "b", "2.5": "c", "red": "d"}),
    ],
    ids=shown,
)
def test_what_python_has_and_toml_has_not_becomes_the_nearest(given, read):
    assert {"value": read} == loads(dumps({"value": given}))


def test_pandas_times_come_back_as_datetimes():
    pandas = pytest.importorskip("pandas")

    read = loads(dumps({"time": pandas.Timestamp("2024-01-02T03:04:05.000006007"), "missing": pandas.NaT}))

    assert {"time": datetime.datetime(2024, 1, 2, 3, 4, 5, 6), "missing": None} == read  # noqa: DTZ001 - as given


def test_a_document_is_what_a_person_would_write():
    config = {"model": {"name": "CNN", "dropout": None, "sizes": [1, 2]}, "lr": 1e-3, "empty": {}, "a": {"b": {"c": 1}}}

    expected = """\
lr = 0.001

[model]
name = "CNN"
dropout = {__ml_dash__ = "none"}
sizes = [1, 2]

[empty]

[a.b]
c = 1
"""
    assert expected == dumps(config)
    assert 0.001 == tomllib.loads(expected)["lr"]


def test_a_mark_that_is_not_known_stays_a_table():
    assert {"a": {"__ml_dash__": "later", "value": 1}} == loads('a = {__ml_dash__ = "later", value = 1}')
    assert {"a": {"__ml_dash__": "bytes", "value": "?"}} == loads('a = {__ml_dash__ = "bytes", value = "?"}')


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        ({"net": {"layer": object()}}, InvalidTypeError, r"config: 'net\.layer' is of type object"),
        ({"f": [1, lambda: None]}, InvalidTypeError, r"config: 'f\[1\]' is of type function"),
        ({"c": 1 + 2j}, InvalidTypeError, "'c' is of type complex"),
        ({(1, 2): 1}, InvalidTypeError, "a key under 'the top' is a tuple"),
        ({1: "a", "1": "b"}, InvalidValueError, "two keys under 'the top' have the text '1'"),
        ({"a": {"\ud800": 1}}, InvalidValueError, "has a lone surrogate"),
        ({"big": 1 << 20_000}, InvalidValueError, "'big' is an integer of 20001 bits"),
    ],
)
def test_what_cannot_be_stored_is_refused_by_name(value, error, text):
    with pytest.raises(error, match=text):
        dumps(value, "config")


@pytest.mark.parametrize("wrap", [lambda value: {"a": value}, lambda value: [value]])
def test_a_value_that_contains_itself_is_refused(wrap):
    value = wrap(None)
    if isinstance(value, dict):
        value["a"] = value
    else:
        value[0] = value

    with pytest.raises(InvalidValueError, match="nests deeper than 64 levels"):
        dumps({"top": value}, "config")


def test_the_deepest_value_allowed_can_be_read():
    value = 1
    for _ in range(62):
        value = {"a": [value]} if isinstance(value, int) else {"a": value}

    assert {"top": value} == loads(dumps({"top": value}))


@pytest.mark.parametrize("layout", ["branch", "packed", "detached", "worktree"])
def test_the_commit_is_read_from_the_files_of_the_repository(tmp_path, layout):
    git, below = tmp_path / "repo/.git", tmp_path / "repo/src/deep"
    below.mkdir(parents=True)
    (git / "refs/heads").mkdir(parents=True)
    (git / "HEAD").write_text(f"{COMMIT}\n" if layout == "detached" else "ref: refs/heads/main\n")
    if layout == "packed":
        (git / "packed-refs").write_text(f"# pack-refs with: peeled\n{COMMIT} refs/heads/main\n^{COMMIT}\n")
    elif layout != "detached":
        (git / "refs/heads/main").write_text(f"{COMMIT}\n")
    if layout == "worktree":
        (git / "worktrees/side").mkdir(parents=True)
        (git / "worktrees/side/HEAD").write_text("ref: refs/heads/main\n")
        (git / "worktrees/side/commondir").write_text("../..\n")
        below = tmp_path / "side"
        below.mkdir()
        (below / ".git").write_text(f"gitdir: {git}/worktrees/side\n")

    assert COMMIT == current_commit(str(below))


def test_a_folder_without_a_commit_has_none(tmp_path):
    assert current_commit(str(tmp_path)) is None
    (tmp_path / ".git/refs").mkdir(parents=True)
    (tmp_path / ".git/HEAD").write_text("ref: refs/heads/main\n")

    assert current_commit(str(tmp_path)) is None
