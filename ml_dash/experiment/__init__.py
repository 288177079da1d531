"""One run as a user holds it: made, opened, ended, and the streams that hang on it."""

from __future__ import annotations

from ml_dash.experiment.experiment import Experiment

__all__ = ["Experiment"]
