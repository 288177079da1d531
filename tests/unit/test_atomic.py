"""A file that appears complete or not at all, with and without the system's help."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path

import pytest

from ml_dash.storage import atomic
from ml_dash.storage.atomic import replacing, replacing_path


@pytest.fixture(params=["without a name", "with a name"])
def _kind(request, monkeypatch):
    if request.param == "with a name":
        monkeypatch.setattr(atomic, "_open_unnamed", lambda folder: None)


@pytest.mark.usefixtures("_kind")
class TestReplacing:
    def test_it_is_there_when_the_block_ends(self, tmp_path):
        path = tmp_path / "a.bin"
        with replacing(str(path)) as file:
            file.write(b"content")
            assert not path.exists()

        assert [path] == list(tmp_path.iterdir())
        assert b"content" == path.read_bytes()

    def test_it_takes_the_place_of_the_one_before(self, tmp_path):
        path = tmp_path / "a.bin"
        path.write_bytes(b"old")
        with replacing(str(path)) as file:
            file.write(b"new")
            assert b"old" == path.read_bytes()

        assert [path] == list(tmp_path.iterdir())
        assert b"new" == path.read_bytes()

    def test_after_an_error_nothing_has_changed(self, tmp_path):
        path = tmp_path / "a.bin"
        path.write_bytes(b"old")

        def fail():
            with replacing(str(path)) as file:
                file.write(b"new")
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            fail()

        assert [path] == list(tmp_path.iterdir())
        assert b"old" == path.read_bytes()

    def test_a_folder_that_is_removed_meanwhile_stays_removed(self, tmp_path):
        folder = tmp_path / "run"
        folder.mkdir()

        def write():
            with replacing(str(folder / "a.bin")) as file:
                file.write(b"content")
                shutil.rmtree(folder)

        with pytest.raises(OSError, match="No such file"):
            write()

        assert [] == list(tmp_path.iterdir())

    def test_others_may_read_it_as_the_mask_allows(self, tmp_path):
        before = os.umask(0o027)
        try:
            with replacing(str(tmp_path / "a.bin")):
                pass
        finally:
            os.umask(before)

        assert 0o640 == stat.S_IMODE((tmp_path / "a.bin").stat().st_mode)


def test_a_file_of_no_name_is_seen_by_nobody(tmp_path):
    with replacing(str(tmp_path / "a.bin")) as file:
        file.write(b"content")
        file.flush()

        assert [] == list(tmp_path.iterdir())


def failing(path, write, **options):
    """Replace a path with what ``write`` makes, and fail afterwards."""

    def fail():
        with replacing_path(str(path), **options) as temporary:
            write(temporary)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()


def make_folder(path, name, content):
    Path(path).mkdir()
    (Path(path) / name).write_bytes(content)


def names_in(folder):
    return [path.name for path in folder.iterdir()]


class TestReplacingPath:
    def test_a_folder_takes_the_place_of_one_with_files(self, tmp_path):
        path = tmp_path / "export"
        make_folder(path, "old", b"1")
        with replacing_path(str(path), may_be_folder=True) as temporary:
            make_folder(temporary, "new", b"2")
            assert ["old"] == names_in(path)

        assert [path] == list(tmp_path.iterdir())
        assert {"new": b"2"} == {file.name: file.read_bytes() for file in path.iterdir()}

    @pytest.mark.parametrize("before", ["nothing", "an empty folder"])
    def test_a_folder_appears_at_the_end_of_the_block(self, tmp_path, before):
        path = tmp_path / "export"
        if before == "an empty folder":
            path.mkdir()
        with replacing_path(str(path), may_be_folder=True) as temporary:
            make_folder(temporary, "new", b"2")

        assert [path] == list(tmp_path.iterdir())
        assert ["new"] == names_in(path)

    def test_a_folder_is_not_replaced_by_a_file(self, tmp_path):
        path = tmp_path / "export"
        make_folder(path, "old", b"1")

        def write():
            with replacing_path(str(path), may_be_folder=True) as temporary:
                Path(temporary).touch()

        with pytest.raises(IsADirectoryError):
            write()

        assert [path] == list(tmp_path.iterdir())
        assert ["old"] == names_in(path)

    def test_a_folder_that_cannot_be_put_in_place_leaves_the_old_one(self, tmp_path, monkeypatch):
        path = tmp_path / "export"
        make_folder(path, "old", b"1")
        rename = os.rename

        def refuse(source, target):
            if target == str(path) and not source.endswith(".old"):
                raise PermissionError(1, "refused")
            rename(source, target)

        monkeypatch.setattr(os, "rename", refuse)

        def write():
            with replacing_path(str(path), may_be_folder=True) as temporary:
                make_folder(temporary, "new", b"2")

        with pytest.raises(PermissionError, match="refused"):
            write()

        assert [path] == list(tmp_path.iterdir())
        assert ["old"] == names_in(path)

    def test_after_an_error_a_folder_that_was_begun_is_removed(self, tmp_path):
        path = tmp_path / "export"
        make_folder(path, "old", b"1")

        failing(path, lambda temporary: make_folder(temporary, "new", b"2"), may_be_folder=True)

        assert [path] == list(tmp_path.iterdir())
        assert ["old"] == names_in(path)

    def test_an_error_before_anything_was_written_leaves_no_trace(self, tmp_path):
        failing(tmp_path / "a.bin", lambda temporary: None)

        assert [] == list(tmp_path.iterdir())

    @pytest.mark.parametrize("name", ["a" * 255, "\u00e4" * 127 + "a"])
    def test_a_name_of_255_bytes_is_replaced_like_any_other(self, tmp_path, name):
        path = tmp_path / name
        with replacing_path(str(path)) as temporary:
            Path(temporary).write_bytes(b"content")

        assert [path] == list(tmp_path.iterdir())
        assert b"content" == path.read_bytes()

    def test_two_at_once_do_not_meet(self, tmp_path):
        path = str(tmp_path / "a.bin")
        with replacing_path(path) as one, replacing_path(path) as other:
            assert one != other
            Path(one).write_bytes(b"1")
            Path(other).write_bytes(b"2")

        assert [tmp_path / "a.bin"] == list(tmp_path.iterdir())
        assert b"1" == (tmp_path / "a.bin").read_bytes()
