"""The conditions that a person gives to ``ls``, as functions over its rows. Pure."""

from __future__ import annotations

import datetime
import fnmatch
import operator
import re
from collections.abc import Callable, Sequence
from typing import Any

from ml_dash._json import json
from ml_dash.catalog.rows import Row
from ml_dash.cli.exits import WrongCallError
from ml_dash.cli.formatting import value_text

Condition = Callable[[Row], bool]

_SPAN = re.compile(r"(\d+(?:\.\d+)?) *(s|min|m|h|d|w)")
_SECONDS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_COMPARISON = re.compile(r"(?P<name>[^=<>!~]+?)\s*(?P<sign>>=|<=|!=|==|=|>|<|~)\s*(?P<value>.*)", re.DOTALL)
_ORDER: dict[str, Callable[[Any, Any], bool]] = {
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
}
_EQUALITY = frozenset({"=", "==", "!="})
_SIGNS = ("=", "<", ">", "~", "!=")
_WILDCARDS = frozenset("*?[")


def conditions(
    match: str | None,
    tags: Sequence[str],
    statuses: Sequence[str],
    params: Sequence[str],
    since: str | None,
    until: str | None,
) -> list[Condition]:
    """What a row must meet, the cheapest conditions first.

    Raises:
        WrongCallError: a condition cannot be read.
    """
    found: list[Condition] = []
    if match is not None:
        found.append(by_prefix(match))
    if tags:
        found.append(lambda row: set(tags) <= set(row.tags))
    if statuses:
        wanted = {status.lower().replace("none", "") for status in statuses}
        found.append(lambda row: (row.status in wanted) or ("live" in wanted and row.is_live))
    if since is not None:
        first = moment("--since", since)
        found.append(lambda row: row.created is not None and row.created >= first)
    if until is not None:
        last = moment("--until", until)
        found.append(lambda row: row.created is not None and row.created <= last)
    return found + [_by_param(text) for text in params]


def moment(option: str, text: str) -> float:
    """Seconds since 1970 of ISO text (local time if it has no zone), or of a time span before now such as ``2d``.

    Raises:
        WrongCallError: it is neither.
    """
    span = _SPAN.fullmatch(text.strip())
    now = datetime.datetime.now(datetime.UTC)
    if span:
        return now.timestamp() - float(span[1]) * _SECONDS[span[2]]
    try:
        return datetime.datetime.fromisoformat(text.strip()).astimezone().timestamp()
    except (ValueError, OverflowError):
        raise WrongCallError(
            f"{option} {text!r} is no time; write 90min, 12h, 2d or 1w for so long ago, or a date such as 2026-03-01"
        ) from None


def by_prefix(match: str) -> Condition:
    """As in ``ml_dash.runs``: a glob, or a prefix with everything below it."""
    if not _WILDCARDS.isdisjoint(match):
        return lambda row: fnmatch.fnmatchcase(row.prefix, match)
    wanted = match.strip("/")
    return lambda row: not wanted or row.prefix == wanted or row.prefix.startswith(f"{wanted}/")


def _by_param(text: str) -> Condition:
    name, sign, wanted = comparison(text)
    return lambda row: name in row.params and fits(row.params[name], sign, wanted)


def comparison(text: str) -> tuple[str, str, str]:
    """The parameter, the sign and the value of a condition such as ``lr>1e-4``.

    Raises:
        WrongCallError: it is none.
    """
    parts = _COMPARISON.fullmatch(text)
    name, sign, wanted = (parts[part].strip() for part in ("name", "sign", "value")) if parts else ("", "", "")
    # Only text can be equal to nothing, and a value that begins with a sign is a slip unless it is in quotes.
    if not name or (not wanted and sign not in _EQUALITY) or wanted.startswith(_SIGNS):
        raise WrongCallError(
            f"--param {text!r} is no condition; write lr=0.001, 'lr>1e-4', 'env!=Hopper' or 'env~walk', "
            "and text that begins with a sign in quotes: 'name=\">x\"'"
        )
    return name, sign, wanted


def fits(found: Any, sign: str, wanted: str) -> bool:
    """Whether a parameter's value meets a comparison with what a person wrote."""
    if sign == "~":
        return wanted.casefold() in value_text(found).casefold()
    value = _parsed(wanted, as_number=_is_number(found))
    if sign in _EQUALITY:
        same = _is_number(found) == _is_number(value) and (
            found == value or value_text(found) in {wanted, value_text(value)}
        )
        return same == (sign != "!=")
    if _is_number(found) and _is_number(value):
        return _ORDER[sign](found, value)
    return isinstance(found, str) and not _is_number(value) and _ORDER[sign](found, wanted)


def _parsed(text: str, *, as_number: bool) -> Any:
    """What a person's text means: as JSON; beside a number also what Python reads as one, such as ``.1``."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    try:
        return float(text) if as_number else text
    except ValueError:
        return text


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
