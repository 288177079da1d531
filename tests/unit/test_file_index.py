"""The index of files: what counts does not depend on the order in which journals are read."""

from __future__ import annotations

import itertools
import json
import math

import pytest

from ml_dash.storage import file_index


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
