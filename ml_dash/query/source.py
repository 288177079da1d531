"""What a reader needs to know of the run it reads."""

from __future__ import annotations

from typing import Protocol


class Source(Protocol):
    """A run's directory. An open experiment is one, and so is a run that is only read.

    Attributes:
        folder: absolute path of the run's directory.
    """

    folder: str

    def flush(self, timeout: float | None = None) -> bool:
        """Wait until everything published so far is on disk; does nothing for a run of another process."""
