"""How a command ends: its exit status, and one line instead of a traceback for whatever can be expected."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator

import click

from ml_dash import errors

OK = 0
NOT_FOUND = 1
"""What was asked for is not there, or something was found that is not as it should be."""
USAGE = 2
"""The command was called wrongly. Click's own status for that."""
INTERNAL = 3
"""A defect of ml-dash; the only case with a traceback."""
INTERRUPTED = 130
"""Ctrl-C, as shells have it: 128 and the number of SIGINT."""
PIPE_CLOSED = 141
"""Nobody reads the output any more, as after ``| head``: 128 and the number of SIGPIPE."""

MEANINGS = (
    (OK, "done"),
    (
        NOT_FOUND,
        "nothing was found, or something is not as it should be, such as a closed output; one line on stderr says what",
    ),
    (USAGE, "wrong usage: an unknown option, a value that cannot be used"),
    (INTERNAL, "an error of `ml-dash` itself, with its traceback"),
    (INTERRUPTED, "interrupted with Ctrl-C"),
    (PIPE_CLOSED, "the reader of the output went away, as with `ml-dash ls | head`"),
)
"""Every exit status and what it means; the reference is made from this."""

_WRONG_CALL = (
    errors.ConfigurationError,
    errors.InvalidNameError,
    errors.InvalidValueError,
    errors.InvalidTypeError,
)


class CommandError(click.ClickException):
    """Ends a command with one line on stderr: what was asked for is not there."""

    exit_code = NOT_FOUND

    def show(self, file: object = None) -> None:  # noqa: ARG002 - click's signature
        """Print the line."""
        tell(self.message)


class WrongCallError(CommandError):
    """The same for a command that was called wrongly."""

    exit_code = USAGE


def tell(message: str) -> None:
    """One line for a person, on stderr, so that it never mixes with what a script reads."""
    from ml_dash.cli.formatting import clean

    click.echo(f"ml-dash: {clean(message)}", err=True)


@contextlib.contextmanager
def told_in_one_line() -> Iterator[None]:
    """Turn what a command raises into its exit status, and what it has to say into one line.

    Raises:
        click.exceptions.Exit: with the status.
        click.ClickException: wrong usage, which click shows itself.
    """
    try:
        yield
        sys.stdout.flush()  # a reader that went away is noticed here, and not while Python shuts down
    except (click.exceptions.Exit, click.ClickException):
        raise
    except (KeyboardInterrupt, click.Abort):
        raise click.exceptions.Exit(INTERRUPTED) from None
    except BrokenPipeError:
        _forget_output()
        raise click.exceptions.Exit(PIPE_CLOSED) from None
    except errors.MlDashError as error:
        kind = WrongCallError if isinstance(error, _WRONG_CALL) else CommandError
        raise kind(_text_of(error)) from None
    except OSError as error:
        _forget_what_cannot_be_written()
        raise CommandError(_text_of(error)) from None
    except RecursionError:  # of the parser, with what a file holds; ml-dash itself calls nothing that deep
        raise CommandError(
            "a document or a line of the run nests too deep to be read; ml-dash verify says where"
        ) from None
    except Exception as error:  # noqa: BLE001 - the one place that tells a defect apart from everything expected
        _show_defect(error)
        raise click.exceptions.Exit(INTERNAL) from None


def _text_of(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        where = f": {error.filename}" if error.filename else ""
        return f"{error.strerror}{where}"
    return str(error) or type(error).__name__


def _show_defect(error: Exception) -> None:
    import traceback

    click.echo("".join(traceback.format_exception(error)), err=True, nl=False)
    tell(f"this is an error of ml-dash itself ({type(error).__name__}); the lines above say where")


def _forget_what_cannot_be_written() -> None:
    """Where the disk behind the output is full, what is buffered would be tried once more, and complained about."""
    try:
        sys.stdout.flush()
    except OSError:
        _forget_output()


def _forget_output() -> None:
    """What is still buffered goes nowhere; Python would complain about it while shutting down."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
