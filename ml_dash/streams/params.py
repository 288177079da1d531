"""Parameters: one flat document of dotted keys that later calls merge into."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import Any

from ml_dash.errors import InvalidTypeError, InvalidValueError
from ml_dash.records.record import Kind
from ml_dash.records.values import flatten, to_plain, unflatten
from ml_dash.storage import reading
from ml_dash.storage.documents import to_json
from ml_dash.streams.owner import Owner

_PARAMS = int(Kind.PARAMS)


class Params:
    """The parameters of a run."""

    def __init__(self, owner: Owner) -> None:
        self._owner = owner

    def set(self, /, *given: object, **params: object) -> Params:
        """Merge parameters into those of before; the last value of a key counts.

        Args:
            *given: dicts, dataclasses, argparse namespaces, or classes (their public attributes).
            **params: more of them by name. Nested ones are stored with dotted keys: ``model={"layers": 4}`` is
                ``model.layers``.

        Raises:
            InvalidTypeError: a value cannot be stored; the text names its key, and nothing is written.
            InvalidValueError: a dict or class contains itself.
            ExperimentError: the experiment is not open.
        """
        started = time.perf_counter_ns()
        try:
            merged: dict[str, Any] = {}
            for source in given:
                merged.update(_as_mapping(source))
            plain = {key: _opened(value) for key, value in (merged | params).items()}
        except RecursionError:
            raise InvalidValueError("params: a dict or class contains itself; store a flatter value") from None
        flat = flatten(to_plain(plain, "params"))
        if flat:
            # Already plain: encoding it again would put a second backslash before text that reads like NaN.
            self._owner.channel.publish(_PARAMS, b"", to_json(flat), time.time(), started)
        return self

    log = set
    update = set

    def get(self, flatten: bool = True) -> dict[str, Any]:
        """Every parameter so far, those just set included.

        Args:
            flatten: True for dotted keys, False for nested dicts.
        """
        self._owner.flush()
        flat = reading.read_parameters(self._owner.folder)
        return flat if flatten else unflatten(flat)


def _as_mapping(source: object) -> Mapping[str, Any]:
    opened = _opened(source)
    plain = opened if isinstance(opened, Mapping) else to_plain(opened, "params")
    if not isinstance(plain, Mapping):
        raise InvalidTypeError(
            f"params: {source!r:.80} is a {type(source).__name__}; pass a dict, a dataclass, a namespace, a class or keywords"
        )
    return plain


def _opened(value: object) -> object:
    """Classes and namespaces as dicts; everything else as it is."""
    argparse = sys.modules.get("argparse")
    if argparse is not None and isinstance(value, argparse.Namespace):
        return {key: _opened(item) for key, item in vars(value).items()}
    if isinstance(value, type):
        return {key: _opened(item) for key, item in _attributes(value).items()}
    if isinstance(value, Mapping):
        return {key: _opened(item) for key, item in value.items()}
    return value


def _attributes(cls: type) -> dict[str, object]:
    """Public attributes of a class and its bases that are data: no methods, no properties, no descriptors."""
    found: dict[str, object] = {}
    for base in reversed(cls.__mro__[:-1]):
        found.update({key: value for key, value in vars(base).items() if not key.startswith("_")})
    return {key: value for key, value in found.items() if isinstance(value, type) or not _is_behaviour(value)}


def _is_behaviour(value: object) -> bool:
    return callable(value) or isinstance(value, (property, classmethod, staticmethod)) or hasattr(value, "__get__")
