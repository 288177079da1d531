"""Tables of text for a terminal: columns aligned by their width on the screen, and cut to fit it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from ml_dash.cli.output import paint

GAP = "  "
ELLIPSIS = "…"

NARROWEST_COLUMN = 4
"""Columns of a terminal that a column keeps on a narrow one: three letters and the sign that there were more."""

Cell = str | tuple[str, str]
"""Text, or text and a style."""


@dataclass(frozen=True, slots=True)
class Column:
    """How a column is shown.

    Attributes:
        title: the heading; none is printed if no column has one.
        right: whether it is aligned to the right, as numbers are.
        least: the width to which it may be cut where there is too little room; 0 for not unless nothing else helps.
        keep_end: whether the beginning is cut away, and not the end.
        style: of the cells that bring none of their own.
    """

    title: str = ""
    right: bool = False
    least: int = 0
    keep_end: bool = False
    style: str = ""


def table(columns: Sequence[Column], rows: Sequence[Sequence[Cell]], width: int | None, indent: str = "") -> list[str]:
    """Lines with a heading and a line for each row, none of them wider than ``width``.

    Where even columns of four letters are too many beside each other, the last ones are left out.

    Args:
        columns: how they are shown.
        rows: the cells, as many as columns in each, without characters that control a terminal.
        width: of the terminal; None for no limit.
        indent: before each line.
    """
    if width is not None:
        columns = columns[: max(1, (width - len(indent) + len(GAP)) // (NARROWEST_COLUMN + len(GAP)))]
        rows = [row[: len(columns)] for row in rows]
    titles = [column.title for column in columns]
    texts = [[cell if isinstance(cell, str) else cell[0] for cell in row] for row in rows]
    shown = [titles, *texts] if any(titles) else texts
    needed = [max(map(cells, column), default=0) for column in zip(*shown, strict=True)]
    room = None if width is None else width - len(indent) - len(GAP) * (len(columns) - 1)
    widths = _narrowed(columns, needed, room)
    lines = [_line(columns, titles, ["dim"] * len(columns), widths, indent)] if any(titles) else []
    for row, plain in zip(rows, texts, strict=True):
        styles = [column.style if isinstance(cell, str) else cell[1] for column, cell in zip(columns, row, strict=True)]
        lines.append(_line(columns, plain, styles, widths, indent))
    return lines


def cells(text: str) -> int:
    """Return the number of terminal columns that a text takes: two for an ideograph, none for an accent."""
    return len(text) if text.isascii() else _cells_of_unicode(text)


def clip(text: str, width: int, *, keep_end: bool = False) -> str:
    """Cut a text to a number of terminal columns; an ellipsis marks the cut.

    Args:
        text: a text without control characters.
        width: terminal columns.
        keep_end: whether to cut away the beginning instead of the end.
    """
    if cells(text) <= width:
        return text
    if width < 1:
        return ""
    # Search for the longest part that leaves a column for the ellipsis. A letter's own width is no guide: an emoji
    # may be one with the letters around it.
    kept, too_long = 0, len(text)
    while too_long - kept > 1:
        count = (kept + too_long) // 2
        part = text[len(text) - count :] if keep_end else text[:count]
        if cells(part) < width:
            kept = count
        else:
            too_long = count
    return ELLIPSIS + text[len(text) - kept :] if keep_end else text[:kept].rstrip() + ELLIPSIS


@lru_cache(maxsize=4096)
def _cells_of_unicode(text: str) -> int:
    from wcwidth import wcswidth, wcwidth

    total = wcswidth(text)
    return total if total >= 0 else sum(max(0, wcwidth(letter)) for letter in text)  # with control characters


def _narrowed(columns: Sequence[Column], needed: list[int], room: int | None) -> list[int]:
    """The widths that fit: columns that may be cut give up first, then those among them give more, then all."""
    if room is None:
        return needed
    widths = [min(width, max(room, 0)) for width in needed]
    loose = [place for place, column in enumerate(columns) if column.least]
    _cut(widths, room, {place: columns[place].least for place in loose})
    _cut(widths, room, dict.fromkeys(loose, NARROWEST_COLUMN))
    _cut(widths, room, dict.fromkeys(range(len(columns)), NARROWEST_COLUMN))
    return widths


def _cut(widths: list[int], room: int, least: dict[int, int]) -> None:
    """Take from some columns, the widest one first, until all fit or none is wider than its ``least``."""
    over = sum(widths) - room
    while over > 0:
        loose = [place for place, limit in least.items() if widths[place] > limit]
        if not loose:
            return
        widest = max(loose, key=lambda place: widths[place])
        rest = [widths[place] for place in loose if place != widest]
        floor = max([least[widest], *(width for width in rest if width < widths[widest])])
        is_alone = all(width < widths[widest] for width in rest)  # those of the same width give up in turn
        step = max(1, min(over, widths[widest] - floor)) if is_alone else 1
        widths[widest] -= step
        over -= step


def _line(
    columns: Sequence[Column], texts: Sequence[str], styles: Sequence[str], widths: list[int], indent: str
) -> str:
    parts = []
    last = len(columns) - 1
    for place, (column, text) in enumerate(zip(columns, texts, strict=True)):
        cut = clip(text, widths[place], keep_end=column.keep_end)
        space = " " * (widths[place] - cells(cut))
        painted = paint(cut, styles[place])
        parts.append(space + painted if column.right else painted if place == last else painted + space)
    return (indent + GAP.join(parts)).rstrip()
