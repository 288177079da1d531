"""``dxp``: an experiment without set-up.

    from ml_dash.auto_start import dxp

    with dxp.run:
        dxp.log("started")

It is an ``Experiment``, made when it is first used. Before its first use ``RUN``, ``DASH_PREFIX`` and the current
directory can be changed, and before its start ``dxp.run.prefix``. Starting it again continues its run. If the run is open
when the program ends, it becomes COMPLETED, or FAILED if an exception ended the program.
"""

from __future__ import annotations

from ml_dash.experiment.experiment import Experiment
from ml_dash.experiment.singleton import Singleton

__all__ = ["dxp"]

dxp: Experiment = Singleton()
"""The experiment. Its prefix is that of ``RUN``, its folder ``.dash`` in the current directory."""
