"""What is called in a forked child."""

from __future__ import annotations

from tests.support import run_python

PROGRAM = """
import os
from ml_dash import _fork

class Resource:
    def __init__(self, name):
        self.name = name

    def after_fork_in_child(self):
        print(self.name, flush=True)

def fork():
    pid = os.fork()
    if pid:
        os.waitpid(pid, 0)
    return pid

_fork.call_in_child(lambda: print("function", flush=True))
kept, closed = Resource("kept"), Resource("closed")
_fork.register(kept)
_fork.register(closed)
_fork.register(Resource("collected"))
_fork.unregister(closed)
_fork.unregister(closed)
if not fork():
    print("grandchild", flush=True)
    fork()
"""


def test_a_child_calls_functions_each_time_and_a_resource_once(tmp_path):
    printed = run_python(PROGRAM, tmp_path).split()

    assert ["kept", "function", "grandchild", "function"] == printed
