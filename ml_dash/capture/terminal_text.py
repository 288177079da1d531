"""What programs print, as lines to keep. Pure: bytes go in, text comes out."""

from __future__ import annotations

import re

MAX_LINE = 64 * 1024
"""Bytes after which a line is split: no terminal shows more, and one record of the log stays small beside its ring."""

BEGIN = b"\x1b_ml_dash[\x1b\\"
END = b"\x1b_ml_dash]\x1b\\"
"""Around text of ours on its way to the console. Terminals show nothing for such a sequence, should one get there."""

# Colours, cursor movements and titles: of use to a terminal only.
_ESCAPE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[PX^_][^\x1b]*\x1b\\|[ -/]*[0-Z\\^-~])")
_HIGH_BIT = 0x80
_LEAD_BITS = 0xC0


class LineFolder:
    """Joins pieces of output to lines. Of a line that is rewritten with carriage returns the last state counts.

    Colours and other escape sequences are left out, and so are lines without any text.
    """

    def __init__(self) -> None:
        self._current = b""
        self._before = ""

    def feed(self, data: bytes) -> list[str]:
        """The lines that ``data`` completes."""
        *ended, rest = data.split(b"\n")
        lines: list[str] = []
        for piece in ended:
            self._extend(piece, lines)
            lines.append(self.pending())
            self._current, self._before = b"", ""
        self._extend(rest, lines)
        return [line for line in lines if line]

    def pending(self) -> str:
        """The line that is not ended yet, empty if there is none. It stays."""
        return _text(self._current) or self._before

    def _extend(self, piece: bytes, lines: list[str]) -> None:
        *states, self._current = (self._current + piece).split(b"\r")
        self._before = next(filter(None, map(_text, reversed(states))), self._before)
        while len(self._current) > MAX_LINE:
            cut = _character_boundary(self._current, MAX_LINE)
            lines.append(_text(self._current[:cut]))
            self._current, self._before = self._current[cut:], ""


class MarkFilter:
    """Tells our own text, which stands between ``BEGIN`` and ``END``, from the program's."""

    def __init__(self) -> None:
        self._ours = False
        self._held = b""

    def feed(self, data: bytes) -> list[tuple[bytes, bool]]:
        """Pieces in their order without the marks, each with whether it is ours.

        The end of ``data`` is held back while it may be the beginning of a mark.
        """
        data, self._held = self._held + data, b""
        if not self._ours and b"\x1b" not in data:
            return [(data, False)]
        pieces = []
        while data:
            mark = END if self._ours else BEGIN
            place = data.find(mark)
            if place < 0:
                keep = _partial_mark(data, mark)
                self._held = data[len(data) - keep :]
                pieces.append((data[: len(data) - keep], self._ours))
                break
            pieces.append((data[:place], self._ours))
            self._ours = not self._ours
            data = data[place + len(mark) :]
        return [(piece, ours) for piece, ours in pieces if piece]

    def rest(self) -> bytes:
        """What was held back, at the end of the output."""
        held, self._held = self._held, b""
        return held


def _text(line: bytes) -> str:
    text = line.decode("utf-8", "replace")
    return (_ESCAPE.sub("", text) if "\x1b" in text else text).rstrip()


def _character_boundary(data: bytes, cut: int) -> int:
    """A place at most three bytes before ``cut`` that is not inside a character of UTF-8."""
    for place in range(cut, cut - 4, -1):
        if data[place] & _LEAD_BITS != _HIGH_BIT:
            return place
    return cut


def _partial_mark(data: bytes, mark: bytes) -> int:
    """How many bytes at the end of ``data`` may begin ``mark``."""
    return next((size for size in range(len(mark) - 1, 0, -1) if data.endswith(mark[:size])), 0)
