"""The experiment: making, opening and ending a run, and its streams."""

from __future__ import annotations

from ml_dash.experiment.experiment import Experiment

__all__ = ["Experiment"]
