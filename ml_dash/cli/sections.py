"""Sections of lines below each other, and which of them give way where a screen has too little room. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ml_dash.cli.output import paint

LEAST_LINES = 2
"""Lines that a section keeps unless it says otherwise, its heading not counted."""

INDENT = "  "


@dataclass(slots=True)
class Section:
    """Some lines, mostly with a heading.

    Attributes:
        title: the heading, if it has one.
        lines: what stands below it.
        note: what stands beside the heading.
        bare: the same where no line is shown.
        keep_end: whether the last lines are the ones that count.
        counts: how many things each line is about, where that is not one.
        turn: when it is cut: those of the least number give up first, those without one never.
        least: the lines that it keeps then.
    """

    title: str
    lines: list[str] = field(default_factory=list)
    note: str = ""
    bare: str = ""
    keep_end: bool = False
    counts: list[int] = field(default_factory=list)
    turn: int = 0
    least: int = LEAST_LINES

    def cut(self, count: int) -> list[str]:
        """The lines with the heading, at most ``count`` of them below it."""
        note = self.bare if self.lines and not count else self.note
        heading = [(paint(self.title, "bold") + INDENT + note).rstrip()] if self.title else []
        if len(self.lines) <= count:
            return [*heading, *self.lines]
        if not count:
            return heading
        if self.keep_end:
            heading[0] += INDENT + paint(f"the last {count}; see --all", "dim")
            return [*heading, *self.lines[-count:]]
        left_out = sum(self.counts[count - 1 :]) if self.counts else len(self.lines) - count + 1
        return [*heading, *self.lines[: count - 1], INDENT + paint(f"... and {left_out} more; see --all", "dim")]


def fitting(sections: Sequence[Section], height: int | None) -> list[int]:
    """How many lines each section gets so that all fit, if they can be cut that far.

    Of sections with the same turn the longest one gives up first.

    Args:
        sections: in the order in which they are shown.
        height: of the terminal; None for no limit.
    """
    limits = [len(section.lines) for section in sections]
    if height is None:
        return limits
    room = height - 1 - sum(bool(section.title) for section in sections)  # the shell's next line, and the headings
    for turn in sorted({section.turn for section in sections if section.turn}):
        loose = [place for place, section in enumerate(sections) if section.turn == turn]
        while sum(limits) > room:
            longest = max(loose, key=lambda place: limits[place] - sections[place].least)
            if limits[longest] <= sections[longest].least:
                break
            limits[longest] = _shorter(limits[longest], sections[longest])
    return limits


def _shorter(limit: int, section: Section) -> int:
    """A line less. A single line would only say how many are left out, which the heading tells as well."""
    is_only_a_count = limit == LEAST_LINES and not section.least and not section.keep_end
    return 0 if is_only_a_count else limit - 1
