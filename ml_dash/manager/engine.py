"""The ml_dash run behind a managed run: it keeps the history of the metrics, and knows how the run ended."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from ml_dash.errors import MlDashError
from ml_dash.experiment.experiment import Experiment
from ml_dash.managed.toml_values import encode
from ml_dash.storage import layout

SHARED_FLUSH_S = 1.0
"""How long a write of metrics.toml waits for the journal, which takes milliseconds; a disk that is full must not hold
up everything else."""


def open_engine(base_dir: str, project_name: str, run_id: str, tags: Sequence[str] | None = None) -> Experiment:
    """Open, or continue, the run in ``base_dir/project_name/run_id``.

    Raises:
        StorageError: the directory cannot be written to.
    """
    prefix = f"{project_name}/{run_id}".replace("{", "{{").replace("}", "}}")  # braces would be a template
    # A counter that is given is not counted: RUN.job_counter is for the experiments that a script opens itself.
    experiment = Experiment(prefix, dash_root=base_dir, tags=tags, job_counter=0)
    experiment.run.project = project_name  # by itself the second segment, which is the run here
    experiment.run.start()
    experiment.session.hooks.disarm()  # the managed run ends it, after its own work
    return experiment


def set_parameters(experiment: Experiment, config: Mapping[str, Any]) -> None:
    """Have the configuration as the run's parameters too, for whatever reads runs."""
    try:
        experiment.params.set(encode(config, "config", for_json=True))
    except MlDashError as error:  # they are in config.toml, so that it is no reason to end
        experiment.session.warn_once(f"the configuration is not among the parameters: {error}")


def attach(experiment: Experiment) -> None:
    """In a forked child: write to the parent's run, to files of our own."""
    experiment.session.attach()
    experiment.session.hooks.disarm()


def add_point(experiment: Experiment, point: dict[str, Any], time: float) -> None:
    """Put one call's metrics into the journal, by way of the shared memory."""
    point["_ts"] = time
    experiment.metrics(None).log(point)


def own_journal(experiment: Experiment) -> str:
    """The file name of this process's journal."""
    return os.path.basename(layout.data(layout.metric_folder(None), experiment.session.writer_id))


def flush_if_shared(experiment: Experiment, journals: int) -> None:
    """Have our points in the journal before metrics.toml has them, if somebody else writes that file from journals.

    Args:
        experiment: the run.
        journals: how many the run has.
    """
    if journals > 1 or experiment.session.writer_id:
        experiment.session.channel.flush(SHARED_FLUSH_S)


def end(experiment: Experiment, status: str, reason: str | None) -> None:
    """End the run; returns when everything is on disk, or when the writer makes no progress."""
    experiment.session.end(status, reason)
