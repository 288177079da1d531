"""``Experiment``: one run with its streams. ``ml_dash_experiment``: one run for each call of a function."""

from __future__ import annotations

import enum
import functools
import inspect
import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, NoReturn, TypeVar, overload

from ml_dash.errors import ExperimentError, InvalidTypeError, NotOpenError
from ml_dash.experiment import validation
from ml_dash.experiment.channels import Opening
from ml_dash.experiment.experiment_run import ExperimentRun
from ml_dash.experiment.session import DEFAULT_ROOT, Session
from ml_dash.settings import BufferConfig
from ml_dash.storage.names import missing_attribute
from ml_dash.storage.reading import read_environment
from ml_dash.streams.base import NOT_GIVEN, NotGiven
from ml_dash.streams.files import Files, Folder
from ml_dash.streams.frames import Frames
from ml_dash.streams.logs import LogBuilder, Logs
from ml_dash.streams.metrics import Metrics
from ml_dash.streams.params import Params
from ml_dash.streams.tracks import TimedTrack, Tracks

STREAMS = ("logs", "params", "metrics", "tracks", "files", "frames")

T = TypeVar("T")

KEYWORD = "experiment"
"""The parameter through which a function under ``@ml_dash_experiment`` gets its experiment."""

_INTERNAL = frozenset({"session"})
"""Public attributes for the package's own use: ``dir()`` leaves them out."""

_INSTEAD = {
    **{name: f"exp.logs.{name}(...)" for name in ("debug", "info", "warn", "warning", "error", "fatal", "critical")},
    **dict.fromkeys(("close", "complete", "end", "finish", "stop"), "exp.run.complete()"),
    "start": "exp.run.start()",
    "save": "exp.files.save(value, to=name)",
    "fail": "exp.run.fail(reason)",
    "cancel": "exp.run.cancel(reason)",
}
"""Attributes that users look for on an experiment, and the calls to use instead."""


class OperationMode(enum.StrEnum):
    """Where a run is recorded."""

    LOCAL = "local"
    REMOTE = "remote"
    HYBRID = "hybrid"


class Experiment:
    """One run. Nothing is written before ``run.start()`` or ``with experiment.run as exp:``.

    Args:
        prefix: ``owner/project/.../name``, a path below ``dash_root``; default that of ``RUN``. The same prefix again
            continues the same run.
        readme: a description of the run for people.
        description: another name for ``readme``.
        tags: words to find the run by.
        bindrs: names of the resources or teams that the run belongs to.
        metadata: any values that JSON can hold, by name.
        dash_url: address of a server, or True for that of ``RUN.api_url``. This version sends nothing: the run is
            recorded below ``dash_root``, and its start prints that.
        dash_root: folder of all runs, relative to the current directory; default ``.dash``. With None, which needs a
            ``dash_url``, the run is recorded in ``~/.dash/spool``.
        frame_buffer_mb: memory for pixels that wait for the encoder, in MiB; default 64 or ML_DASH_FRAME_BUFFER_MB.
        frame_policy: when that memory is full: ``block`` (default; the call waits) or ``drop`` (the frame is dropped
            and counted).
        echo: whether log lines are also printed; default True, or ML_DASH_ECHO.
        record_environment: whether the run records its command line, machine, packages and code; default True, or
            ML_DASH_RECORD_ENVIRONMENT.
        capture_output: whether the output of the process is also logged, lines of stdout as ``info`` and of stderr as
            ``warn``; default False, or ML_DASH_CAPTURE_OUTPUT.
        buffer_config: all settings of the buffers; the arguments above take precedence.
        **run_params: settings of ``RUN`` for this run alone, such as ``project=`` and ``user=``.

    Attributes:
        run: the run's configuration, and what starts and ends it.
        readme, tags, metadata: as given; may be assigned before the run is started.
        dash_url: as given.
        logs: the log: ``exp.logs.info("text")``. Like all streams, it exists while the run is open.
        params: the parameters: ``exp.params.set(lr=3e-4)``.
        metrics: the metrics: ``exp.metrics("train").log(loss=0.7)``.
        tracks: the tracks: ``exp.tracks("robot/pose").append(q=[...], _ts=t)``.
        files: the files: ``exp.files("models").save("model.pth")``.
        frames: the frame streams: ``exp.frames("camera").append(pixels)``.

    Raises:
        InvalidNameError: the prefix cannot be a path on disk.
        InvalidTypeError: a keyword is not known (the text names the closest one), or an argument has the wrong type.
        ConfigurationError: a setting or an ``ML_DASH_*`` variable has a wrong value.
    """

    logs: Logs
    params: Params
    metrics: Metrics
    tracks: Tracks
    files: Files
    frames: Frames
    run: ExperimentRun[Experiment]
    session: Session

    def __init__(
        self,
        prefix: str | None = None,
        *,
        readme: str | None = None,
        description: str | None = None,
        tags: Sequence[str] | None = None,
        bindrs: Sequence[str] | None = None,
        metadata: Mapping[str, object] | None = None,
        dash_url: str | bool | None = None,
        dash_root: str | os.PathLike[str] | None = DEFAULT_ROOT,
        frame_buffer_mb: int | None = None,
        frame_policy: str | None = None,
        echo: bool | None = None,
        capture_output: bool | None = None,
        record_environment: bool | None = None,
        buffer_config: BufferConfig | None = None,
        **run_params: Any,
    ) -> None:
        dash_url, dash_root = validation.renamed(run_params, dash_url, dash_root, DEFAULT_ROOT)
        self.dash_url = validation.check_url(dash_url)
        validation.check_keywords(run_params, inspect.signature(Experiment).parameters)
        prefix = validation.text("prefix", prefix)
        self.readme = validation.text("readme", readme if readme is not None else description)
        self.tags = validation.texts("tags", tags)
        self.metadata = validation.checked_metadata(metadata)
        self._bindrs = validation.texts("bindrs", bindrs)
        root = validation.root_for(dash_root, self.dash_url)
        if buffer_config is not None and not isinstance(buffer_config, BufferConfig):
            raise InvalidTypeError(f"buffer_config={buffer_config!r:.80} must be a BufferConfig")
        config = (buffer_config or BufferConfig.from_env()).replaced(
            frame_buffer_mb=frame_buffer_mb,
            frame_policy=frame_policy,
            echo=echo,
            capture_output=capture_output,
            record_environment=record_environment,
        )
        session = self.session = Session(root, config, self.__dict__, self._opening)
        session.announces_folder = self.dash_url is not None
        session.run = self.run = ExperimentRun(self, session, **validation.with_project(prefix, run_params))
        self.readme = self.readme if self.readme is not None else self.run.readme
        session.streams = {
            "logs": Logs(session, echo=config.echo),
            "params": Params(session),
            "metrics": Metrics(session),
            "tracks": Tracks(session),
            "files": Files(session),
            "frames": Frames(session),
        }

    @property
    def is_open(self) -> bool:
        """Whether the run was started and not yet ended."""
        return self.session.is_open

    @property
    def folder(self) -> str:
        """Absolute path of the run's directory; empty before the first start."""
        return self.session.folder

    @property
    def prefix(self) -> str:
        """``owner/project/.../name``."""
        return self.run.prefix

    @property
    def owner(self) -> str | None:
        """The prefix's first segment."""
        return self.run.owner

    @property
    def project(self) -> str:
        """The prefix's second segment, or the argument ``project``."""
        return self.run.project

    @property
    def name(self) -> str:
        """The prefix's last segment."""
        return self.run.name

    @property
    def id(self) -> int | str:
        """A unique number of 64 bits; later runs have larger ones."""
        return self.run.id

    @property
    def description(self) -> str | None:
        """Another name for ``readme``."""
        return self.readme

    @property
    def mode(self) -> OperationMode:
        """Where the run is recorded; always ``LOCAL`` in this version."""
        return OperationMode.LOCAL

    def track(self, topic: str) -> TimedTrack:
        """Return a track whose rows may leave out ``_ts``: ``exp.track("pose").append({"x": 1})``.

        Args:
            topic: a path such as ``robot/pose``; ``exp.tracks(topic)`` is the same track.

        Raises:
            InvalidNameError: the topic cannot be a path on disk.
            ExperimentError: the experiment is not open.
        """
        return self.tracks.timed(topic)

    @overload
    def log(
        self, message: str, level: str | None = None, metadata: Mapping[str, object] | None = None, **extra: object
    ) -> None: ...

    @overload
    def log(
        self,
        message: NotGiven = NOT_GIVEN,
        level: Literal[None] = None,
        metadata: Mapping[str, object] | None = None,
        **extra: object,
    ) -> LogBuilder: ...

    def log(self, *args: Any, **extra: Any) -> LogBuilder | None:
        """Log one line; see ``Logs.log``."""
        line: LogBuilder | None = self.logs.log(*args, **extra)
        return line

    def flush(self, timeout: float | None = None) -> bool:
        """Wait until everything logged so far is on disk.

        Args:
            timeout: seconds to wait; None waits for as long as the writer makes progress.

        Returns:
            Whether it is. If not, one warning is printed on stderr.

        Raises:
            ExperimentError: the experiment is not open.
        """
        return self.session.flush(timeout)

    def health(self) -> dict[str, Any]:
        """Return counters of the tracker's work and of its cost.

        Returns:
            ``published`` and ``applied`` (records), ``bytes_waiting``, ``frames_written``, ``frames_dropped``,
            ``records_refused``, ``errors``, ``last_error``, ``writer_pid``, ``writer_restarts``, ``writer_memory``
            (bytes without shared memory), ``writer_on_thread``, ``shared_memory`` (its kind), ``frame_buffer_bytes``,
            ``calls``, ``cost_seconds`` (time spent in our calls) and ``cost_share`` (its share of the run's time).
            After the end of the run, the last counters; before its first start, an empty dict.
        """
        return self.session.channel.health()

    def environment(self) -> dict[str, Any]:
        """Return what the run recorded at its newest start about its process, machine, packages and code.

        Returns:
            The entries of environment.json. About a second after the start ``complete`` is True; before that, only the
            entries about the process exist. An empty dict if the run was not started, or records no environment.
        """
        if self.is_open:
            self.flush()
        return read_environment(self.folder) if self.folder else {}

    @overload
    def bindrs(self) -> list[str]: ...

    @overload
    def bindrs(self, name: str) -> Folder: ...

    def bindrs(self, name: str | None = None) -> list[str] | Folder:
        """Return the resources or teams that the run belongs to, or the files that belong to one of them.

        Args:
            name: name of a resource or team. ``exp.bindrs("robot-7").list()`` lists its files, and every file that is
                saved through ``exp.bindrs("robot-7")`` belongs to it.

        Returns:
            The names; with a name, a view of the run's files.

        Raises:
            InvalidTypeError: the name is no text.
        """
        if name is None:
            return list(self._bindrs or [])
        if not isinstance(name, str):
            raise InvalidTypeError(f"bindrs({name!r:.80}): pass the name of one, as text")
        return self.files(bindrs=[name])

    def _opening(self) -> Opening:
        return Opening(
            root=self.session.root,
            prefix=self.run.prefix,
            name=self.run.name or self.run.prefix,
            project=self.run.project,
            description=self.readme,
            tags=self.tags,
            bindrs=self._bindrs,
            metadata=self.metadata,
        )

    if not TYPE_CHECKING:  # a name that is misspelt stays an error for type checkers

        def __getattr__(self, name: str) -> Any:
            if name in STREAMS and "session" in self.__dict__:
                try:
                    self.session.channel.require_open()
                except ExperimentError as error:  # as an AttributeError too, so that tools can list the attributes
                    not_open = NotOpenError(*error.args)
                    not_open.name = name  # Python adds no suggestion of its own
                    raise not_open from None
            raise missing_attribute("Experiment", name, dir(self), _INSTEAD.get(name))

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *STREAMS} - _INTERNAL)

    def __enter__(self) -> NoReturn:
        raise ExperimentError("an experiment is opened through its run: `with Experiment(...).run as exp:`")

    def __exit__(self, *_: object) -> None:
        """Exists so that ``with Experiment(...)`` reaches the error of ``__enter__``."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (self.run.prefix, self.session.root, self.session.config, self.is_open)

    def __repr__(self) -> str:
        state = "open" if self.is_open else "closed" if self.folder else "not started"
        return f"Experiment({self.run.prefix!r}, {state})"


def _restore(prefix: str, root: str, config: BufferConfig, was_open: bool) -> Experiment:
    """Unpickle an experiment: the same run, which this process writes to through files of its own."""
    experiment = Experiment(prefix, dash_root=root, buffer_config=config)
    if was_open:
        experiment.session.detach()
    return experiment


@overload
def ml_dash_experiment(prefix: Callable[..., T]) -> Callable[..., T]: ...


@overload
def ml_dash_experiment(
    prefix: str | None = None, **experiment_kwargs: Any
) -> Callable[[Callable[..., T]], Callable[..., T]]: ...


def ml_dash_experiment(prefix: Any = None, **experiment_kwargs: Any) -> Any:
    """Run each call of a function in an experiment of its own, passed as the keyword ``experiment``.

    The call opens the run and ends it: as COMPLETED, or as FAILED if an exception leaves the function. The call of an
    ``async`` function ends when it was awaited. For one experiment that is made once, see ``@exp.run``.

    Args:
        prefix: as for ``Experiment``; default (also for ``@ml_dash_experiment`` without parentheses) that of ``RUN``.
        **experiment_kwargs: as for ``Experiment``.

    Returns:
        The decorated function, or a decorator.

    Raises:
        InvalidTypeError: the function has no parameter named ``experiment``, or is a generator.
    """
    from ml_dash.experiment.function_wrapper import wrap_function  # most programs decorate nothing

    if callable(prefix):
        return wrap_function(prefix, lambda: Experiment().run, [KEYWORD], required=True)

    def open_run() -> ExperimentRun[Experiment]:
        return Experiment(prefix, **experiment_kwargs).run

    return functools.partial(wrap_function, open_run=open_run, keywords=[KEYWORD], required=True)
