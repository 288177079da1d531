"""A run around each call of a function, for ``@exp.run`` and ``@ml_dash_experiment``."""

from __future__ import annotations

import contextlib
import contextvars
import functools
import inspect
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from ml_dash.errors import InvalidTypeError

if TYPE_CHECKING:
    from ml_dash.experiment.experiment_run import ExperimentRun
    from ml_dash.experiment.session import Session

T = TypeVar("T")
E = TypeVar("E")

OpenRun = Callable[[], AbstractContextManager[object]]
"""Called at each call of the function; entering the result returns the experiment."""


class Calls(Generic[E]):
    """The calls of the functions of one run: the first one opens it, and the last one at the same time closes it.

    A run that was open before stays open. The first exception that leaves a call decides how the run ends; one that
    leaves a call inside another call, in the same thread or task, is left to the outer one.

    Args:
        run: the run.
        session: the session of the run.
    """

    def __init__(self, run: ExperimentRun[E], session: Session) -> None:
        self._run = run
        self._session = session
        self._lock = threading.RLock()
        self._count = 0
        self._opened = False
        self._error: BaseException | None = None
        self._inside: contextvars.ContextVar[bool] = contextvars.ContextVar("ml_dash_inside", default=False)

    @contextlib.contextmanager
    def enter(self) -> Iterator[E]:
        """Enclose one call. Entering returns the experiment."""
        experiment = self._begin()
        outer, error = not self._inside.get(), None
        token = self._inside.set(True)
        try:
            yield experiment
        except BaseException as raised:
            error = raised
            raise
        finally:
            with contextlib.suppress(ValueError):  # an abandoned coroutine is closed from another context
                self._inside.reset(token)
            self._end(error if outer else None)

    def _begin(self) -> E:
        with self._lock:
            if not self._count:
                self._opened, self._error = False, None
            self._opened = self._opened or not self._session.is_open
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


def wrap_function(
    function: Callable[..., T], open_run: OpenRun, keywords: Sequence[str], *, required: bool = False
) -> Callable[..., T]:
    """Return the function with a run around each call; the call of an ``async`` function ends when it was awaited.

    Args:
        function: a function, a method in a class body, or another callable.
        open_run: returns the context manager of one call.
        keywords: the function gets the experiment through the first of these parameters that it has.
        required: whether it must have one of them, or ``**kwargs``.

    Raises:
        InvalidTypeError: it is no function, is a generator, or lacks a required parameter.
    """
    body = _checked_body(function)
    keyword = _keyword(function, keywords, required=required)

    def arguments(given: dict[str, Any], experiment: object) -> dict[str, Any]:
        return given if keyword is None else {**given, keyword: experiment}

    def opened(given: dict[str, Any]) -> AbstractContextManager[object]:
        if keyword in given:
            raise InvalidTypeError(f"{_name(function)}() gets {keyword!r} from its decorator; call it without")
        return open_run()

    if inspect.iscoroutinefunction(body):

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


def _checked_body(function: object) -> Callable[..., object]:
    """The function that a call runs: of an object with ``__call__`` that method, of a partial the function inside."""
    if isinstance(function, (staticmethod, classmethod)):
        kind = type(function).__name__
        raise InvalidTypeError(f"{_name(function)} is a {kind} already; write @{kind} above this decorator")
    if not callable(function) or inspect.isclass(function):
        raise InvalidTypeError(f"a run can be put around a function, not around {function!r:.80}")
    body: Callable[..., object] = function
    while isinstance(body, functools.partial):
        body = body.func
    if not inspect.isroutine(body):
        body = type(body).__call__
    if inspect.isgeneratorfunction(body) or inspect.isasyncgenfunction(body):
        raise InvalidTypeError(
            f"{_name(function)}() is a generator, whose body runs after the call has returned; open the run inside it: "
            "`with Experiment(...).run as exp:`"
        )
    return body


def _keyword(function: Callable[..., object], keywords: Sequence[str], *, required: bool) -> str | None:
    parameters = inspect.signature(function).parameters
    by_name = {
        name
        for name, parameter in parameters.items()
        if parameter.kind in {parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY}
    }
    keyword = next((name for name in keywords if name in by_name), None)
    if keyword is not None or not required:
        return keyword
    if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        raise InvalidTypeError(
            f"{_name(function)}() has no parameter named {keywords[0]!r}; add it: the run is passed by that name"
        )
    return keywords[0]


def _name(function: object) -> str:
    return str(getattr(function, "__qualname__", None) or type(function).__qualname__)
