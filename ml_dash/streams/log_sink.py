"""Log lines that come from elsewhere: captured output, records of ``logging``, and the exception that ends a run."""

from __future__ import annotations

import time
from collections.abc import Mapping

from ml_dash.records.record import Kind
from ml_dash.records.values import encode
from ml_dash.streams.base import Owner

_LOG = int(Kind.LOG)
_LEVEL_OF_STREAM = {"stdout": "info", "stderr": "warn"}


class LogSink:
    """Takes lines into the log of a run without printing them.

    Args:
        owner: the experiment.
    """

    def __init__(self, owner: Owner) -> None:
        self._owner = owner

    def keep_record(self, level: str, message: str, metadata: Mapping[str, object], when: float) -> None:
        """Log a line of another time.

        Args:
            level: one of the five, as it is spelt on disk.
            message: the text.
            metadata: values that belong to the line; not empty.
            when: seconds since 1970.

        Raises:
            InvalidTypeError: a value cannot be stored.
            ExperimentError: the experiment is not open.
        """
        started = time.perf_counter_ns()
        data = encode({"level": level, "message": message, "metadata": metadata}, "a log line")
        self._owner.channel.publish(_LOG, b"", data, when, started)

    def keep_printed(self, stream: str, text: str) -> None:
        """Log a line that the program printed to ``stdout`` or ``stderr``. Never raises."""
        try:
            line = {"level": _LEVEL_OF_STREAM[stream], "message": text, "metadata": {"stream": stream}}
            self._owner.channel.publish(_LOG, b"", encode(line, "a log line"), time.time())
        except Exception:  # noqa: BLE001 - the run is closed; the line was printed all the same
            return

    def keep_exception(self, error: BaseException) -> None:
        """Log an exception that ends the run, with its traceback. Never raises."""
        try:
            import traceback  # not in every run

            text = "".join(traceback.format_exception(error)).rstrip()
            self.keep_record("error", text.rsplit("\n", 1)[-1], {"exception": text}, time.time())
        except Exception:  # noqa: BLE001 - the exception has no text of its own; the run's status still names it
            return
