"""How a program ends: Ctrl-C, signals, exceptions, exits. Acknowledged calls are on disk, and the status names the cause."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.crash.programs import (
    PROLOGUE,
    ROUNDS,
    Program,
    document,
    ending,
    messages,
    points,
    run,
    running,
    terminal,
    wait_for_exit,
    writer_of,
)
from tests.support import SUBPROCESS_SECONDS, python_environment, wait_until

pytestmark = pytest.mark.crash

# Logs until something ends it. Each number that it prints was acknowledged.
LOG_ON = """
    for i in range(10**9):
        exp.metrics("train").log(i=i)
        say("acknowledged", i)
"""
WITH = f"""
with experiment().run as exp:
{LOG_ON}
"""
DIRECT = f"""
exp = experiment().run.start()
if True:
{LOG_ON}
"""


def acknowledged_by(program: Program, lines: list[str]) -> int:
    """Return the largest number that the program reported as logged, in lines read earlier or in `lines`."""
    return max(int(line.split()[1]) for line in [*program.lines, *lines] if line.startswith("acknowledged"))


def assert_no_gap(folder: Path, last: int) -> None:
    """Check that the points 0 to `last` are there once each; one more may be there, logged but not reported yet."""
    numbers = [point["i"] for point in points(folder)]
    assert list(range(len(numbers))) == numbers
    assert last in (len(numbers) - 1, len(numbers) - 2)


@pytest.mark.parametrize("style", [WITH, DIRECT], ids=["with", "direct"])
def test_ctrl_c_in_a_terminal_ends_the_run_as_failed_and_never_reaches_the_writer(tmp_path, style):
    with terminal(style, tmp_path) as program:
        program.expect("acknowledged")
        writer = writer_of(program.pid)
        program.type(b"\x03")
        lines = program.remaining()
        assert -signal.SIGINT == program.wait()
        wait_for_exit([writer.pid])
    assert ("FAILED", "KeyboardInterrupt") == ending(tmp_path)
    assert_no_gap(tmp_path, acknowledged_by(program, lines))
    assert writer.pid == document(tmp_path)["writer_pid"]


def test_a_program_that_goes_on_after_ctrl_c_keeps_its_writer(tmp_path):
    code = """
exp = experiment().run.start()
exp.metrics("train").log(i=0)
exp.flush()
try:
    say("ready")
    wait_for_a_signal()
except KeyboardInterrupt:
    exp.metrics("train").log(i=1)
exp.run.complete()
say("restarts", exp.health()["writer_restarts"])
"""
    with terminal(code, tmp_path) as program:
        program.expect("ready")
        program.type(b"\x03")
        assert ["0"] == program.expect("restarts")
        assert 0 == program.wait()
    assert ("COMPLETED", None) == ending(tmp_path)
    assert [{"i": 0}, {"i": 1}] == points(tmp_path)


@pytest.mark.parametrize("style", [WITH, DIRECT], ids=["with", "direct"])
def test_a_terminal_that_is_closed_loses_nothing(tmp_path, style):
    """SIGHUP ends the program at once; the writer, in a session of its own, drains."""
    with terminal(style, tmp_path) as program:
        program.expect("acknowledged")
        writer = writer_of(program.pid)
        program.hang_up()
        assert -signal.SIGHUP == program.wait()
        wait_for_exit([writer.pid])
    status, reason = ending(tmp_path)
    assert "FAILED" == status
    assert f"pid {program.pid}" in reason
    numbers = [point["i"] for point in points(tmp_path)]
    assert list(range(len(numbers))) == numbers
    assert acknowledged_by(program, []) < len(numbers)


@pytest.mark.parametrize("style", [WITH, DIRECT], ids=["with", "direct"])
def test_sigterm_closes_the_run_and_is_still_the_cause_of_death(tmp_path, style):
    with running(style, tmp_path) as program:
        program.expect("acknowledged")
        os.kill(program.pid, signal.SIGTERM)
        lines = program.remaining()
        assert -signal.SIGTERM == program.wait(), program.errors()
    status, reason = ending(tmp_path)
    assert "FAILED" == status
    assert reason.startswith("SIGTERM")
    assert_no_gap(tmp_path, acknowledged_by(program, lines))


def test_sigterm_to_a_program_that_opened_its_run_on_a_thread_loses_nothing(tmp_path):
    """Only the main thread may set a handler; the writer closes the run then."""
    code = f"""
def work():
    exp = experiment().run.start()
    {LOG_ON}

threading.Thread(target=work).start()
"""
    with running(code, tmp_path) as program:
        program.expect("acknowledged")
        writer = writer_of(program.pid)
        os.kill(program.pid, signal.SIGTERM)
        lines = program.remaining()
        assert -signal.SIGTERM == program.wait()
        wait_for_exit([writer.pid])
    assert "FAILED" == ending(tmp_path)[0]
    assert_no_gap(tmp_path, acknowledged_by(program, lines))


@pytest.mark.parametrize(
    ("leave", "status", "expected"),
    [
        ("sys.exit()", 0, ("COMPLETED", None)),
        ("sys.exit(7)", 7, ("FAILED", "SystemExit: 7")),
        ("raise RuntimeError('preempted')", 1, ("FAILED", "RuntimeError: preempted")),
    ],
)
def test_a_sigterm_handler_of_the_user_may_log_at_any_moment(tmp_path, leave, status, expected):
    """Most of the time the handler runs inside a logging call."""
    for number in range(ROUNDS or 2):
        folder = tmp_path / f"{number}-{status}"
        folder.mkdir()
        code = f"""
def preempted(number, frame):
    exp.log("preempted", signal=number)
    exp.metrics("train").log(i="handler")
    {leave}

signal.signal(signal.SIGTERM, preempted)
with experiment().run as exp:
    for i in range(10**9):
        exp.metrics("train").log(i=i)
        if i % 100 == 0:
            say("acknowledged", i)
"""
        with running(code, folder) as program:
            program.expect("acknowledged")
            os.kill(program.pid, signal.SIGTERM)
            program.remaining()
            assert status == program.wait()
        assert expected == ending(folder)
        assert ["preempted"] == messages(folder)
        numbers = [point["i"] for point in points(folder) if point["i"] != "handler"]
        assert list(range(len(numbers))) == numbers
        assert 1 == sum(point["i"] == "handler" for point in points(folder))


def test_a_handler_that_interrupts_a_call_again_and_again_loses_and_doubles_nothing(tmp_path):
    code = """
import itertools

numbers = itertools.count()  # a handler may be interrupted by itself, and then two of them must not take one number
interruptions = depth = 0
goes_on = True

def set_alarm():
    if goes_on:
        signal.setitimer(signal.ITIMER_REAL, 0.0005)

def interrupt(number, frame):
    global interruptions, depth
    interruptions = number = next(numbers)
    depth += 1
    if depth < 20:  # where a handler takes longer than the alarm, it would be interrupted until Python's stack is full
        set_alarm()
    exp.metrics("train").log(who="handler", i=number)
    exp.log("interrupted")
    exp.tracks("robot").append(_ts=float(number), x=1)
    depth -= 1
    set_alarm()

exp = experiment().run.start()
signal.signal(signal.SIGALRM, interrupt)
set_alarm()
i = 0
while i < 5000 or interruptions < 200:
    exp.metrics("train").log(who="main", i=i)
    if i % 50 == 0:
        exp.files("frames").save_image(np.zeros((16, 16, 3), np.uint8), to="same.png")
    i += 1
goes_on = False
signal.setitimer(signal.ITIMER_REAL, 0)
exp.flush()
health = exp.health()
say("counts", i, next(numbers), health["published"] - health["applied"], exp.tracks("robot").read()["count"])
exp.run.complete()
"""
    (line,) = run(code, tmp_path)
    main, interruptions, waiting, rows = (int(word) for word in line.split()[1:])
    found = points(tmp_path)
    assert list(range(main)) == [point["i"] for point in found if point["who"] == "main"]
    assert list(range(interruptions)) == sorted(point["i"] for point in found if point["who"] == "handler")
    assert ["interrupted"] * interruptions == messages(tmp_path)
    assert 0 == waiting
    assert interruptions == rows


BODY = """
exp.metrics("train").log(i=0)
exp.log("here")
"""

ENDS = {
    "with, end": ("with", "pass", 0, ("COMPLETED", None)),
    "with, sys.exit(0)": ("with", "sys.exit(0)", 0, ("COMPLETED", None)),
    "with, sys.exit()": ("with", "sys.exit()", 0, ("COMPLETED", None)),
    "with, sys.exit(3)": ("with", "sys.exit(3)", 3, ("FAILED", "SystemExit: 3")),
    "with, sys.exit(text)": ("with", "sys.exit('no data')", 1, ("FAILED", "SystemExit: no data")),
    "with, exception": ("with", "raise ValueError('loss is NaN')", 1, ("FAILED", "ValueError: loss is NaN")),
    "with, exception without text": ("with", "raise ZeroDivisionError", 1, ("FAILED", "ZeroDivisionError")),
    "direct, end": ("direct", "pass", 0, ("COMPLETED", None)),
    "direct, sys.exit(0)": ("direct", "sys.exit(0)", 0, ("COMPLETED", None)),
    "direct, exception": ("direct", "raise ValueError('loss is NaN')", 1, ("FAILED", "ValueError: loss is NaN")),
    "direct, fail": ("direct", "exp.run.fail('no data')", 0, ("FAILED", "no data")),
    "direct, cancel": ("direct", "exp.run.cancel()", 0, ("CANCELLED", None)),
    "direct, exception after complete": (
        "direct",
        "exp.run.complete(); raise ValueError('later')",
        1,
        ("COMPLETED", None),
    ),
}


@pytest.mark.parametrize("end", ENDS)
def test_each_way_to_end_a_program_leaves_its_status(tmp_path, end):
    style, leave, status, expected = ENDS[end]
    indented = "".join(f"    {line}\n" for line in f"{BODY}{leave}".splitlines())
    head = "with experiment().run as exp:\n" if style == "with" else "exp = experiment().run.start()\nif True:\n"
    assert [] == run(head + indented, tmp_path, status)
    assert expected == ending(tmp_path)
    assert [{"i": 0}] == points(tmp_path)
    assert ["here"] == messages(tmp_path)


def test_a_program_that_leaves_through_os_exit_loses_nothing(tmp_path):
    with running(f"exp = experiment().run.start()\n{BODY}os._exit(5)\n", tmp_path) as program:
        assert 5 == program.wait()
        wait_until(lambda: document(tmp_path).get("status") not in (None, "RUNNING"), 30)
    status, reason = ending(tmp_path)
    assert "FAILED" == status
    assert "os._exit" in reason
    assert [{"i": 0}] == points(tmp_path)
    assert ["here"] == messages(tmp_path)


def test_several_open_runs_are_all_closed_by_sigterm(tmp_path):
    code = """
runs = [Experiment(f"alice/walker/run-{number}", dash_root="root", echo=False).run.start() for number in range(3)]
for exp in runs:
    exp.log("here")
say("ready")
wait_for_a_signal()
"""
    with running(code, tmp_path) as program:
        program.expect("ready")
        os.kill(program.pid, signal.SIGTERM)
        assert -signal.SIGTERM == program.wait()
    for number in range(3):
        text = (tmp_path / f"root/alice/walker/run-{number}/experiment.json").read_text()
        assert '"status":"FAILED"' in text
        assert "SIGTERM" in text


@pytest.mark.parametrize("moment", ["at once", "while it works"])
def test_signals_to_the_writer_do_not_end_it(tmp_path, moment):
    code = f"""
import psutil
exp = experiment().run.start()
if {moment == "while it works"}:
    exp.metrics("train").log(i=-1)
    exp.flush()
(writer,) = psutil.Process().children()
for i in range(300):
    exp.metrics("train").log(i=i)
    if i % 100 == 0:
        for name in ("SIGINT", "SIGHUP", "SIGTERM"):
            os.kill(writer.pid, getattr(signal, name))
exp.flush()
health = exp.health()
say("writer", health["writer_pid"] == writer.pid, health["writer_restarts"], health["errors"])
exp.run.complete()
"""
    assert ["writer True 0 0"] == run(code, tmp_path)
    assert ("COMPLETED", None) == ending(tmp_path)
    first = -1 if moment == "while it works" else 0
    assert list(range(first, 300)) == [point["i"] for point in points(tmp_path)]


def _namespace() -> list[str]:
    return [shutil.which("unshare") or "", "--pid", "--fork", "--mount-proc", "--kill-child"]


def _can_have_a_namespace() -> bool:
    if not _namespace()[0]:
        return False
    return 0 == subprocess.run([*_namespace(), "true"], capture_output=True, check=False).returncode


@pytest.mark.parametrize(
    ("leave", "status", "expected"),
    [
        ("exp.run.complete()", 0, "COMPLETED"),
        ("pass", 0, "COMPLETED"),
        ("raise ValueError", 1, "FAILED"),
        ("os.kill(1, signal.SIGTERM); wait_for_a_signal()", 128 + signal.SIGTERM, "FAILED"),
    ],
    ids=["complete", "left open", "exception", "SIGTERM"],
)
def test_everything_is_written_before_process_1_of_a_container_ends(tmp_path, leave, status, expected):
    """The kernel kills every process of a container with process 1, so no writer can finish afterwards."""
    if not _can_have_a_namespace():
        pytest.skip("needs the right to make a process namespace")
    code = f"""
assert os.getpid() == 1
exp = experiment().run.start()
for i in range(2000):
    exp.metrics("train").log(i=i)
for i in range(20):
    exp.files("frames").save_image(np.full((64, 64, 3), i, np.uint8), to=f"{{i}}.png")
{leave}
"""
    program = tmp_path / "program.py"
    program.write_text(PROLOGUE + code)
    done = subprocess.run(
        [*_namespace(), sys.executable, str(program)],
        cwd=tmp_path,
        env=python_environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SUBPROCESS_SECONDS,
        check=False,
    )
    assert status == done.returncode, done.stderr
    assert expected == ending(tmp_path)[0]
    assert list(range(2000)) == [point["i"] for point in points(tmp_path)]
    assert 20 == len(list(tmp_path.glob("root/alice/walker/run/files/frames/*/*.png")))


def test_a_program_that_sigpipe_ends_does_not_end_with_its_writer(tmp_path):
    code = """
signal.signal(signal.SIGPIPE, signal.SIG_DFL)
exp = experiment()
exp.run.start()
exp.flush()
for restarts in range(3):
    writer = exp.health()["writer_pid"]
    os.kill(writer, signal.SIGKILL)
    while exp.health()["writer_restarts"] == restarts or exp.health()["writer_pid"] == writer:
        exp.metrics("train").log(restarts=restarts)
        exp.flush(timeout=0)  # rings for the writer that is gone
    exp.flush()
exp.run.complete()
say("complete", exp.health()["writer_restarts"])
"""
    with running(code, tmp_path) as program:
        assert ["3"] == program.expect("complete")
        assert 0 == program.wait()
    assert "COMPLETED" == ending(tmp_path)[0]
    assert [0, 1, 2] == sorted({point["restarts"] for point in points(tmp_path)})
