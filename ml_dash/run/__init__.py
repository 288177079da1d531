"""``RUN``: where the prefix of a run comes from."""

from __future__ import annotations

from ml_dash.run.namespace import RUN

__all__ = ["RUN"]
