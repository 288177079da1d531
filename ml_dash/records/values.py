"""Convert user values to JSON bytes and back.

The common case (numbers, strings, lists, numpy scalars and arrays) is one call of orjson. Everything else takes a slow
path, which turns each value into JSON types or raises an error that names its key.

Not-a-number and the infinities are written as the strings ``"NaN"``, ``"Infinity"`` and ``"-Infinity"``: JSON has no
token for them, and strict parsers refuse the bare ones. A user's own string that reads like one of them is written with
a leading backslash, so that every value is read back as it was.
"""

from __future__ import annotations

import dataclasses
import datetime
import enum
import math
import numbers
import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ml_dash._json import json, orjson
from ml_dash.errors import InvalidTypeError, InvalidValueError

MAX_DEPTH = 64
"""Levels of nested containers: more are a cycle or a mistake, and parsers of other languages stop near 100."""

MAX_INTEGER_BITS = 14_000
"""Largest size of an integer: Python reads at most 4300 decimal digits."""

_FAST = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_PASSTHROUGH_DATACLASS
_NON_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
_LOOKS_NON_FINITE = re.compile(r"\\*(?:NaN|-?Infinity)")
_DIGITS_ALIKE = bytes.maketrans(b"123456789:[- \t\r\n", b"000000000,,,,,,,")
_LONG_INTEGER = b"," + 19 * b"0"
_TOO_DEEP = "the document nests too deep to be read"
_U, _N, _I = b"uNI"
_SCALARS = (bool, int, float, str)


def encode(fields: Mapping[str, object], what: str) -> bytes:
    """Return one JSON object as bytes.

    Args:
        fields: the values by name. Besides what JSON holds: numpy scalars and arrays, torch tensors, anything with
            ``__array__``, enums, paths, dates, UUIDs, decimals, dataclasses, named tuples, sets.
        what: what is being stored, for the error text (``"metric 'train'"``).

    Raises:
        InvalidTypeError: a value cannot be stored; the text names its key.
        InvalidValueError: containers nest deeper than ``MAX_DEPTH`` or refer to themselves.
    """
    try:
        data = orjson.dumps(fields, None, _FAST)
    except (TypeError, ValueError, RecursionError):
        return encode_slowly(fields, what)
    # orjson writes NaN as null, so a null may be either; the two strings need a backslash. To search one byte first takes
    # a tenth of the time, and decides it for most records.
    if (_U in data and b"null" in data) or (_N in data and b'NaN"' in data) or (_I in data and b'Infinity"' in data):
        return encode_slowly(fields, what)
    return data


def encode_slowly(fields: Mapping[str, object], what: str) -> bytes:
    """Do as ``encode``, value by value, for values that orjson refuses or silently changes."""
    plain = to_plain(fields, what)
    try:
        return orjson.dumps(plain)
    except (TypeError, ValueError):  # integers beyond 64 bits, text that is not valid UTF-8
        return json.dumps(plain, separators=(",", ":"), allow_nan=False).encode("ascii")


def decode(line: bytes | str) -> Any:
    """Return the Python values of one JSON document.

    Reads what ``encode`` wrote and what older clients wrote (bare ``NaN`` tokens, and text that reads like one). Floats
    that were not finite come back as floats.

    Raises:
        ValueError: the text is no JSON document.
    """
    text = line if isinstance(line, bytes) else line.encode("utf-8", "surrogatepass")
    if b"NaN" not in text and b"Infinity" not in text:
        return parse(text)
    try:
        return json.loads(text) if is_published(text) else revive(parse(text))
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None


def parse(text: bytes) -> Any:
    """Return the JSON value of a document, not revived: non-finite floats stay strings, and bare tokens become them.

    Raises:
        ValueError: the text is no JSON document.
    """
    # orjson reads an integer beyond 64 bits as a float. This search takes a fifth of the time of a regular expression.
    alike = text.translate(_DIGITS_ALIKE)
    if _LONG_INTEGER not in alike and not alike.startswith(_LONG_INTEGER[1:]):
        try:
            return orjson.loads(text)
        except ValueError:
            pass  # bare NaN tokens and lone surrogates, which older clients wrote
    try:
        return json.loads(text, parse_constant=str)
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None


def parse_values(text: bytes) -> Any:
    """Do as ``parse``, for a document in which all text is the user's; one of an older client is read as ``encode`` writes.

    Raises:
        ValueError: the text is no JSON document.
    """
    if (b'NaN"' in text or b'Infinity"' in text) and is_published(text):
        return escaped(json.loads(text))
    return parse(text)


def is_published(text: bytes) -> bool:
    """Whether the published client wrote a JSON object: it puts a space after each colon, and ``encode`` does not."""
    colon = text.find(b'":')
    return colon > 0 and text[colon + 2 : colon + 3] == b" "


def escaped(value: Any) -> Any:
    """Return JSON values with the escapes that ``revive`` removes."""
    if isinstance(value, str):
        return _plain_text(value)
    if isinstance(value, float):
        return _plain_float(value)
    if isinstance(value, dict):
        return {key: escaped(item) for key, item in value.items()}
    return [escaped(item) for item in value] if isinstance(value, list) else value


def revive(value: Any) -> Any:
    """Turn strings that stand for non-finite floats back into floats, at any depth."""
    if isinstance(value, str):
        return _revive_text(value)
    if isinstance(value, dict):
        return {key: revive(item) for key, item in value.items()}
    if isinstance(value, list):
        return [revive(item) for item in value]
    return value


def to_plain(value: object, what: str, *, escape: bool = True) -> Any:
    """Return ``value`` as JSON types, with strings for non-finite floats. Raises as ``encode`` does.

    Args:
        value: anything that can be stored.
        what: what is being stored, for the error text.
        escape: whether text that reads like one of those strings gets a backslash, which ``revive`` removes.
    """
    return _Plain(what, escape).convert(value, "", 0)


def flatten(fields: Mapping[str, Any], prefix: str = "", sep: str = ".") -> dict[str, Any]:
    """Return nested mappings as one flat dict with keys joined by ``sep``; an empty mapping stays ``{}``."""
    flat: dict[str, Any] = {}
    for key, value in fields.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            flat.update(flatten(value, f"{name}{sep}", sep))
        else:
            flat[name] = value
    return flat


def unflatten(flat: Mapping[str, Any], sep: str = ".") -> dict[str, Any]:
    """Undo ``flatten``. Where ``a`` is a key itself, ``a.b`` stays dotted beside it."""
    nested: dict[str, Any] = {}
    for key, value in flat.items():
        *parents, leaf = key.split(sep)
        if any(sep.join(parents[:count]) in flat for count in range(1, len(parents) + 1)):
            nested[key] = value
            continue
        target = nested
        for parent in parents:
            target = target.setdefault(parent, {})
        target[leaf] = value
    return nested


def _revive_text(text: str) -> str | float:
    if text in _NON_FINITE:
        return _NON_FINITE[text]
    return text[1:] if text.startswith("\\") and _LOOKS_NON_FINITE.fullmatch(text) else text


def _plain_float(value: float) -> float | str:
    if math.isfinite(value):
        return float(value)
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _plain_text(text: str) -> str:
    return "\\" + text if _LOOKS_NON_FINITE.fullmatch(text) else str(text)


class _Plain:
    """Converts one value; ``what`` is the thing that is stored, for error texts."""

    def __init__(self, what: str, escape: bool) -> None:
        self._what = what
        self._escape = escape

    def convert(self, value: object, key: str, depth: int) -> Any:
        if value is None:
            return None
        if isinstance(value, enum.Enum):  # before the scalars: an IntEnum is an int, a StrEnum a str
            return self.convert(value.value, key, depth)
        if isinstance(value, _SCALARS):
            return self._scalar(value, key)
        if depth > MAX_DEPTH:
            raise InvalidValueError(
                f"{self._what}: {key!r} nests deeper than {MAX_DEPTH} levels or contains itself; store a flatter value"
            )
        return self._container(value, key, depth + 1)

    def _scalar(self, value: bool | int | float | str, key: str) -> bool | int | float | str:
        if isinstance(value, str):
            return _plain_text(value) if self._escape else str.__str__(value)
        if isinstance(value, bool):
            return value
        if not isinstance(value, int):
            return _plain_float(value)
        if value.bit_length() > MAX_INTEGER_BITS:
            raise InvalidValueError(
                f"{self._what}: {key!r} is an integer of {value.bit_length()} bits; at most {MAX_INTEGER_BITS} can be "
                "stored, more as text"
            )
        return int(value)

    def _container(self, value: object, key: str, depth: int) -> Any:
        if isinstance(value, Mapping):
            return self._mapping(value, key, depth)
        fields = _fields_of(value)
        if fields is not None:
            return self._mapping(fields, key, depth)
        if isinstance(value, (list, tuple, range)):
            return self._items(value, key, depth)
        if isinstance(value, (set, frozenset)):
            return self._items(sorted(value, key=repr), key, depth)
        return self._other(value, key, depth)

    def _mapping(self, value: Mapping[Any, object], key: str, depth: int) -> dict[str, Any]:
        plain: dict[str, Any] = {}
        for name, item in value.items():
            text = self._key(name, key)
            plain[text] = self.convert(item, f"{key}.{text}" if key else text, depth)
        return plain

    def _key(self, name: object, key: str) -> str:
        if isinstance(name, enum.Enum):
            name = name.value
        if isinstance(name, str):
            return str(name)
        if name is None or isinstance(name, (numbers.Real, os.PathLike)):
            return os.fspath(name) if isinstance(name, os.PathLike) else str(name)
        raise InvalidTypeError(
            f"{self._what}: a key under {key or 'the top'!r} is a {type(name).__name__} ({name!r:.80}); "
            "keys are strings or numbers"
        )

    def _items(self, value: Iterable[object], key: str, depth: int) -> list[Any]:
        return [self.convert(item, f"{key}[{i}]", depth) for i, item in enumerate(value)]

    def _other(self, value: object, key: str, depth: int) -> Any:
        for types, convert in _CONVERSIONS:
            if isinstance(value, types):
                return convert(value)
        if _is_a(value, "uuid", "UUID"):
            return str(value)
        if _is_a(value, "decimal", "Decimal"):
            # A signalling NaN cannot become a float.
            return _plain_float(math.nan if value.is_nan() else float(value))  # type: ignore[attr-defined, arg-type]
        try:
            array = _array_of(value)
        except Exception as error:  # a foreign __array__ may raise anything; the text has to name the value
            raise InvalidTypeError(
                f"{self._what}: {key!r} is a {_type_name(value)}, which gave no array: {error}; call str() on it"
            ) from error
        if array is not None:
            return self.convert(array.tolist(), key, depth)
        raise InvalidTypeError(
            f"{self._what}: {key!r} is of type {_type_name(value)}, which cannot be stored; "
            "pass numbers, text, lists, dicts, arrays, or call str() on it"
        )


def _fields_of(value: object) -> Mapping[str, object] | None:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return dict(value._asdict())
    return None


def _array_of(value: object) -> Any | None:
    """Return an array of ``value`` if it is array-like: numpy, torch (on any device), jax, tensorflow, PIL."""
    if isinstance(value, (type, bytes, bytearray, memoryview)):
        return None
    if hasattr(value, "detach") and hasattr(value, "cpu") and hasattr(value, "tolist"):
        return value.detach().cpu()
    import numpy as np  # only for values that are arrays: then the caller has loaded it

    if not (isinstance(value, (np.ndarray, np.generic)) or hasattr(value, "__array__")):
        return None
    array = np.asarray(value)
    if array.dtype.kind in "mM":
        return array.astype(str)
    if array.dtype.char == "g":  # longdouble: tolist() would give numpy's own type again
        return array.astype(float)
    return array if array.dtype.kind in "biufUO" and not (array.dtype.kind == "O" and array.ndim == 0) else None


def _is_a(value: object, module: str, name: str) -> bool:
    """Whether a value is an instance of a class, without importing its module."""
    loaded = sys.modules.get(module)
    return loaded is not None and isinstance(value, getattr(loaded, name))


def _type_name(value: object) -> str:
    kind = type(value)
    return kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__name__}"


_CONVERSIONS: tuple[tuple[tuple[type, ...], Callable[[Any], Any]], ...] = (
    ((datetime.datetime, datetime.date, datetime.time), lambda value: value.isoformat()),
    ((datetime.timedelta,), lambda value: value.total_seconds()),
    ((os.PathLike,), os.fsdecode),
)
