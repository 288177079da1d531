"""Plan the removal of a run, and remove it. Links are removed, never what they lead to.

Between the plan and the removal a person reads the plan, and another user may put something else in the place of the
run. So the plan keeps which folders it was made of, and the removal works below the descriptors of these folders.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ml_dash.errors import ExperimentError, InvalidValueError, MissingFileError
from ml_dash.storage import layout, liveness, reading, scan
from ml_dash.storage.own_files import nested_runs

TRIES = 20
"""Attempts at a folder in which new files appear: a writer that ends adds at most one copy for each metric."""

Identity = tuple[int, int]
"""Device and inode of a folder: they stay when it is renamed, and differ for what takes its name."""

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Removal:
    """One run that is to be removed.

    Attributes:
        folder: absolute path of its directory.
        prefix: its path below the root.
        status: its status, None if it has none.
        live: the process that writes it now, as text; empty if there is none.
        files: number of its files.
        size: bytes of these files.
        kept: the runs below it, which stay, or are removed too if ``recursive``.
        recursive: whether the runs below it are removed too.
        owners: names of other users whose runs these are; empty if they are all the user's own.
        identities: those of the folder that holds the run, and of the run's own folder.
    """

    folder: str
    prefix: str
    status: str | None
    live: str
    files: int
    size: int
    kept: list[str]
    recursive: bool
    owners: list[str]
    identities: tuple[Identity, Identity]

    def as_json(self) -> dict[str, Any]:
        """For a program to read."""
        return {
            "run": self.prefix,
            "folder": self.folder,
            "status": self.status,
            "live": bool(self.live),
            "files": self.files,
            "bytes": self.size,
            "runs_below": self.kept,
            "recursive": self.recursive,
        }


def plan_removal(folder: str, prefix: str, root: str, *, recursive: bool) -> Removal:
    """What removing a run would remove.

    Args:
        folder: absolute path of the run's directory.
        prefix: its path below the root.
        root: absolute path of the folder of all runs.
        recursive: whether to remove the runs below it too.

    Raises:
        MissingFileError: the folder is no run's.
        InvalidValueError: the folder, or one between it and the root, is a link.
    """
    if not scan.is_run(folder):
        raise MissingFileError(f"{folder!r} is no run, and is not removed")
    link = _first_link(folder, root)
    if link is not None:
        raise InvalidValueError(f"{link!r} is a link: name the run where it really lies, or remove the link yourself")
    identities = _identities(folder, root)
    below = nested_runs(folder)
    others = set() if recursive else {_top_name(run, folder) for run in below}
    files, size = _measure([os.path.join(folder, name) for name in os.listdir(folder) if name not in others])
    live = liveness.writer_of(folder)
    if recursive and not live:
        writers = ((nested, liveness.writer_of(nested)) for nested in below)
        live = next((f"{scan.prefix_of(run, folder)}: {writer}" for run, writer in writers if writer), "")
    status = reading.read_experiment(folder).get("status")
    kept = [f"{prefix}/{scan.prefix_of(run, folder)}" for run in below]
    owners = _other_owners([folder, *below] if recursive else [folder])
    if _identities(folder, root) != identities:
        raise _changed(folder)
    return Removal(folder, prefix, status, live, files, size, kept, recursive, owners, identities)


def check_unchanged(removal: Removal, root: str) -> None:
    """Check that a run's folder is still the one that was planned. A run that is gone is fine.

    Raises:
        ExperimentError: something else has its place.
    """
    with contextlib.suppress(FileNotFoundError), _opened(removal, root):
        pass


def remove(removal: Removal, root: str) -> None:
    """Remove a run, and then the empty folders above it, up to the root. A run that is gone is fine.

    ``experiment.json`` is removed last: after an interruption the folder is still a run that can be removed.

    Raises:
        ExperimentError: something else has the place of the folder that was planned; nothing is removed.
        OSError: something cannot be removed; the rest stays.
    """
    with contextlib.ExitStack() as opened:
        try:
            folders = opened.enter_context(_opened(removal, root))
        except FileNotFoundError:
            return
        run = folders[-1]
        kept = set() if removal.recursive else {_top_name(path, removal.prefix) for path in removal.kept}
        if not removal.recursive:  # and those that were made since the plan
            kept |= {_top_name(path, removal.folder) for path in nested_runs(removal.folder)}
        for name in sorted(os.listdir(run), key=lambda name: (name == layout.EXPERIMENT, name)):
            if name not in kept:
                _remove_entry(run, name)
        _remove_empty(removal.folder, folders)


@contextlib.contextmanager
def _opened(removal: Removal, root: str) -> Iterator[list[int]]:
    """Yield the open folders of a plan, from the root, or the one that holds the run, down to the run itself.

    Raises:
        ExperimentError: something else has the place of one of the two last ones.
        FileNotFoundError: the run is gone.
    """
    with _folders_to(removal.folder, root) as folders:
        if tuple(map(_identity, folders[-2:])) != removal.identities:
            raise _changed(removal.folder)
        yield folders


@contextlib.contextmanager
def _folders_to(folder: str, root: str) -> Iterator[list[int]]:
    """Yield the open folders from the root down to a run, or just two of a run that lies outside of the root.

    Raises:
        ExperimentError: one below the first is no folder, or a link.
        OSError: as the system says.
    """
    base = root if folder.startswith(root.rstrip(os.sep) + os.sep) else os.path.dirname(folder)
    with contextlib.ExitStack() as opened:
        folders: list[int] = []
        for name in [base, *os.path.relpath(folder, base).split(os.sep)]:
            try:
                flags = _FOLDER if folders else _FOLDER & ~os.O_NOFOLLOW  # the root may be named by a link
                fd = os.open(name, flags, dir_fd=folders[-1] if folders else None)
            except OSError as error:
                if error.errno in (errno.ELOOP, errno.ENOTDIR):
                    raise _changed(folder) from None
                raise
            opened.callback(os.close, fd)
            folders.append(fd)
        yield folders


def _identities(folder: str, root: str) -> tuple[Identity, Identity]:
    with _folders_to(folder, root) as folders:
        return _identity(folders[-2]), _identity(folders[-1])


def _identity(fd: int) -> Identity:
    status = os.fstat(fd)
    return status.st_dev, status.st_ino


def _changed(folder: str) -> ExperimentError:
    return ExperimentError(
        f"{folder!r} is no longer the folder that it was: something else was put in its place, or in that of the folder "
        "that holds it; nothing of it was removed"
    )


def _top_name(path: str, above: str) -> str:
    """Return the first name of a path below ``above``."""
    return path[len(above.rstrip(os.sep)) + 1 :].split(os.sep, 1)[0]


def _other_owners(folders: list[str]) -> list[str]:
    """Return the sorted names of the owners of folders, without the user's own."""
    return sorted({_user_name(uid) for folder in folders if (uid := os.lstat(folder).st_uid) != os.geteuid()})


def _user_name(uid: int) -> str:
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"


def _remove_entry(folder: int, name: str) -> None:
    """Remove a file, a link, or a folder. The writer of a run that has just ended may still put a copy into one."""
    for is_last in [False] * TRIES + [True]:
        try:
            if not stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
                os.unlink(name, dir_fd=folder)
                return
            shutil.rmtree(name, dir_fd=folder)  # follows no link, whatever is exchanged meanwhile
        except FileNotFoundError:
            if not _has(folder, name):
                return
        except RecursionError:
            _remove_deep(folder, name)
        except OSError as error:
            if error.errno == errno.EMFILE:
                _remove_deep(folder, name)
            elif error.errno != errno.ENOTEMPTY or is_last:
                raise


def _remove_deep(folder: int, name: str) -> None:
    """Remove a tree of any depth: each folder in it is first moved up, so that two descriptors are enough."""
    waiting = [name]
    while waiting:
        emptied = waiting.pop()
        fd = os.open(emptied, _FOLDER, dir_fd=folder)
        try:
            for entry in os.listdir(fd):
                if stat.S_ISDIR(os.stat(entry, dir_fd=fd, follow_symlinks=False).st_mode):
                    moved = f".removed-{secrets.token_hex(8)}"
                    os.rename(entry, moved, src_dir_fd=fd, dst_dir_fd=folder)
                    waiting.append(moved)
                else:
                    os.unlink(entry, dir_fd=fd)
        finally:
            os.close(fd)
        os.rmdir(emptied, dir_fd=folder)


def _has(folder: int, name: str) -> bool:
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _remove_empty(folder: str, folders: list[int]) -> None:
    """Remove a run's folder and those above it, as far as they are empty and below the first one."""
    for above in reversed(folders[:-1]):
        folder, name = os.path.split(folder)
        try:
            os.rmdir(name, dir_fd=above)
        except OSError:
            return


def _first_link(folder: str, root: str) -> str | None:
    path = folder
    while path.startswith(root.rstrip(os.sep) + os.sep):
        if os.path.islink(path):
            return path
        path = os.path.dirname(path)
    return folder if os.path.islink(folder) else None


def _measure(paths: list[str]) -> tuple[int, int]:
    """Return the number of files, links included, and their bytes."""
    files = size = 0
    waiting = list(paths)
    while waiting:
        path = waiting.pop()
        try:
            status = os.lstat(path)
            if stat.S_ISDIR(status.st_mode):
                waiting += [os.path.join(path, name) for name in os.listdir(path)]
            else:
                files, size = files + 1, size + status.st_size
        except (FileNotFoundError, NotADirectoryError):  # removed meanwhile
            continue
        except OSError as error:
            if error.errno != errno.ENAMETOOLONG:  # too deep for a path; the removal goes by descriptors
                raise
    return files, size
