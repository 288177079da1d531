"""Parameters: one flat document of dotted keys that later calls merge into."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ml_dash.errors import InvalidValueError
from ml_dash.query.params import ParamsReader
from ml_dash.records.record import Kind
from ml_dash.records.values import flatten, to_plain, unflatten
from ml_dash.storage.documents import to_json
from ml_dash.storage.names import closest
from ml_dash.streams.adapters import as_mapping
from ml_dash.streams.base import Owner, RunStream, missing_attribute

_PARAMS = int(Kind.PARAMS)


class Params(RunStream, ParamsReader):
    """The parameters of a run, set by ``exp.params.set(lr=3e-4)`` and read by ``exp.params.get()``."""

    def __init__(self, owner: Owner) -> None:
        super().__init__(owner)
        self._owner = owner

    if not TYPE_CHECKING:  # type checkers refuse both by themselves

        def __getattr__(self, name: str) -> Any:
            instead = (
                None
                if name.startswith("_") or closest(name, ("get", "log", "set", "update"))
                else f"exp.params.get()[{name!r}]"
            )
            raise missing_attribute("Params", name, dir(Params), instead)

        def __setattr__(self, name: str, value: Any) -> None:
            if not name.startswith("_"):
                raise AttributeError(f"Params: {name!r} cannot be assigned; use exp.params.set({name}={value!r:.40})")
            super().__setattr__(name, value)

    def set(self, /, *given: object, **params: object) -> Params:
        """Merge parameters into those of before; the last value of a key counts.

        Args:
            *given: dicts, and what else holds settings: dataclasses, classes (their public attributes), argparse and
                other namespaces, params-proto, pydantic, attrs, OmegaConf, absl flags. The last one of a key counts.
            **params: more of them by name, over those given. Nested ones are stored with dotted keys:
                ``model={"layers": 4}`` is ``model.layers``. An empty dict stays as ``{}``.

        Raises:
            InvalidTypeError: a value cannot be stored; the text names its key, and nothing is written.
            InvalidValueError: a dict or class contains itself, or an object could not be read.
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
            # Already plain: encoding it again would put a second backslash before text that reads like NaN.
            self._owner.channel.publish(_PARAMS, b"", to_json(flat), time.time(), started)
        return self

    log = set
    update = set

    @staticmethod
    def flatten_dict(d: Mapping[str, Any], parent_key: str = "", sep: str = ".") -> dict[str, Any]:
        """A nested dict as one flat dict.

        Args:
            d: the dict; lists in it stay as they are, and an empty dict stays as ``{}``.
            parent_key: put before every key, with ``sep``.
            sep: what joins keys.
        """
        return flatten(d, f"{parent_key}{sep}" if parent_key else "", sep)

    @staticmethod
    def unflatten_dict(d: Mapping[str, Any], sep: str = ".") -> dict[str, Any]:
        """The inverse of ``flatten_dict``. Where ``a`` is a key of its own, ``a.b`` stays as it is beside it.

        Args:
            d: the flat dict.
            sep: what joins keys.
        """
        return unflatten(d, sep)
