"""The command ``ml-dash doctor``."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from ml_dash._printable import clean
from ml_dash.cli import formatting, output
from ml_dash.cli.arguments import DEFAULT_ROOT, json_option
from ml_dash.cli.exits import NOT_FOUND, WrongCallError
from ml_dash.cli.output import paint

if TYPE_CHECKING:
    from ml_dash.doctor.checks import Check
    from ml_dash.settings import BufferConfig

ANSWER_S = 5.0
"""Time that the writer of the trial run has to answer; on an idle machine it starts within half a second."""

LARGEST_SIDE = 8192
"""Most pixels of a side of the trial frames: larger ones would take too long."""

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
    metavar="N",
    help="Frames per second that training records.",
)
@click.option("--size", default="640x480", show_default=True, metavar="WxH", help="Size of these frames in pixels.")
@json_option
def doctor(root: str, fps: float, size: str, as_json: bool) -> None:
    """Check whether this machine can record to ROOT, and fast enough. It takes about two seconds.

    It looks at packages, shared memory, the disk and its locks, the keyring and OpenGL, records a trial run, and
    measures how many frames per second are copied, encoded and written. It removes everything that it made, and makes
    no network connections.

    The exit status is 1 if a check failed. A warning is about something that works, but could work better.
    """
    width, height = _parse_size(size)
    checks = []
    for check in _checks(os.path.abspath(root), fps, width, height):
        checks.append(check)
        if not as_json:
            output.write(_lines(check))
    failed = [check.name for check in checks if check.state == "failed"]
    if as_json:
        output.write_json(
            {
                "ok": not failed,
                "root": os.path.abspath(root),
                "checks": [dataclasses.asdict(check) for check in checks],
            }
        )
    elif not failed:
        output.write([paint(f"ready to record to {clean(os.path.abspath(root))}", "bold")])
    else:
        output.write([paint(f"not ready: {', '.join(failed)}", "bold red")])
    if failed:
        raise click.exceptions.Exit(NOT_FOUND)


def _parse_size(text: str) -> tuple[int, int]:
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
    folder = root  # or the nearest folder above it that exists
    while not os.path.isdir(folder) and os.path.dirname(folder) != folder:
        folder = os.path.dirname(folder)
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
    """Return the settings from ML_DASH_ variables, and the check of these."""
    from ml_dash.doctor.checks import FAILED, OK, Check
    from ml_dash.errors import ConfigurationError
    from ml_dash.settings import BufferConfig

    variables = sorted(name for name in os.environ if name.startswith("ML_DASH_"))
    try:
        config = BufferConfig.from_env()
    except ConfigurationError as error:
        return BufferConfig(), Check("settings", FAILED, str(error), {"variables": variables})
    text = ", ".join(variables) if variables else "no ML_DASH_ variable is set"
    return config, Check("settings", OK, text, {"variables": variables})


def _trial(folder: str) -> Check:
    """Record a run with one point in a temporary folder, through a writer process as in training."""
    from ml_dash.doctor.checks import FAILED, Check

    temporary = tempfile.mkdtemp(prefix=".ml-dash-doctor-", dir=folder)
    try:
        return _timed_run(temporary)
    except Exception as error:  # noqa: BLE001 - any error is a finding of this check
        return Check("trial run", FAILED, f"could not be recorded: {type(error).__name__}: {error}")
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _timed_run(root: str) -> Check:
    from ml_dash.doctor.checks import FAILED, OK, WARNING, Check
    from ml_dash.experiment.experiment import Experiment
    from ml_dash.query.run import open_run

    times = [time.perf_counter()]
    trial = Experiment("doctor/trial/run", dash_root=root, echo=False, capture_output=False, record_environment=False)
    # The run's own progress messages would stand between the lines of this command.
    with open(os.devnull, "w", encoding="utf-8") as null, contextlib.redirect_stderr(null), trial.run as experiment:
        times.append(time.perf_counter())
        experiment.metrics("trial").log(value=1.0)
        has_answered = experiment.flush(timeout=ANSWER_S)
        times.append(time.perf_counter())
        health = experiment.health()
    times.append(time.perf_counter())
    opened, answered, ended = ((end - start) * 1e3 for start, end in itertools.pairwise(times))
    facts = {"open_ms": opened, "answer_ms": answered, "end_ms": ended, "memory": health["shared_memory"]}
    facts = {name: round(value, 1) if isinstance(value, float) else value for name, value in facts.items()}
    points = len(open_run("doctor/trial/run", root).metrics("trial").read()["data"])
    if not has_answered or points != 1:
        return Check("trial run", FAILED, f"the writer did not answer in {ANSWER_S:g} s: {health['last_error']}", facts)
    text = f"opened in {opened:.0f} ms, writer answered in {answered:.0f} ms, closed in {ended:.0f} ms"
    if health["writer_on_thread"]:
        return Check("trial run", WARNING, f"{text}; on a thread, since no process could be started", facts)
    return Check("trial run", OK, text, facts)


def _lines(check: Check) -> list[str]:
    head = f"{check.state:<{_STATE_WIDTH}}  {check.name:<{_NAME_WIDTH}}  "
    painted = paint(check.state, _STYLES[check.state]) + head[len(check.state) :]
    return formatting.wrap(check.text, output.width(), head=painted, head_width=len(head))
