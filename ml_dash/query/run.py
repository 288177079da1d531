"""One run, read only: whatever state it is in, from any process, also while it is written."""

from __future__ import annotations

import datetime
import itertools
import os
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any

from ml_dash.errors import ExperimentError, InvalidTypeError, MissingFileError
from ml_dash.query.environment import read_environment
from ml_dash.query.files import FilesReader
from ml_dash.query.frames import FramesReader
from ml_dash.query.logs import LogReader
from ml_dash.query.metrics import MetricsReader
from ml_dash.query.params import ParamsReader
from ml_dash.query.tracks import TracksReader
from ml_dash.storage import reading, scan
from ml_dash.storage.documents import to_datetime
from ml_dash.storage.liveness import is_live

SEARCHED_RUNS = 100_000
"""How many runs are looked at for one that ends in what was given: more than a tree has, and a bound all the same."""

COMPARED_RUNS = 10_000
"""How many names are compared with one that is not there: a second's work, for a message."""

NAMED_RUNS = 3
"""Runs that such a message names."""

LISTED_RUNS = 5
"""Runs that are named where several end in what was given."""

_TRACKER_FACTS = ("frames_written", "frames_dropped", "records_refused", "tracker_errors")


class RunReader:
    """A run that is only read. Get it from ``ml_dash.open_run`` or ``ml_dash.runs``.

    Every call reads what is on disk at that moment, so a run that is being written can be followed.

    Attributes:
        folder: absolute path of the run's directory.
        prefix: its place below the root, ``owner/project/.../name``.
    """

    def __init__(self, folder: str, prefix: str) -> None:
        self.folder = folder
        self.prefix = prefix

    def __repr__(self) -> str:
        return f"<run {self.prefix!r} in {self.folder!r}>"

    @cached_property
    def logs(self) -> LogReader:
        """The log: ``run.logs.read(level="error")``."""
        return LogReader(self)

    @cached_property
    def params(self) -> ParamsReader:
        """The parameters: ``run.params.get()``."""
        return ParamsReader(self)

    @cached_property
    def metrics(self) -> MetricsReader:
        """The metrics: ``run.metrics("train").read()``."""
        return MetricsReader(self)

    @cached_property
    def tracks(self) -> TracksReader:
        """The tracks: ``run.tracks("robot/pose").slice(0, 10)``."""
        return TracksReader(self)

    @cached_property
    def files(self) -> FilesReader:
        """The files: ``run.files.list("*.png")``."""
        return FilesReader(self)

    @cached_property
    def frames(self) -> FramesReader:
        """The frame streams: ``run.frames("camera").read(0)``."""
        return FramesReader(self)

    def flush(self, timeout: float | None = None) -> bool:  # noqa: ARG002 - a source's signature
        """Nothing waits in this process."""
        return True

    def document(self) -> dict[str, Any]:
        """experiment.json as it is now; empty if it cannot be read."""
        return reading.read_experiment(self.folder)

    def environment(self) -> dict[str, Any]:
        """What the run recorded of its surroundings: code, packages, machine; empty if it did not."""
        return read_environment(self.folder)

    def health(self) -> dict[str, Any]:
        """What the tracker counted: frames written and dropped, records refused, errors."""
        document = self.document()
        return {name: document.get(name, 0) for name in _TRACKER_FACTS}

    @property
    def name(self) -> str:
        """The prefix's last segment."""
        return self.prefix.rsplit("/", 1)[-1]

    @property
    def owner(self) -> str | None:
        """The prefix's first segment; None if it has only one."""
        return self.prefix.split("/", 1)[0] if "/" in self.prefix else None

    @property
    def project(self) -> str | None:
        """The project as it was given, normally the prefix's second segment."""
        segments = self.prefix.split("/")
        return self.document().get("project") or (segments[1] if len(segments) > 1 else None)

    @property
    def readme(self) -> str | None:
        """What the run is about."""
        return self.document().get("description")

    @property
    def tags(self) -> list[str]:
        """Words to find it by."""
        tags = self.document().get("tags")
        return [tag for tag in tags if isinstance(tag, str)] if isinstance(tags, list) else []

    @property
    def metadata(self) -> Any:
        """Anything more that was given."""
        return self.document().get("metadata")

    @property
    def status(self) -> str | None:
        """``RUNNING``, ``COMPLETED``, ``FAILED`` or ``CANCELLED``; None where a client wrote it that keeps no status."""
        return self.document().get("status")

    @property
    def status_reason(self) -> str | None:
        """Why it failed, as far as that is known."""
        return self.document().get("status_reason")

    @property
    def created_at(self) -> datetime.datetime | None:
        """When the run was first opened."""
        return to_datetime(self.document().get("created_at"))

    @property
    def ended_at(self) -> datetime.datetime | None:
        """When it ended; None while it runs."""
        return to_datetime(self.document().get("ended_at"))

    @property
    def is_live(self) -> bool:
        """Whether somebody writes it now: it says so, and has said so within the last minute."""
        return is_live(self.document())


def open_run(path_or_prefix: str | os.PathLike[str], dash_root: str | os.PathLike[str] = ".dash") -> RunReader:
    """Open a run for reading. Nothing is ever written to it.

    Args:
        path_or_prefix: the run's folder, its prefix below ``dash_root``, or the end of a prefix that only one run has:
            ``seed-1`` for ``alice/walker/seed-1``.
        dash_root: folder of all runs.

    Raises:
        MissingFileError: there is no such run; the text names the closest ones.
        ExperimentError: several runs end in that; the text names them.
        InvalidTypeError: it is no path.
    """
    if not isinstance(path_or_prefix, (str, os.PathLike)):
        raise InvalidTypeError(f"{path_or_prefix!r:.80} is no path; name a run's folder or its prefix")
    text, root = os.fspath(path_or_prefix), os.path.abspath(os.fspath(dash_root))
    folder = os.path.join(root, *text.split("/")) if not os.path.isabs(text) else text
    for place in (folder, os.path.abspath(text)):
        if scan.is_run(place):
            inside = place == root or place.startswith(root + os.sep)
            return RunReader(place, scan.prefix_of(place, root) if inside else _own_prefix(place))
    known = [scan.prefix_of(run, root) for run in itertools.islice(scan.find_runs(root), SEARCHED_RUNS)]
    ending = ending_in(text, known)
    if len(ending) > 1:
        raise ExperimentError(f"{len(ending)} runs end in {text!r}: {_listed(ending)}; name one in full")
    if not ending:
        raise MissingFileError(_not_there(text, root, known))
    return RunReader(os.path.join(root, *ending[0].split("/")), ending[0])


def ending_in(text: str, prefixes: Iterable[str]) -> list[str]:
    """The prefixes whose last segments are these: ``seed-1`` and ``walker/seed-1`` are ends of ``a/walker/seed-1``."""
    end = text.rstrip("/")
    return [prefix for prefix in prefixes if prefix.endswith(f"/{end}")] if end and not os.path.isabs(text) else []


def near_prefixes(text: str, known: Sequence[str]) -> list[str]:
    """The few prefixes that somebody who wrote this may have meant: those below it, those like it, or the first ones."""
    import difflib

    known = known[:COMPARED_RUNS]
    below = [prefix for prefix in known if prefix.startswith(f"{text.strip('/')}/")]
    names = {prefix.rsplit("/", 1)[-1]: prefix for prefix in reversed(known)}
    close = below or difflib.get_close_matches(text, dict.fromkeys([*known, *names]), n=NAMED_RUNS, cutoff=0.4)
    return list(dict.fromkeys(names.get(match, match) for match in close or known))[:NAMED_RUNS]


def _own_prefix(folder: str) -> str:
    prefix = reading.read_experiment(folder).get("prefix")
    # The published client kept a leading slash.
    return (prefix.strip("/") if isinstance(prefix, str) else "") or os.path.basename(folder)


def _not_there(text: str, root: str, known: list[str]) -> str:
    if not known:
        return f"there is no run {text!r}, and none at all below {root!r}; name dash_root= or the run's folder"
    return f"there is no run {text!r} below {root!r}; there is {', '.join(map(repr, near_prefixes(text, known)))}"


def _listed(prefixes: list[str]) -> str:
    more = f" and {len(prefixes) - LISTED_RUNS:,} more" if len(prefixes) > LISTED_RUNS else ""
    return ", ".join(prefixes[:LISTED_RUNS]) + more
