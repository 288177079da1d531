"""Which run a command is about, from what a person typed."""

from __future__ import annotations

import itertools
import os
from collections import Counter
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from ml_dash.cli.exits import CommandError

if TYPE_CHECKING:
    from ml_dash.query.run import RunReader

DEFAULT_ROOT = ".dash"

SEARCHED_RUNS = 100_000
"""How many runs are looked at for one that ends in what was typed: more than a tree has, and a bound all the same."""

OFFERED = 200
"""Completions that are given to the shell: more than fit on a screen are of no use."""


def run_argument(name: str = "run", metavar: str = "RUN") -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """The name of a run; shells complete it from the runs that are there."""
    return click.argument(name, metavar=metavar, shell_complete=_complete)


def metric_argument(metavar: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """A metric and its field; shells complete it from what the run before it logged."""
    return click.argument("metric", metavar=metavar, shell_complete=_complete_metric)


def topic_argument(metavar: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """A frame stream; shells complete it from those of the run before it."""
    return click.argument("topic", metavar=metavar, shell_complete=_complete_topic)


def root_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """``--root``, for commands that take the name of a run."""
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
    """``--json``, for every command."""
    return click.option("as_json", "--json", is_flag=True, help="Print JSON for a program to read.")(command)


def pick(name: str, root: str) -> RunReader:
    """The run that is meant: a folder, a prefix below the root, or the end of one prefix.

    Raises:
        MissingFileError: there is no such run.
        CommandError: the root does not exist.
        ExperimentError: several end in that.
    """
    from ml_dash.errors import MissingFileError
    from ml_dash.query.run import open_run

    try:
        return open_run(name.rstrip("/") or name, root)
    except MissingFileError:
        require_folder(root)
        raise


def require_folder(root: str) -> str:
    """The absolute path of a root that exists.

    Raises:
        CommandError: it does not, or is no folder.
    """
    path = os.path.abspath(root)
    if not os.path.isdir(path):
        what = "is no folder" if os.path.exists(path) else "does not exist"
        raise CommandError(f"{path!r} {what}; runs are recorded there by Experiment(..., dash_root={root!r})")
    return path


def nothing_in(root: str) -> str:
    """What to say of a folder without any run."""
    return f"no runs below {os.path.abspath(root)!r} yet; record one with Experiment('owner/project/name')"


def _complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:  # noqa: ARG001 - click's signature
    """The prefixes that begin with what was typed, and the ends that do and that only one run has."""
    known = list(itertools.islice(_prefixes(ctx.params.get("root") or DEFAULT_ROOT), SEARCHED_RUNS))
    found = [prefix for prefix in known if prefix.startswith(incomplete)]
    return [CompletionItem(name) for name in [*found, *_unique_ends(known, incomplete)][:OFFERED]]


def _unique_ends(known: list[str], incomplete: str) -> list[str]:
    if not incomplete:
        return []
    ends = Counter(end for prefix in known for end in _ends(prefix) if end.startswith(incomplete))
    whole = set(known)
    return [end for end, count in ends.items() if count == 1 and end not in whole]


def _ends(prefix: str) -> Iterator[str]:
    """``walker/seed-1`` and ``seed-1`` of ``alice/walker/seed-1``."""
    _, slash, rest = prefix.partition("/")
    while slash:
        yield rest
        _, slash, rest = rest.partition("/")


def _complete_metric(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:  # noqa: ARG001 - click's signature
    """What ``plot`` can draw of the run."""
    from ml_dash.catalog.rows import last_values
    from ml_dash.cli.series import label_of

    run = _typed_run(ctx)
    names = [None, *run.metrics.list()] if run is not None else []
    fields = ((name, field) for name in dict.fromkeys(names) for field in last_values(run.folder, name)) if run else ()
    found = [label_of(name, field) for name, field in fields if field != "_ts"]
    return [CompletionItem(label) for label in found if label.startswith(incomplete)][:OFFERED]


def _complete_topic(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:  # noqa: ARG001 - click's signature
    """The frame streams of the run."""
    run = _typed_run(ctx)
    topics = [about["topic"] for about in run.frames.list()] if run is not None else []
    return [CompletionItem(topic) for topic in topics if topic.startswith(incomplete)][:OFFERED]


def _typed_run(ctx: click.Context) -> RunReader | None:
    """The run that stands before what is completed; None if it is none: a shell has nobody to tell why."""
    from ml_dash.errors import MlDashError

    try:
        return pick(ctx.params["run"], ctx.params.get("root") or DEFAULT_ROOT)
    except (CommandError, KeyError, MlDashError, OSError):
        return None


def _prefixes(root: str) -> Iterator[str]:
    from ml_dash.storage import scan

    path = os.path.abspath(root)
    return (scan.prefix_of(folder, path) for folder in scan.find_runs(path))
