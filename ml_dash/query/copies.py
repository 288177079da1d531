"""Columnar copies that are missing, too old or damaged are made by whoever reads columns of a run that has ended.

A run makes them itself when it is closed, unless it is killed first, as at the end of a job. To make a copy takes as
long as to read the journal without one, so the first reader loses nothing and the next ones are fast.
"""

from __future__ import annotations

import contextlib
import os

from ml_dash.buffer import BufferConfig
from ml_dash.query.liveness import writer_of
from ml_dash.storage import compaction, windows
from ml_dash.storage.compaction import Shape


def renew_if_behind(run: str, journal: str, shape: Shape) -> None:
    """Make a journal's copy if much of the journal is not in it.

    Nothing is done for a run that is being written, in a folder that we cannot write to, and with
    ``ML_DASH_COLUMNAR_ROWS=0``. Whatever goes wrong, the journal is read as if there were no copy.
    """
    if _is_behind(journal):
        renew(run, journal, shape)


def renew(run: str, journal: str, shape: Shape) -> None:
    """The same for a copy that is known to be damaged or too old."""
    if not os.access(os.path.dirname(journal), os.W_OK) or not BufferConfig.from_env().columnar_rows or writer_of(run):
        return
    with contextlib.suppress(OSError):
        compaction.build(journal, shape)


def _is_behind(journal: str) -> bool:
    try:
        size = os.path.getsize(journal)
    except OSError:
        return False
    if size < windows.LARGE_BYTES:
        return False
    coverage = windows.coverage_of(journal)
    return coverage is None or size - coverage.size >= windows.LARGE_BYTES
