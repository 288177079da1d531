"""Patterns of file names: what ``fnmatch`` takes, and ``**/`` for any number of folders or none."""

from __future__ import annotations

import re

_MAGIC = re.compile(r"[*?\[]")


def has_magic(text: str) -> bool:
    """Whether a text is a pattern, and not just a name."""
    return _MAGIC.search(text) is not None


def compiled(pattern: str) -> re.Pattern[str]:
    """A pattern as a regular expression for ``fullmatch``. ``*`` also stands for slashes; case counts."""
    import fnmatch

    # translate() marks the end of the text, which stands in the middle when parts are joined.
    parts = [fnmatch.translate(part).removesuffix(r"\Z").removesuffix(r"\z") for part in pattern.split("**/")]
    return re.compile("(?:.*/)?".join(parts), re.DOTALL)


def fixed_part(pattern: str) -> str:
    """The folders with which every path that fits begins, with a slash behind; empty if there are none."""
    folders = pattern.split("/")[:-1]
    magic = next((place for place, folder in enumerate(folders) if has_magic(folder)), len(folders))
    return "".join(f"{folder}/" for folder in folders[:magic])
