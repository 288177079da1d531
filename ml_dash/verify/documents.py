"""Check the folders and documents of a run: each can be read, and is an object of JSON or TOML.

Only a file that was read can be called damaged. One that was refused, for want of rights or because the disk failed,
may be intact, and a repair leaves it alone.
"""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from ml_dash.records.values import parse
from ml_dash.storage import layout, liveness
from ml_dash.storage.beneath import DOCUMENT_BYTES, UnsafeFileError, open_file, read_file
from ml_dash.storage.scan import OWN_FOLDERS
from ml_dash.verify.findings import ERROR, SET_ASIDE, WARNING, Finding, Fix

_DOCUMENTS = {
    layout.EXPERIMENT: "gives it another name, and makes one with the run's name and place",
    layout.PARAMETERS: "gives it another name, so that the next writer does not replace it",
    layout.ENVIRONMENT: "gives it another name",
}
"""The documents in a run's folder, and the repair of a damaged one."""

_GONE = (FileNotFoundError, NotADirectoryError)


@dataclass(frozen=True, slots=True)
class DocumentState:
    """Result of reading a JSON document.

    Attributes:
        exists: whether the file exists.
        document: the object; None if the file holds none.
        refusal: why the file was not read; empty if it was.
        damage: what is wrong with the content; empty if it is an object.
    """

    exists: bool = True
    document: dict[str, Any] | None = None
    refusal: str = ""
    damage: str = ""


def inspect_document(path: str) -> DocumentState:
    """Read a document. Floats that are not finite stay the strings that they are on disk."""
    try:
        content = read_file(path)
        value = parse(content)
    except _GONE:
        return DocumentState(exists=False)
    except OSError as error:
        return DocumentState(refusal=refusal(error))
    except RecursionError:
        return DocumentState(refusal="cannot be read: it nests too deep")
    except ValueError:
        value = None
    if isinstance(value, dict):
        return DocumentState(document=value)
    return DocumentState(damage="is no JSON object" if content else "is empty")


def refusal(error: OSError) -> str:
    """Return the problem of a file or folder that was not read; it may be intact."""
    return f"cannot be read: {error.strerror or error}"


def relative(path: str, run: str) -> str:
    """Return a path relative to the run's folder, with slashes."""
    return os.path.relpath(path, run).replace(os.sep, "/")


def until_failure(run: str, findings: Iterable[Finding], path: str = ".") -> Iterator[Finding]:
    """Yield findings, and one more for the exception that ends them.

    Args:
        run: absolute path of the run's directory.
        findings: a check.
        path: what it checks, for a failure that names no file.
    """
    try:
        yield from findings
    except OSError as error:
        filename = error.filename if isinstance(error.filename, str) else run
        yield Finding(ERROR, relative(filename, run), refusal(error))
    except Exception as error:  # noqa: BLE001 - whatever a file holds, the rest of the run is checked
        yield Finding(ERROR, path, f"stops the check of it: {type(error).__name__}: {error}")


def check_folders(run: str) -> Iterator[Finding]:
    """Find folders of a run that cannot be listed or entered: nothing in them is checked.

    Folders that may hold further runs are left to the search for runs.
    """
    waiting = [run]
    while waiting:
        folder = waiting.pop()
        try:
            os.stat(os.path.join(folder, os.curdir))  # fails where names can be listed, but nothing opened
            with os.scandir(folder) as entries:
                children = [*entries]
        except _GONE:
            continue
        except OSError as error:
            yield Finding(ERROR, relative(folder, run), refusal(error))
            continue
        if folder == run:
            children = [entry for entry in children if entry.name in OWN_FOLDERS]
        for link in sorted(entry.path for entry in children if entry.is_symlink() and os.path.isdir(entry.path)):
            yield Finding(ERROR, relative(link, run), "is a link to a folder, which is not followed")
        subfolders = [entry.path for entry in children if entry.is_dir(follow_symlinks=False)]
        waiting += sorted(subfolders, reverse=True)


def check_documents(run: str) -> Iterator[Finding]:
    """Check the JSON and TOML documents in a run's folder, and those of its further writers."""
    for path, advice in _DOCUMENTS.items():
        yield from _check_document(run, path, ERROR, advice)
    for path, _ in liveness.other_writers(run):
        yield from _check_document(run, path, WARNING, "gives it another name")
    for path in (layout.CONFIG_TOML, layout.METRICS_TOML):
        yield from until_failure(run, _check_toml(run, path))


def _check_document(run: str, path: str, severity: str, advice: str) -> Iterator[Finding]:
    state = inspect_document(os.path.join(run, path))
    if state.refusal:
        yield Finding(ERROR, path, state.refusal)
    elif state.damage:
        yield Finding(severity, path, state.damage, advice, Fix(SET_ASIDE, path))


def _check_toml(run: str, path: str) -> Iterator[Finding]:
    import tomllib

    try:
        tomllib.loads(read_file(os.path.join(run, path)).decode())
    except _GONE:
        return
    except (ValueError, RecursionError) as error:  # ValueError also for bytes that are no UTF-8
        remedy = "; MLRun.load(...) makes it anew from the journals" if path == layout.METRICS_TOML else ""
        yield Finding(ERROR, path, f"is no TOML: {error}{remedy}")


def check_diff(run: str) -> Iterator[Finding]:
    """Compare code.diff with its checksum in environment.json."""
    code = (inspect_document(os.path.join(run, layout.ENVIRONMENT)).document or {}).get("code")
    expected = code.get("diff_sha256") if isinstance(code, dict) else None
    if expected is None:
        return
    try:
        with open_file(os.path.join(run, layout.CODE_DIFF)) as file:
            if os.fstat(file.fileno()).st_size > DOCUMENT_BYTES:
                raise UnsafeFileError(errno.EFBIG, f"it is larger than {DOCUMENT_BYTES:,} bytes", file.name)
            actual = hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        yield Finding(ERROR, layout.CODE_DIFF, "is missing")
        return
    if actual != expected:
        yield Finding(ERROR, layout.CODE_DIFF, "is not what was recorded: its SHA-256 is another")
