"""A file's deletion and its new description survive the death of the process that asked for them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ml_dash.storage import layout, reading
from ml_dash.storage.documents import read_document
from tests.crash.programs import ending, run_folder, running
from tests.support import wait_until

pytestmark = pytest.mark.crash

CHANGES = """
from ml_dash.streams.files import Folder

exp = experiment().run.start()
for i in range(40):
    exp.files("models").save_text(str(i), to=f"{i}.pt", tags=["x"])
entries = exp.files.list()
for entry in entries[:10]:
    exp.files.delete(entry)
exp.files.delete("models/1?.pt")
for entry in entries[20:30]:
    exp.files.update(entry, description="changed")
exp.files.duplicate(entries[30], to="copies/30.pt")
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_was_changed_before_a_kill_stays_changed(tmp_path):
    with running(CHANGES, tmp_path) as program:
        assert -9 == program.wait(), program.errors()
    wait_until(lambda: "FAILED" == ending(tmp_path)[0], 30, "the writer finishes the run")
    found = {
        entry["filename"]: entry for entry in reading.read_files(run_folder(tmp_path)) if entry["path"] == "/models"
    }

    assert [f"{i}.pt" for i in range(20, 40)] == list(found)
    assert ["changed"] * 10 + [None] * 10 == [entry["description"] for entry in found.values()]
    assert all(["x"] == entry["tags"] for entry in found.values())
    (copy,) = [entry for entry in reading.read_files(run_folder(tmp_path)) if entry["path"] == "/copies"]
    assert "30" == Path(run_folder(tmp_path), layout.blob(copy["path"], copy["id"], copy["filename"])).read_text()
    listed = read_document(Path(run_folder(tmp_path), layout.FILES_METADATA))["files"]
    assert 20 == sum(1 for entry in listed if entry["deletedAt"])


def test_a_forked_child_changes_the_files_of_its_parent(tmp_path):
    """The child attaches at its first call, stages files under its own name, and writes to its own journal."""
    code = """
exp = experiment().run.start()
for name in ("a", "b", "c"):
    exp.files.save_text(name, to=name)
exp.flush()
open("large", "wb").write(bytes(9_000_000))
if os.fork() == 0:
    exp.files.save("large")
    exp.files.delete("a")
    exp.files.update("b", description="by the child")
    say("child", exp.session.writer_id, *[entry["filename"] for entry in exp.files.list()])
    os._exit(0)
os.wait()
say("tag", exp.session.writer_id)
exp.files.delete("c")
exp.run.complete()
"""
    with running(code, tmp_path) as program:
        tag, *names = program.expect("child")
        assert 0 == program.wait(), program.errors()
    assert tag
    assert ["b", "c", "large"] == names
    wait_until(
        lambda: (
            not Path(run_folder(tmp_path), layout.STAGING).exists()
            and {"b": "by the child", "large": None}
            == {entry["filename"]: entry["description"] for entry in reading.read_files(run_folder(tmp_path))}
        ),
        30,
        "both writers are done",
    )
    journals = {path.name: path.read_text() for path in Path(run_folder(tmp_path), "files").glob("index*.jsonl")}
    lines = {name: [json.loads(line) for line in text.splitlines()] for name, text in journals.items()}
    entries = {name: {line["filename"] for line in found if "filename" in line} for name, found in lines.items()}
    assert {"index.jsonl": {"a", "b", "c"}, f"index.{tag}.jsonl": {"large"}} == entries
