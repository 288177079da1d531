"""The training process's end of a writer process."""

from __future__ import annotations

import select
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from ml_dash.ipc.launch import WriterProcess
from tests.support import run_python, wait_until

SLEEPER = [sys.executable, "-c", "import sys; sys.stdin.read()"]


def is_asleep(thread: threading.Thread) -> bool:
    stat = Path(f"/proc/self/task/{thread.native_id}/stat").read_text(encoding="ascii")
    return stat.rpartition(")")[2].split()[0] == "S"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks at a thread in /proc")
def test_closing_wakes_the_thread_that_watches_a_writer_which_takes_its_time_to_exit():
    ours, theirs = socket.socketpair()
    seen = []
    with theirs, subprocess.Popen(SLEEPER, stdin=subprocess.PIPE) as process:
        writer, poller = WriterProcess(process, ours), select.poll()
        poller.register(ours, select.POLLIN)
        watcher = threading.Thread(target=lambda: seen.extend(poller.poll(None)), daemon=True)
        watcher.start()
        wait_until(lambda: watcher.native_id and is_asleep(watcher))

        assert writer.close(0.0) is None
        wait_until(lambda: seen, message="the watcher is awake")
        assert process.poll() is None
        process.stdin.close()


@pytest.mark.skipif(not hasattr(socket, "MSG_NOSIGNAL"), reason="a system without the flag")
def test_a_bell_for_a_writer_that_is_gone_does_not_end_a_program_that_sigpipe_ends(tmp_path):
    code = """
import signal, socket
from ml_dash.ipc.launch import WriterProcess
signal.signal(signal.SIGPIPE, signal.SIG_DFL)
ours, theirs = socket.socketpair()
theirs.close()
WriterProcess(None, ours).ring_bell()
print("goes on")
"""
    assert "goes on" == run_python(code, tmp_path).strip()
