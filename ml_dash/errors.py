"""Every exception that ml_dash raises.

Each one is also the builtin exception that fits, so that code without ml_dash can catch it::

    MlDashError(Exception)
    ├── ConfigurationError        (ValueError)         a setting or an environment variable is wrong
    ├── InvalidNameError          (ValueError)         a prefix, topic, metric name or file path is wrong
    ├── InvalidValueError         (ValueError)         an argument has a value that cannot be used
    ├── InvalidTypeError          (TypeError)          an argument has a type that cannot be used
    ├── ExperimentError           (RuntimeError)       the experiment is not open, or not in the right state
    │   └── NotOpenError          (AttributeError)     a stream of an experiment that is not open
    ├── StorageError              (OSError)            the run's directory cannot be read or written
    │   ├── MissingFileError      (FileNotFoundError)  a file or a run does not exist
    │   └── MissingEntryError     (KeyError)           a track has no row at the given time
    ├── MissingExtraError         (ImportError)        an optional package is not installed
    ├── NetworkError              (ConnectionError)    the server could not be reached
    └── AuthenticationError       (PermissionError)    the server does not accept the credentials
"""

from __future__ import annotations


class MlDashError(Exception):
    """The base of every exception of this package."""


class ConfigurationError(MlDashError, ValueError):
    """A setting or an environment variable has a value that cannot be used."""


class InvalidNameError(MlDashError, ValueError):
    """A prefix, topic, metric name or file path cannot be used as a path on disk."""


class InvalidValueError(MlDashError, ValueError):
    """An argument has a value that cannot be used."""


class InvalidTypeError(MlDashError, TypeError):
    """An argument has a type that cannot be used, or a keyword is not known."""


class ExperimentError(MlDashError, RuntimeError):
    """The experiment is not open, or not in the state that the call requires."""


class NotOpenError(ExperimentError, AttributeError):
    """A stream, such as ``exp.params``, was asked for while the experiment is not open: it has none then."""


class StorageError(MlDashError, OSError):
    """The run's directory cannot be read or written."""


class MissingFileError(StorageError, FileNotFoundError):
    """A file or a run does not exist."""


class MissingEntryError(StorageError, KeyError):
    """A track has no row at the given time."""


class MissingExtraError(MlDashError, ImportError):
    """An optional package is not installed; the message has the command that installs it."""


class NetworkError(MlDashError, ConnectionError):
    """The server cannot be reached, or gave an invalid answer."""


class AuthenticationError(MlDashError, PermissionError):
    """The server does not accept the credentials, or there are none."""
