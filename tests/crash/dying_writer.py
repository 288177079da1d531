"""A writer process that kills itself once at a named place, for the places that random kills hit too rarely.

`ML_DASH_TEST_DIE_AT` is `module:function:moment:count`: SIGKILL at the `count`-th call (from 1) of a function, `before`
or `after` it. Only the first writer of a run dies; a file beside the run remembers it.
"""

from __future__ import annotations

import functools
import importlib
import itertools
import os
import signal
from pathlib import Path

import ml_dash.writer.main
from ml_dash.writer.main import run_on_thread

__all__ = ["VARIABLE", "has_died", "main", "run_on_thread"]

VARIABLE = "ML_DASH_TEST_DIE_AT"


def has_died(run: str | os.PathLike[str]) -> bool:
    """Return whether the first writer of that run has killed itself."""
    return _mark(run).exists()


def main(boot):
    """Run the writer process."""
    if not has_died(boot["run"]):
        _set_trap(boot["run"], *os.environ[VARIABLE].split(":"))
    ml_dash.writer.main.main(boot)


def _mark(run: str | os.PathLike[str]) -> Path:
    return Path(run).with_suffix(".died")


def _set_trap(run: str, module: str, function: str, moment: str, count: str) -> None:
    owner = importlib.import_module(module)
    *holders, name = function.split(".")
    for holder in holders:
        owner = getattr(owner, holder)
    original, calls = getattr(owner, name), itertools.count(1)

    @functools.wraps(original)
    def trapped(*args, **kwargs):
        due = next(calls) == int(count)
        if due and moment == "before":
            _die(run)
        result = original(*args, **kwargs)
        if due:
            _die(run)
        return result

    setattr(owner, name, trapped)


def _die(run: str) -> None:
    _mark(run).touch()
    os.kill(os.getpid(), signal.SIGKILL)
