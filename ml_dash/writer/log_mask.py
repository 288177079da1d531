"""Mask the secrets in log lines. The writer does it, so that ``log`` takes no longer in the training process."""

from __future__ import annotations

from typing import Any

from ml_dash.provenance.private_keys import KeyLines
from ml_dash.provenance.secrets import MASK, mask_values, may_have_secrets
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
            record: a record of kind ``LOG``. After a fault, it and the later ones may be masked again.
        """
        is_after_key = self._keys.are_recent(record.sequence)
        # JSON escapes no character of a hint, so the encoded text can be searched.
        if not is_after_key and not may_have_secrets(record.data.decode("utf-8", "replace")):
            return record.data
        line = parse(record.data)
        masked = mask_values(line)
        message = masked.get("message")
        if isinstance(message, str) and "\n" not in message:
            masked["message"] = self._keys.mask(_stream(line), message, record.sequence, MASK)
        return record.data if masked == line else to_json(masked)


def _stream(line: dict[str, Any]) -> str:
    """``stdout`` or ``stderr`` for what the program printed; empty for other lines."""
    metadata = line.get("metadata")
    return str(metadata.get("stream", "")) if isinstance(metadata, dict) else ""
