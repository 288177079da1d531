from __future__ import annotations

import contextlib
import os
import random
import signal
import statistics
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ml_dash import Experiment
from ml_dash.ipc import launch
from ml_dash.ipc.ring import MAX_PAYLOAD
from ml_dash.ipc.supervisor import MAX_RESTARTS
from tests.crash import dying_writer, poisoned_writer
from tests.crash.harness import (
    DEADLINE_S,
    LONGEST_RUN_S,
    ROUNDS,
    THREADS,
    Acknowledged,
    assert_tidy,
    compare,
    find,
    fresh_counters,
    lines,
    status_of,
)
from tests.crash.workload import KINDS, Load, run_threads
from tests.support import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.crash

SERIES = -(-ROUNDS // MAX_RESTARTS)

LONGEST_CALL_S = 5.0
"""Longest call on a busy machine; a call takes microseconds otherwise."""

FRAMES = ("image", "latest", "frame")
"""The kinds that are frames."""

RESPAWN_S = 1.0
"""A new writer starts within this time on a machine that is not busy."""


@dataclass
class Training:
    """Two threads that log to an open experiment of this process."""

    exp: Any
    loads: list[Load]
    acknowledged: Acknowledged
    respawns: list[float] = field(default_factory=list)

    def kill_writer(self, chance: random.Random, stop: threading.Event) -> None:
        """SIGKILL the writer at a random time of its life and wait for the next one, on a thread or not.

        Once `stop` is set, there may be no next one.
        """
        wait_until(lambda: self.exp.health()["writer_pid"] != 0, DEADLINE_S)
        stop.wait(chance.random() * LONGEST_RUN_S)
        pid = self.exp.health()["writer_pid"]
        assert pid != os.getpid(), "the writer is on a thread already"
        os.kill(pid, signal.SIGKILL)
        began = time.monotonic()
        wait_until(lambda: self.exp.health()["writer_pid"] != pid or stop.is_set(), DEADLINE_S, "another writer")
        self.respawns.append(time.monotonic() - began)


@contextlib.contextmanager
def training(folder: Path, load: dict[str, Any] | None = None, **settings: Any) -> Iterator[Training]:
    """Open an experiment with two threads that log to it; at the end of the block stop them and complete the run."""
    acknowledged = Acknowledged()
    exp = Experiment("alice/walker/run", dash_root=folder / "dash", echo=False, **settings).run.start()
    loads = [Load(exp, thread, acknowledged, fresh_counters(), str(folder), **(load or {})) for thread in THREADS]
    stop = threading.Event()
    threads = run_threads(loads, stop)
    try:
        yield Training(exp, loads, acknowledged)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
        exp.run.complete()


def assert_complete(folder: Path, done: Training, shape: tuple[int, int] | None = None) -> dict[str, Any]:
    """Check that each acknowledged call is there once, that nothing else is, and that the run completed; return its health."""
    run = folder / "dash/alice/walker/run"
    health = done.exp.health()
    assert [] == [load.failure for load in done.loads if load.failure]
    compare(done.acknowledged, find(run, *([shape] if shape else [])), in_flight=0)
    assert_tidy(run)
    assert ("COMPLETED", 0) == (status_of(run)["status"], status_of(run)["records_refused"])
    assert health["published"] == health["applied"]
    frames = sum(len(numbers) for key, numbers in done.acknowledged.kept.items() if key[0] in FRAMES)
    assert frames == health["frames_written"] == status_of(run)["frames_written"]
    return health


@pytest.mark.parametrize("series", range(SERIES))
def test_a_killed_writer_is_replaced_and_nothing_is_lost(tmp_path, series):
    """The writer is killed at random times: calls keep returning, another writer takes over, each record is written once."""
    chance = random.Random(series)
    stop = threading.Event()
    with training(tmp_path) as done:
        for _ in range(MAX_RESTARTS):
            done.kill_writer(chance, stop)

    health = assert_complete(tmp_path, done)

    assert (MAX_RESTARTS, False) == (health["writer_restarts"], health["writer_on_thread"])
    slowest = max(load.slowest for load in done.loads)
    print(
        f"\n{MAX_RESTARTS} kills; {done.acknowledged.total} calls, all there once; slowest call {slowest * 1e3:.1f} ms; "
        f"new writer after {statistics.median(done.respawns):.2f} s, at most {max(done.respawns):.2f} s"
    )
    assert slowest < LONGEST_CALL_S
    assert min(done.respawns) < RESPAWN_S


def test_a_writer_killed_too_often_is_replaced_by_a_thread(tmp_path):
    """After five new processes within a minute a thread takes over, and nothing is lost."""
    chance = random.Random(0)
    # The thread shares the interpreter with the two that log: fewer records, or it takes them long to drain.
    with training(tmp_path, {"only": ("metric", "image", "log")}) as done:
        for _ in range(MAX_RESTARTS):
            done.kill_writer(chance, threading.Event())
        # Six kills at one record would have it set aside: let the last process get past at least one.
        applied = done.exp.health()["applied"]
        wait_until(lambda: done.exp.health()["applied"] > applied, DEADLINE_S, "some progress")
        done.kill_writer(chance, threading.Event())
        before = len(done.acknowledged.kept["metric", 0])
        wait_until(lambda: len(done.acknowledged.kept["metric", 0]) > before + 10, DEADLINE_S)
        assert done.exp.flush(DEADLINE_S)

    health = assert_complete(tmp_path, done)

    assert health["writer_on_thread"]


@pytest.mark.parametrize(
    "place",
    [
        "ml_dash.storage.journal:Journals.append:before:1",
        "ml_dash.storage.journal:Journals.append:after:3",
        "ml_dash.storage.journal:Journals.append:after:11",
        "ml_dash.storage.disk:Disk.append:after:20",
        "ml_dash.storage.disk:Disk.put_in_place:before:1",
        "ml_dash.storage.disk:Disk.put_in_place:before:9",
        "ml_dash.storage.disk:Disk.put_in_place:after:9",
        "ml_dash.writer.apply:Applier._merge_parameters:before:1",
        "ml_dash.writer.apply:Applier._merge_parameters:after:1",
        "ml_dash.ipc.control:Control.write_undo:after:2",
        "ml_dash.ipc.ring:Consumer.free:before:2",
        "ml_dash.ipc.ring:Consumer.free:after:1",
        "ml_dash.writer.records:RecordWriter.committed:after:1",
        "ml_dash.writer.records:RecordWriter.save_metadata:before:1",
        "ml_dash.writer.records:RecordWriter.save_metadata:after:1",
        "ml_dash.writer.finish:remove_leftovers:after:1",
        "ml_dash.writer.finish:write_files_metadata:after:1",
        "ml_dash.writer.status:RunStatus.end:before:1",
        "ml_dash.writer.status:RunStatus.end:after:1",
    ],
)
def test_a_writer_that_dies_at_a_given_place_is_replaced_and_nothing_is_lost(tmp_path, monkeypatch, place):
    """At each of these places a batch, a document or the end of the run is half done."""
    monkeypatch.syspath_prepend(Path(__file__).parent)
    monkeypatch.setattr(launch, "WRITER_ENTRY", "dying_writer")
    monkeypatch.setenv(dying_writer.VARIABLE, place)
    run = tmp_path / "dash/alice/walker/run"
    with training(tmp_path) as done:
        kept = done.acknowledged.kept["metric", 0]
        # On a busy machine the writer may be slow to start: some places need a second batch.
        wait_until(lambda: dying_writer.has_died(run) or done.exp.health()["applied"] > 0, DEADLINE_S)
        before = len(kept)
        wait_until(lambda: dying_writer.has_died(run) or len(kept) > before + 50, DEADLINE_S)

    health = assert_complete(tmp_path, done)

    assert dying_writer.has_died(run), "the place was never reached"
    assert 1 == health["writer_restarts"]


def test_a_writer_killed_while_the_run_is_completed_still_completes_it(tmp_path):
    """`complete()` waits for the next writer, which writes the remaining records and completes the run."""
    chance, completed = random.Random(0), threading.Event()
    with training(tmp_path, {"pace": False}) as done:
        wait_until(lambda: len(done.acknowledged.kept["metric", 0]) > 200, DEADLINE_S)
        killer = threading.Thread(target=_kill_three_times, args=(done, chance, completed))
        killer.start()
    completed.set()
    killer.join()

    assert_complete(tmp_path, done)


def _kill_three_times(done: Training, chance: random.Random, completed: threading.Event) -> None:
    with contextlib.suppress(ProcessLookupError):  # the last writer has ended
        for _ in range(3):
            if not completed.is_set():
                done.kill_writer(chance, completed)


def test_a_record_that_crashes_the_writer_is_set_aside_and_the_run_goes_on(tmp_path, monkeypatch):
    """The bad record is kept in quarantine and counted; all others are written in order."""
    monkeypatch.syspath_prepend(Path(__file__).parent)
    monkeypatch.setattr(launch, "WRITER_ENTRY", "poisoned_writer")
    run = tmp_path / "dash/alice/walker/run"
    exp = Experiment("alice/walker/run", dash_root=tmp_path / "dash", echo=False).run.start()
    acknowledged = Acknowledged()
    load = Load(exp, 0, acknowledged, fresh_counters(), str(tmp_path))
    for step in range(40):
        for kind in KINDS[:6]:
            load.call(kind)
        if step == 20:
            exp.metrics(poisoned_writer.POISON.decode()).log(value=1.5)
    assert exp.flush(DEADLINE_S)
    health = exp.health()
    for kind in KINDS[:6]:
        load.call(kind)
    exp.run.complete()

    compare(acknowledged, find(run), in_flight=0)
    assert_tidy(run, quarantined=True)
    assert 1 == health["records_refused"] == status_of(run)["records_refused"]
    assert "set aside" in health["last_error"]
    assert 2 <= health["writer_restarts"] <= 3
    assert not health["writer_on_thread"]
    [data] = (run / "quarantine").glob("*.data")
    assert b"1.5" in data.read_bytes()
    assert [] == lines(run / "metrics/poison/data.jsonl")
    assert "COMPLETED" == status_of(run)["status"]


def test_records_that_crash_every_writer_never_crash_the_training_process(tmp_path, monkeypatch):
    """A thread that takes over from a crashed writer sets the record that crashed it aside at once."""
    monkeypatch.syspath_prepend(Path(__file__).parent)
    monkeypatch.setattr(launch, "WRITER_ENTRY", "poisoned_writer")
    run = tmp_path / "dash/alice/walker/run"
    exp = Experiment("alice/walker/run", dash_root=tmp_path / "dash", echo=False).run.start()
    acknowledged = Acknowledged()
    load = Load(exp, 0, acknowledged, fresh_counters(), str(tmp_path))
    for value in range(3):
        load.call("metric")
        exp.metrics(poisoned_writer.POISON.decode()).log(value=value)
    load.call("metric")
    exp.run.complete()

    compare(acknowledged, find(run), in_flight=0)
    assert_tidy(run, quarantined=True)
    assert 3 == status_of(run)["records_refused"] == len(list((run / "quarantine").glob("*.data")))
    assert exp.health()["writer_on_thread"]


def test_a_large_record_that_crashes_the_writer_is_set_aside_with_its_content(tmp_path, monkeypatch):
    """It came in a file beside the run, which is removed with the others at the end."""
    monkeypatch.syspath_prepend(Path(__file__).parent)
    monkeypatch.setattr(launch, "WRITER_ENTRY", "poisoned_writer")
    run = tmp_path / "dash/alice/walker/run"
    with Experiment("alice/walker/run", dash_root=tmp_path / "dash", echo=False).run as exp:
        exp.metrics("good").log(value=1)
        exp.metrics(poisoned_writer.POISON.decode()).log(text="x" * MAX_PAYLOAD)
        exp.metrics("good").log(value=2)

    assert ("COMPLETED", 1) == (status_of(run)["status"], status_of(run)["records_refused"])
    assert 2 == len(lines(run / "metrics/good/data.jsonl"))
    [data] = (run / "quarantine").glob("*.data")
    assert b"x" * MAX_PAYLOAD in data.read_bytes()
    assert_tidy(run, quarantined=True)
