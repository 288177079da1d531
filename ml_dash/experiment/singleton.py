"""An experiment that is made at its first use, for ``dxp`` and ``rdxp``."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from ml_dash import _fork
from ml_dash.experiment.experiment import Experiment

ASKED_BY_TOOLS = ("__", "_ipython_", "_repr_", "_pytest")
"""Beginnings of attribute names that Python, notebooks and test runners read from any object: not a first use."""


class Singleton(Experiment):
    """An experiment that is made when it is first used, from the settings at that time.

    Before that it reads neither ``RUN``, nor the environment, the current directory or the path of the script. The
    first start prints on stderr where the run is recorded, since the user has named no folder.

    Args:
        **settings: as for ``Experiment``.
    """

    _making = threading.RLock()

    def __init__(self, **settings: Any) -> None:
        self._settings = settings

    if not TYPE_CHECKING:  # as in Experiment: type checkers know the attributes from there

        def __getattr__(self, name: str) -> Any:
            if not name.startswith(ASKED_BY_TOOLS):
                self._make()
                if name in self.__dict__:
                    return self.__dict__[name]
            return super().__getattr__(name)

    def __repr__(self) -> str:
        return super().__repr__() if "run" in self.__dict__ else "Experiment(not used yet)"

    def _make(self) -> None:
        with Singleton._making:
            if "session" not in self.__dict__:
                assigned = dict(self.__dict__)  # such as `dxp.tags = ["baseline"]`
                super().__init__(**self._settings)
                self.__dict__.update(assigned)
                self.session.announces_folder = True

    @classmethod
    def _after_fork_in_child(cls) -> None:
        # Another thread may have held it.
        cls._making = threading.RLock()


_fork.call_in_child(Singleton._after_fork_in_child)  # noqa: SLF001 - classes of one module
