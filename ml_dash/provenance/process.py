"""Facts that only the training process has about itself; collected when a run starts, in a fraction of a millisecond."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

from ml_dash.provenance.secrets import mask_arguments
from ml_dash.provenance.variables import LOOKED_AT, cut, pick

MOST_ARGUMENTS = 500
"""Arguments of a command line that are recorded: more of them come from a shell's pattern of files."""

LONGEST_ARGUMENT = 1_000
"""Characters of one argument that are recorded: enough for a path, not for a program after ``python -c``."""


def observe(entry: object) -> dict[str, Any]:
    """Return the command line, the folder and the listed variables of this process, with secrets masked. Raises nothing.

    Args:
        entry: the path of the script, as ``RUN.entry`` has it.
    """
    parts: dict[str, Callable[[], Any]] = {
        "pid": os.getpid,
        "argv": lambda: _arguments(getattr(sys, "argv", [])),
        "command": lambda: _arguments(getattr(sys, "orig_argv", [])),
        "cwd": os.getcwd,
        "entry": lambda: os.fsdecode(entry),  # type: ignore[arg-type]  # a value that is no path raises, which becomes a problem
    }
    process: dict[str, Any] = {}
    problems: list[str] = []
    for name, part in parts.items():
        try:
            process[name] = part()
        except Exception as error:  # noqa: BLE001 - a removed folder, a replaced sys.argv
            problems.append(f"process.{name}: {type(error).__name__}: {error}"[:LONGEST_ARGUMENT])
    return {"process": process, **pick(os.environ), "problems": problems}


def _arguments(arguments: list[object]) -> list[str]:
    texts = [str(argument) for argument in arguments[:MOST_ARGUMENTS]]
    masked = mask_arguments(text[: LOOKED_AT * LONGEST_ARGUMENT] for text in texts)
    shortened = [cut(mask, len(text), LONGEST_ARGUMENT) for mask, text in zip(masked, texts, strict=True)]
    left_out = len(arguments) - len(shortened)
    return [*shortened, f"... ({left_out} more arguments)"] if left_out > 0 else shortened
