"""``MLRun``: one run of the ML manager, with wandb beside it if that is wanted."""

from __future__ import annotations

import datetime
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from ml_dash import _fork
from ml_dash.capture import console
from ml_dash.errors import ExperimentError, MlDashError, StorageError
from ml_dash.experiment.close_hooks import CloseHooks, describe_error, is_clean_exit
from ml_dash.experiment.experiment import Experiment
from ml_dash.managed.history import History
from ml_dash.managed.points import TIME, record, to_point, unshared, update_values
from ml_dash.managed.store import RunFiles
from ml_dash.managed.toml_values import encode
from ml_dash.manager import validation, wandb_link
from ml_dash.manager.paths import check_segment, find_run, make_folder, run_folder
from ml_dash.manager.run_info import RESERVED, RunInfo
from ml_dash.manager.save_thread import SaveThread
from ml_dash.manager.wandb_link import FINISH_S, WandbLink
from ml_dash.storage import layout
from ml_dash.storage.names import NamesClosest

SHARED_FLUSH_S = 1.0
"""How long a write of metrics.toml waits for the journal: usual are milliseconds, and a full disk must not stop it."""


class MLRun(NamesClosest):
    """One run. Make one with ``MLRun.create``, or read one with ``MLRun.load``.

    As a context manager it finishes at the end of the block: as COMPLETED, or as FAILED if an exception leaves it. A
    run that is still open when the process ends is finished then.

    Attributes:
        config: the configuration, as it is read back from ``config.toml``.
        metrics: the last value of every metric. ``add_metrics`` updates it; what is put in by hand is not saved.
        run_dir: absolute path of the run's directory, ``base_dir/project_name/run_id``.
        wandb_run: the run of wandb; None for a loaded run, in a forked child, and without wandb.
        experiment: the ml_dash run in the same directory, for logs, files and frames; None until something is added
            to a loaded run.
    """

    wandb_run: Any
    experiment: Experiment | None

    def __init__(self, run_dir: str, config: Mapping[str, Any], info: RunInfo, history: History) -> None:
        """Use ``MLRun.create`` or ``MLRun.load``."""
        self.config = dict(config)
        self.metrics = history.values()
        self.run_dir = run_dir
        self.wandb_run = None
        self.experiment = None
        self._info = info
        self._history = history
        self._files = RunFiles(run_dir)
        self._link: WandbLink | None = None
        self._lock = threading.RLock()  # a signal handler may log while a call of the same thread does
        self._saver = SaveThread(self._save)
        self._hooks = CloseHooks(self._end)
        self._is_creator = False
        self._is_attached = False
        self._bad_end: tuple[str, str | None] | None = None  # that of a loaded run before this process opened it
        self._finished = False
        self._print_once = console.PrintOnce()
        self._save_errors = 0

    @classmethod
    def create(
        cls,
        config: Mapping[str, Any],
        base_dir: str | os.PathLike[str],
        project_name: str,
        entity: str | None = None,
        *,
        wandb_mode: str | None = None,
        name: str | None = None,
        tags: Sequence[str] | None = None,
        **wandb_options: Any,
    ) -> Self:
        """Start a run: wandb, the directory, ``config.toml``.

        If wandb is not installed, is disabled or cannot be reached, the run has an id of its own and the same files,
        and one line on stderr says so.

        Args:
            config: the configuration: a dict, a dataclass or a namespace. ``_wandb`` and ``_meta`` are taken.
            base_dir: folder of all projects; made if it is missing.
            project_name: the project, one folder; also the project of wandb.
            entity: user or team of wandb; default is wandb's own.
            wandb_mode: ``online``, ``offline``, ``disabled`` or ``shared``; default WANDB_MODE, else wandb's choice.
            name: what wandb shows as the run's name.
            tags: words to find the run by, in wandb and here.
            **wandb_options: more for ``wandb.init``, such as ``group=`` or ``id=``, which continues a run.

        Raises:
            InvalidTypeError: an argument has the wrong type, a value cannot be stored, or an option is unknown.
            InvalidValueError: the configuration has a key that is taken, or the mode is none.
            InvalidNameError: the project's name or the id cannot be that of a folder.
            StorageError: the directory cannot be written.
        """
        values = validation.checked_config(config)
        root = validation.checked_root(base_dir)
        check_segment(project_name, "project_name")
        mode = wandb_link.mode_of(wandb_mode)
        given = {"project": project_name, "entity": entity, "name": name, "tags": tags, **wandb_options}
        options = validation.checked_options(mode, given)
        make_folder(os.path.join(root, project_name))
        wandb_run, reason = wandb_link.start(mode, {**options, "config": unshared(values)})
        try:
            run_id = wandb_options.get("id") if wandb_run is None else wandb_run.id
            folder = run_folder(os.path.join(root, project_name), run_id)
            info = RunInfo.of_new_run(folder, wandb_run, entity)
            run = cls(folder, values, info, RunFiles(folder).open_history()[0])
            if reason:
                run._warn(f"{reason}; the run is local, with the id {run.run_id}")
            run._open_new(root, wandb_run, options["tags"])
        except BaseException:
            wandb_link.give_up(wandb_run)
            raise
        return run

    @classmethod
    def load(cls, run_id: str, base_dir: str | os.PathLike[str], project_name: str | None = None) -> Self:
        """Read a run. Metrics can be added to it; they go to its files, and not to wandb.

        Args:
            run_id: the run's id.
            base_dir: folder of all projects.
            project_name: the project; None searches all of them.

        Raises:
            MissingFileError: there is no such run; the text names the nearest ids.
            ExperimentError: several projects have a run of that id; the text names them.
            StorageError: a file of the run is damaged or cannot be read, or ``base_dir`` cannot be listed.
        """
        folder = find_run(validation.checked_root(base_dir), run_id, project_name)
        files = RunFiles(folder)
        files.wait_for_orphan()
        document = files.read_config()
        info = RunInfo.read(document, folder)
        status, reason = files.status()
        history, is_current = files.open_history()
        config = {key: value for key, value in document.items() if key not in RESERVED}
        run = cls(folder, config, info.with_status(status or info.status, reason), history)
        if not is_current and files.is_own() and not files.is_being_written():  # its process was killed
            run._save()
            run._files.release()
        return run

    def add_metrics(self, metrics: Mapping[str, Any]) -> None:
        """Log metrics: here, and to wandb if it is there. Waits for neither the disk nor the network.

        When it returns, the values survive a kill of the process. ``metrics.toml`` follows within half a second.

        Args:
            metrics: values by name. Dicts in it are merged with those of before, everything else replaces.

        Raises:
            InvalidTypeError: it is no dict, or a value cannot be stored; nothing is logged.
            InvalidValueError: dicts nest too deep, or an integer is too long.
            ExperimentError: the run is finished.
            StorageError: the directory of a loaded run cannot be written.
        """
        update = validation.checked_metrics(metrics)
        point = to_point(update)
        with self._lock:
            if self._finished:
                raise ExperimentError(
                    f"the run {self.run_id} is finished; MLRun.load({self.run_id!r}, ...) gives one to add to"
                )
            experiment = self.experiment if self._is_attached else self._attach()
            assert experiment is not None
            now = time.time()
            record(self._history.own, update, now)  # before the journal: metrics.toml may be ahead of it, not behind
            point[TIME] = now
            experiment.metrics(None).log(point)
            update_values(self.metrics, update)
            if self._link is not None:
                self._link.log(unshared(update))
        self._saver.mark()

    def finish(self, timeout: float | None = FINISH_S) -> None:
        """Finish the run as COMPLETED: everything on disk, then wandb. Does nothing if it is finished.

        A loaded run that failed or was cancelled stays so, and one whose process was killed is FAILED.

        Args:
            timeout: seconds to wait for wandb, 0 or more; None is the default.

        Raises:
            InvalidTypeError: the timeout is no number; the run goes on.
            InvalidValueError: it is negative or NaN.
        """
        self._finish("COMPLETED", None, validation.checked_timeout(timeout))

    def health(self) -> dict[str, Any]:
        """Counters: ``wandb_waiting``, ``wandb_dropped``, ``wandb_errors``, ``wandb_last_error``, ``save_errors``."""
        return {**wandb_link.health(self._link), "save_errors": self._save_errors}

    @property
    def run_id(self) -> str:
        """The id, from wandb or made here."""
        return self._info.run_id

    @property
    def project_name(self) -> str:
        """The project."""
        return self._info.project_name

    @property
    def git_commit(self) -> str | None:
        """The commit that was checked out in the current folder; None outside of a repository."""
        return self._info.git_commit

    @property
    def created_at(self) -> datetime.datetime:
        """When the run was created, with its time zone."""
        return self._info.created_at

    @property
    def status(self) -> str:
        """``RUNNING``, ``COMPLETED``, ``FAILED`` or ``CANCELLED``; ``UNKNOWN`` if the file does not say."""
        return self._info.status

    @property
    def wandb_entity(self) -> str | None:
        """User or team of wandb, if it is known."""
        return self._info.entity

    @property
    def wandb_project(self) -> str:
        """The project of wandb."""
        return self._info.project or self._info.project_name

    def get_wandb_url(self) -> str | None:
        """The address of the run's page; None for a run without wandb, and if the entity is not known."""
        return self._info.wandb_url()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None or is_clean_exit(error):
            self.finish()
        else:
            self._end("FAILED", describe_error(error))

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str, str, str]]:
        root = os.path.dirname(os.path.dirname(self.run_dir))
        return type(self).load, (self.run_id, root, self.project_name)

    def __repr__(self) -> str:
        return f"MLRun({self.run_id!r}, project_name={self.project_name!r}, status={self.status!r})"

    def after_fork_in_child(self) -> None:
        """Let go of everything that belongs to the parent. Metrics of the child go to the run's files, not to wandb."""
        self._lock = threading.RLock()
        self._saver = SaveThread(self._save)
        self._hooks.disarm()
        self._link = self.wandb_run = None
        self._is_creator = self._is_attached = False
        self._files.after_fork_in_child()

    def _open_new(self, root: str, wandb_run: Any, tags: Sequence[str] | None) -> None:
        self._is_creator = True
        self._files.hold()
        try:
            self._open_experiment(root, tags)
            self._files.write_config({**self.config, **self._info.tables()})
            self._set_parameters()
        except BaseException as error:
            if self.experiment is not None:
                self.experiment.session.end("FAILED", describe_error(error))
            self._files.let_go()
            raise
        if wandb_run is not None:
            self.wandb_run = wandb_run
            self._link = WandbLink(wandb_run, self._warn)
        self._arm()

    def _attach(self) -> Experiment:
        """Open a loaded run for writing, or the parent's run in a forked child."""
        if self.experiment is None:
            self._files.wait_for_orphan()  # which records how the run ended
            self._bad_end = self._files.bad_end(self._info.status, self._info.meta.get("pid"))
        self._files.hold()
        if self.experiment is None:
            root = os.path.dirname(os.path.dirname(self.run_dir))
            experiment = self._open_experiment(root)
        else:
            experiment = self.experiment
            experiment.session.attach()
            experiment.session.hooks.disarm()
        self._history = self._files.open_history()[0]  # with the metrics logged meanwhile
        self._arm()
        return experiment

    def _open_experiment(self, root: str, tags: Sequence[str] | None = None) -> Experiment:
        """Open, or continue, the ml_dash run in the same directory."""
        prefix = f"{self.project_name}/{self.run_id}".replace("{", "{{").replace("}", "}}")  # braces mark a template
        # With a counter of its own it is not counted: RUN.job_counter is for experiments that a script opens itself.
        experiment = Experiment(prefix, dash_root=root, tags=tags, job_counter=0)
        experiment.run.project = self.project_name  # by default the second segment, which is the run here
        experiment.run.start()
        experiment.session.hooks.disarm()  # this run ends it, after its own work
        self.experiment = experiment
        return experiment

    def _set_parameters(self) -> None:
        """Save the configuration as parameters too, for readers of runs."""
        assert self.experiment is not None
        try:
            self.experiment.params.set(encode(self.config, "config", for_json=True))
        except MlDashError as error:  # they are in config.toml, so the run goes on
            self._warn(f"the configuration is not among the parameters: {error}")

    def _warn(self, text: str) -> None:
        """Print a text on stderr, once for each run."""
        self._print_once(f"{self.project_name}/{self.run_id}: {text}")

    def _arm(self) -> None:
        self._is_attached = True
        self._saver.start()
        self._hooks.arm()
        _fork.register(self)

    def _end(self, status: str, reason: str | None) -> None:
        self._finish(status, reason, FINISH_S)

    def _finish(self, status: str, reason: str | None, timeout: float) -> None:
        with self._lock:
            if self._finished or self.experiment is None or not self._is_attached:
                return
            self._finished = True
            self._hooks.disarm()
            _fork.unregister(self)
        if self._link is not None:
            self._link.end(exit_code=0 if status == "COMPLETED" else 1)
        self._saver.stop()
        self._close_files(self.experiment, status, reason)
        if self._link is not None:
            self._link.join(timeout)

    def _close_files(self, experiment: Experiment, status: str, reason: str | None) -> None:
        if status == "COMPLETED" and self._bad_end is not None:
            status, reason = self._bad_end  # adding metrics does not mend a failed run
        if experiment.is_open:
            experiment.flush()
        self._save(sync=True)
        self._info = self._info.with_status(status, reason)
        if self._is_creator:
            try:
                self._files.write_config({**self._files.read_config(), **self._info.tables()})
            except StorageError as error:
                self._warn(f"the status is not in config.toml: {error}")
        experiment.session.end(status, reason)
        self._files.let_go()

    def _save(self, sync: bool = False) -> None:
        """Write metrics.toml. A failure is counted and reported once: the journal has every value."""
        experiment = self.experiment if self._is_attached else None
        try:
            own = None
            if experiment is not None:
                writer_id = experiment.session.writer_id
                if writer_id or len(self._history.sizes()) > 1:
                    # Others write metrics.toml from the journals, which must have our points before it has them.
                    experiment.session.channel.flush(SHARED_FLUSH_S)
                own = os.path.basename(layout.data(layout.metric_folder(None), writer_id))
            self._files.save_metrics(self._history, own, sync=sync)
        except Exception as error:  # noqa: BLE001 - an exception would end the thread that saves
            self._save_errors += 1
            if experiment is not None:
                self._warn(f"metrics.toml is behind: {error}; the journal has every value")
                self._saver.mark()
