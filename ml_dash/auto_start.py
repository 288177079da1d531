"""``dxp``: an experiment that needs no set-up.

    from ml_dash.auto_start import dxp

    with dxp.run:
        dxp.log("started")

It is an ``Experiment`` like any other, made when it is first used: until then ``RUN``, ``DASH_PREFIX`` and the current
directory can be changed, and until it is started ``dxp.run.prefix``. It can be started again, which continues its run.
A run that is open when the program ends is completed, or failed if an exception ended it.
"""

from __future__ import annotations

from ml_dash.experiment.experiment import Experiment
from ml_dash.experiment.singleton import Singleton

__all__ = ["dxp"]

dxp: Experiment = Singleton()
"""Its prefix is that of ``RUN``, its folder ``.dash`` in the current directory."""
