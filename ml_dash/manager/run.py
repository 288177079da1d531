"""``MLRun``: one run of the ML manager, with wandb beside it if that is wanted."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from ml_dash import _fork
from ml_dash.errors import ExperimentError, StorageError
from ml_dash.experiment.close_hooks import CloseHooks, describe_error, is_clean_exit
from ml_dash.experiment.experiment import Experiment
from ml_dash.managed.history import History
from ml_dash.managed.points import record, to_point, unshared, update_values
from ml_dash.managed.store import RunFiles
from ml_dash.manager import engine, validation, wandb_link
from ml_dash.manager.about import RESERVED, About, Described
from ml_dash.manager.paths import check_segment, find_run
from ml_dash.manager.save_thread import Saver
from ml_dash.manager.wandb_link import FINISH_S, WandbLink
from ml_dash.manager.warn_once import Voice


class MLRun(Described):
    """One run. Make one with ``MLRun.create``, or read one with ``MLRun.load``.

    As a context manager it finishes at the end of the block: as COMPLETED, or as FAILED if an exception leaves it. A
    run that nobody finishes is finished at the end of the process.

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

    def __init__(self, run_dir: str, config: Mapping[str, Any], about: About, history: History) -> None:
        """Use ``MLRun.create`` or ``MLRun.load``."""
        self.config = dict(config)
        self.metrics = history.values()
        self.run_dir = run_dir
        self.wandb_run = None
        self.experiment = None
        self._about = about
        self._history = history
        self._files = RunFiles(run_dir)
        self._link: WandbLink | None = None
        self._lock = threading.RLock()  # a signal handler may log while a call of the same thread does
        self._saver = Saver(self._save)
        self._hooks = CloseHooks(self._end)
        self._is_creator = False
        self._is_attached = False
        self._bad_end: tuple[str, str | None] | None = None  # of a loaded run, before this process opened it
        self._finished = False
        self._warn = Voice(f"{about.project_name}/{about.run_id}")
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
        validation.make_folder(os.path.join(root, project_name))
        wandb_run, reason = wandb_link.start(mode, {**options, "config": unshared(values)})
        try:
            run_id = wandb_options.get("id") if wandb_run is None else wandb_run.id
            folder = validation.run_folder(os.path.join(root, project_name), run_id)
            about = About.of_new_run(folder, wandb_run, entity)
            run = cls(folder, values, about, RunFiles(folder).open_history()[0])
            if reason:
                run._warn(f"{reason}; the run is local, with the id {run.run_id}")
            run._begin(root, wandb_run, options["tags"])
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
        about = About.read(document, folder)
        status, reason = files.status()
        history, is_current = files.open_history()
        config = {key: value for key, value in document.items() if key not in RESERVED}
        run = cls(folder, config, about.with_status(status or about.status, reason), history)
        if not is_current and not files.is_being_written():  # its process was killed
            run._save()
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
            moment = time.time()
            record(self._history.own, update, moment)  # before it is in the journal: a save knows no less than that
            engine.add_point(experiment, point, moment)
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
        """Let go of what belongs to the parent. What the child adds goes to the run's files, not to wandb."""
        self._lock = threading.RLock()
        self._saver = Saver(self._save)
        self._hooks.disarm()
        self._link = self.wandb_run = None
        self._is_creator = self._is_attached = False
        self._files.let_go()

    def _begin(self, root: str, wandb_run: Any, tags: Sequence[str] | None) -> None:
        self._is_creator = True
        self._files.hold()
        try:
            self.experiment = engine.open_engine(root, self.project_name, self.run_id, tags)
            self._files.write_config({**self.config, **self._about.tables()})
            engine.set_parameters(self.experiment, self.config)
        except BaseException as error:
            if self.experiment is not None:
                engine.end(self.experiment, "FAILED", describe_error(error))
            self._files.let_go()
            raise
        if wandb_run is not None:
            self.wandb_run = wandb_run
            self._link = WandbLink(wandb_run, self._warn)
        self._arm()

    def _attach(self) -> Experiment:
        """Open a loaded run for writing, or the parent's run in a forked child."""
        if self.experiment is None:
            self._files.wait_for_orphan()  # it says how the run ended
            self._bad_end = self._files.bad_end(self._about.status, self._about.meta.get("pid"))
        self._files.hold()
        if self.experiment is None:
            root = os.path.dirname(os.path.dirname(self.run_dir))
            self.experiment = engine.open_engine(root, self.project_name, self.run_id)
        else:
            engine.attach(self.experiment)
        self._history = self._files.open_history()[0]  # what was logged meanwhile
        self._arm()
        return self.experiment

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
        self._end_here(self.experiment, status, reason)
        if self._link is not None:
            self._link.join(timeout)

    def _end_here(self, experiment: Experiment, status: str, reason: str | None) -> None:
        if status == "COMPLETED" and self._bad_end is not None:
            status, reason = self._bad_end  # adding to a run that did not end well does not mend it
        if experiment.is_open:
            experiment.flush()
        self._save(sync=True)
        self._about = self._about.with_status(status, reason)
        if self._is_creator:
            try:
                self._files.write_config({**self._files.read_config(), **self._about.tables()})
            except StorageError as error:
                self._warn(f"the status is not in config.toml: {error}")
        engine.end(experiment, status, reason)
        self._files.let_go()

    def _save(self, sync: bool = False) -> None:
        """Write metrics.toml; if that cannot be done the journal still has everything."""
        experiment = self.experiment if self._is_attached else None
        try:
            own = None
            if experiment is not None:
                engine.flush_if_shared(experiment, len(self._history.sizes()))
                own = engine.own_journal(experiment)
            self._files.save_metrics(self._history, own, sync=sync)
        except Exception as error:  # noqa: BLE001 - a thread that died of one would save nothing any more
            self._save_errors += 1
            if experiment is not None:
                self._warn(f"metrics.toml is behind: {error}; the journal has every value")
                self._saver.mark()
