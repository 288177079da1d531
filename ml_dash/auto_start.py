"""``dxp``: an experiment without set-up.

    from ml_dash.auto_start import dxp

    with dxp.run:
        dxp.log("started")

It is an ordinary ``Experiment``, made at its first use: until then ``RUN``, ``DASH_PREFIX`` and the current directory can
be changed, and until it is started ``dxp.run.prefix``. To start it again continues its run. A run that is open when the
program ends becomes completed, or failed if an exception ended the program.
"""

from __future__ import annotations

from ml_dash.experiment.experiment import Experiment
from ml_dash.experiment.singleton import Singleton

__all__ = ["dxp"]

dxp: Experiment = Singleton()
"""An experiment with the prefix of ``RUN``, in ``.dash`` in the current directory."""
