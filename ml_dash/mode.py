"""``OperationMode``: the places that a run can go to."""

from __future__ import annotations

import enum


class OperationMode(enum.StrEnum):
    """Where a run goes."""

    LOCAL = "local"
    REMOTE = "remote"
    HYBRID = "hybrid"
