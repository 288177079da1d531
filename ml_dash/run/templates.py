"""Expand templates of prefixes and names, ``{user}/{now:%Y}/{EXP.id}``, by Python's format rules. Pure.

The fields come from a mapping, which may compute a value only when it is read.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from typing import Any

from ml_dash.errors import ConfigurationError
from ml_dash.storage.names import closest, quote


class _Exp:
    """The object `EXP` in `{EXP.name}`; it has the same fields as without `EXP.`."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = values

    def __getattr__(self, name: str) -> Any:
        return _field(name, self._values)


@functools.cache
def _formatter() -> Any:
    """Return a formatter for named fields; a field without a value is an error, not the text `None`."""
    import string  # compiles a pattern; most prefixes are no templates

    class Formatter(string.Formatter):
        def get_value(self, key: int | str, args: Any, kwargs: Mapping[str, Any]) -> Any:  # noqa: ARG002 - string's own
            if not isinstance(key, str):
                raise ConfigurationError(
                    "a field has no name; write for example {user}, or {{}} for the braces themselves"
                )
            return _Exp(kwargs) if key == "EXP" else _field(key, kwargs)

    return Formatter()


def _field(name: str, values: Mapping[str, Any]) -> Any:
    fields = list(values)
    if name not in fields:
        raise ConfigurationError(f"there is no field {name!r}; {advice(name, fields)}")
    value = values[name]
    if value is None:
        raise ConfigurationError(f"the field {name!r} has no value; set RUN.{name} or leave it out")
    return value


def advice(name: str, fields: Iterable[str]) -> str:
    """Return advice on a name that does not exist: the closest field, or all of them."""
    known = sorted(fields)
    near = closest(name, known)
    return f"did you mean {near!r}?" if near else f"there are: {', '.join(known)}"


def expand(template: str, values: Mapping[str, Any], where: str) -> str:
    """Return the template with its fields replaced.

    Args:
        template: the text; one without braces is returned unchanged.
        values: every field by its name; `{EXP.name}` is the same as `{name}`.
        where: the name of the setting, for error texts.

    Raises:
        ConfigurationError: a field does not exist or has no value, or the template is broken; the text quotes it.
    """
    if "{" not in template and "}" not in template:
        return template
    try:
        expanded: str = _formatter().vformat(template, (), values)
    except (ValueError, TypeError, AttributeError, LookupError) as error:
        raise ConfigurationError(f"{where} = {quote(template)} cannot be expanded: {error}") from error
    return expanded
