"""Program of test_hostile_readers: read a run in which one file after another is replaced by something that is no file.

    python read_odd_runs.py RUN KIND

Prints a line for each call that hangs, or ends in anything but a clear error.
"""

from __future__ import annotations

import os
import resource
import shutil
import signal
import socket
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path

from click.testing import CliRunner

from ml_dash import MlDashError, open_run
from ml_dash.cli.main import cli
from ml_dash.query.follow import Follower

MEMORY_BYTES = 4 << 30
CALL_S = 15

SPARSE = "sparse file of 1 TiB"
STORED = "a stored file"
NAMES = (
    "experiment.json",
    "parameters.json",
    "environment.json",
    "environment.history.jsonl",
    "code.diff",
    "config.toml",
    "metrics.toml",
    ".lock",
    ".experiment.lock",
    ".writers/w2.json",
    "quarantine/record.json",
    "logs/logs.jsonl",
    "metrics/train/data.jsonl",
    "metrics/train/data.parquet",
    "metrics/train/metadata.json",
    "metrics/train/metadata.w2.json",
    "metrics/flat.jsonl",
    "tracks/robot/arm/data.jsonl",
    "tracks/robot/arm/data.parquet",
    "tracks/robot/arm/metadata.json",
    "frames/camera/data.jsonl",
    "frames/camera/shard-00000.tar",
    "files/index.jsonl",
    "files/.files_metadata.json",
    STORED,
)


class HangError(BaseException):
    """A call did not return."""


def put(path: Path, kind: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "socket":
        os.chdir(path.parent)  # the name of a socket may not be long
        socket.socket(socket.AF_UNIX).bind(path.name)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "loop":
        path.symlink_to(path.name)
    elif kind == "folder":
        path.mkdir()
    elif kind == SPARSE:
        path.touch()
        os.truncate(path, 1 << 40)


def calls(run: Path) -> dict[str, Callable[[], object]]:
    root = str(run.parents[2])
    reader = open_run(run)
    metric, track, frames, files = (
        reader.metrics("train"),
        reader.tracks("robot/arm"),
        reader.frames("camera"),
        reader.files,
    )
    follower = Follower(str(run), logs=True, metrics=True)
    commands = {
        "ls": ["ls", "--root", root],
        "show": ["show", str(run)],
        "tail": ["tail", str(run), "--no-follow"],
        "verify": ["verify", str(run)],
        "zip": ["export", str(run), "--to", "zip", "--output", f"{root}/../out.zip", "--force"],
        "csv": ["export", str(run), "--to", "csv", "--output", f"{root}/../out", "--force"],
    }
    return {
        "document": reader.document,
        "environment": reader.environment,
        "params": reader.params.get,
        "logs": lambda: reader.logs.read(limit=5),
        "metrics": reader.metrics.list_all,
        "points": lambda: metric.read(limit=5),
        "stats": metric.stats,
        "columns": metric.table,
        "flat": lambda: reader.metrics("flat").read(),
        "topics": reader.tracks.topics,
        "rows": track.read,
        "row columns": track.table,
        "streams": reader.frames.list,
        "frame": lambda: frames.read(0),
        "files": files.list,
        "read": lambda: files.read_bytes("notes.txt"),
        "download": lambda: files.download("*", to=f"{root}/../copies/"),
        "last": lambda: follower.last(3),
        "added": follower.added,
        **{name: (lambda words=words: command(words)) for name, words in commands.items()},
    }


def command(words: list[str]) -> None:
    done = CliRunner().invoke(cli, words)
    if done.exit_code not in (0, 1, 2) or "Usage:" in done.output:
        raise RuntimeError(f"exit status {done.exit_code}: {done.output[-500:]}") from done.exception


def hang(*_: object) -> None:
    raise HangError


def main(run: Path, kind: str) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    signal.signal(signal.SIGALRM, hang)
    warnings.simplefilter("ignore")
    stored = str(next((run / "files").glob("[0-9]*/notes.txt")).relative_to(run))
    for name in NAMES:
        odd = run.parents[2] / "odd" / "alice" / "walker" / "run"
        shutil.copytree(run, odd, symlinks=True)
        path = odd / (stored if name is STORED else name)
        if kind != "whole":
            path.unlink(missing_ok=True)
            put(path, kind)
        for what, call in calls(odd).items():
            if what == "zip" and kind == SPARSE:  # copies the file, as it should
                continue
            signal.alarm(CALL_S)
            began = time.monotonic()
            try:
                call()
            except (MlDashError, OSError):  # said
                if kind == "whole":
                    raise
            except HangError:
                print(f"{name} is a {kind}: {what} hangs")
            except BaseException as error:  # noqa: BLE001 - each is a failure
                print(f"{name} is a {kind}: {what} ends in {type(error).__name__}: {error}")
                traceback.print_exc()
            finally:
                signal.alarm(0)
            if len(sys.argv) > 3:
                print(f"{time.monotonic() - began:6.2f} s {name} {what}", file=sys.stderr)
        shutil.rmtree(odd.parents[2])


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), sys.argv[2])
