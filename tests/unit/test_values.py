from __future__ import annotations

import collections
import dataclasses
import datetime as dt
import decimal
import enum
import json
import math
import pathlib
import types
import uuid
from typing import Any, NamedTuple

import numpy as np
import pytest

from ml_dash.errors import InvalidTypeError, InvalidValueError
from ml_dash.records.values import (
    MAX_DEPTH,
    MAX_INTEGER_BITS,
    decode,
    encode,
    encode_slowly,
    flatten,
    parse,
    revive,
    to_plain,
    unflatten,
)
from tests.support import shown


class Colour(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


class Word(enum.StrEnum):
    NAN = "NaN"


class Point(NamedTuple):
    x: int
    y: float


@dataclasses.dataclass
class Optimizer:
    name: str
    lr: float
    betas: tuple[float, float] = (0.9, 0.999)


@dataclasses.dataclass
class Nested:
    inner: Optimizer
    extra: dict[str, Any]


class Tensor:
    """What the package uses of a torch tensor that lives on a GPU and takes part in a gradient."""

    def __init__(self, array, *, detached=False, on_cpu=False):
        self.array, self.detached, self.on_cpu = np.asarray(array), detached, on_cpu

    def detach(self):
        return Tensor(self.array, detached=True, on_cpu=self.on_cpu)

    def cpu(self):
        return Tensor(self.array, detached=self.detached, on_cpu=True)

    def tolist(self):
        assert (True, True) == (self.detached, self.on_cpu)
        return self.array.tolist()


class ArrayLike:
    def __array__(self, dtype=None, copy=None):
        return np.array([1, 2])


class Broken:
    def __array__(self, dtype=None, copy=None):
        raise RuntimeError("on the wrong device")


def through(value):
    return decode(encode({"v": value}, "a test"))["v"]


def through_slowly(value):
    return decode(encode_slowly({"v": value}, "a test"))["v"]


CONVERTED = [
    (None, None),
    (True, True),
    (2**63, 2**63),
    (-(2**200), -(2**200)),
    (1e-320, 1e-320),
    ((1, 2), [1, 2]),
    (range(3), [0, 1, 2]),
    ({3, 1, 2}, [1, 2, 3]),
    (frozenset("ba"), ["a", "b"]),
    (collections.OrderedDict(a=1), {"a": 1}),
    (types.MappingProxyType({"a": (1,)}), {"a": [1]}),
    (
        {1: "a", None: "b", 2.5: "c", Colour.RED: "d", np.int64(7): "e"},
        {"1": "a", "None": "b", "2.5": "c", "red": "d", "7": "e"},
    ),
    (np.float32(0.5), 0.5),
    (np.float64(0.1), 0.1),
    (np.int8(-3), -3),
    (np.uint64(2**64 - 1), 2**64 - 1),
    (np.bool_(True), True),
    (np.longdouble(0.25), 0.25),
    (np.arange(6).reshape(2, 3), [[0, 1, 2], [3, 4, 5]]),
    (np.arange(6).reshape(2, 3).T[::-1], [[2, 5], [1, 4], [0, 3]]),
    (np.array(3.5), 3.5),
    (np.array([0.5, 1.5], np.float16), [0.5, 1.5]),
    (np.array([0.5, 1.5], np.longdouble), [0.5, 1.5]),
    (np.array([True, False]), [True, False]),
    (np.array([], np.float32), []),
    (np.array(["a", "bc"]), ["a", "bc"]),
    (np.array([{"a": 1}, None], object), [{"a": 1}, None]),
    (Tensor([1.5, 2.5]), [1.5, 2.5]),
    (Tensor(7), 7),
    (ArrayLike(), [1, 2]),
    (Colour.RED, "red"),
    (Level.HIGH, 3),
    (pathlib.PurePosixPath("a/b.txt"), "a/b.txt"),
    (dt.datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=dt.UTC), "2026-01-02T03:04:05.000006+00:00"),
    (dt.date(2026, 1, 2), "2026-01-02"),
    (dt.time(3, 4, 5), "03:04:05"),
    (dt.timedelta(minutes=1.5), 90.0),
    (uuid.UUID(int=5), "00000000-0000-0000-0000-000000000005"),
    (decimal.Decimal("0.25"), 0.25),
    (Point(1, 2.5), {"x": 1, "y": 2.5}),
    (Optimizer("adam", 3e-4), {"name": "adam", "lr": 3e-4, "betas": [0.9, 0.999]}),
    (
        Nested(Optimizer("sgd", 0.1), {"seed": np.int32(4)}),
        {"inner": {"name": "sgd", "lr": 0.1, "betas": [0.9, 0.999]}, "extra": {"seed": 4}},
    ),
    ("text with \ud800 a lone surrogate", "text with \ud800 a lone surrogate"),
    ('zero \0, newline \n, quote ", é, 🤖', 'zero \0, newline \n, quote ", é, 🤖'),
]


@pytest.mark.parametrize(("value", "expected"), CONVERTED, ids=[shown(value)[:40] for value, _ in CONVERTED])
@pytest.mark.parametrize("way", [through, through_slowly])
def test_values_come_back_as_json_holds_them(way, value, expected):
    result = way(value)

    assert expected == result
    assert type(expected) is type(result)


@pytest.mark.parametrize(
    "value",
    [
        math.nan,
        np.float32("nan"),
        np.float64("nan"),
        np.longdouble("nan"),
        np.array(math.nan),
        Tensor(math.nan),
        decimal.Decimal("NaN"),
        decimal.Decimal("sNaN"),
    ],
    ids=shown,
)
def test_not_a_number_comes_back_as_a_float(value):
    assert math.isnan(through(value))


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("kind", [float, np.float16, np.float32, np.longdouble, decimal.Decimal])
def test_infinity_comes_back_with_its_sign(kind, sign):
    assert sign * math.inf == through(kind("inf") * sign)


@pytest.mark.parametrize("way", [through, through_slowly])
def test_dates_of_numpy_become_text(way):
    (text,) = way(np.array(["2026-01-02T03:04:05"], "datetime64[s]"))

    assert "2026-01-02T03:04:05" == text


def test_non_finite_numbers_inside_arrays_survive():
    values = np.array([[1.0, math.nan], [math.inf, -math.inf]])
    np.testing.assert_array_equal(values, through(values))


@pytest.mark.parametrize(
    "text", ["NaN", "Infinity", "-Infinity", "\\NaN", "\\\\-Infinity", "nan", "\\", "NaN\n", "+Infinity"]
)
@pytest.mark.parametrize("way", [through, through_slowly])
def test_text_that_reads_like_a_number_stays_text(way, text):
    """Whatever stands beside it, and however deep it lies."""
    assert text == way(text)
    assert [text, {"a": [text]}] == way([text, {"a": [text]}])
    assert [text, math.inf] == way([text, math.inf])
    assert {text: 1} == way({text: 1})


def test_an_enum_whose_text_reads_like_a_number_stays_text():
    assert "NaN" == through(Word.NAN)


def test_the_bytes_are_strict_json():
    line = encode({"a": math.nan, "b": [math.inf], "c": 2**70, "d": "\ud800"}, "a test")

    def refuse(token):
        raise AssertionError(token)

    assert {"a": "NaN", "b": ["Infinity"], "c": 2**70, "d": "\ud800"} == json.loads(line, parse_constant=refuse)


def test_lines_of_older_clients_are_read():
    """They wrote bare NaN tokens, which strict parsers refuse."""
    value = decode('{"loss": NaN, "best": -Infinity, "text": "caf\\u00e9"}')

    assert math.isnan(value["loss"])
    assert (-math.inf, "café") == (value["best"], value["text"])


def test_parse_leaves_the_strings_for_rewriting():
    assert {"a": "NaN", "b": "Infinity", "c": 10**30} == parse(b'{"a": NaN, "b": "Infinity", "c": %d}' % 10**30)
    assert [math.inf, "\\NaN"[1:]] == revive(["Infinity", "\\NaN"])


@pytest.mark.parametrize("text", [b"", b"{", b"nonsense", b'{"a": 1} {', b"\xff\xfe"])
def test_what_is_no_json_is_a_value_error(text):
    with pytest.raises(ValueError):
        decode(text)


@pytest.mark.parametrize(
    ("value", "key", "kind"),
    [
        ({"a": {"b": [0, object()]}}, "a.b[1]", "object"),
        ({"blob": b"bytes"}, "blob", "bytes"),
        ({"view": memoryview(b"x")}, "view", "memoryview"),
        ({"f": len}, "f", "builtin_function_or_method"),
        ({"z": 1j}, "z", "complex"),
        ({"z": np.array([1j])}, "z", "numpy.ndarray"),
        ({"s": np.array([(1, 2)], "i4,i4")}, "s", "numpy.ndarray"),
        ({"g": (n for n in ())}, "g", "generator"),
        ({"c": Optimizer}, "c", "type"),
        ({"m": Optimizer("a", object())}, "m.lr", "object"),
        ({"t": Broken()}, "t", "on the wrong device"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_value_that_cannot_be_stored_is_named(value, key, kind):
    with pytest.raises(InvalidTypeError) as caught:
        encode(value, "metric 'train'")

    assert str(caught.value).startswith("metric 'train': ")
    assert repr(key) in str(caught.value)
    assert kind in str(caught.value)


@pytest.mark.parametrize("key", [(1, 2), b"k", len, frozenset("a")], ids=["tuple", "bytes", "function", "set"])
def test_a_key_that_is_no_text_or_number_is_refused(key):
    with pytest.raises(InvalidTypeError, match=r"a key under 'a\.red' is a .*keys are strings or numbers"):
        encode({"a": {Colour.RED: {key: 1}}}, "a test")


def test_a_value_that_contains_itself_is_refused():
    loop = {}
    loop["again"] = [loop]
    with pytest.raises(InvalidValueError, match="nests deeper"):
        encode(loop, "a test")


def test_nesting_up_to_the_limit_is_stored():
    value = leaf = []
    for _ in range(MAX_DEPTH - 2):
        leaf.append([])
        leaf = leaf[0]
    leaf.append(math.nan)

    assert repr(value) == repr(through_slowly(value))


def test_integers_have_a_limit_that_is_named():
    assert 2**MAX_INTEGER_BITS - 1 == through(2**MAX_INTEGER_BITS - 1)
    with pytest.raises(InvalidValueError, match=r"'v' is an integer of 20001 bits"):
        through(2**20000)


def test_plain_text_can_be_left_as_it_is():
    assert ["NaN", "NaN"] == to_plain(["NaN", math.nan], "a test", escape=False)


def test_flat_keys_and_back():
    nested = {"lr": 1, "model": {"layers": 4, "head": {"act": "relu"}, "none": {}}, "list": [{"a": 1}]}
    flat = {"lr": 1, "model.layers": 4, "model.head.act": "relu", "model.none": {}, "list": [{"a": 1}]}

    assert flat == flatten(nested)
    assert nested == unflatten(flat)


@pytest.mark.parametrize("flat", [{"a": 1, "a.b": 2}, {"a.b": 2, "a": 1}, {"a.b.c": 1, "a.b": 2, "a": 3}])
def test_a_key_that_is_a_leaf_and_a_parent_is_not_lost(flat):
    assert flat == flatten(unflatten(flat))


@pytest.mark.parametrize(
    "text", [b"[" * 100_000, b"[" * 990 + b'"NaN"' + b"]" * 990, b"[" * 5000 + b"NaN" + b"]" * 5000]
)
def test_a_document_that_nests_deep_is_none_or_is_read_whole(text):
    for read in (decode, parse):
        try:
            value, depth = read(text), 0
        except ValueError:
            continue
        while isinstance(value, list):
            value, depth = value[0], depth + 1
        assert text.count(b"[") == depth
