"""Secrets in log lines are masked here, in the writer, so that the training process's ``log`` costs nothing for it."""

from __future__ import annotations

from typing import Any

from ml_dash.provenance.secrets import KeyLines, mask_values, may_have_secrets
from ml_dash.records.record import Record
from ml_dash.records.values import parse
from ml_dash.storage.documents import to_json


class LogMask:
    """Masks the records of a run's log."""

    def __init__(self) -> None:
        self._keys = KeyLines()

    def mask(self, record: Record) -> bytes:
        """Return the data of a log record with its secrets masked; without secrets it is the same bytes.

        Args:
            record: one of kind ``LOG``. It may come again after a fault, together with those after it.
        """
        is_after_key = self._keys.are_recent(record.sequence)
        # JSON escapes no letter that a sign of a secret has, so its text is looked through as it is.
        if not is_after_key and not may_have_secrets(record.data.decode("utf-8", "replace")):
            return record.data
        line = parse(record.data)
        masked = mask_values(line)
        message = masked.get("message")
        if isinstance(message, str) and "\n" not in message:
            masked["message"] = self._keys.mask(_stream(line), message, record.sequence)
        return record.data if masked == line else to_json(masked)


def _stream(line: dict[str, Any]) -> str:
    """``stdout`` or ``stderr`` for what the program printed; empty for other lines."""
    metadata = line.get("metadata")
    return str(metadata.get("stream", "")) if isinstance(metadata, dict) else ""
