"""Which code a run is: the commit, the branch, the remote, and what differs from the commit. Only git is asked."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ml_dash.provenance.programs import Answer, GaveNoAnswerError, ask
from ml_dash.provenance.secrets import clean_address

COMMAND_SECONDS = 5.0
"""How long one question to git may take: a file system that does not answer is given up."""

CODE_SECONDS = 10.0
"""How long all of them may take."""

DIFF_LIMIT = 256 * 1024
"""Bytes of the difference that are kept: what people write fits, and a notebook full of pictures does not."""

MOST_UNTRACKED = 100
"""Untracked files whose names are listed."""

STATUS_LIMIT = 4 * 1024 * 1024
"""Bytes of the list of changed and untracked files that are looked at."""

SECRET_FILES = (
    *(".env", ".env.*", "*.pem", "*.key", "id_rsa*", "id_ed25519*", ".netrc", ".pypirc"),
    *("*secret*.json", "*secret*.y*ml", "*secret*.toml", "*credential*.json", "*credential*.y*ml", "*credential*.toml"),
)
"""Files whose changes are left out of the difference: they are there for secrets."""

# Nothing that a repository configures is run, and nothing is fetched or written.
_SAFE = ("-c", "core.fsmonitor=false", "-c", "protocol.allow=never", "-c", "core.quotePath=false", "--no-pager")
_MISLEADING = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_EXTERNAL_DIFF", "GIT_PREFIX", "GIT_NAMESPACE")
_QUIET = {"GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0", "GIT_NO_LAZY_FETCH": "1", "LC_ALL": "C"}
_NO_REPOSITORY = b"not a git repository"


@dataclass
class Code:
    """What git said.

    Attributes:
        facts: ``commit``, ``branch``, ``remote``, ``root``, ``dirty`` and more; empty outside a repository.
        diff: the difference from the commit, at most ``DIFF_LIMIT`` bytes and a last line that says what is missing.
        problems: what could not be found out, and why.
    """

    facts: dict[str, Any] = field(default_factory=dict)
    diff: bytes = b""
    problems: list[str] = field(default_factory=list)


def describe_code(folders: list[str], wanted: Callable[[], bool] = lambda: True) -> Code:
    """Describe the repository of the first of some folders that is in one. Raises nothing that git can cause.

    Args:
        folders: absolute paths, such as that of the script and the current one.
        wanted: whether the answer is still of use.
    """
    import shutil

    git = shutil.which("git")
    if git is None or not os.path.isabs(git):  # one of the current folder is not git
        return Code(problems=["code: git is not installed, or not on PATH"])
    return _Repository(git, wanted).describe(folders)


class _Repository:
    """One series of questions, within one deadline."""

    def __init__(self, git: str, wanted: Callable[[], bool]) -> None:
        self._git = git
        self._wanted = wanted
        self._deadline = time.monotonic() + CODE_SECONDS
        self._environment = {k: v for k, v in os.environ.items() if k not in _MISLEADING} | _QUIET
        self._folder = ""
        self._code = Code()

    def describe(self, folders: list[str]) -> Code:
        try:
            if self._find(folders):
                self._ask_status()
                self._ask_remote()
                if self._code.facts.get("dirty"):
                    self._ask_difference()
        except GaveNoAnswerError:
            self._code.problems.append("code: git gave no answer in time; what is here is what it said before")
        except OSError as error:
            self._code.problems.append(f"code: git could not be run: {error}")
        return self._code

    def _find(self, folders: list[str]) -> bool:
        """The repository's root, if one of the folders is in a repository."""
        for folder in dict.fromkeys(folders):
            if not os.path.isdir(folder):
                continue
            self._folder = folder
            answer = self._say("rev-parse", "--show-toplevel")
            if answer.status == 0:
                self._folder = os.fsdecode(answer.output).rstrip("\n")
                self._code.facts["root"] = self._folder
                return True
            if _NO_REPOSITORY not in answer.error:
                self._note("rev-parse", answer)
        return False

    def _ask_status(self) -> None:
        answer = self._say(
            "status", "--porcelain=v2", "--branch", "-z", "--untracked-files=normal", "--ignore-submodules=dirty"
        )
        if answer.status != 0:
            self._note("status", answer)
            return
        self._code.facts |= read_status(os.fsdecode(answer.output))
        if answer.truncated:
            self._code.problems.append(f"code: more than {STATUS_LIMIT} bytes of changed files; the counts are too low")

    def _ask_remote(self) -> None:
        answer = self._say("config", "-z", "--get-regexp", r"^remote\..*\.url$")
        if answer.status != 0:  # also where there is none
            return
        pairs = (entry.partition("\n")[::2] for entry in os.fsdecode(answer.output).split("\0") if entry)
        remotes = {key.removeprefix("remote.").removesuffix(".url"): address for key, address in pairs}
        upstream = str(self._code.facts.get("upstream", "")).partition("/")[0]
        chosen = next((name for name in (upstream, "origin", *remotes) if name in remotes), None)
        if chosen is not None:
            self._code.facts["remote"] = clean_address(remotes[chosen])

    def _ask_difference(self) -> None:
        against = "HEAD" if self._code.facts.get("commit") else "--cached"
        left_out = [f":(exclude,top,glob,icase)**/{pattern}" for pattern in SECRET_FILES]
        options = ("--no-color", "--no-ext-diff", "--no-textconv", "--ignore-submodules=dirty")
        answer = self._say("diff", against, *options, "--", ":/", *left_out, limit=DIFF_LIMIT)
        if answer.status != 0:
            self._note("diff", answer)
            return
        self._code.facts["diff_truncated"] = answer.truncated
        self._code.diff = answer.output + (
            b"\n\\ cut here: the difference is larger than %d bytes\n" % DIFF_LIMIT if answer.truncated else b""
        )

    def _say(self, *arguments: str, limit: int = STATUS_LIMIT) -> Answer:
        deadline = min(self._deadline, time.monotonic() + COMMAND_SECONDS)
        command = (self._git, *_SAFE, *arguments)
        return ask(command, self._folder, self._environment, limit=limit, deadline=deadline, wanted=self._wanted)

    def _note(self, question: str, answer: Answer) -> None:
        reason = answer.error.decode("utf-8", "replace").partition("\n")[0]
        self._code.problems.append(f"code: git {question}: status {answer.status}: {reason}"[:500])


def read_status(text: str) -> dict[str, Any]:
    """What ``git status --porcelain=v2 --branch -z`` says, as facts."""
    heads: dict[str, str] = {}
    changed, untracked = 0, []
    entries = iter(text.split("\0"))
    for entry in entries:
        kind, _, rest = entry.partition(" ")
        if kind == "#":
            name, _, value = rest.partition(" ")
            heads[name.removeprefix("branch.")] = value
        elif kind == "?":
            untracked.append(rest)
        elif kind in {"1", "2", "u"}:
            changed += 1
            if kind == "2":
                next(entries, None)  # the name before a rename
    return {
        "commit": None if heads.get("oid", "(initial)") == "(initial)" else heads["oid"],
        "branch": None if heads.get("head", "(detached)") == "(detached)" else heads["head"],
        **({"upstream": heads["upstream"]} if "upstream" in heads else {}),
        "dirty": changed > 0,
        "changed_count": changed,
        "untracked_count": len(untracked),
        "untracked": untracked[:MOST_UNTRACKED],
    }
