"""List the installed packages by the names of their folders: one listing for each path, and no file is parsed."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator

MOST_PACKAGES = 2_000
"""Packages that are listed: several times as many as the largest environment has."""

_INFO = re.compile(r"(?P<name>.+?)-(?P<version>\d[^-]*)(?:-py[\d.]+)?\.(?:dist|egg)-info")
_OLD_INFO = ".egg-info"
_OLD_VERSION = re.compile(r"^Version:\s*(\S+)", re.MULTILINE)
_HEAD_BYTES = 4_096
"""Bytes read of an old package's PKG-INFO: the version is in one of its first lines."""


def installed(paths: Iterable[str]) -> tuple[dict[str, str], int]:
    """Return versions by package name (lower case, with dashes), and how many packages beyond ``MOST_PACKAGES`` there are.

    Args:
        paths: the folders of ``sys.path``; of two packages with one name the first wins.
    """
    versions: dict[str, str] = {}
    for path in paths:
        for name, version in _packages_in(path):
            versions.setdefault(re.sub(r"[-_.]+", "-", name).lower(), version)
    listed = sorted(versions)[:MOST_PACKAGES]
    return {name: versions[name] for name in listed}, len(versions) - len(listed)


def _packages_in(path: str) -> Iterator[tuple[str, str]]:
    try:
        names = sorted(os.listdir(path or "."))
    except OSError:  # an archive, or a missing folder
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
    """Return the version of a package whose folder does not name it, as setuptools made them."""
    path = os.path.join(info, "PKG-INFO") if os.path.isdir(info) else info
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            match = _OLD_VERSION.search(file.read(_HEAD_BYTES))
    except OSError:
        return None
    return match[1] if match else None
