"""``rdxp``: like ``dxp`` of ``ml_dash.auto_start``, but all programs of a user continue the same run."""

from __future__ import annotations

from ml_dash.experiment.experiment import Experiment
from ml_dash.experiment.singleton import Singleton

__all__ = ["rdxp"]

rdxp: Experiment = Singleton(prefix="{user}/scratch/rdxp")
"""The experiment. Its prefix is ``<user>/scratch/rdxp``, its folder ``.dash`` in the current directory."""
