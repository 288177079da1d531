"""Which packages are installed, by the names of their folders: one listing for each place, and no file is parsed."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator

MOST_PACKAGES = 2_000
"""Packages that are listed: several times what the largest environment has."""

_INFO = re.compile(r"(?P<name>.+?)-(?P<version>\d[^-]*)(?:-py[\d.]+)?\.(?:dist|egg)-info")
_OLD_INFO = ".egg-info"
_OLD_VERSION = re.compile(r"^Version:\s*(\S+)", re.MULTILINE)
_HEAD_BYTES = 4_096
"""How much of an old package's PKG-INFO is read: the version is one of its first lines."""


def installed(paths: Iterable[str]) -> tuple[dict[str, str], int]:
    """Versions by package name in lower case with dashes, and how many were left out beyond ``MOST_PACKAGES``.

    Args:
        paths: where Python looks, as in ``sys.path``; of two packages of a name the first counts.
    """
    found: dict[str, str] = {}
    for path in paths:
        for name, version in _packages_in(path):
            found.setdefault(re.sub(r"[-_.]+", "-", name).lower(), version)
    listed = sorted(found)[:MOST_PACKAGES]
    return {name: found[name] for name in listed}, len(found) - len(listed)


def _packages_in(path: str) -> Iterator[tuple[str, str]]:
    try:
        names = sorted(os.listdir(path or "."))
    except OSError:  # an archive, or a folder that is not there
        return
    for name in names:
        match = _INFO.fullmatch(name)
        if match:
            yield match["name"], match["version"]
        elif name.endswith(_OLD_INFO):
            version = _old_version(os.path.join(path, name))
            if version:
                yield name.removesuffix(_OLD_INFO), version


def _old_version(info: str) -> str | None:
    """The version of a package that setuptools linked: its folder does not name it."""
    place = os.path.join(info, "PKG-INFO") if os.path.isdir(info) else info
    try:
        with open(place, encoding="utf-8", errors="replace") as file:
            match = _OLD_VERSION.search(file.read(_HEAD_BYTES))
    except OSError:
        return None
    return match[1] if match else None
