"""Files of a run: what is saved is what lies on disk, in the index and in the document of the published client."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import math
import os
import pickle
import threading
from pathlib import Path

import numpy as np
import pytest

from ml_dash import Experiment
from ml_dash.errors import InvalidTypeError, InvalidValueError, MissingExtraError, MissingFileError, StorageError
from ml_dash.query.file_about import ABOUT
from ml_dash.storage import disk
from ml_dash.streams.file_formats import MAX_FILE_BYTES
from tests.support import PREFIX, wait_until

ENTRY_KEYS = [
    "id", "experimentId", "path", "filename", "description", "tags", "bindrs", "contentType", "sizeBytes", "checksum",
    "metadata", "uploadedAt", "updatedAt", "deletedAt",
]  # fmt: skip


@pytest.fixture
def folder(shared, own_name):
    """A folder of files that only this test uses."""
    return shared.files(own_name)


def index(run):
    return [json.loads(line) for line in (run / "files/index.jsonl").read_text().splitlines()]


def blob(run, entry):
    return run / "files" / entry["path"].strip("/") / entry["id"] / entry["filename"]


def blobs(run):
    """Every stored file below `files/`, without the files of the index."""
    # Not rglob, which raises if a folder goes while it looks.
    paths = [Path(folder, name) for folder, _, names in os.walk(run / "files") for name in names]
    return sorted(path for path in paths if path.parent != run / "files")


def only(files):
    """The one file of a folder."""
    (entry,) = files.list()
    return entry


class TestSaving:
    @pytest.mark.parametrize(
        ("save", "name", "content"),
        [
            (lambda files: files.save(b"bytes", to="a.bin"), "a.bin", b"bytes"),
            (lambda files: files.save(bytearray(b"bytes"), to="a.bin"), "a.bin", b"bytes"),
            (lambda files: files.save_blob(memoryview(b"0123456")[::-2], to="a.bin"), "a.bin", b"6420"),
            (lambda files: files.save_blob(b"", to="empty"), "empty", b""),
            (lambda files: files.save_blob(b"x", to="NaN"), "NaN", b"x"),
            (lambda files: files.save_text("é\nNaN", to="a.txt"), "a.txt", "é\nNaN".encode()),
            (lambda files: files.save_json({"é": "NaN"}, to="a.json"), "a.json", '{\n  "é": "NaN"\n}'.encode()),
            (lambda files: files.save([1, (2,)], to="a.json"), "a.json", b"[\n  1,\n  [\n    2\n  ]\n]"),
            (lambda files: files.save_pkl({1, 2}, to="a.pkl"), "a.pkl", pickle.dumps({1, 2})),
        ],
    )  # fmt: skip
    def test_what_was_given_is_what_lies_there(self, shared, folder, own_name, save, name, content):
        returned = save(folder)
        entry = only(folder)

        assert content == blob(Path(shared.folder), entry).read_bytes()
        assert (f"/{own_name}", name) == (entry["path"], entry["filename"])
        assert (len(content), hashlib.sha256(content).hexdigest()) == (entry["sizeBytes"], entry["checksum"])
        assert {
            "id": entry["id"],
            "path": f"/{own_name}",
            "filename": name,
            "status": "queued",
        }.items() <= returned.items()

    def test_a_file_keeps_its_name_and_is_left_alone(self, exp, run, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        Path("model.pth").write_bytes(b"weights")
        before = Path("model.pth").stat()
        exp.files("models").save("model.pth")
        exp.files("models").upload(Path("model.pth"), to="best/model.pth")
        first, second = exp.files.list()

        assert ("/models", "model.pth", "/models/best") == (first["path"], first["filename"], second["path"])
        assert [b"weights"] * 2 == [blob(run, entry).read_bytes() for entry in (first, second)]
        assert (before.st_ino, before.st_mtime_ns) == (
            Path("model.pth").stat().st_ino,
            Path("model.pth").stat().st_mtime_ns,
        )

    def test_a_file_is_stored_as_it_was_at_the_call(self, exp, run, tmp_path):
        path = tmp_path / "model.pth"
        for step in range(20):
            path.write_bytes(b"%d" % step * 1000)
            exp.files("models").save(path, to=f"{step}.pth")
        path.unlink()

        assert [b"%d" % step * 1000 for step in range(20)] == [
            blob(run, entry).read_bytes() for entry in exp.files.list()
        ]
        assert [] == list((run / "files").glob(".staging/*"))

    def test_bytes_are_stored_as_they_were_at_the_call(self, exp, run):
        content = bytearray(b"before")
        exp.files.save_blob(content, to="a")
        content[:] = b"after!"

        assert b"before" == blob(run, only(exp.files)).read_bytes()

    def test_a_file_larger_than_every_buffer(self, exp, run):
        content = np.random.default_rng(0).bytes(30_000_000)
        exp.files.save_blob(content, to="large.bin")
        exp.log("after")

        assert content == blob(run, only(exp.files)).read_bytes()

    def test_json_takes_what_parameters_take(self, exp, run):
        exp.files.save_json({"nan": math.nan, "array": np.arange(3), 1: Path("a/b"), "big": 2**70}, to="a.json")

        assert {"nan": "NaN", "array": [0, 1, 2], "1": "a/b", "big": 2**70} == json.loads(
            blob(run, only(exp.files)).read_text()
        )

    def test_an_array_becomes_an_image(self, exp, run):
        exp.files.save(np.zeros((8, 8, 3), np.uint8), to="a.png")

        assert blob(run, only(exp.files)).read_bytes().startswith(b"\x89PNG")

    @pytest.mark.parametrize(
        ("content", "name", "read"),
        [
            (np.arange(6).reshape(2, 3), "a.npy", lambda path: np.load(path).tolist() == [[0, 1, 2], [3, 4, 5]]),
            (np.arange(3), "a.NPZ", lambda path: np.load(path)["arr_0"].tolist() == [0, 1, 2]),
            ({"x": np.arange(2), "y": [1.5]}, "a.npz", lambda path: np.load(path)["y"].tolist() == [1.5]),
            ({"x": {1, 2}}, "a.pkl", lambda path: pickle.loads(path.read_bytes()) == {"x": {1, 2}}),
            (b"bytes", "a.npy", lambda path: path.read_bytes() == b"bytes"),
            ([1, 2], "a", lambda path: json.loads(path.read_text()) == [1, 2]),
        ],
    )
    def test_the_ending_of_a_name_says_how(self, shared, folder, own_name, content, name, read):
        folder.save(content, to=f"some/{name}")

        assert f"/{own_name}/some" == only(folder)["path"]
        assert read(blob(Path(shared.folder), only(folder)))

    @pytest.mark.ecosystem
    @pytest.mark.allow_leaks("matplotlib keeps the fonts open that it has used")
    def test_a_figure(self, exp, run):
        pyplot = pytest.importorskip("matplotlib.pyplot")
        pyplot.switch_backend("agg")
        figure, axes = pyplot.subplots()
        axes.plot([1, 2])
        exp.files.save_fig(figure, to="plots/a.png", close=False, dpi=20, metadata={"step": 1})
        assert [figure.number] == pyplot.get_fignums()
        exp.files.save_fig(to="plots/b.svg", tags=["x"])
        assert [] == pyplot.get_fignums()
        exp.files.save(figure, to="plots/c.pdf")

        a, b, c = exp.files.list("plots/*")
        heads = [blob(run, entry).read_bytes()[:5] for entry in (a, b, c)]
        assert [b"\x89PNG\r", b"<?xml", b"%PDF-"] == heads
        assert ({"step": 1}, ["x"]) == (a["metadata"], b["tags"])
        for call, error in (
            (lambda: exp.files.save_fig(to="d.png"), InvalidValueError),
            (lambda: exp.files.save_fig(figure, to="d.nonsense"), InvalidValueError),
            (lambda: exp.files.save_fig(3, to="d.png"), InvalidTypeError),
        ):
            with pytest.raises(error, match="save_fig"):
                call()
        assert 3 == len(exp.files.list())

    @pytest.mark.ecosystem
    def test_torch(self, exp, run):
        torch = pytest.importorskip("torch")
        model = torch.nn.Linear(2, 3)
        exp.files.save(model.state_dict(), to="models/a.pt", metadata={"epoch": 1})
        exp.files.save_torch(torch.arange(3), to="models/b.bin")
        exp.files.save(torch.zeros(4, 5, 3, dtype=torch.uint8), to="models/c.png")
        exp.files.save(torch.arange(3), to="models/d.npy")
        with pytest.raises(InvalidTypeError, match=r"save_torch to 'e\.pt': torch cannot save a function"):
            exp.files.save_torch(lambda: 3, to="e.pt")

        a, b, c, d = exp.files.list("models/*")
        assert torch.equal(model.weight, torch.load(blob(run, a))["weight"])
        assert [0, 1, 2] == torch.load(blob(run, b)).tolist() == np.load(blob(run, d)).tolist()
        assert blob(run, c).read_bytes().startswith(b"\x89PNG")
        assert {"epoch": 1} == a["metadata"]
        assert [] == list((run / "files").glob(".staging/*"))

    def test_torch_that_is_not_installed(self, exp):
        if importlib.util.find_spec("torch"):
            pytest.skip("it is installed")
        with pytest.raises(MissingExtraError, match="pip install torch"):
            exp.files.save({"a": 1}, to="a.pt")
        assert [] == exp.files.list()

    def test_options_of_a_folder_say_what_and_where(self, exp, run, tmp_path):
        path = tmp_path / "model.pth"
        path.write_bytes(b"weights")
        exp.files("models", file_path=path, tags=["x"]).save(to="a.pth", bindrs=["b"])
        exp.files("models", file_path=str(path)).save()

        assert ["a.pth", "model.pth"] == [entry["filename"] for entry in exp.files("models").list()]
        assert (["x"], ["b"]) == (exp.files.record("a.pth")["tags"], exp.files.record("a.pth")["bindrs"])

    def test_what_one_call_says_does_not_hold_for_the_next(self, exp):
        folder = exp.files("models")
        folder.save_text("1", to="a", metadata={"k": 1}, tags=["x"], bindrs=["b"], description="d")
        folder.save_text("2", to="b")

        assert (None, [], [], None) == tuple(
            exp.files.record("b")[key] for key in ("metadata", "tags", "bindrs", "description")
        )

    def test_a_file_that_changes_while_it_is_copied(self, exp, run, tmp_path, monkeypatch):
        """One that another process goes on writing to is refused; one whose change ends is copied as it is then."""
        path = tmp_path / "growing.log"
        path.write_bytes(b"1")
        changes = [b"2"]
        copy = disk._copy

        def copy_and_change(source, target):
            size = copy(source, target)
            with path.open("ab") as file:
                file.write(changes.pop() if changes else b"")
            return size

        monkeypatch.setattr(disk, "_copy", copy_and_change)
        exp.files.save(path)
        assert b"12" == exp.files.read_bytes("growing.log")
        changes += [b"3"] * 10
        with pytest.raises(StorageError, match=r"changed each time it was copied.*growing\.log"):
            exp.files.save(path, to="again.log")
        assert ["growing.log"] == [entry["filename"] for entry in exp.files.list()]
        assert [] == list((run / "files").glob(".staging/*"))

    def test_names_of_one_letter_and_of_the_greatest_length(self, exp, run):
        names = ["x", "x" * 255, "ü" * 127, "a b", ".hidden", "index.txt"]
        for name in names:
            exp.files.save_blob(b"1", to=name)

        assert names == [entry["filename"] for entry in exp.files.list()]
        assert [b"1"] * len(names) == [blob(run, entry).read_bytes() for entry in exp.files.list()]


class TestRecord:
    def test_it_has_every_key_of_the_published_client(self, exp):
        exp.files("models").save_blob(
            b"1", to="a.pt", description="best", tags=["x"], metadata={"epoch": 3, "loss": math.nan, "big": 2**70}
        )
        entry = only(exp.files)

        assert ENTRY_KEYS == list(entry)
        assert ("best", ["x"], [], None) == tuple(entry[key] for key in ("description", "tags", "bindrs", "deletedAt"))
        assert {"epoch": 3, "big": 2**70} == {k: v for k, v in entry["metadata"].items() if k != "loss"}
        assert math.isnan(entry["metadata"]["loss"])
        assert f"walker/{PREFIX}" == entry["experimentId"]
        assert entry["id"].isdigit()

    def test_options_of_a_folder_hold_for_what_is_saved_through_it(self, exp):
        folder = exp.files("models", description="from here", tags=["a"], bindrs=["b"], metadata={"k": 1})
        folder.save_blob(b"1", to="1")
        folder.save_blob(b"2", to="2", description="its own", tags=["c"])
        first, second = exp.files.list()

        assert ("from here", ["a"], ["b"], {"k": 1}) == tuple(
            first[key] for key in ("description", "tags", "bindrs", "metadata")
        )
        assert ("its own", ["c"], ["b"], {"k": 1}) == tuple(
            second[key] for key in ("description", "tags", "bindrs", "metadata")
        )

    @pytest.mark.parametrize(
        ("name", "kind"),
        [
            ("a.json", "application/json"),
            ("a.txt", "text/plain"),
            ("a.png", "image/png"),
            ("a", "application/octet-stream"),
        ],
    )
    def test_the_content_type_comes_from_the_name(self, folder, name, kind):
        folder.save_blob(b"1", to=name)

        assert kind == only(folder)["contentType"]

    def test_ids_grow(self, exp):
        for number in range(50):
            exp.files.save_blob(b"1", to=str(number))
        ids = [int(entry["id"]) for entry in exp.files.list()]

        assert sorted(set(ids)) == ids

    def test_text_that_is_not_utf8_in_a_record(self, exp):
        exp.files.save_blob(b"1", to="a", description="half \udcff")
        exp.files.save_image(np.zeros((4, 4), np.uint8), to="a.png", description="half \udcff")

        assert ["half \udcff"] * 2 == [entry["description"] for entry in exp.files.list()]


class TestSameName:
    def test_the_newest_version_counts_and_the_older_ones_go(self, exp, run):
        for step in range(10):
            exp.files("models").save_blob(b"%d" % step, to="latest.pt")
        exp.flush()

        assert b"9" == blob(run, only(exp.files)).read_bytes()
        # An older version goes once the newer one is committed, which flush does not wait for.
        wait_until(lambda: [blob(run, only(exp.files))] == blobs(run), message="the older versions are gone")

    def test_the_same_name_in_another_folder_is_another_file(self, exp):
        exp.files("a").save_blob(b"1", to="x")
        exp.files("b").save_blob(b"2", to="x")
        exp.files.save_blob(b"3", to="x")

        assert ["/a", "/b", "/"] == [entry["path"] for entry in exp.files.list()]

    def test_a_version_of_an_earlier_session_goes_too(self, tmp_path, run):
        """A job that is continued every night overwrites its last checkpoint."""
        for session in range(3):
            with Experiment(PREFIX, dash_root=tmp_path, echo=False).run as exp:
                exp.files("models").save_blob(b"%d" % session, to="latest.pt")
                exp.files("models").save_blob(b"keep", to=f"{session}.pt")

        assert ["0.pt", "1.pt", "2.pt", "latest.pt"] == sorted(path.name for path in blobs(run))
        assert b"2" == next(path for path in blobs(run) if path.name == "latest.pt").read_bytes()


@pytest.fixture(scope="module")
def some_files(tmp_path_factory):
    """A run that holds nothing but these."""
    with Experiment(PREFIX, dash_root=tmp_path_factory.mktemp("list"), echo=False).run as exp:
        for name in ("a.png", "b.txt", "eval/c.png", "eval/deep/d.png", "evaluation/e.png"):
            exp.files.save_blob(b"1", to=name)
        yield exp


class TestList:
    @pytest.mark.parametrize(
        ("inside", "pattern", "names"),
        [
            (None, None, "abcde"),
            (None, "*.png", "acde"),
            ("eval", None, "cd"),
            ("eval", "*.png", "cd"),
            ("eval", "deep/*", "d"),
            (None, "eval/*", "cd"),
            ("eval/deep", None, "d"),
            ("none", None, ""),
            (None, "[ab].*", "ab"),
            (None, "*.PNG", ""),
        ],
    )
    def test_a_folder_and_a_pattern(self, some_files, inside, pattern, names):
        assert list(names) == [entry["filename"][0] for entry in some_files.files(inside).list(pattern)]


class TestDocument:
    def test_at_close_the_document_equals_the_index(self, tmp_path, run):
        with Experiment(PREFIX, dash_root=tmp_path, echo=False).run as exp:
            for number in range(5):
                exp.files("m").save_blob(b"%d" % number, to=f"{number % 3}.bin", metadata={"n": number, "x": math.inf})
            exp.files("frames").save_image(np.zeros((4, 4), np.uint8), to="f.jpg")
            large = tmp_path / "large.bin"
            large.write_bytes(bytes(9_000_000))
            exp.files.save(large)
            listed = exp.files.list()
        entries = json.loads((run / "files/.files_metadata.json").read_text())["files"]
        merged = {}
        for line in index(run):
            merged[line["id"]] = merged.get(line["id"], {}) | line
        newest = {(line["path"], line["filename"]): line for line in merged.values()}

        assert list(newest.values()) == sorted(
            entries, key=lambda entry: list(newest).index((entry["path"], entry["filename"]))
        )
        assert [ENTRY_KEYS] * 5 == [list(entry) for entry in entries]
        assert sorted(entry["id"] for entry in listed) == sorted(entry["id"] for entry in entries)
        for entry in entries:
            content = blob(run, entry).read_bytes()
            assert (len(content), hashlib.sha256(content).hexdigest()) == (entry["sizeBytes"], entry["checksum"])
        assert sorted(blob(run, entry) for entry in entries) == blobs(run)

    def test_a_run_without_files_has_an_empty_document(self, tmp_path, run):
        with Experiment(PREFIX, dash_root=tmp_path, echo=False).run:
            pass

        assert {"files": []} == json.loads((run / "files/.files_metadata.json").read_text())

    def test_a_tree_of_an_older_client_is_listed(self, exp, run):
        """It had no index, only the document."""
        exp.flush()
        old = {
            "id": "7353347710644449",
            "path": "/ckpt",
            "filename": "best.pt",
            "deletedAt": None,
            "metadata": {"x": 1},
        }
        gone = {"id": "7353347710644450", "path": "/", "filename": "gone.pt", "deletedAt": "2026-01-01T00:00:00Z"}
        (run / "files/.files_metadata.json").write_text(json.dumps({"files": [old, gone]}))

        assert [old] == exp.files.list()


class TestRefused:
    def test_what_the_disk_refuses_again_and_again_is_said_once(self, exp, run, tmp_path, capfd):
        pytest.importorskip("av")
        (tmp_path / "model.pth").write_bytes(b"weights")
        exp.flush()
        (run / "files").mkdir(exist_ok=True)
        (run / "files/.staging").touch()  # in the place of the folder
        records = [exp.files.save(tmp_path / "model.pth") for _ in range(3)]
        records += [exp.files.save_video(np.zeros((2, 16, 16), np.uint8), to="a.mp4") for _ in range(3)]
        (run / "files/.staging").unlink()

        assert ["refused"] * 6 == [record["status"] for record in records]
        assert 6 == exp.health()["records_refused"]
        shown = [line for line in capfd.readouterr().err.splitlines() if "was not saved" in line]
        assert [1, 1] == [sum(name in line for line in shown) for name in ("'model.pth'", "'a.mp4'")]
        assert [] == exp.files.list()

    def test_a_file_that_is_not_there(self, exp):
        with pytest.raises(MissingFileError, match=r"no file 'missing\.pth'"):
            exp.files.save("missing.pth")

    def test_text_that_is_no_path(self, exp):
        with pytest.raises(MissingFileError, match="to save the text itself, use save_text"):
            exp.files.save("loss went down\n" * 1000, to="notes.txt")

    def test_a_file_that_is_too_large(self, exp, tmp_path):
        path = tmp_path / "large"
        with path.open("wb") as file:
            try:
                file.truncate(MAX_FILE_BYTES + 1)
            except OSError:
                pytest.skip("this disk holds no file of that size")
        with pytest.raises(InvalidValueError, match="at most 100000000000 are taken"):
            exp.files.save(path)

    def test_a_device(self, exp):
        with pytest.raises(InvalidValueError, match="no regular file"):
            exp.files.save("/dev/null")

    def test_an_ending_that_does_not_fit(self, exp):
        for call, text in (
            (lambda: exp.files.save(np.zeros((4, 4)), to="a.txt"), r"to a name in '\.txt': use \.jpg.*\.npy"),
            (lambda: exp.files.save({"a": np.zeros(3)}, to="a.npy"), r"saved as \.npz"),
        ):
            with pytest.raises(InvalidValueError, match=text):
                call()
        with pytest.raises(InvalidTypeError, match="no array of numbers or text"):
            exp.files.save([object()], to="a.npy")
        assert [] == exp.files.list()

    def test_a_folder(self, exp, tmp_path):
        with pytest.raises(InvalidValueError, match="is a folder"):
            exp.files.save(tmp_path)

    @pytest.mark.parametrize("content", [b"x", {"a": 1}, np.zeros((4, 4))], ids=["bytes", "dict", "array"])
    def test_what_has_no_name_of_its_own_needs_one(self, exp, content):
        with pytest.raises(InvalidValueError, match="to= is missing"):
            exp.files.save(content)

    @pytest.mark.parametrize("content", [object(), 3, None])
    def test_there_is_no_way_to_save_it(self, exp, content):
        with pytest.raises(InvalidTypeError, match="is no path, bytes, dict, list or array"):
            exp.files.save(content, to="a")

    def test_what_cannot_be_pickled(self, exp):
        with pytest.raises(InvalidTypeError, match=r"save_pkl to 'a\.pkl': a lock cannot be pickled"):
            exp.files.save_pkl(threading.Lock(), to="a.pkl")

    @pytest.mark.parametrize(
        "call",
        [
            lambda files: files.save_text(b"bytes", to="a"),
            lambda files: files.save_blob("text", to="a"),
            lambda files: files.upload(3),
            lambda files: files.upload(b"model.pth"),
            lambda files: files.save_json({"a": object()}, to="a.json"),
            lambda files: files.save_blob(b"x", to="a", tags="best"),
            lambda files: files.save_blob(b"x", to="a", metadata=[1]),
            lambda files: files.save_blob(b"x", to="a", metadata={"k": object()}),
        ],
    )
    def test_the_wrong_type(self, exp, call):
        with pytest.raises(InvalidTypeError):
            call(exp.files)
        assert [] == exp.files.list()

    @pytest.mark.parametrize(
        ("call", "keyword", "closest"),
        [
            ("save", "tag", "tags"),
            ("save_blob", "Description", "description"),
            ("save_text", "meta_data", "metadata"),
            ("save_json", "bindr", "bindrs"),
            ("save_pkl", "tag", "tags"),
            ("save_torch", "tag", "tags"),
            ("save_image", "qualty", "quality"),
            ("save_video", "fsp", "fps"),
            ("upload", "descripton", "description"),
        ],
    )
    def test_a_keyword_that_is_not_known_is_answered_with_the_closest(self, exp, call, keyword, closest):
        content = np.zeros((4, 4), np.uint8)
        with pytest.raises(InvalidTypeError) as caught:
            getattr(exp.files, call)(content, to="a.png", **{keyword: 3})

        assert f"{call}() has no keyword {keyword!r}; did you mean {closest!r}?" == str(caught.value)
        assert [] == exp.files.list()

    @pytest.mark.parametrize("call", ["save", "save_fig", "save_image", "save_video", "upload", "update"])
    def test_help_names_every_detail(self, exp, call):
        text = getattr(exp.files, call).__doc__

        assert [] == [name for name in ABOUT if f"``{name}``" not in text]
