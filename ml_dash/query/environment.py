"""What a run recorded of itself: its process, machine, packages and code."""

from __future__ import annotations

import os
from typing import Any

from ml_dash.storage import layout
from ml_dash.storage.documents import read_raw_document


def read_environment(folder: str) -> dict[str, Any]:
    """environment.json of a run's newest start; an empty dict if there is none.

    Args:
        folder: the run's directory.

    Returns:
        ``process``, ``python``, ``system``, ``gpus``, ``container``, ``packages``, ``code``, ``variables``, ``slurm``,
        ``distributed`` and ``problems``. While ``complete`` is False, only what the training process told is there.
    """
    # Not revived: a host or a branch that reads "NaN" is text.
    return read_raw_document(os.path.join(folder, layout.ENVIRONMENT)) or {}
