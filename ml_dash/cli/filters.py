"""The options of ``ls`` that choose runs, as one condition."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ml_dash._json import json
from ml_dash.catalog.filter import (
    PARAMETER,
    Comparison,
    Condition,
    Prefix,
    Value,
    all_of,
    parse,
)
from ml_dash.catalog.literals import TIMES, time_of
from ml_dash.cli.exits import WrongCallError

_COMPARISON = re.compile(r"([^=<>!~]+)(>=|<=|!=|==|=|>|<|~)(.*)", re.DOTALL)
_EQUALITY = frozenset({"=", "!="})
_SIGNS = ("=", "<", ">", "~", "!=")


def options_condition(
    where: str | None,
    match: str | None,
    tags: Sequence[str],
    statuses: Sequence[str],
    params: Sequence[str],
    since: str | None,
    until: str | None,
) -> Condition:
    """One condition that is met by the runs that meet every option.

    Raises:
        InvalidValueError: ``where`` is no condition.
        WrongCallError: another option cannot be read.
    """
    parts = [parse(where)] if where is not None else []
    parts += [Prefix(match)] if match is not None else []
    parts += [Comparison("tags", "has", (Value(tag, is_quoted=True),)) for tag in tags]
    if statuses:
        parts.append(Comparison("status", "in", tuple(map(Value, statuses))))
    for option, sign, text in (("--since", ">=", since), ("--until", "<=", until)):
        if text is not None:
            if time_of(text) is None:
                raise WrongCallError(f"{option} {text!r} is no time; write {TIMES}")
            parts.append(Comparison("created", sign, (Value(text, is_quoted=True),)))
    return all_of([*parts, *map(parameter_condition, params)])


def parameter_condition(text: str) -> Comparison:
    """The condition of ``--param``, such as ``lr>1e-4``. The value needs no quotes; in quotes it is text.

    Raises:
        WrongCallError: it is none.
    """
    parts = _COMPARISON.fullmatch(text)
    name, sign, value = (part.strip() for part in parts.groups()) if parts else ("", "", "")
    sign = "=" if sign == "==" else sign
    # Only text can be equal to nothing, and a value that begins with a sign is a slip unless it is in quotes.
    if not name or (not value and sign not in _EQUALITY) or value.startswith(_SIGNS):
        raise WrongCallError(
            f"--param {text!r} is no condition; write lr=0.001, 'lr>1e-4', 'env!=Hopper' or 'env~walk', "
            "and text that begins with a sign in quotes: 'name=\">x\"'"
        )
    try:
        literal = json.loads(value)
    except (ValueError, RecursionError):
        literal = None
    is_text = isinstance(literal, str)
    return Comparison(PARAMETER + name, sign, (Value(literal if is_text else value, is_text),))
