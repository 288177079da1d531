"""A writer process that one metric kills, as a bug in a C library would."""

from __future__ import annotations

import os
import signal

import ml_dash.writer.main
from ml_dash.records.record import Kind
from ml_dash.writer.main import run_on_thread
from ml_dash.writer.records import RecordWriter

__all__ = ["POISON", "main", "run_on_thread"]

POISON = b"poison"

_write = RecordWriter.write


def _write_or_die(self, record, job, batch):
    if record.kind == Kind.METRIC and record.key == POISON:
        os.kill(os.getpid(), signal.SIGSEGV)
    _write(self, record, job, batch)


def main(boot):
    """Run the writer process."""
    RecordWriter.write = _write_or_die
    ml_dash.writer.main.main(boot)
