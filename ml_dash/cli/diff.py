"""The command ``ml-dash diff``."""

from __future__ import annotations

import math
from typing import Any

import click

from ml_dash._printable import clean_text
from ml_dash.cli import formatting, output
from ml_dash.cli.arguments import find_run, json_option, root_option, run_argument
from ml_dash.cli.output import paint
from ml_dash.cli.table import Cell, Column, table

SHOWN_LINES = 30
"""Lines of one section on a terminal: most of a screen. A line counts the rest."""

INDENT = "  "

_MARK_STYLES = {"~": "yellow", "+": "green", "-": "red"}
_SIDE_STYLES = {"a": "red", "b": "green"}


@click.command()
@run_argument("first", "A")
@run_argument("second", "B")
@root_option
@click.option("--all", "everything", is_flag=True, help="Show every line, and metrics that ended with equal values.")
@json_option
def diff(first: str, second: str, root: str, everything: bool, as_json: bool) -> None:
    """Show how the runs A and B differ: parameters, environment, code, and the last values of their metrics.

    The exit status is 0 whether they differ or not; with --json, "equal" says whether they do.
    """
    from ml_dash.query.differences import compare_runs

    difference = compare_runs(find_run(first, root), find_run(second, root))
    if as_json:
        output.write_json(difference)
    else:
        output.write(_screen(difference, everything=everything))


def _screen(difference: dict[str, Any], *, everything: bool) -> list[str]:
    width = output.width()
    names: list[list[Cell]] = [[(side.upper(), style), difference[side]] for side, style in _SIDE_STYLES.items()]
    lines = table([Column(), Column(least=20, keep_end=True, style="bold")], names, width)
    sections = {
        "Parameters": _changes(difference["params"], width),
        "Environment": _changes(difference["environment"], width),
        "Packages": _changes(difference["packages"], width),
        "Code": _code(difference["code"], width),
        "Metrics (last values)": _metrics(difference["metrics"], width, everything=everything),
    }
    limit = None if everything or not output.is_terminal() else SHOWN_LINES
    for title, content in sections.items():
        if content:
            lines += [paint(title, "bold"), *content[:limit]]
        if limit is not None and len(content) > limit:
            lines.append(INDENT + paint(f"... and {len(content) - limit:,} more; see --all", "dim"))
    if difference["equal"]:
        text = "the same parameters, environment and code"
        lines += [paint(line, "dim") for line in formatting.wrap(text, width)]
    return lines


def _changes(changes: dict[str, Any], width: int | None) -> list[str]:
    rows = [_row("~", name, pair["a"], pair["b"]) for name, pair in changes["changed"].items()]
    rows += [_row("-", name, value, None) for name, value in changes["removed"].items()]
    rows += [_row("+", name, None, value) for name, value in changes["added"].items()]
    return _aligned(rows, width)


def _metrics(metrics: dict[str, Any], width: int | None, *, everything: bool) -> list[str]:
    from ml_dash.query.differences import same

    rows = []
    for name, pair in metrics.items():
        mark = "-" if "b" not in pair else "+" if "a" not in pair else "~"
        first, second = pair.get("a"), pair.get("b")
        if everything or mark != "~" or not same(first, second):
            rows.append(_row(mark, name, first, second, _percent(first, second)))
    return _aligned(rows, width)


def _aligned(rows: list[list[Cell]], width: int | None) -> list[str]:
    columns = [Column(), Column(least=16), Column(least=12), Column(), Column(least=12)]
    return table([*columns, Column(style="dim", shown_from=50)], rows, width, INDENT)


def _row(mark: str, name: str, first: Any, second: Any, note: str = "") -> list[Cell]:
    text_of = formatting.short_value if output.is_terminal() else formatting.value_text
    return [
        (mark, _MARK_STYLES[mark]),
        name,
        ("" if mark == "+" else text_of(first), _SIDE_STYLES["a"]),
        ("->" if mark == "~" else "", "dim"),
        ("" if mark == "-" else text_of(second), _SIDE_STYLES["b"]),
        note,
    ]


def _percent(first: Any, second: Any) -> str:
    """Return by how many percent the second number is larger; empty if that means nothing."""
    if not all(isinstance(value, (int, float)) and math.isfinite(value) for value in (first, second)) or not first:
        return ""
    percent = (second - first) / abs(first) * 100
    return f"{percent:+.1f} %" if abs(percent) < 1e4 else ""


def _code(code: dict[str, Any], width: int | None) -> list[str]:
    if not code["changed"]:
        return []
    rows: list[list[Cell]] = [[(side.upper(), style), _commit(code[side])] for side, style in _SIDE_STYLES.items()]
    lines = table([Column(), Column(least=20)], rows, width, INDENT)
    headings = {"a": "changes that only A had:", "b": "changes that only B had:", "both": "how their changes differ:"}
    if code["diff"]:
        lines.append(INDENT + paint(headings[code["diff_of"]], "dim"))
    for line in code["diff"]:
        style = "bold" if line.startswith(("+++", "---")) else {"+": "green", "-": "red", "@": "cyan"}.get(line[:1], "")
        lines.append(INDENT + paint(formatting.clip(clean_text(line), width and width - len(INDENT)), style))
    return lines


def _commit(side: dict[str, Any] | None) -> str:
    if not side or not side["commit"]:
        return "no commit recorded"
    branch = f" on {side['branch']}" if side["branch"] else ""
    changed = {True: ", with changes that were not committed", False: ", clean"}.get(side["dirty"], "")
    return f"{side['commit']}{branch}{changed}"
