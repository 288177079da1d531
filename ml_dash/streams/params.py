"""Parameters: one flat document of dotted keys that later calls merge into."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ml_dash.errors import InvalidTypeError, InvalidValueError
from ml_dash.query.params import ParamsReader
from ml_dash.records.record import Kind
from ml_dash.records.values import flatten, to_plain, unflatten
from ml_dash.storage.documents import to_json
from ml_dash.storage.names import closest, missing_attribute
from ml_dash.streams.adapters import as_mapping
from ml_dash.streams.base import Owner, RunStream

_PARAMS = int(Kind.PARAMS)


class Params(RunStream, ParamsReader):
    """The parameters of a run: ``exp.params.set(lr=3e-4)`` sets them, ``exp.params.get()`` reads them."""

    def __init__(self, owner: Owner) -> None:
        super().__init__(owner)
        self._owner = owner

    if not TYPE_CHECKING:  # type checkers report both

        def __getattr__(self, name: str) -> Any:
            instead = (
                None
                if name.startswith("_") or closest(name, ("get", "log", "set", "update"))
                else f"exp.params.get()[{name!r}]"
            )
            raise missing_attribute("Params", name, dir(Params), instead)

        def __getitem__(self, name: object) -> Any:
            raise InvalidTypeError(f"exp.params has no items; read them with exp.params.get()[{name!r:.40}]")

        def __setitem__(self, name: object, value: Any) -> None:
            raise InvalidTypeError(f"exp.params has no items; use exp.params.set({{{name!r:.40}: {value!r:.40}}})")

        def __setattr__(self, name: str, value: Any) -> None:
            if not name.startswith("_"):
                raise AttributeError(f"Params: {name!r} cannot be assigned; use exp.params.set({name}={value!r:.40})")
            super().__setattr__(name, value)

    def set(self, /, *given: object, **params: object) -> Params:
        """Add parameters to those that were set before; a key that is set again gets the new value.

        Args:
            *given: dicts, dataclasses, classes (their public attributes), argparse and other namespaces, and objects of
                params-proto, pydantic, attrs, OmegaConf and absl flags. A later one overrides the keys of an earlier
                one.
            **params: parameters by name; they override the keys of ``given``. Nested values get dotted keys:
                ``model={"layers": 4}`` is ``model.layers``. An empty dict stays as ``{}``.

        Returns:
            The parameters.

        Raises:
            InvalidTypeError: a value cannot be stored; the text names its key, and nothing is written.
            InvalidValueError: a dict or class contains itself, or an object could not be read; nothing is written.
            ExperimentError: the experiment is not open.
        """
        started = time.perf_counter_ns()
        flat: dict[str, Any] = {}
        try:
            for source in (*given, params):
                flat |= flatten(to_plain(as_mapping(source, "params"), "params"))
        except RecursionError:
            raise InvalidValueError("params: a dict or class contains itself; store a flatter value") from None
        if flat:
            # Not encode(): the values are plain, and it would escape text that reads like NaN a second time.
            self._owner.channel.publish(_PARAMS, b"", to_json(flat), time.time(), started)
        return self

    log = set
    update = set

    @staticmethod
    def flatten_dict(d: Mapping[str, Any], parent_key: str = "", sep: str = ".") -> dict[str, Any]:
        """Return a nested dict as one flat dict.

        Args:
            d: the dict. Lists in it are not flattened, and an empty dict stays as ``{}``.
            parent_key: the beginning of every key, followed by ``sep``; default none.
            sep: joins the keys of nested dicts.
        """
        return flatten(d, f"{parent_key}{sep}" if parent_key else "", sep)

    @staticmethod
    def unflatten_dict(d: Mapping[str, Any], sep: str = ".") -> dict[str, Any]:
        """Return a flat dict as a nested one. If ``a`` has a value, a key ``a.b`` is not nested.

        Args:
            d: the flat dict.
            sep: separates the keys of nested dicts.
        """
        return unflatten(d, sep)
