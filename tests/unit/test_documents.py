from __future__ import annotations

import errno
import json
import math
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_dash.records.values import to_plain
from ml_dash.storage.disk import Disk
from ml_dash.storage.documents import (
    load_document,
    read_document,
    read_raw_document,
    timestamp,
    to_json,
    to_seconds,
    write_document,
)


class FullDisk(Disk):
    """Takes the first bytes of a file and then has no room."""

    def append(self, fd, data):
        os.write(fd, bytes(data)[:3])
        raise OSError(errno.ENOSPC, "full")


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_document_comes_back(tmp_path):
    document = {"a": [1, {"b": math.inf}], "text": "NaN", "big": 2**100, "half": "\ud800"}
    path = str(tmp_path / "deep/er/a.json")
    write_document(Disk(), path, to_plain(document, "a test"))

    assert document == read_document(path)
    assert ["a.json"] == names(tmp_path / "deep/er")


def test_a_raw_document_can_be_written_back_unchanged(tmp_path):
    path = str(tmp_path / "a.json")
    write_document(Disk(), path, to_plain({"a": math.nan, "b": "\\NaN", "c": "Infinity"}, "a test"))
    before = (tmp_path / "a.json").read_bytes()
    write_document(Disk(), path, read_raw_document(path))

    assert before == (tmp_path / "a.json").read_bytes()


def test_a_full_disk_leaves_the_old_document(tmp_path):
    path = str(tmp_path / "a.json")
    write_document(Disk(), path, {"version": 1})
    with pytest.raises(OSError):
        write_document(FullDisk(), path, {"version": 2})

    assert {"version": 1} == read_document(path)
    assert ["a.json"] == names(tmp_path)


def test_a_reader_beside_a_writer_never_sees_half_a_document(tmp_path):
    path = str(tmp_path / "a.json")
    write_document(Disk(), path, {"n": 0})
    with (tmp_path / "a.json").open(encoding="ascii") as held:
        write_document(Disk(), path, {"n": 1})

        assert {"n": 0} == json.load(held)


def test_the_longest_file_name_can_be_written(tmp_path):
    name = "x" * 250 + ".json"
    write_document(Disk(), str(tmp_path / name), {"a": 1}, sync=True)

    assert [name] == names(tmp_path)


@pytest.mark.parametrize("content", [None, b"", b'{"a": 1', b"[1, 2]", b"null", b"\xff\xff", b'"text"'])
def test_what_is_no_document_is_none(tmp_path, content):
    path = tmp_path / "a.json"
    if content is not None:
        path.write_bytes(content)

    assert read_document(path) is None
    assert read_raw_document(path) is None
    assert load_document(Disk(), str(path)) is None


def test_a_disk_that_refuses_is_no_missing_document(tmp_path):
    """What is there must not be replaced by a fresh one."""
    with pytest.raises(OSError):
        load_document(Disk(), str(tmp_path))
    assert read_document(tmp_path) is None


def test_bare_tokens_of_older_clients_are_read(tmp_path):
    (tmp_path / "a.json").write_text('{"a": NaN, "b": [-Infinity]}')
    value = read_document(tmp_path / "a.json")

    assert math.isnan(value["a"])
    assert [-math.inf] == value["b"]


def test_strings_of_documents_are_ascii_where_utf8_cannot_hold_them():
    assert b'{"a":"\\ud800"}' == to_json({"a": "\ud800"})
    with pytest.raises(ValueError, match="JSON"):
        to_json({"a": math.inf, "b": 2**64})


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "1970-01-01T00:00:00Z"),
        (1772355601.25, "2026-03-01T09:00:01.250000Z"),
        (1.000001, "1970-01-01T00:00:01.000001Z"),
    ],
)
def test_times_are_written_as_the_published_client_does(seconds, text):
    assert text == timestamp(seconds)
    assert seconds == to_seconds(text)


def test_times_with_an_offset_are_read():
    assert to_seconds("2026-03-01T09:00:01.250Z") == to_seconds("2026-03-01T10:00:01.250+01:00")


@given(st.floats(0, 4e9))
def test_times_keep_their_microseconds(seconds):
    assert abs(seconds - to_seconds(timestamp(seconds))) < 2e-6
