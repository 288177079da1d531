"""Parameters: what can be given, how it merges, and how it comes back."""

from __future__ import annotations

import argparse
import collections
import dataclasses
import enum
import json
import types
from pathlib import Path
from typing import Any

import attrs
import omegaconf
import params_proto
import pydantic
import pydantic.v1
import pytest

from ml_dash import Experiment
from ml_dash.errors import InvalidTypeError, InvalidValueError
from ml_dash.query.params import ParamsReader
from ml_dash.streams.params import Params
from tests.support import run_python


class Source:
    """A run that is only read."""

    def __init__(self, folder):
        self.folder = str(folder)

    def flush(self, timeout=None):
        return True


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    with Experiment("alice/params/all", dash_root=tmp_path_factory.mktemp("runs"), echo=False).run as exp:
        yield exp


@pytest.fixture
def stored(shared, request):
    """Set what is given below a key of the test's own, and return what comes back there."""
    name = request.node.name.replace(".", "-")

    def through(given):
        shared.params.set({name: given})
        return shared.params.get(flatten=False)[name]

    return through


@dataclasses.dataclass
class Optimizer:
    name: str = "adam"
    lr: float = 3e-4
    late: int = dataclasses.field(init=False)


@dataclasses.dataclass
class Training:
    optimizer: Optimizer = dataclasses.field(default_factory=Optimizer)
    stages: list[Optimizer] = dataclasses.field(default_factory=lambda: [Optimizer(lr=1.0), Optimizer(lr=2.0)])
    space: types.SimpleNamespace = dataclasses.field(default_factory=lambda: types.SimpleNamespace(low=0, high=1))


class Base:
    seed = 1
    lr = 0.1


class Config(Base):
    lr = 0.5
    sizes = (64, 64)
    _hidden = "no"

    class Model:
        """Nested."""

        layers = 2

        class Head:
            """Nested twice."""

            width = 8

    def method(self):
        """No setting."""

    @property
    def computed(self):
        return 1 / 0

    @staticmethod
    def helper():
        """No setting."""


class Colour(enum.Enum):
    RED = "red"


class Server(pydantic.BaseModel):
    url: pydantic.HttpUrl = pydantic.HttpUrl("https://example.com/api")
    password: pydantic.SecretStr = pydantic.SecretStr("hunter2")
    key: pydantic.SecretBytes = pydantic.SecretBytes(b"hunter2")


class Settings(pydantic.BaseModel):
    lr: float = 0.1
    where: Path = Path("data/train")
    colour: Colour = Colour.RED
    server: Server = Server()
    servers: list[Server] = [Server()]
    hidden: str = pydantic.Field("hunter2", exclude=True)


class OldSettings(pydantic.v1.BaseModel):
    lr: float = 0.1
    password: pydantic.v1.SecretStr = pydantic.v1.SecretStr("hunter2")
    nested: dict[str, int] = {"a": 1}


@pydantic.dataclasses.dataclass
class Checked:
    lr: float = 0.1
    password: pydantic.SecretStr = pydantic.SecretStr("hunter2")


@attrs.define
class Layer:
    width: int = 8
    inner: Any = None


@params_proto.proto
class Hyper:
    lr: float = 0.1
    name: str = "base"

    class Model:
        """Nested."""

        layers: int = 3


@params_proto.proto
def train(lr: float = 0.1, steps: int = 10):
    """A function with parameters."""


Point = collections.namedtuple("Point", "x y")

MASKED = {"url": "https://example.com/api", "password": "**********", "key": "b'**********'"}
OPTIMIZER = {"name": "adam", "lr": 3e-4}

OBJECTS = {
    "a dict": ({"a": {"b": [1, {"c": 2}]}}, {"a": {"b": [1, {"c": 2}]}}),
    "a dict that cannot be changed": (types.MappingProxyType({"a": 1}), {"a": 1}),
    "a class": (
        Config,
        {"seed": 1, "lr": 0.5, "sizes": [64, 64], "Model": {"layers": 2, "Head": {"width": 8}}},
    ),
    "dataclasses in dataclasses and lists": (
        Training(),
        {
            "optimizer": OPTIMIZER,
            "stages": [{"name": "adam", "lr": 1.0}, {"name": "adam", "lr": 2.0}],
            "space": {"low": 0, "high": 1},
        },
    ),
    "an argparse namespace": (argparse.Namespace(lr=1, opt=Optimizer()), {"lr": 1, "opt": OPTIMIZER}),
    "a simple namespace": (types.SimpleNamespace(a=types.SimpleNamespace(b=1)), {"a": {"b": 1}}),
    "a named tuple": (Point(Optimizer(), 2), {"x": OPTIMIZER, "y": 2}),
    "attrs": (Layer(inner=Layer(inner=[Layer()])), {
        "width": 8, "inner": {"width": 8, "inner": [{"width": 8, "inner": None}]},
    }),
    "pydantic": (
        Settings(),
        {"lr": 0.1, "where": "data/train", "colour": "red", "server": MASKED, "servers": [MASKED]},
    ),
    "pydantic 1": (OldSettings(), {"lr": 0.1, "password": "**********", "nested": {"a": 1}}),
    "a pydantic dataclass": (Checked(), {"lr": 0.1, "password": "**********"}),
    "OmegaConf": (
        omegaconf.OmegaConf.create(
            {"lr": 0.1, "eval": {"lr": "${lr}", "sizes": [1, "${lr}"]}, "later": "???", "opt": Optimizer}
        ),
        {"lr": 0.1, "eval": {"lr": 0.1, "sizes": [1, 0.1]}, "later": "???", "opt": OPTIMIZER | {"late": "???"}},
    ),
    "an OmegaConf list": ({"sizes": omegaconf.OmegaConf.create([1, {"a": "${0}"}])}, {"sizes": [1, {"a": 1}]}),
    "a params-proto object": (Hyper(lr=0.2), {"lr": 0.2, "name": "base"}),
    "a params-proto function": (train, {"lr": 0.1, "steps": 10}),
}  # fmt: skip


@pytest.mark.parametrize(("given", "expected"), OBJECTS.values(), ids=OBJECTS)
def test_what_holds_settings_becomes_a_dict(stored, given, expected):
    assert expected == stored(given)
    assert [expected] == stored([given])


@pytest.mark.parametrize(
    ("given", "expected"), [pair for pair in OBJECTS.values() if isinstance(pair[1], dict)], ids=OBJECTS
)
def test_it_can_be_given_as_it_is(tmp_path, shared, given, expected):
    """Not only below a key: what is published is the same, dotted."""
    shared.params.set(given)
    flat = shared.params.get()

    for key, value in Params.flatten_dict(expected).items():
        assert value == flat[key]


def test_a_params_proto_class_has_what_was_set_last():
    @params_proto.proto
    class Local:
        lr: float = 0.1

        class Model:
            layers = 3

        def method(self):
            """No setting."""

    Local.lr = 0.7
    from ml_dash.streams.adapters import as_mapping

    assert {"lr": 0.7, "Model": {"layers": 3}} == as_mapping(Local, "params")


def test_version_2_of_params_proto():
    v2 = pytest.importorskip("params_proto.v2", exc_type=ImportError, reason="needs waterbear")
    from ml_dash.streams.adapters import as_mapping

    class Args(v2.ParamsProto, cli=False):
        lr = 0.1
        steps = v2.Proto(10, help="how long")

        class Model:
            layers = 3

        def method(self):
            """No setting."""

    Args.lr = 0.2
    args = Args(lr=0.3)

    assert {"lr": 0.2, "steps": 10, "Model": {"layers": 3}} == as_mapping(Args, "params")
    assert {"lr": 0.3, "steps": 10, "Model": {"layers": 3}} == as_mapping(args, "params")


def test_the_programs_own_absl_flags():
    flags = pytest.importorskip("absl.flags")
    from ml_dash.streams.adapters import as_mapping

    values = flags.FlagValues()
    flags.DEFINE_integer("steps", 10, "how long", flag_values=values, module_name="train")
    flags.DEFINE_integer("verbosity", 1, "of absl", flag_values=values, module_name="absl.logging")
    values.mark_as_parsed()

    assert {"steps": 10} == as_mapping(values, "params")


def test_no_library_is_loaded_for_it(tmp_path):
    code = """
import sys
from ml_dash import Experiment
with Experiment("a/b/c", dash_root="runs", echo=False).run as exp:
    exp.params.set({"a": 1}, b=[1])
print(sorted({"pydantic", "attrs", "attr", "omegaconf", "params_proto", "absl", "argparse"} & set(sys.modules)))
"""
    assert ["[]"] == run_python(code, tmp_path).splitlines()


class TestMerging:
    def test_nested_values_merge_key_by_key(self, tmp_path):
        with Experiment("a/b/merge", dash_root=tmp_path, echo=False).run as exp:
            exp.params.set({"model": {"layers": 1, "act": "relu"}}, {"model": {"layers": 2}}, model={"width": 8})
            exp.params.update(Optimizer(), lr=1.0).log(model={"act": "gelu"})

            assert {"model": {"layers": 2, "act": "gelu", "width": 8}, "name": "adam", "lr": 1.0} == exp.params.get(
                flatten=False
            )

    def test_an_empty_dict_stays_until_it_has_values(self, tmp_path):
        with Experiment("a/b/empty", dash_root=tmp_path, echo=False).run as exp:
            exp.params.set(a={}, b={"c": {}}, lists=[{}])
            before = exp.params.get(), exp.params.get(flatten=False)
            exp.params.set(a={"x": 1})
            after = exp.params.get(), exp.params.get(flatten=False)

        assert ({"a": {}, "b.c": {}, "lists": [{}]}, {"a": {}, "b": {"c": {}}, "lists": [{}]}) == before
        assert ({"a.x": 1, "b.c": {}, "lists": [{}]}, {"a": {"x": 1}, "b": {"c": {}}, "lists": [{}]}) == after

    def test_a_key_that_is_a_value_and_holds_others(self, tmp_path):
        with Experiment("a/b/both", dash_root=tmp_path, echo=False).run as exp:
            exp.params.set({"a": 1, "a.b": 2})

            assert {"a": 1, "a.b": 2} == exp.params.get(flatten=False)

    def test_a_run_that_is_only_read(self, tmp_path):
        with Experiment("a/b/read", dash_root=tmp_path, echo=False).run as exp:
            exp.params.set(lr=1, model={"layers": 2})
        reader = ParamsReader(Source(tmp_path / "a/b/read"))

        assert ({"lr": 1, "model.layers": 2}, {"lr": 1, "model": {"layers": 2}}) == (reader.get(), reader.get(False))
        assert {} == ParamsReader(Source(tmp_path / "none")).get()


class Broken:
    def __get__(self, holder, owner=None):
        return 1 / 0


@attrs.define
class Unset:
    there: int = 1
    never: int = attrs.field(init=False)


@dataclasses.dataclass
class Bad:
    lr: float = 0.1
    handle: object = dataclasses.field(default_factory=object)


BAD = {
    "a value in a dataclass in a list": ({"stages": [Optimizer(), Bad()]}, InvalidTypeError, "stages[1].handle"),
    "a value in a namespace": (argparse.Namespace(model=Bad()), InvalidTypeError, "model.handle"),
    "an interpolation of nothing": (
        {"cfg": omegaconf.OmegaConf.create({"a": {"b": "${nowhere}"}})},
        InvalidValueError,
        "'cfg'",
    ),
    "an object of no kind": ({"model": {"net": Broken()}}, InvalidTypeError, "model.net"),
}


@pytest.mark.parametrize(("given", "error", "key"), BAD.values(), ids=BAD)
def test_a_bad_value_is_named_and_changes_nothing(shared, given, error, key):
    before, published = shared.params.get(), shared.health()["published"]
    with pytest.raises(error) as caught:
        shared.params.set({"good": 1}, given, also="good")

    assert key in str(caught.value)
    assert (before, published) == (shared.params.get(), shared.health()["published"])


def test_a_field_that_was_never_set_is_left_out(stored):
    assert {"there": 1} == stored(Unset())


NESTED = {"a": {"b": 1, "c": {"d": [1, {"e": 2}]}}, "f": {}}


class TestHelpers:
    @pytest.mark.parametrize(
        ("parent", "sep", "expected"),
        [
            ("", ".", {"a.b": 1, "a.c.d": [1, {"e": 2}], "f": {}}),
            ("x", ".", {"x.a.b": 1, "x.a.c.d": [1, {"e": 2}], "x.f": {}}),
            ("x", "/", {"x/a/b": 1, "x/a/c/d": [1, {"e": 2}], "x/f": {}}),
        ],
    )
    def test_flat_and_back(self, parent, sep, expected):
        flat = Params.flatten_dict(NESTED, parent, sep)
        nested = Params.unflatten_dict(flat, sep=sep)

        assert expected == flat
        assert NESTED == (nested[parent] if parent else nested)

    def test_dots_are_no_separator_where_another_is_named(self):
        assert {"a.b": {"c": 1}} == Params.unflatten_dict({"a.b/c": 1}, sep="/")

    def test_they_are_there_on_the_stream(self, shared):
        assert {"a.b": 1} == shared.params.flatten_dict({"a": {"b": 1}})


def test_the_document_is_plain_json(tmp_path):
    with Experiment("a/b/disk", dash_root=tmp_path, echo=False).run as exp:
        exp.params.set(Settings())
    text = (tmp_path / "a/b/disk/parameters.json").read_text()

    assert "**********" == json.loads(text)["data"]["server.password"]
    assert "hunter2" not in text
