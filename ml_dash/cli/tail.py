"""``ml-dash tail``."""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import click

from ml_dash.cli import formatting, output
from ml_dash.cli.arguments import json_option, pick, root_option, run_argument
from ml_dash.cli.exits import CommandError, print_message

if TYPE_CHECKING:
    from ml_dash.query.follow import Follower, Item
    from ml_dash.query.run import RunReader

LINES = 10

POLL_S = 0.25
"""How often a run is looked at: a person sees no difference, and the files of a run are looked up in a millisecond."""

POINTS_A_LOOK = 5
"""Points of one metric that are printed for one look: the newest. Nobody reads a thousand lines a second."""


@click.command()
@run_argument()
@root_option
@click.option(
    "-n",
    "--lines",
    type=click.IntRange(min=0),
    metavar="N",
    default=LINES,
    show_default=True,
    help="Log lines to begin with, and as many points of all metrics together.",
)
@click.option("--logs", "only", flag_value="logs", help="Only the log.")
@click.option("--metrics", "only", flag_value="metrics", help="Only the metrics.")
@click.option(
    "-f/-F",
    "--follow/--no-follow",
    default=None,
    help="Go on until the run ends, or stop at once. Without either: go on if this is a terminal and the run is live.",
)
@json_option
def tail(run: str, root: str, lines: int, only: str | None, follow: bool | None, as_json: bool) -> None:
    """Show the newest log lines and metric points of RUN, and follow it until it ends.

    On a terminal and while following, of a metric that is logged faster than one can read only the newest points are
    printed; --json prints all. The exit status is 1 if a run that says it is running was not heard of for a minute.
    """
    from ml_dash.query.follow import Follower

    found = pick(run, root)
    follower = Follower(found.folder, logs=only != "metrics", metrics=only != "logs")
    goes_on = follow if follow is not None else (output.is_terminal() and found.is_live)
    _print(follower.last(lines), as_json)
    if goes_on:
        _follow(found, follower, as_json)
    elif as_json:
        output.write_json(_state(found))


def _follow(run: RunReader, follower: Follower, as_json: bool) -> None:
    while True:
        is_over = not _is_going_on(run)  # asked before the last look, so that nothing is missed
        items = follower.added()
        _print(items if as_json else _newest(items), as_json)
        if is_over and not items:
            break
        if not items:
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


def _is_going_on(run: RunReader) -> bool:
    """Whether there may be more. A client that keeps no status never says that it is done."""
    return run.is_live or run.status is None


def _state(run: RunReader) -> dict[str, Any]:
    return {
        "stream": "status",
        "run": run.prefix,
        "status": run.status,
        "status_reason": run.status_reason,
        "live": run.is_live,
    }


def _print(items: list[Item], as_json: bool) -> None:
    if as_json:
        output.write_json_lines(item.as_json() for item in items)
    else:
        output.write(line_of(item) for item in items)


def _newest(items: list[Item]) -> list[Item]:
    """Without the points that nobody could read."""
    left = Counter(item.metric for item in items if item.stream == "metric")
    kept = []
    for item in items:
        if item.stream == "metric":
            left[item.metric] -= 1
            if left[item.metric] >= POINTS_A_LOOK:
                continue
        kept.append(item)
    return kept


def line_of(item: Item) -> str:
    """Return a log entry or a metric point on one line. It is not cut to the terminal, so that it can be copied."""
    if item.stream == "log":
        clock, level, text = formatting.log_parts(item.body)
        style = output.LEVEL_STYLES.get(level, "")
        padded = f"{level:<{formatting.LEVEL_WIDTH}}"
        return f"{output.paint(clock, 'dim')} {output.paint(padded, style)} {text}".rstrip()
    data = item.body["data"]
    if isinstance(data, dict):
        text = formatting.pairs({name: value for name, value in data.items() if name != "_ts"})
    else:
        text = formatting.clean(str(data))
    name = formatting.clean(item.metric or "None")
    return f"{output.paint(formatting.clock(item.when), 'dim')} {output.paint(name, 'cyan')} {text}"
