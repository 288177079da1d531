"""Tables of text for a terminal: columns aligned by their width on the screen, and cut to fit it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ml_dash._printable import Printable, clean
from ml_dash.cli.formatting import clip, display_width
from ml_dash.cli.output import paint

GAP = "  "

NARROWEST_COLUMN = 4
"""Width that every column keeps on a narrow terminal: three letters and the ellipsis."""

WIDEST_CELL = 4096
"""Most columns of a cell, in a pipe as well: every line is as long as its longest one. ``--json`` has values in full."""

Cell = str | tuple[str, str]
"""Text, or text and a style. Text that is not ``Printable`` is a name."""


@dataclass(frozen=True, slots=True)
class Column:
    """How a column is shown.

    Attributes:
        title: the heading; the line of headings is printed if any column has one.
        right: whether the text is aligned to the right, as for numbers.
        least: the width to which the column may be cut where there is too little room; 0: cut it last.
        keep_end: whether to cut away the beginning of the text instead of the end.
        style: the style of cells that are only text.
        shown_from: the width of a terminal from which on the column is shown at all.
    """

    title: str = ""
    right: bool = False
    least: int = 0
    keep_end: bool = False
    style: str = ""
    shown_from: int = 0


def table(columns: Sequence[Column], rows: Sequence[Sequence[Cell]], width: int | None, indent: str = "") -> list[str]:
    """Return a line of headings and a line for each row, none of them wider than ``width``.

    Args:
        columns: how they are shown. If even columns of four letters do not fit beside each other, the last ones are
            left out.
        rows: as many cells as columns in each; their text is cleaned here, and cut to ``WIDEST_CELL``.
        width: terminal columns; None for no limit.
        indent: the beginning of each line.
    """
    if width is not None:
        count = max(1, (width - len(indent) + len(GAP)) // (NARROWEST_COLUMN + len(GAP)))
        shown = [index for index, column in enumerate(columns) if column.shown_from <= width][:count]
        columns = [columns[index] for index in shown]
        rows = [[row[index] for index in shown] for row in rows]
    texts = [[_cut_text(cell, column) for cell, column in zip(row, columns, strict=True)] for row in rows]
    titles = [_cut_text(column.title, column) for column in columns]
    has_titles = any(titles)
    measured = [titles, *texts] if has_titles else texts
    needed = [max(map(display_width, column), default=0) for column in zip(*measured, strict=True)]
    widths = needed if width is None else _fit(columns, needed, width - len(indent) - len(GAP) * (len(columns) - 1))
    lines = [_line(columns, titles, ["dim"] * len(columns), widths, indent)] if has_titles else []
    for row, text in zip(rows, texts, strict=True):
        styles = [column.style if isinstance(cell, str) else cell[1] for column, cell in zip(columns, row, strict=True)]
        lines.append(_line(columns, text, styles, widths, indent))
    return lines


def cell_text(cell: Cell) -> str:
    """Return the text of a cell without its style."""
    return cell if isinstance(cell, str) else cell[0]


def _cut_text(cell: Cell, column: Column) -> Printable:
    text = cell_text(cell)
    if len(text) > WIDEST_CELL:  # cleaning the rest would take long; a letter more than fits makes the ellipsis
        part = text[-WIDEST_CELL - 1 :] if column.keep_end else text[: WIDEST_CELL + 1]
        text = Printable(part) if isinstance(text, Printable) else part
    return clip(clean(text), WIDEST_CELL, keep_end=column.keep_end)


def _fit(columns: Sequence[Column], needed: Sequence[int], room: int) -> list[int]:
    """Return widths that fit: columns with ``least`` are cut to it first, then below it, then all columns."""
    widths = [min(width, max(room, 0)) for width in needed]
    flexible = [index for index, column in enumerate(columns) if column.least]
    _cut(widths, room, {index: columns[index].least for index in flexible})
    _cut(widths, room, dict.fromkeys(flexible, NARROWEST_COLUMN))
    _cut(widths, room, dict.fromkeys(range(len(columns)), NARROWEST_COLUMN))
    return widths


def _cut(widths: list[int], room: int, least: dict[int, int]) -> None:
    """Make the widest of some columns narrower until all fit or each has its ``least`` width; changes ``widths``."""
    for _ in range(sum(widths) - room):
        loose = [index for index, limit in least.items() if widths[index] > limit]
        if not loose:
            return
        widths[max(loose, key=lambda index: widths[index])] -= 1


def _line(
    columns: Sequence[Column], texts: Sequence[Printable], styles: Sequence[str], widths: Sequence[int], indent: str
) -> str:
    parts = []
    last = len(columns) - 1
    for index, (column, text) in enumerate(zip(columns, texts, strict=True)):
        cut = clip(text, widths[index], keep_end=column.keep_end)
        space = " " * (widths[index] - display_width(cut))
        painted = paint(cut, styles[index])
        parts.append(space + painted if column.right else painted if index == last else painted + space)
    return (indent + GAP.join(parts)).rstrip()
