"""Several writers of one run: the end of one takes nothing from another, and the list of files is whole."""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import signal
import socket

import numpy as np
import pytest

from ml_dash import Experiment, open_run
from ml_dash.ipc import spill_file
from ml_dash.ipc.control import FRAMES_OFFSET, Control
from ml_dash.records.record import Kind, Record
from ml_dash.snowflake import file_id
from ml_dash.storage.disk import Disk
from ml_dash.storage.documents import to_json
from ml_dash.storage.locks import document_lock
from ml_dash.writer import finish
from ml_dash.writer.apply import Applier
from ml_dash.writer.import_legacy import import_files

PREFIX = "alice/walker/run-1"
LARGER_THAN_THE_RING = "x" * 6_000_000


@pytest.fixture
def opened(tmp_path):
    """Open the run, also beside one that is open."""
    opened = []

    def opener(**options):
        opened.append(Experiment(PREFIX, **{"dash_root": tmp_path, "echo": False} | options).run.start())
        return opened[-1]

    yield opener
    for exp in opened:
        exp.run.complete()


@pytest.fixture
def run(tmp_path):
    return tmp_path / PREFIX


@pytest.fixture
def files(tmp_path):
    """The folder of files of a run that is nobody's."""
    folder = tmp_path / "run/files"
    folder.mkdir(parents=True)
    return folder


def add(index, *names):
    with index.open("ab") as file:
        for name in names:
            file.write(to_json({"id": file_id(), "path": "/", "filename": name}) + b"\n")


def listed(files):
    entries = json.loads((files / ".files_metadata.json").read_bytes())["files"]
    return sorted((entry["filename"], entry["id"]) for entry in entries)


def names_of(files):
    return [name for name, _ in listed(files)]


class TestListOfFiles:
    def test_a_writer_that_begins_while_another_waits_for_the_lock_is_in_the_list(self, files, monkeypatch):
        @contextlib.contextmanager
        def late_lock(path):
            with document_lock(path) as is_held:
                add(files / "index.host-1-2.jsonl", "b.bin")
                yield is_held

        monkeypatch.setattr(finish, "document_lock", late_lock)
        add(files / "index.jsonl", "a.bin")
        finish.write_files_metadata(str(files.parent), Disk())

        assert ["a.bin", "b.bin"] == names_of(files)

    def test_files_that_are_saved_while_the_list_is_made_are_left_to_the_next_one(self, files):
        class BusyRun(Disk):
            def write_file(self, path, parts, sync=False):
                add(files / "index.host-1-2.jsonl", "new.bin", "again.bin")
                super().write_file(path, parts, sync)

        add(files / "index.jsonl", "a.bin")
        add(files / "index.host-1-2.jsonl", "again.bin")
        finish.write_files_metadata(str(files.parent), BusyRun())
        before = listed(files)
        finish.write_files_metadata(str(files.parent), Disk())

        assert ["a.bin", "again.bin"] == [name for name, _ in before]
        assert ["a.bin", "again.bin", "new.bin"] == names_of(files)
        assert before[1] not in listed(files)

    def test_a_file_of_a_second_writer_is_listed_once_where_the_first_one_saved_none(self, opened, run, tmp_path):
        first, second = opened(), opened()
        second.files("m").save_blob(b"1", to="c.bin")
        second.run.complete()
        first.run.complete()
        opened().run.complete()

        assert ["c.bin"] == names_of(run / "files")
        assert ["c.bin"] == [entry["filename"] for entry in open_run(PREFIX, dash_root=tmp_path).files.list()]

    def test_the_published_client_that_went_on_with_a_second_writers_run_adds_only_its_own(self, files):
        add(files / "index.host-1-2.jsonl", "ours.bin")
        ours = json.loads((files / "index.host-1-2.jsonl").read_bytes())
        theirs = {"id": "7353347710644449", "path": "/", "filename": "theirs.bin"}
        (files / ".files_metadata.json").write_text(json.dumps({"files": [ours, theirs]}))
        import_files(str(files.parent), Disk())
        import_files(str(files.parent), Disk())
        finish.write_files_metadata(str(files.parent), Disk())

        assert ["ours.bin", "theirs.bin"] == names_of(files)

    def test_a_list_of_our_own_is_taken_where_the_index_was_lost(self, files):
        add(files / "index.jsonl", "a.bin")
        finish.write_files_metadata(str(files.parent), Disk())
        (files / "index.jsonl").unlink()
        import_files(str(files.parent), Disk())
        finish.write_files_metadata(str(files.parent), Disk())

        assert ["a.bin"] == names_of(files)


class TestLeftovers:
    @pytest.mark.parametrize("host", ["main", "main-1"])
    def test_the_first_writer_leaves_what_a_host_called_main_handed_over(
        self, opened, run, tmp_path, monkeypatch, host
    ):
        (tmp_path / "big.bin").write_bytes(b"big")
        monkeypatch.setattr(socket, "gethostname", lambda: host)
        first, second = opened(), opened()
        assert second.session.writer_id.startswith("main-")
        assert first.flush()
        assert second.flush()
        writer = second.health()["writer_pid"]
        os.kill(writer, signal.SIGSTOP)
        try:
            second.files.upload(tmp_path / "big.bin", to="a.bin")
            second.metrics("m").log(text=LARGER_THAN_THE_RING)
            first.run.complete()
        finally:
            os.kill(writer, signal.SIGCONT)
        second.run.complete()

        assert 0 == second.health()["records_refused"]
        assert 1 == len(open_run(PREFIX, dash_root=tmp_path).metrics("m").read()["data"])
        assert ["a.bin"] == names_of(run / "files")

    def test_a_writer_removes_its_own_and_no_other_ones(self, tmp_path):
        tags = ["", "main-1-2", "main-1-2-3-4", "host-1-2"]
        names = {tag: f"{spill_file.prefix(tag)}7" for tag in tags}
        for tag in tags:
            for other in [tag for tag in tags if not (tmp_path / ".spill" / names[tag]).exists()]:
                spill_file.make_file(str(tmp_path), str(tmp_path / ".spill" / names[other]))
            finish.remove_leftovers(str(tmp_path), tag, Disk())

            left = {path.name for path in (tmp_path / ".spill").iterdir()}
            assert left == {names[other] for other in tags if other != tag}


def save_video(exp):
    pytest.importorskip("av")
    return exp.files.save_video(np.zeros((2, 16, 16), np.uint8), to="a.mp4")["status"]


def upload(exp):
    return exp.files.upload(__file__, to="a.py")["status"]


def save_large_image(exp):
    return exp.files.save_image(np.zeros((1000, 1000, 3), np.uint8), to="a.png")["status"]


def log_large_record(exp):
    exp.metrics("m").log(text=LARGER_THAN_THE_RING)
    return "queued"


class TestFolderThatGoesAway:
    @pytest.mark.parametrize("save", [upload, save_large_image, save_video, log_large_record])
    def test_it_is_made_again(self, opened, run, monkeypatch, save):
        """As another writer's end does it, between the making of the folder and that of the file."""
        exp = opened(frame_buffer_mb=1)
        exp.flush()
        make_folder, removed = os.mkdir, []

        def make_and_remove(name, *arguments, dir_fd=None):
            make_folder(name, *arguments, dir_fd=dir_fd)
            if name in (".spill", ".staging") and not removed:
                os.rmdir(name, dir_fd=dir_fd)
                removed.append(name)

        monkeypatch.setattr(os, "mkdir", make_and_remove)
        status = save(exp)
        exp.run.complete()

        assert removed
        assert "queued" == status
        assert (0, None) == (exp.health()["records_refused"], exp.health()["last_error"] or None)
        assert not list(run.rglob("*@*"))

    def test_it_stays_while_frames_are_awaited(self, opened, run):
        pytest.importorskip("av")
        exp = opened()

        def frames():
            for _ in range(2):
                finish.remove_leftovers(str(run), "host-1-2", Disk())
                yield np.zeros((16, 16), np.uint8)

        assert "queued" == exp.files.save_video(frames(), to="a.mp4")["status"]

    def test_a_folder_that_cannot_be_made_is_an_error(self, tmp_path):
        (tmp_path / "file").touch()
        with pytest.raises(OSError, match="file"):
            spill_file.make_file(str(tmp_path), str(tmp_path / "file/name"))


class TestQuarantine:
    def set_aside(self, run, *texts):
        """What one writer process does with records at the same position."""
        control = Control(mmap.mmap(-1, FRAMES_OFFSET))
        applier = Applier(
            run=str(run),
            consumer=None,
            control=control,
            disk=Disk(),
            journals=None,
            records=None,
            pool=None,
            suspicion=0,
        )
        for text in texts:
            applier._set_aside(Record(64, 128, 1, 0.0, Kind.METRIC, b"m", text, 0), ValueError("no"))
        control.close()

    def test_another_process_of_the_same_number_overwrites_nothing(self, tmp_path):
        self.set_aside(tmp_path, b"one")
        self.set_aside(tmp_path, b"two")

        assert [b"one", b"two"] == sorted(path.read_bytes() for path in tmp_path.glob("quarantine/*.data"))
        assert 2 == len(list(tmp_path.glob("quarantine/*.json")))

    def test_a_step_that_is_repeated_sets_nothing_aside_twice(self, tmp_path):
        self.set_aside(tmp_path, b"one", b"one")

        assert 2 == len(list((tmp_path / "quarantine").iterdir()))
