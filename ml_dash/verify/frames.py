"""Check frame streams: each frame of the index lies whole in its tar file, and each tar file can be read as one."""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

from ml_dash.query.frame_index import frame_of
from ml_dash.storage.beneath import UnsafeFileError, open_file
from ml_dash.storage.journal import read_lines, shards
from ml_dash.verify.documents import refusal
from ml_dash.verify.findings import ERROR, NOTE, RESIZE, REWRITE, WARNING, Finding, Fix, format_numbers
from ml_dash.verify.journals import Advance

_BLOCK = 512
_ZEROS = bytes(_BLOCK)
_EDGE = 8
"""Bytes at both ends of a frame that tell whether it is whole."""

_STARTS = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n")
_ENDS = (b"\xff\xd9", b"IEND\xaeB`\x82")


@dataclass(slots=True)
class _IndexedFrames:
    """The frames of one journal in one tar file: line number from 0, offset and size in bytes."""

    lines: array[int] = field(default_factory=lambda: array("q"))
    offsets: array[int] = field(default_factory=lambda: array("q"))
    sizes: array[int] = field(default_factory=lambda: array("q"))


@dataclass(slots=True)
class _TarContents:
    """The members of a tar file.

    Attributes:
        members: the size of each member by the offset of its data.
        whole_bytes: end of the last complete member, with its padding.
        problem: why the file does not end there; empty if it does.
        is_cut: whether it only ends too early, or its padding is short: then its length can be mended.
    """

    members: dict[int, int] = field(default_factory=dict)
    whole_bytes: int = 0
    problem: str = ""
    is_cut: bool = False


def check_topic(run: str, topic: str, *, live: bool, advance: Advance) -> Iterator[Finding]:
    """Check the frames of a topic.

    Args:
        run: absolute path of the run's directory.
        topic: the stream's folder, relative to it.
        live: whether it is being written.
        advance: called with the number of bytes that were read.
    """
    folder = os.path.join(run, topic)
    frames = _read_index(folder)
    damaged: dict[str, list[int]] = {}  # by journal: lines of frames that are not whole
    for shard in sorted({*frames, *(name for name in os.listdir(folder) if name.endswith(".tar"))}):
        yield from _check_shard(run, f"{topic}/{shard}", frames.get(shard, {}), damaged, live=live, advance=advance)
    for journal, lines in damaged.items():
        path = f"{topic}/{journal}"
        numbers = format_numbers((line + 1 for line in sorted(lines)), "line", "lines")
        verb, pronoun = ("names a frame that is", "it") if len(lines) == 1 else ("name frames that are", "them")
        fix = Fix(REWRITE, path, frozenset(lines))
        yield Finding(ERROR, path, f"{numbers} {verb} not whole", f"takes {pronoun} out of the index", fix)


def _read_index(folder: str) -> dict[str, dict[str, _IndexedFrames]]:
    """Return the frames of a topic by tar file and journal."""
    frames: dict[str, dict[str, _IndexedFrames]] = {}
    for path in shards(folder, "data"):
        journal = os.path.basename(path)
        for number, line in enumerate(read_lines(path)):
            entry = frame_of(line)
            if entry is not None:
                indexed = frames.setdefault(entry["shard"], {}).setdefault(journal, _IndexedFrames())
                indexed.lines.append(number)
                indexed.offsets.append(entry["offset"])
                indexed.sizes.append(entry["size"])
    return frames


def _check_shard(
    run: str,
    path: str,
    frames: dict[str, _IndexedFrames],
    damaged: dict[str, list[int]],
    *,
    live: bool,
    advance: Advance,
) -> Iterator[Finding]:
    try:
        file = open_file(os.path.join(run, path))
    except UnsafeFileError as error:
        yield Finding(ERROR, path, refusal(error))
        return
    except FileNotFoundError:
        count = sum(len(indexed.lines) for indexed in frames.values())
        noun = "frame" if count == 1 else "frames"
        yield Finding(ERROR, path, f"is missing, with {count:,} {noun}; put it back if it was moved")
        return
    with file:
        size = os.fstat(file.fileno()).st_size
        tar = _read_tar(file, size, advance)
        outside = 0  # frames that are whole, but no member
        unindexed = len(tar.members)
        for journal, indexed in frames.items():
            broken, members = _compare(file, size, indexed, tar)
            if broken:
                damaged.setdefault(journal, []).extend(broken)
            outside += len(set(indexed.lines).difference(broken, members))
            unindexed -= len(members)
    if not live:
        yield from _tar_findings(path, tar, outside, unindexed)


def _tar_findings(path: str, tar: _TarContents, outside: int, unindexed: int) -> Iterator[Finding]:
    if tar.problem and tar.is_cut:
        advice = f"makes it end there, at byte {tar.whole_bytes:,}"
        yield Finding(WARNING, path, tar.problem, advice, Fix(RESIZE, path, size=tar.whole_bytes))
    elif tar.problem:
        yield Finding(ERROR, path, tar.problem)
    elif outside:
        subject = "1 frame is" if outside == 1 else f"{outside:,} frames are"
        yield Finding(WARNING, path, f"{subject} in the index and whole, but no member of the tar file")
    if unindexed > 0 and not tar.problem:
        yield Finding(NOTE, path, f"{unindexed:,} of its members {'is' if unindexed == 1 else 'are'} in no index")


def _compare(file: BinaryIO, size: int, indexed: _IndexedFrames, tar: _TarContents) -> tuple[list[int], list[int]]:
    """Return the lines whose frames are not whole, and those whose frames are members of the tar file."""
    broken = []
    members = []
    for line, offset, length in zip(indexed.lines, indexed.offsets, indexed.sizes, strict=True):
        if offset + length > size or not _is_whole(file, offset, length):
            broken.append(line)
        if tar.members.get(offset) == length:
            members.append(line)
    return broken, members


def _is_whole(file: BinaryIO, offset: int, length: int) -> bool:
    fd = file.fileno()
    start = os.pread(fd, min(_EDGE, length), offset)
    end = os.pread(fd, min(_EDGE, length), offset + max(0, length - _EDGE))
    return start.startswith(_STARTS) and end.endswith(_ENDS)


def _read_tar(file: BinaryIO, size: int, advance: Advance) -> _TarContents:
    tar = _TarContents()
    position = 0
    while position < size:
        header = os.pread(file.fileno(), _BLOCK, position)
        if header == _ZEROS:  # the end of the archive
            return tar
        length = member_size(header)
        if length is None and len(header) == _BLOCK:
            tar.problem = f"behind byte {position:,} the rest is no tar"
            return tar
        if length is None or position + _BLOCK + length > size:
            tar.problem, tar.is_cut = f"behind byte {position:,} a member was never finished", True
            return tar
        tar.members[position + _BLOCK] = length
        position += _BLOCK + length + -length % _BLOCK
        tar.whole_bytes = position
        advance(_BLOCK)
    if position > size:
        tar.problem, tar.is_cut = "its last block is not filled up", True
    return tar


def member_size(header: bytes) -> int | None:
    """Return the size of the member that begins with this block of a tar file; None if it is no header."""
    if len(header) < _BLOCK or header[257:262] != b"ustar":
        return None
    checksum, length = _octal(header[148:156]), _octal(header[124:136])
    if checksum is None or length is None:
        return None
    return length if checksum == sum(header[:148]) + 8 * 32 + sum(header[156:]) else None


def _octal(field: bytes) -> int | None:
    """Return a number of a tar header; None for anything but octal digits, such as a sign."""
    digits = field.strip(b"\0 ")
    return int(digits, 8) if digits and not digits.strip(b"01234567") else None
