"""The directory of a managed run, ``base_dir/project_name/run_id``: found, or made."""

from __future__ import annotations

import contextlib
import os

from ml_dash.errors import ExperimentError, InvalidNameError, MissingFileError, StorageError
from ml_dash.manager.wandb_link import local_id
from ml_dash.storage import layout
from ml_dash.storage.names import check_path, quote

ID_TRIES = 10
"""Attempts at a free local id; of 36**8 ids, the second is free at the latest."""

SHOWN_IDS = 3
"""Ids named in an error as the nearest ones."""


def find_run(base_dir: str, run_id: str, project_name: str | None) -> str:
    """Return the directory of a run.

    Raises:
        MissingFileError: there is none; the text names the nearest ids.
        ExperimentError: several projects have a run of that id; the text names them.
        InvalidNameError: an id or a project's name cannot be that of a folder.
        StorageError: ``base_dir`` cannot be listed.
    """
    check_segment(run_id, "run_id")
    if project_name is not None:
        check_segment(project_name, "project_name")
    projects = [project_name] if project_name is not None else _folders(base_dir)
    found = [project for project in projects if _is_run(os.path.join(base_dir, project, run_id))]
    if len(found) > 1:
        raise ExperimentError(
            f"{len(found)} projects have a run {run_id!r}: {', '.join(map(repr, found))}; give project_name="
        )
    if not found:
        raise MissingFileError(_missing(base_dir, run_id, projects, project_name))
    return os.path.join(base_dir, found[0], run_id)


def check_segment(name: object, what: str) -> str:
    """Return a name that is one folder.

    Raises:
        InvalidTypeError: it is no text.
        InvalidNameError: it cannot be the name of one folder.
    """
    segments = check_path(name, what)
    if len(segments) != 1:
        raise InvalidNameError(f"{what} {quote(name)} has a slash; it is the name of one folder, leave the slash out")
    return segments[0]


def make_folder(path: str) -> None:
    """Make a folder and those above it; it may exist.

    Raises:
        StorageError: it cannot be made.
    """
    try:
        os.makedirs(path, exist_ok=True)
    except OSError as error:
        raise StorageError(error.errno, f"the folder cannot be made: {error.strerror}; check base_dir", path) from None


def run_folder(project: str, run_id: str | None) -> str:
    """Make and return a run's directory. That of a given id may exist: the run is continued.

    Args:
        project: absolute path of the project's folder.
        run_id: the id, or None for a new local one.

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


def _missing(base_dir: str, run_id: str, projects: list[str], project_name: str | None) -> str:
    import difflib

    if not os.path.isdir(base_dir):
        return f"no run {run_id!r}: there is no folder {base_dir!r}"
    elsewhere = [name for name in _folders(base_dir) if _is_run(os.path.join(base_dir, name, run_id))]
    if elsewhere:
        return f"no run {run_id!r} of project {project_name!r}; it is in {', '.join(map(repr, elsewhere))}"
    where = "" if project_name is None else f" of project {project_name!r}"
    ids = {name for project in projects for name in _run_ids(os.path.join(base_dir, project))}
    count = "is 1 other run" if len(ids) == 1 else f"are {len(ids)} other runs"
    near = difflib.get_close_matches(run_id, sorted(ids), n=SHOWN_IDS)
    hint = f"; the nearest ids are {', '.join(map(repr, near))}" if near else f"; there {count}"
    return f"no run {run_id!r}{where}{hint}"


def _folders(path: str) -> list[str]:
    try:
        with os.scandir(path) as entries:
            return sorted(entry.name for entry in entries if _is_folder(entry))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise StorageError(error.errno, f"the folder cannot be listed: {error.strerror}", path) from None


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _run_ids(project: str) -> list[str]:
    """Return the ids in a project's folder; none if it cannot be listed."""
    with contextlib.suppress(StorageError):
        return [name for name in _folders(project) if _is_run(os.path.join(project, name))]
    return []


def _is_run(folder: str) -> bool:
    return os.path.isfile(os.path.join(folder, layout.CONFIG_TOML))
