"""Export a run to files that other programs read: CSV or Parquet tables, or a zip archive of its folder."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

from ml_dash._json import json
from ml_dash._version import __version__
from ml_dash.errors import InvalidValueError
from ml_dash.query.run import RunReader
from ml_dash.storage.atomic import replacing_path

KINDS = ("csv", "parquet", "zip")

MANIFEST = "export.json"
"""File in the folder of an export that names its run. A folder without it is never replaced."""

Advance = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Exported:
    """Result of an export.

    Attributes:
        path: absolute path of the folder or archive.
        files: number of files in it.
        size: bytes of the archive, or of all files in the folder.
    """

    path: str
    files: int
    size: int


def export_run(
    run: RunReader,
    kind: str,
    to: str | None = None,
    *,
    force: bool = False,
    raw: bool = False,
    advance: Advance = lambda _: None,
) -> Exported:
    """Export a run. The export appears when it is complete, or not at all.

    A live run is exported as it is at this moment.

    Args:
        run: the run.
        kind: ``csv`` or ``parquet`` for a folder with one file for each metric, track and frame stream, and for the
            parameters, log and files; ``zip`` for an archive of the run's own files.
        to: path of the folder or archive, or for ``zip`` the folder to put it in; default: a name made from the run's
            in the current folder.
        force: replace a file, or a folder that an export made.
        raw: leave text in CSV as it is. By default an apostrophe stands before text that a spreadsheet would run as a
            formula: text that begins with ``=``, ``+``, ``-``, ``@``, a tab or the end of a line, and is no number.
        advance: called with the number of bytes that were written since the last call.

    Raises:
        InvalidValueError: the path exists and may not be replaced, or is in the run's own folder; or there is no such
            kind.
        OSError: the export cannot be written.
    """
    if kind not in KINDS:
        raise InvalidValueError(f"{kind!r} is no kind of export; it is one of {', '.join(KINDS)}")
    target = _target_path(run, kind, to)
    _check_target(target, kind, force)
    os.makedirs(os.path.dirname(target), exist_ok=True)
    with replacing_path(target, may_be_folder=True) as temporary:
        if kind == "zip":
            from ml_dash.export.archive import write_zip

            files = write_zip(run, temporary, advance)
            size = os.path.getsize(temporary)
        else:
            files = _write_folder(run, kind, temporary, advance, raw)
            paths = (os.path.join(folder, name) for folder, _, names in os.walk(temporary) for name in names)
            size = sum(map(os.path.getsize, paths))
    return Exported(target, files, size)


def _write_folder(run: RunReader, kind: str, folder: str, advance: Advance, raw: bool) -> int:
    """Write the tables and the manifest into a new folder, and return the number of files."""
    from ml_dash.export.tables import write_tables

    os.mkdir(folder)
    names = write_tables(run, kind, folder, advance, raw=raw)
    manifest = {
        "run": run.prefix,
        "folder": run.folder,
        "kind": kind,
        "ml_dash": __version__,
        "files": names,
        "experiment": run.document(),
    }
    with open(os.path.join(folder, MANIFEST), "w", encoding="utf-8") as file:
        json.dump(manifest, file, indent=2)
    return len(names) + 1


def _target_path(run: RunReader, kind: str, to: str | None) -> str:
    name = f"{run.name}.zip" if kind == "zip" else f"{run.name}-{kind}"
    if to is None:
        to = name
    elif kind == "zip" and (to.endswith(os.sep) or os.path.isdir(to)):
        to = os.path.join(to, name)
    target = os.path.abspath(to)
    real, folder = os.path.realpath(target), os.path.realpath(run.folder)
    if real == folder or real.startswith(folder + os.sep):
        raise InvalidValueError(f"{target!r} is in the run's own folder; name another place with -o")
    return target


def _check_target(target: str, kind: str, force: bool) -> None:
    if not os.path.lexists(target):
        return
    if not force:
        raise InvalidValueError(f"{target!r} is there already; --force replaces it, -o names another place")
    is_folder = os.path.isdir(target) and not os.path.islink(target)
    if kind == "zip" and is_folder:
        raise InvalidValueError(f"{target!r} is a folder")
    if kind != "zip" and not is_folder:
        raise InvalidValueError(f"{target!r} is a file, and an export to {kind} is a folder; name another with -o")
    if is_folder and os.listdir(target) and not os.path.isfile(os.path.join(target, MANIFEST)):
        raise InvalidValueError(f"{target!r} holds something else than an export, and is not replaced")
