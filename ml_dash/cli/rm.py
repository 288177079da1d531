"""The command ``ml-dash rm``."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import click

from ml_dash.cli import arguments, formatting, output
from ml_dash.cli.arguments import find_run, json_option, root_option
from ml_dash.cli.exits import NOT_FOUND, CommandError, WrongCallError
from ml_dash.cli.table import Cell, Column, table

if TYPE_CHECKING:
    from ml_dash.catalog.removal import Removal


@click.command()
@click.argument("runs", nargs=-1, required=True, metavar="RUN...", shell_complete=arguments.complete_run)
@root_option
@click.option("-y", "--yes", is_flag=True, help="Do not ask for confirmation.")
@click.option("--force", is_flag=True, help="Also remove a run that is being written.")
@click.option("--recursive", is_flag=True, help="Also remove the runs below RUN; without this they stay.")
@json_option
def rm(runs: tuple[str, ...], root: str, yes: bool, force: bool, recursive: bool, as_json: bool) -> None:
    """Remove each RUN with everything it recorded, after a list of what will go and a question.

    Only folders of runs are removed, and folders above them that are empty afterwards. Links are removed, and never
    followed. If one of the runs cannot be removed, none is. Without a terminal to ask on, --yes is needed.
    """
    from ml_dash.catalog.removal import check_unchanged, remove

    removals = _plan(runs, root, recursive)
    live = next((removal for removal in removals if removal.live), None)
    if live is not None and not force:
        raise CommandError(f"{live.prefix} is live ({live.live}); nothing was removed; --force removes it")
    if not yes:
        _confirm(removals)
    for removal in removals:
        check_unchanged(removal, os.path.abspath(root))
    for removal in removals:
        remove(removal, os.path.abspath(root))
    if as_json:
        output.write_json_lines(removal.as_json() | {"removed": True} for removal in removals)
    else:
        output.write([f"removed {_count(removals)}, {_total(removals)}"])


def _plan(runs: tuple[str, ...], root: str, recursive: bool) -> list[Removal]:
    from ml_dash.catalog.removal import plan_removal

    readers = {reader.folder: reader for reader in (find_run(name, root) for name in runs)}
    removals = []
    for folder, reader in readers.items():
        # With --recursive, a run below another one of them is counted and removed with that one.
        is_below = any(folder.startswith(other.rstrip(os.sep) + os.sep) for other in readers if other != folder)
        if not (recursive and is_below):
            removals.append(plan_removal(folder, reader.prefix, os.path.abspath(root), recursive=recursive))
    return removals


def _count(removals: list[Removal]) -> str:
    """Return how many runs will go, including the runs below them."""
    return formatting.plural(sum(1 + len(removal.kept) * removal.recursive for removal in removals), "run")


def _confirm(removals: list[Removal]) -> None:
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise WrongCallError(f"nobody can be asked whether to remove {_count(removals)}; give --yes")
    output.write(_lines(removals), to_stderr=True)
    if not click.confirm(f"Remove {_count(removals)}, {_total(removals)}?", err=True):
        click.echo("nothing was removed", err=True)
        raise click.exceptions.Exit(NOT_FOUND)


def _lines(removals: list[Removal]) -> list[str]:
    columns = [Column("run", least=12, keep_end=True), Column("status"), Column("files", right=True)]
    columns += [Column("size", right=True), Column("", least=8)]
    rows: list[list[Cell]] = [
        [
            removal.prefix,
            ("live" if removal.live else str(removal.status or "-").lower(), "bold red" if removal.live else ""),
            f"{removal.files:,}",
            formatting.size(removal.size),
            "; ".join(filter(None, (_below(removal), _owners(removal)))),
        ]
        for removal in removals
    ]
    return table(columns, rows, output.width())


def _below(removal: Removal) -> str:
    if not removal.kept:
        return ""
    count = formatting.plural(len(removal.kept), "run")
    return f"with {count} below it" if removal.recursive else f"{count} below it stay{'s' * (len(removal.kept) == 1)}"


def _owners(removal: Removal) -> str:
    return f"owned by {', '.join(removal.owners)}" if removal.owners else ""


def _total(removals: list[Removal]) -> str:
    files, size = sum(removal.files for removal in removals), sum(removal.size for removal in removals)
    return f"{formatting.plural(files, 'file')}, {formatting.size(size)}"
