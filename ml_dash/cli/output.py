"""Where output goes: a terminal of some width, with or without colour, or a program that reads it."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterable, Mapping
from typing import Any

import click

DEFAULT_SIZE = (80, 24)
"""Columns and lines of a terminal that does not say."""

NARROWEST = 40
"""Below this many columns nothing can be aligned any more; lines wrap then."""


def is_terminal() -> bool:
    """Whether a person reads the output. A program gets everything in full."""
    return sys.stdout.isatty()


def width() -> int | None:
    """Columns of the terminal; None if it is none, and lines may be of any length."""
    if not is_terminal():
        return None
    return max(NARROWEST, shutil.get_terminal_size(DEFAULT_SIZE).columns)


def height() -> int | None:
    """Lines of the terminal; None if it is none."""
    return shutil.get_terminal_size(DEFAULT_SIZE).lines if is_terminal() else None


def has_colour() -> bool:
    """Whether styles are shown: on a terminal, unless NO_COLOR is set or it is a dumb one."""
    return is_terminal() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def has_unicode() -> bool:
    """Whether the output can hold more than ASCII, such as the letters that plots are drawn with."""
    return (getattr(sys.stdout, "encoding", None) or "").lower().replace("-", "").startswith("utf")


def paint(text: str, style: str) -> str:
    """Text in a style such as ``"green"``, ``"bold"``, ``"dim"`` or ``"bold red"``, if styles are shown."""
    if not style or not text or not has_colour():
        return text
    words = style.split()
    colours = [word for word in words if word not in {"bold", "dim"}]
    return click.style(
        text, fg=colours[0] if colours else None, bold="bold" in words or None, dim="dim" in words or None
    )


def write(lines: Iterable[str]) -> None:
    """Write lines that are ready for the terminal."""
    text = "\n".join(lines)
    if text:
        click.echo(text, color=True)  # what must not be coloured is not; click would only strip it again


def write_json(document: Mapping[str, Any]) -> None:
    """Write one JSON document on a line of its own. Floats that are not finite are text, as in the run's own files."""
    write_json_lines([document])


def write_json_lines(documents: Iterable[Mapping[str, Any]]) -> None:
    """Write JSON documents, one on each line."""
    from ml_dash.records.values import encode

    data = b"\n".join(encode(document, "the output") for document in documents)
    if data:
        click.echo(data)
