"""``ml-dash video``."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from ml_dash.cli import formatting, output
from ml_dash.cli.arguments import json_option, pick, root_option, run_argument, topic_argument
from ml_dash.cli.exits import CommandError

if TYPE_CHECKING:
    from ml_dash.query.run import RunReader


@click.command()
@run_argument()
@topic_argument("TOPIC")
@root_option
@click.option(
    "-o",
    "--output",
    "place",
    type=click.Path(dir_okay=False),
    metavar="FILE",
    required=True,
    help="The video, ending in .mp4, .webm or .gif; a file that is there is replaced.",
)
@click.option(
    "--fps", type=float, metavar="N", help="Frames per second. By default it runs as fast as the timestamps say, or 30."
)
@click.option("--start", type=float, metavar="SECONDS", help="Only frames from this time on, in the stream's clock.")
@click.option("--end", type=float, metavar="SECONDS", help="Only frames until this time.")
@click.option("--step", type=click.IntRange(min=1), metavar="N", default=1, help="Only every so many of these frames.")
@click.option("--quality", type=click.IntRange(1, 100), metavar="N", help="Of MP4 and WebM, 1 to 100 (75).")
@json_option
def video(
    run: str,
    topic: str,
    root: str,
    place: str,
    fps: float | None,
    start: float | None,
    end: float | None,
    step: int,
    quality: int | None,
    as_json: bool,
) -> None:
    """Make a video of the frames that RUN recorded as TOPIC, such as camera/front.

    It appears when it is complete, or not at all. A terminal shows how far it is. It needs PyAV: pip install av.
    """
    found = pick(run, root)
    _require_topic(found, topic)
    path = found.frames(topic).export(place, fps=fps, start=start, end=end, step=step, quality=quality)
    size = os.path.getsize(path)
    if as_json:
        output.write_json({"run": found.prefix, "topic": topic, "path": path, "bytes": size})
    else:
        output.write([formatting.clean(f"{path}  {formatting.size(size)}")])


def _require_topic(run: RunReader, topic: str) -> None:
    from ml_dash.storage.names import closest

    topics = [about["topic"] for about in run.frames.list()]
    if topic in topics:
        return
    near = closest(topic, topics)
    known = f"it has {', '.join(topics)}" if topics else "it has none at all"
    advice = f"did you mean {near!r}?" if near else known
    raise CommandError(f"{run.prefix} has no frames {topic!r}; {advice}")
