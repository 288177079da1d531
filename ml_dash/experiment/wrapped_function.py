"""A run around each call of a function: what ``@exp.run`` and ``@ml_dash_experiment`` share."""

from __future__ import annotations

import contextlib
import contextvars
import functools
import inspect
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any, Generic, Protocol, TypeVar, cast

from ml_dash.errors import InvalidTypeError

T = TypeVar("T")
E_co = TypeVar("E_co", covariant=True)

OpenRun = Callable[[], AbstractContextManager[object]]
"""Called once for each call of the function; what it returns is entered and gives the experiment."""


class Openable(Protocol[E_co]):
    """A run that is open or closed: an ``ExperimentRun``."""

    @property
    def _open(self) -> bool: ...

    def start(self) -> E_co:
        """Open it; does nothing if it is open."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None: ...


class Calls(Generic[E_co]):
    """The calls of one run's functions: the first opens the run, and the last of those at the same time closes it.

    A run that was open before stays open. The first exception that leaves a call decides how the run ends; one that
    leaves a call inside another, in the same thread or task, is left to the outer one.

    Args:
        run: the run.
    """

    def __init__(self, run: Openable[E_co]) -> None:
        self._run = run
        self._lock = threading.RLock()
        self._count = 0
        self._opened = False
        self._error: BaseException | None = None
        self._inside: contextvars.ContextVar[bool] = contextvars.ContextVar("ml_dash_inside", default=False)

    @contextlib.contextmanager
    def one(self) -> Iterator[E_co]:
        """Around one call; gives the experiment."""
        experiment = self._begin()
        outer, error = not self._inside.get(), None
        token = self._inside.set(True)
        try:
            yield experiment
        except BaseException as raised:
            error = raised
            raise
        finally:
            with contextlib.suppress(ValueError):  # a coroutine that nobody awaited to its end is closed from anywhere
                self._inside.reset(token)
            self._end(error if outer else None)

    def _begin(self) -> E_co:
        with self._lock:
            if not self._count:
                self._opened, self._error = False, None
            self._opened = self._opened or not self._run._open
            experiment = self._run.start()
            self._count += 1
            return experiment

    def _end(self, error: BaseException | None) -> None:
        with self._lock:
            self._count -= 1
            if self._error is None:
                self._error = error
            if self._count or not self._opened:
                return
            first, self._error = self._error, None
            if first is None:
                self._run.__exit__(None, None, None)
            else:
                self._run.__exit__(type(first), first, first.__traceback__)


def wrapped(
    function: Callable[..., T], open_run: OpenRun, keywords: Sequence[str], *, required: bool = False
) -> Callable[..., T]:
    """Return the function with a run around each call; that of an ``async`` function lasts until it was awaited.

    Args:
        function: a function, a method in a class body, or another callable.
        open_run: gives the context manager of one call.
        keywords: the function gets what `open_run` gives by the first of these that is one of its parameters.
        required: whether it must have one of them, or ``**kwargs``.

    Raises:
        InvalidTypeError: it is no function, is a generator, or has no such parameter although it must.
    """
    _require_function(function)
    keyword = _keyword(function, keywords, required=required)

    def arguments(given: dict[str, Any], experiment: object) -> dict[str, Any]:
        return given if keyword is None else {**given, keyword: experiment}

    def opened(given: dict[str, Any]) -> AbstractContextManager[object]:
        if keyword in given:
            raise InvalidTypeError(f"{_name(function)}() gets {keyword!r} from its decorator; call it without")
        return open_run()

    if inspect.iscoroutinefunction(_body(function)):

        @functools.wraps(function)
        async def run_async(*args: Any, **kwargs: Any) -> Any:
            with opened(kwargs) as experiment:
                return await cast("Any", function)(*args, **arguments(kwargs, experiment))

        return cast("Callable[..., T]", run_async)

    @functools.wraps(function)
    def run(*args: Any, **kwargs: Any) -> T:
        with opened(kwargs) as experiment:
            return function(*args, **arguments(kwargs, experiment))

    return run


def _require_function(function: object) -> None:
    if isinstance(function, (staticmethod, classmethod)):
        kind = type(function).__name__
        raise InvalidTypeError(f"{_name(function)} is a {kind} already; write @{kind} above this decorator")
    if not callable(function) or inspect.isclass(function):
        raise InvalidTypeError(f"a run can be put around a function, not around {function!r:.80}")
    body = _body(function)
    if inspect.isgeneratorfunction(body) or inspect.isasyncgenfunction(body):
        raise InvalidTypeError(
            f"{_name(function)}() is a generator, whose body runs after the call has returned; open the run inside it: "
            "`with Experiment(...).run as exp:`"
        )


def _keyword(function: Callable[..., object], keywords: Sequence[str], *, required: bool) -> str | None:
    parameters = inspect.signature(function).parameters
    by_name = {
        name for name, found in parameters.items() if found.kind in {found.POSITIONAL_OR_KEYWORD, found.KEYWORD_ONLY}
    }
    keyword = next((name for name in keywords if name in by_name), None)
    if keyword is not None or not required:
        return keyword
    if not any(found.kind is found.VAR_KEYWORD for found in parameters.values()):
        raise InvalidTypeError(
            f"{_name(function)}() has no parameter named {keywords[0]!r}; add it: the run is passed by that name"
        )
    return keywords[0]


def _body(function: Callable[..., object]) -> Callable[..., object]:
    """What runs at a call: an object with ``__call__`` is no function itself."""
    while isinstance(function, functools.partial):
        function = function.func
    return function if inspect.isroutine(function) else type(function).__call__


def _name(function: object) -> str:
    return str(getattr(function, "__qualname__", None) or type(function).__qualname__)
