"""``rdxp``: as ``dxp`` in ``ml_dash.auto_start``, with one run for each user, which every program continues."""

from __future__ import annotations

from ml_dash.experiment.experiment import Experiment
from ml_dash.experiment.singleton import Singleton

__all__ = ["rdxp"]

rdxp: Experiment = Singleton(prefix="{user}/scratch/rdxp")
"""An experiment with the prefix ``<user>/scratch/rdxp``, in ``.dash`` in the current directory."""
