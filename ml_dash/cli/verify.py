"""``ml-dash verify``."""

from __future__ import annotations

import os
from collections import Counter
from typing import TYPE_CHECKING, Any

import click

from ml_dash.cli import arguments, formatting, output
from ml_dash.cli.arguments import json_option, nothing_in, pick, require_folder, root_option
from ml_dash.cli.exits import NOT_FOUND, CommandError
from ml_dash.cli.output import Progress, paint

if TYPE_CHECKING:
    from ml_dash.verify.findings import Finding, Report

INDENT = "  "
_STYLES = {"error": "bold red", "warning": "yellow", "note": "dim"}
_WORD_WIDTH = len("repaired") + 1


@click.command()
@click.argument("path", required=False, shell_complete=arguments._complete)
@root_option
@click.option("--repair", is_flag=True, help="Mend what can be mended. Originals are kept beside; live runs are left.")
@json_option
def verify(path: str | None, root: str, repair: bool, as_json: bool) -> None:
    """Check every run at or below PATH: a run, the beginning of a prefix, or a folder of runs; without it all of --root.

    Every checksum, journal, index, document, tar file and columnar copy is read. Each finding is one line: how bad it
    is, where, what is wrong, and what --repair would do. A note is no finding. Nothing is changed without --repair.

    The exit status is 1 if anything was found that is wrong still.
    """
    found, unreadable = _runs(path, root)
    reports = []
    with Progress("checking") as progress:
        for folder, prefix in found:
            progress.begin(prefix)
            reports.append(_checked(folder, prefix, repair, progress))
            progress.wipe()
            _print(folder, prefix, reports[-1], repair=repair, as_json=as_json)
    for folder, prefix, report in unreadable:
        _print(folder, prefix, report, repair=repair, as_json=as_json)
    if not as_json:
        output.write([_summary(reports, [report for *_, report in unreadable])])
    if unreadable or not all(report.is_clean for report in reports):
        raise click.exceptions.Exit(NOT_FOUND)


def _print(folder: str, prefix: str, report: Report, *, repair: bool, as_json: bool) -> None:
    if as_json:
        output.write_json(_as_json(folder, prefix, report))
    else:
        output.write(_lines(prefix, report, repair))


def _runs(path: str | None, root: str) -> tuple[list[tuple[str, str]], list[tuple[str, str, Report]]]:
    """The folders and prefixes of the runs that are meant, and of folders that cannot be listed, with a report of each."""
    from ml_dash.storage import scan

    below = os.path.abspath(root)
    places = [require_folder(root)] if path is None else [os.path.join(below, *path.strip("/").split("/"))]
    for folder in [*places, os.path.abspath(path or root)]:
        if os.path.isdir(folder):
            unreadable: list[scan.Unreadable] = []
            found = list(scan.find_runs(folder, unreadable))
            if not found and not unreadable:
                raise CommandError(nothing_in(folder))
            inside = folder == below or folder.startswith(below + os.sep)
            top = below if inside else folder
            closed = [(place, scan.prefix_of(place, top), _closed(reason)) for place, reason in unreadable]
            return [(run, scan.prefix_of(run, top)) for run in found], closed
    one = pick(path or root, root)
    return [(one.folder, one.prefix)], []


def _closed(reason: str) -> Report:
    """The report of a folder that cannot be listed: there may be a run in it, or many."""
    from ml_dash.verify.findings import ERROR, Finding, Report

    return Report(findings=[Finding(ERROR, ".", f"cannot be read: {reason}")])


def _checked(folder: str, prefix: str, repair: bool, progress: Progress) -> Report:
    """The report of a run; one that cannot be checked is a finding, and the others are checked all the same."""
    try:
        return _report(folder, prefix, repair, progress)
    except OSError as error:
        where = os.path.relpath(error.filename, folder) if isinstance(error.filename, str) else "."
        return _stopped(where, error.strerror or str(error))
    except Exception as error:  # noqa: BLE001 - whatever a file holds, the other runs are checked
        return _stopped(".", f"{type(error).__name__}: {error}")


def _stopped(where: str, why: str) -> Report:
    from ml_dash.verify.findings import ERROR, Finding, Report

    return Report(findings=[Finding(ERROR, where, f"stops the check: {why}")])


def _report(folder: str, prefix: str, repair: bool, progress: Progress) -> Report:
    if repair:
        from ml_dash.verify.repair import repair_run

        return repair_run(folder, prefix=prefix, advance=progress.advance)
    from ml_dash.verify.run import verify_run

    return verify_run(folder, advance=progress.advance)


def _as_json(folder: str, prefix: str, report: Report) -> dict[str, Any]:
    return {
        "run": prefix,
        "folder": folder,
        "clean": report.is_clean,
        "live": bool(report.live),
        "files": report.files,
        "bytes_read": report.size,
        "findings": [finding.as_json() for finding in report.findings],
        "repaired": report.repaired,
    }


def _lines(prefix: str, report: Report, repair: bool) -> list[str]:
    """A heading and a line for each finding; nothing for a run that is as it should be."""
    if not report.findings and not report.repaired:
        return []
    heading = paint(formatting.clean(prefix), "bold")
    if report.live:
        heading += paint(f"  live: {report.live}", "dim")
    width = output.width()
    lines = [heading]
    for text in report.repaired:
        lines += _wrapped("repaired", "green", text, width)
    for finding in report.findings:
        lines += _finding(finding, report, repair, width)
    return lines


def _finding(finding: Finding, report: Report, repair: bool, width: int | None) -> list[str]:
    text = f"{finding.path}: {finding.problem}"
    if finding.repair and repair and report.live:
        text += "; not repaired, since the run is live"
    elif finding.repair:
        text += f"; --repair {finding.repair}"
    return _wrapped(finding.severity, _STYLES[finding.severity], text, width)


def _wrapped(word: str, style: str, text: str, width: int | None) -> list[str]:
    head = INDENT + paint(word, style) + " " * (_WORD_WIDTH - len(word))
    return formatting.wrap(text, width, head=head, head_width=len(INDENT) + _WORD_WIDTH)


def _summary(reports: list[Report], closed: list[Report]) -> str:
    counts = Counter(finding.severity for report in [*reports, *closed] for finding in report.findings)
    files, size = sum(report.files for report in reports), sum(report.size for report in reports)
    read = (
        f"{formatting.plural(len(reports), 'run')}, {formatting.plural(files, 'file')}, {formatting.size(size)} checked"
    )
    found = ", ".join(formatting.plural(counts[name], name) for name in _STYLES if counts[name])
    clean = not closed and all(report.is_clean for report in reports)
    mended = sum(len(report.repaired) for report in reports)
    end = f"; {mended:,} repaired" if mended else ""
    return f"{read}: {paint('all is well', 'green') if clean else 'something is wrong'}{f' ({found})' if found else ''}{end}"
