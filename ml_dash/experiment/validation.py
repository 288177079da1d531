"""Checks and older names of the arguments of `Experiment`."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ml_dash._paths import absolute_path
from ml_dash.errors import ConfigurationError, InvalidTypeError
from ml_dash.records.values import to_plain
from ml_dash.run.fields import SETTINGS
from ml_dash.storage.names import closest, unknown_keyword

SPOOL = "~/.dash/spool"
"""Folder of runs with ``dash_root=None``; the published client keeps its token in ``~/.dash``."""

_OLDER_NAMES = {"remote": "dash_url", "local_path": "dash_root"}
_MANAGED = frozenset({"managed", "job_lifecycle"})
_FROM_PREFIX = {"name": "last", "owner": "first"}
_PARAMETERS = frozenset({"params", "parameters", "config", "hparams", "hyperparameters"})


def renamed(run_params: dict[str, Any], dash_url: Any, dash_root: Any, default_root: str) -> tuple[Any, Any]:
    """Take the older names of ``dash_url`` and ``dash_root`` out of the keywords; the newer names take precedence.

    Returns:
        ``dash_url`` and ``dash_root``.
    """
    older = {name: run_params.pop(name) for name in _OLDER_NAMES if name in run_params}
    for name in older:
        import warnings

        warnings.warn(f"{name}= is now called {_OLDER_NAMES[name]}=", DeprecationWarning, stacklevel=3)
    url = dash_url if dash_url is not None else older.get("remote")
    root = older["local_path"] if dash_root == default_root and older.get("local_path") is not None else dash_root
    return url, root


def check_url(dash_url: object) -> str | bool | None:
    """Return ``dash_url`` as it was given, or None for False and an empty text.

    Raises:
        InvalidTypeError: it is neither text, bool nor None.
    """
    if dash_url is None or isinstance(dash_url, (bool, str)):
        return dash_url or None
    raise InvalidTypeError(f"dash_url={dash_url!r:.80} must be an address, such as 'https://dash.example', or None")


def check_keywords(run_params: Mapping[str, Any], arguments: Iterable[str]) -> None:
    """Refuse a keyword that is neither an argument nor a setting of ``RUN``.

    Raises:
        InvalidTypeError: there is one; the text names the closest known keyword, or all arguments.
    """
    unknown = next((name for name in run_params if name not in SETTINGS), None)
    if unknown in _MANAGED and run_params[unknown] is not None:
        raise InvalidTypeError(f"{unknown}=: there are no managed jobs in this version; leave it out")
    part = next((name for name in run_params if name in _FROM_PREFIX), None)
    if part is not None:
        raise InvalidTypeError(f"{part}=: it is the {_FROM_PREFIX[part]} segment of the prefix; set it there")
    if unknown in _PARAMETERS:
        raise InvalidTypeError(f"{unknown}=: use exp.params.set(...) once the run is open")
    if unknown is not None:
        own = {name for name in arguments if name not in ("self", "run_params")}
        known = own.union(SETTINGS)
        raise unknown_keyword(unknown, known if closest(unknown, known) else own, "Experiment()")


def texts(what: str, values: Sequence[str] | None) -> list[str] | None:
    """Return a list of strings, or None.

    Raises:
        InvalidTypeError: it is something else; ``what`` names it.
    """
    if values is None:
        return None
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise InvalidTypeError(f"{what}={values!r:.80} must be a list of strings")
    texts = list(values)
    if not all(isinstance(text, str) for text in texts):
        raise InvalidTypeError(f"{what}={values!r:.80} must be a list of strings")
    return texts


def text(what: str, value: object) -> str | None:
    """Return text or None unchanged.

    Raises:
        InvalidTypeError: it is something else; ``what`` names it.
    """
    if value is None or isinstance(value, str):
        return value
    raise InvalidTypeError(f"{what}={value!r:.80} must be text, not {type(value).__name__}")


def checked_metadata(metadata: object) -> Any:
    """Return a dict as JSON can hold it, or None.

    Raises:
        InvalidTypeError: it is no dict, or a value cannot be stored.
    """
    if metadata is None:
        return None
    if not isinstance(metadata, Mapping):
        raise InvalidTypeError(f"metadata={metadata!r:.80} must be a dict; pass names and values")
    return to_plain(metadata, "metadata")


def root_for(dash_root: object, dash_url: str | bool | None) -> str:
    """Return the absolute path of the folder of all runs; of ``SPOOL`` if there is a server and no folder.

    Raises:
        ConfigurationError: there is neither a folder nor a server, or the name cannot be that of a folder.
        InvalidTypeError: ``dash_root`` is no path.
    """
    if dash_root is not None:
        return checked_root(dash_root)
    if dash_url is None:
        raise ConfigurationError(
            "dash_root=None leaves no place to record to: name a folder, such as '.dash', or a server with dash_url="
        )
    return checked_root(os.path.expanduser(SPOOL))


def checked_root(dash_root: object) -> str:
    """Return the absolute path of the folder of all runs; errors as ``root_for``."""
    if not isinstance(dash_root, (str, bytes, os.PathLike)):
        raise InvalidTypeError(f"dash_root={dash_root!r:.80} must be the path of a folder")
    text = os.fsdecode(dash_root)
    if "\0" in text:
        raise ConfigurationError(f"dash_root={dash_root!r:.80} has a NUL character; no folder can have that name")
    return absolute_path(text, "dash_root")


def with_project(prefix: str | None, run_params: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of ``RUN``: ``project="p", prefix="name"`` is the prefix ``p/name``."""
    project = run_params.get("project")
    if prefix is not None and project and "/" not in prefix and "{" not in prefix:
        prefix = f"{project}/{prefix}"
    return run_params if prefix is None else {**run_params, "prefix": prefix}
