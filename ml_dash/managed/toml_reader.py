"""TOML as runs have it, read fast: lines of ``key = value`` under ``[table]`` lines, by way of one JSON document a table.

Most of what describes runs is that simple, and the standard library takes five times as long for it. Whatever has
anything else in it (a value over several lines, a dotted or quoted key, an inline table, an error) is left to the
standard library as a whole.
"""

from __future__ import annotations

import re
import tomllib
from typing import Any

from ml_dash._json import orjson

_KEY = r"[A-Za-z0-9_-]+"
# Where TOML and JSON agree: integers that fit, floats, plain strings without an escape, and lists of these.
_SCALAR = r'(?:true|false|-?(?:0|[1-9][0-9]{0,17})(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?|"[^"\\\x00-\x1f\x7f]*")'
_SHARED = rf"{_SCALAR}|\[(?:{_SCALAR}(?:, {_SCALAR})*)?\]"
# One line for certain, and rare: each is read by the standard library.
_OTHER = rf'nan|-?inf|[0-9]{{4}}-[0-9T:.Z+-]{{6,32}}|\{{__ml_dash__ = "[a-z]+"(?:, value = (?:{_SHARED}))?\}}'

_PAIR = re.compile(rf"^({_KEY}) = (?:({_SHARED})|({_OTHER}))$", re.MULTILINE)
_TABLE = re.compile(rf"^\[({_KEY}(?:\.{_KEY})*)\]$", re.MULTILINE)
_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f]")


def loads(text: str) -> dict[str, Any]:
    """The same as ``tomllib.loads``.

    Raises:
        ValueError: the text is no TOML.
    """
    found = _read_simple(text)
    return tomllib.loads(text) if found is None else found


def _read_simple(text: str) -> dict[str, Any] | None:
    """None for a document that is not as simple as that."""
    if _CONTROL.search(text):
        return None
    head, *rest = _TABLE.split(text)
    document = _read_pairs(head)
    names, bodies = rest[::2], rest[1::2]
    if document is None or len(names) != len(set(names)):
        return None
    for name, body in zip(names, bodies, strict=True):
        pairs, table = _read_pairs(body), _table_at(document, name)
        if pairs is None or table is None or not table.keys().isdisjoint(pairs):
            return None
        table.update(pairs)
    return document


def _read_pairs(body: str) -> dict[str, Any] | None:
    pairs = _PAIR.findall(body)
    lines = [line for line in body.split("\n") if line and line[0] != "#"]
    if len(lines) != len(pairs):
        return None
    try:
        shared = orjson.loads("{" + ",".join([f'"{key}":{value or "null"}' for key, value, _ in pairs]) + "}")
        for key, value, other in pairs:
            if not value:
                shared[key] = tomllib.loads(f"{key} = {other}")[key]
    except ValueError:
        return None
    return shared if len(shared) == len(pairs) else None


def _table_at(document: dict[str, Any], name: str) -> dict[str, Any] | None:
    table: Any = document
    for part in name.split("."):
        table = table.setdefault(part, {})
        if not isinstance(table, dict) or "__ml_dash__" in table:  # no table, or one that was closed on its line
            return None
    return table  # type: ignore[no-any-return]  # the check is within the loop, which runs at least once
