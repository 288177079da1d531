"""Terminal output as lines of a log. Pure: takes bytes, returns text."""

from __future__ import annotations

import re

MAX_LINE = 64 * 1024
"""Bytes after which a line is split: no terminal shows more, and a record stays small beside its ring."""

BEGIN = b"\x1b_ml_dash[\x1b\\"
END = b"\x1b_ml_dash]\x1b\\"
"""Marks around echoed log lines. Terminals show nothing for such a sequence, if one ever gets there."""

# Colours, cursor movements and titles: only a terminal has a use for them.
_ESCAPE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[PX^_][^\x1b]*\x1b\\|[ -/]*[0-Z\\^-~])")
_HIGH_BIT = 0x80
_LEAD_BITS = 0xC0


class LineAssembler:
    """Joins pieces of output to lines. Of a line that is rewritten with carriage returns it keeps the last state.

    Escape sequences, such as colours, and lines without text are left out.
    """

    def __init__(self) -> None:
        self._current = b""
        self._before = ""

    def feed(self, data: bytes) -> list[str]:
        """Return the lines that ``data`` completes."""
        *ended, rest = data.split(b"\n")
        lines: list[str] = []
        for piece in ended:
            self._extend(piece, lines)
            lines.append(self.pending())
            self._current, self._before = b"", ""
        self._extend(rest, lines)
        return [line for line in lines if line]

    def pending(self) -> str:
        """Return the unfinished line, or an empty text. It is not consumed."""
        return _text(self._current) or self._before

    def _extend(self, piece: bytes, lines: list[str]) -> None:
        *states, self._current = (self._current + piece).split(b"\r")
        self._before = next(filter(None, map(_text, reversed(states))), self._before)
        while len(self._current) > MAX_LINE:
            cut = _character_boundary(self._current, MAX_LINE)
            lines.append(_text(self._current[:cut]))
            self._current, self._before = self._current[cut:], ""


class MarkFilter:
    """Separates echoed log lines, which stand between ``BEGIN`` and ``END``, from the program's output."""

    def __init__(self) -> None:
        self._in_echo = False
        self._held = b""

    def feed(self, data: bytes) -> list[tuple[bytes, bool]]:
        """Return the pieces in their order without marks, each with whether it is an echoed line.

        The end of ``data`` is held back while it may be the beginning of a mark.
        """
        data, self._held = self._held + data, b""
        if not self._in_echo and b"\x1b" not in data:
            return [(data, False)]
        pieces = []
        while data:
            mark = END if self._in_echo else BEGIN
            offset = data.find(mark)
            if offset < 0:
                keep = next((size for size in range(len(mark) - 1, 0, -1) if data.endswith(mark[:size])), 0)
                self._held = data[len(data) - keep :]
                pieces.append((data[: len(data) - keep], self._in_echo))
                break
            pieces.append((data[:offset], self._in_echo))
            self._in_echo = not self._in_echo
            data = data[offset + len(mark) :]
        return [(piece, is_echo) for piece, is_echo in pieces if piece]

    def rest(self) -> bytes:
        """Return the bytes that were held back; call it at the end of the output."""
        held, self._held = self._held, b""
        return held


def _text(line: bytes) -> str:
    text = line.decode("utf-8", "replace")
    return (_ESCAPE.sub("", text) if "\x1b" in text else text).rstrip()


def _character_boundary(data: bytes, cut: int) -> int:
    """Return the last offset up to ``cut`` that is not inside a character of UTF-8, at most three bytes before it."""
    for offset in range(cut, cut - 4, -1):
        if data[offset] & _LEAD_BITS != _HIGH_BIT:
            return offset
    return cut
