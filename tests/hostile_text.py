"""Text that must not reach a terminal as it is, and a run in which every string holds it."""

from __future__ import annotations

import json
import os
import unicodedata
from typing import TYPE_CHECKING

from tests.run_folders import TIME, RunFolder, lines

if TYPE_CHECKING:
    from pathlib import Path

KINDS = {
    "colour": "\x1b[31m",
    "title": "\x1b]0;pwned\x07",
    "carriage return": "\r",
    "line feed": "\n",
    "tab": "\t",
    "backspace": "\x08",
    "delete": "\x7f",
    "next line": "\x85",
    "control sequence of one byte": "\x9b2J",
    "soft hyphen": "\xad",
    "Arabic letter mark": "\u061c",
    "Mongolian vowel separator": "\u180e",
    "zero-width space": "\u200b",
    "joiners": "a\u200ca\u200da",
    "marks of direction": "\u200e\u200f",
    "separators": "\u2028\u2029",
    "embeddings and overrides": "\u202a\u202b\u202c\u202d\u202e",
    "isolates": "\u2066\u2067\u2068\u2069",
    "invisible operators": "\u2060\u2061\u2064",
    "byte order mark": "\ufeff",
    "annotations": "\ufff9\ufffa\ufffb",
    "Hangul filler": "\u3164",
    "variation selector": "a\ufe0f\ufe01",
    "tag letters": "\U000e0001\U000e0061\U000e007f",
    "private use": "\ue000\U000f0000",
    "unassigned": "\u0378\uffff",
    "no-break space": "\xa0\u202f",
}
HOSTILE = "".join(KINDS.values())
SURROGATE = "\ud83d"

INVISIBLE = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u3164\u2800\uffa0") | frozenset(map(chr, range(0xFE00, 0xFE10)))


def forbidden_in(text: str) -> list[str]:
    """Return the characters of an output that are not ink, a space or the end of a line."""
    return sorted(
        letter
        for letter in set(text) - set(" \n")
        if unicodedata.category(letter) in {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp", "Zs"} or letter in INVISIBLE
    )


def segment(kinds: str = HOSTILE) -> str:
    """Return a file name with the hostile text and a byte that is no UTF-8."""
    return f"x{kinds}" + os.fsdecode(b"\xff")


def hostile_run(root: Path, name: str, **fields: object) -> RunFolder:
    """Write a run of which every string holds hostile text, file names included.

    Args:
        root: folder of all runs.
        name: the last segment of its prefix.
        **fields: keys of experiment.json.
    """
    text = HOSTILE + SURROGATE
    run = RunFolder(root, f"{segment()}/p/{name}")
    facts = {"name": text, "project": text, "description": text, "tags": [text, "a"], "bindrs": [text], "prefix": text}
    facts |= {"status": f"x{text}", "status_reason": text, "host": text, "heartbeat_at": "2099-01-01\x9b05:24:59Z"}
    facts |= {"metadata": {text: text}, "command": [text], "readme": text}
    run.document("experiment.json", created_at=TIME, started_at=TIME, ended_at=TIME, pid=text, **facts | fields)
    run.params(**{text: text, "quoted": f" {text}", "list": [text, {text: text}], "lr": 0.1})
    entry = {"timestamp": TIME, "level": text, "message": text, "metadata": {text: text}}
    run.write("logs/logs.jsonl", lines({"sequenceNumber": 0, **entry}, {"sequenceNumber": 1, **entry, "level": "info"}))
    metric = segment(HOSTILE.replace("\n", ""))
    run.write(
        f"metrics/{metric}/data.jsonl",
        lines(
            {"index": 0, "data": text, "createdAt": text},
            {"index": 1, "data": {text: text, "loss": 0.5, "_ts": 1.0}, "createdAt": TIME},
            {"index": 2, "data": {"loss": 0.25, "x": 2, "_ts": 2.0}, "createdAt": TIME},
        ),
    )
    run.document(f"metrics/{metric}/metadata.json", name=text, description=text, tags=[text])
    run.metric("loss", {"value": 1.0, text: 2.0}, {"value": 0.5, text: 1.0})
    run.track("arm", {"timestamp": 0.0, text: text})
    run.write(f"tracks/{segment()}/data.jsonl", lines({"timestamp": 1.0, text: 2.0}))
    run.file("plain.txt", b"content", 1, description=text, tags=[text], contentType=text)
    name_of_file = HOSTILE.replace("\n", "")
    run.file(name_of_file, b"content", 2, metadata={text: text})
    run.write(f"files/{segment()}", b"not in the index")
    run.frames(HOSTILE.replace("\n", ""), b"\x89PNG")
    code = {"commit": text, "branch": text, "dirty": True, "remote": text}
    environment = {"process": {"command": [text], "cwd": text, "user": text}, "python": {"version": text}}
    environment |= {"system": {"platform": text, "cpu": text}, "gpus": {"cards": [{"name": text}]}, "code": code}
    run.document("environment.json", **environment, packages={text: text}, variables={text: text})
    run.write("code.diff", f"--- a/{HOSTILE}\n+++ b/{name}\n+{HOSTILE}{name}\n".encode())
    run.write(segment("leftover\x1b[31m") + ".tmp", json.dumps(text).encode())
    return run
