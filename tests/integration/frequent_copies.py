"""A writer process that copies the streams of an open run into columns every 20 000 rows instead of every million.

`ml_dash.ipc.launch.WRITER_ENTRY` names this module in a test.
"""

from __future__ import annotations

import ml_dash.writer.main
from ml_dash.writer import columnar
from ml_dash.writer.main import run_on_thread

__all__ = ["ROWS", "main", "run_on_thread"]

ROWS = 20_000


def main(boot):
    """The entry of the writer process."""
    columnar.ROWS_BETWEEN = ROWS
    ml_dash.writer.main.HEARTBEAT_S = 0.1  # it looks for streams to copy at each heartbeat
    ml_dash.writer.main.main(boot)
