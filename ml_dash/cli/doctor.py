"""``ml-dash doctor``."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from ml_dash.cli import formatting, output
from ml_dash.cli.arguments import DEFAULT_ROOT, json_option
from ml_dash.cli.exits import NOT_FOUND, WrongCallError
from ml_dash.cli.output import paint

if TYPE_CHECKING:
    from ml_dash.doctor.checks import Check
    from ml_dash.settings import BufferConfig

ANSWER_S = 5.0
"""How long the writer of the trial run may take to answer: it starts within half a second on an idle machine."""

LARGEST_SIDE = 8192
"""Pixels of a side of the frames that are tried: a larger one would take longer than a person waits."""

_SIZE = re.compile(r"(\d{1,5})[xX](\d{1,5})")
_STYLES = {"ok": "green", "note": "dim", "warning": "yellow", "failed": "bold red"}
_STATE_WIDTH, _NAME_WIDTH = 7, 15


@click.command()
@click.argument("root", type=click.Path(), default=DEFAULT_ROOT)
@click.option(
    "--fps",
    type=click.FloatRange(min=0, min_open=True),
    default=30.0,
    show_default=True,
    help="Frames per second that training makes.",
)
@click.option("--size", default="640x480", show_default=True, metavar="WxH", help="Their size in pixels.")
@json_option
def doctor(root: str, fps: float, size: str, as_json: bool) -> None:
    """Check whether this machine can record to ROOT, and fast enough. It takes about two seconds.

    Looks at packages, shared memory, the disk and its locks, the keyring and OpenGL, records a trial run, and measures
    how many frames a second are copied, encoded and written. What it makes is removed again; nothing is connected to.

    The exit status is 1 if a check failed; a warning is something that works, but could be better.
    """
    width, height = _size(size)
    checks = []
    for check in _checks(os.path.abspath(root), fps, width, height):
        checks.append(check)
        if not as_json:
            output.write(_lines(check))
    failed = [check.name for check in checks if check.state == "failed"]
    if as_json:
        found = [{"name": c.name, "state": c.state, "text": c.text, "facts": c.facts} for c in checks]
        output.write_json({"ok": not failed, "root": os.path.abspath(root), "checks": found})
    elif not failed:
        output.write([paint(f"ready to record to {formatting.clean(os.path.abspath(root))}", "bold")])
    else:
        output.write([paint(f"not ready: {', '.join(failed)}", "bold red")])
    if failed:
        raise click.exceptions.Exit(NOT_FOUND)


def _size(text: str) -> tuple[int, int]:
    parts = _SIZE.fullmatch(text.strip())
    width, height = (int(parts[1]), int(parts[2])) if parts else (0, 0)
    if not (1 <= width <= LARGEST_SIDE and 1 <= height <= LARGEST_SIDE):
        raise WrongCallError(f"--size {text!r} is no size; write 640x480, sides of 1 to {LARGEST_SIDE}")
    return width, height


def _checks(root: str, fps: float, width: int, height: int) -> Iterator[Check]:
    from ml_dash.doctor import checks

    yield checks.check_versions()
    yield checks.check_extras()
    config, check = _settings()
    yield check
    yield checks.check_shared_memory(config)
    folder = _existing(root)
    yield checks.check_disk(folder)
    yield checks.check_temporary()
    yield checks.check_keyring()
    yield checks.check_gl()
    if not os.access(folder, os.W_OK | os.X_OK):
        yield checks.Check("rights", checks.FAILED, f"{folder} cannot be written to; name another root")
        return
    yield checks.check_locks(folder)
    yield _trial(folder)
    from ml_dash.doctor.speed import check_speed

    yield from check_speed(folder, config, fps, width, height)


def _settings() -> tuple[BufferConfig, Check]:
    """The settings that ML_DASH_ variables give, and whether they can be read."""
    from ml_dash.doctor.checks import FAILED, OK, Check
    from ml_dash.errors import ConfigurationError
    from ml_dash.settings import BufferConfig

    set_here = sorted(name for name in os.environ if name.startswith("ML_DASH_"))
    try:
        config = BufferConfig.from_env()
    except ConfigurationError as error:
        return BufferConfig(), Check("settings", FAILED, str(error), {"variables": set_here})
    text = ", ".join(set_here) if set_here else "no ML_DASH_ variable is set"
    return config, Check("settings", OK, text, {"variables": set_here})


def _existing(root: str) -> str:
    """The root, or the nearest folder above it that is there."""
    while not os.path.isdir(root) and os.path.dirname(root) != root:
        root = os.path.dirname(root)
    return root


def _trial(folder: str) -> Check:
    """Record a run of one point, with a writer process as training has it."""
    from ml_dash.doctor.checks import FAILED, Check

    place = tempfile.mkdtemp(prefix=".ml-dash-doctor-", dir=folder)
    try:
        return _timed_run(place)
    except Exception as error:  # noqa: BLE001 - whatever stands in the way is what this is to find out
        return Check("trial run", FAILED, f"could not be recorded: {type(error).__name__}: {error}")
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _timed_run(place: str) -> Check:
    from ml_dash.doctor.checks import FAILED, OK, WARNING, Check
    from ml_dash.experiment.experiment import Experiment
    from ml_dash.query.run import open_run

    moments = [time.perf_counter()]
    trial = Experiment("doctor/trial/run", dash_root=place, echo=False, capture_output=False, record_environment=False)
    with _quiet(), trial.run as experiment:
        moments.append(time.perf_counter())
        experiment.metrics("trial").log(value=1.0)
        has_answered = experiment.flush(timeout=ANSWER_S)
        moments.append(time.perf_counter())
        health = experiment.health()
    moments.append(time.perf_counter())
    opened, answered, ended = ((end - start) * 1e3 for start, end in itertools.pairwise(moments))
    facts = {"open_ms": opened, "answer_ms": answered, "end_ms": ended, "memory": health["shared_memory"]}
    facts = {name: round(value, 1) if isinstance(value, float) else value for name, value in facts.items()}
    points = len(open_run("doctor/trial/run", place).metrics("trial").read()["data"])
    if not has_answered or points != 1:
        return Check("trial run", FAILED, f"the writer did not answer in {ANSWER_S:g} s: {health['last_error']}", facts)
    text = f"opened in {opened:.0f} ms, writer answered in {answered:.0f} ms, closed in {ended:.0f} ms"
    if health["writer_on_thread"]:
        return Check("trial run", WARNING, f"{text}; on a thread, since no process could be started", facts)
    return Check("trial run", OK, text, facts)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Have what the run says of its own progress go to nobody: this command says it."""
    with open(os.devnull, "w", encoding="utf-8") as nowhere, contextlib.redirect_stderr(nowhere):
        yield


def _lines(check: Check) -> list[str]:
    head = f"{check.state:<{_STATE_WIDTH}}  {check.name:<{_NAME_WIDTH}}  "
    painted = paint(check.state, _STYLES[check.state]) + head[len(check.state) :]
    return formatting.wrap(check.text, output.width(), head=painted, head_width=len(head))
