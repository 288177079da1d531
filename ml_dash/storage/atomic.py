"""Replace a file or a folder at once: readers see the old one or the new one, never a part."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from typing import IO

NAME_BYTES = 254
"""The longest file name that every file system takes (255), less the dot before a temporary one."""


@contextlib.contextmanager
def replacing_path(
    path: str, rename: Callable[[str, str], None] | None = None, *, may_be_folder: bool = False
) -> Iterator[str]:
    """Yield a temporary path beside ``path``; what the block makes there replaces ``path`` when the block ends.

    After an exception ``path`` is as it was, and the temporary one is removed.

    Args:
        path: a file, or with ``may_be_folder`` also a folder with files in it.
        rename: what moves the temporary file over ``path``; default ``os.replace``.
        may_be_folder: whether the block may make a folder. One that is there is replaced with all its files.

    Raises:
        OSError: it cannot be written or put in place, or its folder is gone.
    """
    folder, name = os.path.split(path)
    temporary = os.path.join(folder, temporary_name(name))
    try:
        yield temporary
        if may_be_folder and os.path.isdir(temporary) and os.path.isdir(path):
            _replace_folder(temporary, path)
        else:
            (rename or os.replace)(temporary, path)
    except BaseException:
        _remove(temporary)
        raise


@contextlib.contextmanager
def replacing(path: str) -> Iterator[IO[bytes]]:
    """Yield a file to write; it replaces ``path`` when the block ends without an exception.

    On Linux it has no name until then: a process that is killed leaves nothing behind, and a folder that is removed
    meanwhile stays removed.

    Raises:
        OSError: it cannot be written, or its folder is gone.
    """
    with replacing_path(path) as temporary:
        fd = _open_unnamed(os.path.dirname(path))
        with open(temporary, "xb") if fd is None else os.fdopen(fd, "wb") as file:
            yield file
            file.flush()
            if fd is not None:
                # Python calls linkat, which alone follows the link in /proc, only if it is given a descriptor.
                os.link(f"/proc/self/fd/{fd}", temporary, src_dir_fd=fd, follow_symlinks=True)


def temporary_name(name: str, ending: str = "") -> str:
    """Return the name that a file has until it is complete: hidden, and short enough for every file system.

    Args:
        name: of the file.
        ending: the end of the temporary name, after a dot; default one that no other process or thread can guess.
    """
    # `os.urandom` and not the process id alone: processes in two containers may share a folder and a process id.
    mark = f".{ending or f'{os.getpid()}-{os.urandom(8).hex()}.tmp'}"
    # Cut in bytes, because that is what the file system counts.
    return f".{os.fsdecode(os.fsencode(name)[: NAME_BYTES - len(os.fsencode(mark))])}{mark}"


def _open_unnamed(folder: str) -> int | None:
    """Return None where there are no unnamed files: outside of Linux, and on some file systems."""
    if not hasattr(os, "O_TMPFILE") or not os.path.isdir("/proc/self/fd"):
        return None
    try:
        return os.open(folder or os.curdir, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o666)
    except OSError:
        return None


def _replace_folder(source: str, target: str) -> None:
    import shutil

    aside = f"{source}.old"
    os.rename(target, aside)
    try:
        os.rename(source, target)
    except OSError:
        os.rename(aside, target)
        raise
    shutil.rmtree(aside)


def _remove(path: str) -> None:
    if os.path.isdir(path) and not os.path.islink(path):
        import shutil

        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            os.unlink(path)
