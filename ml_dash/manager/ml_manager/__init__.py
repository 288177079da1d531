"""The package ``ml_manager`` of an installed ml-dash: programs written for ML Manager import ``MLRun`` from it.

The build moves this folder beside ``ml_dash`` (force-include in pyproject.toml).
"""

from ml_dash.manager import MLProject, MLRun

__all__ = ["MLProject", "MLRun"]
