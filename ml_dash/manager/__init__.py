"""The ML manager: runs with a ``config.toml`` and a ``metrics.toml``, and wandb beside them if it is wanted."""

from ml_dash.manager.run import MLRun

__all__ = ["MLRun"]
