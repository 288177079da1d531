"""The command ``ml-dash tail``."""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import click

from ml_dash._printable import clean
from ml_dash.cli import formatting, output
from ml_dash.cli.arguments import find_run, json_option, root_option, run_argument
from ml_dash.cli.exits import CommandError, print_message

if TYPE_CHECKING:
    from ml_dash.query.follow import Entry, Follower
    from ml_dash.query.run import RunReader

POLL_S = 0.25
"""Time between two looks at a run: a person sees no delay, and a look takes a millisecond."""

POINTS_PER_LOOK = 5
"""Points of one metric that are printed for one look, the newest: nobody reads a thousand lines a second."""


@click.command()
@run_argument()
@root_option
@click.option(
    "-n",
    "--lines",
    type=click.IntRange(min=0),
    metavar="N",
    default=10,
    show_default=True,
    help="Number of log lines to begin with, and of points of all metrics together.",
)
@click.option("--logs", "only", flag_value="logs", help="Only the log.")
@click.option("--metrics", "only", flag_value="metrics", help="Only the metrics.")
@click.option(
    "-f/-F",
    "--follow/--no-follow",
    default=None,
    help="Follow the run until it ends, or stop at once. Default: follow if this is a terminal and the run is live.",
)
@json_option
def tail(run: str, root: str, lines: int, only: str | None, follow: bool | None, as_json: bool) -> None:
    """Show the newest log lines and metric points of RUN, and follow it until it ends.

    While following, only the newest points of a metric that is logged faster than one can read are printed; --json
    prints all of them. The exit status is 1 if the run says that it is running, but was not heard of for a minute.
    """
    from ml_dash.query.follow import Follower

    reader = find_run(run, root)
    follower = Follower(reader.folder, logs=only != "metrics", metrics=only != "logs")
    is_following = follow if follow is not None else (output.is_terminal() and reader.is_live)
    _print(follower.last(lines), as_json)
    if is_following:
        _follow(reader, follower, as_json)
    elif as_json:
        output.write_json(_state(reader))


def _follow(run: RunReader, follower: Follower, as_json: bool) -> None:
    while True:
        # Asked before the last look, so that nothing is missed. A client that keeps no status never says that it ends.
        has_ended = not run.is_live and run.status is not None
        entries = follower.added()
        _print(entries if as_json else _newest(entries), as_json)
        if has_ended and not entries:
            break
        if not entries:
            time.sleep(POLL_S)
    state = _state(run)
    if as_json:
        output.write_json(state)
    elif state["status"] is not None:
        reason = f": {state['status_reason']}" if state["status_reason"] else ""
        print_message(f"{run.prefix} {str(state['status']).lower()}{reason}")
    if state["status"] == "RUNNING":
        raise CommandError(
            f"nothing was heard of {run.prefix} since {run.document().get('heartbeat_at')}; it was probably killed"
        )


def _state(run: RunReader) -> dict[str, Any]:
    return {
        "stream": "status",
        "run": run.prefix,
        "status": run.status,
        "status_reason": run.status_reason,
        "live": run.is_live,
    }


def _print(entries: list[Entry], as_json: bool) -> None:
    if as_json:
        output.write_json_lines(entry.as_json() for entry in entries)
    else:
        output.write(line_of(entry) for entry in entries)


def _newest(entries: list[Entry]) -> list[Entry]:
    """Leave out all but the newest points of each metric."""
    left = Counter(entry.metric for entry in entries if entry.stream == "metric")
    kept = []
    for entry in entries:
        if entry.stream == "metric":
            left[entry.metric] -= 1
            if left[entry.metric] >= POINTS_PER_LOOK:
                continue
        kept.append(entry)
    return kept


def line_of(entry: Entry) -> str:
    """Return a log entry or a metric point on one line. It is not cut to the terminal, so that it can be copied."""
    if entry.stream == "log":
        clock, level, text = formatting.log_parts(entry.body)
        style = output.LEVEL_STYLES.get(level, "")
        padded = f"{level:<{formatting.LEVEL_WIDTH}}"
        return f"{output.paint(clock, 'dim')} {output.paint(padded, style)} {text}".rstrip()
    data = entry.body["data"]
    if isinstance(data, dict):
        text = formatting.pairs({name: value for name, value in data.items() if name != "_ts"})
    else:
        text = formatting.value_text(data)
    name = clean(entry.metric or "None")
    return f"{output.paint(formatting.clock(entry.time), 'dim')} {output.paint(name, 'cyan')} {text}"
