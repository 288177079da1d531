"""Open one run for reading, in whatever state it is, from any process, also while it is written."""

from __future__ import annotations

import datetime
import itertools
import os
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any, Never

from ml_dash._printable import clean
from ml_dash.errors import ExperimentError, InvalidTypeError, MissingFileError
from ml_dash.query.files import FilesReader
from ml_dash.query.frames import FramesReader
from ml_dash.query.logs import LogReader
from ml_dash.query.metrics import MetricsReader
from ml_dash.query.params import ParamsReader
from ml_dash.query.tracks import TracksReader
from ml_dash.storage import reading, scan
from ml_dash.storage.documents import to_datetime
from ml_dash.storage.liveness import is_live
from ml_dash.storage.names import NamesClosest, unknown_keyword

SEARCHED_RUNS = 100_000
"""Runs that are searched for the end of a prefix: more than a tree has, but a bound."""

COMPARED_RUNS = 10_000
"""Names that are compared with one that does not exist, to name the closest ones: a second's work."""

NAMED_RUNS = 3
"""Closest runs that an error names."""

LISTED_RUNS = 5
"""Runs that an error names where several fit."""

_TRACKER_FACTS = ("frames_written", "frames_dropped", "records_refused", "tracker_errors")


class RunReader(NamesClosest):
    """A run opened for reading. Get it from ``ml_dash.open_run`` or ``ml_dash.runs``.

    Every call reads what is on disk at that moment, so a run that is being written can be followed.

    Attributes:
        folder: absolute path of the run's directory.
        prefix: its path below the folder of all runs, ``owner/project/.../name``.
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

    def flush(self, timeout: float | None = None) -> bool:  # noqa: ARG002 - the signature of Source
        """Return True at once: nothing waits in this process."""
        return True

    def document(self) -> dict[str, Any]:
        """Read experiment.json as it is now; an empty dict if it cannot be read."""
        return reading.read_experiment(self.folder)

    def environment(self) -> dict[str, Any]:
        """Read what the run recorded of its code, packages and machine; an empty dict if it recorded nothing."""
        return reading.read_environment(self.folder)

    def health(self) -> dict[str, Any]:
        """Read the tracker's counts: ``frames_written``, ``frames_dropped``, ``records_refused``, ``tracker_errors``."""
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
        """The run's description; None if it has none."""
        return self.document().get("description")

    @property
    def tags(self) -> list[str]:
        """The run's tags; entries that are no text are left out."""
        tags = self.document().get("tags")
        return [tag for tag in tags if isinstance(tag, str)] if isinstance(tags, list) else []

    @property
    def metadata(self) -> Any:
        """The metadata given to ``Experiment``; None if there is none."""
        return self.document().get("metadata")

    @property
    def status(self) -> str | None:
        """``RUNNING``, ``COMPLETED``, ``FAILED`` or ``CANCELLED``; None for a run of a client that keeps no status."""
        return self.document().get("status")

    @property
    def status_reason(self) -> str | None:
        """Why the run failed; None if that is not known."""
        return self.document().get("status_reason")

    @property
    def created_at(self) -> datetime.datetime | None:
        """When the run was first opened."""
        return to_datetime(self.document().get("created_at"))

    @property
    def ended_at(self) -> datetime.datetime | None:
        """When the run ended; None while it runs."""
        return to_datetime(self.document().get("ended_at"))

    @property
    def is_live(self) -> bool:
        """Whether the run is being written: its status is RUNNING, and its heartbeat is less than a minute old."""
        return is_live(self.document())


def open_run(
    path_or_prefix: str | os.PathLike[str], dash_root: str | os.PathLike[str] = ".dash", **unknown: Never
) -> RunReader:
    """Open a run for reading. Nothing is ever written to it.

    Args:
        path_or_prefix: the run's folder, its prefix below ``dash_root``, or the end of a prefix that only one run has:
            ``seed-1`` for ``alice/walker/seed-1``.
        dash_root: folder of all runs.
        **unknown: not accepted; the error names the closest keyword.

    Raises:
        MissingFileError: there is no such run; the text names the closest ones.
        ExperimentError: several runs have that end; the text names them.
        InvalidTypeError: it is no path.
    """
    for name in unknown:
        raise unknown_keyword(name, ("path_or_prefix", "dash_root"), "open_run()")
    if not isinstance(path_or_prefix, (str, os.PathLike)):
        raise InvalidTypeError(f"{path_or_prefix!r:.80} is no path; name a run's folder or its prefix")
    text, root = os.fspath(path_or_prefix), os.path.abspath(os.fspath(dash_root))
    below_root = os.path.join(root, *text.split("/")) if not os.path.isabs(text) else text
    for folder in (below_root, os.path.abspath(text)):
        if scan.is_run(folder):
            is_inside = folder == root or folder.startswith(root + os.sep)
            return RunReader(folder, scan.prefix_of(folder, root) if is_inside else _recorded_prefix(folder))
    prefixes = [scan.prefix_of(run, root) for run in itertools.islice(scan.find_runs(root), SEARCHED_RUNS)]
    matches = ending_in(text, prefixes)
    if len(matches) > 1:
        names = _listed([*map(clean, matches)])
        raise ExperimentError(f"{len(matches)} runs end in {text!r}: {names}; name one in full")
    if not matches:
        raise MissingFileError(_not_found_text(text, root, prefixes))
    return RunReader(os.path.join(root, *matches[0].split("/")), matches[0])


def ending_in(text: str, prefixes: Iterable[str]) -> list[str]:
    """Return the prefixes with these last segments: ``seed-1`` and ``walker/seed-1`` are ends of ``a/walker/seed-1``."""
    end = text.rstrip("/")
    return [prefix for prefix in prefixes if prefix.endswith(f"/{end}")] if end and not os.path.isabs(text) else []


def near_prefixes(text: str, prefixes: Sequence[str]) -> list[str]:
    """Return up to three prefixes for an error text: those like ``text``, else the first ones."""
    import difflib

    prefixes = prefixes[:COMPARED_RUNS]
    names = {prefix.rsplit("/", 1)[-1]: prefix for prefix in reversed(prefixes)}
    close = difflib.get_close_matches(text, dict.fromkeys([*prefixes, *names]), n=NAMED_RUNS, cutoff=0.4)
    return list(dict.fromkeys(names.get(match, match) for match in close or prefixes))[:NAMED_RUNS]


def _recorded_prefix(folder: str) -> str:
    prefix = reading.read_experiment(folder).get("prefix")
    # The published client kept a leading slash.
    return (prefix.strip("/") if isinstance(prefix, str) else "") or os.path.basename(folder)


def _not_found_text(text: str, root: str, prefixes: list[str]) -> str:
    if not prefixes:
        return f"no runs below {root!r}, so there is no run {text!r}; name another folder of runs, or the run's folder"
    below = [prefix for prefix in prefixes if prefix.startswith(f"{text.strip('/')}/")]
    if below:
        return f"{text!r} is no run, but {_listed([*map(repr, below)])} below it"
    near = near_prefixes(text, prefixes)
    more = f", and {len(prefixes) - len(near):,} more" if len(prefixes) > len(near) else ""
    return f"there is no run {text!r} below {root!r}; there is {', '.join(map(repr, near))}{more}"


def _listed(prefixes: list[str]) -> str:
    more = f" and {len(prefixes) - LISTED_RUNS:,} more" if len(prefixes) > LISTED_RUNS else ""
    return ", ".join(prefixes[:LISTED_RUNS]) + more
