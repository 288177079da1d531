"""``ml-dash rm``."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING

import click

from ml_dash.cli import arguments, formatting, output
from ml_dash.cli.arguments import json_option, pick, root_option
from ml_dash.cli.exits import NOT_FOUND, CommandError, WrongCallError
from ml_dash.cli.table import Cell, Column, table

if TYPE_CHECKING:
    from ml_dash.catalog.removal import Removal


@click.command()
@click.argument("runs", nargs=-1, required=True, metavar="RUN...", shell_complete=arguments._complete)
@root_option
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.option("--force", is_flag=True, help="Remove a run that somebody writes, too.")
@click.option("--recursive", is_flag=True, help="Remove the runs below it, too; without this they stay.")
@json_option
def rm(runs: tuple[str, ...], root: str, yes: bool, force: bool, recursive: bool, as_json: bool) -> None:
    """Remove every RUN with all that it recorded, after showing what would go and asking.

    Only folders of runs are removed, and then those above them that are empty. Links are removed, and never followed.
    Nothing is removed if one of the runs cannot be. Where nobody can be asked, --yes is needed.
    """
    from ml_dash.catalog.removal import remove

    removals = _plan(runs, root, recursive)
    _refuse_live(removals, force)
    if not yes:
        _ask(removals)
    top = os.path.abspath(root)
    for removal in removals:
        if os.path.isdir(removal.folder):  # else somebody else has just removed it
            remove(removal, top)
    if as_json:
        output.write_json_lines(removal.as_json() | {"removed": True} for removal in removals)
    else:
        output.write([f"removed {_count(removals)}, {_total(removals)}"])


def _plan(runs: tuple[str, ...], root: str, recursive: bool) -> list[Removal]:
    from ml_dash.catalog.removal import plan_removal

    found = {run.folder: run for run in (pick(name, root) for name in runs)}
    if recursive:  # a run that is named goes with a named one above it, and counts there
        found = {folder: run for folder, run in found.items() if not _is_below(folder, found)}
    top = os.path.abspath(root)
    return [plan_removal(run.folder, run.prefix, top, recursive=recursive) for run in found.values()]


def _is_below(folder: str, others: Iterable[str]) -> bool:
    return any(folder.startswith(other.rstrip(os.sep) + os.sep) for other in others if other != folder)


def _count(removals: list[Removal]) -> str:
    """How many runs go, those below included."""
    return formatting.plural(sum(1 + len(removal.kept) * removal.recursive for removal in removals), "run")


def _refuse_live(removals: list[Removal], force: bool) -> None:
    live = [removal for removal in removals if removal.live]
    if live and not force:
        raise CommandError(f"{live[0].prefix} is live ({live[0].live}); nothing was removed; --force removes it")


def _ask(removals: list[Removal]) -> None:
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise WrongCallError(f"nobody can be asked whether to remove {_count(removals)}; give --yes")
    for line in _lines(removals):
        click.echo(line, err=True)
    if not click.confirm(f"Remove {_count(removals)}, {_total(removals)}?", err=True):
        click.echo("nothing was removed", err=True)
        raise click.exceptions.Exit(NOT_FOUND)


def _lines(removals: list[Removal]) -> list[str]:
    columns = [Column("run", least=12, keep_end=True), Column("status"), Column("files", right=True)]
    columns += [Column("size", right=True), Column("", least=8)]
    rows: list[list[Cell]] = [
        [
            formatting.clean(removal.prefix),
            ("live" if removal.live else (removal.status or "-").lower(), "bold red" if removal.live else ""),
            f"{removal.files:,}",
            formatting.size(removal.size),
            _below(removal),
        ]
        for removal in removals
    ]
    return table(columns, rows, output.width())


def _below(removal: Removal) -> str:
    if not removal.kept:
        return ""
    count = formatting.plural(len(removal.kept), "run")
    return f"with {count} below it" if removal.recursive else f"{count} below it stay{'s' * (len(removal.kept) == 1)}"


def _total(removals: list[Removal]) -> str:
    files, size = sum(removal.files for removal in removals), sum(removal.size for removal in removals)
    return f"{formatting.plural(files, 'file')}, {formatting.size(size)}"
