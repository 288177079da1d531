from __future__ import annotations

import errno
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_dash.storage.disk import Disk
from ml_dash.storage.journal import (
    MAX_OPEN,
    TAIL_BLOCK,
    Journals,
    cut_unfinished_line,
    last_line,
    last_lines,
    read_lines,
    whole_length,
)

LONG = b"x" * 200_000  # longer than the blocks that are read from the end


@pytest.fixture
def journals(tmp_path):
    made = Journals(str(tmp_path), Disk())
    yield made
    made.close()


def descriptors():
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


class TestAppend:
    def test_files_and_folders_are_made_when_they_are_needed(self, journals, tmp_path):
        journals.append("metrics/a/b/data.jsonl", b"1\n")
        journals.append("metrics/a/b/data.jsonl", b"2\n")

        assert b"1\n2\n" == (tmp_path / "metrics/a/b/data.jsonl").read_bytes()
        assert 4 == journals.length("metrics/a/b/data.jsonl")

    def test_an_unfinished_line_of_a_killed_writer_is_cut_off_first(self, journals, tmp_path):
        (tmp_path / "data.jsonl").write_bytes(b"whole\nhal")
        journals.append("data.jsonl", b"next\n")

        assert b"whole\nnext\n" == (tmp_path / "data.jsonl").read_bytes()

    def test_a_tar_shard_has_no_lines_to_cut(self, journals, tmp_path):
        (tmp_path / "shard.tar").write_bytes(b"a\nb")
        journals.append("shard.tar", b"c")

        assert b"a\nbc" == (tmp_path / "shard.tar").read_bytes()

    def test_undoing_an_append(self, journals, tmp_path):
        journals.append("data.jsonl", b"1\n")
        length = journals.length("data.jsonl")
        journals.append("data.jsonl", b"2\n3\n")
        journals.truncate("data.jsonl", length)
        journals.append("data.jsonl", b"4\n")

        assert b"1\n4\n" == (tmp_path / "data.jsonl").read_bytes()

    def test_undoing_never_makes_a_file_longer(self, journals, tmp_path):
        journals.append("data.jsonl", b"1\n")
        journals.truncate("data.jsonl", 100)
        journals.truncate("missing.jsonl", 0)

        assert b"1\n" == (tmp_path / "data.jsonl").read_bytes()
        assert not (tmp_path / "missing.jsonl").exists()

    def test_a_file_that_the_user_deleted_starts_again(self, journals, tmp_path):
        journals.append("a/data.jsonl", b"1\n")
        (tmp_path / "a/data.jsonl").unlink()
        (tmp_path / "a").rmdir()

        assert 0 == journals.length("a/data.jsonl")
        journals.append("a/data.jsonl", b"2\n")
        assert b"2\n" == (tmp_path / "a/data.jsonl").read_bytes()

    def test_thousands_of_streams_need_a_few_descriptors(self, journals, tmp_path):
        before = descriptors()
        for round_ in range(2):
            for number in range(3 * MAX_OPEN):
                journals.append(f"{number}.jsonl", b"%d\n" % round_)

        assert MAX_OPEN == descriptors() - before
        assert {b"0\n1\n"} == {path.read_bytes() for path in tmp_path.iterdir()}

    def test_what_was_appended_to_is_told_once(self, journals, tmp_path):
        journals.append("a.jsonl", b"1\n")
        journals.append("a.jsonl", b"2\n")
        journals.append("b.jsonl", b"1\n")

        assert [str(tmp_path / "a.jsonl"), str(tmp_path / "b.jsonl")] == sorted(journals.take_dirty())
        assert [] == journals.take_dirty()

    def test_closing_twice_leaves_no_descriptor(self, journals):
        before = descriptors()
        journals.append("a.jsonl", b"1\n")
        journals.close()
        journals.close()

        assert before == descriptors()


class TestRead:
    @pytest.mark.parametrize(
        ("content", "lines"),
        [
            (b"", []),
            (b"no newline", []),
            (b"\n", [b""]),
            (b"a\nb\n", [b"a", b"b"]),
            (b"a\nb\nhal", [b"a", b"b"]),
            (LONG + b"\n" + LONG + b"\nhal" + LONG, [LONG, LONG]),
            (b"a\r\n\nb\n", [b"a\r", b"", b"b"]),
        ],
    )
    def test_only_whole_lines_count(self, tmp_path, content, lines):
        path = tmp_path / "data.jsonl"
        path.write_bytes(content)

        assert lines == list(read_lines(path))
        assert (lines[-1] if lines else None) == last_line(str(path))
        assert sum(len(line) + 1 for line in lines) == whole_length(str(path), len(content))

    @pytest.mark.parametrize("name", ["missing.jsonl", "file/data.jsonl"])
    def test_a_missing_file_has_no_lines(self, tmp_path, name):
        (tmp_path / "file").write_text("in the way")
        path = str(tmp_path / name)

        assert [] == list(read_lines(path))
        assert last_line(path) is None
        cut_unfinished_line(Disk(), path)

    def test_a_disk_that_refuses_is_no_empty_journal(self, tmp_path):
        """Numbering must not start again at 0 because of an input/output error."""

        def refuse(path):
            raise OSError(errno.EIO, "input/output error", path)

        with pytest.raises(OSError, match="input/output"):
            list(read_lines(str(tmp_path / "a"), opener=refuse))
        with pytest.raises(OSError, match="input/output"):
            last_line(str(tmp_path / "a"), refuse)

    def test_a_folder_in_the_place_of_a_journal_is_left_out_and_named(self, tmp_path):
        with pytest.warns(UserWarning, match=f"{tmp_path}' is left out: Is a directory"):
            assert [] == list(read_lines(str(tmp_path)))


@given(st.lists(st.binary(max_size=70).filter(lambda line: b"\n" not in line), max_size=5), st.integers(0, 400))
def test_cutting_keeps_every_whole_line(tmp_path_factory, lines, cut):
    path = tmp_path_factory.getbasetemp() / "cut.jsonl"
    content = b"".join(line + b"\n" for line in lines)[:cut]
    path.write_bytes(content)
    cut_unfinished_line(Disk(), str(path))
    whole = path.read_bytes()

    assert content.startswith(whole)
    assert b"\n" not in content[len(whole) :]
    assert whole == b"".join(line + b"\n" for line in read_lines(path))


@pytest.mark.parametrize("size", [1, TAIL_BLOCK // 3, TAIL_BLOCK + 1])
@pytest.mark.parametrize("count", [0, 1, 3, 100])
def test_the_last_lines_are_found_however_long_they_are(tmp_path, size, count):
    lines = [letter.encode() * size for letter in "abcde"]
    path = tmp_path / "data.jsonl"
    path.write_bytes(b"".join(line + b"\n" for line in lines) + b"unfinished")

    found, end = last_lines(str(path), count)

    assert (lines[-count:] if count else []) == found
    assert path.stat().st_size - len(b"unfinished") == end
