"""A run that was open when the process forked: children that log, children that do not, and how each of them ends."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.crash.programs import (
    ROUNDS,
    ending,
    messages,
    others,
    points,
    run,
    run_folder,
    running,
    shards,
    wait_for_exit,
    writers_of,
)
from tests.support import wait_until

pytestmark = pytest.mark.crash

LEAVE = {
    "return": "",
    "sys.exit": "sys.exit(0)",
    "sys.exit(3)": "sys.exit(3)",
    "exception": "raise RuntimeError('of the child')",
    "os._exit": "os._exit(0)",
}

# The ends of a program that defines child() and parent(); the parent has waited for the child before it goes on.
FORKS = {
    "os.fork": """
if os.fork() == 0:
    child()
    LEAVE
else:
    os.wait()
    parent()
""",
    "fork process": """
def work():
    child()
    LEAVE

process = multiprocessing.get_context("fork").Process(target=work)
process.start()
process.join()
parent()
""",
}

CHILD_LOGS = """
exp = experiment()
exp.run.start()
train = exp.metrics("train")
for i in range(200):
    train.log(who="parent", i=i)

def child():
    for i in range(200):
        train.log(who="child", i=i)
    exp.log("from the child")
    exp.files("frames").save_image(np.zeros((8, 8, 3), np.uint8), to="child.png")
    say("published", exp.health()["writer_on_thread"])

def parent():
    exp.flush()
    say("status", open(exp.folder + "/experiment.json").read().count('"RUNNING"'))
    for i in range(200, 400):
        train.log(who="parent", i=i)
    exp.log("from the parent")
    exp.run.complete()
"""


@pytest.mark.parametrize("leave", LEAVE)
@pytest.mark.parametrize("fork", FORKS)
def test_a_child_that_logs_writes_beside_the_parent_and_ends_only_itself(tmp_path, fork, leave):
    lines = run(CHILD_LOGS + FORKS[fork].replace("LEAVE", LEAVE[leave]), tmp_path)
    assert ["published False", "status 1"] == lines
    wait_until(
        lambda: len(others(tmp_path)) == 1 and "RUNNING" not in others(tmp_path), 30, "the child's writer drains"
    )
    assert ("COMPLETED", None) == ending(tmp_path)
    found = points(tmp_path)
    assert list(range(400)) == [point["i"] for point in found if point["who"] == "parent"]
    assert list(range(200)) == [point["i"] for point in found if point["who"] == "child"]
    assert ["from the child", "from the parent"] == messages(tmp_path)
    first, second = shards(tmp_path)
    assert "data.jsonl" == first
    assert ".jsonl" == second[-6:]
    assert 1 == len(list(Path(run_folder(tmp_path)).glob("files/frames/*/child.png")))


CHILD_IS_SILENT = """
before = {os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{fd}")}
exp = experiment()
exp.run.start()
train = exp.metrics("train")
exp.files("frames").save_image(np.zeros((8, 8, 3), np.uint8), to="parent.png")
train.log(who="parent", i=0)
# Pages that are being mapped ahead of use at the fork keep the mapping in the child.
[thread.join() for thread in threading.enumerate() if thread.name == "ml_dash-reserve"]

def child():
    links = []
    for fd in os.listdir("/proc/self/fd"):
        try:
            links.append(os.readlink(f"/proc/self/fd/{fd}"))
        except OSError:
            pass
    held = [link for link in links if link.startswith(("socket:", "/memfd", "/dev/shm")) or link.endswith("/.lock")]
    say("child", sorted(set(held) - before), open(f"/proc/self/task/{os.getpid()}/children").read().split())

def parent():
    train.log(who="parent", i=1)
    exp.run.complete()
"""


@pytest.mark.parametrize("leave", LEAVE)
@pytest.mark.parametrize("fork", FORKS)
def test_a_child_that_does_not_log_holds_nothing_and_leaves_no_trace(tmp_path, fork, leave):
    assert ["child [] []"] == run(CHILD_IS_SILENT + FORKS[fork].replace("LEAVE", LEAVE[leave]), tmp_path)
    assert ("COMPLETED", None) == ending(tmp_path)
    assert [{"who": "parent", "i": 0}, {"who": "parent", "i": 1}] == points(tmp_path)
    assert ["data.jsonl"] == shards(tmp_path)
    assert not Path(run_folder(tmp_path), ".writers").exists()


def test_a_child_that_leaves_the_with_block_does_not_end_the_run(tmp_path):
    code = """
with experiment().run as exp:
    exp.metrics("train").log(i=0)
    pid = os.fork()
    if pid == 0:
        sys.exit(3)
    os.waitpid(pid, 0)
    exp.metrics("train").log(i=1)
"""
    run(code, tmp_path)
    assert ("COMPLETED", None) == ending(tmp_path)
    assert [{"i": 0}, {"i": 1}] == points(tmp_path)


@pytest.mark.parametrize("method", ["spawn", "forkserver", "fork"])
def test_an_experiment_sent_to_another_process_logs_into_the_same_run(tmp_path, method):
    code = f"""
def work(exp, number):
    for i in range(100):
        exp.metrics("train").log(who=number, i=i)
    exp.log(f"worker {{number}}")

if __name__ == "__main__":
    context = multiprocessing.get_context("{method}")
    with experiment().run as exp:
        workers = [context.Process(target=work, args=(exp, number)) for number in range(2)]
        for worker in workers:
            worker.start()
        for i in range(100):
            exp.metrics("train").log(who="parent", i=i)
        for worker in workers:
            worker.join()
        say("exits", *(worker.exitcode for worker in workers))
"""
    assert ["exits 0 0"] == run(code, tmp_path)
    assert ("COMPLETED", None) == ending(tmp_path)
    found = points(tmp_path)
    for who in ("parent", 0, 1):
        assert list(range(100)) == [point["i"] for point in found if point["who"] == who]
    assert ["worker 0", "worker 1"] == sorted(messages(tmp_path))
    assert 3 == len(shards(tmp_path))


def test_the_end_of_a_run_waits_for_no_worker(tmp_path):
    """The workers are like those of a DataLoader: forked after the run was opened, alive and blocked when it ends."""
    code = """
def work(tasks, results):
    while (task := tasks.get()) is not None:
        results.put(task + 1)

context = multiprocessing.get_context("fork")
exp = experiment()
exp.run.start()
exp.metrics("train").log(i=-1)
queues = [(context.Queue(), context.Queue()) for _ in range(4)]
workers = [context.Process(target=work, args=pair, daemon=True) for pair in queues]
for worker in workers:
    worker.start()
for i in range(100):
    tasks, results = queues[i % 4]
    tasks.put(i)
    exp.metrics("train").log(i=results.get() - 1)
began = time.monotonic()
exp.run.complete()
say("complete", time.monotonic() - began, sum(worker.is_alive() for worker in workers))
for tasks, _ in queues:
    tasks.put(None)
for worker in workers:
    worker.join()
say("exits", *(worker.exitcode for worker in workers))
"""
    complete, exits = run(code, tmp_path)
    _, seconds, alive = complete.split()
    assert "4" == alive
    assert float(seconds) < 10
    assert "exits 0 0 0 0" == exits
    assert list(range(-1, 100)) == [point["i"] for point in points(tmp_path)]
    assert ["data.jsonl"] == shards(tmp_path)


@pytest.mark.parametrize("logs", [True, False])
def test_the_end_of_the_program_waits_for_no_child(tmp_path, logs):
    """It waits neither for a child that only lives on, nor for one that has logged and may log again."""
    code = f"""
exp = experiment()
exp.run.start()
exp.metrics("train").log(who="parent")
pid = os.fork()
if pid == 0:
    if {logs}:
        exp.metrics("train").log(who="child")
    say("child", os.getpid())
    wait_for_the_test()
    os._exit(0)
"""
    with running(code, tmp_path) as program:
        (child,) = program.expect("child")
        assert 0 == program.wait(30)
        assert ("COMPLETED", None) == ending(tmp_path)
        os.kill(int(child), 0)  # it is still there
        program.release()
        wait_for_exit([int(child)])
    expected = ["parent", "child"] if logs else ["parent"]
    wait_until(lambda: expected == [point["who"] for point in points(tmp_path)], 30, "the child's writer drains")


@pytest.mark.parametrize("fork", ["os.fork()", "__import__('ctypes').PyDLL(None).fork()"], ids=["os.fork", "fork in C"])
def test_the_writer_notices_the_parents_death_while_a_child_lives_on(tmp_path, fork):
    """A fork in C runs no hook of Python: that child holds the socket, the memory and the lock until it ends."""
    code = f"""
exp = experiment()
exp.run.start()
exp.flush()  # no thread of the parent begins just now: the interpreter in the child of a fork in C would wait for it
for i in range(1000):
    exp.metrics("train").log(i=i)
if {fork} == 0:
    say("child", os.getpid())
    wait_for_the_test()
    os._exit(0)
wait_for_a_signal()
"""
    with running(code, tmp_path) as program:
        (child,) = program.expect("child")
        wait_until(lambda: writers_of(program.pid), 30)
        writers = [writer.pid for writer in writers_of(program.pid)]
        os.kill(program.pid, signal.SIGKILL)
        assert -signal.SIGKILL == program.wait()
        wait_for_exit(writers)
        os.kill(int(child), 0)  # it is still there
        status, reason = ending(tmp_path)
        program.release()
        wait_for_exit([int(child)])
    assert "FAILED" == status
    assert f"pid {program.pid}" in reason
    assert list(range(1000)) == [point["i"] for point in points(tmp_path)]


@pytest.mark.timeout(600 if ROUNDS else 120)
def test_a_fork_while_other_threads_log_never_leaves_a_lock_held_in_the_child(tmp_path):
    rounds = ROUNDS or 10
    code = f"""
exp = experiment()
exp.run.start()
stop = threading.Event()

def log_points(counts):
    while not stop.is_set():
        exp.metrics("train").log(who="parent")
        counts.append(1)

def log_images():
    while not stop.is_set():
        exp.files("frames").save_image(np.zeros((64, 64, 3), np.uint8), to="a.jpg")
        exp.health()

def fork(number):
    pid = os.fork()
    if pid == 0:
        exp.metrics("train").log(who=number)
        exp.files("frames").save_image(np.zeros((8, 8, 3), np.uint8), to=f"{{number}}.png")
        os._exit(0 if exp.flush() else 1)
    descriptor = os.pidfd_open(pid)
    ended, _, _ = select.select([descriptor], [], [], 60)
    os.close(descriptor)
    if not ended:
        os.kill(pid, signal.SIGKILL)
    say("child", "status", os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))

counts = []
threads = [threading.Thread(target=log_points, args=(counts,)), threading.Thread(target=log_images)]
for thread in threads:
    thread.start()
forker = threading.Thread(target=lambda: [fork(number) for number in range({rounds})])
forker.start()
forker.join()
stop.set()
for thread in threads:
    thread.join()
exp.run.complete()
say("points", len(counts))
"""
    *children, counted = run(code, tmp_path)
    assert ["child status 0"] * rounds == children
    assert ("COMPLETED", None) == ending(tmp_path)
    who = [point["who"] for point in points(tmp_path)]
    assert int(counted.split()[1]) == who.count("parent")
    assert list(range(rounds)) == [number for number in who if number != "parent"]
    images = {path.name for path in Path(run_folder(tmp_path)).glob("files/frames/*/*.png")}
    assert {f"{number}.png" for number in range(rounds)} == images


def test_a_lock_that_another_thread_holds_at_the_fork_never_blocks_the_child(tmp_path):
    """Every lock of ml_dash is held at once, each by a thread that does not exist in the child."""
    code = """
import contextlib
from ml_dash import snowflake
from ml_dash.ipc import named_memory

exp = experiment().run.start()
exp.files("frames").save_image(np.zeros((8, 8, 3), np.uint8), to="parent.png")
exp.flush()
channel = exp.session.channel
locks = [exp.session._lock, channel._producer._lock, channel._frames._lock, channel._slab._lock]
locks += [snowflake._Ids.files._lock, snowflake._Ids.runs._lock, named_memory._untracked()]
held, stop = threading.Event(), threading.Event()

def hold():
    with contextlib.ExitStack() as stack:
        for lock in locks:
            stack.enter_context(lock)
        held.set()
        stop.wait()

holder = threading.Thread(target=hold)
holder.start()
held.wait()
pid = os.fork()
if pid == 0:
    exp.metrics("train").log(who="child")
    exp.files("frames").save_image(np.zeros((8, 8, 3), np.uint8), to="child.png")
    os._exit(0 if exp.flush() else 1)
descriptor = os.pidfd_open(pid)
ended, _, _ = select.select([descriptor], [], [], 30)
if not ended:
    os.kill(pid, signal.SIGKILL)
stop.set()
holder.join()
say("child", os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
exp.run.complete()
"""
    assert ["child 0"] == run(code, tmp_path)
    assert [{"who": "child"}] == points(tmp_path)


def test_a_child_of_a_child_logs_too(tmp_path):
    code = """
exp = experiment()
exp.run.start()
exp.metrics("train").log(who="parent")
if os.fork() == 0:
    exp.metrics("train").log(who="child")
    if os.fork() == 0:
        exp.metrics("train").log(who="grandchild")
        sys.exit()
    os.wait()
    sys.exit()
os.wait()
exp.run.complete()
"""
    run(code, tmp_path)
    assert ["parent", "child", "grandchild"] == [point["who"] for point in points(tmp_path)]
    assert 3 == len(shards(tmp_path))


def test_pool_workers_that_are_terminated_leave_the_run_as_it_is(tmp_path):
    """`Pool.terminate` sends SIGTERM: the handler of the parent must not close the run in a child."""
    code = """
def work(number):
    return number * 2

exp = experiment()
exp.run.start()
with multiprocessing.get_context("fork").Pool(3) as pool:
    for value in pool.map(work, range(30)):
        exp.metrics("train").log(value=value)
exp.flush()
say("status", open(exp.folder + "/experiment.json").read().count('"RUNNING"'))
exp.run.complete()
"""
    assert ["status 1"] == run(code, tmp_path)
    assert ("COMPLETED", None) == ending(tmp_path)
    assert list(range(0, 60, 2)) == [point["value"] for point in points(tmp_path)]
    assert ["data.jsonl"] == shards(tmp_path)
