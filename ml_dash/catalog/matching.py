"""Whether a run meets a condition: syntax tree -> yes or no on the facts of a run. Pure."""

from __future__ import annotations

import fnmatch
import operator
import re
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from ml_dash._json import json
from ml_dash.catalog.filter import (
    FIELDS,
    LIST,
    METRIC,
    NEGATED,
    PARAMETER,
    SPAN,
    STATISTICS,
    TEXT,
    TIME,
    WILDCARDS,
    And,
    Comparison,
    Condition,
    Has,
    Not,
    Or,
    Predicate,
    Prefix,
    Value,
)
from ml_dash.catalog.literals import number_of, period_of, seconds_of
from ml_dash.errors import InvalidValueError

_ORDER: dict[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_JSON_SCALAR = re.compile(r"-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][-+]?\d+)?|true|false|null")
_LITERALS: dict[str, Any] = {"true": True, "false": False, "null": None, "none": None}


class Facts(Protocol):
    """What a condition asks of a run. Times are seconds since 1970, None where they are not known."""

    @property
    def prefix(self) -> str:
        """Path below the root, with slashes."""

    @property
    def project(self) -> str | None:
        """As it was given, else the second segment of the prefix."""

    @property
    def host(self) -> str | None:
        """Name of the machine."""

    @property
    def status(self) -> str:
        """In lower case, empty where the run has none."""

    @property
    def is_live(self) -> bool:
        """Whether a process writes the run now."""

    @property
    def tags(self) -> list[str]:
        """Its tags."""

    @property
    def bindrs(self) -> list[str]:
        """Its bindrs."""

    @property
    def created(self) -> float | None:
        """When it was first opened."""

    @property
    def started(self) -> float | None:
        """When it was last opened."""

    @property
    def ended(self) -> float | None:
        """When it ended."""

    @property
    def duration(self) -> float | None:
        """Seconds that it was open."""

    @property
    def params(self) -> Mapping[str, Any]:
        """Parameters by dotted name."""

    def has_metric(self, name: str) -> bool:
        """Whether it logged to a metric of this name."""

    def metric(self, name: str) -> Any:
        """The value of ``metric/field`` or ``metric/field.min`` (``.max``, ``.mean``); None if there is none."""


def matcher(condition: Condition, now: float | None = None) -> Callable[[Facts], bool]:
    """Return a function that tells whether a run meets a condition. It reads the cheapest facts of a run first.

    Args:
        condition: the tree.
        now: seconds since 1970 from which spans such as ``2d`` count back; None is the time of this call.
    """
    now = time.time() if now is None else now
    match condition:
        case And() | Or():
            tests = [matcher(part, now) for part in sorted(condition.parts, key=_cost)]
            if isinstance(condition, And):
                return lambda run: all(test(run) for test in tests)
            return lambda run: any(test(run) for test in tests)
        case Not():
            test = matcher(condition.part, now)
            return lambda run: not test(run)
        case Prefix():
            return _prefix_test(condition.pattern)
        case Predicate(parameter, accepts):
            return _predicate_test(parameter, accepts)
        case Has():
            return _has_test(condition.name)
        case Comparison():
            return _comparison_test(condition, now)


class _Missing:
    """The type of the sentinel for a missing value: None is a value."""


MISSING = _Missing()
"""Sentinel: the run has no value of that name."""


def _cost(condition: Condition) -> int:
    """Files to read: 0 none, 1 the document, 2 the parameters, 3 the end of a metric, 4 all of a metric."""
    match condition:
        case Prefix():
            return 0
        case Predicate():
            return 2
        case Not():
            return _cost(condition.part)
        case And() | Or():
            return max(map(_cost, condition.parts), default=0)
    if condition.name in FIELDS:
        return 1
    if condition.name.startswith(PARAMETER):
        return 2
    return 4 if condition.name.endswith(STATISTICS) else 3 if "/" in condition.name else 2


def _prefix_test(pattern: str) -> Callable[[Facts], bool]:
    if not WILDCARDS.isdisjoint(pattern):
        return lambda run: fnmatch.fnmatchcase(run.prefix, pattern)
    folder = pattern.strip("/")
    return lambda run: not folder or run.prefix == folder or run.prefix.startswith(f"{folder}/")


def getter(name: str) -> Callable[[Facts], Any]:
    """Return a function that gives a run's value of a name, or ``MISSING``."""
    if name == "name":
        return lambda run: run.prefix.rsplit("/", 1)[-1]
    if name == "owner":
        return lambda run: run.prefix.split("/", 1)[0] if "/" in run.prefix else MISSING
    if name == "status":
        return lambda run: run.status or MISSING
    if name in FIELDS:
        attribute = operator.attrgetter("prefix" if name == "run" else name)
        return lambda run: MISSING if (value := attribute(run)) is None else value

    def value_of(run: Facts) -> Any:
        if not name.startswith(METRIC):
            params = run.params
            plain = name.removeprefix(PARAMETER)
            if plain in params:
                return params[plain]
            if name in params:
                return params[name]
            if name.startswith(PARAMETER):
                return MISSING
        value = run.metric(name.removeprefix(METRIC))
        return MISSING if value is None else value

    return value_of


def _predicate_test(parameter: str, accepts: Callable[[Any], bool]) -> Callable[[Facts], bool]:
    def test(run: Facts) -> bool:
        if parameter not in run.params:
            return False
        value = run.params[parameter]
        try:
            return accepts(value)
        except Exception as error:
            raise InvalidValueError(
                f"params: the function for {parameter!r:.80} failed on the value {value!r:.80} of the run "
                f"{run.prefix!r:.80}: {type(error).__name__}: {error}; let it return True or False for every value"
            ) from error

    return test


def _has_test(name: str) -> Callable[[Facts], bool]:
    value_of, is_list = getter(name), FIELDS.get(name) == LIST
    if name in FIELDS:
        return lambda run: bool(value_of(run)) if is_list else value_of(run) is not MISSING
    return lambda run: is_group(name, run) or value_of(run) is not MISSING


def is_group(name: str, run: Facts) -> bool:
    """Whether a run has parameters below a name, such as ``optimizer.lr`` below ``optimizer``, or a metric of that name."""
    if not name.startswith(METRIC):
        start = f"{name.removeprefix(PARAMETER)}."
        if any(parameter.startswith(start) for parameter in run.params):
            return True
        if name.startswith(PARAMETER):
            return False
    return run.has_metric(name.removeprefix(METRIC))


def _comparison_test(comparison: Comparison, now: float) -> Callable[[Facts], bool]:
    """The test of one comparison. A value that is missing fits none, not even ``!=``."""
    name, kind = comparison.name, FIELDS.get(comparison.name)
    sign = NEGATED.get(comparison.sign, comparison.sign)
    is_fit = sign == comparison.sign
    if name == "status" and sign in ("=", "in"):
        words = {value.text.lower() for value in comparison.values}
        return lambda run: ((run.status or "none") in words or ("live" in words and run.is_live)) == is_fit
    one_of = [_value_test(kind, sign, value, now) for value in comparison.values]
    value_of = getter(name)

    def test(run: Facts) -> bool:
        value = value_of(run)
        if kind == LIST:
            return any(fits(item) for item in value for fits in one_of) == is_fit
        return value is not MISSING and any(fits(value) for fits in one_of) == is_fit

    return test


def _value_test(kind: str | None, sign: str, value: Value, now: float) -> Callable[[Any], bool]:
    if sign == "~":
        part = value.text.casefold()
        return lambda found: part in text_of(found).casefold()
    if kind == TIME:
        # A date alone is a day for "=", and its first moment for an order.
        start, end = period_of(value.text, now)
        return _ordered(sign, start) if sign in _ORDER else lambda found: start <= found < end
    if kind == SPAN:
        seconds = seconds_of(value.text)
        assert seconds is not None, "checked when it was parsed"
        return _ordered(sign, seconds) if sign in _ORDER else lambda found: bool(found == seconds)
    if kind in (TEXT, LIST):
        text = value.text
        return _ordered(sign, text) if sign in _ORDER else lambda found: bool(found == text)
    if sign == "has":
        return lambda found: isinstance(found, list) and any(is_equal(item, value) for item in found)
    if sign in _ORDER:
        return lambda found: is_ordered(found, sign, value)
    return lambda found: is_equal(found, value)


def _ordered(sign: str, limit: Any) -> Callable[[Any], bool]:
    compare = _ORDER[sign]
    return lambda found: compare(found, limit)


def is_equal(found: Any, value: Value) -> bool:
    """Whether a parameter's or metric's value is the one that was written: numbers as numbers, text as text."""
    if isinstance(found, str):
        return found == value.text and (value.is_quoted or _JSON_SCALAR.fullmatch(value.text) is None)
    if isinstance(found, (list, Mapping)):
        try:
            return bool(found == json.loads(value.text)) or text_of(found) == value.text
        except (ValueError, RecursionError):
            return text_of(found) == value.text
    if value.is_quoted:
        return False
    if found is None or isinstance(found, bool):
        literal = _LITERALS.get(value.text.lower(), MISSING)
        return literal is found
    number = number_of(value.text)
    return number is not None and bool(found == number or (found != found and number != number))  # noqa: PLR0124 - NaN


def is_ordered(found: Any, sign: str, value: Value) -> bool:
    """Whether a parameter's or metric's value is in an order, ``< <= > >=``, with the one that was written.

    Values of different types have no order.
    """
    if isinstance(found, str):
        is_text = value.is_quoted or _JSON_SCALAR.fullmatch(value.text) is None
        return is_text and _ORDER[sign](found, value.text)
    if value.is_quoted or isinstance(found, bool) or not isinstance(found, (int, float)):
        return False
    number = number_of(value.text)
    return number is not None and _ORDER[sign](found, number)


def is_same(found: Any, wanted: Any) -> bool:
    """Whether two values are equal as in a condition: NaN is NaN, 1 is 1.0, and no number is a boolean."""
    if isinstance(found, list) and isinstance(wanted, list):
        return len(found) == len(wanted) and all(map(is_same, found, wanted))
    if isinstance(found, bool) or isinstance(wanted, bool):
        return found is wanted
    return bool(found == wanted) or bool(found != found and wanted != wanted)  # noqa: PLR0124 - NaN


def text_of(value: Any) -> str:
    """A value as text, for ``~``."""
    if isinstance(value, str):
        return value
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(text_of, value)) + "]"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {text_of(item)}" for key, item in value.items()) + "}"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return repr(value)
