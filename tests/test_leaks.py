"""The check that runs after every test finds every kind of leak."""

from __future__ import annotations

import subprocess
import sys
import threading
from multiprocessing import shared_memory
from pathlib import Path

import psutil
import pytest

from tests.leaks import Holdings, leaked_since
from tests.support import run_python, wait_until

# The grandchild waits for a line from a named pipe, which it holds open itself, so that the test decides when it ends.
LEAVE_AN_ORPHAN = """
import os, subprocess, sys
os.mkfifo("release")
release = os.open("release", os.O_RDWR)
quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
print(subprocess.Popen([sys.executable, "-c", "input()"], stdin=release, start_new_session=True, **quiet).pid)
"""


@pytest.fixture
def before() -> Holdings:
    return Holdings.now()


def test_nothing_new_is_no_leak(before: Holdings) -> None:
    """Opening and closing leaves an empty list."""
    Path(__file__).read_bytes()

    assert [] == leaked_since(before, grace=0)


def test_a_descriptor_is_named_with_its_file(before: Holdings) -> None:
    with Path(__file__).open() as file:
        leaked = leaked_since(before, grace=0)

        assert [f"descriptor {file.fileno()}: {__file__}"] == leaked


def test_a_thread_is_named(before: Holdings) -> None:
    release = threading.Event()
    thread = threading.Thread(target=release.wait, name="left-over", daemon=True)
    thread.start()

    assert ["daemon thread left-over"] == leaked_since(before, grace=0)

    release.set()
    thread.join()


def test_shared_memory_is_named(before: Holdings) -> None:
    block = shared_memory.SharedMemory(create=True, size=64)
    leaked = leaked_since(before, grace=0)
    block.close()
    block.unlink()

    assert f"shared memory /dev/shm/{block.name}" in leaked


def test_a_child_is_named_with_its_command(before: Holdings) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        leaked = [name for name in leaked_since(before, grace=0) if name.startswith("process")]
        child.communicate(b"\n")

    assert [f"process {child.pid}: {sys.executable} -c input()"] == leaked


def test_an_orphan_is_found_although_its_parent_is_gone(before: Holdings, tmp_path: Path) -> None:
    """A writer outlives the training process that started it; it must still be seen."""
    pid = int(run_python(LEAVE_AN_ORPHAN, tmp_path))

    assert any(name.startswith(f"process {pid}:") for name in leaked_since(before, grace=0))

    (tmp_path / "release").write_text("\n")
    wait_until(lambda: not _is_running(pid), message="the orphan ends")


def _is_running(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def test_what_goes_within_the_grace_is_no_leak(before: Holdings) -> None:
    """A process that is about to end is waited for."""
    release = threading.Event()
    thread = threading.Thread(target=release.wait, name="about-to-end")
    thread.start()
    threading.Timer(0.1, release.set).start()

    assert [] == leaked_since(before)


def test_what_was_reported_once_is_not_named_again(before: Holdings) -> None:
    """A module's check leaves out what one of its tests was already failed for."""
    with Path(__file__).open():
        reported = Holdings.now()

        assert [] == leaked_since(before, reported, grace=0)
