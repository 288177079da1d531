"""Which run a command is about, from what a person typed."""

from __future__ import annotations

import itertools
import os
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

NAMED = 5
"""Runs that an error names."""


def run_argument(name: str = "run", metavar: str = "RUN") -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """The name of a run; shells complete it from the runs that are there."""
    return click.argument(name, metavar=metavar, shell_complete=_complete)


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
        CommandError: there is no such run, or several end in that.
    """
    from ml_dash.errors import MissingFileError
    from ml_dash.query.run import open_run

    wanted = name.rstrip("/") or name
    try:
        return open_run(wanted, root)
    except MissingFileError:
        known = _known(root)
    ending = [prefix for prefix in known if prefix.endswith(f"/{wanted}")]
    if len(ending) == 1:
        return open_run(ending[0], root)
    if ending:
        raise CommandError(f"{len(ending)} runs end in {wanted!r}: {_listed(ending)}; name one in full")
    raise CommandError(_not_there(wanted, root, known))


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
    """The prefixes that begin with what was typed."""
    found = (prefix for prefix in _prefixes(ctx.params.get("root") or DEFAULT_ROOT) if prefix.startswith(incomplete))
    return [CompletionItem(prefix) for prefix in itertools.islice(found, OFFERED)]


def _known(root: str) -> list[str]:
    path = require_folder(root)
    return list(itertools.islice(_prefixes(path), SEARCHED_RUNS))


def _prefixes(root: str) -> Iterator[str]:
    from ml_dash.query import scan

    path = os.path.abspath(root)
    return (scan.prefix_of(folder, path) for folder in scan.find_runs(path))


def _not_there(wanted: str, root: str, known: list[str]) -> str:
    if not known:
        return nothing_in(root)
    import difflib

    below = [prefix for prefix in known if prefix.startswith(f"{wanted.strip('/')}/")]
    if below:
        return f"{wanted!r} is no run, but {_listed(below)} below it"
    names = {prefix.rsplit("/", 1)[-1]: prefix for prefix in known}
    close = difflib.get_close_matches(wanted, [*known, *names], n=3, cutoff=0.6)
    near = list(dict.fromkeys(names.get(match, match) for match in close))
    advice = f"did you mean {_listed(near)}?" if near else "ml-dash ls lists those that there are"
    return f"no run {wanted!r} below {os.path.abspath(root)!r}; {advice}"


def _listed(prefixes: list[str]) -> str:
    more = f" and {len(prefixes) - NAMED:,} more" if len(prefixes) > NAMED else ""
    return ", ".join(prefixes[:NAMED]) + more
