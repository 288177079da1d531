"""What ``show`` puts on the screen: sections of lines, cut so that they fit."""

from __future__ import annotations

import datetime
import math
import os
from collections import Counter
from typing import TYPE_CHECKING, Any

from ml_dash.cli import formatting, output
from ml_dash.cli.loglines import log_cells
from ml_dash.cli.output import paint
from ml_dash.cli.sections import INDENT, LEAST_LINES, Section, fitting
from ml_dash.cli.table import GAP, Cell, Column, cells, clip, table
from ml_dash.cli.terminal_plot import sparkline
from ml_dash.query.overview import whole

if TYPE_CHECKING:
    from ml_dash.cli.series import Series
    from ml_dash.query.run import RunReader

SPARK_WIDTH = 24
NARROW_SPARK_WIDTH = 6
"""Letters of a curve; a seventh of a narrow terminal leaves room for the numbers beside it."""

TIMES_INDENT = len(INDENT) + len("process") + len(GAP)
"""Columns before the times: the longest of the words beside them."""

_STATUS_STYLES = {"COMPLETED": "green", "FAILED": "bold red", "CANCELLED": "yellow", "RUNNING": "bold cyan"}


COUNTS_FROM = 60
"""Columns of a terminal from which on there is room for the number of points, which stands among the streams too."""


SPANS_FROM = 50
"""Columns from which on there is room for the limits beside a curve; below, a name would be no more than its beginning."""


FILES, LOG, STREAMS, DETAILS, NUMBERS = range(1, 6)
"""What gives way on a small screen, the first one first."""

_DETAILS = frozenset({"readme", "system"})


def screen(run: RunReader, about: dict[str, Any], *, everything: bool) -> list[str]:
    """The lines for a terminal of this size, or all of them where there is none."""
    width, height = output.width(), output.height()
    streams = Section("Streams", stream_lines(about["streams"], width), turn=STREAMS, least=0)
    streams.bare = paint(f"{formatting.plural(len(streams.lines), 'stream')}; see --all", "dim")
    sections = [
        *head(about, width),
        params(about["params"], width),
        Section("Metrics", metrics(run, width), turn=NUMBERS),
        streams,
        _files(about["files"], width),
        Section("Tracker", note=tracker(about["tracker"], width)),
        Section("Log", _log(about["log"], width), keep_end=True, turn=LOG, least=1),
    ]
    sections = [section for section in sections if section.lines or section.note]
    limits = fitting(sections, None if everything else height)
    return [line for section, limit in zip(sections, limits, strict=True) for line in section.cut(limit)]


def head(about: dict[str, Any], width: int | None) -> list[Section]:
    """The first lines: which run it is, how it ended, when, where and with which code."""
    rows = [("readme", _first_line(about["readme"])), ("tags", ", ".join(map(formatting.clean, about["tags"])))]
    rows += [("times" * (not place), line) for place, line in enumerate(times(about, width))]
    rows += [("process", _process(about))]
    environment = about["environment"]
    if environment:
        rows += [
            ("command", _command(environment)),
            ("code", _code(environment["code"])),
            ("system", _system(environment)),
        ]
    rows = [(name, text) for name, text in rows if text]
    shown: list[list[Cell]] = [[(name, "dim"), text] for name, text in rows]
    lines = table(
        [Column(least=10, keep_end=True, style="bold"), Column(least=24)],
        [[formatting.clean(about["run"]), _status(about)]],
        width,
    )
    if about["status_reason"]:
        reason = formatting.lines_of(str(about["status_reason"]))[:3]
        lines += [INDENT + paint(line if width is None else clip(line, width - len(INDENT)), "red") for line in reason]
    facts = zip(rows, table([Column(), Column(least=20)], shown, width, INDENT), strict=True)
    return [Section("", lines), *(_fact(name, line) for (name, _), line in facts)]


def _fact(name: str, line: str) -> Section:
    return Section("", [line], turn=DETAILS, least=0) if name in _DETAILS else Section("", [line])


def params(found: dict[str, Any], width: int | None) -> Section:
    """A parameter on each line; on a terminal several side by side, if they are many and short."""
    rows: list[list[Cell]] = [
        [(formatting.clean(name), "cyan"), formatting.value_text(value)] for name, value in found.items()
    ]
    columns = [Column(least=16), Column(least=16)]
    beside = _beside(rows, width) if width is not None else 1
    count = -(-len(rows) // beside)  # lines, from above to below as one reads a list
    groups = [rows[line::count] for line in range(count)]
    joined = [[cell for row in group for cell in row] for group in groups]
    padded = [row + [""] * (len(columns) * beside - len(row)) for row in joined]
    lines = table(columns * beside, padded, width, INDENT)
    return Section("Parameters", lines, counts=[len(group) for group in groups], turn=NUMBERS)


def _beside(rows: list[list[Cell]], width: int) -> int:
    """How many parameters fit beside each other, if there are enough to make that worth reading."""
    texts_of = [[cell if isinstance(cell, str) else cell[0] for cell in row] for row in rows]
    longest = sum(max(map(cells, column), default=0) for column in zip(*texts_of, strict=True)) + 2 * len(GAP)
    return max(1, min(len(rows) // LEAST_LINES, (width - len(INDENT)) // max(1, longest)))


def metrics(run: RunReader, width: int | None) -> list[str]:
    """A line for each curve: its last value, how it went, its limits and the number of its points.

    What was logged once comes after what has a curve.
    """
    from ml_dash.catalog.rows import last_values
    from ml_dash.cli.series import READ_BYTES, curves_of, journal_bytes

    curves: list[list[Cell]] = []
    singles: list[list[Cell]] = []
    budget = READ_BYTES
    for name in run.metrics.list():
        budget -= journal_bytes(run, name)
        if budget < 0:
            curves += _last_values(run, name)
            continue
        newest = last_values(run.folder, name)
        for series in curves_of(run, name):
            (curves if len(series.values) > 1 else singles).append(_curve(series, newest.get(series.field), width))
    rows = curves + singles
    columns = [Column(least=12), Column(right=True, style="bold"), Column(), Column(style="dim", least=8)]
    columns.append(Column(right=True))
    room = COUNTS_FROM if width is None else width
    shown = len(columns) - (room < COUNTS_FROM) - (room < SPANS_FROM)
    return table(columns[:shown], [row[:shown] for row in rows], width, INDENT)


def stream_lines(found: list[dict[str, Any]], width: int | None) -> list[str]:
    """A line for each stream: what it is, how much there is of it."""
    units = {"log": "line", "metric": "point", "track": "row", "frames": "frame"}
    rows: list[list[Cell]] = [
        [
            (stream["kind"], "dim"),
            (formatting.clean(stream["name"] or ("None" if stream["kind"] == "metric" else "")), "cyan"),
            formatting.plural(stream["count"], units[stream["kind"]]),
            formatting.size(stream["bytes"]),
        ]
        for stream in found
    ]
    return table([Column(), Column(least=16), Column(right=True), Column(right=True)], rows, width, INDENT)


def _files(found: dict[str, Any], width: int | None) -> Section:
    if not found["count"]:
        return Section("Files")
    note = f"{formatting.plural(found['count'], 'file')}, {formatting.size(found['bytes'])}"
    newest = ", the newest:" if found["count"] > len(found["newest"]) else ""
    lines = file_lines(found, width)
    beside = note + newest if width is None else clip(note + newest, width - len("Files" + INDENT))
    return Section("Files", lines, paint(beside, "dim"), paint(f"{note}; see --all", "dim"), turn=FILES, least=0)


def file_lines(found: dict[str, Any], width: int | None) -> list[str]:
    """The newest files."""
    now = datetime.datetime.now(datetime.UTC)
    rows: list[list[Cell]] = [
        [
            (formatting.clean(entry["path"]), "cyan"),
            formatting.size(whole(entry["bytes"])),
            formatting.age(_moment(entry["saved_at"]), now),
        ]
        for entry in found["newest"]
    ]
    return table([Column(least=20, keep_end=True), Column(right=True), Column(right=True)], rows, width, INDENT)


def tracker(found: dict[str, Any], width: int | None) -> str:
    """What recording did not manage; a single line, and a loud one if anything was lost."""
    parts = [formatting.plural(found["frames_written"], "frame") + " written"] if found["frames_written"] else []
    losses: tuple[tuple[str, str, str], ...] = (
        ("frames_dropped", "frame dropped", "frames dropped"),
        ("records_refused", "record refused", "records refused"),
        ("tracker_errors", "error", "errors"),
    )
    lost = [formatting.plural(found[name], one, many) for name, one, many in losses if found[name]]
    text = ", ".join([*parts, *(lost or ["nothing dropped, nothing refused, no error"])])
    room = len(text) if width is None else width - len("Tracker  ")
    return paint(clip(text, room), "yellow" if lost else "dim")


def _curve(series: Series, newest: Any, width: int | None) -> list[Cell]:
    import numpy as np

    finite = series.values[np.isfinite(series.values)]
    present = series.values[~np.isnan(series.values)]
    room = SPARK_WIDTH if width is None else max(NARROW_SPARK_WIDTH, min(SPARK_WIDTH, width // 7))
    spark = sparkline(series.values, room, unicode=output.has_unicode())
    span = (
        f"{formatting.number(float(finite.min()))} .. {formatting.number(float(finite.max()))}" if len(finite) else ""
    )
    # In a column a NaN could also be a value that is missing; far from the end the journal's tail does not tell.
    if not isinstance(newest, (int, float)) or isinstance(newest, bool):
        newest = float(present[-1]) if len(present) else math.nan
    return [
        (formatting.clean(series.label), "cyan"),
        formatting.number(newest),
        spark,
        span,
        formatting.plural(len(series.values), "point"),
    ]


def _last_values(run: RunReader, metric: str | None) -> list[list[Cell]]:
    """The same without the curve, from the end of the journals."""
    from ml_dash.catalog.rows import last_values
    from ml_dash.cli.series import label_of

    return [
        [(formatting.clean(label_of(metric, field)), "cyan"), formatting.number(value), "", "too long to draw here", ""]
        for field, value in last_values(run.folder, metric).items()
        if isinstance(value, (int, float)) and not isinstance(value, bool) and field != "_ts"
    ]


def _log(found: list[dict[str, Any]], width: int | None) -> list[str]:
    rows: list[list[Cell]] = [list(log_cells(line)) for line in found]
    return table([Column(), Column(), Column(least=20)], rows, width, INDENT)


def _status(about: dict[str, Any]) -> Cell:
    status = about["status"]
    if about["live"]:
        word, style = "running", _STATUS_STYLES["RUNNING"]
    elif status == "RUNNING":
        ago = formatting.age(_moment(about["heartbeat_at"]), datetime.datetime.now(datetime.UTC))
        word, style = f"running? last heard of {ago},", "yellow"
    else:
        word, style = str(status or "no status kept").lower(), _STATUS_STYLES.get(str(status), "")
    return f"{word} {'for' if about['live'] else 'after'} {formatting.duration(about['duration_s'])}", style


def times(about: dict[str, Any], width: int | None) -> list[str]:
    """When it was created, started again and ended: on one line if that fits, the day only where it is another one."""
    created, started, ended = (_moment(about[name]) for name in ("created_at", "started_at", "ended_at"))
    moments = [("", created)]
    moments += [("restarted ", started)] if started and created and started > created else []
    moments += [("ended ", ended)] if ended else []
    age = f" ({formatting.age(created, datetime.datetime.now(datetime.UTC))})"
    parts, day = [], ""
    for what, moment in moments:
        date, _, clock = formatting.local_time(moment).partition(" ")
        parts.append(what + (clock if date == day and width is not None else f"{date} {clock}".strip()))
        day = date
    return _joined([parts[0] + age, *parts[1:]], None if width is None else width - TIMES_INDENT)


def _joined(parts: list[str], width: int | None) -> list[str]:
    """Parts with commas between them, on as few lines as hold them whole."""
    lines = [parts[0] + "," * (len(parts) > 1)]
    for place, part in enumerate(parts[1:], 2):
        comma = "," * (place < len(parts))
        if width is not None and len(f"{lines[-1]} {part}{comma}") > width:
            lines.append(part + comma)
        else:
            lines[-1] += f" {part}{comma}"
    return lines


def _process(about: dict[str, Any]) -> str:
    user = about["environment"].get("user")
    place = f"{user}@{about['host']}" if user and about["host"] else about["host"]
    return formatting.clean(f"{place}, pid {about['pid']}") if place else ""


def _command(environment: dict[str, Any]) -> str:
    words = environment["command"]
    if not isinstance(words, list) or not words:
        return ""
    short = [os.path.basename(str(words[0])), *map(str, words[1:])]
    return formatting.clean(" ".join(short) + (f"  (in {environment['cwd']})" if environment["cwd"] else ""))


def _code(code: dict[str, Any] | None) -> str:
    if not code or not code.get("commit"):
        return ""
    dirty = code.get("dirty")
    changed = ", with changes" if dirty else ", clean" if dirty is False else ""
    branch = f" on {code['branch']}" if code.get("branch") else ""
    return formatting.clean(f"{str(code['commit'])[:12]}{branch}{changed}")


def _system(environment: dict[str, Any]) -> str:
    parts = [
        f"Python {environment['python']}" if environment["python"] else "",
        environment["system"],
        environment["cpu"],
    ]
    parts += _gpu_names(environment["gpus"])
    return formatting.clean(", ".join(str(part) for part in parts if part))


def _gpu_names(gpus: Any) -> list[str]:
    cards = gpus.get("cards") if isinstance(gpus, dict) else None
    names = [card.get("name") for card in cards or [] if isinstance(card, dict)]
    return [f"{count} x {name}" for name, count in Counter(name for name in names if name).items()]


def _first_line(text: Any) -> str:
    lines = [line for line in formatting.lines_of(text) if line.strip()] if isinstance(text, str) else []
    return lines[0].strip() + (" ..." if len(lines) > 1 else "") if lines else ""


def _moment(text: Any) -> datetime.datetime | None:
    from ml_dash.storage.documents import to_datetime

    return to_datetime(text)
