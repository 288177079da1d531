"""Names of files in an export, on this and on other systems."""

from __future__ import annotations

import re

_UNSAFE = re.compile(r"[\\\x00-\x1f\x7f-\x9f\ud800-\udfff]")
"""Characters that some program takes for a separator of folders, or that a name in an archive cannot have."""

_DRIVE = re.compile(r"[A-Za-z]:")


def safe_name(name: str) -> str:
    """Return a path with slashes in which ``%5C`` stands for a backslash, and so on for what is not safe in a name."""
    if _DRIVE.match(name):
        name = f"{name[0]}%3A{name[2:]}"
    return _UNSAFE.sub(lambda match: "".join(f"%{byte:02X}" for byte in _bytes_of(match[0])), name)


def _bytes_of(letter: str) -> bytes:
    is_byte = "\udc80" <= letter <= "\udcff"  # of a name on disk that is no UTF-8
    return letter.encode("utf-8", "surrogateescape" if is_byte else "surrogatepass")
