"""``json`` and ``orjson``, also for a program with a ``json.py`` in its own folder.

An ordinary ``import json`` would import that file, and orjson, which imports ``json`` itself, would fail.
"""

from __future__ import annotations

import importlib.machinery
import os
import sys
from types import ModuleType
from typing import TYPE_CHECKING

__all__ = ["json", "orjson"]

_LIBRARY = os.path.dirname(os.__file__)


def _is_shadowed() -> bool:
    """Whether ``import json`` imports another module than the standard library's."""
    loaded = sys.modules.get("json")
    if loaded is not None:
        origin = getattr(loaded, "__file__", None)
    else:
        spec = importlib.machinery.PathFinder.find_spec("json")
        origin = spec.origin if spec is not None else None
    return origin is not None and not os.path.abspath(origin).startswith(_LIBRARY)


def _load() -> tuple[ModuleType, ModuleType]:
    if _is_shadowed():
        return _load_before_the_users()
    import json

    import orjson

    return json, orjson


def _load_before_the_users() -> tuple[ModuleType, ModuleType]:
    """Load both with the standard library first on the path; afterwards ``import json`` is the user's module again."""
    shadowing = {name: sys.modules.pop(name) for name in _loaded_names()}
    path = list(sys.path)
    sys.path[:] = sorted(path, key=lambda entry: not str(entry).startswith(_LIBRARY))
    try:
        import json

        import orjson

        return json, orjson
    finally:
        sys.path[:] = path
        for name in _loaded_names():
            del sys.modules[name]
        sys.modules.update(shadowing)


def _loaded_names() -> list[str]:
    return [name for name in sys.modules if name == "json" or name.startswith("json.")]


if TYPE_CHECKING:
    import json

    import orjson
else:
    json, orjson = _load()
