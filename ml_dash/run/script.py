"""Find the script that is run, its project, and its path in the project."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from types import FrameType

from ml_dash._paths import current_folder

UNNAMED = "scratch"
"""Name of an entry without one, at the root of the file system."""

PROJECT_MARKERS = ("pyproject.toml", "requirements.txt", "setup.py", "setup.cfg")
"""Files in the root of a project; `.git` marks one only if no parent has one of these."""

CONTAINER_FOLDERS = frozenset({"experiments", "exps", "scripts"})
"""Folders of a project's scripts, left out at the start of `path_stem` because they say nothing there."""

# Not resolved: a frame has the file name with which its module was imported.
_PACKAGE = os.path.dirname(os.path.dirname(__file__)) + os.sep
_STANDARD_LIBRARY = os.path.dirname(os.__file__) + os.sep
_INSTALLED = frozenset({"site-packages", "dist-packages"})


def find_project_root(start: str | os.PathLike[str] | None = None, verbose: bool = False) -> str:
    """Return the absolute path of the project that holds `start`.

    It is the nearest parent (or `start` itself) with a pyproject.toml, requirements.txt, setup.py or setup.cfg; without
    one, the nearest with a `.git`; without that, the current directory.

    Args:
        start: a file or a folder; default the current directory.
        verbose: whether to print the result to stderr.
    """
    origin = current_folder() if start is None else os.path.abspath(start)
    root = marked_root(origin)
    if verbose:
        message = f"project root: {root}" if root else f"no project root above {origin}, using the current directory"
        sys.stderr.write(f"[ml-dash] {message}\n")
    return root or current_folder()


def marked_root(start: str) -> str | None:
    """Return the nearest folder from ``start`` upwards that is marked as the root of a project, or None."""
    for markers in (PROJECT_MARKERS, (".git",)):
        for folder in (start, *_parents(start)):
            # In a folder that cannot be read, os.path.exists is False, not an error.
            if any(os.path.exists(os.path.join(folder, marker)) for marker in markers):
                return folder
    return None


def _parents(path: str) -> Iterator[str]:
    while (parent := os.path.dirname(path)) != path:
        yield parent
        path = parent


def _parts(path: str) -> list[str]:
    return [part for part in path.split(os.sep) if part]


def find_entry() -> str:
    """Return the absolute path of the user's script.

    It is the file of the nearest stack frame outside of ml_dash, the standard library and installed packages; without
    such a frame (a thread has its own stack) the file of `__main__`; in a notebook, a REPL, `python -c` or stdin the
    current directory.
    """
    main_file = getattr(sys.modules.get("__main__"), "__file__", None) or ""
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001 - the only cheap way to the caller's frame
    while frame is not None:
        path = frame.f_code.co_filename
        if _is_users(path):
            return os.path.abspath(path)
        if not main_file and frame.f_globals.get("__name__") == "__main__":
            break  # a notebook's cell or a REPL's line: the frames behind it run the notebook or REPL
        frame = frame.f_back
    return os.path.abspath(main_file) if _is_users(main_file) else current_folder()


def _is_users(path: str) -> bool:
    if path.startswith((_PACKAGE, _STANDARD_LIBRARY, "<")) or not _INSTALLED.isdisjoint(_parts(path)):
        return False
    # For the odd file names of generated code, os.path.isfile is False, not an error.
    return os.path.isfile(path)


def _is_folder(entry: str) -> bool:
    return os.path.isdir(entry) or not (os.path.splitext(entry)[1] or os.path.exists(entry))


def entry_stem(entry: str) -> str:
    """Return the script's file name without its ending, or the folder's name."""
    name = os.path.basename(entry)
    return (name if _is_folder(entry) else os.path.splitext(name)[0]) or UNNAMED


def path_stem(entry: str, root: str) -> str:
    """Return the folders of the entry below its project, with slashes and without a leading folder of scripts.

    Args:
        entry: absolute path of the script or folder that is run.
        root: absolute path of the project.
    """
    within = entry == root or entry.startswith(root.rstrip(os.sep) + os.sep)
    parts = _parts(entry[len(root) :]) if within else []
    folders = parts if _is_folder(entry) else parts[:-1]
    if folders and folders[0] in CONTAINER_FOLDERS:
        folders = folders[1:]
    return "/".join(folders) or entry_stem(entry)
