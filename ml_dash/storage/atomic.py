"""A file that gets its name when it is complete, so that nobody ever sees a part of it."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from typing import IO


@contextlib.contextmanager
def replacing(path: str) -> Iterator[IO[bytes]]:
    """A file to write to, which takes the place of ``path`` if the block ends without an exception.

    Where the system can, it has no name until then: a process that is killed leaves nothing behind, and a folder that
    somebody removes meanwhile does not fill up again.

    Raises:
        OSError: it cannot be written, or its folder is gone.
    """
    folder, name = os.path.split(path)
    temporary = os.path.join(folder, f".{name}.{os.getpid()}-{threading.get_ident()}.tmp")
    try:
        fd = _open_unnamed(folder)
        with open(temporary, "wb") if fd is None else os.fdopen(fd, "wb") as file:
            yield file
            file.flush()
            if fd is None:
                os.replace(temporary, path)
            else:
                _name(fd, path, temporary)
    finally:
        with contextlib.suppress(OSError):
            os.unlink(temporary)


def _open_unnamed(folder: str) -> int | None:
    """None on another system than Linux, and on a file system without such files."""
    if not hasattr(os, "O_TMPFILE") or not os.path.isdir("/proc/self/fd"):
        return None
    try:
        return os.open(folder, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o666)
    except OSError:
        return None


def _name(fd: int, path: str, temporary: str) -> None:
    # With a descriptor, which an absolute path makes no use of, Python calls linkat, and only that follows the link.
    source = f"/proc/self/fd/{fd}"
    try:
        os.link(source, path, src_dir_fd=fd, follow_symlinks=True)
    except FileExistsError:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        os.link(source, temporary, src_dir_fd=fd, follow_symlinks=True)
        os.replace(temporary, path)
