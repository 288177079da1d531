"""``capture_output=True``: what the process prints, as lines of the log of every run that asks for it.

Descriptors 1 and 2 are replaced for the process, so that C libraries and subprocesses are heard too.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable, Iterator

from ml_dash import _fork
from ml_dash.capture.capture import Capture, Sink
from ml_dash.capture.redirect import NAMES

_now: Capture | None = None
_lock = threading.RLock()
_watching = False


def start(sink: Sink, warn: Callable[[str], None]) -> None:
    """Give ``sink`` what this process prints from now on. What cannot be captured is named in one warning.

    Args:
        sink: the log of a run.
        warn: shows a text once.
    """
    global _now  # noqa: PLW0603 - descriptors 1 and 2 are the process's
    with _lock:
        flush_streams()
        try:
            _now = _now or Capture(warn)
            _watch_exec()
        except OSError as error:  # no more descriptors are to be had
            warn(f"capture_output: what is printed is not captured: {error.strerror}")
            return
        _now.join(sink)


@contextlib.contextmanager
def starting(sink: Sink, warn: Callable[[str], None]) -> Iterator[None]:
    """The same around the rest of a run's start: if that fails, the capture ends with it."""
    start(sink, warn)
    try:
        yield
    except BaseException:
        stop(sink)
        raise


def stop(sink: Sink, *, failed: bool = False) -> None:
    """Give ``sink`` what was printed so far; after the last one everything is as it was before. Idempotent.

    Args:
        sink: what was given to ``start``.
        failed: the run ends by the exception that is being handled. Its traceback is printed too late to be captured,
            if at all, and is kept in its own way.
    """
    global _now  # noqa: PLW0603 - as in start
    with _lock:
        capture = _now
        if capture is None or sink not in capture.sinks:
            return
        flush_streams()
        if len(capture.sinks) == 1:
            _now = None
            capture.stop(sink)
        else:
            capture.leave(sink)
    error = sys.exception()
    if failed and error is not None and not isinstance(error, SystemExit):
        sink.keep_exception(error)


def _watch_exec() -> None:
    """See to it that a program that replaces itself goes on with the descriptors that it had before the capture.

    Nothing else tells of that beforehand. The hook stays for good, and is called at each audited event.
    """
    global _watching  # noqa: PLW0603 - hooks are the process's
    if not _watching:
        _watching = True
        with contextlib.suppress(RuntimeError):  # a hook of somebody else's forbids it
            sys.addaudithook(_on_audit)


def _on_audit(event: str, _arguments: object) -> None:
    if event == "os.exec":
        with contextlib.suppress(Exception):  # it would be the program's exec that fails
            for sink in _now.sinks if _now is not None else ():
                stop(sink)


def flush_streams() -> None:
    """Empty the buffers of Python's and C's stdout and stderr."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    with contextlib.suppress(Exception):  # an exotic C library
        import ctypes

        library = ctypes.CDLL(None)
        prefix, suffix = ("__", "p") if sys.platform == "darwin" else ("", "")
        for name in NAMES.values():
            library.fflush(ctypes.c_void_p.in_dll(library, prefix + name + suffix))


def _after_fork_in_child() -> None:
    """Another thread may have held the lock, and the capture is the parent's."""
    global _now, _lock
    _now, _lock = None, threading.RLock()


_fork.call_in_child(_after_fork_in_child)
