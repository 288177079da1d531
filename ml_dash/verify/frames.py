"""Check frame streams: each frame of the index lies whole in its tar file, and each tar file can be read as one."""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

from ml_dash.query.frame_index import frame_of
from ml_dash.storage.journal import read_lines
from ml_dash.storage.lines import shards
from ml_dash.verify.findings import ERROR, NOTE, RESIZE, REWRITE, WARNING, Finding, Fix, told
from ml_dash.verify.journals import Advance

_BLOCK = 512
_NOTHING = bytes(_BLOCK)
_EDGE = 8
"""Bytes at both ends of a frame that tell whether it is all there."""

_STARTS = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n")
_ENDS = (b"\xff\xd9", b"IEND\xaeB`\x82")


@dataclass(slots=True)
class _Frames:
    """The frames that one journal has in one tar file."""

    lines: array[int] = field(default_factory=lambda: array("q"))
    numbers: array[int] = field(default_factory=lambda: array("q"))
    offsets: array[int] = field(default_factory=lambda: array("q"))
    sizes: array[int] = field(default_factory=lambda: array("q"))


@dataclass(slots=True)
class _Walk:
    """A tar file, read from its beginning.

    Attributes:
        members: the size of each member by where its data begins.
        whole: where the last member that is complete ends, with its padding.
        problem: why it does not end there; empty if it does.
        is_cut: whether it just ends too early, or too late for its padding: then its length can be mended.
    """

    members: dict[int, int] = field(default_factory=dict)
    whole: int = 0
    problem: str = ""
    is_cut: bool = False


def check_topic(run: str, topic: str, *, live: bool, advance: Advance) -> Iterator[Finding]:
    """What is wrong with the frames of a topic.

    Args:
        run: absolute path of the run's directory.
        topic: the stream's folder, relative to it.
        live: whether it is being written.
        advance: told how much was read.
    """
    folder = os.path.join(run, topic)
    frames: dict[tuple[str, str], _Frames] = {}
    for path in shards(folder, "data"):
        _collect(path, frames)
    unreadable: dict[str, list[int]] = {}
    names = {shard for _, shard in frames}
    for shard in sorted(names | {name for name in os.listdir(folder) if name.endswith(".tar")}):
        ours = {journal: found for (journal, name), found in frames.items() if name == shard}
        yield from _check_shard(folder, topic, shard, ours, unreadable, live=live, advance=advance)
    for journal, lines in unreadable.items():
        path = f"{topic}/{journal}"
        what = "names a frame that is" if len(lines) == 1 else "name frames that are"
        problem = f"{told((line + 1 for line in sorted(lines)), 'line', 'lines')} {what} not whole"
        advice = f"takes {'it' if len(lines) == 1 else 'them'} out of the index"
        yield Finding(ERROR, path, problem, advice, Fix(REWRITE, path, frozenset(lines)))


def _collect(path: str, frames: dict[tuple[str, str], _Frames]) -> None:
    journal = os.path.basename(path)
    for number, line in enumerate(read_lines(path)):
        entry = frame_of(line)
        if entry is None:
            continue
        found = frames.setdefault((journal, entry["shard"]), _Frames())
        found.lines.append(number)
        found.numbers.append(entry["seq"])
        found.offsets.append(entry["offset"])
        found.sizes.append(entry["size"])


def _check_shard(
    folder: str,
    topic: str,
    shard: str,
    ours: dict[str, _Frames],
    unreadable: dict[str, list[int]],
    *,
    live: bool,
    advance: Advance,
) -> Iterator[Finding]:
    path = f"{topic}/{shard}"
    count = sum(len(found.lines) for found in ours.values())
    try:
        file = open(os.path.join(folder, shard), "rb")  # noqa: SIM115 - closed by the with statement below
    except FileNotFoundError:
        yield Finding(
            ERROR,
            path,
            f"is missing, with {count:,} {'frame' if count == 1 else 'frames'}; put it back if it was moved",
        )
        return
    with file:
        size = os.fstat(file.fileno()).st_size
        walk = _walk(file, size, advance)
        stray = 0
        unindexed = len(walk.members)
        for journal, found in ours.items():
            bad, members = _compare(file, size, found, walk)
            if bad:
                unreadable.setdefault(journal, []).extend(bad)
            stray += len(set(found.lines).difference(bad, members))
            unindexed -= len(members)
        if not live:
            yield from _tell(path, walk, stray, unindexed)


def _tell(path: str, walk: _Walk, stray: int, unindexed: int) -> Iterator[Finding]:
    if walk.problem and walk.is_cut:
        advice = f"makes it end there, at byte {walk.whole:,}"
        yield Finding(WARNING, path, walk.problem, advice, Fix(RESIZE, path, size=walk.whole))
    elif walk.problem:
        yield Finding(ERROR, path, walk.problem)
    elif stray:
        what = "1 frame is" if stray == 1 else f"{stray:,} frames are"
        yield Finding(WARNING, path, f"{what} in the index and whole, but no member of the tar file")
    if unindexed > 0 and not walk.problem:
        yield Finding(NOTE, path, f"{unindexed:,} of its members {'is' if unindexed == 1 else 'are'} in no index")


def _compare(file: BinaryIO, size: int, found: _Frames, walk: _Walk) -> tuple[list[int], list[int]]:
    """The lines whose frames are not whole, and those whose frames are members of the tar file."""
    bad = []
    members = []
    for line, offset, length in zip(found.lines, found.offsets, found.sizes, strict=True):
        if offset + length > size or not _is_whole(file, offset, length):
            bad.append(line)
        if walk.members.get(offset) == length:
            members.append(line)
    return bad, members


def _is_whole(file: BinaryIO, offset: int, length: int) -> bool:
    fd = file.fileno()
    start = os.pread(fd, min(_EDGE, length), offset)
    end = os.pread(fd, min(_EDGE, length), offset + max(0, length - _EDGE))
    return start.startswith(_STARTS) and end.endswith(_ENDS)


def _walk(file: BinaryIO, size: int, advance: Advance) -> _Walk:
    walk = _Walk()
    position = 0
    while position < size:
        header = os.pread(file.fileno(), _BLOCK, position)
        if header == _NOTHING:  # the end of the archive: nothing but zeros follows
            return walk
        length = member_size(header)
        if length is None:
            walk.is_cut = len(header) < _BLOCK
            what = "the rest is no tar" if not walk.is_cut else "a member was never finished"
            walk.problem = f"behind byte {position:,} {what}"
            return walk
        end = position + _BLOCK + length
        padded = end + -length % _BLOCK
        if end > size:
            walk.problem, walk.is_cut = f"behind byte {position:,} a member was never finished", True
            return walk
        walk.members[position + _BLOCK] = length
        walk.whole = position = padded
        advance(_BLOCK)
    if position > size:
        walk.problem, walk.is_cut = "its last block is not filled up", True
    return walk


def member_size(header: bytes) -> int | None:
    """The size of the member that begins with this block of a tar file; None if it is no header."""
    if len(header) < _BLOCK or header[257:262] != b"ustar":
        return None
    try:
        checksum = int(header[148:156].strip(b"\0 "), 8)
        length = int(header[124:136].strip(b"\0 "), 8)
    except ValueError:
        return None
    return length if checksum == sum(header[:148]) + 8 * 32 + sum(header[156:]) else None
