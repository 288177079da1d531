"""What ``MLRun`` is given, checked before anything is written."""

from __future__ import annotations

import numbers
import os
import sys
import threading
from collections.abc import Mapping
from typing import Any

from ml_dash._paths import absolute_path
from ml_dash.errors import InvalidTypeError, InvalidValueError, StorageError
from ml_dash.experiment.validation import text, texts
from ml_dash.managed.points import is_flat
from ml_dash.managed.toml_values import decode, encode
from ml_dash.manager.about import RESERVED
from ml_dash.manager.paths import check_segment
from ml_dash.manager.wandb_link import FINISH_S, check_options, local_id

ID_TRIES = 10
"""Local ids tried: of 36**8, the second is free already."""


def checked_config(config: object) -> dict[str, Any]:
    """The configuration as it will be read back.

    Raises:
        InvalidTypeError: it is no dict, dataclass or namespace, or a value cannot be stored.
        InvalidValueError: a key is taken, containers nest too deep, or an integer is too long.
    """
    argparse = sys.modules.get("argparse")
    given = vars(config) if argparse is not None and isinstance(config, argparse.Namespace) else config
    values = decode(encode({"config": given}, "MLRun.create")["config"])
    if not isinstance(values, dict):
        raise InvalidTypeError(f"config={config!r:.80} must be a dict, not {type(config).__name__}")
    taken = next((key for key in RESERVED if key in values), None)
    if taken is not None:
        raise InvalidValueError(f"config: the key {taken!r} is for what ml_dash writes into config.toml; rename it")
    return values


def checked_metrics(metrics: object) -> dict[str, Any]:
    """The metrics as they will be read back.

    Raises:
        InvalidTypeError: it is no dict, or a value or key cannot be stored.
        InvalidValueError: containers nest too deep, or an integer is too long.
    """
    if not isinstance(metrics, Mapping):
        raise InvalidTypeError(f"metrics={metrics!r:.80} must be a dict; pass values by name")
    if is_flat(metrics):
        return dict(metrics)
    return {key: decode(value) for key, value in encode(metrics, "metrics").items()}


def checked_timeout(timeout: object) -> float:
    """Seconds to wait for wandb.

    Raises:
        InvalidTypeError: it is no number.
        InvalidValueError: it is negative or NaN.
    """
    if timeout is None:
        return FINISH_S
    if isinstance(timeout, bool) or not isinstance(timeout, numbers.Real):
        raise InvalidTypeError(f"timeout={timeout!r:.80} must be a number of seconds, or None for {FINISH_S:g}")
    seconds: Any = timeout  # a type checker knows no comparison of Real
    if not seconds >= 0:  # NaN neither
        raise InvalidValueError(f"timeout={timeout!r:.80} must be 0 or more seconds, or None for {FINISH_S:g}")
    return float(min(seconds, threading.TIMEOUT_MAX))


def checked_root(base_dir: object) -> str:
    """The folder of all projects as an absolute path.

    Raises:
        InvalidTypeError: it is no path.
        ConfigurationError: it is relative, and the current folder was removed.
    """
    if not isinstance(base_dir, (str, os.PathLike)):
        raise InvalidTypeError(f"base_dir={base_dir!r:.80} must be the path of a folder")
    return absolute_path(os.fsdecode(base_dir), "base_dir")


def checked_options(mode: str | None, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a run: those of wandb, of which some are also ours.

    Args:
        mode: of wandb; None is its own choice.
        options: by name; ``tags``, ``name``, ``entity`` and ``id`` are checked here, others by wandb.

    Raises:
        InvalidTypeError: one has the wrong type, or there is none of that name.
        InvalidNameError: the id cannot be that of a folder.
    """
    checked = {**options, "tags": texts("tags", options["tags"])}
    for name in ("entity", "name"):
        text(name, options[name])
    if options.get("id") is not None:
        check_segment(options["id"], "id")
    check_options(mode, options)
    return checked


def make_folder(path: str) -> None:
    """Make a folder and those above it; one that exists is fine.

    Raises:
        StorageError: it cannot be made.
    """
    try:
        os.makedirs(path, exist_ok=True)
    except OSError as error:
        raise StorageError(error.errno, f"the folder cannot be made: {error.strerror}; check base_dir", path) from None


def run_folder(project: str, run_id: str | None) -> str:
    """Make a run's directory. One of an id that was given may be there: the run is continued.

    Args:
        project: absolute path of the project's folder.
        run_id: the id, or None for one of our own.

    Raises:
        InvalidNameError: the id cannot be that of a folder.
        StorageError: the directory cannot be made.
    """
    for _ in range(ID_TRIES):
        folder = os.path.join(project, check_segment(run_id or local_id(), "id"))
        if run_id is not None or not os.path.exists(folder):
            make_folder(folder)
            return folder
    raise StorageError(17, f"no free id after {ID_TRIES} tries", project)
