"""Small JSON documents: read whatever their state, replaced at once; and the times in them."""

from __future__ import annotations

import datetime
import os
from collections.abc import Callable, Mapping
from typing import Any

from ml_dash._json import json, orjson
from ml_dash.records.values import decode, parse, parse_values
from ml_dash.storage.beneath import UnsafeFileError, read_file, warn_refused
from ml_dash.storage.disk import Disk


def read_document(path: str | os.PathLike[str]) -> dict[str, Any] | None:
    """Read a JSON object from a file; None if the file is missing, broken or no object."""
    return _read(path, decode)


def read_raw_document(path: str | os.PathLike[str]) -> dict[str, Any] | None:
    """Read a JSON object as ``read_document`` does, but not revived: floats that are not finite stay texts."""
    return _read(path, parse)


def _read(path: str | os.PathLike[str], read: Callable[[bytes], Any]) -> dict[str, Any] | None:
    try:
        value = read(read_file(path))
    except UnsafeFileError as error:
        warn_refused(error)
        return None
    except (OSError, ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def load_document(disk: Disk, path: str, *, values: bool = False) -> dict[str, Any] | None:
    """Read a JSON object as it stands, for a writer that changes it; None only if it is missing or damaged.

    Args:
        disk: reads it.
        path: the document.
        values: whether all text in it is the user's; see ``parse_values``.

    Raises:
        OSError: it cannot be read, and so must not be replaced by a fresh document.
    """
    content = disk.read_file(path)
    if content is None:
        return None
    try:
        value = (parse_values if values else parse)(content)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def parameters_in(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters in parameters.json: its ``data``, or all of it as older clients wrote it."""
    data = document.get("data")
    wrapped = isinstance(data, dict) and isinstance(document.get("version", 0), int)
    return dict(data) if wrapped and isinstance(data, dict) else dict(document)


def write_document(disk: Disk, path: str, document: Mapping[str, Any], *, sync: bool = False) -> None:
    """Replace a JSON document. Its values are plain JSON, see ``records.values.to_plain``."""
    disk.write_file(path, [to_json(document)], sync)


def to_json(document: Mapping[str, Any]) -> bytes:
    """Return plain values as JSON."""
    try:
        return orjson.dumps(document)
    except (TypeError, ValueError):  # integers beyond 64 bits, text that is not valid UTF-8
        return json.dumps(document, separators=(",", ":"), allow_nan=False).encode("ascii")


def timestamp(seconds: float) -> str:
    """Return seconds since 1970 in the format of the published client: ISO 8601, UTC, microseconds, ``Z``."""
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).replace(tzinfo=None).isoformat() + "Z"


def to_datetime(text: object) -> datetime.datetime | None:
    """Return the time that a document holds as ISO text, with its time zone (UTC if it names none); None if it is no time."""
    if not isinstance(text, str):
        return None
    try:
        parsed = datetime.datetime.fromisoformat(text)
    except ValueError:
        return None
    return parsed if parsed.tzinfo is not None else parsed.replace(tzinfo=datetime.UTC)


def to_seconds(text: object) -> float | None:
    """Return the time that a document holds as ISO text in seconds since 1970; None if it is no time."""
    parsed = to_datetime(text)
    return None if parsed is None else parsed.timestamp()
