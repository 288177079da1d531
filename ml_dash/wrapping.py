"""A run around each call of a function: what ``@exp.run`` and ``@ml_dash_experiment`` share."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, TypeVar, cast

from ml_dash.errors import InvalidTypeError

T = TypeVar("T")

OpenRun = Callable[[], AbstractContextManager[object]]
"""Called once for each call of the function; what it returns is entered and gives the experiment."""


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
