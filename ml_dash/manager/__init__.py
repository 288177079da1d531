"""The ML manager: runs with a ``config.toml``, a ``metrics.toml`` and, if wanted, a run of wandb."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ml_dash.manager.run import MLRun

if TYPE_CHECKING:
    from ml_dash.manager.project import MLProject

__all__ = ["MLProject", "MLRun"]


def __getattr__(name: str) -> Any:
    if name != "MLProject":  # loaded on use: a program that only makes runs does not need it
        raise AttributeError(f"module 'ml_dash.manager' has no attribute {name!r}")
    from ml_dash.manager.project import MLProject

    globals()[name] = MLProject
    return MLProject
