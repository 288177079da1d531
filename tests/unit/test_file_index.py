"""The index of files: what counts does not depend on the order in which journals are read."""

from __future__ import annotations

import itertools
import json
import math
import os
import random
import threading
from types import SimpleNamespace

import pytest

from ml_dash.query import file_lookup
from ml_dash.query.file_lookup import IndexLookup, ListLookup, lookup_of
from ml_dash.storage import file_index, reading
from ml_dash.storage.file_index import full_name


def entry(number, name="a", **more):
    return {"id": str(number), "path": "/", "filename": name, "tags": [], "deletedAt": None} | more


def write(path, *lines):
    path.write_bytes(b"".join(line if type(line) is bytes else json.dumps(line).encode() + b"\n" for line in lines))
    return file_index.read_entries(str(path))


SHARDS = [
    [entry(1), entry(2), entry(5, "b"), {"id": "9", "deletedAt": "2026-01-01T00:00:01Z"}],
    [entry(3), {"id": "3", "tags": ["old"], "updatedAt": "2026-01-01T00:00:01Z"}],
    [
        {"id": "3", "tags": ["new"], "updatedAt": "2026-01-01T00:00:01.5Z"},
        {"id": "5", "checksum": "abc"},
        {"id": "77", "tags": ["of a file that nobody knows"]},
        entry(9, "c"),
    ],
]


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))), ids=str)
def test_the_order_of_journals_does_not_matter(order):
    found = file_index.merge([[dict(line) for line in SHARDS[place]] for place in order])

    assert {"a": "3", "b": "5", "c": "9"} == {line["filename"]: line["id"] for line in found}
    by_name = {line["filename"]: line for line in found}
    assert ["new"] == by_name["a"]["tags"]
    assert "abc" == by_name["b"]["checksum"]
    assert by_name["c"]["deletedAt"]


def test_within_a_journal_the_last_line_counts_whatever_the_clock_said():
    assert ["1"] == [line["id"] for line in file_index.merge([[entry(2), entry(1)]])]


def test_an_id_of_the_time_alone_is_compared_by_its_time(tmp_path):
    """The published client's, and of this one before 0.12."""
    ours, theirs, ours_again = f"7353347710644449{7:010d}", "7353347710644450", f"7353347710644451{3:010d}"
    versions = [entry(number) for number in (theirs, ours, ours_again)]
    (tmp_path / "files").mkdir()

    for kept in (1, 2, 3):
        shards = [[dict(version)] for version in sorted(versions, key=lambda e: e["id"][:16])[:kept]]
        newest = (ours, theirs, ours_again)[kept - 1]
        for order in itertools.permutations(shards):
            assert [newest] == [line["id"] for line in file_index.merge([[dict(e) for e in shard] for shard in order])]
        for place, shard in enumerate(shards):
            write(tmp_path / "files" / ("index.jsonl" if not place else f"index.w{place}.jsonl"), *shard)
        looked = IndexLookup(str(tmp_path)).refresh()
        assert [newest] == [line["id"] for line in looked.by_path("a")]


def test_an_id_of_another_program_is_older_than_ours():
    found = file_index.merge([[entry("x-1")], [entry(1)]])

    assert ["1"] == [line["id"] for line in found]


def test_lines_that_are_broken_or_no_entries_are_passed_over(tmp_path):
    found = write(
        tmp_path / "index.jsonl",
        entry(1),
        b"\n",
        b'{"id":"2"\n"tags":[]}\n',
        b"[1]\n",
        b'{"path":"/"}\n',
        b'{"id":3}\n',
        entry(4),
        b'{"id":"5","filen',
    )

    assert ["1", "4"] == [line["id"] for line in found]


def test_values_come_back_as_they_were(tmp_path):
    metadata = {"big": 2**70, "small": -(2**63), "nanoseconds": 1_763_000_000_000_000_000, "digits": "1" * 30}
    (first, second, third) = write(
        tmp_path / "index.jsonl",
        entry(1, metadata=metadata),
        entry(2, "NaN", metadata={"loss": "NaN", "text": "\\NaN"}),
        b'{"id":"3","metadata":{"loss":NaN}}\n',
    )

    assert metadata == first["metadata"]
    assert ("NaN", "NaN") == (second["filename"], second["metadata"]["text"])
    assert math.isnan(second["metadata"]["loss"])
    assert math.isnan(third["metadata"]["loss"])


def test_a_large_index_is_read_whole(tmp_path):
    lines = [entry(number, str(number), metadata={"text": "x" * (number % 700)}) for number in range(10_000)]
    lines[5000]["metadata"]["text"] = "y" * 3_000_000

    assert lines == write(tmp_path / "index.jsonl", *lines)
    assert [] == file_index.read_entries(str(tmp_path / "none.jsonl"))


def test_within_a_journal_the_change_behind_counts_whatever_the_clock_said():
    def change(text, when):
        return {"id": "1", "description": text, "updatedAt": f"2026-01-01T00:00:{when}Z"}

    ours = [entry(1), change("first", "09"), {"id": "1", "checksum": "abc"}, change("second", "05")]
    for shards, expected in (
        ([ours], "second"),
        ([ours, [change("later elsewhere", "10")]], "later elsewhere"),
        ([[change("earlier elsewhere", "07")], ours], "second"),
    ):
        (found,) = file_index.merge([[dict(line) for line in shard] for shard in shards])
        assert (expected, "abc") == (found["description"], found["checksum"])


@pytest.fixture
def run(tmp_path):
    (tmp_path / "files").mkdir()
    return tmp_path


def append(run, *found, tag="", ending=b"\n"):
    path = run / f"files/index{tag and '.' + tag}.jsonl"
    with path.open("ab") as file:
        file.write(b"\n".join(json.dumps(line, separators=(",", ":")).encode() for line in found) + ending)
    if tag:  # as every writer that is not the first does before
        (run / ".writers").mkdir(exist_ok=True)
        (run / f".writers/{tag}.json").write_text("{}")


def everything(snapshot, names):
    """Whatever can be asked of some names, in a form that compares."""
    by_path = {name: snapshot.by_path(name) for name in names}
    ids = sorted(str(number) for number in range(1, 60))
    bare = {(name, folder): snapshot.by_name(name, folder) for name in "ab" for folder in ("", "x")}
    near = {folder: sorted(snapshot.paths_below(folder, 1000)) for folder in ("", "x", "none")}
    order = {key: sorted(found, key=lambda line: line["id"]) for key, found in bare.items()}
    return by_path, [snapshot.by_id(number) for number in ids], order, near


class TestIndexLookup:
    @pytest.mark.parametrize("seed", range(8))
    def test_it_tells_what_the_whole_index_tells(self, run, seed):
        """Entries, changes and deletions of several writers, clocks that go back, journals that are cut and removed."""
        rng = random.Random(seed)
        lookup, ids = IndexLookup(str(run)), iter(range(1, 60))
        names = ["a", "b", "x/a", "x/b", "x/y/a", "xx/a"]
        for _ in range(50):
            tag = rng.choice(["", "", "w1", "w2"])
            *folders, name = rng.choice(names).split("/")
            when = f"2026-01-01T00:00:{rng.randrange(60):02d}Z"
            target = str(rng.randrange(1, 30))
            lines = {
                "save": entry(next(ids), name, path="/" + "/".join(folders), checksum=None, description=None),
                "update": {"id": target, "description": when, "updatedAt": when},
                "retag": {"id": target, "tags": [when], "metadata": {"v": math.pi}, "updatedAt": when},
                "delete": {"id": target, "deletedAt": when},
                "hash": {"id": target, "checksum": when, "sizeBytes": 3},
            }
            what = rng.choice([*lines, "save", "cut", "remove", "half"])
            path = run / f"files/index{tag and '.' + tag}.jsonl"
            if what in lines:
                append(run, lines[what], tag=tag)
            elif what == "half":
                append(run, lines["update"], tag=tag, ending=b"\n{broken\n")
            elif path.exists() and what == "cut":
                os.truncate(path, path.read_bytes().rfind(b"\n", 0, path.stat().st_size // 2) + 1)
            elif path.exists() and rng.random() < 0.2:
                path.unlink()
            expected = ListLookup(reading.read_files(str(run)))
            assert everything(expected, names) == everything(lookup.refresh(), names), what

    def test_only_what_was_added_is_read(self, run, monkeypatch):
        read = []
        values_of = file_index.values_of

        def counted(block):
            read.append(block.count(b"\n") + 1)
            return values_of(block)

        append(run, *(entry(number, str(number)) for number in range(1, 2001)))
        lookup = IndexLookup(str(run))
        lookup.refresh()
        monkeypatch.setattr(file_index, "values_of", counted)
        append(run, entry(3000, "new"), {"id": "3000", "deletedAt": "2026-01-01T00:00:01Z"})
        snapshot = lookup.refresh()
        assert [2] == read
        assert [] == snapshot.by_path("new")
        assert [1, 1] == read[1:], "the line of the file and that of its deletion"
        lookup.refresh()
        assert ([], []) == (snapshot.by_path("none"), snapshot.by_name("none", ""))
        assert 3 == len(read)

    def test_a_journal_that_was_rewritten_is_read_anew(self, run):
        lookup = IndexLookup(str(run))
        append(run, entry(1, "a"), entry(2, "b"))
        assert "1" == lookup.refresh().by_path("a")[0]["id"]
        os.truncate(run / "files/index.jsonl", 0)
        append(run, entry(5, "b"), entry(6, "a"), entry(7, "c"))
        snapshot = lookup.refresh()

        assert ["6", "5", "7"] == [snapshot.by_path(name)[0]["id"] for name in "abc"]
        (run / "files/index.jsonl").unlink()
        assert [] == lookup.refresh().by_path("a")
        (run / "files").rename(run / "gone")
        assert [] == lookup.refresh().by_path("a")

    def test_an_index_that_is_rewritten_after_the_refresh_is_read_anew(self, run):
        append(run, entry(1, "a"), entry(2, "b"))
        snapshot = IndexLookup(str(run)).refresh()
        replaced = run / "files/other"
        replaced.write_text(json.dumps(entry(2, "b")) + "\n" + json.dumps(entry(1, "a")) + "\n")
        replaced.replace(run / "files/index.jsonl")

        assert (["1"], ["2"]) == tuple([line["id"] for line in snapshot.by_path(name)] for name in "ab")

    @pytest.mark.parametrize(
        "odd", [entry("x-1", "o"), entry(9, "o", path="x/"), entry(9, "p/o"), {"id": "x", "tags": []}]
    )
    def test_a_record_of_another_program_is_found_as_in_the_list(self, run, odd):
        append(run, entry(1, "a"), odd)
        snapshot = IndexLookup(str(run)).refresh()

        for line in reading.read_files(str(run)):
            assert [line] == snapshot.by_path(full_name(line)) == snapshot.by_id(line["id"])

    def test_what_is_given_out_can_be_changed(self, run):
        append(run, entry(1, "a", metadata={"k": [1]}), {"id": "1", "tags": ["x"], "updatedAt": "2026-01-01T00:00:01Z"})
        snapshot = IndexLookup(str(run)).refresh()
        found = snapshot.by_path("a")[0]
        found["metadata"]["k"].append(2)
        found["tags"].append("y")

        assert ({"k": [1]}, ["x"]) == tuple(snapshot.by_path("a")[0][key] for key in ("metadata", "tags"))

    def test_all_folders_of_a_run_share_one_and_a_forked_child_has_its_own(self, run, monkeypatch):
        source = type("Source", (SimpleNamespace,), {"__hash__": object.__hash__})(folder=str(run))
        shared = lookup_of(source)
        assert shared is lookup_of(source)
        monkeypatch.setattr(file_lookup.os, "getpid", lambda: -1)
        assert shared is not lookup_of(source)

    def test_threads_that_look_while_a_journal_grows(self, run):
        append(run, entry(1, "0"))
        lookup, wrong, done = IndexLookup(str(run)), [], threading.Event()

        def look():
            while not done.is_set():
                found = lookup.refresh().by_path("0")
                if [line["filename"] for line in found] != ["0"]:
                    wrong.append(found)

        threads = [threading.Thread(target=look) for _ in range(4)]
        for thread in threads:
            thread.start()
        for number in range(2, 400):
            append(run, entry(number, str(number % 7)))
        done.set()
        for thread in threads:
            thread.join()

        assert [] == wrong
        assert ["399"] == [line["id"] for line in lookup.refresh().by_path("0")]
