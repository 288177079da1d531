"""Columnar copies that are missing, too old or damaged are made by whoever reads columns of a run that has ended.

A run makes them itself when it is closed, unless it is killed first, as at the end of a job. To make a copy takes as
long as to read the journal without one, so the first reader loses nothing and the next ones are fast.
"""

from __future__ import annotations

import contextlib
import os

from ml_dash.storage import compaction, range_reading
from ml_dash.storage.compaction import Shape
from ml_dash.storage.liveness import writer_of

SWITCH = "ML_DASH_COLUMNAR_ROWS"
"""The variable that switches copies off with 0; other values are a matter of those who write."""

_refused: dict[str, int] = {}
"""Journals that get no copy, with their size then: those with too many columns are not read through each time for it."""


def renew_if_behind(run: str, journal: str, shape: Shape) -> None:
    """Make a journal's copy if much of the journal is not in it.

    Nothing is done for a run that is being written, in a folder that we cannot write to, and with
    ``ML_DASH_COLUMNAR_ROWS=0``. Whatever goes wrong, the journal is read as if there were no copy.
    """
    if _is_behind(journal):
        renew(run, journal, shape)


def renew(run: str, journal: str, shape: Shape) -> None:
    """The same for a copy that is known to be damaged or too old."""
    with contextlib.suppress(Exception):  # whatever is odd about a journal, it is read without a copy
        if not _may_make(run, journal):
            return
        size = os.path.getsize(journal)
        if size >= 2 * _refused.get(journal, 0) and not compaction.build(journal, shape):
            _refused[journal] = size if range_reading.coverage_of(journal) is None else 0


def _may_make(run: str, journal: str) -> bool:
    is_off = os.environ.get(SWITCH, "").strip() == "0"
    return not is_off and os.access(os.path.dirname(journal), os.W_OK) and not writer_of(run)


def _is_behind(journal: str) -> bool:
    try:
        size = os.path.getsize(journal)
    except OSError:
        return False
    if size < range_reading.LARGE_BYTES:
        return False
    coverage = range_reading.coverage_of(journal)
    return coverage is None or size - coverage.size >= range_reading.LARGE_BYTES
