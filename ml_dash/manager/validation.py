"""The arguments of ``MLRun``, checked before anything is written."""

from __future__ import annotations

import numbers
import os
import sys
import threading
from collections.abc import Mapping
from typing import Any

from ml_dash._paths import absolute_path
from ml_dash.errors import InvalidTypeError, InvalidValueError
from ml_dash.experiment.validation import text, texts
from ml_dash.managed.points import is_flat
from ml_dash.managed.toml_values import decode, encode
from ml_dash.manager.paths import check_segment
from ml_dash.manager.run_info import RESERVED
from ml_dash.manager.wandb_link import FINISH_S, check_options


def checked_config(config: object) -> dict[str, Any]:
    """Return the configuration as it will be read back.

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
    """Return the metrics as they will be read back.

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
    """Return the seconds to wait for wandb.

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
    """Return the folder of all projects as an absolute path.

    Raises:
        InvalidTypeError: it is no path.
        ConfigurationError: it is relative, and the current folder was removed.
    """
    if not isinstance(base_dir, (str, os.PathLike)):
        raise InvalidTypeError(f"base_dir={base_dir!r:.80} must be the path of a folder")
    return absolute_path(os.fsdecode(base_dir), "base_dir")


def checked_options(mode: str | None, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options for ``wandb.init``, with tags as a list.

    Args:
        mode: the mode of wandb; None is its own choice.
        options: by name; ``tags``, ``name``, ``entity`` and ``id`` are checked here, others by wandb.

    Raises:
        InvalidTypeError: one has the wrong type, or its name is unknown.
        InvalidNameError: the id cannot be that of a folder.
    """
    checked = {**options, "tags": texts("tags", options["tags"])}
    for name in ("entity", "name"):
        text(name, options[name])
    if options.get("id") is not None:
        check_segment(options["id"], "id")
    check_options(mode, options)
    return checked
