"""A name that an object does not have, answered with what to write instead; and how a stream shows itself."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, ClassVar

from ml_dash.errors import InvalidNameError
from ml_dash.storage.names import closest

if TYPE_CHECKING:
    from ml_dash.streams.owner import Owner


def missing_attribute(kind: str, name: str, known: Iterable[str], instead: str | None = None) -> AttributeError:
    """The error for an attribute that is not there.

    Args:
        kind: what was asked for it, such as a class's name.
        name: the attribute.
        known: the attributes that there are; the closest one is named. Private ones are left out.
        instead: what to write, where that is known better than by likeness.
    """
    text = f"{kind} has no attribute {name!r}"
    if instead is not None:
        text += f"; use {instead}"
    elif not name.startswith("_"):  # such names are asked for by tools, and loading difflib takes a while
        near = closest(name, [other for other in known if not other.startswith("_")])
        text += f"; did you mean {near!r}?" if near else ""
    return AttributeError(text, name=name)  # with the name set, Python adds no second suggestion


def check_time_name(fields: Iterable[str], what: str) -> None:
    """Refuse ``ts`` in a call that gives no ``_ts``: it would be stored as a value, and the time would be another.

    Raises:
        InvalidNameError: it is there.
    """
    if "ts" in fields:
        raise InvalidNameError(
            f"{what}: did you mean _ts=...? The time is given as _ts; a field may be named 'ts' beside it"
        )


class Hinted:
    """Base of the streams: an attribute that is not there is answered with the one that was meant."""

    _instead: ClassVar[dict[str, str]] = {}

    if not TYPE_CHECKING:  # a name that is misspelt stays an error for type checkers

        def __getattr__(self, name: str) -> Any:
            raise missing_attribute(type(self).__name__, name, dir(type(self)), self._instead.get(name))


class OfRun(Hinted):
    """Base of what an experiment has one of: ``exp.params``, ``exp.metrics`` and so on."""

    _owner: Owner

    def __repr__(self) -> str:
        return f"<{type(self).__name__.lower()} of {self._owner.prefix!r}>"
