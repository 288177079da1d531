"""The command ``ml-dash version``."""

from __future__ import annotations

import os
import platform
import sys

import click

from ml_dash._version import __version__
from ml_dash.cli.arguments import json_option
from ml_dash.cli.output import write, write_json


@click.command()
@json_option
def version(as_json: bool) -> None:
    """Print the versions of ml_dash and Python, and the folder in which ml_dash is installed."""
    folder = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    if as_json:
        write_json(
            {
                "ml_dash": __version__,
                "python": platform.python_version(),
                "executable": sys.executable,
                "folder": folder,
            }
        )
        return
    write([f"ml-dash {__version__}", f"Python {platform.python_version()} ({sys.executable})", folder])
