"""User values to TOML and back. Pure.

Values that TOML has are written as they are: text, integers of 64 bits, floats with NaN and the infinities, booleans, dates, times
and datetimes, lists of anything, tables. Other values that can be
restored are written as a table with the key ``__ml_dash__``::

    dropout = {__ml_dash__ = "none"}
    salt = {__ml_dash__ = "bytes", value = "AAEC"}

======================================  ============================================  ======================
a value                                 in the file                                   read back as
======================================  ============================================  ======================
None                                    ``none``                                      None
integer beyond 64 bits                  ``integer``, decimal digits                   the same int
Decimal                                 ``decimal``, its text                         the same Decimal
bytes, bytearray                        ``bytes``, base64                             bytes
set, frozenset                          ``set``, its items                            set
timedelta                               ``timedelta``, [days, seconds, microseconds]  the same timedelta
time with an offset                     ``time``, ISO 8601                            an equal time
datetime whose offset has seconds       ``datetime``, ISO 8601                        an equal datetime
text with a lone surrogate              ``text``, base64                              the same text
dict with the key ``__ml_dash__``       ``table``                                     the same dict
tuple, range, array, tensor             a list                                        a list
numpy scalar, enum                      its value                                     the plain value
named tuple, dataclass                  a table                                       a dict
path, UUID                              its text                                      str
======================================  ============================================  ======================

Keys are text. A number, a bool, None, an enum or a path as a key becomes its text.
"""

from __future__ import annotations

import base64
import dataclasses
import datetime
import enum
import numbers
import os
import re
import sys
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from ml_dash._json import orjson
from ml_dash.errors import InvalidTypeError, InvalidValueError
from ml_dash.records.values import MAX_DEPTH, MAX_INTEGER_BITS, revive, to_plain
from ml_dash.storage.names import kind_of

MARK = "__ml_dash__"
"""The key by which a table says that it stands for a value; the key of the value itself is ``value``."""

TOML_BYTES = 16 * 1024 * 1024
"""The largest TOML file that is read: far above any configuration, and some seconds of parsing at most."""

MAX_KEY_PARTS = 100
"""Parts of one dotted key, or of the name of a table: what is written here nests less deeply. The time that the parser
of Python takes for a key grows with the square of its parts."""

MAX_NESTING = 200
"""Tables and lists within each other in a document that is read: a set or a tuple within a value takes two levels."""

_TOKEN = re.compile(
    r"""\#[^\n]*+
      | "{3}(?:[^"\\]|\\.|"{1,2}(?!"))*+(?:"{3,5}+|\Z)
      | '{3}(?:[^']|'{1,2}(?!'))*+(?:'{3,5}+|\Z)
      | (?P<part>"(?:[^"\\\n]|\\.)*+"? | '[^'\n]*+'? | [A-Za-z0-9_-]++)
      | (?P<dot>\.)
      | (?P<blank>[\ \t]++)
      | .""",
    re.VERBOSE | re.DOTALL,
)
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_LARGEST = 2**63
_TOO_DEEP = f"its tables and lists nest deeper than {MAX_NESTING} levels"
_MINUTE = datetime.timedelta(minutes=1)


def dumps(values: Mapping[str, object], what: str = "TOML") -> str:
    """A TOML document of any values that the table above names.

    Args:
        values: the document's top.
        what: the document's name in errors.

    Raises:
        InvalidTypeError: a value or a key cannot be stored; the text names it.
        InvalidValueError: containers nest deeper than 64 levels or contain themselves, an integer is too long, or two
            keys of one dict have the same text.
    """
    return _to_text(encode(values, what))


def loads(text: str) -> dict[str, Any]:
    """The values of a document; the inverse of ``dumps``.

    Raises:
        ValueError: the text is no TOML.
    """
    try:
        return {key: decode(value) for key, value in parse(text.encode("utf-8", "surrogatepass")).items()}
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None


def parse(content: bytes) -> dict[str, Any]:
    """The plain document of a TOML file, whatever is in the file: the time is proportional to its size.

    Raises:
        ValueError: it is no TOML, or beyond a limit: ``MAX_KEY_PARTS``, ``MAX_NESTING``, integers of
            ``MAX_INTEGER_BITS``.
    """
    text = content.decode()
    if text.count(".") >= MAX_KEY_PARTS and any(line.count(".") >= MAX_KEY_PARTS for line in text.split("\n")):
        _check_keys(text)
    try:
        document = tomllib.loads(text)
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None
    check_values(document)
    return document


def _check_keys(text: str) -> None:
    """Refuse a dotted key with too many parts. Text within quotes is one part, whatever is in it."""
    parts, follows_dot = 0, False
    for token in _TOKEN.finditer(text):
        kind = token.lastgroup
        if kind == "part":
            parts = parts + 1 if follows_dot else 1
            follows_dot = False
            if parts > MAX_KEY_PARTS:
                raise ValueError(f"a dotted key has more than {MAX_KEY_PARTS} parts")
        elif kind == "dot":
            follows_dot = True
        elif kind != "blank":
            parts, follows_dot = 0, False


def check_values(document: dict[str, Any]) -> None:
    """Check the nesting and the integers of a document.

    Raises:
        ValueError: it is beyond ``MAX_NESTING`` or ``MAX_INTEGER_BITS``.
    """
    level: list[Any] = [document]
    for _ in range(MAX_NESTING):
        items: list[Any] = []
        for container in level:
            items += container.values() if type(container) is dict else container
        level = []
        for item in items:
            kind = type(item)
            if kind is dict or kind is list:
                level.append(item)
            elif kind is int and item.bit_length() > MAX_INTEGER_BITS:
                raise ValueError(f"an integer has more than {MAX_INTEGER_BITS:,} bits")
        if not level:
            return
    raise ValueError(_TOO_DEEP)


def encode(values: Mapping[str, object], what: str, *, for_json: bool = False) -> dict[str, Any]:
    """Values as a TOML document has them. Raises as ``dumps`` does.

    Args:
        values: the document's top.
        what: the document's name in errors.
        for_json: encode for JSON instead, which has None and integers of any size, and no dates.
    """
    return _Encoder(what, for_json).table(values, "", 0)


def decode(value: Any) -> Any:
    """The inverse of ``encode`` for one value."""
    if isinstance(value, dict):
        if isinstance(value.get(MARK), str):
            return _unmark(value)
        return {key: decode(item) for key, item in value.items()}
    if isinstance(value, list):
        return [decode(item) for item in value]
    return value


class _Encoder:
    """One walk over a document.

    Args:
        what: the document's name in errors.
        for_json: see ``encode``.
    """

    def __init__(self, what: str, for_json: bool) -> None:
        self._what = what
        self._for_json = for_json

    def table(self, values: Mapping[Any, object], path: str, depth: int) -> dict[str, Any]:
        if depth > MAX_DEPTH:
            raise InvalidValueError(
                f"{self._what}: {path!r} nests deeper than {MAX_DEPTH} levels or contains itself; store a flatter value"
            )
        table: dict[str, Any] = {}
        for key, value in values.items():
            text = self._key(key, path)
            if text in table:
                raise InvalidValueError(f"{self._what}: two keys under {path or 'the top'!r} have the text {text!r}")
            table[text] = self.value(value, f"{path}.{text}" if path else text, depth + 1)
        return _marked("table", table) if MARK in table and depth else table

    def value(self, value: Any, path: str, depth: int) -> Any:
        if isinstance(value, enum.Enum):  # before the scalars: an IntEnum is an int, a StrEnum a str
            return self.value(value.value, path, depth)
        if isinstance(value, str):
            return self._text(str.__str__(value))
        if isinstance(value, bool):
            return value
        if isinstance(value, int):
            return self._integer(int(value), path)
        if isinstance(value, float):
            return float(value)
        if value is None:
            return value if self._for_json else _marked("none")
        return self._container(value, path, depth)

    def _container(self, value: Any, path: str, depth: int) -> Any:
        fields = _fields_of(value)
        if fields is not None:
            return self.table(fields, path, depth)
        if isinstance(value, (list, tuple, range)):
            return self._items(value, path, depth)
        if isinstance(value, (set, frozenset)):
            return _marked("set", self._items(sorted(value, key=repr), path, depth))
        if isinstance(value, (bytes, bytearray)):
            return _marked("bytes", base64.b64encode(value).decode())
        if isinstance(value, (datetime.datetime, datetime.date, datetime.time)):
            return self._datetime(value)
        if isinstance(value, datetime.timedelta):
            return _marked("timedelta", [value.days, value.seconds, value.microseconds])
        decimal = sys.modules.get("decimal")
        if decimal is not None and isinstance(value, decimal.Decimal):
            return _marked("decimal", str(value))
        # Arrays, tensors, paths and the rest as everywhere in ml_dash; the key is for the text of an error.
        return self.value(revive(to_plain({path: value}, self._what))[path], path, depth)

    def _items(self, items: Iterable[object], path: str, depth: int) -> list[Any]:
        if depth > MAX_DEPTH:
            return list(self.table({}, path, depth))  # raises
        return [self.value(item, f"{path}[{number}]", depth + 1) for number, item in enumerate(items)]

    def _text(self, text: str) -> Any:
        if _is_utf8(text):
            return text
        return _marked("text", base64.b64encode(text.encode("utf-8", "surrogatepass")).decode())

    def _integer(self, value: int, path: str) -> Any:
        if value.bit_length() > MAX_INTEGER_BITS:
            raise InvalidValueError(
                f"{self._what}: {path!r} is an integer of {value.bit_length()} bits; at most {MAX_INTEGER_BITS} can be "
                "stored, more as text"
            )
        return value if self._for_json or -_LARGEST <= value < _LARGEST else _marked("integer", str(value))

    def _datetime(self, value: Any) -> Any:
        if isinstance(value, datetime.datetime):
            try:
                value = _exact(value)
            except (TypeError, ValueError):  # pandas.NaT, which calls itself a datetime
                return self.value(None, "", 0)
        if self._for_json or not _has_toml_form(value):
            kind = next(kind for kind in (datetime.datetime, datetime.date, datetime.time) if isinstance(value, kind))
            return _marked(kind.__name__, value.isoformat())
        return value

    def _key(self, key: object, path: str) -> str:
        text = key.value if isinstance(key, enum.Enum) else key
        if isinstance(text, os.PathLike):
            text = os.fsdecode(text)
        elif text is None or isinstance(text, numbers.Real):
            text = str(text)
        if not isinstance(text, str):
            raise InvalidTypeError(
                f"{self._what}: a key under {path or 'the top'!r} is {kind_of(key)} ({key!r:.80}); "
                "keys are strings or numbers"
            )
        if not _is_utf8(text):
            raise InvalidValueError(f"{self._what}: the key {text!r:.80} has a lone surrogate, which is not UTF-8")
        return str.__str__(text)


def _marked(kind: str, *value: object) -> dict[str, Any]:
    return {MARK: kind, "value": value[0]} if value else {MARK: kind}


def _unmark(table: dict[str, Any]) -> Any:
    """The value that a table stands for; the table itself if its kind or form is unknown."""
    kind, value = table[MARK], table.get("value")
    if kind == "none":
        return None
    try:
        return _KINDS[kind](value)
    except (KeyError, TypeError, ValueError, ArithmeticError, AttributeError):
        return table


def _decimal(text: str) -> Any:
    from decimal import Decimal

    return Decimal(text)


def _set(items: list[Any]) -> Any:
    values = [decode(item) for item in items]
    try:
        return {_hashable(value) for value in values}
    except TypeError:  # a dataclass was an item, and a dict cannot be
        return values


def _hashable(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(map(_hashable, value))
    return frozenset(map(_hashable, value)) if isinstance(value, set) else value


_KINDS: dict[str, Callable[[Any], Any]] = {
    "integer": int,
    "decimal": _decimal,
    "bytes": lambda text: base64.b64decode(text, validate=True),
    "text": lambda text: base64.b64decode(text, validate=True).decode("utf-8", "surrogatepass"),
    "set": _set,
    "timedelta": lambda parts: datetime.timedelta(*parts),
    "date": datetime.date.fromisoformat,
    "time": datetime.time.fromisoformat,
    "datetime": datetime.datetime.fromisoformat,
    "table": lambda table: {key: decode(item) for key, item in table.items()},
}


def _fields_of(value: Any) -> Mapping[Any, object] | None:
    if isinstance(value, Mapping):
        return value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    return dict(value._asdict()) if isinstance(value, tuple) and hasattr(value, "_asdict") else None


def _exact(value: datetime.datetime) -> datetime.datetime:
    """A plain datetime: a subclass may have nanoseconds, which no TOML reader takes."""
    date, time = (value.year, value.month, value.day), (value.hour, value.minute, value.second, value.microsecond)
    return datetime.datetime(*date, *time, tzinfo=value.tzinfo, fold=value.fold)


def _has_toml_form(value: datetime.date | datetime.time) -> bool:
    if isinstance(value, datetime.datetime):
        offset = value.utcoffset()
        return offset is None or offset % _MINUTE == datetime.timedelta(0)
    return not isinstance(value, datetime.time) or value.utcoffset() is None


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _to_text(tree: Mapping[str, Any]) -> str:
    """A TOML document. In every table the plain keys come first, then the tables below it, each in their order.

    A table that stands for a value is written inline, so that ``dropout = {__ml_dash__ = "none"}`` is one line.

    Args:
        tree: strings that UTF-8 can hold, integers of 64 bits, floats, bools, dates and times, lists and dicts.
    """
    return "".join(f"{line}\n" for line in _table_lines("", tree)).lstrip("\n")


def _table_lines(path: str, table: Mapping[str, Any]) -> Iterator[str]:
    sections = {key: value for key, value in table.items() if isinstance(value, dict) and MARK not in value}
    if path and (not sections or len(sections) < len(table)):
        yield f"\n[{path}]"
    for key, value in table.items():
        if key not in sections:
            yield f"{_key(key)} = {_inline(value)}"
    for key, value in sections.items():
        yield from _table_lines(f"{path}.{_key(key)}" if path else _key(key), value)


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
