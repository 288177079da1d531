"""Check paths that the user gives: prefix, topic, metric name, file path.

Each check returns the segments of the path, so that callers use what was checked. The checks of one string are cached,
because a training loop gives the same few names millions of times.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar

from ml_dash.errors import InvalidNameError, InvalidTypeError

SEGMENT_BYTES = 255
"""Longest segment: the limit of one file name on ext4, XFS, APFS, NTFS and NFS."""

PATH_BYTES = 1024
"""Longest path: with the root folder and our own file names it stays under PATH_MAX, 4096 on Linux."""

NAME_CACHE_SIZE = 4096
"""Names remembered per kind: more than a run has, and under 10 MB even if each one is as long as allowed."""

QUOTED_CHARACTERS = 120
"""Characters of a text in a message: a pasted document must not fill the terminal."""

STREAM_FILES = frozenset({"data.jsonl", "data.parquet", "metadata.json", ".metadata.lock"})
"""Files of a metric or a track in its folder; compared without case, as macOS and Windows do."""

INDEX_FILES = frozenset({".files_metadata.json", ".files_metadata.lock", ".staging", "index.jsonl"})
"""Files of the index at the top of `files/`."""

_PLAIN_FILE = re.compile(r"(?!index)[a-z0-9][a-z0-9_.-]{0,199}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_SHARD_OF_STREAM = re.compile(r"data\..+\.(?:jsonl|parquet)")
_SHARD_OF_INDEX = re.compile(r"index\..+\.jsonl")

Reserved = Callable[[tuple[str, ...]], str | None]
"""Takes the segments of a path and returns one that must not be used, or None."""


def nothing_reserved(segments: tuple[str, ...]) -> None:
    """Allow every segment."""


def stream_reserved(segments: tuple[str, ...]) -> str | None:
    """Return the first segment that is the name of a file in the folder of a metric or a track."""
    for segment in segments:
        name = segment.lower()
        if name in STREAM_FILES or _SHARD_OF_STREAM.fullmatch(name) is not None:
            return segment
    return None


def files_reserved(segments: tuple[str, ...]) -> str | None:
    """Return the first segment if it is the name of a file of the index."""
    first = segments[0].lower()
    return segments[0] if first in INDEX_FILES or _SHARD_OF_INDEX.fullmatch(first) else None


def check_path(text: object, what: str, *, reserved: Reserved = nothing_reserved) -> tuple[str, ...]:
    """Return the segments of a path whose separator is `/`.

    Args:
        text: the path: 1 to 1024 bytes of UTF-8, segments of 1 to 255 bytes.
        what: the name of the thing for messages, such as "metric name".
        reserved: finds a segment that is taken by a file of ours.

    Raises:
        InvalidTypeError: `text` is not a string.
        InvalidNameError: the path is empty or absolute, ends in a slash, has an empty, `.` or `..` segment, a control
            character or a backslash, is too long, is not valid UTF-8, or has a reserved segment.
    """
    path = _require_text(text, what)
    problem = _problem_of(path)
    if problem is None:
        segments = tuple(path.split("/"))
        problem = _problem_of_segments(segments, reserved)
        if problem is None:
            return segments
    raise InvalidNameError(f"{what} {quote(path)} {problem}")


def check_prefix(text: object) -> tuple[str, ...]:
    """Return the segments of an experiment's prefix, `owner/project/.../name`; errors as `check_path`."""
    return _prefix(text if type(text) is str else _require_text(text, "prefix"))


def check_topic(text: object) -> tuple[str, ...]:
    """Return the segments of a track's topic; errors as `check_path`, and for the files of a track's folder."""
    return _topic(text if type(text) is str else _require_text(text, "topic"))


def check_metric(text: object) -> tuple[str, ...]:
    """Return the segments of a metric's name; errors as `check_path`, and for the files of a metric's folder."""
    return _metric(text if type(text) is str else _require_text(text, "metric name"))


def check_file_path(text: object) -> tuple[str, ...]:
    """Return the segments of a path under `files/`; errors as `check_path`, and for the files of the index."""
    # A file's name is often new each time, so that no cache helps; most are plain, and none of those is reserved.
    if type(text) is str and _PLAIN_FILE.fullmatch(text) is not None:
        return (text,)
    return _file_path(text if type(text) is str else _require_text(text, "file path"))


# One cache per kind: a cache with a single string argument uses that string as its key, which is the fastest.
@lru_cache(NAME_CACHE_SIZE)
def _prefix(text: str) -> tuple[str, ...]:
    return check_path(text, "prefix")


@lru_cache(NAME_CACHE_SIZE)
def _topic(text: str) -> tuple[str, ...]:
    return check_path(text, "topic", reserved=stream_reserved)


@lru_cache(NAME_CACHE_SIZE)
def _metric(text: str) -> tuple[str, ...]:
    return check_path(text, "metric name", reserved=stream_reserved)


@lru_cache(NAME_CACHE_SIZE)
def _file_path(text: str) -> tuple[str, ...]:
    return check_path(text, "file path", reserved=files_reserved)


def _require_text(text: object, what: str) -> str:
    if not isinstance(text, str):
        raise InvalidTypeError(f"{what} must be a str, not {type(text).__name__}: {quote(text)}")
    # A string enum prints its member's name with str(); its text is what the user means.
    return str.__str__(text)


def _problem_of(path: str) -> str | None:
    """Return what is wrong with a path as a whole, and how to mend it; None if it can be split into segments."""
    if not path:
        return "is empty; give at least one character"
    if path.startswith("/"):
        return "is absolute; leave out the leading slash"
    if path.endswith("/"):
        return "ends in a slash; leave it out"
    if "\\" in path:
        return "has a backslash; separate segments with '/'"
    control = _CONTROL.search(path)
    if control:
        return f"has the control character {control[0]!r}; leave it out"
    try:
        size = len(path.encode())
    except UnicodeEncodeError as error:
        return f"has the lone surrogate {path[error.start]!r}, which is not UTF-8; decode the text properly first"
    return f"is {size} bytes long; use at most {PATH_BYTES}" if size > PATH_BYTES else None


def _problem_of_segments(segments: tuple[str, ...], reserved: Reserved) -> str | None:
    for segment in segments:
        if not segment:
            return "has an empty segment; write one slash between segments"
        if segment in {".", ".."}:
            return f"has the segment {segment!r}; write the path without it"
        if len(segment.encode()) > SEGMENT_BYTES:
            return f"has a segment of {len(segment.encode())} bytes; use at most {SEGMENT_BYTES}"
    taken = reserved(segments)
    return None if taken is None else f"uses {taken!r}, the name of a file that is kept there; choose another name"


def quote(value: object) -> str:
    """Return `repr(value)` for a message, cut where it is very long."""
    if isinstance(value, str) and len(value) > QUOTED_CHARACTERS:
        return f"{str.__str__(value)[:QUOTED_CHARACTERS]!r}... ({len(value)} characters)"
    text = repr(value)
    return text if len(text) <= 2 * QUOTED_CHARACTERS else f"{text[:QUOTED_CHARACTERS]}..."


def closest(word: str, choices: Iterable[str]) -> str | None:
    """Return the choice that looks most like `word`, whatever its case, or None when none is near."""
    by_lower = {choice.lower(): choice for choice in choices}
    import difflib  # only for an error message

    matches = difflib.get_close_matches(word.lower(), by_lower, n=1)
    return by_lower[matches[0]] if matches else None


def unknown_keyword(name: str, choices: Iterable[str], where: str) -> InvalidTypeError:
    """Return the error for a keyword that `where` (such as "Experiment()") does not have; it names the closest one."""
    known = sorted(choices)
    near = closest(name, known)
    advice = f"did you mean {near!r}?" if near else f"it has: {', '.join(known)}"
    return InvalidTypeError(f"{where} has no keyword {name!r}; {advice}")


def kind_of(value: object) -> str:
    """Return the type of a value with its article, as in "an int"."""
    name = type(value).__name__
    return f"{'an' if name[:1].lower() in 'aeiou' else 'a'} {name}"


def missing_attribute(kind: str, name: str, known: Iterable[str], instead: str | None = None) -> AttributeError:
    """Return the error for an attribute that does not exist.

    Args:
        kind: the object in the text, such as a class's name.
        name: the attribute.
        known: the attributes that exist; the text names the closest public one.
        instead: the code to write, if that is known; it replaces the closest name.
    """
    text = f"{kind} has no attribute {name!r}"
    if instead is not None:
        text += f"; use {instead}"
    elif not name.startswith("_"):  # tools ask for private names, and loading difflib takes a while
        near = closest(name, [other for other in known if not other.startswith("_")])
        text += f"; did you mean {near!r}?" if near else ""
    return AttributeError(text, name=name)  # with the name set, Python adds no second suggestion


class NamesClosest:
    """Base class that answers a missing attribute with the one that was probably meant."""

    _instead: ClassVar[dict[str, str]] = {}
    """Calls to name for attributes that users expect from other libraries."""

    if not TYPE_CHECKING:  # a misspelt name stays an error for type checkers

        def __getattr__(self, name: str) -> Any:
            raise missing_attribute(type(self).__name__, name, dir(type(self)), self._instead.get(name))
