"""The index of a run's files: the entries and changes in every writer's journal, merged into the files that count.

An entry has every key of a file's record. A change has an id and the keys that changed; it may stand in the journal of
another writer than the entry does, so what counts never depends on which journal is read first.

Of two changes of one file in the same journal, the one that stands behind the other counts, whatever the clock said:
it may be set back while a run goes on. Of changes in two journals, the one with the later time does, and a journal's
time never goes back: a change counts as made no earlier than those before it.
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

Entry = dict[str, Any]
_Name = TypeVar("_Name")

_BLOCK = 1 << 20
"""Bytes that are parsed at once: a call of the parser for each line costs as much as the parsing."""

_WITH_PROCESS = LEAST_TIME_PART * 10**PROCESS_DIGITS
"""The least number of a file's id that ends with the digits of a process."""

_VALUES = ("description", "tags", "bindrs", "metadata")
"""What the user gave; everything else is text of ours, also where it reads "NaN"."""

# orjson reads an integer beyond 64 bits as a float. Where one may be shows with every digit a zero and whatever may
# stand before a number a colon: two searches, and a fifth of the time of a regular expression.
_DIGITS = bytes.maketrans(b"123456789,[ ", b"000000000:::")
_LONG_INTEGERS = (b":" + b"0" * 20, b"-" + b"0" * 19)


def read_entries(path: str) -> list[Entry]:
    """The lines of an index in their order; one that is no entry and no change is passed over."""
    entries: list[Entry] = []
    for block in _blocks(path):
        found = _parsed(block)
        if b"NaN" in block or b"Infinity" in block:
            for entry in found:
                revive_values(entry)
        entries += found
    return entries


def merge(shards: Iterable[Iterable[Entry]]) -> list[Entry]:
    """The newest version of every file, deleted ones too, in the order of saving. The entries are changed in place."""
    wholes: list[list[Entry]] = []
    journals: list[list[Entry]] = []
    for shard in shards:
        listed = list(shard)
        wholes.append([entry for entry in listed if "filename" in entry and "path" in entry])
        # Nearly always there is no change: then the journal is not walked a second time.
        changed = len(wholes[-1]) < len(listed)
        journals.append([e for e in listed if not ("filename" in e and "path" in e)] if changed else [])
    entries = {entry["id"]: entry for whole in wholes for entry in whole}
    for change in in_order(journals):
        entries.get(change["id"], {}).update(change)
    names = {(entry["path"], entry["filename"]) for entry in entries.values()}
    if len(names) == len(entries):
        return list(entries.values())
    newest: dict[tuple[str, str], int] = {}
    for whole in wholes:
        keep_newest(newest, {(entry["path"], entry["filename"]): age(entry["id"]) for entry in whole})
    return [entry for entry in entries.values() if newest[entry["path"], entry["filename"]] == age(entry["id"])]


def in_order(journals: Iterable[Iterable[Entry]]) -> list[Entry]:
    """The changes that stand in every journal, in the order in which they are to be made."""
    found: list[tuple[str, Entry]] = []
    for changes in journals:
        latest = ""
        for change in changes:
            when = moment(change)
            if when:
                latest = when = max(latest, when)
            found.append((when, change))
    found.sort(key=itemgetter(0))
    return [change for _, change in found]


def keep_newest(newest: dict[_Name, int], ours: dict[_Name, int]) -> None:
    """Add the ages of one journal's files to those of the journals before.

    Within a journal the last line of a name counts, among several journals the greatest id: their clocks are all that
    there is to go by.
    """
    if not newest:
        newest.update(ours)
        return
    for name, number in ours.items():
        newest[name] = max(newest.get(name, number), number)


def is_entry(value: object) -> TypeGuard[Entry]:
    """Whether a line of an index is an entry or a change."""
    return type(value) is dict and type(value.get("id")) is str


def full_name(entry: Entry) -> str:
    """Return a file's path from the root of the run's files, without a leading slash."""
    path = entry["path"].strip("/")
    return f"{path}/{entry['filename']}" if path else str(entry["filename"])


def is_below(entry: Entry, folder: str) -> bool:
    """Whether a file lies in a folder or below it; the root is an empty text."""
    # The published client wrote paths with and without the slash.
    return not folder or f"/{entry['path'].lstrip('/')}/".startswith(f"/{folder}/")


def revive_values(entry: Entry) -> None:
    """Turn the texts that stand for floats that are not finite back into floats, among what the user gave."""
    for name in _VALUES:
        if entry.get(name) is not None:
            entry[name] = revive(entry[name])


def values_of(block: bytes) -> list[Any]:
    """What stands in each of some lines, as it stands; None for a broken one.

    Args:
        block: the lines, without the last newline.
    """
    digits = block.translate(_DIGITS)
    if not any(text in digits for text in _LONG_INTEGERS):
        try:
            values: list[Any] = orjson.loads(b"[%b]" % block.replace(b"\n", b","))
            if len(values) == block.count(b"\n") + 1:  # else two halves of broken lines made a whole one
                return values
        except ValueError:
            pass  # a broken line, or one of a client that wrote bare NaN tokens
    return [_value_of(line) for line in block.split(b"\n")]


def entry_of(line: bytes) -> Entry | None:
    """The entry or change of one line; None if it is neither."""
    found = _parsed(line)
    if not found:
        return None
    revive_values(found[0])
    return found[0]


def escape_values(entry: Entry) -> Entry:
    """The inverse, of an entry that another client wrote."""
    return entry | {name: escaped(entry[name]) for name in _VALUES if entry.get(name) is not None}


def age(file_id: str) -> int:
    """A number that is larger for a file that was saved later. Ids that other programs gave are older than ours."""
    return age_of_number(int(file_id)) if file_id.isdecimal() else -1


def age_of_number(number: int) -> int:
    """The age of an id that is a number.

    The published client's ids, and those that this one gave before 0.12, are the time alone; ours go on with the
    digits of a process.
    """
    return number if number >= _WITH_PROCESS else number * 10**PROCESS_DIGITS


def moment(change: Entry) -> str:
    """When a change was made, for sorting; a checksum that was found later counts from the beginning."""
    when = change.get("updatedAt") or change.get("deletedAt") or ""
    return str(when).rstrip("Z")  # a full second has no fraction, and the Z would put it behind those that have


@contextlib.contextmanager
def without_collector() -> Iterator[None]:
    """Pause the garbage collector: for 100 000 records it takes twice the time of reading them, and finds nothing."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _blocks(path: str) -> Iterator[bytes]:
    """The whole lines of a file, many at a time, without the last newline."""
    try:
        file = open(path, "rb")  # noqa: SIM115 - closed by the with statement below
    except (FileNotFoundError, NotADirectoryError):
        return
    with file:
        rest = b""
        while block := file.read(_BLOCK):
            end = block.rfind(b"\n")
            if end < 0:
                rest += block
                continue
            yield rest + block[:end]
            rest = block[end + 1 :]


def _parsed(block: bytes) -> list[Entry]:
    return [value for value in values_of(block) if type(value) is dict and type(value.get("id")) is str]  # as is_entry


def _value_of(line: bytes) -> Any:
    try:
        return parse(line)
    except ValueError:
        return None
