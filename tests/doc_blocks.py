"""The fenced code blocks of a Markdown page, with what the page says about running each. Pure.

A comment on a line of its own directly before a block (blank lines between do not matter) says how it is meant::

    <!-- test: skip needs a cluster -->      not run; the reason is required
    <!-- test: fresh -->                     from here on in a new Python process
    <!-- test: expect-error -->              must fail
    <!-- test: expect-error ValueError -->   must fail, and the last line of the traceback must name this

Two other comments name the blocks that `.ci/run` executes as they stand, in the checkout::

    <!-- quickstart -->
    <!-- tests -->
"""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass, replace

# Languages that are run, and languages that only show something. A block of any other kind is an error, so that no
# example escapes the tests by its spelling.
RUN = frozenset({"python", "bash", "console"})
SHOWN = frozenset({"diff", "http", "ini", "json", "mermaid", "text", "toml", "yaml"})

# MyST directives that hold code would be examples under another name.
CODE_DIRECTIVES = frozenset({"{code-block}", "{code-cell}", "{code}", "{doctest}", "{testcode}", "{sourcecode}"})

RUN_BY_CI = frozenset({"quickstart", "tests"})

_FENCE = re.compile(r"^(?P<indent> *)(?P<fence>`{3,}|~{3,}) *(?P<info>[^`]*)$")
_COMMENT = re.compile(r"^ *<!-- *(?P<text>.*?) *-->$")


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block.

    Attributes:
        language: the first word after the fence; empty where there is none.
        code: what stands between the fences, without the fence's own indentation, ending in a newline.
        line: the line of the page, from 1, at which `code` begins.
        skip: why it is not run; empty if it is.
        fresh: whether it starts a new Python process.
        error: None, or what its last line of output must contain when it fails (empty: any failure).
        run_by_ci: `quickstart` or `tests` where `.ci/run` executes it, else empty.
    """

    language: str
    code: str
    line: int
    skip: str = ""
    fresh: bool = False
    error: str | None = None
    run_by_ci: str = ""

    @property
    def is_run(self) -> bool:
        """Whether the tests run the block."""
        return self.language in RUN and not self.skip and not self.run_by_ci

    def commands(self) -> str:
        """The shell script of a `bash` or `console` block; of a console only what follows the prompt `$`."""
        if self.language != "console":
            return self.code
        lines, continued = [], False
        for line in self.code.splitlines():
            if continued or line.startswith("$ "):
                command = line if continued else line[2:]
                continued = command.endswith("\\")
                lines.append(command)
        return "\n".join(lines) + "\n"


def parse(markdown: str) -> list[Block]:
    """Return every fenced block of a page in order.

    Raises:
        ValueError: a block is not closed, has a language that is neither run nor shown, or an instruction that does
            not exist. The message holds the line.
    """
    blocks = []
    lines = markdown.splitlines()
    comments: list[str] = []
    number = 0
    while number < len(lines):
        fence, comment = _FENCE.match(lines[number]), _COMMENT.match(lines[number])
        if fence:
            end = _closing_line(lines, number, fence)
            blocks.append(_block(fence, lines[number + 1 : end], number + 2, comments))
            comments, number = [], end
        elif comment:
            comments.append(comment["text"])
        elif lines[number].strip():
            comments = []
        number += 1
    return blocks


def _closing_line(lines: list[str], start: int, fence: re.Match[str]) -> int:
    closing = re.compile(rf"^ *{re.escape(fence['fence'][0])}{{{len(fence['fence'])},}} *$")
    for number in range(start + 1, len(lines)):
        if closing.match(lines[number]):
            return number
    raise ValueError(f"line {start + 1}: the block that begins here is not closed")


def _block(fence: re.Match[str], body: list[str], line: int, comments: list[str]) -> Block:
    language = fence["info"].split(maxsplit=1)[0] if fence["info"].strip() else ""
    is_directive = language.startswith("{") and language not in CODE_DIRECTIVES
    if language not in RUN | SHOWN and not is_directive:
        raise ValueError(f"line {line - 1}: {language!r} is none of {', '.join(sorted(RUN | SHOWN))}")
    code = textwrap.dedent("".join(f"{text.removeprefix(fence['indent'])}\n" for text in body))
    return _instructed(Block(language, code, line), comments)


def _instructed(block: Block, comments: list[str]) -> Block:
    for comment in comments:
        if comment in RUN_BY_CI:
            block = replace(block, run_by_ci=comment)
        elif comment.startswith("test:"):
            block = _instruction(block, comment.removeprefix("test:").strip())
    return block


def _instruction(block: Block, text: str) -> Block:
    word, _, rest = text.partition(" ")
    if word == "skip" and rest:
        return replace(block, skip=rest)
    if word == "fresh" and not rest:
        return replace(block, fresh=True)
    if word == "expect-error":
        return replace(block, error=rest)
    raise ValueError(f"line {block.line}: `test: {text}` is none of skip REASON, fresh, expect-error [TEXT]")
