"""Check the names of a condition against the runs of a tree, and name the nearest that there are."""

from __future__ import annotations

import glob
import itertools
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from ml_dash._printable import clean
from ml_dash.catalog.filter import (
    FIELDS,
    METRIC,
    PARAMETER,
    STATISTICS,
    WILDCARDS,
    And,
    Comparison,
    Condition,
    Has,
    Not,
    Or,
    Predicate,
    Prefix,
    leaves,
)
from ml_dash.catalog.literals import number_of
from ml_dash.catalog.matching import MISSING, getter, is_group, matcher
from ml_dash.catalog.rows import Row, last_values
from ml_dash.errors import InvalidValueError
from ml_dash.storage.metric_reading import metric_names
from ml_dash.storage.names import closest

SAMPLED_RUNS = 50
"""Runs, the last ones, whose metrics are compared with a name that is unknown."""

NAMED = 20
"""Names that a message lists if none is close."""

_YES_AND_NO = frozenset({"yes", "no", "on", "off"})


def checked(condition: Condition, rows: Sequence[Row]) -> Condition:
    """Check each name of a condition, and read a glob that is the exact prefix of a run as that prefix.

    Args:
        condition: what runs are to meet.
        rows: every run of the tree. Parameters and metrics are read of runs until each name was seen once.

    Returns:
        The condition to ask.

    Raises:
        InvalidValueError: no run has a parameter, metric or group of a name, or its values are of another type than the
            value beside it; the text names the nearest names. A tree without runs has every name.
    """
    if rows:
        for leaf in leaves(condition):
            if isinstance(leaf, Prefix):
                _check_word(leaf.pattern, rows)
            elif isinstance(leaf, Predicate) or leaf.name not in FIELDS:
                _check_name(leaf, rows)
    return with_exact_prefixes(condition, rows)


def with_exact_prefixes(condition: Condition, rows: Sequence[Row]) -> Condition:
    """Return a condition in which a glob that is the exact prefix of runs is that prefix."""
    match condition:
        case Not(part):
            return Not(with_exact_prefixes(part, rows))
        case And(parts):
            return And(tuple(with_exact_prefixes(part, rows) for part in parts))
        case Or(parts):
            return Or(tuple(with_exact_prefixes(part, rows) for part in parts))
        case Prefix(pattern) if not WILDCARDS.isdisjoint(pattern):
            prefix = glob.escape(pattern.strip("/"))
            exact = Or((Prefix(prefix), Prefix(f"{prefix}/*")))
            if any(map(matcher(exact), rows)):
                # A name with brackets alone is meant as it stands; a run called "*" must not hide the others.
                return exact if WILDCARDS & set(pattern) == {"["} else Or((*exact.parts, condition))
    return condition


def _check_word(word: str, rows: Sequence[Row]) -> None:
    """Refuse a word that is no prefix of a run but a name, as in ``gpu`` for ``gpu = true``."""
    is_plain = bool(word) and WILDCARDS.isdisjoint(word)
    if not is_plain or any(map(matcher(Prefix(word)), rows)):
        return
    shown = str(Has(word))
    if word in FIELDS or is_known(word, rows) or any(is_group(word, row) for row in rows):
        raise InvalidValueError(
            f"no run has the prefix {word!r:.80}, but this is the name of a value; compare it, as in "
            f"{shown[4:-1]} = true, or write {shown}"
        )


def _check_name(leaf: Comparison | Has | Predicate, rows: Sequence[Row]) -> None:
    name = PARAMETER + leaf.parameter if isinstance(leaf, Predicate) else leaf.name
    if is_known(name, rows):
        if isinstance(leaf, Comparison):
            _check_values(leaf, rows)
        return
    group = next((row for row in rows if is_group(name, row)), None)
    if group is None:
        raise InvalidValueError(_unknown(name, rows))
    if not isinstance(leaf, Has):
        inner = name.removeprefix(PARAMETER).removeprefix(METRIC)
        below = [
            known for known in [*group.params, *_metric_fields(group)] if known.startswith((f"{inner}.", f"{inner}/"))
        ]
        raise InvalidValueError(
            f"{inner!r:.80} is a group of values; compare one of them: {', '.join(map(clean, below[:NAMED]))}"
        )


def _unknown(name: str, rows: Sequence[Row]) -> str:
    if name.startswith(PARAMETER):
        parameter = name.removeprefix(PARAMETER)
        return (
            f"no run has a parameter {parameter!r:.80}; {_advice(parameter, _parameters(rows), 'the parameters are')}"
        )
    if name.startswith(METRIC):
        metric = name.removeprefix(METRIC)
        logged = _distinct(map(_metric_fields, rows[-SAMPLED_RUNS:]))
        return f"no run has a metric {metric!r:.80}; {_advice(metric, logged, 'the values of metrics are')}"
    if "/" in name and any(row.prefix.startswith(name) for row in rows):
        return f"no run has a parameter or a metric {name!r:.80}; write a prefix that has signs in it in quotes"
    near = nearest(name, rows, FIELDS)
    if near and unicodedata.normalize("NFC", near) == unicodedata.normalize("NFC", name):
        return f"no run has a parameter or a metric {name!a}, but {near!a} looks the same; write that one"
    advice = f"did you mean {near!r}?" if near else _listed("there is", [*FIELDS, *_parameters(rows)])
    return f"no run has a parameter or a metric {name!r:.80}; {advice}"


def _check_values(comparison: Comparison, rows: Sequence[Row]) -> None:
    """Refuse to compare a number with a word such as ``1_000`` that was meant as one, and text with a number."""
    values = [
        value for value in comparison.values if _is_word_beside_a_number(comparison.sign, value.text, value.is_quoted)
    ]
    is_order = comparison.sign[0] in "<>"
    numbers = [
        value for value in comparison.values if is_order and not value.is_quoted and number_of(value.text) is not None
    ]
    if not values and not numbers:
        return
    value_of = getter(comparison.name)
    example: Any = None
    for row in rows:
        found = value_of(row)
        if found is MISSING:
            continue
        is_number = isinstance(found, (int, float)) and not isinstance(found, bool)
        is_other = not is_number and (is_order or not isinstance(found, bool))
        if (values and is_other) or (numbers and not isinstance(found, str)):
            return
        example = found if example is None else example
    if example is None:
        return
    if values:
        word = values[0].text
        if isinstance(example, bool):
            raise InvalidValueError(
                f"{comparison.name!r:.80} is true or false, and {word!r:.80} is neither; write true or false, without quotes"
            )
        raise InvalidValueError(
            f"{comparison.name!r:.80} is a number in every run, such as {example!r:.40}, and {word!r:.80} is none; "
            "write digits, such as 1000, 0.1 or 1e-3, without quotes"
        )
    raise InvalidValueError(
        f"{comparison.name!r:.80} is text in every run, such as {example!r:.40}, and has no order with the number "
        f"{numbers[0].text:.80}; write text in quotes"
    )


def _is_word_beside_a_number(sign: str, text: str, is_quoted: bool) -> bool:
    """Whether a value can be no number, though one may be meant: any word for an order, else one with a digit."""
    if sign[0] in "<>":
        return is_quoted or number_of(text) is None
    return (
        sign in ("=", "!=", "in", "not in")
        and not is_quoted
        and number_of(text) is None
        and (any(map(str.isdigit, text)) or text.lower() in _YES_AND_NO)
    )


def unknown_tag(condition: Condition, rows: Sequence[Row]) -> str:
    """A message on the first tag of a condition that no run has; empty if there is none."""
    for leaf in leaves(condition):
        if not isinstance(leaf, Comparison) or (leaf.name, leaf.sign) != ("tags", "has"):
            continue
        tag = leaf.values[0].text
        if not any(tag in row.tags for row in rows):
            return f"no run has the tag {tag!r}; {_advice(tag, _distinct(row.tags for row in rows), 'the tags are')}"
    return ""


def is_known(name: str, rows: Sequence[Row]) -> bool:
    """Whether a run has a parameter of that name, or logged it as METRIC/FIELD, or as a field of the unnamed metric.

    Args:
        name: may begin with ``params.`` or ``metrics.``, and end in ``.min``, ``.max`` or ``.mean``.
        rows: every run.
    """
    parameter = name.removeprefix(PARAMETER)
    metric, _, field = name.removeprefix(METRIC).rpartition("/")
    fields = {field, field.rpartition(".")[0]} if field.endswith(STATISTICS) else {field}

    def is_parameter(row: Row) -> bool:
        return not name.startswith(METRIC) and (parameter in row.params or name in row.params)

    def is_logged(row: Row) -> bool:
        return any(row.last(metric, one) is not None for one in fields)

    tests: list[Callable[[Row], bool]] = [is_parameter]
    if not name.startswith(PARAMETER):
        # Most names with a slash are of metrics; the end of a journal is read before all of it.
        tests = [is_logged, is_parameter] if metric else [is_parameter, is_logged]
    if any(test(row) for row in rows for test in tests):
        return True
    return not name.startswith(PARAMETER) and any(row.metric(name.removeprefix(METRIC)) is not None for row in rows)


def nearest(name: str, rows: Sequence[Row], others: Iterable[str]) -> str | None:
    """The closest of the parameters and metrics of runs, and of other names; one that ends in ``/name`` is close too."""
    known = [*others, *_parameters(rows), *_distinct(map(_metric_fields, rows[-SAMPLED_RUNS:]))]
    ends = (f"/{name.lower()}", f".{name.lower()}")
    return closest(name, known) or next((choice for choice in known if choice.lower().endswith(ends)), None)


def _metric_fields(row: Row) -> Iterator[str]:
    for metric in metric_names(row.folder):
        fields = (field for field in last_values(row.folder, metric) if field != "_ts")
        yield from (f"{metric}/{field}" if metric else field for field in fields)


def _parameters(rows: Sequence[Row]) -> list[str]:
    return _distinct(row.params for row in rows)


def _distinct(names: Iterable[Iterable[str]]) -> list[str]:
    return list(dict.fromkeys(itertools.chain.from_iterable(names)))


def _advice(name: str, known: list[str], listing: str) -> str:
    ends = (f"/{name.lower()}", f".{name.lower()}")
    near = closest(name, known) or next((choice for choice in known if choice.lower().endswith(ends)), None)
    if near:
        return f"did you mean {near!r}?"
    return _listed(listing, known) if known else "none has any"


def _listed(listing: str, names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED:,} more" if len(names) > NAMED else ""
    return f"{listing} {', '.join(map(clean, names[:NAMED]))}{more}"
