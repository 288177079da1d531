"""The screen of ``ml-dash show``: sections of lines, cut so that they fit the terminal."""

from __future__ import annotations

import datetime
import math
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ml_dash._printable import Printable, clean, clean_text
from ml_dash.cli import formatting, output
from ml_dash.cli.formatting import clip, display_width
from ml_dash.cli.output import paint
from ml_dash.cli.table import GAP, Cell, Column, cell_text, table
from ml_dash.cli.terminal_plot import sparkline
from ml_dash.query.overview import to_count
from ml_dash.storage.documents import to_datetime

if TYPE_CHECKING:
    from ml_dash.cli.series import Series
    from ml_dash.query.run import RunReader

INDENT = "  "

LEAST_LINES = 2
"""Lines that a section keeps below its heading if its ``least`` says nothing else."""

SPARK_WIDTH, NARROW_SPARK_WIDTH = 24, 6
"""The largest and smallest number of letters of a curve; between them it has a seventh of the terminal."""

FILES, LOG, STREAMS, DETAILS, NUMBERS = range(1, 6)
"""The order in which sections are cut where the terminal has too few lines."""

_STATUS_STYLES = {"COMPLETED": "green", "FAILED": "bold red", "CANCELLED": "yellow", "RUNNING": "bold cyan"}
_STREAM_UNITS = {"log": "line", "metric": "point", "track": "row", "frames": "frame"}


@dataclass(slots=True)
class Section:
    """Some lines, mostly below a heading.

    Attributes:
        title: the heading; empty for none.
        lines: the lines below it.
        note: a text beside the heading.
        note_alone: the text beside the heading if no line is shown.
        keep_end: whether to keep the last lines instead of the first ones.
        counts: the number of items in each line, if it is not one.
        cut_order: sections with lower numbers are cut first; 0: never cut.
        least: the number of lines that are kept.
    """

    title: str
    lines: list[str] = field(default_factory=list)
    note: str = ""
    note_alone: str = ""
    keep_end: bool = False
    counts: list[int] = field(default_factory=list)
    cut_order: int = 0
    least: int = LEAST_LINES

    def cut(self, limit: int) -> list[str]:
        """Return the heading and at most ``limit`` lines, the last of which counts those that are left out."""
        note = self.note_alone if self.lines and not limit else self.note
        heading = [(paint(self.title, "bold") + INDENT + note).rstrip()] if self.title else []
        if len(self.lines) <= limit:
            return [*heading, *self.lines]
        if not limit:
            return heading
        if self.keep_end:
            heading[0] += INDENT + paint(f"the last {limit}; see --all", "dim")
            return [*heading, *self.lines[-limit:]]
        left_out = sum(self.counts[limit - 1 :]) if self.counts else len(self.lines) - limit + 1
        return [*heading, *self.lines[: limit - 1], INDENT + paint(f"... and {left_out} more; see --all", "dim")]


def fit(sections: Sequence[Section], height: int | None) -> list[int]:
    """Return how many lines each section may have so that all of them fit, as far as they can be cut.

    Of sections with the same ``cut_order`` the longest one is cut first.

    Args:
        sections: in the order in which they are shown.
        height: lines of the terminal, one of which is left for the prompt; None for no limit.
    """
    limits = [len(section.lines) for section in sections]
    if height is None:
        return limits
    room = height - 1 - sum(bool(section.title) for section in sections)
    for order in sorted({section.cut_order for section in sections} - {0}):
        group = [index for index, section in enumerate(sections) if section.cut_order == order]
        while sum(limits) > room:
            longest = max(group, key=lambda index: limits[index] - sections[index].least)
            least = sections[longest].least
            if limits[longest] <= least:
                break
            # A single line that only counts what is left out would repeat the heading.
            limits[longest] = 0 if least == 0 and limits[longest] == 2 else limits[longest] - 1
    return limits


def screen(run: RunReader, about: dict[str, Any], *, everything: bool) -> list[str]:
    """Return the lines of a screen about a run.

    Args:
        run: the run.
        about: its overview.
        everything: whether to show all lines. A pipe gets all of them anyway.
    """
    width = output.width()
    streams = _streams(about["streams"], width)
    sections = [
        *_head(about, width),
        _params(about["params"], width),
        Section("Metrics", metric_lines(run, width), cut_order=NUMBERS),
        Section(
            "Streams",
            streams,
            note_alone=paint(f"{formatting.plural(len(streams), 'stream')}; see --all", "dim"),
            cut_order=STREAMS,
            least=0,
        ),
        _files(about["files"], width),
        Section("Tracker", note=_tracker(about, width)),
        Section("Log", _log(about["log"], width), keep_end=True, cut_order=LOG, least=1),
    ]
    sections = [section for section in sections if section.lines or section.note]
    limits = fit(sections, None if everything else output.height())
    return [line for section, limit in zip(sections, limits, strict=True) for line in section.cut(limit)]


# --- the run


def _head(about: dict[str, Any], width: int | None) -> list[Section]:
    """Return the first lines: which run it is, how it ended, when and where it ran, with which command and code."""
    heading: list[list[Cell]] = [[about["run"], _status(about)]]
    lines = table([Column(least=10, keep_end=True, style="bold"), Column(least=24)], heading, width)
    if about["status_reason"]:
        reason = formatting.clean_lines(str(about["status_reason"]))[:3]
        lines += [INDENT + paint(clip(line, width and width - len(INDENT)), "red") for line in reason]
    first_time, *more_times = time_lines(about, width)
    environment = about["environment"]
    facts = [
        ("readme", _first_line(about["readme"])),
        ("tags", ", ".join(map(clean, about["tags"]))),
        ("times", first_time),
        *(("", line) for line in more_times),
        ("process", _process(about)),
        ("command", _command(environment)),
        ("code", _code(environment.get("code"))),
        ("system", _system(environment)),
    ]
    rows: list[list[Cell]] = [[(name, "dim"), clean_text(text)] for name, text in facts if text]
    sections = [Section("", lines)]
    for row, line in zip(rows, table([Column(), Column(least=20)], rows, width, INDENT), strict=True):
        is_detail = cell_text(row[0]) in {"readme", "system"}
        sections.append(Section("", [line], cut_order=DETAILS, least=0) if is_detail else Section("", [line]))
    return sections


def _status(about: dict[str, Any]) -> Cell:
    status = about["status"]
    duration = formatting.duration(about["duration_s"])
    if about["live"]:
        return f"running for {duration}", _STATUS_STYLES["RUNNING"]
    if status == "RUNNING":
        return f"running? last heard of {_age(about['heartbeat_at'])}, after {duration}", "yellow"
    return f"{str(status or 'no status kept').lower()} after {duration}", _STATUS_STYLES.get(str(status), "")


def _first_line(text: Any) -> str:
    lines = [line for line in formatting.clean_lines(text) if line.strip()] if isinstance(text, str) else []
    return lines[0].strip() + (" ..." if len(lines) > 1 else "") if lines else ""


def time_lines(about: dict[str, Any], width: int | None) -> list[str]:
    """Return when a run was created, restarted and ended, on as few lines as hold these times whole.

    On a terminal a time of the same day as the one before it has no date.
    """
    created, started, ended = (to_datetime(about[name]) for name in ("created_at", "started_at", "ended_at"))
    date, _, clock = formatting.local_time(created).partition(" ")
    age = formatting.age(created, datetime.datetime.now(datetime.UTC))
    parts = [f"{date} {clock}".rstrip(), f"({age})"]
    restarted = started if started and created and started > created else None
    for word, time in (("restarted", restarted), ("ended", ended)):
        if time is not None:
            last_date = date
            date, _, clock = formatting.local_time(time).partition(" ")
            parts[-1] += ","
            parts.append(f"{word} {clock if date == last_date and width is not None else f'{date} {clock}'}".rstrip())
    room = None if width is None else width - len(INDENT + "process" + GAP)  # beside the longest name of a fact
    lines = parts[:1]
    for part in parts[1:]:
        if room is not None and len(f"{lines[-1]} {part}") > room:
            lines.append(part)
        else:
            lines[-1] += f" {part}"
    return lines


def _process(about: dict[str, Any]) -> str:
    user, host = about["environment"].get("user"), about["host"]
    return f"{f'{user}@{host}' if user else host}, pid {about['pid']}" if host else ""


def _command(environment: dict[str, Any]) -> str:
    words = environment.get("command")
    if not isinstance(words, list) or not words:
        return ""
    short = [os.path.basename(str(words[0])), *map(str, words[1:])]
    return " ".join(short) + (f"  (in {environment['cwd']})" if environment["cwd"] else "")


def _code(code: dict[str, Any] | None) -> str:
    if not code or not code.get("commit"):
        return ""
    dirty = code.get("dirty")
    changes = ", with changes" if dirty else ", clean" if dirty is False else ""
    branch = f" on {code['branch']}" if code.get("branch") else ""
    return f"{str(code['commit'])[:12]}{branch}{changes}"


def _system(environment: dict[str, Any]) -> str:
    python, gpus = environment.get("python"), environment.get("gpus")
    parts = [f"Python {python}" if python else "", environment.get("system"), environment.get("cpu")]
    cards = gpus.get("cards") if isinstance(gpus, dict) else None
    names = [card.get("name") for card in cards or [] if isinstance(card, dict)]
    parts += [f"{count} x {name}" for name, count in Counter(name for name in names if name).items()]
    return ", ".join(str(part) for part in parts if part)


# --- what it recorded


def _params(values: dict[str, Any], width: int | None) -> Section:
    """Return the parameters, one on each line; on a terminal, many short ones stand side by side."""
    rows: list[list[Cell]] = [[(clean(name), "cyan"), formatting.value_text(value)] for name, value in values.items()]
    columns = [Column(least=16), Column(least=16)]
    blocks = 1
    if width is not None:
        widths = [max(display_width(cell_text(cell)) for cell in column) for column in zip(*rows, strict=True)]
        blocks = max(1, min(len(rows) // LEAST_LINES, (width - len(INDENT)) // (sum(widths) + 2 * len(GAP))))
    height = -(-len(rows) // blocks)
    groups = [rows[line::height] for line in range(height)]  # read downwards, block after block
    cells = [[cell for row in group for cell in row] for group in groups]
    padded = [row + [""] * (len(columns) * blocks - len(row)) for row in cells]
    lines = table(columns * blocks, padded, width, INDENT)
    return Section("Parameters", lines, counts=[len(group) for group in groups], cut_order=NUMBERS)


def metric_lines(run: RunReader, width: int | None) -> list[str]:
    """Return a line for each field of each metric: last value, curve, least and greatest value, number of points.

    Fields with a single point come last. Metrics that are too long to read have their last values alone.
    """
    from ml_dash.catalog.rows import last_values
    from ml_dash.cli.series import READ_BYTES, curves_of, journal_bytes

    curves: list[list[Cell]] = []
    singles: list[list[Cell]] = []
    budget = READ_BYTES
    for name in run.metrics.list():
        newest = last_values(run.folder, name)
        budget -= journal_bytes(run, name)
        if budget < 0:
            curves += _rows_without_curves(name, newest)
            continue
        for series in curves_of(run, name):
            (curves if len(series.values) > 1 else singles).append(_curve(series, newest.get(series.field), width))
    columns = [
        Column(least=12),
        Column(right=True, style="bold"),
        Column(),
        Column(style="dim", least=8, shown_from=50),
        Column(right=True, shown_from=60),
    ]
    return table(columns, curves + singles, width, INDENT)


def _curve(series: Series, newest: Any, width: int | None) -> list[Cell]:
    import numpy as np

    finite = series.values[np.isfinite(series.values)]
    present = series.values[~np.isnan(series.values)]
    letters = SPARK_WIDTH if width is None else max(NARROW_SPARK_WIDTH, min(SPARK_WIDTH, width // 7))
    limits = [formatting.number(float(limit)) for limit in (finite.min(), finite.max())] if len(finite) else []
    # The newest points of the journal tell a logged NaN from a missing value, which the column does not.
    if not isinstance(newest, (int, float)) or isinstance(newest, bool):
        newest = float(present[-1]) if len(present) else math.nan
    return [
        (series.label, "cyan"),
        formatting.number(newest),
        Printable(sparkline(series.values, letters, unicode=output.has_unicode())),
        " .. ".join(limits),
        formatting.plural(len(series.values), "point"),
    ]


def _rows_without_curves(metric: str | None, newest: dict[str, Any]) -> list[list[Cell]]:
    from ml_dash.cli.series import label_of

    return [
        [(label_of(metric, name), "cyan"), formatting.number(value), "", "too long to draw here", ""]
        for name, value in newest.items()
        if isinstance(value, (int, float)) and not isinstance(value, bool) and name != "_ts"
    ]


def _streams(streams: list[dict[str, Any]], width: int | None) -> list[str]:
    """Return a line for each stream: its kind, name, length and bytes."""
    rows: list[list[Cell]] = [
        [
            (stream["kind"], "dim"),
            (stream["name"] or ("None" if stream["kind"] == "metric" else ""), "cyan"),
            formatting.plural(stream["count"], _STREAM_UNITS[stream["kind"]]),
            formatting.size(stream["bytes"]),
        ]
        for stream in streams
    ]
    return table([Column(), Column(least=16), Column(right=True), Column(right=True)], rows, width, INDENT)


def _files(files: dict[str, Any], width: int | None) -> Section:
    if not files["count"]:
        return Section("Files")
    total = f"{formatting.plural(files['count'], 'file')}, {formatting.size(files['bytes'])}"
    note = total + (", the newest:" if files["count"] > len(files["newest"]) else "")
    rows: list[list[Cell]] = [
        [(file["path"], "cyan"), formatting.size(to_count(file["bytes"])), _age(file["saved_at"])]
        for file in files["newest"]
    ]
    return Section(
        "Files",
        table([Column(least=20, keep_end=True), Column(right=True), Column(right=True)], rows, width, INDENT),
        note=paint(clip(Printable(note), width and width - len("Files" + INDENT)), "dim"),
        note_alone=paint(f"{total}; see --all", "dim"),
        cut_order=FILES,
        least=0,
    )


def _tracker(about: dict[str, Any], width: int | None) -> str:
    """Return a line about recording itself: written frames and losses; yellow if anything was lost.

    The counts are those of the last opening, which the line says of a run that was opened again.
    """
    health = about["tracker"]
    parts = [formatting.plural(health["frames_written"], "frame") + " written"] if health["frames_written"] else []
    losses = [
        formatting.plural(health[name], one, many)
        for name, one, many in (
            ("frames_dropped", "frame dropped", "frames dropped"),
            ("records_refused", "record refused", "records refused"),
            ("tracker_errors", "error", "errors"),
        )
        if health[name]
    ]
    text = Printable(", ".join([*parts, *(losses or ["nothing dropped, nothing refused, no error"])]))
    if about["started_at"] and about["started_at"] != about["created_at"]:
        text = Printable(f"{text}, since the last opening")
    return paint(clip(text, width and width - len("Tracker" + INDENT)), "yellow" if losses else "dim")


def _log(entries: list[dict[str, Any]], width: int | None) -> list[str]:
    """Return a line for each entry of the log."""
    rows: list[list[Cell]] = []
    for entry in entries:
        clock, level, text = formatting.log_parts(entry)
        rows.append([(clock, "dim"), (level, output.LEVEL_STYLES.get(level, "")), text])
    return table([Column(), Column(), Column(least=20)], rows, width, INDENT)


def _age(text: Any) -> str:
    return formatting.age(to_datetime(text), datetime.datetime.now(datetime.UTC))
