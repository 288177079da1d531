"""Whether an MLRun is open: several processes that ask and open at the same moment do not mislead each other.

A process is a thread here: the locks belong to open files, and each opens its own.
"""

from __future__ import annotations

import collections
import fcntl
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ml_dash.managed import store
from ml_dash.managed.store import RunFiles
from tests.support import wait_until

ASKERS = 4

PATIENCE_S = 0.06
"""How long somebody who asks waits here for another who was stopped."""

IS_FREE = ("FAILED", None)
"""What ``bad_end`` says of a failed run that nobody has open; None if it is open."""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / store.OPEN).touch()
    return tmp_path


@pytest.fixture
def on_asking(folder, monkeypatch):
    """A function that makes each question call another one, with the descriptor, while it has its lock.

    It returns the list to which every try for a lock is added: the thread and the name of the file.
    """

    def install(do):
        real, tries = fcntl.flock, []

        def flock(file, operation):
            fd = file if isinstance(file, int) else file.fileno()
            name = Path(f"/proc/self/fd/{fd}").readlink().name
            if not operation & fcntl.LOCK_UN:
                tries.append((threading.get_ident(), name))
            real(file, operation)
            if name == store.OPEN and operation & fcntl.LOCK_EX:
                do(fd)

        monkeypatch.setattr(fcntl, "flock", flock)
        return tries

    return install


@pytest.fixture
def meeting(on_asking):
    """Makes each question last until another thread tries for a lock, if there is one left; returns the tries."""

    def meet(_):
        before = len(tries)
        me = threading.get_ident()
        wait_until(lambda: len(over) >= ASKERS - 1 or any(thread != me for thread, _ in tries[before:]))

    over = []
    tries = on_asking(meet)
    return tries, over


def ask(folder):
    return RunFiles(str(folder)).bad_end("FAILED", 1)


def take(path, operation):
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    fcntl.flock(fd, operation | fcntl.LOCK_NB)
    return fd


def test_processes_that_ask_at_once_do_not_answer_each_other_that_it_is_open(folder, meeting):
    _, over = meeting
    start = threading.Barrier(ASKERS)

    def ask_together(number):
        start.wait()
        answer = ask(folder)
        over.append(number)
        return answer

    with ThreadPoolExecutor(ASKERS) as pool:
        assert [IS_FREE] * ASKERS == list(pool.map(ask_together, range(ASKERS)))


def test_all_processes_that_load_a_killed_run_at_once_wait_for_its_writer(folder, meeting):
    tries, over = meeting
    writer = take(folder / ".lock", fcntl.LOCK_EX)
    start = threading.Barrier(ASKERS + 1)

    def load(_):
        start.wait()
        RunFiles(str(folder)).wait_for_orphan()
        over.append(threading.get_ident())
        return is_over.is_set()

    def decided():
        """Who has looked at the writer's lock again, and so waits; or who has gone on."""
        looks = collections.Counter(thread for thread, name in tries if name == ".lock")
        return {thread for thread, count in looks.items() if count > 1} | set(over)

    is_over = threading.Event()
    with ThreadPoolExecutor(ASKERS) as pool:
        loads = [pool.submit(load, index) for index in range(ASKERS)]
        start.wait()
        wait_until(lambda: len(decided()) == ASKERS)
        is_over.set()
        os.close(writer)
        assert [True] * ASKERS == [one.result() for one in loads]


def test_a_run_that_is_opened_while_somebody_asks_is_open(folder, on_asking):
    is_asking, is_opening = threading.Event(), threading.Event()

    def meet(_):
        is_asking.set()
        is_opening.wait(10)
        wait_until(lambda: any(thread == opener for thread, _ in tries))

    opener = threading.get_ident()
    tries = on_asking(meet)
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(ask, folder)
        wait_until(is_asking.is_set, 10)
        opened = RunFiles(str(folder))
        is_opening.set()
        opened.hold()
        assert IS_FREE == asked.result()
    seen = ask(folder)
    opened.let_go()
    assert (None, IS_FREE) == (seen, ask(folder))


def test_a_child_forked_in_the_middle_of_a_question_keeps_no_lock(folder, on_asking):
    copies = []
    on_asking(lambda fd: copies.append(os.dup(fd)))  # as a child has it
    try:
        assert [IS_FREE] * 2 == [ask(folder), ask(folder)]
    finally:
        for copy in copies:
            os.close(copy)


def test_one_that_is_stopped_in_the_middle_of_its_question_does_not_hold_others_up(folder, monkeypatch):
    monkeypatch.setattr(store, "ASKING_S", PATIENCE_S)
    stopped = [take(folder / name, fcntl.LOCK_EX) for name in (store.ASKING, store.OPEN)]
    files = RunFiles(str(folder))
    files.hold()
    files.let_go()
    assert ask(folder) is None, "it cannot be told from one that has the run open"
    for fd in stopped:
        os.close(fd)
    assert IS_FREE == ask(folder)


def test_a_run_is_asked_about_where_no_file_can_be_made(folder, monkeypatch):
    real = os.open

    def read_only(path, flags, *rest, **options):
        if flags & os.O_CREAT:
            raise PermissionError(13, "Permission denied", path)
        return real(path, flags, *rest, **options)

    monkeypatch.setattr(os, "open", read_only)
    assert IS_FREE == ask(folder)
    holder = real(folder / store.OPEN, os.O_RDONLY)
    fcntl.flock(holder, fcntl.LOCK_SH)
    assert ask(folder) is None
    os.close(holder)


def test_nothing_is_made_in_a_run_that_no_process_of_this_kind_opened(tmp_path):
    assert IS_FREE == ask(tmp_path)
    assert [] == list(tmp_path.iterdir())
