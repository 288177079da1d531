"""Check the folders and documents of a run: each can be read, and what was read is what it should be.

Only what was read can be called damaged. What was refused, for want of rights or because the disk failed, may be intact.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from ml_dash.records.values import parse
from ml_dash.storage import layout, liveness
from ml_dash.storage.scan import OWN_FOLDERS
from ml_dash.verify.findings import ERROR, SET_ASIDE, WARNING, Finding, Fix, refusal

_DOCUMENTS = (layout.EXPERIMENT, layout.PARAMETERS, layout.ENVIRONMENT)
_ADVICE = {
    layout.EXPERIMENT: "gives it another name, and makes one with the run's name and place",
    layout.ENVIRONMENT: "gives it another name",
    layout.PARAMETERS: "gives it another name, so that the next writer does not replace it",
}
_TOML = (layout.CONFIG_TOML, layout.METRICS_TOML)
_GONE = (FileNotFoundError, NotADirectoryError)


@dataclass(frozen=True, slots=True)
class Look:
    """What reading a JSON document came to.

    Attributes:
        is_there: whether there is something of that name.
        document: the object; None if there is none.
        refusal: why it was not read; empty if it was.
        damage: what is wrong with what was read; empty if it is an object.
    """

    is_there: bool = True
    document: dict[str, Any] | None = None
    refusal: str = ""
    damage: str = ""


def look_at(path: str) -> Look:
    """Read a document, floats that are not finite as the strings that they are on disk."""
    try:
        with open(path, "rb") as file:
            content = file.read()
        value = parse(content)
    except _GONE:
        return Look(is_there=False)
    except OSError as error:
        return Look(refusal=refusal(error))
    except RecursionError:
        return Look(refusal="cannot be read: it nests too deep")
    except ValueError:
        value = None
    if isinstance(value, dict):
        return Look(document=value)
    return Look(damage="is no JSON object" if content else "is empty")


def as_far_as_readable(run: str, findings: Iterable[Finding], place: str = ".") -> Iterator[Finding]:
    """Findings, and one more where a file that cannot be read, or holds what nobody has thought of, ends them."""
    try:
        yield from findings
    except OSError as error:
        where = error.filename if isinstance(error.filename, str) else run
        yield Finding(ERROR, os.path.relpath(where, run).replace(os.sep, "/"), refusal(error))
    except Exception as error:  # noqa: BLE001 - whatever a file holds, the rest of the run is checked
        yield Finding(ERROR, place, f"stops the check of it: {type(error).__name__}: {error}")


def check_folders(run: str) -> Iterator[Finding]:
    """Folders of a run that cannot be listed or entered: nothing in them is checked.

    Folders that may hold further runs are not looked at; whoever looks for those comes there.
    """
    waiting = [run]
    while waiting:
        folder = waiting.pop()
        try:
            os.stat(os.path.join(folder, os.curdir))  # fails where names can be listed, but nothing opened
            with os.scandir(folder) as entries:
                found = [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
        except _GONE:
            continue
        except OSError as error:
            yield Finding(ERROR, os.path.relpath(folder, run).replace(os.sep, "/"), refusal(error))
            continue
        if folder == run:
            found = [path for path in found if os.path.basename(path) in OWN_FOLDERS]
        waiting += sorted(found, reverse=True)


def check_documents(run: str) -> Iterator[Finding]:
    """The JSON and TOML documents in a run's folder, and those of its further writers."""
    for path in _DOCUMENTS:
        yield from _check_document(run, path, ERROR, _ADVICE[path])
    for path in [path for path, _ in liveness.other_writers(run)]:
        yield from _check_document(run, path, WARNING, "gives it another name")
    for path in _TOML:
        yield from as_far_as_readable(run, _check_toml(run, path))


def _check_document(run: str, path: str, severity: str, advice: str) -> Iterator[Finding]:
    look = look_at(os.path.join(run, path))
    if look.refusal:
        yield Finding(ERROR, path, look.refusal)
    elif look.damage:
        yield Finding(severity, path, look.damage, advice, Fix(SET_ASIDE, path))


def _check_toml(run: str, path: str) -> Iterator[Finding]:
    import tomllib

    try:
        with open(os.path.join(run, path), "rb") as file:
            tomllib.load(file)
    except _GONE:
        return
    except (ValueError, RecursionError) as error:  # also what is no UTF-8
        remedy = "; MLRun.load(...) makes it anew from the journals" if path == layout.METRICS_TOML else ""
        yield Finding(ERROR, path, f"is no TOML: {error}{remedy}")


def check_diff(run: str) -> Iterator[Finding]:
    """The difference of the code from its commit, whose checksum stands in environment.json."""
    code = (look_at(os.path.join(run, layout.ENVIRONMENT)).document or {}).get("code")
    wanted = code.get("diff_sha256") if isinstance(code, dict) else None
    if wanted is None:
        return
    try:
        with open(os.path.join(run, layout.CODE_DIFF), "rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        yield Finding(ERROR, layout.CODE_DIFF, "is missing")
        return
    if found != wanted:
        yield Finding(ERROR, layout.CODE_DIFF, "is not what was recorded: its SHA-256 is another")
