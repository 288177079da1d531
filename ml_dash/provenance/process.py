"""What only the training process knows of itself, taken when a run starts: a fraction of a millisecond."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

from ml_dash.provenance.secrets import mask_arguments
from ml_dash.provenance.variables import LOOKED_AT, cut, pick

MOST_ARGUMENTS = 500
"""Arguments of the command line that are recorded: more are the files of a shell's pattern."""

LONGEST_ARGUMENT = 1_000
"""Characters of one argument that are recorded: enough for a path, and not for the program of ``python -c``."""


def observe(entry: object) -> dict[str, Any]:
    """The command line, the folder and the named variables of this process, secrets masked. Raises nothing.

    Args:
        entry: the path of the script, as ``RUN.entry`` has it.
    """
    parts: dict[str, Callable[[], Any]] = {
        "pid": os.getpid,
        "argv": lambda: _arguments(getattr(sys, "argv", [])),
        "command": lambda: _arguments(getattr(sys, "orig_argv", [])),
        "cwd": os.getcwd,
        "entry": lambda: os.fsdecode(entry),  # type: ignore[arg-type]  # what is no path raises, which is noted
    }
    process: dict[str, Any] = {}
    problems: list[str] = []
    for name, part in parts.items():
        try:
            process[name] = part()
        except Exception as error:  # noqa: BLE001 - a folder that was removed, a sys.argv that somebody replaced
            problems.append(f"process.{name}: {type(error).__name__}: {error}"[:LONGEST_ARGUMENT])
    return {"process": process, **pick(os.environ), "problems": problems}


def _arguments(arguments: list[object]) -> list[str]:
    texts = [str(argument) for argument in arguments[:MOST_ARGUMENTS]]
    masked = mask_arguments(text[: LOOKED_AT * LONGEST_ARGUMENT] for text in texts)
    shortened = [cut(mask, len(text), LONGEST_ARGUMENT) for mask, text in zip(masked, texts, strict=True)]
    left_out = len(arguments) - len(shortened)
    return [*shortened, f"... ({left_out} more arguments)"] if left_out > 0 else shortened
