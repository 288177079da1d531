"""A journal that is read as it grows, is cut, rewritten or replaced."""

from __future__ import annotations

import os

import pytest

from ml_dash.storage.follow import TAIL_BYTES, Position


class Reader:
    """Reads a journal look by look; ``lines`` are those of the newest look."""

    def __init__(self, path, position=None):
        self.path = path
        self.position = position or Position()

    def look(self, block_bytes=1 << 20):
        with self.path.open("rb") as file:
            if not self.position.is_in(file):
                self.position = Position()
            blocks = list(self.position.read(file, block_bytes))
        content = self.path.read_bytes()
        assert all(content[start:].startswith(block + b"\n") for start, block in blocks)
        return [line for _, block in blocks for line in block.split(b"\n")]


@pytest.fixture
def journal(tmp_path):
    path = tmp_path / "data.jsonl"
    path.write_bytes(b"1\n2\n")
    return path


@pytest.fixture
def reader(journal):
    reader = Reader(journal)
    assert [b"1", b"2"] == reader.look()
    return reader


def add(path, content):
    with path.open("ab") as file:
        file.write(content)


def test_each_look_takes_the_lines_that_were_added(journal, reader):
    assert [] == reader.look()
    add(journal, b"3\n4\n")
    assert [b"3", b"4"] == reader.look()


def test_a_line_without_a_newline_waits_for_its_end(journal, reader):
    add(journal, b"3\nhal")
    assert [b"3"] == reader.look()
    add(journal, b"f\n")
    assert [b"half"] == reader.look()


@pytest.mark.parametrize("block_bytes", [1, 2, 5, 1000])
def test_lines_are_whole_whatever_the_size_of_a_block(journal, block_bytes):
    lines = [b"", b"a", b"b" * 700, b"", b"c" * 3]
    journal.write_bytes(b"".join(line + b"\n" for line in lines) + b"rest")

    assert lines == Reader(journal).look(block_bytes)


def test_one_block_at_a_time(journal):
    position = Position()
    with journal.open("rb") as file:
        assert [(0, b"1")] == list(position.read(file, 2, once=True))
        assert [(2, b"2")] == list(position.read(file, 2, once=True))
        assert [] == list(position.read(file, 2, once=True))


def test_a_block_that_was_not_taken_in_is_read_again(journal):
    position = Position()
    with journal.open("rb") as file:
        assert (0, b"1") == next(position.read(file, 2))
        assert not position.is_current(file.fileno())
        assert [(0, b"1"), (2, b"2")] == list(position.read(file, 2))
        assert position.is_current(file.fileno())


def test_a_journal_that_was_cut_is_read_anew(journal, reader):
    journal.write_bytes(b"1\n")
    assert [b"1"] == reader.look()


@pytest.mark.parametrize("more", [b"", b"x" * 2 * TAIL_BYTES + b"\n"])
def test_a_batch_that_was_undone_and_written_differently_is_noticed(journal, reader, more):
    add(journal, more + b"3\n")
    reader.look()
    journal.write_bytes(b"1\n2\n" + more + b"4\n5\n")
    assert [b"1", b"2", *more.splitlines(), b"4", b"5"] == reader.look()


def test_a_batch_that_was_undone_and_written_again_the_same_is_not_read_twice(journal, reader):
    os.truncate(journal, 2)
    add(journal, b"2\n3\n")
    assert [b"3"] == reader.look()


def test_another_file_of_the_same_name_is_read_from_its_start(journal, reader, tmp_path):
    (tmp_path / "new").write_bytes(b"1\n2\n3\n")
    (tmp_path / "new").replace(journal)
    assert [b"1", b"2", b"3"] == reader.look()


def test_a_stored_offset_is_read_on_from_if_it_is_the_end_of_a_line(journal):
    assert [b"2"] == Reader(journal, Position(2)).look()
    assert [b"1", b"2"] == Reader(journal, Position(3)).look()
    assert [b"1", b"2"] == Reader(journal, Position(100)).look()


def test_whether_a_journal_has_changed_since_the_last_look(journal, reader):
    assert reader.position.is_current(str(journal))
    add(journal, b"3\n")
    assert not reader.position.is_current(str(journal))
    assert not Position().is_current(str(journal))
