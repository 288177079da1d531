"""One thing on one line, which goes on below itself where the terminal is too narrow for it."""

from __future__ import annotations

from ml_dash.cli.formatting import clean
from ml_dash.cli.table import cells


def hanging(head: str, indent: int, text: str, width: int | None) -> str:
    """A line that begins with ``head``; what does not fit goes on below the text, cut between words alone.

    Args:
        head: what the line begins with, painted or not.
        indent: the columns that it takes.
        text: what follows; cleaned here.
        width: of the terminal; None for no limit.
    """
    rows = [""]
    for word in clean(text).split(" "):
        longer = f"{rows[-1]} {word}" if rows[-1] else word
        if width is not None and rows[-1] and indent + cells(longer) > width:
            rows.append(word)
        else:
            rows[-1] = longer
    return ("\n" + " " * indent).join([head + rows[0], *rows[1:]])
