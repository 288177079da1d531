"""Run the blocks of one page as a reader would: in one folder, and those of Python in one process."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from tests.support import python_environment

if TYPE_CHECKING:
    from pathlib import Path

    from tests.doc_blocks import Block

# The slowest examples render some seconds of simulation in software; beyond this a reader would have given up.
BLOCK_SECONDS = 90.0

# At its end a page's process drains what its runs still have to write.
END_SECONDS = 30.0

# The child's side. Started with `python -c`, so `__main__` has no file, as in a REPL or a notebook. Blocks and answers
# are lines of JSON on a socket of their own; stdout belongs to the page. Padding keeps the page's line numbers.
_REPL = r"""
def _serve(descriptor):
    import json, linecache, socket, traceback
    names = __import__("__main__").__dict__
    names.pop("_serve")
    with socket.socket(fileno=descriptor) as channel, channel.makefile("rw") as lines:
        for line in lines:
            block = json.loads(line)
            source = "\n" * (block["line"] - 1) + block["code"]
            linecache.cache[block["page"]] = len(source), None, source.splitlines(True), block["page"]
            error = ""
            try:
                exec(compile(source, block["page"], "exec", dont_inherit=True), names)
            except BaseException:
                error = traceback.format_exc()
            lines.write(json.dumps({"error": error}) + "\n")
            lines.flush()
_serve(int(__import__("sys").argv[1]))
"""


@dataclass(frozen=True, slots=True)
class Failure:
    """The location and the output of a block that failed."""

    line: int
    text: str


class Page:
    """One page: its folder, and the Python process that runs its blocks.

    Args:
        name: the page's path, shown in tracebacks.
        folder: the working directory of every block.
    """

    def __init__(self, name: str, folder: Path) -> None:
        self._name = name
        self._folder = folder
        self._python: _Python | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._end_python()

    def run(self, block: Block) -> Failure | None:
        """Run one block; return None if it ended as the page says."""
        output = self._run_python(block) if block.language == "python" else self._run_shell(block)
        if block.error is None:
            return Failure(block.line, output) if output else None
        if not output:
            return Failure(block.line, "it should have failed and did not")
        return None if block.error in output.strip().splitlines()[-1] else Failure(block.line, output)

    def _run_python(self, block: Block) -> str:
        if block.fresh:
            self._end_python()
        if self._python is None:
            self._python = _Python(self._name, self._folder)
        return self._python.run(block)

    def _run_shell(self, block: Block) -> str:
        """Run a shell block; return its output if it failed, else the empty string."""
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", block.commands()],
            cwd=self._folder,
            env=_environment(self._folder),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=BLOCK_SECONDS,
            check=False,
        )
        return f"exit status {done.returncode}\n{done.stdout}" if done.returncode else ""

    def _end_python(self) -> None:
        if self._python is not None:
            python, self._python = self._python, None
            python.end()


class _Python:
    """A child process that executes blocks one after the other in its `__main__`."""

    def __init__(self, page: str, folder: Path) -> None:
        self._page = page
        self._channel, theirs = socket.socketpair()
        self._channel.settimeout(BLOCK_SECONDS)
        self._lines = self._channel.makefile("rw")
        self._output = folder / ".output"
        with theirs, self._output.open("w") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _REPL, str(theirs.fileno())],
                cwd=folder,
                env=_environment(folder),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                pass_fds=[theirs.fileno()],
            )

    def run(self, block: Block) -> str:
        """Execute a block; return the traceback if it raised, else the empty string."""
        try:
            self._lines.write(json.dumps({"page": self._page, "line": block.line, "code": block.code}) + "\n")
            self._lines.flush()
            answer = self._lines.readline()
        except TimeoutError:
            self._process.kill()
            return f"not done after {BLOCK_SECONDS:g} s\n{self._output.read_text()}"
        except ConnectionError:
            answer = ""
        return json.loads(answer)["error"] if answer else f"{self._output.read_text()}\nthe Python process has ended"

    def end(self) -> None:
        """Let the process end as a script does.

        Raises:
            AssertionError: it ended with another status than 0.
            subprocess.TimeoutExpired: it did not end, and was killed.
        """
        self._lines.close()
        self._channel.close()
        try:
            status = self._process.wait(END_SECONDS)
        finally:
            self._process.kill()
            self._process.wait()
        assert 0 == status, f"exit status {status}\n{self._output.read_text()}"


def _environment(folder: Path) -> dict[str, str]:
    """Return an environment with an empty home, so that no example finds the user's tokens and settings."""
    home = folder.parent / "home"
    home.mkdir(exist_ok=True)
    return python_environment({"HOME": str(home), "ML_DASH_RECORD_ENVIRONMENT": "1"})
