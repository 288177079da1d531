"""``ml-dash diff``."""

from __future__ import annotations

import math
from typing import Any

import click

from ml_dash.cli import formatting, output
from ml_dash.cli.arguments import json_option, pick, root_option, run_argument
from ml_dash.cli.output import paint
from ml_dash.cli.table import Cell, Column, table

SHOWN_LINES = 30
"""Lines of one kind of difference on a terminal: most of a screen. The rest is counted."""

INDENT = "  "


@click.command()
@run_argument("first", "A")
@run_argument("second", "B")
@root_option
@click.option("--all", "everything", is_flag=True, help="Every line, and metrics that ended with the same value.")
@json_option
def diff(first: str, second: str, root: str, everything: bool, as_json: bool) -> None:
    """Show how the runs A and B differ: parameters, environment, code, and the last values of their metrics.

    The exit status is 0 whether they differ or not; --json says which in "equal".
    """
    from ml_dash.query.differences import differences

    found = differences(pick(first, root), pick(second, root))
    if as_json:
        output.write_json(found)
    else:
        output.write(_screen(found, everything=everything))


def _screen(found: dict[str, Any], *, everything: bool) -> list[str]:
    width = output.width()
    names: list[list[Cell]] = [
        [("A", "red"), formatting.clean(found["a"])],
        [("B", "green"), formatting.clean(found["b"])],
    ]
    lines = table([Column(), Column(least=20, keep_end=True, style="bold")], names, width)
    for title, key in (("Parameters", "params"), ("Environment", "environment"), ("Packages", "packages")):
        lines += _section(title, _changes(found[key], width), everything=everything)
    lines += _section("Code", _code(found["code"], width), everything=everything)
    lines += _section(
        "Metrics (last values)", _metrics(found["metrics"], width, everything=everything), everything=everything
    )
    if found["equal"]:
        same = "the same parameters, environment and code"
        lines += [paint(line, "dim") for line in formatting.wrap(same, width)]
    return lines


def _section(title: str, lines: list[str], *, everything: bool) -> list[str]:
    if not lines:
        return []
    is_whole = everything or not output.is_terminal()
    left_out = 0 if is_whole else max(0, len(lines) - SHOWN_LINES)
    shown = lines[: len(lines) - left_out]
    more = [INDENT + paint(f"... and {left_out:,} more; see --all", "dim")] if left_out else []
    return [paint(title, "bold"), *shown, *more]


def _changes(found: dict[str, Any], width: int | None) -> list[str]:
    rows = [_row("~", name, pair["a"], pair["b"]) for name, pair in found["changed"].items()]
    rows += [_row("-", name, value, None) for name, value in found["removed"].items()]
    rows += [_row("+", name, None, value) for name, value in found["added"].items()]
    return _aligned(rows, width)


def _metrics(found: dict[str, Any], width: int | None, *, everything: bool) -> list[str]:
    from ml_dash.query.differences import same

    rows = []
    for name, pair in found.items():
        mark = "-" if "b" not in pair else "+" if "a" not in pair else "~"
        first, second = pair.get("a"), pair.get("b")
        if everything or mark != "~" or not same(first, second):
            rows.append(_row(mark, name, first, second, _change(first, second)))
    return _aligned(rows, width)


def _aligned(rows: list[list[Cell]], width: int | None) -> list[str]:
    columns = [Column(), Column(least=16), Column(least=12), Column(), Column(least=12)]
    columns.append(Column(style="dim", shown_from=50))
    return table(columns, rows, width, INDENT)


_MARKS = {"~": "yellow", "+": "green", "-": "red"}


def _row(mark: str, name: str, first: Any, second: Any, note: str = "") -> list[Cell]:
    arrow = ("->", "dim") if mark == "~" else ""
    sides: list[Cell] = [
        "" if mark == "+" else (_text(first), "red"),
        arrow,
        "" if mark == "-" else (_text(second), "green"),
    ]
    return [(mark, _MARKS[mark]), formatting.clean(name), *sides, note]


def _text(value: Any) -> str:
    return formatting.short_value(value) if output.is_terminal() else formatting.value_text(value)


def _change(first: Any, second: Any) -> str:
    """How much larger or smaller the second number is."""
    if not all(isinstance(value, (int, float)) and math.isfinite(value) for value in (first, second)) or not first:
        return ""
    share = (second - first) / abs(first) * 100
    return f"{share:+.1f} %" if abs(share) < 1e4 else ""


def _code(found: dict[str, Any], width: int | None) -> list[str]:
    if not found["changed"]:
        return []
    rows: list[list[Cell]] = [
        [(name.upper(), style), _commit(found[name])] for name, style in (("a", "red"), ("b", "green"))
    ]
    lines = table([Column(), Column(least=20)], rows, width, INDENT)
    about = {"a": "changes that only A had:", "b": "changes that only B had:", "both": "how their changes differ:"}
    if found["diff"]:
        lines.append(INDENT + paint(about[found["diff_of"]], "dim"))
    cleaned = [formatting.clean(line) for line in found["diff"]]
    return lines + [INDENT + _painted(formatting.clip(line, width and width - len(INDENT))) for line in cleaned]


def _commit(side: dict[str, Any] | None) -> str:
    if not side or not side["commit"]:
        return "no commit recorded"
    branch = f" on {side['branch']}" if side["branch"] else ""
    changed = {True: ", with changes that were not committed", False: ", clean"}.get(side["dirty"], "")
    return formatting.clean(f"{side['commit']}{branch}{changed}")


def _painted(line: str) -> str:
    style = {"+": "green", "-": "red", "@": "cyan"}.get(line[:1], "")
    return paint(line, "bold" if line.startswith(("+++", "---")) else style)
