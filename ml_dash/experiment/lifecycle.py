"""``exp.run``: start, complete, fail, cancel; and what closes a run that nobody closed."""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Protocol, TypeVar

from ml_dash.errors import InvalidTypeError
from ml_dash.run.namespace import RUN

if TYPE_CHECKING:
    from ml_dash.experiment.wrapped_function import Calls


class Lived(Protocol):
    """What has a life: an ``Experiment``."""

    def _start(self) -> None: ...

    def _end(self, status: str, reason: str | None) -> None: ...


E = TypeVar("E", bound=Lived)
T = TypeVar("T")

KEYWORDS = ("experiment", "exp")
"""By which a function under ``@exp.run`` gets the experiment: the first that is one of its parameters."""


_ENDINGS = frozenset({"stop", "finish", "end", "close", "done", "exit", "abort", "kill", "terminate"})
"""What other libraries call the end of a run."""

_NOTHING: Any = object()


class ExperimentRun(RUN, Generic[E]):
    """The configuration of one run, and its life.

    As a context manager it starts the run, and ends it as COMPLETED, or as FAILED if an exception leaves the block.
    As a decorator, ``@exp.run``, it does so around each call of a function.
    """

    _experiment: E
    _calls: Calls[E] | None = None

    def __init__(self, experiment: E, **settings: Any) -> None:
        super().__init__(**settings)
        self._experiment = experiment

    def start(self) -> E:
        """Open the run, or continue it: status RUNNING. Waits for nothing; does nothing if it is open.

        Raises:
            StorageError: the run's folder cannot be written to.
        """
        self._experiment._start()
        return self._experiment

    def complete(self) -> None:
        """End the run as COMPLETED. Returns when everything is on disk; does nothing if it is closed."""
        self._experiment._end("COMPLETED", None)

    def fail(self, reason: str | BaseException | None = None) -> None:
        """End the run as FAILED.

        Args:
            reason: why, for experiment.json; an exception is told by its type and text.
        """
        self._experiment._end("FAILED", _reason(reason))

    def cancel(self, reason: str | BaseException | None = None) -> None:
        """End the run as CANCELLED.

        Args:
            reason: why, for experiment.json.
        """
        self._experiment._end("CANCELLED", _reason(reason))

    if not TYPE_CHECKING:  # as in RUN

        def __getattr__(self, name: str) -> Any:
            if name in _ENDINGS:
                raise AttributeError(
                    f"ExperimentRun has no attribute {name!r}; use complete(), fail(reason) or cancel(reason)",
                    name=name,
                )
            return super().__getattr__(name)

    def __call__(self, function: Callable[..., T] = _NOTHING) -> Callable[..., T]:
        """Run each call of a function within the run, as ``with exp.run:`` does for a block.

        A parameter named ``experiment``, or else ``exp``, is passed the experiment. A call while the run is open becomes
        part of it, and leaves it open. The call of an ``async`` function lasts until it was awaited. Of several calls at
        the same time the last to end closes the run: as FAILED if an exception has left any of them.

        Raises:
            InvalidTypeError: it is no function, or is a generator; or there is none.
        """
        if function is _NOTHING:
            raise InvalidTypeError(
                "leave the parentheses out: `with Experiment(...).run as exp:`; without a block, call run.start()"
            )
        from ml_dash.experiment.wrapped_function import (  # loads inspect, and most programs decorate nothing
            Calls,
            wrapped,
        )

        if self._calls is None:
            self._calls = Calls(self)
        return wrapped(function, self._calls.one, KEYWORDS)

    def __enter__(self) -> E:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None or _is_clean_exit(error):
            self.complete()
        else:
            self.fail(describe(error))


def describe(error: BaseException) -> str:
    """An exception as one line: its type and text."""
    text = _text_of(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _reason(reason: object) -> str | None:
    """Whatever was given as a text: ending a run never fails over its reason."""
    if isinstance(reason, BaseException):
        return describe(reason)
    return None if reason is None else _text_of(reason)


def _text_of(value: object) -> str:
    """Its text, or what it is if it cannot say: ending a run never fails over that."""
    try:
        return str(value)
    except Exception as error:  # noqa: BLE001 - whatever a user's __str__ raises
        return f"<no text: {type(error).__name__}>"


def _is_clean_exit(error: BaseException) -> bool:
    return isinstance(error, SystemExit) and error.code in (None, 0)


class CloseHooks:
    """Closes a run that was left open: at the interpreter's end, at a worker's end, at SIGTERM."""

    def __init__(self, experiment: Lived) -> None:
        self._experiment = experiment
        self._armed = False

    def arm(self) -> None:
        """From now on the run is closed by itself."""
        self._armed = True
        atexit.register(self._at_exit)
        _close_at_worker_end(self)
        _Terminator.watch(self)

    def disarm(self) -> None:
        """The run is closed, or belongs to another process. Idempotent."""
        if self._armed:
            self._armed = False
            atexit.unregister(self._at_exit)
            _Terminator.unwatch(self)

    def terminate(self) -> None:
        """SIGTERM came: close, within the usual deadlines."""
        if self._armed:
            self._experiment._end("FAILED", "SIGTERM: the process was told to end")

    def _at_exit(self) -> None:
        if not self._armed:
            return
        error = getattr(sys, "last_exc", None) or getattr(sys, "last_value", None)
        if error is not None and not _is_interactive():
            self._experiment._end("FAILED", describe(error))
        else:
            self._experiment._end("COMPLETED", None)


def _is_interactive() -> bool:
    """In a REPL an exception of an hour ago is no reason for the end."""
    return hasattr(sys, "ps1") or bool(sys.flags.interactive)


def _close_at_worker_end(hooks: CloseHooks) -> None:
    """A multiprocessing child skips atexit; its own finalizers run."""
    util = sys.modules.get("multiprocessing.util")
    process = sys.modules.get("multiprocessing.process")
    if util is not None and process is not None and process.parent_process() is not None:
        util.Finalize(None, hooks._at_exit, exitpriority=100)


class _Terminator:
    """One SIGTERM handler for all runs of the process, only where nobody else has one."""

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
        # Die of the signal, so that whoever sent it sees that it worked.
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
        os._exit(128 + number)  # only PID 1 of a container comes here: the kernel gives it no default action
