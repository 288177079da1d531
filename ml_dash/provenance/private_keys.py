"""Mask private keys, in a text or in lines that arrive one by one."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import re

AGAIN = 4_096
"""Lines that may be masked again after a fault: more than the writer commits at once."""

MOST_CHANGES = 64
"""First and last lines of keys that are remembered for each stream."""

_BEGIN, _END = "-----BEGIN ", "-----END "
_LONGEST_KEY_LINES = 500
"""Lines that are masked of a private key without an end."""

_LONGEST_KEY_LINE = 1_000


class KeyLines:
    """Masks private keys that arrive line by line, such as those that a program prints."""

    def __init__(self) -> None:
        self._changes: dict[str, list[tuple[int, bool]]] = {}

    def are_recent(self, position: int) -> bool:
        """Whether a key is open, or ended so recently that its lines may be masked again."""
        if not self._changes:
            return False
        if all(not changes[-1][1] and changes[-1][0] + AGAIN < position for changes in self._changes.values()):
            self._changes.clear()
        return bool(self._changes)

    def mask(self, stream: str, line: str, position: int, mask: str) -> str:
        """Mask the part of a private key in a line.

        Args:
            stream: the stream on which it was printed.
            line: the text.
            position: increases from line to line. A line that is masked again has the same position.
            mask: replaces the key.
        """
        changes = self._changes.get(stream, [])
        if not changes and not is_key_begin(line):
            return line
        # After a fault, the later lines are masked again as well.
        changes = [change for change in changes if change[0] < position][-MOST_CHANGES:]
        is_open = bool(changes) and changes[-1][1]
        masked, goes_on = mask_key_line(line, mask, is_open=is_open)
        if goes_on != is_open:
            changes.append((position, goes_on))
        if changes:
            self._changes[stream] = changes
        else:
            self._changes.pop(stream, None)
        return masked


def mask_private_keys(text: str, mask: str) -> str:
    """Mask the private keys in a text line by line; the first and the last line of a key stay."""
    if _BEGIN not in text and _END not in text:
        return text
    lines = text.split("\n")
    end = -1
    for number, line in enumerate(lines):
        if number <= end:
            continue
        if is_key_begin(line):
            lines[number], is_open = mask_key_line(line, mask, is_open=False)
            end = number
            while is_open and end + 1 < len(lines) and end - number < _LONGEST_KEY_LINES:
                masked, is_open = mask_key_line(lines[end + 1], mask, is_open=True)
                if not is_open and masked == lines[end + 1]:
                    break
                end += 1
                lines[end] = masked
        elif is_key_end(line):  # its first line is not in the text
            before = number - 1
            while before > end and _is_key_body(lines[before], 1 if before == number - 1 else 40):
                lines[before] = mask
                before -= 1
            lines[number] = _patterns()["before end"].sub(lambda match: mask + match[2], line, count=1)
            end = number
    return "\n".join(lines)


def is_key_begin(line: str) -> bool:
    """Whether a private key begins in a line."""
    return _BEGIN in line and _patterns()["begin"].search(line) is not None


def is_key_end(line: str) -> bool:
    """Whether a private key ends in a line."""
    return _END in line and _patterns()["end"].search(line) is not None


def mask_key_line(line: str, mask: str, *, is_open: bool) -> tuple[str, bool]:
    """Mask the part of a private key in a line.

    Args:
        line: without its end.
        mask: stands for the key.
        is_open: whether a key began in an earlier line.

    Returns:
        The masked line, and whether the key goes on in the next one.
    """
    patterns = _patterns()
    parts: list[str] = []
    position = 0
    while True:
        if is_open:
            end = patterns["end"].search(line, position)
            if end is None:
                rest = line[position:]
                if position == 0 and not _is_key_body(rest):
                    return line, False
                return "".join([*parts, mask if rest.strip() else rest]), True
            parts += [mask if end.start() > position else "", end[0]]
            position, is_open = end.end(), False
        begin = patterns["begin"].search(line, position)
        if begin is None:
            return "".join([*parts, line[position:]]), False
        parts.append(line[position : begin.end()])
        position, is_open = begin.end(), True


def _is_key_body(line: str, shortest: int = 0) -> bool:
    return shortest <= len(line) <= _LONGEST_KEY_LINE and _patterns()["body"].fullmatch(line.strip()) is not None


@functools.cache
def _patterns() -> dict[str, re.Pattern[str]]:
    import re

    return {
        "begin": re.compile(r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----", re.ASCII),
        "end": re.compile(r"-----END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----", re.ASCII),
        "before end": re.compile(r"^(\s*[\"']?[A-Za-z0-9+/=\\]{16,}[^-]{0,8})(-----END )", re.ASCII),
        "body": re.compile(r"[\"'#>|]?[ ]?[A-Za-z0-9+/=]*(?:\\[nr])*[\"',\\)]*|[A-Z][A-Za-z-]+: [^\n]*", re.ASCII),
    }
