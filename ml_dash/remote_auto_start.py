"""``rdxp``: as ``dxp`` in ``ml_dash.auto_start``, with one prefix for each user: every program continues the same run."""

from __future__ import annotations

from ml_dash.experiment.experiment import Experiment
from ml_dash.experiment.singleton import Singleton

__all__ = ["rdxp"]

rdxp: Experiment = Singleton(prefix="{user}/scratch/rdxp")
"""Its prefix is ``<user>/scratch/rdxp``, its folder ``.dash`` in the current directory."""
