"""Write docs/reference/cli.md from the commands themselves: ``python docs/generate_cli.py``."""  # noqa: INP001 - a script, not a package

from __future__ import annotations

import inspect
from pathlib import Path

import click

from ml_dash.cli.exits import MEANINGS
from ml_dash.cli.main import COMMANDS, cli

PAGE = Path(__file__).parent / "reference" / "cli.md"

_HEAD = """# Command line

<!-- Made from the commands by docs/generate_cli.py. Change their help and run it again. -->

{about}

[How to use it](../how-to/command-line.md) has examples.
`ml-dash COMMAND --help` prints what stands here, and `python -m ml_dash` is the same program.

## Exit status

| Status | Meaning |
|---|---|
{statuses}
"""


def reference() -> str:
    """The page."""
    context = click.Context(cli, info_name="ml-dash", **cli.context_settings)
    statuses = "\n".join(f"| {status} | {_cell(meaning)} |" for status, meaning in MEANINGS)
    parts = [_HEAD.format(about=_paragraphs(cli.help or ""), statuses=statuses)]
    for name in COMMANDS:
        command = cli.get_command(context, name)
        assert command is not None, name
        parts.append(_section(command, click.Context(command, info_name=name, parent=context)))
    return "\n".join(parts)


def _section(command: click.Command, context: click.Context) -> str:
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    lines = [f"## ml-dash {context.info_name}", "", "```text", usage, "```", "", _paragraphs(command.help or "")]
    options = [row for param in command.get_params(context) if (row := _row(param, context))]
    return "\n".join([*lines, "", "| Option | Meaning |", "|---|---|", *options, ""])


def _row(param: click.Parameter, context: click.Context) -> str:
    """A line of the table of options; nothing for arguments, which the usage and the text name."""
    record = param.get_help_record(context) if isinstance(param, click.Option) else None
    if record is None:
        return ""
    option, meaning = record
    return f"| `{_cell(option)}` | {_cell(meaning)} |"


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())


def _paragraphs(text: str) -> str:
    """Help as Markdown: what must not be wrapped becomes a block."""
    parts = []
    for part in inspect.cleandoc(text).split("\n\n"):
        if part.startswith("\b"):
            lines = part.removeprefix("\b").strip("\n").splitlines()
            parts.append("\n".join(["```text", *(line.strip() for line in lines), "```"]))
        else:
            parts.append(" ".join(part.split()))
    return "\n\n".join(parts)


if __name__ == "__main__":
    PAGE.write_text(reference(), encoding="utf-8")
