"""Read the commit that is checked out from the repository's files, without a process.

The writer asks git for all of it (``code``). This is for ``MLRun``, which writes the commit into config.toml in the
training process: a child process there would copy its page tables, and needs a git on PATH.
"""

from __future__ import annotations

import os
import re

MAX_PARENTS = 64
"""Folders that are searched upwards; deeper trees do not occur."""

MAX_PACKED_BYTES = 16 * 1024 * 1024
"""Bytes that are read of the list of packed references: about 200 000 of them."""

_COMMIT = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")


def current_commit(folder: str) -> str | None:
    """Return the hash of the commit at HEAD; None outside of a repository and in one without a commit.

    Args:
        folder: absolute path of a folder in the working tree.
    """
    try:
        repository = _repository_of(folder)
        if repository is None:
            return None
        head = _read(os.path.join(repository, "HEAD")).strip()
        if not head.startswith("ref:"):
            return head if _COMMIT.fullmatch(head) else None
        return _commit_of(repository, head.removeprefix("ref:").strip())
    except (OSError, ValueError):
        return None


def _repository_of(folder: str) -> str | None:
    for _ in range(MAX_PARENTS):
        path = os.path.join(folder, ".git")
        if os.path.isdir(path):
            return path
        if os.path.isfile(path):  # a worktree or a submodule: the file has the path of its repository
            return os.path.join(folder, _read(path).removeprefix("gitdir:").strip())
        above = os.path.dirname(folder)
        if above == folder:
            return None
        folder = above
    return None


def _commit_of(repository: str, reference: str) -> str | None:
    common = os.path.join(repository, "commondir")  # of a worktree: where its branches are
    shared = os.path.join(repository, _read(common).strip()) if os.path.isfile(common) else repository
    for folder in (repository, shared):
        path = os.path.join(folder, *reference.split("/"))
        if os.path.isfile(path):
            commit = _read(path).strip()
            return commit if _COMMIT.fullmatch(commit) else None
    packed = os.path.join(shared, "packed-refs")
    for line in _read(packed).splitlines() if os.path.isfile(packed) else ():
        commit, _, name = line.partition(" ")
        if name == reference and _COMMIT.fullmatch(commit):
            return commit
    return None


def _read(path: str) -> str:
    with open(path, encoding="utf-8") as file:
        return file.read(MAX_PACKED_BYTES)
