"""``@ml_dash_experiment(prefix=...)``: a run around each call of a function."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar, overload

from ml_dash.experiment.experiment import Experiment
from ml_dash.experiment.wrapped_function import wrapped

T = TypeVar("T")

KEYWORD = "experiment"
"""The argument by which the function gets its experiment."""


@overload
def ml_dash_experiment(prefix: Callable[..., T]) -> Callable[..., T]: ...


@overload
def ml_dash_experiment(
    prefix: str | None = None, **experiment_kwargs: Any
) -> Callable[[Callable[..., T]], Callable[..., T]]: ...


def ml_dash_experiment(prefix: Any = None, **experiment_kwargs: Any) -> Any:
    """Run a function within an experiment of its own, which it gets as the keyword ``experiment``.

    The run is opened at each call and ends with it: as COMPLETED, or as FAILED if an exception leaves the function.
    An ``async`` function has ended when it was awaited. For one experiment that is made once, see ``@exp.run``.

    Args:
        prefix: as for ``Experiment``; without one (``@ml_dash_experiment`` alone) the prefix that ``RUN`` gives.
        **experiment_kwargs: as for ``Experiment``.

    Raises:
        InvalidTypeError: the function has no parameter named ``experiment``, or is a generator.
    """
    if callable(prefix):
        return _decorated(prefix, None, {})
    return functools.partial(_decorated, prefix=prefix, experiment_kwargs=experiment_kwargs)


def _decorated(function: Callable[..., T], prefix: str | None, experiment_kwargs: dict[str, Any]) -> Callable[..., T]:
    return wrapped(function, lambda: Experiment(prefix, **experiment_kwargs).run, [KEYWORD], required=True)
