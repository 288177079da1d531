"""Run git commands that start no program of a repository, fetch nothing, write nothing, and end in time."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping

from ml_dash.provenance.programs import Answer, GaveNoAnswerError, ask
from ml_dash.provenance.secrets import mask_text

COMMAND_SECONDS = 5.0
"""Time that one command may take: a file system that does not answer is given up."""

CODE_SECONDS = 20.0
"""Time that all commands may take together: a few get no answer, and the others take milliseconds."""

OUTPUT_LIMIT = 4 * 1024 * 1024
"""Bytes of an answer that are read: about 50 000 changed files."""

MOST_FILTERS = 50
"""Filters that are switched off: each takes space on the command line, and a repository has a few."""

# Overrides settings of a repository or a user that start a program or change the form of an answer.
_SAFE = (
    *("-c", "core.fsmonitor=false", "-c", "protocol.allow=never", "-c", "core.quotePath=false"),
    *("-c", "diff.relative=false", "-c", f"diff.orderFile={os.devnull}", "--no-pager"),
)
_FILTER_SETTINGS = {"clean": "", "smudge": "", "process": "", "required": "false"}
_QUIET = {"GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0", "GIT_NO_LAZY_FETCH": "1", "LC_ALL": "C"}
_KEPT = ("GIT_CEILING_DIRECTORIES", "GIT_DISCOVERY_ACROSS_FILESYSTEM", "GIT_EXEC_PATH")
_REPOSITORY = ("GIT_DIR", "GIT_WORK_TREE")


class Git:
    """A series of git commands, each with its own time limit, and all within one deadline.

    Args:
        program: absolute path of git.
        is_wanted: whether the answers are still wanted.

    Attributes:
        problems: which commands got no answer, and why.
    """

    def __init__(self, program: str, is_wanted: Callable[[], bool]) -> None:
        self.problems: list[str] = []
        self._program = program
        self._is_wanted = is_wanted
        self._deadline = time.monotonic() + CODE_SECONDS
        self._environment = environment_for_git(os.environ)
        self._is_over = False

    def say(
        self, folder: str, *arguments: str, options: tuple[str, ...] = (), limit: int = OUTPUT_LIMIT
    ) -> Answer | None:
        """Run a command and return its answer; None, and a problem, if there is none in time.

        Args:
            folder: the current folder of the command.
            arguments: the command and its arguments.
            options: options before the command.
            limit: bytes of the answer.
        """
        if self._is_over:
            return None
        deadline = min(self._deadline, time.monotonic() + COMMAND_SECONDS)
        command = (self._program, *_SAFE, *options, *arguments)
        try:
            return ask(command, folder, self._environment, limit=limit, deadline=deadline, is_wanted=self._is_wanted)
        except GaveNoAnswerError:
            self.problems.append(f"code: git {arguments[0]} gave no answer in time; what else is here is what it said")
        except OSError as error:
            self.problems.append(f"code: git {arguments[0]} could not be run: {error}")
        self._is_over = not self._is_wanted() or time.monotonic() >= self._deadline
        return None

    def expect(
        self, folder: str, *arguments: str, options: tuple[str, ...] = (), limit: int = OUTPUT_LIMIT
    ) -> Answer | None:
        """Do as ``say``, but also return None, and add a problem, for an exit status other than 0."""
        answer = self.say(folder, *arguments, options=options, limit=limit)
        if answer is not None and answer.status != 0:
            self.note(arguments[0], answer)
            return None
        return answer

    def note(self, question: str, answer: Answer) -> None:
        """Add the error text of git to the problems."""
        reason = answer.error.decode("utf-8", "replace").partition("\n")[0]
        self.problems.append(f"code: git {question}: status {answer.status}: {mask_text(reason)}"[:500])

    def options_without_filters(self, folder: str) -> tuple[str, ...] | None:
        """Return options that keep git from running configured filters; None if that cannot be done.

        A file of a filter is then compared as it is on the disk, where git would convert it first.
        """
        answer = self.say(folder, "config", "-z", "--name-only", "--get-regexp", r"^filter\.")
        if answer is None or answer.status not in {0, 1}:  # 1: there are none
            return None
        keys = [key for key in os.fsdecode(answer.output).split("\0") if key.count(".") > 1]
        names = {key.removeprefix("filter.").rpartition(".")[0] for key in keys}
        if answer.truncated or len(names) > MOST_FILTERS or any("=" in name or "\n" in name for name in names):
            self.problems.append(
                "code: the configured filters cannot be switched off; changed files were not asked for"
            )
            return None
        settings = [f"filter.{name}.{key}={off}" for name in sorted(names) for key, off in _FILTER_SETTINGS.items()]
        return tuple(part for setting in settings for part in ("-c", setting))

    def forget_repository(self) -> None:
        """Remove ``GIT_DIR`` and ``GIT_WORK_TREE``: from now on the folder tells which repository it is."""
        for name in _REPOSITORY:
            self._environment.pop(name, None)


def environment_for_git(environ: Mapping[str, str]) -> dict[str, str]:
    """Return a process's variables without those that change the answers of git or make it write traces.

    ``GIT_DIR`` is kept only together with ``GIT_WORK_TREE``, and if both are absolute. A git hook sets it alone, to the
    repository of the hook, and the folder of the script would be taken for its working tree.
    """
    kept = {name: value for name, value in environ.items() if not name.startswith("GIT_")}
    kept |= {name: value for name, value in environ.items() if name.startswith("GIT_CONFIG_") or name in _KEPT}
    repository = {name: environ.get(name, "") for name in _REPOSITORY}
    return kept | (repository if all(map(os.path.isabs, repository.values())) else {}) | _QUIET
