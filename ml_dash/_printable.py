"""Text of a run as it may be printed: whatever moves the cursor, reorders letters or cannot be seen is an escape. Pure.

A run folder is input: its names and values may hold any character. Ordinary text of every script stays as it is.
"""

from __future__ import annotations

import re
import unicodedata
from functools import cache

_CANDIDATE = re.compile(r"[^ -\[\]-~]")
"""Every character but printable ASCII without the backslash."""

_CANDIDATE_IN_NAME = re.compile(r"[^!-\[\]-~]")
"""The same, and the space."""

_INVISIBLE = frozenset(
    chr(code)
    for first, last in (
        (0x034F, 0x034F),  # combining grapheme joiner
        (0x115F, 0x1160),  # fillers of Hangul
        (0x17B4, 0x17B5),  # inherent vowels of Khmer
        (0x180B, 0x180F),  # variation selectors and vowel separator of Mongolian
        (0x2800, 0x2800),  # the blank of braille
        (0x3164, 0x3164),  # another filler of Hangul
        (0xFE00, 0xFE0F),  # variation selectors
        (0xFFA0, 0xFFA0),  # the same filler in half width
        (0x13441, 0x13442),  # blanks of hieroglyphs
        (0x16FE4, 0x16FE4),  # filler of Khitan
        (0x1D159, 0x1D159),  # a note without a head
        (0xE0100, 0xE01EF),  # more variation selectors
    )
    for code in range(first, last + 1)
)
"""Characters without ink that Unicode counts among letters, marks and symbols."""

_VISIBLE_FORMATS = frozenset("\u0600\u0601\u0602\u0603\u0604\u0605\u06dd\u070f\u0890\u0891\u08e2\U000110bd\U000110cd")
"""Format characters with ink: signs around Arabic, Syriac and Kaithi numbers."""

_WIDE_SPACE = "\u3000"
"""The space of Chinese and Japanese text, as wide as a letter of it."""

_SPACES = f" {_WIDE_SPACE}"

_ZWNJ, _ZWJ, _EMOJI_STYLE, _KEYCAP = "\u200c", "\u200d", "\ufe0f", "\u20e3"
_SKIN_TONES = "\U0001f3fb\U0001f3fc\U0001f3fd\U0001f3fe\U0001f3ff"
_VIRAMA = 9  # its combining class
_SHORT_ESCAPES = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
_ESCAPE_LIKE = re.compile(r"[\\nrt]|x[0-9a-f]{2}|u[0-9a-f]{4}|U[0-9a-f]{8}")


class Printable(str):
    """Text that is clean already; cleaning it again changes nothing."""

    __slots__ = ()


def clean(text: str) -> Printable:
    r"""Make a name printable, on one line; different names give different texts.

    Escapes are those of Python: ``\n``, ``\t``, ``\x1b``, ``\u202e``, ``\U000e0061``. They stand for control
    characters, line and paragraph separators, bidirectional controls and marks, characters without ink, spaces other
    than U+0020 and U+3000, lone surrogates, private and unassigned characters; and for a space at either end or after
    a space. A backslash that would read like an escape is doubled.

    Joiners stay where a script or an emoji needs them: after a virama, between joined letters of Arabic (U+200C), and
    between two emoji (U+200D); so do U+FE0F after a character that it turns into an emoji, and Mongolian selectors
    after a Mongolian letter.
    """
    if isinstance(text, Printable):
        return text
    return Printable(_CANDIDATE_IN_NAME.sub(_in_a_name, text) if _CANDIDATE_IN_NAME.search(text) else text)


def clean_text(text: str) -> Printable:
    """Make prose or a value printable, on one line: as ``clean``, but a tab is four spaces, and spaces and backslashes stay."""
    if isinstance(text, Printable):
        return text
    return Printable(_CANDIDATE.sub(_in_a_text, text) if _CANDIDATE.search(text) else text)


def clean_json(text: str) -> str:
    """Escape in a JSON document what ``clean`` escapes; its meaning stays the same."""
    return text if text.isascii() and "\x7f" not in text else _CANDIDATE.sub(_in_json, text)


def _in_a_name(match: re.Match[str]) -> str:
    letter, text, after = match[0], match.string, match.end()
    if letter != "\\":
        return letter if _stays_in_a_name(text, match.start()) else _escape(letter)
    is_misread = _ESCAPE_LIKE.match(text, after) or (after < len(text) and not _stays_in_a_name(text, after))
    return "\\\\" if is_misread else "\\"


def _stays_in_a_name(text: str, at: int) -> bool:
    """Whether a character stays. A space does if it is alone between other letters, where every reader sees it."""
    if text[at] in _SPACES:
        return 0 < at < len(text) - 1 and text[at - 1] not in _SPACES
    return _stays(text[at], text, at)


def _in_a_text(match: re.Match[str]) -> str:
    letter = match[0]
    if letter == "\t":
        return "    "
    return letter if letter == "\\" or _stays(letter, match.string, match.start()) else _escape(letter)


def _in_json(match: re.Match[str]) -> str:
    letter = match[0]
    if letter in "\\\n" or _stays(letter, match.string, match.start()):
        return letter
    units = letter.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at] << 8 | units[at + 1]:04x}" for at in range(0, len(units), 2))


def _escape(letter: str) -> str:
    code = ord(letter)
    if letter in _SHORT_ESCAPES:
        return _SHORT_ESCAPES[letter]
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _stays(letter: str, text: str, at: int) -> bool:
    """Whether a character of a text is printed as it is."""
    if letter.isprintable() and letter not in _INVISIBLE:  # false for the categories C and Z, but for the space
        return True
    if letter == _EMOJI_STYLE:
        before = text[at - 1 : at]
        return text[at + 1 : at + 2] == _KEYCAP if before.isascii() else _is_turned_into_emoji(before)
    if letter == _ZWJ:
        return _is_after_virama(text, at) or _is_between_emoji(text, at)
    if letter == _ZWNJ:
        return _is_after_virama(text, at) or _is_between_joined_letters(text, at)
    if "\u180b" <= letter <= "\u180f":
        return "\u1820" <= text[at - 1 : at] <= "\u18aa"
    # Emoji that are newer than Python's tables are unassigned there.
    is_new_emoji = "\U0001f300" <= letter <= "\U0001faff"
    return is_new_emoji or letter == _WIDE_SPACE or letter in _VISIBLE_FORMATS


@cache
def _is_turned_into_emoji(letter: str) -> bool:
    from wcwidth import wcswidth

    return wcswidth(letter + _EMOJI_STYLE) > wcswidth(letter) > 0


def _is_after_virama(text: str, at: int) -> bool:
    return at > 0 and unicodedata.combining(text[at - 1]) == _VIRAMA


def _is_between_emoji(text: str, at: int) -> bool:
    before = text[max(0, at - 3) : at].rstrip(_EMOJI_STYLE + _SKIN_TONES)
    return _is_emoji(before[-1:]) and _is_emoji(text[at + 1 : at + 2])


def _is_emoji(letter: str) -> bool:
    from wcwidth import wcwidth

    if not letter or unicodedata.category(letter) not in {"So", "Sm", "Cn"} or letter < "\u2190":
        return False
    return wcwidth(letter) == 2 or _is_turned_into_emoji(letter)


def _is_between_joined_letters(text: str, at: int) -> bool:
    before = next((letter for letter in reversed(text[max(0, at - 8) : at]) if not unicodedata.combining(letter)), "")
    after = next((letter for letter in text[at + 1 : at + 9] if not unicodedata.combining(letter)), "")
    return before in _joining_letters() and unicodedata.bidirectional(after or " ") == "AL"


@cache
def _joining_letters() -> frozenset[str]:
    """The Arabic letters that join the next one: those that have an initial form."""
    forms = (unicodedata.decomposition(chr(code)).split() for code in (*range(0xFB50, 0xFE00), *range(0xFE70, 0xFF00)))
    return frozenset(chr(int(form[1], 16)) for form in forms if form[:1] == ["<initial>"] and len(form) == 2)
