"""A process is killed and started again at once, while the writer of the killed one still has work to do."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import psutil
import pytest

from tests.crash.programs import ending, points, run_folder, running
from tests.support import wait_until

pytestmark = pytest.mark.crash

# Its writer is stopped, and left with one point to write. `experiment` and `say` are of the prologue.
KILLED = """
exp = experiment().run.start()
exp.metrics("train").log(i=0)
exp.flush()
writer = exp.health()["writer_pid"]
os.kill(writer, signal.SIGSTOP)
exp.metrics("train").log(i=1)
say("writer", writer)
wait_for_the_test()
"""
AGAIN = """
exp = experiment().run.start()
assert exp.session.writer_id
exp.metrics("train").log(i=2)
exp.flush()
say("open")
wait_for_the_test()
exp.run.complete()
"""


def killed_with_its_writer_stopped(folder: Path) -> psutil.Process:
    with running(KILLED, folder, "killed") as program:
        writer = psutil.Process(int(program.expect("writer")[0]))
        os.kill(program.pid, signal.SIGKILL)
        program.wait()
    return writer


@pytest.mark.parametrize("first", ["the old writer", "the new process"])
def test_the_run_is_as_the_new_process_says(tmp_path, first):
    writer = killed_with_its_writer_stopped(tmp_path)
    with running(AGAIN, tmp_path, "again") as program:
        program.expect("open")
        if first == "the old writer":
            writer.resume()
            wait_until(lambda: ending(tmp_path)[0] == "FAILED")
        program.release()
        assert 0 == program.wait(), program.errors()
    if first == "the new process":
        assert "RUNNING" == ending(tmp_path)[0]
        writer.resume()
    wait_until(lambda: not writer.is_running() or writer.status() == psutil.STATUS_ZOMBIE)

    assert ("COMPLETED", None) == ending(tmp_path)
    assert [0, 1, 2] == [point["i"] for point in points(tmp_path)]


def test_a_child_of_the_killed_process_does_not_change_the_status(tmp_path):
    code = """
exp = experiment().run.start()
exp.metrics("train").log(i=0)
exp.flush()
say("writer", exp.health()["writer_pid"])
parent = os.getpid()
gone, alive = os.pipe()
if os.fork() == 0:
    os.close(alive)
    assert os.read(gone, 1) == b""  # the parent has let go of the other end
    exp.metrics("train").log(i=1)
    exp.run.complete()
    say("done")
    os._exit(0)
os.kill(parent, signal.SIGKILL)
"""
    with running(code, tmp_path, "parent") as program:
        writer = psutil.Process(int(program.expect("writer")[0]))
        program.expect("done")
    wait_until(lambda: not writer.is_running() or writer.status() == psutil.STATUS_ZOMBIE)

    assert "FAILED" == ending(tmp_path)[0]
    assert [0, 1] == [point["i"] for point in points(tmp_path)]
    assert list(Path(run_folder(tmp_path), ".writers").glob("*.json"))
