"""The end of a command: its exit status, and one line on stderr instead of a traceback for every expected error."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator

import click

from ml_dash import errors
from ml_dash._printable import clean_text

OK = 0
NOT_FOUND = 1
USAGE = 2  # click's own status for wrong usage
INTERNAL = 3
INTERRUPTED = 130  # as in shells: 128 plus the number of SIGINT
PIPE_CLOSED = 141  # as in shells: 128 plus the number of SIGPIPE

MEANINGS = (
    (OK, "success"),
    (NOT_FOUND, "something was not found or is wrong (a run, a check, a closed output); a line on stderr says what"),
    (USAGE, "wrong usage: an unknown option, or a value that cannot be used"),
    (INTERNAL, "an error in `ml-dash` itself, with its traceback"),
    (INTERRUPTED, "interrupted with Ctrl-C"),
    (PIPE_CLOSED, "the reader of the output has closed it, as in `ml-dash ls | head`"),
)
"""Every exit status and its meaning, for the reference page."""

_WRONG_CALL = (
    errors.ConfigurationError,
    errors.InvalidNameError,
    errors.InvalidValueError,
    errors.InvalidTypeError,
)


class CommandError(click.ClickException):
    """Ends a command with status 1 and one line on stderr: something was not found, or cannot be done."""

    exit_code = NOT_FOUND

    def show(self, file: object = None) -> None:  # noqa: ARG002 - click's signature
        """Print the line."""
        print_message(self.message)


class WrongCallError(CommandError):
    """Ends a command with status 2 and one line on stderr: it was called wrongly."""

    exit_code = USAGE


def print_message(message: str) -> None:
    """Clean a message and print it as one line on stderr, where it does not mix with the output that a program reads."""
    click.echo(f"ml-dash: {clean_text(message)}", err=True)


@contextlib.contextmanager
def errors_as_exit_status() -> Iterator[None]:
    """Turn every exception of a command into an exit status and a message.

    Raises:
        click.exceptions.Exit: with the status.
        click.ClickException: an error that click shows itself.
    """
    try:
        yield
        sys.stdout.flush()  # notices a closed pipe here, and not while Python shuts down
    except click.exceptions.Exit:
        raise
    except click.ClickException as error:
        # Of click itself, with what was typed.
        error.message = clean_text(error.message)  # type: ignore[misc]  # it is read when it is shown
        raise
    except (KeyboardInterrupt, click.Abort):
        raise click.exceptions.Exit(INTERRUPTED) from None
    except BrokenPipeError:
        _discard_output()
        raise click.exceptions.Exit(PIPE_CLOSED) from None
    except errors.MlDashError as error:
        kind = WrongCallError if isinstance(error, _WRONG_CALL) else CommandError
        raise kind(_message_of(error)) from None
    except OSError as error:
        try:
            sys.stdout.flush()
        except OSError:  # the disk is full: Python would try to write the rest once more, and complain
            _discard_output()
        raise CommandError(_message_of(error)) from None
    except RecursionError:  # a parser, on data of a run; ml-dash itself calls nothing that deep
        raise CommandError(
            "a document or a line of the run nests too deep to be read; ml-dash verify says where"
        ) from None
    except Exception as error:  # noqa: BLE001 - everything that was not expected is a defect, and shown as one
        import traceback

        for line in "".join(traceback.format_exception(error)).splitlines():
            click.echo(clean_text(line), err=True)
        print_message(f"this is an error of ml-dash itself ({type(error).__name__}); the lines above say where")
        raise click.exceptions.Exit(INTERNAL) from None


def _message_of(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    return str(error) or type(error).__name__


def _discard_output() -> None:
    """Send what is still buffered to the null device; Python would complain about it while shutting down."""
    with contextlib.suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)
