"""``RUN``: the settings that make the prefix of a run."""

from __future__ import annotations

from ml_dash.run.namespace import RUN

__all__ = ["RUN"]
