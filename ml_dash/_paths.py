"""The current folder and absolute paths, also if the current folder was removed."""

from __future__ import annotations

import os

from ml_dash.errors import ConfigurationError


def current_folder() -> str:
    """Return the absolute path of the current folder; the root of the file system if it was removed or cannot be read."""
    try:
        return os.getcwd()
    except OSError:
        return os.sep


def absolute_path(path: str, what: str) -> str:
    """Return the absolute path of a file or a folder.

    Args:
        path: absolute, or relative to the current folder.
        what: its name in the error text.

    Raises:
        ConfigurationError: it is relative, and the current folder was removed or cannot be read.
    """
    try:
        return os.path.abspath(path)
    except OSError as error:
        raise ConfigurationError(
            f"{what}={path!r:.200} is relative, and there is no current folder ({error.strerror}); give an absolute "
            "path, or change to a folder that exists"
        ) from None
