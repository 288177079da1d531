"""A file that appears complete or not at all, with and without the system's help."""

from __future__ import annotations

import os
import shutil
import stat

import pytest

from ml_dash.storage import atomic
from ml_dash.storage.atomic import replacing


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
