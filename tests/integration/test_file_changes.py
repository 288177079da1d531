"""Stored files read back, copied out, deleted, described anew and duplicated, by one writer and by two."""

from __future__ import annotations

import json
import math
import os
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from ml_dash import Experiment
from ml_dash.errors import (
    ExperimentError,
    InvalidNameError,
    InvalidTypeError,
    InvalidValueError,
    MissingFileError,
    StorageError,
)
from ml_dash.query.files import FilesReader
from ml_dash.storage import reading
from tests.support import run_python, wait_until

PREFIX = "alice/walker/run-1"


class Past:
    """A run that is only read."""

    def __init__(self, folder):
        self.folder = str(folder)

    def flush(self, timeout=None):
        return True


@pytest.fixture
def root(tmp_path):
    return tmp_path / "root"


@pytest.fixture
def exp(root, tmp_path, monkeypatch):
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    with Experiment(PREFIX, dash_root=root, echo=False).run as exp:
        yield exp


@pytest.fixture
def run(root):
    return root / PREFIX


def blob(run, entry):
    return run / "files" / entry["path"].strip("/") / entry["id"] / entry["filename"]


def names(entries):
    return ["/".join(filter(None, [entry["path"].strip("/"), entry["filename"]])) for entry in entries]


def document(run):
    return json.loads((run / "files/.files_metadata.json").read_text())["files"]


class TestReading:
    def test_a_file_by_path_name_id_record_and_option(self, exp):
        saved = exp.files("models/best").save_text("é", to="a.txt")
        exp.files.save_text("other", to="b.txt")

        for read in (
            lambda: exp.files.read_text("models/best/a.txt"),
            lambda: exp.files.read_text("/models/best/a.txt"),
            lambda: exp.files.read_text("a.txt"),
            lambda: exp.files.read_text(saved["id"]),
            lambda: exp.files.read_text(saved),
            lambda: exp.files("models").read_text("best/a.txt"),
            lambda: exp.files("models/best/a.txt").read_text(),
            lambda: exp.files("a.txt").read_text(),
            lambda: exp.files(file_id=saved["id"]).read_text(),
            lambda: exp.files.read_bytes("a.txt").decode(),
        ):
            assert "é" == read()
        assert "Ã©" == exp.files.read_text("a.txt", encoding="latin-1")
        assert saved["id"] == exp.files("models").record("a.txt")["id"]

    def test_exists_is_false_only_for_what_is_not_there(self, exp):
        exp.files("models").save_text("1", to="a.txt")
        exp.files("others").save_text("1", to="a.txt")

        assert [True, True, True, False, False, False] == [
            exp.files.exists("models/a.txt"),
            exp.files("models").exists("a.txt"),
            exp.files.exists("a.txt"),
            exp.files.exists("model/a.txt"),
            exp.files("models").exists("others/a.txt"),
            exp.files("none").exists(),
        ]
        for wrong, error in (("../a.txt", InvalidNameError), (3, InvalidTypeError), (None, InvalidValueError)):
            with pytest.raises(error):
                exp.files.exists(wrong)

    def test_what_is_missing_or_ambiguous_says_so(self, exp):
        exp.files("models").save_text("1", to="best.pt")
        exp.files("others").save_text("1", to="best.pt")

        with pytest.raises(MissingFileError, match=r"no file 'models/bets\.pt'; did you mean 'models/best\.pt'"):
            exp.files.read_text("models/bets.pt")
        with pytest.raises(MissingFileError, match="no file with the id '123'"):
            exp.files.read_text({"id": "123"})
        with pytest.raises(InvalidValueError, match=r"2 files are named 'best\.pt': models/best\.pt, others/best\.pt"):
            exp.files.read_text("best.pt")

    def test_a_record_of_an_earlier_save_gives_the_file_as_it_is(self, exp):
        first = exp.files("x").save_text("1", to="latest.txt")
        listed = exp.files.record(first)
        exp.files("x").save_text("2", to="latest.txt")

        assert "2" == exp.files.read_text(first) == exp.files("x").read_text(listed)
        assert exp.files.exists(first)
        exp.files.delete("x/latest.txt")
        with pytest.raises(MissingFileError, match=r"no file 'x/latest\.txt', nor one with the id"):
            exp.files.read_text(first)

    def test_a_list_is_read_while_another_process_saves_its_files_again(self, exp, root, tmp_path):
        code = f"""
            from ml_dash import Experiment

            with Experiment({PREFIX!r}, dash_root={str(root)!r}, echo=False).run as exp:
                assert exp.session.writer_id
                for number in range(400):
                    exp.files.save_text(f"{{number}}", to=f"{{number % 3}}.txt")
                print("done")
        """
        for name in range(3):
            exp.files.save_text("0", to=f"{name}.txt")
        exp.flush()
        with ThreadPoolExecutor(1) as pool:
            other = pool.submit(run_python, textwrap.dedent(code), tmp_path)
            while not other.done():
                for entry in exp.files.list():
                    assert exp.files.read_text(entry).isdecimal()

        assert "done" in other.result()
        assert ["399", "397", "398"] == [exp.files.read_text(f"{name}.txt") for name in range(3)]

    def test_a_run_that_is_only_read(self, root, run):
        with Experiment(PREFIX, dash_root=root, echo=False).run as exp:
            exp.files("models").save_text("1", to="a.txt", tags=["x"])
        files = FilesReader(Past(run))

        assert ["models/a.txt"] == names(files.list()) == names(files("models").list("*.txt", tags=["x"]))
        assert "1" == files("models").read_text("a.txt")
        assert not hasattr(files, "delete")

    def test_a_changed_blob_is_an_error(self, exp, run):
        exp.files.save_text("right", to="a.txt")
        path = blob(run, exp.files.record("a.txt"))
        path.write_text("wrong")

        with pytest.raises(StorageError, match=r"'a\.txt' has the checksum"):
            exp.files.read_text("a.txt")
        path.unlink()
        with pytest.raises(MissingFileError, match="the stored file is gone"):
            exp.files.read_text("a.txt")


class TestListing:
    def test_stars_cross_slashes_and_two_may_stand_for_nothing(self, exp):
        for name in ("a.png", "x/b.png", "x/y/c.png", "x/y/d.txt"):
            exp.files.save_text("1", to=name)

        for pattern, expected in (
            ("**/*.png", ["a.png", "x/b.png", "x/y/c.png"]),
            ("x/**/*.png", ["x/b.png", "x/y/c.png"]),
            ("x/*.png", ["x/b.png", "x/y/c.png"]),
            ("**", ["a.png", "x/b.png", "x/y/c.png", "x/y/d.txt"]),
            ("[bc].png", ["x/b.png", "x/y/c.png"]),
        ):
            assert expected == names(exp.files.list(pattern)), pattern
        assert ["x/y/c.png"] == names(exp.files("x").list("y/*.png")) == names(exp.files("x").list("x/y/*.png"))

    def test_tags_and_bindrs_filter_as_arguments_and_as_options(self, exp):
        exp.files.save_text("1", to="a", tags=["best", "eval"], bindrs=["robot-7"])
        exp.files.save_text("1", to="b", tags=["eval"])
        exp.bindrs("robot-7").save_text("1", to="c")

        assert ["a"] == names(exp.files.list(tags=["best"]))
        assert ["a", "b"] == names(exp.files.list(tags=["best", "eval"])) == names(exp.files(tags=["eval"]).list())
        assert ["a", "c"] == names(exp.files.list(bindrs=["robot-7"])) == names(exp.bindrs("robot-7").list())
        assert [] == exp.bindrs("robot-8").list()
        assert [] == exp.bindrs()
        for call in (
            lambda: exp.files.list(tags="best"),
            lambda: exp.files(tags="best"),
            lambda: exp.files.list(3),
            lambda: exp.files.list(tags=[[1]]),
            lambda: exp.files.list(bindrs=[1]),
            lambda: exp.files(description=5),
            lambda: exp.bindrs(3),
        ):
            with pytest.raises(InvalidTypeError):
                call()

    def test_prefix_is_another_name_of_the_folder(self, exp):
        exp.files(prefix="models").save_text("1", to="a")

        assert ["models/a"] == names(exp.files("models", prefix="models").list())
        with pytest.raises(InvalidValueError, match="they are the same"):
            exp.files("models", prefix="other")


class TestDownload:
    def test_one_file_to_every_kind_of_place(self, exp, tmp_path):
        exp.files("models").save_text("1", to="a.txt")
        (tmp_path / "there").mkdir()

        for to, expected in (
            (None, tmp_path / "cwd/a.txt"),
            ("new/b.txt", tmp_path / "cwd/new/b.txt"),
            (tmp_path / "there", tmp_path / "there/a.txt"),
            (f"{tmp_path}/folder/", tmp_path / "folder/a.txt"),
            (tmp_path / "there/a.txt", tmp_path / "there/a.txt"),
        ):
            assert str(expected) == exp.files.download("models/a.txt", to=to)
            assert "1" == expected.read_text()
        assert str(tmp_path / "cwd/c.txt") == exp.files("models/a.txt", dest_path="c.txt").download()
        assert [] == list(tmp_path.rglob("*.tmp"))

    def test_a_place_in_bytes_and_one_that_is_none(self, exp, tmp_path):
        exp.files.save_text("1", to="a.txt")

        assert str(tmp_path / "cwd/b.txt") == exp.files.download("a.txt", to=b"b.txt")
        for to in (3, ["b.txt"]):
            with pytest.raises(InvalidTypeError, match="is no path"):
                exp.files.download("a.txt", to=to)
        with pytest.raises(InvalidTypeError, match="is no path"):
            exp.files("a.txt", dest_path=3).download()

    def test_a_current_folder_that_was_removed(self, exp, tmp_path, monkeypatch):
        exp.files.save_text("1", to="a.txt")
        (tmp_path / "cwd").rmdir()

        with pytest.raises(
            MissingFileError, match=r"no file 'missing' \(looked from the current folder, which was rem"
        ):
            exp.files.save("missing")
        for pattern in ("a.txt", "*.txt"):
            with pytest.raises(StorageError, match="pass to= as an absolute path"):
                exp.files.download(pattern)
        assert "1" == Path(exp.files.download("a.txt", to=tmp_path / "b.txt")).read_text()
        monkeypatch.chdir(tmp_path)

    def test_many_files_keep_their_folders(self, exp, tmp_path):
        for name in ("x/1.png", "x/deep/1.png", "y/1.png"):
            exp.files("images").save_text(name, to=name)

        def relative(paths, place):
            assert all(Path(path).read_text().endswith(Path(path).name) for path in paths)
            return [os.path.relpath(path, tmp_path / place) for path in paths]

        assert ["x/1.png", "x/deep/1.png", "y/1.png"] == relative(
            exp.files("images").download("*.png", to=tmp_path / "a"), "a"
        )
        assert ["1.png", "deep/1.png"] == relative(exp.files.download("images/x/*.png", to=tmp_path / "b"), "b")
        assert ["1.png", "deep/1.png"] == relative(
            exp.files("images").download("images/x/*.png", to=tmp_path / "c"), "c"
        )

    def test_time_and_permissions_are_those_of_the_file(self, exp, tmp_path):
        path = tmp_path / "key.pem"
        path.write_text("secret")
        path.chmod(0o600)
        os.utime(path, ns=(1_600_000_000_000_000_000, 1_600_000_000_123_456_000))
        exp.files.save(path)
        status = Path(exp.files.download("key.pem")).stat()

        assert (0o600, 1_600_000_000_123_456_000) == (status.st_mode & 0o777, status.st_mtime_ns)

    @pytest.mark.parametrize("place", ["plain.txt/x.txt", "/proc/ml_dash/x.txt", "/proc/x.txt"])
    def test_a_place_that_cannot_be_written_to_is_named(self, exp, tmp_path, place):
        exp.files.save_text("1", to="a.txt")
        (tmp_path / "cwd/plain.txt").write_text("a file")

        with pytest.raises(StorageError, match=r"(cannot be made|cannot be written there).*check to=") as raised:
            exp.files.download("a.txt", to=place)
        assert not isinstance(raised.value, MissingFileError)
        assert str(Path(place).resolve()).startswith(raised.value.filename)

    def test_text_with_what_is_no_utf_8_reads_as_it_was_saved(self, exp):
        exp.files.save_text("\ud800x", to="s.txt")

        assert "\ud800x" == exp.files.read_text("s.txt")

    def test_the_name_of_a_folder_lists_what_is_in_it(self, exp):
        for name in ("models/a.pt", "models/deep/b.pt", "models.txt"):
            exp.files.save_text("1", to=name)

        for pattern in ("models", "models/", "models/*"):
            assert ["a.pt", "b.pt"] == [entry["filename"] for entry in exp.files.list(pattern)]
        assert ["b.pt"] == [entry["filename"] for entry in exp.files("models").list("deep")]
        assert [] == exp.files.list("model")

    def test_a_wrong_checksum_leaves_nothing_and_what_was_there(self, exp, run, tmp_path):
        exp.files.save_text("right", to="a.txt")
        blob(run, exp.files.record("a.txt")).write_text("wrong")
        (tmp_path / "cwd/a.txt").write_text("mine")

        with pytest.raises(StorageError, match="it was changed"):
            exp.files.download("a.txt")
        assert [tmp_path / "cwd/a.txt"] == list((tmp_path / "cwd").iterdir())
        assert "mine" == (tmp_path / "cwd/a.txt").read_text()

    def test_a_large_file_has_no_checksum_yet_and_is_compared_by_size(self, exp, run):
        exp.files.save_blob(b"", to="empty")
        large = Path("large.bin")
        large.write_bytes(bytes(9_000_000))
        exp.files.save(large, to="copy.bin")

        assert exp.files.record("copy.bin")["checksum"] is None
        assert large.read_bytes() == Path(exp.files.download("copy.bin")).read_bytes()
        os.truncate(blob(run, exp.files.record("copy.bin")), 8_000_000)
        with pytest.raises(StorageError, match="has 8000000 bytes where 9000000 were saved"):
            exp.files.download("copy.bin")

    def test_a_name_that_looks_like_a_pattern(self, exp, tmp_path):
        exp.files.save_text("brackets", to="a[1].txt")
        exp.files.save_text("one", to="a1.txt")

        assert str(tmp_path / "cwd/a[1].txt") == exp.files.download("a[1].txt")

    @pytest.mark.parametrize("which", ["none.txt", "*.png", "none/*"])
    def test_what_is_not_there(self, exp, which):
        exp.files.save_text("1", to="a.txt")
        for call in (exp.files.download, exp.files.delete):
            with pytest.raises(MissingFileError, match="the run has no file"):
                call(which)

    def test_a_record_that_leads_out_of_the_run_is_refused(self, exp, run, tmp_path):
        exp.flush()
        (tmp_path / "secret").write_text("secret")
        entries = [
            {"id": "1", "path": "/../../../../..", "filename": "secret", "sizeBytes": 6, "checksum": None},
            {"id": "2", "path": "/x", "filename": "../../../evil", "sizeBytes": 1, "checksum": None},
        ]
        (run / "files/index.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in entries))

        for call in (
            lambda: exp.files.read_text("1"),
            lambda: exp.files.download("*secret"),
            lambda: exp.files.download("*evil", to=tmp_path / "a"),
        ):
            with pytest.raises(StorageError, match="leads out of"):
                call()
        assert [] == list(tmp_path.rglob("evil"))

    def test_a_file_that_a_later_save_replaces_meanwhile(self, exp, monkeypatch):
        exp.files.save_text("1", to="latest.txt")
        old = exp.files.record("latest.txt")
        exp.files.save_text("2", to="latest.txt")
        assert exp.flush()
        # The older version goes once the newer one is committed, which flush does not wait for.
        wait_until(lambda: not Path(exp.folder, "files", old["id"]).exists())
        monkeypatch.setattr(type(exp.files), "record", lambda self, path: old)  # as found a moment before

        assert "2" == exp.files.read_text("latest.txt")


class TestDelete:
    def test_one_file_and_many(self, exp, run):
        for name in ("a.png", "b.png", "c.txt"):
            exp.files("x").save_text(name, to=name)
        entry = exp.files("x").record("c.txt")

        one = exp.files("x").delete("c.txt")
        assert {"id": entry["id"], "deletedAt": one["deletedAt"]} == one
        assert one["deletedAt"].endswith("Z")
        assert "c.txt" == blob(run, entry).read_text(), "the content stays"
        with pytest.raises(MissingFileError):
            exp.files("x").delete("c.txt")
        assert [["deletedAt", "id"]] * 2 == [sorted(gone) for gone in exp.files.delete("x/*.png")]
        assert [] == exp.files.list()
        assert not exp.files.exists("x/a.png")

    def test_a_text_with_wildcards_is_a_pattern_and_means_its_own_name_too(self, exp):
        for name in ("*.txt", "[1].md", "1.md", "a.txt", "b.png"):
            exp.files.save_text(name, to=name)

        assert 2 == len(exp.files.delete("*.txt"))
        with pytest.raises(MissingFileError):
            exp.files.delete("*.txt")
        assert ["[1].md", "1.md", "b.png"] == names(exp.files.list())
        exp.files.delete(exp.files.record("[1].md"))
        assert ["1.md", "b.png"] == names(exp.files.list())
        exp.files.save_text("again", to="[1].md")
        assert 2 == len(exp.files.delete("[1].md"))
        assert ["b.png"] == names(exp.files.list())

    def test_the_name_is_free_again(self, exp):
        for version in ("1", "2", "3"):
            exp.files.save_text(version, to="a.txt")
            assert version == exp.files.read_text("a.txt")
            exp.files("a.txt").delete()
        exp.files.save_text("4", to="a.txt")

        assert ["4"] == [exp.files.read_text(entry) for entry in exp.files.list()]

    def test_it_stays_deleted(self, root, run):
        with Experiment(PREFIX, dash_root=root, echo=False).run as exp:
            exp.files.save_text("1", to="a.txt")
            exp.files.save_text("1", to="b.txt")
            exp.files.delete("a.txt")
        with Experiment(PREFIX, dash_root=root, echo=False).run as exp:
            assert ["b.txt"] == names(exp.files.list())

        assert [("a.txt", True), ("b.txt", False)] == [
            (entry["filename"], entry["deletedAt"] is not None) for entry in document(run)
        ]

    def test_a_tree_of_the_published_client(self, exp, root, run):
        folder = root / "alice/walker/old/files"
        folder.mkdir(parents=True)
        old = {"id": "7353347710644449", "path": "/ckpt", "filename": "best.pt", "deletedAt": None, "metadata": None}
        (folder / ".files_metadata.json").write_text(json.dumps({"files": [old]}))
        with Experiment("alice/walker/old", dash_root=root, echo=False).run as again:
            again.files.delete("ckpt/best.pt")
            assert [] == again.files.list()
        (entry,) = document(folder.parent)

        assert old["id"] == entry["id"]
        assert entry["deletedAt"]


class TestUpdate:
    def test_what_is_not_given_stays(self, exp, run):
        exp.files.save_text("1", to="a", description="old", tags=["x"], metadata={"epoch": 1}, bindrs=["b"])
        before = exp.files.record("a")
        returned = exp.files.update("a", tags=["y"], metadata={"loss": math.inf, "text": "NaN"})
        after = exp.files.record("a")

        assert before | {"tags": ["y"], "metadata": {"loss": math.inf, "text": "NaN"}} == after | {
            "updatedAt": before["updatedAt"]
        }
        assert after == returned
        assert before["updatedAt"] < after["updatedAt"]
        assert [] == exp.files(file_id=before["id"]).update(tags=[])["tags"] == exp.files.record("a")["tags"]
        assert "new" == exp.files("a", description="new").update()["description"]
        assert ("new", [], ["b"]) == tuple(exp.files.record("a")[key] for key in ("description", "tags", "bindrs"))

    def test_a_clock_that_is_set_back_loses_none(self, exp, run, monkeypatch):
        real = time.time
        exp.files.save_text("1", to="a")
        exp.files.update("a", description="first", tags=["x"])
        monkeypatch.setattr(time, "time", lambda: real() - 3600)
        exp.files.update("a", description="second")

        assert ("second", ["x"]) == tuple(exp.files.record("a")[key] for key in ("description", "tags"))
        assert "second" == exp.files.list()[0]["description"] == FilesReader(Past(run)).record("a")["description"]
        exp.files.delete("a")
        assert not exp.files.exists("a")

    def test_it_stands_in_the_document(self, root, run):
        with Experiment(PREFIX, dash_root=root, echo=False).run as exp:
            exp.files.save_text("1", to="a", tags=["x"])
            exp.files.update("a", description="later")
        (entry,) = document(run)

        assert ("later", ["x"], None) == (entry["description"], entry["tags"], entry["deletedAt"])
        assert "id" == next(iter(entry))

    def test_a_wrong_call_changes_nothing(self, exp):
        exp.files.save_text("1", to="a")
        before = exp.files.list()

        for call, error in (
            (lambda: exp.files.update("a"), InvalidValueError),
            (lambda: exp.files.update("a", tags="x"), InvalidTypeError),
            (lambda: exp.files.update("a", tags=[1, 2]), InvalidTypeError),
            (lambda: exp.files.update("a", bindrs=["b", None]), InvalidTypeError),
            (lambda: exp.files.update("a", description=5), InvalidTypeError),
            (lambda: exp.files.update("a", metadata={"k": object()}), InvalidTypeError),
            (lambda: exp.files.update("b", tags=["x"]), MissingFileError),
        ):
            with pytest.raises(error):
                call()
        assert before == exp.files.list()


class TestDuplicate:
    @pytest.mark.parametrize("how", ["path", "id", "record"])
    def test_the_copy_has_the_content_and_what_was_said_of_it(self, exp, how):
        saved = exp.files("models").save_blob(b"weights", to="3.pt", tags=["x"], metadata={"epoch": 3})
        source = {"path": "3.pt", "id": saved["id"], "record": saved}[how]
        copy = exp.files("models").duplicate(source, to="best/best.pt")
        original, found = exp.files.list()

        assert copy["id"] == found["id"] != original["id"]
        assert "models/best/best.pt" == names([found])[0]
        assert b"weights" == exp.files.read_bytes(found)
        assert (["x"], {"epoch": 3}) == (found["tags"], found["metadata"])
        exp.files.delete("models/3.pt")
        assert b"weights" == exp.files.read_bytes("best.pt")

    def test_wrong_calls(self, exp):
        exp.files.save_text("1", to="a")
        for call, error in (
            (lambda: exp.files.duplicate("none", to="b"), MissingFileError),
            (lambda: exp.files.duplicate("a", to="folder/"), InvalidNameError),
            (lambda: exp.files.duplicate(None, to="b"), InvalidTypeError),
        ):
            with pytest.raises(error):
                call()
        assert ["a"] == names(exp.files.list())


class TestTwoWriters:
    def test_each_changes_the_files_of_the_other(self, root, run):
        first = Experiment(PREFIX, dash_root=root, echo=False)
        second = Experiment(PREFIX, dash_root=root, echo=False)
        with first.run, second.run:
            assert second.session.writer_id
            for exp, name in ((first, "1"), (second, "2")):
                exp.files.save_text(name, to=f"{name}.txt")
                exp.files.save_text(name, to=f"{name}.gone")
                exp.files.save_text(name, to="same.txt")
                exp.flush()
            second.files.delete("1.gone")
            first.files.delete("2.gone")
            second.files.update("1.txt", description="by the second", tags=["a"])
            second.flush()
            first.files.update("1.txt", description="by the first")
            first.files.update("2.txt", description="by the first")
            first.flush()
            for exp in (first, second):
                assert {"1.txt": "by the first", "2.txt": "by the first", "same.txt": None} == {
                    entry["filename"]: entry["description"] for entry in exp.files.list()
                }
                assert ["a"] == exp.files.record("1.txt")["tags"]
                assert "2" == exp.files.read_text("same.txt")
            second.files.delete("same.txt")
            second.flush()
            assert not first.files.exists("same.txt")
        entries = document(run)

        assert ["1.gone", "1.txt", "2.gone", "2.txt", "same.txt"] == sorted(entry["filename"] for entry in entries)
        assert {"1.txt", "2.txt"} == {e["filename"] for e in entries if not e["deletedAt"]}
        assert {"1.txt", "2.txt"} == {e["filename"] for e in reading.read_files(str(run))}


class TestNotOpen:
    def test_every_call_says_so(self, root):
        with Experiment(PREFIX, dash_root=root, echo=False).run as exp:
            files = exp.files
            files.save_text("1", to="a")

        for call in (
            lambda: files.download("a"),
            lambda: files.delete("a"),
            lambda: files.update("a", tags=["x"]),
            lambda: files.duplicate("a", to="b"),
            lambda: files.exists("a"),
            lambda: files.read_text("a"),
            lambda: files.save(np.zeros(3), to="a.npy"),
        ):
            with pytest.raises(ExperimentError, match="closed"):
                call()
