"""A tree of TOML values as text. Pure.

What it adds to a general TOML writer: a table that stands for a value which TOML does not have (see ``toml_values``)
is written inline, so that ``dropout = {__ml_dash__ = "none"}`` stays on the line of its key.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from ml_dash._json import orjson

MARK = "__ml_dash__"
"""The key by which a table says that it stands for a value; the key of the value itself is ``value``."""

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")


def to_text(tree: Mapping[str, Any]) -> str:
    """A document. In every table the plain keys come first, then the tables below it, each in their order.

    Args:
        tree: strings that UTF-8 can hold, integers of 64 bits, floats, bools, dates and times, lists and dicts.
    """
    return "".join(f"{line}\n" for line in _table("", tree)).lstrip("\n")


def _table(path: str, table: Mapping[str, Any]) -> Iterator[str]:
    sections = {key: value for key, value in table.items() if isinstance(value, dict) and MARK not in value}
    if path and (not sections or len(sections) < len(table)):
        yield f"\n[{path}]"
    for key, value in table.items():
        if key not in sections:
            yield f"{_key(key)} = {_inline(value)}"
    for key, value in sections.items():
        yield from _table(f"{path}.{_key(key)}" if path else _key(key), value)


def _key(key: str) -> str:
    return key if _BARE_KEY.fullmatch(key) else _string(key)


def _inline(value: Any) -> str:
    if isinstance(value, str):
        return _string(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, list):
        return f"[{', '.join(map(_inline, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{_key(key)} = {_inline(item)}' for key, item in value.items())}}}"
    return str(value.isoformat())


def _string(text: str) -> str:
    # JSON escapes what TOML wants escaped, in the same way, except for DEL.
    return orjson.dumps(text).decode().replace("\x7f", "\\u007f")
