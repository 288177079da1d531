"""The command ``ml-dash verify``."""

from __future__ import annotations

import os
from collections import Counter
from typing import TYPE_CHECKING

import click

from ml_dash._printable import clean
from ml_dash.cli import arguments, formatting, output
from ml_dash.cli.arguments import find_run, json_option, nothing_in, require_folder, root_option
from ml_dash.cli.exits import NOT_FOUND, CommandError
from ml_dash.cli.output import Progress, paint

if TYPE_CHECKING:
    from ml_dash.verify.findings import Report

INDENT = "  "
_STYLES = {"error": "bold red", "warning": "yellow", "note": "dim"}
_WORD_WIDTH = len("repaired") + 1


@click.command()
@click.argument("path", required=False, shell_complete=arguments.complete_run)
@root_option
@click.option("--repair", is_flag=True, help="Repair what can be repaired, except in live runs. Originals are kept.")
@json_option
def verify(path: str | None, root: str, repair: bool, as_json: bool) -> None:
    """Check every run at or below PATH: a run, the beginning of a prefix, or a folder of runs; by default all of --root.

    Every checksum, journal, index, document, tar file and columnar copy is read. A finding is one line: its severity,
    the file, the problem, and what --repair would do. A note is not a problem. Without --repair nothing is changed.

    The exit status is 1 if a problem was found that is not repaired.
    """
    runs, unreadable = _find_runs(path, root)
    reports = []
    with Progress("checking") as progress:
        for folder, prefix in runs:
            progress.begin(prefix)
            reports.append(_check(folder, prefix, repair, progress))
            progress.wipe()
            _print(folder, prefix, reports[-1], repair=repair, as_json=as_json)
    for folder, prefix, report in unreadable:
        _print(folder, prefix, report, repair=repair, as_json=as_json)
    if not as_json:
        output.write([_summary(reports, [report for *_, report in unreadable])])
    if unreadable or not all(report.is_clean for report in reports):
        raise click.exceptions.Exit(NOT_FOUND)


def _find_runs(path: str | None, root: str) -> tuple[list[tuple[str, str]], list[tuple[str, str, Report]]]:
    """Return the folder and prefix of each run, and of each folder that cannot be listed, with a report about it."""
    from ml_dash.storage import scan

    top = os.path.abspath(root)
    below_root = require_folder(root) if path is None else os.path.join(top, *path.strip("/").split("/"))
    for folder in (below_root, os.path.abspath(path or root)):
        if os.path.isdir(folder):
            unreadable: list[scan.Unreadable] = []
            runs = list(scan.find_runs(folder, unreadable))
            if not runs and not unreadable:
                raise CommandError(nothing_in(folder))
            if folder != top and not folder.startswith(top + os.sep):
                top = folder
            return [(run, scan.prefix_of(run, top)) for run in runs], [
                (closed, scan.prefix_of(closed, top), _problem(".", f"cannot be read: {reason}"))
                for closed, reason in unreadable
            ]
    reader = find_run(path or root, root)
    return [(reader.folder, reader.prefix)], []


def _check(folder: str, prefix: str, repair: bool, progress: Progress) -> Report:
    """Check a run. An error that stops the check becomes a finding, so that the other runs are checked as well."""
    try:
        if repair:
            from ml_dash.verify.repair import repair_run

            return repair_run(folder, prefix=prefix, advance=progress.advance)
        from ml_dash.verify.run import verify_run

        return verify_run(folder, advance=progress.advance)
    except OSError as error:
        path = os.path.relpath(error.filename, folder) if isinstance(error.filename, str) else "."
        return _problem(path, f"stops the check: {error.strerror or error}")
    except Exception as error:  # noqa: BLE001 - a file may hold anything, and the other runs are to be checked
        return _problem(".", f"stops the check: {type(error).__name__}: {error}")


def _problem(path: str, text: str) -> Report:
    from ml_dash.verify.findings import ERROR, Finding, Report

    return Report(findings=[Finding(ERROR, path, text)])


def _print(folder: str, prefix: str, report: Report, *, repair: bool, as_json: bool) -> None:
    """Print a report. For people, a run without findings is not mentioned."""
    if as_json:
        output.write_json(
            {
                "run": prefix,
                "folder": folder,
                "clean": report.is_clean,
                "live": bool(report.live),
                "files": report.files,
                "bytes_read": report.size,
                "findings": [finding.as_json() for finding in report.findings],
                "repaired": report.repaired,
            }
        )
    elif report.findings or report.repaired:
        heading = paint(clean(prefix), "bold")
        if report.live:
            heading += paint(f"  live: {report.live}", "dim")
        output.write([heading])
        for text in report.repaired:
            _print_wrapped("repaired", "green", text)
        for finding in report.findings:
            text = f"{finding.path}: {finding.problem}"
            if finding.repair and repair and report.live:
                text += "; not repaired, since the run is live"
            elif finding.repair:
                text += f"; --repair {finding.repair}"
            _print_wrapped(finding.severity, _STYLES[finding.severity], text)


def _print_wrapped(word: str, style: str, text: str) -> None:
    head = INDENT + paint(word, style) + " " * (_WORD_WIDTH - len(word))
    output.write(formatting.wrap(text, output.width(), head=head, head_width=len(INDENT) + _WORD_WIDTH))


def _summary(reports: list[Report], unreadable: list[Report]) -> str:
    runs = formatting.plural(len(reports), "run")
    files = formatting.plural(sum(report.files for report in reports), "file")
    size = formatting.size(sum(report.size for report in reports))
    is_clean = not unreadable and all(report.is_clean for report in reports)
    text = f"{runs}, {files}, {size} checked: {paint('all is well', 'green') if is_clean else 'something is wrong'}"
    counts = Counter(finding.severity for report in [*reports, *unreadable] for finding in report.findings)
    if counts:
        text += f" ({', '.join(formatting.plural(counts[name], name) for name in _STYLES if counts[name])})"
    repaired = sum(len(report.repaired) for report in reports)
    return f"{text}; {repaired:,} repaired" if repaired else text
