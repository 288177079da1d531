"""Whatever happens to a tree of runs between two scans: the index says what a scan of everything says."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
from pathlib import Path
from unittest import mock

import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_dash.catalog import index, walk
from ml_dash.catalog.dataframe import to_dataframe
from ml_dash.catalog.index import read_index
from ml_dash.catalog.row_columns import to_list
from ml_dash.managed.toml_values import dumps
from tests.support import file_time, wait_until

# Instead of two seconds: the file systems that the tests run on have steps of 10 ms or less.
YOUNG_NS = 20_000_000

MANAGED = ["p/a", "p/b", "q/a"]
EXPERIMENTS = ["p/e", "p/e/inner", "x", "p/a"]  # the last one is managed as well
PLACES = [*MANAGED, *EXPERIMENTS, "p", "q"]

NAMES = st.sampled_from(["lr", "n", "model.name", "status", "acc"])
VALUES = (
    st.none()
    | st.booleans()
    | st.integers(-9, 9)
    | st.sampled_from([2**63, -(2**70)])
    | st.floats(width=16)
    | st.text(max_size=3)
    | st.datetimes(timezones=st.none() | st.just(None))
    | st.sampled_from([pd.Timestamp("2026-03-01T10:00Z").to_pydatetime(), b"xy", {1, 2}])
    | st.lists(st.integers(0, 3) | st.text(max_size=2), max_size=2)
)
DOCUMENTS = st.dictionaries(NAMES, VALUES, max_size=3)
PLAIN = st.dictionaries(NAMES, st.none() | st.booleans() | st.integers(-9, 9) | st.floats(0, 1) | st.text(max_size=3))
DIGIT = st.integers(0, 9)

CHANGES = st.one_of(
    st.tuples(st.just("config"), st.sampled_from(MANAGED), DOCUMENTS),
    st.tuples(st.just("metrics"), st.sampled_from(MANAGED), DOCUMENTS),
    st.tuples(st.just("digit"), st.sampled_from(MANAGED), DIGIT),
    st.tuples(st.just("experiment"), st.sampled_from(EXPERIMENTS), st.sampled_from(["RUNNING", "COMPLETED", None])),
    st.tuples(st.just("params"), st.sampled_from(EXPERIMENTS), PLAIN),
    st.tuples(st.just("point"), st.sampled_from(EXPERIMENTS), DIGIT),
    st.tuples(st.just("damage"), st.sampled_from(PLACES), st.sampled_from(["config.toml", "experiment.json"])),
    st.tuples(st.just("remove"), st.sampled_from(PLACES), st.none()),
    st.tuples(st.just("move"), st.sampled_from(PLACES), st.sampled_from(PLACES)),
    st.tuples(st.just("scan"), st.none(), st.none()),
    st.tuples(st.just("wait"), st.none(), st.none()),
    st.tuples(st.just("wait"), st.none(), st.none()),
)


class Tree:
    """A folder of runs and what can happen to it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.points = 0

    def act(self, what: str, place: str | None, value: object) -> None:
        if place is None:
            getattr(self, what)()
            return
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            getattr(self, what)(self.root / place, value)

    def config(self, folder: Path, values: dict) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.toml").write_text(dumps(values | {"digit": 0}))

    def metrics(self, folder: Path, values: dict) -> None:
        (folder / "metrics.toml.new").write_text(dumps(values))
        (folder / "metrics.toml.new").replace(folder / "metrics.toml")

    def digit(self, folder: Path, value: int) -> None:
        """In place, to the same size, and with the time of before."""
        path = folder / "config.toml"
        text, before = path.read_text(), path.stat()
        start = text.index("digit = ") + len("digit = ") if "digit = " in text else 0
        with path.open("r+") as file:
            file.seek(len(text[:start].encode()))
            file.write(str(value))
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))

    def experiment(self, folder: Path, status: str | None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "experiment.json").write_text(json.dumps({"project": "demo", "status": status, "tags": ["a"]}))

    def params(self, folder: Path, values: dict) -> None:
        (folder / "parameters.json").write_text(json.dumps({"version": 1, "data": values}))

    def point(self, folder: Path, value: int) -> None:
        self.points += 1
        for name in ("None", "train/deep"):
            journal = folder / "metrics" / name / "data.jsonl"
            journal.parent.mkdir(parents=True, exist_ok=True)
            with journal.open("a") as file:
                data = {"loss": value, f"only_{value}": 1.5, "_ts": self.points}
                file.write(json.dumps({"index": self.points, "data": data, "createdAt": ""}) + "\n")

    def damage(self, folder: Path, name: str) -> None:
        with (folder / name).open("r+") as file:
            file.write("= ?")

    def remove(self, folder: Path, _: object) -> None:
        shutil.rmtree(folder)

    def move(self, folder: Path, target: str) -> None:
        if not (self.root / target).exists() and folder not in (self.root / target).parents:
            (self.root / target).parent.mkdir(parents=True, exist_ok=True)
            folder.rename(self.root / target)

    def scan(self) -> None:
        assert seen(read_index(str(self.root), cached=False)) == seen(read_index(str(self.root)))

    def wait(self) -> None:
        start = file_time(self.root.parent)
        wait_until(lambda: file_time(self.root.parent) > start + YOUNG_NS)
        self.scan()


def seen(found: index.Index) -> dict:
    """Everything that an index says, types included, as text: NaN is equal to itself there."""
    frame = to_dataframe(found.rows)
    return {
        "places": found.paths,
        "managed": found.managed,
        "problems": found.problems,
        "names": found.rows.names(),
        "values": {name: repr(to_list(found.rows.columns[name])) for name in found.rows.names()},
        "kinds": {name: str(getattr(found.rows.columns[name], "type", list)) for name in found.rows.names()},
        "dtypes": frame.dtypes.astype(str).to_dict(),
        "frame": frame.map(repr).to_dict("list"),
    }


@settings(max_examples=60)
@given(st.lists(CHANGES, min_size=4, max_size=24))
def test_the_index_equals_a_fresh_scan(changes: list[tuple]) -> None:
    with (
        tempfile.TemporaryDirectory() as folder,
        mock.patch.object(walk, "YOUNG_NS", YOUNG_NS),
        mock.patch.dict(os.environ, {"ML_DASH_CACHE_DIR": f"{folder}/cache"}),
    ):
        runs = Tree(Path(folder) / "runs")
        for place in MANAGED:
            runs.act("config", place, {"lr": 1})
        for what, place, value in changes:
            runs.act(what, place, value)
        runs.scan()
        runs.wait()
        runs.scan()
