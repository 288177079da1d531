"""Arguments and options that several commands share, their shell completion, and the run that an argument names."""

from __future__ import annotations

import itertools
import os
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from ml_dash.cli.exits import CommandError

if TYPE_CHECKING:
    from ml_dash.query.run import RunReader

DEFAULT_ROOT = ".dash"

SEARCHED_RUNS = 100_000
"""Runs that completion looks at: more than a tree has, so that it ends even below ``/``."""

OFFERED = 200
"""Completions for the shell: more do not fit on a screen."""


def run_argument(name: str = "run", metavar: str = "RUN") -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return the decorator for an argument that names a run."""
    return click.argument(name, metavar=metavar, shell_complete=complete_run)


def metric_argument(metavar: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return the decorator for an argument that names a metric, and maybe its field, of the run before it."""
    return click.argument("metric", metavar=metavar, shell_complete=_complete_metric)


def topic_argument(metavar: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return the decorator for an argument that names a frame stream of the run before it."""
    return click.argument("topic", metavar=metavar, shell_complete=_complete_topic)


def root_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--root`` to a command."""
    return click.option(
        "-r",
        "--root",
        type=click.Path(),
        default=DEFAULT_ROOT,
        show_default=True,
        metavar="FOLDER",
        help="Folder of all runs.",
    )(command)


def json_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--json`` to a command."""
    return click.option("as_json", "--json", is_flag=True, help="Print JSON for a program to read.")(command)


def find_run(name: str, root: str) -> RunReader:
    """Open a run by its folder, its prefix below the root, or the end of a prefix that only one run has.

    Raises:
        MissingFileError: there is no such run.
        CommandError: the root does not exist.
        ExperimentError: several prefixes end in the name.
    """
    from ml_dash.errors import MissingFileError
    from ml_dash.query.run import open_run

    try:
        return open_run(name.rstrip("/") or name, root)
    except MissingFileError:
        require_folder(root)
        raise


def require_folder(root: str) -> str:
    """Return the absolute path of a root that exists.

    Raises:
        CommandError: it does not exist, or is not a folder.
    """
    path = os.path.abspath(root)
    if not os.path.isdir(path):
        problem = "is no folder" if os.path.exists(path) else "does not exist"
        raise CommandError(f"{path!r} {problem}; runs are recorded there by Experiment(..., dash_root={root!r})")
    return path


def nothing_in(root: str) -> str:
    """Return the message about a folder without any run."""
    return f"no runs below {os.path.abspath(root)!r} yet; record one with Experiment('owner/project/name')"


def complete_run(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:  # noqa: ARG001 - click's signature
    """Return the prefixes that begin with the typed text, then the ends of prefixes that do and that are unique.

    A prefix that begins with a dash would be an option, and one that begins with a tilde a home in fish: instead of
    these, the run's folder is completed.
    """
    from ml_dash.storage import scan

    root = os.path.abspath(ctx.params.get("root") or DEFAULT_ROOT)
    prefixes = [scan.prefix_of(folder, root) for folder in itertools.islice(scan.find_runs(root), SEARCHED_RUNS)]
    names = [prefix for prefix in prefixes if prefix.startswith(incomplete)]
    if not incomplete.startswith("-"):  # otherwise it stands after `--`
        names = [os.path.join(root, name) if name.startswith(("-", "~")) else name for name in names]
    if incomplete:
        parts = [prefix.split("/") for prefix in prefixes]
        ends = Counter(
            end
            for segments in parts
            for start in range(1, len(segments))
            if (end := "/".join(segments[start:])).startswith(incomplete)
        )
        whole = set(prefixes)
        names += [end for end, count in ends.items() if count == 1 and end not in whole]
    return [CompletionItem(name) for name in names[:OFFERED]]


def _complete_metric(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:  # noqa: ARG001 - click's signature
    from ml_dash.catalog.rows import last_values
    from ml_dash.cli.series import label_of

    run = _run_before(ctx)
    if run is None:
        return []
    metrics = dict.fromkeys([None, *run.metrics.list()])
    fields = [(metric, field) for metric in metrics for field in last_values(run.folder, metric) if field != "_ts"]
    labels = [label_of(metric, field) for metric, field in fields]
    return _beginning_with(incomplete, labels)


def _complete_topic(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:  # noqa: ARG001 - click's signature
    run = _run_before(ctx)
    topics = [stream["topic"] for stream in run.frames.list()] if run is not None else []
    return _beginning_with(incomplete, topics)


def _beginning_with(incomplete: str, names: list[str]) -> list[CompletionItem]:
    """Return the names that begin with the typed text. One that begins with a dash is completed after ``--`` only."""
    is_option = not incomplete.startswith("-")
    fitting = [name for name in names if name.startswith(incomplete) and not (is_option and name.startswith("-"))]
    return [CompletionItem(name) for name in fitting[:OFFERED]]


def _run_before(ctx: click.Context) -> RunReader | None:
    """Return the run whose name stands before the word to complete; None on any error, which a shell cannot show."""
    from ml_dash.errors import MlDashError

    try:
        return find_run(ctx.params["run"], ctx.params.get("root") or DEFAULT_ROOT)
    except (CommandError, KeyError, MlDashError, OSError):
        return None
