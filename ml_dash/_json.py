"""``json`` and ``orjson``, also for a program with a ``json.py`` in its own folder.

Python would give us that file instead of the real module, and orjson, which imports ``json`` too, would fail with it.
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
    """Whether ``import json`` gives something that is not the standard library's."""
    loaded = sys.modules.get("json")
    if loaded is not None:
        origin = getattr(loaded, "__file__", None)
    else:
        spec = importlib.machinery.PathFinder.find_spec("json")
        origin = spec.origin if spec is not None else None
    return origin is not None and not os.path.abspath(origin).startswith(_LIBRARY)


def _load() -> tuple[ModuleType, ModuleType]:
    if _is_shadowed():
        return _load_past_the_users()
    import json

    import orjson

    return json, orjson


def _load_past_the_users() -> tuple[ModuleType, ModuleType]:
    """Load both with the standard library first, and leave ``import json`` to mean the user's as before."""
    theirs = {name: sys.modules.pop(name) for name in _loaded_names()}
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
        sys.modules.update(theirs)


def _loaded_names() -> list[str]:
    return [name for name in sys.modules if name == "json" or name.startswith("json.")]


if TYPE_CHECKING:
    import json

    import orjson
else:
    json, orjson = _load()
