"""The command ``ml-dash video``."""

from __future__ import annotations

import os

import click

from ml_dash._printable import clean
from ml_dash.cli import formatting, output
from ml_dash.cli.arguments import find_run, json_option, root_option, run_argument, topic_argument
from ml_dash.cli.exits import CommandError
from ml_dash.storage.names import closest


@click.command()
@run_argument()
@topic_argument("TOPIC")
@root_option
@click.option(
    "-o",
    "--output",
    "path",
    type=click.Path(dir_okay=False),
    metavar="FILE",
    required=True,
    help="The video file, ending in .mp4, .webm or .gif; an existing file is replaced.",
)
@click.option("--fps", type=float, metavar="N", help="Frames per second. Default: the rate of the timestamps, or 30.")
@click.option(
    "--start", type=float, metavar="SECONDS", help="Only frames from this time on, by the timestamps of the stream."
)
@click.option("--end", type=float, metavar="SECONDS", help="Only frames up to this time.")
@click.option("--step", type=click.IntRange(min=1), metavar="N", default=1, help="Only every N-th of these frames.")
@click.option(
    "--quality", type=click.IntRange(1, 100), metavar="N", help="Quality of MP4 and WebM, 1 to 100. Default: 75."
)
@json_option
def video(
    run: str,
    topic: str,
    root: str,
    path: str,
    fps: float | None,
    start: float | None,
    end: float | None,
    step: int,
    quality: int | None,
    as_json: bool,
) -> None:
    """Make a video of the frames that RUN recorded as TOPIC, such as camera/front.

    The file appears when it is complete, or not at all. A terminal shows the progress. PyAV is needed: pip install av.
    """
    reader = find_run(run, root)
    topics = [stream["topic"] for stream in reader.frames.list()]
    if topic not in topics:
        near = closest(topic, topics)
        known = f"it has {', '.join(topics)}" if topics else "it has none at all"
        raise CommandError(f"{reader.prefix} has no frames {topic!r}; {f'did you mean {near!r}?' if near else known}")
    path = reader.frames(topic).export(path, fps=fps, start=start, end=end, step=step, quality=quality)
    size = os.path.getsize(path)
    if as_json:
        output.write_json({"run": reader.prefix, "topic": topic, "path": path, "bytes": size})
    else:
        output.write([f"{clean(path)}  {formatting.size(size)}"])
