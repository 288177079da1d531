"""``@ml_dash_experiment(prefix=...)``: a run around each call of a function."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar, overload

from ml_dash.errors import InvalidTypeError
from ml_dash.experiment import Experiment

P = ParamSpec("P")
T = TypeVar("T")

KEYWORD = "experiment"
"""The argument by which the function gets its experiment."""


@overload
def ml_dash_experiment(prefix: Callable[P, T]) -> Callable[P, T]: ...


@overload
def ml_dash_experiment(
    prefix: str | None = None, **experiment_kwargs: Any
) -> Callable[[Callable[P, T]], Callable[P, T]]: ...


def ml_dash_experiment(prefix: Any = None, **experiment_kwargs: Any) -> Any:
    """Run a function within an experiment of its own, which it gets as the keyword ``experiment``.

    The run is opened at each call and ends with it: as COMPLETED, or as FAILED if an exception leaves the function.

    Args:
        prefix: as for ``Experiment``; without one (``@ml_dash_experiment`` alone) the prefix that ``RUN`` gives.
        **experiment_kwargs: as for ``Experiment``.

    Raises:
        InvalidTypeError: the function has no parameter named ``experiment``.
    """
    if callable(prefix):
        return _decorated(prefix, None, {})
    return functools.partial(_decorated, prefix=prefix, experiment_kwargs=experiment_kwargs)


def _decorated(function: Callable[..., T], prefix: str | None, experiment_kwargs: dict[str, Any]) -> Callable[..., T]:
    _check_parameter(function)

    @functools.wraps(function)
    def run(*args: Any, **kwargs: Any) -> T:
        with Experiment(prefix, **experiment_kwargs).run as experiment:
            return function(*args, **kwargs, **{KEYWORD: experiment})

    return run


def _check_parameter(function: Callable[..., object]) -> None:
    parameters = inspect.signature(function).parameters
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    if KEYWORD not in parameters and not takes_any:
        raise InvalidTypeError(
            f"{function.__qualname__}() has no parameter named {KEYWORD!r}; add it: the run is passed by that name"
        )
