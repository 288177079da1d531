"""How files are looked for among those that count, and how their records name them."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import Any, Protocol

Entry = dict[str, Any]


class Lookup(Protocol):
    """Files that count, at one moment."""

    def by_id(self, file_id: object) -> list[Entry]:
        """The record with that id, or none."""

    def by_path(self, full: str) -> list[Entry]:
        """The record with that path from the root of the run's files."""

    def by_name(self, name: str, folder: str) -> list[Entry]:
        """The records with that bare name in a folder and below it; the root is an empty text."""

    def names_below(self, folder: str, limit: int) -> list[str]:
        """The paths of the first files in a folder and below it."""


class Listed:
    """All records as a list; for a run whose files are not, or not only, in an index of ours."""

    def __init__(self, entries: list[Entry]) -> None:
        self._entries = entries

    def by_id(self, file_id: object) -> list[Entry]:
        """See ``Lookup``."""
        return [entry for entry in self._entries if entry["id"] == file_id]

    def by_path(self, full: str) -> list[Entry]:
        """See ``Lookup``."""
        return [entry for entry in self._entries if full_name(entry) == full]

    def by_name(self, name: str, folder: str) -> list[Entry]:
        """See ``Lookup``."""
        found = [entry for entry in self._entries if entry["filename"] == name]
        return [entry for entry in found if is_below(entry, folder)]

    def names_below(self, folder: str, limit: int) -> list[str]:
        """See ``Lookup``."""
        return list(islice((full_name(entry) for entry in self._entries if is_below(entry, folder)), limit))


def full_name(entry: Mapping[str, Any]) -> str:
    """A file's path from the root of the run's files, without a leading slash."""
    path = entry["path"].strip("/")
    return f"{path}/{entry['filename']}" if path else str(entry["filename"])


def is_below(entry: Entry, folder: str) -> bool:
    """Whether a file lies in a folder or below it; the root is an empty text."""
    # Clients before this one wrote paths with and without the slash.
    return not folder or f"/{entry['path'].lstrip('/')}/".startswith(f"/{folder}/")
