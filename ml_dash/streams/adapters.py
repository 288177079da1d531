"""Conversion of objects that hold settings, of many libraries, to plain dicts. Imports none of the libraries."""

from __future__ import annotations

import dataclasses
import sys
import types
from collections.abc import Mapping
from typing import Any

from ml_dash.errors import InvalidTypeError, InvalidValueError, MlDashError
from ml_dash.records.values import to_plain
from ml_dash.storage.names import kind_of

_PLAIN = frozenset({type(None), bool, int, float, str})
_MISSING = object()


def as_mapping(source: object, what: str) -> Mapping[str, Any]:
    """Return settings as a dict. Its values may still be such that ``to_plain`` refuses them, with their key.

    Args:
        source: a dict, or an object or class that holds settings.
        what: the subject of the error text, such as "params".

    Raises:
        InvalidTypeError: ``source`` holds no settings.
        InvalidValueError: ``source`` could not be read; the text names the key.
    """
    opened = open_up(source, what)
    plain = opened if isinstance(opened, Mapping) else to_plain(opened, what)
    if not isinstance(plain, Mapping):
        raise InvalidTypeError(
            f"{what}: {source!r:.80} is {kind_of(source)}; pass a dict, a dataclass, a namespace, a class, "
            "a config object or keywords"
        )
    return plain


def open_up(value: object, what: str, key: str = "") -> Any:
    """Convert objects and classes that hold settings to dicts, at any depth; return other values unchanged.

    Args:
        value: any value.
        what: the subject of the error text, such as "params".
        key: the dotted key of the value, for the error text.

    Raises:
        InvalidValueError: an object could not be read.
    """
    if type(value) in _PLAIN:
        return value
    try:
        held = _held_by(value)
        items = list(held.items()) if isinstance(held, Mapping) else None
    except (RecursionError, MlDashError):
        raise
    except Exception as error:  # a getter, an interpolation or a validator of the other library
        raise InvalidValueError(
            f"{what}: {key or 'what was given'!r} is {kind_of(value)} that could not be read: {error}"
        ) from error
    if items is not None:
        return {name: open_up(item, what, f"{key}.{name}" if key else str(name)) for name, item in items}
    if isinstance(held, (list, tuple)):
        return [item if type(item) in _PLAIN else open_up(item, what, f"{key}[{i}]") for i, item in enumerate(held)]
    return held


def _held_by(value: object) -> object:
    """Return the content of a value that holds settings as a dict, list or text; other values unchanged."""
    kind = type(value)
    if callable(getattr(kind, "get_secret_value", None)):
        return str(value)  # pydantic's secrets, which mask themselves
    if _top(kind) == "omegaconf":
        return _omegaconf(value)
    if isinstance(value, type):
        return _params_proto(value) if _top(kind) == "params_proto" else attributes(value)
    for test, read in _READERS:
        if test(value, kind):
            return read(value)
    return value


def attributes(cls: type) -> dict[str, object]:
    """Return the public data attributes of a class and its bases: no methods, properties or other descriptors."""
    public: dict[str, object] = {}
    for base in reversed(cls.__mro__[:-1]):
        public.update({key: value for key, value in vars(base).items() if not key.startswith("_")})
    return {key: value for key, value in public.items() if isinstance(value, type) or not _is_behaviour(value)}


def _is_behaviour(value: object) -> bool:
    return callable(value) or isinstance(value, (property, classmethod, staticmethod)) or hasattr(value, "__get__")


def _top(kind: type) -> str:
    """Return the top-level package of a class."""
    return str(kind.__module__).partition(".")[0]


def _omegaconf(value: object) -> object:
    """Return the config with resolved interpolations; a missing value stays ``???``."""
    library = sys.modules["omegaconf"]
    return library.OmegaConf.to_container(value, resolve=True) if library.OmegaConf.is_config(value) else value


def _is_params_proto(_: object, kind: type) -> bool:
    """An instance (the class of its class is the library's), or a function with parameters."""
    return "params_proto" in {_top(kind), _top(type(kind))}


def _params_proto(value: Any) -> dict[str, object]:
    """Return values of params-proto: version 2 has them in ``vars``, version 3 as attributes over defaults."""
    own = getattr(value, "_dict", None)
    held = attributes(value) if isinstance(value, type) else {k: v for k, v in vars(value).items() if k[:1] != "_"}
    for name in own if isinstance(own, dict) else ():
        held[name] = getattr(value, name)
    return {name: item for name, item in held.items() if isinstance(item, type) or not _is_behaviour(item)}


def _fields(value: object, names: list[str]) -> dict[str, object]:
    """Return the fields that are set: one with ``init=False`` may be missing."""
    items = {name: getattr(value, name, _MISSING) for name in names}
    return {name: item for name, item in items.items() if item is not _MISSING}


def _is_argparse(value: object, _: type) -> bool:
    argparse = sys.modules.get("argparse")
    return argparse is not None and isinstance(value, argparse.Namespace)


def _absl(value: Any) -> dict[str, object]:
    """Return the flags of the program, without those that absl itself defines."""
    modules = value.flags_by_module_dict()
    return {
        flag.name: flag.value
        for name, flags in modules.items()
        if str(name).partition(".")[0] != "absl"
        for flag in flags
    }


def _is_pydantic_leaf(_: object, kind: type) -> bool:
    """Whether it is a value such as a URL, whose settings are its text."""
    return _top(kind) in {"pydantic", "pydantic_core"} and any("__str__" in vars(base) for base in kind.__mro__[:-1])


_READERS: tuple[tuple[Any, Any], ...] = (
    (lambda value, _: isinstance(value, Mapping), lambda value: value),
    (_is_params_proto, _params_proto),
    (lambda _, kind: hasattr(kind, "__pydantic_validator__") and hasattr(kind, "model_dump"), lambda v: v.model_dump()),
    (
        lambda _, kind: hasattr(kind, "__attrs_attrs__"),
        lambda value: _fields(value, [attribute.name for attribute in type(value).__attrs_attrs__]),
    ),
    (
        lambda _, kind: dataclasses.is_dataclass(kind),
        lambda value: _fields(value, [field.name for field in dataclasses.fields(value)]),
    ),
    (lambda _, kind: hasattr(kind, "__fields__") and hasattr(kind, "__validators__"), lambda value: value.dict()),
    (_is_argparse, lambda value: dict(vars(value))),
    (lambda value, _: isinstance(value, types.SimpleNamespace), lambda value: dict(vars(value))),
    (lambda value, _: isinstance(value, tuple) and hasattr(value, "_asdict"), lambda value: value._asdict()),
    (lambda _, kind: _top(kind) == "absl" and hasattr(kind, "flags_by_module_dict"), _absl),
    (_is_pydantic_leaf, str),
)
"""Pairs of a test of a value and its class, and a function that reads the value. The first match counts."""
