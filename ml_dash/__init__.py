"""ml_dash: an experiment tracker that costs the training process one copy.

    with Experiment("alice/walker/run-1").run as exp:
        exp.log("started")
        exp.metrics("train").log(loss=0.7, step=1)

Each name is imported at its first use, so that importing the package stays cheap.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ml_dash._version import __version__
    from ml_dash.catalog.runs import runs
    from ml_dash.errors import (
        AuthenticationError,
        ConfigurationError,
        ExperimentError,
        InvalidNameError,
        InvalidTypeError,
        InvalidValueError,
        MissingEntryError,
        MissingExtraError,
        MissingFileError,
        MlDashError,
        NetworkError,
        NotOpenError,
        StorageError,
    )
    from ml_dash.experiment.experiment import Experiment, OperationMode, ml_dash_experiment
    from ml_dash.manager import MLProject, MLRun
    from ml_dash.query.run import open_run
    from ml_dash.run.namespace import RUN
    from ml_dash.settings import BufferConfig
    from ml_dash.streams.logs import LogBuilder, LogLevel

_HOME = {
    "AuthenticationError": "errors",
    "BufferConfig": "settings",
    "ConfigurationError": "errors",
    "Experiment": "experiment.experiment",
    "ExperimentError": "errors",
    "InvalidNameError": "errors",
    "InvalidTypeError": "errors",
    "InvalidValueError": "errors",
    "LogBuilder": "streams.logs",
    "LogLevel": "streams.logs",
    "MLProject": "manager",
    "MLRun": "manager",
    "MissingEntryError": "errors",
    "MissingExtraError": "errors",
    "MissingFileError": "errors",
    "NotOpenError": "errors",
    "MlDashError": "errors",
    "NetworkError": "errors",
    "OperationMode": "experiment.experiment",
    "RUN": "run.namespace",
    "StorageError": "errors",
    "__version__": "_version",
    "ml_dash_experiment": "experiment.experiment",
    "open_run": "query.run",
    "runs": "catalog.runs",
}

__all__ = [
    "RUN",
    "AuthenticationError",
    "BufferConfig",
    "ConfigurationError",
    "Experiment",
    "ExperimentError",
    "InvalidNameError",
    "InvalidTypeError",
    "InvalidValueError",
    "LogBuilder",
    "LogLevel",
    "MLProject",
    "MLRun",
    "MissingEntryError",
    "MissingExtraError",
    "MissingFileError",
    "MlDashError",
    "NetworkError",
    "NotOpenError",
    "OperationMode",
    "StorageError",
    "__version__",
    "ml_dash_experiment",
    "open_run",
    "runs",
]


def __getattr__(name: str) -> Any:
    home = _HOME.get(name)
    if home is None:
        raise _missing_attribute(name)
    value = getattr(import_module(f"ml_dash.{home}"), name)
    globals()[name] = value
    return value


def _missing_attribute(name: str) -> AttributeError:
    import os

    module = os.path.join(__path__[0], name)
    if os.path.exists(module) or os.path.exists(f"{module}.py"):  # an import looks here first
        return AttributeError(f"module 'ml_dash' has no attribute {name!r}")
    from ml_dash.storage.names import missing_attribute

    return missing_attribute("module 'ml_dash'", name, __all__)


def __dir__() -> list[str]:
    return sorted(__all__)
