"""A run as files that other programs read: CSV, Parquet, or a zip archive of its folder."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from ml_dash._json import json
from ml_dash._version import __version__
from ml_dash.errors import InvalidValueError
from ml_dash.query.run import RunReader
from ml_dash.storage.atomic import replacing_path

KINDS = ("csv", "parquet", "zip")

ABOUT = "export.json"
"""In a folder of an export: what it was made from. A folder that has none is never replaced."""

Advance = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Exported:
    """What an export made.

    Attributes:
        path: absolute path of the folder or archive.
        files: how many files are in it.
        size: its bytes.
    """

    path: str
    files: int
    size: int


def export_run(
    run: RunReader, kind: str, to: str | None = None, *, force: bool = False, advance: Advance = lambda _: None
) -> Exported:
    """Copy a run into a form that other programs read. It appears when it is complete, or not at all.

    A run that is still written is exported as it is at this moment.

    Args:
        run: the run.
        kind: ``csv`` or ``parquet``, a folder with one file for each metric and track; ``zip``, the run's own files.
        to: where to; default the current folder, with the run's name. A zip archive may be given a folder.
        force: replace what is there: a file, or a folder that an export made.
        advance: called with the number of bytes that were written, now and then.

    Raises:
        InvalidValueError: something is there already, the place is in the run's own folder, or the kind is not known.
        OSError: it cannot be written.
    """
    if kind not in KINDS:
        raise InvalidValueError(f"{kind!r} is no kind of export; it is one of {', '.join(KINDS)}")
    target = _target(run, kind, to)
    _check_free(target, kind, force)
    os.makedirs(os.path.dirname(target), exist_ok=True)
    with replacing_path(target, may_be_folder=True) as temporary:
        files = _make(run, kind, temporary, advance)
        size = sum(os.path.getsize(path) for path in _all_files(temporary))
    return Exported(target, files, size)


def _make(run: RunReader, kind: str, place: str, advance: Advance) -> int:
    if kind == "zip":
        from ml_dash.export.archive import write_zip

        return write_zip(run, place, advance)
    from ml_dash.export.tables import write_tables

    os.mkdir(place)
    names = write_tables(run, kind, place, advance)
    about = {
        "run": run.prefix,
        "folder": run.folder,
        "kind": kind,
        "ml_dash": __version__,
        "files": names,
        "experiment": run.document(),
    }
    with open(os.path.join(place, ABOUT), "w", encoding="utf-8") as file:
        json.dump(about, file, indent=2)
    return len(names) + 1


def _target(run: RunReader, kind: str, to: str | None) -> str:
    name = f"{run.name}.zip" if kind == "zip" else f"{run.name}-{kind}"
    if to is None:
        place = name
    elif kind == "zip" and (to.endswith(os.sep) or os.path.isdir(to)):
        place = os.path.join(to, name)
    else:
        place = to
    target = os.path.abspath(place)
    real, folder = os.path.realpath(target), os.path.realpath(run.folder)
    if real == folder or real.startswith(folder + os.sep):
        raise InvalidValueError(f"{target!r} is in the run's own folder; name another place with -o")
    return target


def _check_free(target: str, kind: str, force: bool) -> None:
    if not os.path.lexists(target):
        return
    if not force:
        raise InvalidValueError(f"{target!r} is there already; --force replaces it, -o names another place")
    is_folder = os.path.isdir(target) and not os.path.islink(target)
    if kind == "zip" and is_folder:
        raise InvalidValueError(f"{target!r} is a folder")
    if kind != "zip" and not is_folder:
        raise InvalidValueError(f"{target!r} is a file, and an export to {kind} is a folder; name another with -o")
    if is_folder and os.listdir(target) and not os.path.isfile(os.path.join(target, ABOUT)):
        raise InvalidValueError(f"{target!r} holds something else than an export, and is not replaced")


def _all_files(path: str) -> Iterator[str]:
    if os.path.isfile(path):
        yield path
    for folder, _, names in os.walk(path):
        yield from (os.path.join(folder, name) for name in names)
