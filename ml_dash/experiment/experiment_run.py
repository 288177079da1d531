"""``exp.run``: the configuration of a run, and start, complete, fail and cancel."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from ml_dash.errors import InvalidTypeError
from ml_dash.experiment.close_hooks import describe_error, is_clean_exit, text_of
from ml_dash.run.namespace import RUN
from ml_dash.streams.base import NOT_GIVEN

if TYPE_CHECKING:
    from ml_dash.experiment.function_wrapper import Calls
    from ml_dash.experiment.session import Session

E = TypeVar("E")
T = TypeVar("T")

KEYWORDS = ("experiment", "exp")
"""Names of the parameter through which a function under ``@exp.run`` gets the experiment; the first one counts."""

_ENDINGS = frozenset({"stop", "finish", "end", "close", "done", "exit", "abort", "kill", "terminate"})
"""Names that other libraries give to the end of a run."""


class ExperimentRun(RUN, Generic[E]):
    """The configuration of one run, and the calls that start and end it.

    As a context manager it starts the run, and ends it as COMPLETED, or as FAILED if an exception leaves the block.
    As a decorator, ``@exp.run``, it does so around each call of a function.

    Args:
        experiment: returned by ``start``.
        session: the run's connection to its writer.
        **settings: as for ``RUN``.
    """

    _experiment: E
    _session: Session
    _calls: Calls[E] | None = None

    def __init__(self, experiment: E, session: Session, **settings: Any) -> None:
        self._experiment = experiment
        self._session = session
        super().__init__(**settings)

    @property
    def _is_open(self) -> bool:
        return self._session.is_open

    def start(self) -> E:
        """Open the run, or continue it, with the status RUNNING. Does nothing if it is open.

        Returns at once: the writer process starts in the background.

        Returns:
            The experiment.

        Raises:
            StorageError: the run's folder cannot be written to.
        """
        self._session.start()
        return self._experiment

    def complete(self) -> None:
        """End the run as COMPLETED. Returns when everything is on disk; does nothing if the run is closed."""
        self._session.end("COMPLETED", None)

    def fail(self, reason: str | BaseException | None = None) -> None:
        """End the run as FAILED. Returns when everything is on disk; does nothing if the run is closed.

        Args:
            reason: text for experiment.json; of an exception, its type and text.
        """
        self._session.end("FAILED", _reason(reason))

    def cancel(self, reason: str | BaseException | None = None) -> None:
        """End the run as CANCELLED. Returns when everything is on disk; does nothing if the run is closed.

        Args:
            reason: text for experiment.json; of an exception, its type and text.
        """
        self._session.end("CANCELLED", _reason(reason))

    if not TYPE_CHECKING:  # as in RUN

        def __getattr__(self, name: str) -> Any:
            if name in _ENDINGS:
                raise AttributeError(
                    f"ExperimentRun has no attribute {name!r}; use complete(), fail(reason) or cancel(reason)",
                    name=name,
                )
            return super().__getattr__(name)

    def __call__(self, function: Callable[..., T] = NOT_GIVEN) -> Callable[..., T]:
        """Decorate a function: each call runs within the run, as a ``with exp.run:`` block does.

        The function gets the experiment through a parameter named ``experiment``, or else ``exp``, if it has one. A
        call while the run is open becomes part of it and leaves it open. The call of an ``async`` function ends when it
        was awaited. Of several calls at the same time the last one ends the run, as FAILED if an exception left any of
        them.

        Args:
            function: a function or method, but no generator.

        Returns:
            The decorated function.

        Raises:
            InvalidTypeError: ``function`` is missing, is no function, or is a generator.
        """
        if function is NOT_GIVEN:
            raise InvalidTypeError(
                "leave the parentheses out: `with Experiment(...).run as exp:`; without a block, call run.start()"
            )
        from ml_dash.experiment.function_wrapper import Calls, wrap_function  # most programs decorate nothing

        if self._calls is None:
            self._calls = Calls(self, self._session)
        return wrap_function(function, self._calls.enter, KEYWORDS)

    def __enter__(self) -> E:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None or is_clean_exit(error):
            self.complete()
        else:
            self.fail(describe_error(error))


def _reason(reason: object) -> str | None:
    if isinstance(reason, BaseException):
        return describe_error(reason)
    return None if reason is None else text_of(reason)
