"""The index of a tree on disk: what was read of its runs, kept outside of the tree.

One file for each tree, replaced as a whole. It holds JSON for what there is to know, Arrow for the columns of one type,
and JSON again for the other columns, behind one checksum. It can be thrown away at any time.
"""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import os
import time
import zlib
from dataclasses import dataclass
from typing import Any

from ml_dash._json import json, orjson
from ml_dash._version import __version__
from ml_dash.catalog.row_columns import RowColumns
from ml_dash.catalog.walk import Listing
from ml_dash.storage.disk import Disk
from ml_dash.storage.documents import to_json

CACHE_VARIABLE = "ML_DASH_CACHE_DIR"

MAGIC = b"mlindex1"
"""Changes with the form of the file and with the meaning of a row; any other file is not read."""

ORPHAN_S = 3600.0
"""A temporary file older than this was left by a process that was killed: writing one takes well below a second."""

_NAME = "index"
_NUMBER = 8


@dataclass(slots=True)
class Saved:
    """What was read of a tree.

    Attributes:
        listings: of its folders; see ``tree.Walk``.
        places: of its runs, in order.
        managed: for each whether it is one of the ML manager.
        signatures: for each what its files were; empty if it must be read again.
        rows: one for each.
        problems: place, signature and reason of each run that could not be read.
    """

    listings: dict[str, Listing]
    places: list[str]
    managed: list[bool]
    signatures: list[str]
    rows: RowColumns
    problems: list[tuple[str, str, str]]


def cache_folder() -> str:
    """Where indexes are: ``ML_DASH_CACHE_DIR``, else ``ml_dash`` below ``XDG_CACHE_HOME`` or ``~/.cache``."""
    given = os.environ.get(CACHE_VARIABLE)
    if given:
        return os.path.abspath(os.path.expanduser(given))
    return os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "ml_dash")


def folder_of(root: str) -> str:
    """The folder of the index of one tree."""
    digest = hashlib.blake2b(os.fsencode(root), digest_size=16).hexdigest()
    return os.path.join(cache_folder(), "index", digest)


def load(root: str) -> Saved | None:
    """The index of a tree; None if there is none, or none that can be trusted."""
    import pyarrow as pa

    try:
        with open(os.path.join(folder_of(root), _NAME), "rb") as file:
            content = file.read()
        about, table, others = _sections(content)
        document = _parsed(about)
        if document["root"] != root or document["version"] != __version__:
            return None
        return _restored(document, pa.ipc.open_stream(table).read_all(), json.loads(bytes(others)))
    except (OSError, ValueError, TypeError, KeyError, IndexError, AttributeError, pa.ArrowException):
        return None


def save(root: str, saved: Saved) -> None:
    """Put an index in place. Where that cannot be done there is none, and everything works without it."""
    import pyarrow as pa

    folder = folder_of(root)
    with contextlib.suppress(
        OSError, ValueError, TypeError, pa.ArrowException
    ):  # the last three: of values, just in case
        os.makedirs(folder, mode=0o700, exist_ok=True)  # parameters are nobody else's business
        _remove_orphans(folder)
        Disk().write_file(os.path.join(folder, _NAME), _parts(root, saved))


def _parts(root: str, saved: Saved) -> list[bytes]:
    import pyarrow as pa

    typed = {name: values for name, values in saved.rows.columns.items() if not isinstance(values, list)}
    others = {name: values for name, values in saved.rows.columns.items() if isinstance(values, list)}
    about = {
        "version": __version__,
        "root": root,
        "listings": saved.listings,
        "places": saved.places,
        "managed": saved.managed,
        "signatures": saved.signatures,
        "problems": saved.problems,
        "shapes": saved.rows.shapes,
        "shape_of": saved.rows.shape_of,
        "typed": list(typed),
    }
    sink = pa.BufferOutputStream()
    table = pa.Table.from_arrays(list(typed.values()), names=[str(number) for number in range(len(typed))])
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    sections = [to_json(about), sink.getvalue().to_pybytes(), json.dumps(_without_moments(others)).encode()]
    body = [b"".join(len(section).to_bytes(_NUMBER, "little") for section in sections), *sections]
    return [MAGIC, _checksum(body), *body]


def _sections(content: bytes) -> list[memoryview]:
    """The three sections of a file.

    Raises:
        ValueError: it is none, or it is damaged.
    """
    start = len(MAGIC) + _NUMBER
    body = memoryview(content)[start:]
    if content[: len(MAGIC)] != MAGIC or _checksum([body]) != content[len(MAGIC) : start]:
        raise ValueError("no index, or a damaged one")
    found: list[memoryview] = []
    place = 3 * _NUMBER
    for number in range(3):
        length = int.from_bytes(body[number * _NUMBER : (number + 1) * _NUMBER], "little")
        section = body[place : place + length]
        found.append(section)
        place += length
    return found


def _parsed(about: memoryview) -> Any:
    try:
        return orjson.loads(about)
    except ValueError:  # a name that is no UTF-8
        return json.loads(bytes(about))


def _checksum(parts: list[Any]) -> bytes:
    value = 0
    for part in parts:
        value = zlib.crc32(part, value)
    return value.to_bytes(_NUMBER, "little")


def _restored(document: dict[str, Any], table: Any, others: dict[str, Any]) -> Saved:
    columns: dict[str, Any] = {name: _one_array(table[number]) for number, name in enumerate(document["typed"])}
    columns |= {name: _with_moments(column) for name, column in others.items()}
    shapes = [tuple(shape) for shape in document["shapes"]]
    return Saved(
        listings=document["listings"],
        places=document["places"],
        managed=document["managed"],
        signatures=document["signatures"],
        rows=RowColumns(shapes, document["shape_of"], columns),
        problems=[(place, signature, reason) for place, signature, reason in document["problems"]],
    )


def _one_array(column: Any) -> Any:
    import pyarrow as pa

    return column.chunk(0) if column.num_chunks == 1 else pa.concat_arrays(column.chunks or [pa.nulls(0, column.type)])


def _without_moments(columns: dict[str, list[Any]]) -> dict[str, Any]:
    """Lists that JSON can hold, and which of their values are moments."""
    found = {}
    for name, values in columns.items():
        moments = [[row, value.isoformat()] for row, value in enumerate(values) if type(value) is datetime.datetime]
        plain = [None if type(value) is datetime.datetime else value for value in values] if moments else values
        found[name] = {"values": plain, "moments": moments}
    return found


def _with_moments(column: dict[str, Any]) -> list[Any]:
    values: list[Any] = column["values"]
    for row, text in column["moments"]:
        values[row] = datetime.datetime.fromisoformat(text)
    return values


def _remove_orphans(folder: str) -> None:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name != _NAME and time.time() - entry.stat(follow_symlinks=False).st_mtime > ORPHAN_S:
                os.unlink(entry.path)
