"""Objects that hold settings, as plain dicts: whatever library they come from, and without loading it."""

from __future__ import annotations

import dataclasses
import sys
import types
from collections.abc import Mapping
from typing import Any

from ml_dash.errors import InvalidTypeError, InvalidValueError, MlDashError
from ml_dash.records.values import to_plain

_PLAIN = frozenset({type(None), bool, int, float, str})
_MISSING = object()


def as_mapping(source: object, what: str) -> Mapping[str, Any]:
    """What was given as a dict of what can be stored, or of what ``to_plain`` names the key of.

    Args:
        source: a dict, or an object or class that holds settings.
        what: what is being stored, for the error text.

    Raises:
        InvalidTypeError: it holds no settings.
        InvalidValueError: it could not be read; the text names the key.
    """
    opened = open_up(source, what)
    plain = opened if isinstance(opened, Mapping) else to_plain(opened, what)
    if not isinstance(plain, Mapping):
        raise InvalidTypeError(
            f"{what}: {source!r:.80} is a {type(source).__name__}; pass a dict, a dataclass, a namespace, a class, "
            "a config object or keywords"
        )
    return plain


def open_up(value: object, what: str, key: str = "") -> Any:
    """Objects and classes that hold settings as dicts, at any depth; everything else as it is.

    Args:
        value: anything.
        what: what is being stored, for the error text.
        key: where the value is, for the error text.

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
    except Exception as error:  # a getter, an interpolation, a validator of somebody else's
        raise InvalidValueError(
            f"{what}: {key or 'what was given'!r} is a {type(value).__name__} that could not be read: {error}"
        ) from error
    if items is not None:
        return {name: open_up(item, what, f"{key}.{name}" if key else str(name)) for name, item in items}
    if isinstance(held, (list, tuple)):
        return [item if type(item) in _PLAIN else open_up(item, what, f"{key}[{i}]") for i, item in enumerate(held)]
    return held


def _held_by(value: object) -> object:
    """The dict, list or text that stands for a value; the value itself if nothing does."""
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
    """Public attributes of a class and its bases that are data: no methods, no properties, no descriptors."""
    found: dict[str, object] = {}
    for base in reversed(cls.__mro__[:-1]):
        found.update({key: value for key, value in vars(base).items() if not key.startswith("_")})
    return {key: value for key, value in found.items() if isinstance(value, type) or not _is_behaviour(value)}


def _is_behaviour(value: object) -> bool:
    return callable(value) or isinstance(value, (property, classmethod, staticmethod)) or hasattr(value, "__get__")


def _top(kind: type) -> str:
    """The package that a class comes from."""
    return str(kind.__module__).partition(".")[0]


def _omegaconf(value: object) -> object:
    """Interpolations resolved; a value that is still to be given stays ``???``."""
    library = sys.modules["omegaconf"]
    return library.OmegaConf.to_container(value, resolve=True) if library.OmegaConf.is_config(value) else value


def _is_params_proto(_: object, kind: type) -> bool:
    """An instance (the class of its class is the library's), or a function with parameters."""
    return "params_proto" in {_top(kind), _top(type(kind))}


def _params_proto(value: Any) -> dict[str, object]:
    """Version 2 answers ``vars`` with resolved values, version 3 has them as attributes: overrides before defaults."""
    own = getattr(value, "_dict", None)
    held = attributes(value) if isinstance(value, type) else {k: v for k, v in vars(value).items() if k[:1] != "_"}
    for name in own if isinstance(own, dict) else ():
        held[name] = getattr(value, name)
    return {name: item for name, item in held.items() if isinstance(item, type) or not _is_behaviour(item)}


def _dataclass(value: Any) -> dict[str, object]:
    return _named(value, [field.name for field in dataclasses.fields(value)])


def _attrs(value: Any) -> dict[str, object]:
    return _named(value, [attribute.name for attribute in type(value).__attrs_attrs__])


def _named(value: object, names: list[str]) -> dict[str, object]:
    """The fields that are set: one with ``init=False`` may not be."""
    found = {name: getattr(value, name, _MISSING) for name in names}
    return {name: item for name, item in found.items() if item is not _MISSING}


def _is_argparse(value: object, _: type) -> bool:
    argparse = sys.modules.get("argparse")
    return argparse is not None and isinstance(value, argparse.Namespace)


def _absl(value: Any) -> dict[str, object]:
    """The program's own flags, without those that absl has for itself."""
    modules = value.flags_by_module_dict()
    return {flag.name: flag.value for name, flags in modules.items() if _head(name) != "absl" for flag in flags}


def _head(name: object) -> str:
    return str(name).partition(".")[0]


def _is_pydantic_leaf(_: object, kind: type) -> bool:
    """An address or the like, which only says itself as text."""
    return _top(kind) in {"pydantic", "pydantic_core"} and any("__str__" in vars(base) for base in kind.__mro__[:-1])


_READERS: tuple[tuple[Any, Any], ...] = (
    (lambda value, _: isinstance(value, Mapping), lambda value: value),
    (_is_params_proto, _params_proto),
    (lambda _, kind: hasattr(kind, "__pydantic_validator__") and hasattr(kind, "model_dump"), lambda v: v.model_dump()),
    (lambda _, kind: hasattr(kind, "__attrs_attrs__"), _attrs),
    (lambda _, kind: dataclasses.is_dataclass(kind), _dataclass),
    (lambda _, kind: hasattr(kind, "__fields__") and hasattr(kind, "__validators__"), lambda value: value.dict()),
    (_is_argparse, lambda value: dict(vars(value))),
    (lambda value, _: isinstance(value, types.SimpleNamespace), lambda value: dict(vars(value))),
    (lambda value, _: isinstance(value, tuple) and hasattr(value, "_asdict"), lambda value: value._asdict()),
    (lambda _, kind: _top(kind) == "absl" and hasattr(kind, "flags_by_module_dict"), _absl),
    (_is_pydantic_leaf, str),
)
"""Tests of a value and its class, and how one that passes is read. The first that passes counts."""
