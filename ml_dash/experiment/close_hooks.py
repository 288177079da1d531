"""The end of a run that nobody ended: at the interpreter's exit, at a worker's exit, at SIGTERM."""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import ClassVar


def describe_error(error: BaseException) -> str:
    """Return an exception as one line: its type and text."""
    text = text_of(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def text_of(value: object) -> str:
    """Return ``str(value)``, or a substitute if that raises: ending a run never fails because of its reason."""
    try:
        return str(value)
    except Exception as error:  # noqa: BLE001 - a user's __str__ may raise anything
        return f"<no text: {type(error).__name__}>"


def is_clean_exit(error: BaseException) -> bool:
    """Whether an exception is ``sys.exit()`` with success."""
    return isinstance(error, SystemExit) and error.code in (None, 0)


class CloseHooks:
    """Ends a run that is still open when the process ends.

    Args:
        end: called with the status (``COMPLETED`` or ``FAILED``) and the reason; does nothing if the run has ended.
    """

    def __init__(self, end: Callable[[str, str | None], object]) -> None:
        self._end = end
        self._armed = False

    def arm(self) -> None:
        """Install the hooks."""
        self._armed = True
        atexit.register(self._at_exit)
        util = sys.modules.get("multiprocessing.util")
        process = sys.modules.get("multiprocessing.process")
        if util is not None and process is not None and process.parent_process() is not None:
            # A multiprocessing child skips atexit; its own finalizers run.
            util.Finalize(None, self._at_exit, exitpriority=100)
        _SigtermHandler.watch(self)

    def disarm(self) -> None:
        """Remove the hooks. Idempotent."""
        if self._armed:
            self._armed = False
            atexit.unregister(self._at_exit)
            _SigtermHandler.unwatch(self)

    def terminate(self) -> None:
        """End the run because of SIGTERM, within the usual deadlines."""
        if self._armed:
            self._end("FAILED", "SIGTERM: the process was told to end")

    def _at_exit(self) -> None:
        if not self._armed:
            return
        error = getattr(sys, "last_exc", None) or getattr(sys, "last_value", None)
        is_interactive = hasattr(sys, "ps1") or bool(sys.flags.interactive)
        if error is not None and not is_interactive:  # in a REPL the last exception may be an hour old
            self._end("FAILED", describe_error(error))
        else:
            self._end("COMPLETED", None)


class _SigtermHandler:
    """One SIGTERM handler for all runs of the process; none if the program has its own."""

    _watched: ClassVar[set[CloseHooks]] = set()
    _installed = False

    @classmethod
    def watch(cls, hooks: CloseHooks) -> None:
        cls._watched.add(hooks)
        if cls._installed or threading.current_thread() is not threading.main_thread():
            return
        if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
            signal.signal(signal.SIGTERM, cls._on_signal)
            cls._installed = True

    @classmethod
    def unwatch(cls, hooks: CloseHooks) -> None:
        cls._watched.discard(hooks)
        if cls._watched or not cls._installed:
            return
        with contextlib.suppress(ValueError):  # not the main thread: the handler stays and does nothing
            if signal.getsignal(signal.SIGTERM) == cls._on_signal:
                signal.signal(signal.SIGTERM, signal.SIG_DFL)
            cls._installed = False

    @classmethod
    def _on_signal(cls, number: int, _frame: FrameType | None) -> None:
        for hooks in list(cls._watched):
            hooks.terminate()
        # Die of the signal, so that its sender sees that it worked.
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
        os._exit(128 + number)  # reached by PID 1 of a container only: the kernel gives it no default action
