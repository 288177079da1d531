"""Make missing, old and damaged columnar copies when the columns of a run that has ended are read.

A run makes its copies when it is closed, unless it is killed first, as at the end of a job. Making a copy takes as long
as reading the journal without one, so the first reader loses nothing, and the next ones are fast.
"""

from __future__ import annotations

import contextlib
import os

from ml_dash.storage import compaction, range_reading
from ml_dash.storage.beneath import regular_size
from ml_dash.storage.compaction import Shape
from ml_dash.storage.liveness import writer_of

SWITCH = "ML_DASH_COLUMNAR_ROWS"
"""Environment variable that switches copies off with 0; its other values are settings of a writer."""

_refused: dict[str, int] = {}
"""Journals for which no copy could be made, with their size at that time; one with too many columns is not tried anew."""


def renew_if_behind(run: str, journal: str, shape: Shape) -> None:
    """Make a journal's copy if it lacks much of the journal.

    Nothing is done for a run that is being written, for a journal or a folder that is another user's, or is reached
    through a link, and with ``ML_DASH_COLUMNAR_ROWS=0``. A copy that cannot be made is no error: the journal is read without one.
    """
    size = regular_size(journal)
    if size < range_reading.LARGE_BYTES:
        return
    coverage = range_reading.coverage_of(journal)
    if coverage is None or size - coverage.size >= range_reading.LARGE_BYTES:
        renew(run, journal, shape)


def renew(run: str, journal: str, shape: Shape) -> None:
    """Make a journal's copy anew, under the same conditions."""
    with contextlib.suppress(Exception):  # any journal can be read without a copy
        is_off = os.environ.get(SWITCH, "").strip() == "0"
        if is_off or not os.access(os.path.dirname(journal), os.W_OK) or writer_of(run):
            return
        size = regular_size(journal)
        if size >= 2 * _refused.get(journal, 0) and not compaction.build_below(run, journal, shape, only_own=True):
            _refused[journal] = size if range_reading.coverage_of(journal) is None else 0
