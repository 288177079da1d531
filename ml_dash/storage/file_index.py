"""The index of a run's files: entries and changes in the journals of all writers, merged into the current files.

An entry has every key of a file's record. A change has an id and the keys that changed. It may be in the journal of
another writer than the entry, so the result never depends on which journal is read first.

Of two changes of one file in the same journal the later line wins, whatever its time: the clock may be set back during a
run. Of changes in two journals the later time wins. For that, a change is no earlier than those before it in its journal.
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterable, Iterator
from operator import itemgetter
from typing import Any, TypeGuard, TypeVar

from ml_dash._json import orjson
from ml_dash.records.values import escaped, parse, revive
from ml_dash.snowflake import LEAST_TIME_PART, PROCESS_DIGITS
from ml_dash.storage.beneath import UnsafeFileError, open_file, warn_refused
from ml_dash.storage.follow import Position

Entry = dict[str, Any]
_Name = TypeVar("_Name")

_WITH_PROCESS = LEAST_TIME_PART * 10**PROCESS_DIGITS
"""The least number of a file's id that ends with the digits of a process."""

_VALUES = ("description", "tags", "bindrs", "metadata")
"""Keys with the user's values; all other text is ours, also where it reads "NaN"."""

# orjson reads an integer beyond 64 bits as a float. To find one, every digit is replaced by a zero and every character
# that may precede a number by a colon: then two searches do, in a fifth of the time of a regular expression.
_DIGITS = bytes.maketrans(b"123456789,[ ", b"000000000:::")
_LONG_INTEGERS = (b":" + b"0" * 20, b"-" + b"0" * 19)


def read_entries(path: str) -> list[Entry]:
    """Return the entries and changes of a journal in their order; other lines are left out."""
    entries: list[Entry] = []
    try:
        with open_file(path) as file:
            for _, block in Position().read(file):
                parsed = _parsed(block)
                if b"NaN" in block or b"Infinity" in block:
                    for entry in parsed:
                        revive_values(entry)
                entries += parsed
    except (FileNotFoundError, NotADirectoryError):
        return []
    except UnsafeFileError as error:
        warn_refused(error)
    return entries


def merge(journals: Iterable[Iterable[Entry]]) -> list[Entry]:
    """Return the newest version of every file, with deleted ones, in the order of saving; changes entries in place."""
    files: list[list[Entry]] = []  # of each journal
    changes: list[list[Entry]] = []
    for journal in journals:
        lines = list(journal)
        files.append([entry for entry in lines if "filename" in entry and "path" in entry])
        # Most journals have no change, and are not walked twice.
        has_changes = len(files[-1]) < len(lines)
        changes.append([e for e in lines if not ("filename" in e and "path" in e)] if has_changes else [])
    entries = {entry["id"]: entry for own in files for entry in own}
    for change in in_order(changes):
        entries.get(change["id"], {}).update(change)
    return _newest_versions(list(entries.values()), files)


def _newest_versions(entries: list[Entry], files: list[list[Entry]]) -> list[Entry]:
    if len({(entry["path"], entry["filename"]) for entry in entries}) == len(entries):
        return entries
    newest: dict[tuple[str, str], int] = {}
    for own in files:
        keep_newest(newest, {(entry["path"], entry["filename"]): age(entry["id"]) for entry in own})
    return [entry for entry in entries if newest[entry["path"], entry["filename"]] == age(entry["id"])]


def in_order(journals: Iterable[Iterable[Entry]]) -> list[Entry]:
    """Return the changes of all journals in the order in which they are applied."""
    timed: list[tuple[str, Entry]] = []
    for changes in journals:
        latest = ""
        for change in changes:
            when = change_time(change)
            if when:
                latest = when = max(latest, when)
            timed.append((when, change))
    timed.sort(key=itemgetter(0))
    return [change for _, change in timed]


def keep_newest(newest: dict[_Name, int], ours: dict[_Name, int]) -> None:
    """Add the ages of one journal's files to those of the journals before.

    Within a journal the last line of a name wins, among several journals the greatest id, which tells the time.
    """
    if not newest:
        newest.update(ours)
        return
    for name, number in ours.items():
        newest[name] = max(newest.get(name, number), number)


def is_entry(value: object) -> TypeGuard[Entry]:
    """Whether a line of an index is an entry or a change."""
    return type(value) is dict and _are_texts(value.get("id"), value.get("path", ""), value.get("filename", ""))


def _are_texts(file_id: object, path: object, filename: object) -> bool:
    return type(file_id) is str and type(path) is str and type(filename) is str


def full_name(entry: Entry) -> str:
    """Return a file's path from the root of the run's files, without a leading slash."""
    path = entry["path"].strip("/")
    return f"{path}/{entry['filename']}" if path else str(entry["filename"])


def is_below(entry: Entry, folder: str) -> bool:
    """Whether a file lies in a folder or below it; the root is an empty text."""
    # The published client wrote paths with and without the slash.
    return not folder or f"/{entry['path'].lstrip('/')}/".startswith(f"/{folder}/")


def revive_values(entry: Entry) -> None:
    """Turn texts that stand for floats that are not finite back into floats, among the user's values."""
    for name in _VALUES:
        if entry.get(name) is not None:
            entry[name] = revive(entry[name])


def values_of(block: bytes) -> list[Any]:
    """Return the JSON value of each of some lines, not revived; None for a broken line.

    A call of the parser for each line would cost as much as the parsing.

    Args:
        block: the lines, without the last newline.
    """
    digits = block.translate(_DIGITS)
    if not any(text in digits for text in _LONG_INTEGERS):
        try:
            values: list[Any] = orjson.loads(b"[%b]" % block.replace(b"\n", b","))
            if len(values) == block.count(b"\n") + 1:  # otherwise the halves of two broken lines made a whole one
                return values
        except ValueError:
            pass  # a broken line, or one with bare NaN tokens of an older client
    values = []
    for line in block.split(b"\n"):
        try:
            values.append(parse(line))
        except ValueError:
            values.append(None)
    return values


def entry_of(line: bytes) -> Entry | None:
    """Return the entry or change of one line; None if it is neither."""
    parsed = _parsed(line)
    if not parsed:
        return None
    revive_values(parsed[0])
    return parsed[0]


def escape_values(entry: Entry) -> Entry:
    """Return an entry of the published client with its values escaped, as ``revive_values`` expects them."""
    return entry | {name: escaped(entry[name]) for name in _VALUES if entry.get(name) is not None}


def age(file_id: str) -> int:
    """Return a number that grows with the time at which a file was saved; ids of other programs count as older."""
    return age_of_number(int(file_id)) if file_id.isdecimal() else -1


def age_of_number(number: int) -> int:
    """Return the age of an id that is a number.

    Ids of the published client, and of this one before 0.12, are the time alone; ours end with digits of the process.
    """
    return number if number >= _WITH_PROCESS else number * 10**PROCESS_DIGITS


def change_time(change: Entry) -> str:
    """Return the time of a change, for sorting; empty for a checksum that was added, which is true from the start."""
    when = change.get("updatedAt") or change.get("deletedAt") or ""
    return str(when).rstrip("Z")  # a full second has no fraction, and the Z would sort it behind those that have


@contextlib.contextmanager
def without_collector() -> Iterator[None]:
    """Pause the garbage collector for the block: on 100 000 records it takes twice as long as reading, and frees nothing."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _parsed(block: bytes) -> list[Entry]:
    return [value for value in values_of(block) if is_entry(value)]
