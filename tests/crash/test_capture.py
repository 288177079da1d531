"""`capture_output=True` in real processes: all output is shown as before, and is in the log."""

from __future__ import annotations

import os
import signal
import sys
import threading

import pytest

from ml_dash import Experiment
from tests.crash.programs import PREFIX, ending, run, run_folder, running, terminal
from tests.run_contents import read_logs
from tests.support import wait_until

pytestmark = pytest.mark.crash

CAPTURED = f"""
import ctypes, subprocess
def captured(name="{PREFIX}", **options):
    return Experiment(name, dash_root="root", capture_output=True, **{{"echo": False, **options}})
def our_threads():
    return {{"ml_dash-capture", "ml_dash-relay"}} & {{thread.name for thread in threading.enumerate()}}
def at_once(text):  # a signal may cut a large write short, and an unbuffered stream does not write the rest
    with open(1, "w", closefd=False) as stream:
        print(text, file=stream)
"""


def printed(folder, stream=None):
    """Return the captured lines in the order of the log, or those of one stream."""
    return [
        line["message"]
        for line in read_logs(run_folder(folder))
        if "stream" in line.get("metadata", {}) and stream in (None, line["metadata"]["stream"])
    ]


ALL_WAYS = """
print("before")
exp = captured().run.start()
print("print")
os.write(1, b"os.write\\n")
subprocess.run(["echo", "subprocess"])
ctypes.CDLL(None).puts(b"C")
ctypes.CDLL(None).fflush(None)
print("größer →")
print("two\\nlines")
print("no newline", end="")
exp.run.complete()
print()
print("after")
"""


def test_output_of_every_kind_is_shown_and_logged(tmp_path):
    shown = run(CAPTURED + ALL_WAYS, tmp_path)
    lines = ["print", "os.write", "subprocess", "C", "größer →", "two", "lines", "no newline"]

    assert ["before", *lines, "after"] == shown
    assert lines == printed(tmp_path, "stdout")
    assert [] == printed(tmp_path, "stderr")


STDERR = """
exp = captured().run.start()
print("problem", file=sys.stderr)
subprocess.run("echo of a child >&2", shell=True)
for step in range(100):
    sys.stderr.write(f"\\r{step + 1:3}%")
    sys.stderr.flush()
sys.stderr.write("\\n\\xff ends here")
exp.run.complete()
"""


def test_stderr_is_logged_as_warnings_and_a_progress_bar_as_its_last_state(tmp_path):
    with running(CAPTURED + STDERR, tmp_path) as program:
        program.release()
        assert 0 == program.wait()
        assert "problem\nof a child\n" in program.errors()
        assert program.errors().endswith("100%\nÿ ends here")

    assert ["problem", "of a child", "100%", "ÿ ends here"] == printed(tmp_path, "stderr")
    assert {"warn"} == {line["level"] for line in read_logs(run_folder(tmp_path))}


ECHO = """
exp = captured(echo=True).run.start()
for step in range(50):
    print("print", step)
    exp.log(f"log {step}", step=step)
exp.run.complete()
"""


def test_an_echoed_line_is_shown_in_its_place_and_logged_once(tmp_path):
    shown = run(CAPTURED + ECHO, tmp_path)

    assert [line for i in range(50) for line in (f"print {i}", f"[INFO] log {i} [step={i}]")] == shown
    assert [f"print {i}" for i in range(50)] == printed(tmp_path)
    assert 100 == len(read_logs(run_folder(tmp_path)))


def test_the_traceback_that_ends_the_program_is_in_the_log(tmp_path):
    run(CAPTURED + "captured().run.start()\nprint('last words')\nraise KeyError('no such weight')", tmp_path, status=1)

    assert ("FAILED", "KeyError: 'no such weight'") == ending(tmp_path)
    assert ["last words"] == printed(tmp_path, "stdout")
    assert "Traceback (most recent call last):" == printed(tmp_path, "stderr")[0]
    assert "KeyError: 'no such weight'" == printed(tmp_path, "stderr")[-1]


def test_the_traceback_that_leaves_the_block_is_in_the_log(tmp_path):
    run(CAPTURED + "with captured().run:\n    raise KeyError('no such weight')", tmp_path, status=1)
    [line] = read_logs(run_folder(tmp_path))

    assert ("error", "KeyError: 'no such weight'") == (line["level"], line["message"])
    assert "in <module>" in line["metadata"]["exception"]


ON_A_TERMINAL = """
import fcntl, struct, termios
fcntl.ioctl(2, termios.TIOCSWINSZ, struct.pack("4H", 33, 111, 0, 0))
exp = captured().run.start()
print("\\x1b[31mred\\x1b[0m", file=sys.stderr)
say("first", sys.stderr.isatty(), sys.stdout.isatty(), *os.get_terminal_size(2))
fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("4H", 44, 122, 0, 0))
while os.get_terminal_size(2).lines != 44:
    print("resized", file=sys.stderr)
    time.sleep(0.01)
exp.run.complete()
say("restored", os.ttyname(2) == os.ttyname(0))
"""


def test_a_terminal_stays_a_terminal_of_its_size(tmp_path):
    with terminal(CAPTURED + ON_A_TERMINAL, tmp_path) as program:
        assert ["True", "False", "111", "33"] == program.expect("first")
        assert ["True"] == program.expect("restored")
        screen = os.read(program._screen, 65536)

    assert screen.startswith(b"\x1b[31mred\x1b[0m\r\nresized\r\n")
    assert ["red", "resized"] == printed(tmp_path, "stderr")[:2]


FORK = """
exp = captured().run.start()
print("parent")
if os.fork() == 0:
    print("child")
    exp.log("of the child")
    exp.run.complete()
    print("child after its run")
    os._exit(0)
os.wait()
exp.run.complete()
print("after")
"""


def test_what_a_forked_child_prints_is_shown_and_logged_once(tmp_path):
    shown = run(CAPTURED + FORK, tmp_path)

    assert ["parent", "child", "child after its run", "after"] == shown
    assert ["parent", "child", "child after its run"] == printed(tmp_path)
    assert 4 == len(read_logs(run_folder(tmp_path)))


OUTLIVES = """
exp = captured().run.start()
child = subprocess.Popen("echo during; read line; echo late; read line", shell=True, stdin=subprocess.PIPE)
while not any(line["message"] == "during" for line in exp.logs.read()):
    time.sleep(0.01)
exp.run.complete()
print("closed", flush=True)
child.stdin.write(b"\\n")
child.stdin.flush()
wait_for_the_test()
child.stdin.close()
child.wait()
pumps = [thread for thread in threading.enumerate() if thread.name == "ml_dash-capture"]
[thread.join(30) for thread in pumps]
print("pumps", len(pumps), sum(thread.is_alive() for thread in pumps), flush=True)
"""


def test_closing_does_not_wait_for_a_subprocess_whose_output_is_still_shown(tmp_path):
    with running(CAPTURED + OUTLIVES, tmp_path) as program:
        assert ["during", "closed", "late"] == [program.next_line() for _ in range(3)]
        program.release()
        assert ["1", "0"] == program.expect("pumps")
        assert 0 == program.wait()

    assert ["during"] == printed(tmp_path)


SEVERAL = """
first, second = captured("a/b/first"), captured("a/b/second")
first.run.start(); print("one")
second.run.start(); print("both")
first.run.complete(); print("two")
second.run.complete(); print("nobody")
first.run.start(); print("again")
first.run.complete()
"""


def test_each_of_several_runs_has_what_was_printed_while_it_was_open(tmp_path):
    shown = run(CAPTURED + SEVERAL, tmp_path)

    found = {name: read_logs(str(tmp_path / "root/a/b" / name)) for name in ("first", "second")}
    assert ["one", "both", "two", "nobody", "again"] == shown
    assert ["one", "both", "again"] == [line["message"] for line in found["first"]]
    assert ["both", "two"] == [line["message"] for line in found["second"]]


@pytest.mark.parametrize("closed", [(0,), (1,), (2,), (0, 1), (0, 1, 2)])
def test_a_daemon_without_standard_streams_runs_on(tmp_path, closed):
    code = f"""
for fd in {closed}:
    os.close(fd)
exp = captured().run.start()
for fd in (1, 2):
    if fd not in {closed}:
        os.write(fd, b"line of %d\\n" % fd)
exp.log("works")
exp.run.complete()
left = {{os.readlink(f"/proc/self/fd/{{fd}}") for fd in {closed} if os.path.exists(f"/proc/self/fd/{{fd}}")}}
open("left", "w").write(repr(left - {{os.devnull}}))
os._exit(0)
"""
    with running(CAPTURED + code, tmp_path) as program:
        assert 0 == program.wait()
        missing = [name for fd, name in ((1, "stdout"), (2, "stderr")) if fd in closed]
        if missing and 2 not in closed:
            [warning] = [line for line in program.errors().splitlines() if "capture_output" in line]
            assert missing[0] in warning

    assert [f"line of {fd}" for fd in (1, 2) if fd not in closed] == [
        text for text in printed(tmp_path) if "capture_output" not in text
    ]
    assert "works" in [line["message"] for line in read_logs(run_folder(tmp_path))]
    assert "set()" == (tmp_path / "left").read_text()


def test_a_run_that_cannot_start_leaves_the_descriptors_alone(tmp_path):
    (tmp_path / "root").write_text("in the way")
    code = """
before = os.fstat(1)
try:
    captured().run.start()
except OSError:
    print(os.path.samestat(before, os.fstat(1)), threading.active_count())
"""

    assert ["True 1"] == run(CAPTURED + code, tmp_path)


def test_a_descriptor_that_the_program_replaced_stays_replaced(tmp_path):
    code = """
exp = captured().run.start()
print("first")
os.dup2(os.open("file", os.O_WRONLY | os.O_CREAT), 1)
print("into the file")
exp.run.complete()
print("still into the file")
"""
    assert ["first"] == run(CAPTURED + code, tmp_path)
    assert ["first"] == printed(tmp_path)
    assert "into the file\nstill into the file\n" == (tmp_path / "file").read_text()


def test_much_output_is_complete(tmp_path):
    code = """
exp = captured().run.start()
for i in range(20_000):
    print("line", i, "x" * 60)
exp.run.complete()
"""
    expected = [f"line {i} {'x' * 60}" for i in range(20_000)]

    assert expected == run(CAPTURED + code, tmp_path)
    assert expected == printed(tmp_path)


def test_a_console_that_is_gone_costs_nothing_of_the_log(tmp_path):
    code = """
exp = captured().run.start()
wait_for_the_test()
for i in range(1000):
    print("line", i)
exp.run.complete()
"""
    with running(CAPTURED + code, tmp_path) as program:
        program.process.stdout.close()
        program.release()
        assert 0 == program.wait(), program.errors()

    assert [f"line {i}" for i in range(1000)] == printed(tmp_path)


def test_a_console_that_takes_nothing_does_not_keep_the_run_open(tmp_path):
    """The test reads nothing: its own pipe is full after 64 KiB."""
    code = """
exp = captured().run.start()
print("x" * 300_000)
exp.run.complete()
os._exit(0)
"""
    with running(CAPTURED + code, tmp_path) as program:
        assert 0 == program.wait()

    assert "COMPLETED" == ending(tmp_path)[0]


def test_a_run_that_is_told_to_end_keeps_what_was_printed(tmp_path):
    code = "captured().run.start()\nprint('ready')\nwait_for_a_signal()"
    with running(CAPTURED + code, tmp_path) as program:
        assert "ready" == program.next_line()
        program.process.send_signal(signal.SIGTERM)
        assert -signal.SIGTERM == program.wait()

    assert ["ready"] == printed(tmp_path)


def test_a_line_that_was_read_survives_a_kill(tmp_path):
    code = "captured().run.start()\nprint('ready')\nwait_for_a_signal()"
    with running(CAPTURED + code, tmp_path) as program:
        assert "ready" == program.next_line()
        wait_until(lambda: ["ready"] == printed(tmp_path), message="the line is in the log")
        program.process.kill()
        program.wait()

    assert ["ready"] == printed(tmp_path)


def test_the_environment_can_ask_for_it(tmp_path):
    code = f"""
os.environ["ML_DASH_CAPTURE_OUTPUT"] = "1"
with Experiment("{PREFIX}", dash_root="root", echo=False).run:
    print("printed")
"""
    assert ["printed"] == run(code, tmp_path)
    assert ["printed"] == printed(tmp_path)


def test_a_stream_that_stands_in_for_stdout_is_heard_too(tmp_path):
    """As in a notebook, where Python's output never reaches descriptor 1."""
    code = """
import io
class Notebook(io.StringIO):
    pass
sys.stdout = notebook = Notebook()
with captured(echo=True).run as exp:
    print("in a cell")
    exp.log("echoed")
    os.write(1, b"below Python\\n")
    print("no newline", end="")
assert sys.stdout is notebook
print("after")
os.write(1, repr(notebook.getvalue()).encode())
"""
    shown = run(CAPTURED + code, tmp_path)

    assert ["below Python", repr("in a cell\n[INFO] echoed\nno newlineafter\n")] == shown
    assert ["below Python", "in a cell", "no newline"] == sorted(printed(tmp_path))


def test_nothing_is_left_behind_in_a_process_that_goes_on(tmp_path):
    """Three times, under a test runner that captures output itself."""
    before = sys.stdout, sys.stderr, os.fstat(1), os.fstat(2)
    for number in range(3):
        with Experiment(f"a/b/{number}", dash_root=tmp_path, echo=False, capture_output=True).run as exp:
            print("print", number)
            os.write(1, b"write\n")
            os.write(2, b"error\n")
        lines = read_logs(exp.folder)
        assert {f"print {number}", "error", "write"} == {line["message"] for line in lines}

    assert before[:2] == (sys.stdout, sys.stderr)
    assert os.path.samestat(before[2], os.fstat(1))
    assert os.path.samestat(before[3], os.fstat(2))
    assert "ml_dash-capture" not in [thread.name for thread in threading.enumerate()]


HOLDS_THE_LOCK = """
exp = captured().run.start()
data = b"".join(b"line %d\\n" % i for i in range(150_000))
written = ctypes.PyDLL(None).write(2, data, len(data))
assert written == len(data)
exp.run.complete()
say("closed")
"""


def expected_lines():
    return [f"line {i}" for i in range(150_000)]


def test_c_code_that_holds_the_lock_of_the_interpreter_prints_more_than_a_pipe_holds(tmp_path):
    with running(CAPTURED + HOLDS_THE_LOCK, tmp_path) as program:
        assert [] == program.expect("closed")
        program.release()
        assert 0 == program.wait(), program.errors()
        assert expected_lines() == program.errors().splitlines()

    assert expected_lines() == printed(tmp_path, "stderr")


def test_the_same_on_a_terminal(tmp_path):
    screen = bytearray()
    with terminal(CAPTURED + HOLDS_THE_LOCK, tmp_path) as program:

        def read():
            while not screen.endswith(b"line 149999\r\n"):
                screen.extend(os.read(program._screen, 65536))

        reader = threading.Thread(target=read)
        reader.start()
        assert [] == program.expect("closed")
        reader.join()

    assert expected_lines() == screen.decode().split("\r\n")[:-1]
    assert expected_lines() == printed(tmp_path, "stderr")


def test_what_was_printed_before_a_kill_is_shown(tmp_path):
    code = """
exp = captured().run.start()
for i in range(5000):
    print("line", i)
os.kill(os.getpid(), 9)
"""
    assert [f"line {i}" for i in range(5000)] == run(CAPTURED + code, tmp_path, status=-signal.SIGKILL)


def test_a_subprocess_that_outlives_the_program_is_still_shown(tmp_path):
    code = """
captured().run.start()
subprocess.Popen("read line; echo last words", shell=True, stdin=0)
os._exit(0)
"""
    with running(CAPTURED + code, tmp_path) as program:
        assert 0 == program.wait()
        program.release()
        assert ["last words"] == program.remaining()


RELAY_IS_KILLED = """
exp = captured().run.start()
print("first", flush=True)
while not any(line["message"] == "first" for line in exp.logs.read()):
    time.sleep(0.01)
import psutil
[relay] = [child for child in psutil.Process().children() if "ml_dash.capture.relay_process" in " ".join(child.cmdline())]
relay.kill()
for i in range(1000):
    print("line", i)
at_once("x" * 3_000_000)
print("last")
exp.run.complete()
print("after", our_threads())
"""


def test_a_relay_that_is_killed_is_replaced(tmp_path):
    expected = ["first", *(f"line {i}" for i in range(1000)), "x" * 3_000_000, "last"]

    assert [*expected, "after set()"] == run(CAPTURED + RELAY_IS_KILLED, tmp_path)
    logged = printed(tmp_path)
    assert [*expected[:-2], "last"] == [text for text in logged if "x" not in text]
    assert 3_000_000 == sum(map(len, logged)) - sum(map(len, (*expected[:-2], "last")))


@pytest.mark.parametrize(
    "change",
    [
        "import ml_dash.capture.relay_client as link; link.can_launch = lambda: False",
        "sys.executable = '/bin/false/python'",
        "import ml_dash.ipc.launch as launch; launch._ROOT = '/nowhere'",
    ],
)
def test_a_thread_reads_where_no_process_can_be_started(tmp_path, change):
    code = f"""
{change}
exp = captured().run.start()
for i in range(1000):
    print("line", i)
at_once("y" * 3_000_000)
exp.run.complete()
print("after", our_threads())
"""
    expected = [f"line {i}" for i in range(1000)]

    assert [*expected, "y" * 3_000_000, "after set()"] == run(CAPTURED + code, tmp_path)
    assert expected == [text for text in printed(tmp_path) if "y" not in text]


def test_a_program_that_replaces_itself_has_its_own_output_again(tmp_path):
    code = """
original = os.fstat(1).st_ino
exp = captured().run.start()
print("before")
os.execv(sys.executable, [sys.executable, "-c", f"import os; print('after', os.fstat(1).st_ino == {original})"])
"""
    assert ["before", "after True"] == run(CAPTURED + code, tmp_path)
    wait_until(lambda: ["before"] == printed(tmp_path), message="the line is in the log")


def test_a_forked_child_that_becomes_another_program_is_captured_on(tmp_path):
    code = """
exp = captured().run.start()
if os.fork() == 0:
    os.execvp("echo", ["echo", "of the child"])
os.wait()
print("parent")
exp.run.complete()
"""
    assert ["of the child", "parent"] == run(CAPTURED + code, tmp_path)
    assert ["of the child", "parent"] == printed(tmp_path)
