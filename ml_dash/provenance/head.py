"""The commit that is checked out, read from the repository's files: no process is started, and git need not be there."""

from __future__ import annotations

import os
import re

MAX_PARENTS = 64
"""Folders looked at from the current one upwards; deeper trees do not occur."""

MAX_PACKED_BYTES = 16 * 1024 * 1024
"""How much of a list of packed references is read: some 200 000 of them."""

_COMMIT = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")


def current_commit(folder: str) -> str | None:
    """The hash of the commit at HEAD, or None outside of a repository and in one without a commit.

    Args:
        folder: absolute path of a folder in the working tree.
    """
    try:
        repository = _repository_of(folder)
        return None if repository is None else _head(repository)
    except (OSError, ValueError):
        return None


def _repository_of(folder: str) -> str | None:
    for _ in range(MAX_PARENTS):
        found = os.path.join(folder, ".git")
        if os.path.isdir(found):
            return found
        if os.path.isfile(found):  # a worktree or a submodule: the file says where its folder is
            return os.path.join(folder, _read(found).removeprefix("gitdir:").strip())
        above = os.path.dirname(folder)
        if above == folder:
            return None
        folder = above
    return None


def _head(repository: str) -> str | None:
    head = _read(os.path.join(repository, "HEAD")).strip()
    if not head.startswith("ref:"):
        return head if _COMMIT.fullmatch(head) else None
    reference = head.removeprefix("ref:").strip()
    shared = _common_folder(repository)
    for place in (repository, shared):
        path = os.path.join(place, *reference.split("/"))
        if os.path.isfile(path):
            commit = _read(path).strip()
            return commit if _COMMIT.fullmatch(commit) else None
    return _packed(os.path.join(shared, "packed-refs"), reference)


def _common_folder(repository: str) -> str:
    path = os.path.join(repository, "commondir")
    return os.path.join(repository, _read(path).strip()) if os.path.isfile(path) else repository


def _packed(path: str, reference: str) -> str | None:
    if not os.path.isfile(path):
        return None
    for line in _read(path).splitlines():
        commit, _, name = line.partition(" ")
        if name == reference and _COMMIT.fullmatch(commit):
            return commit
    return None


def _read(path: str) -> str:
    with open(path, encoding="utf-8") as file:
        return file.read(MAX_PACKED_BYTES)
