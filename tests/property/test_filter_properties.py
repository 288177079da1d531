"""Conditions on runs: any text, any tree."""

from __future__ import annotations

from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from ml_dash.catalog.filter import (
    FIELDS,
    STATUSES,
    And,
    Comparison,
    Condition,
    Has,
    Not,
    Or,
    Prefix,
    Value,
    all_of,
    parse,
)
from ml_dash.catalog.matching import matcher
from ml_dash.errors import InvalidValueError
from tests.unit.test_filter import NOW, Run

PIECES = [
    *FIELDS,
    *STATUSES,
    *(
        "and",
        "OR",
        "not",
        "in",
        "is",
        "has",
        "missing",
        "since",
        "until",
        "(",
        ")",
        ",",
        "=",
        "!=",
        "<",
        ">=",
        "~",
        "!~",
    ),
    *(
        "lr",
        "alice/*",
        "1e-3",
        "2d",
        "2026-03-01",
        "train/loss.min",
        "params.x",
        "`odd name`",
        "'text'",
        '"',
        "'",
        "`",
        "!",
    ),
]

NAMES = st.sampled_from([*FIELDS, "lr", "train/loss", "model.name", "odd name", "a`b", "3", "and", "!x", "params.lr"])
TEXTS = st.text(st.characters(codec="utf-8"), max_size=8)


@st.composite
def comparisons(draw: st.DrawFn) -> Condition:
    """Any comparison that the grammar has."""
    name = draw(NAMES)
    kind = FIELDS.get(name)
    values: st.SearchStrategy[str] = {
        "status": st.sampled_from(STATUSES),
        "time": st.sampled_from(["2d", "2026-03-01", "5 min", "2026-03-01T00:00:00Z"]),
        "span": st.sampled_from(["2d", "90", "5 min"]),
    }.get(kind or "", TEXTS)
    signs = {"time": ["=", "<", ">="], "span": ["=", "<", ">="], "status": ["=", "!="], "list": ["has", "=", "~", "!~"]}
    sign = draw(st.sampled_from([*signs.get(kind or "", ["=", "!=", "<", "<=", ">", ">=", "~", "!~"]), "in", "not in"]))
    if name in ("prefix", "run") and sign in ("=", "!=", "in", "not in"):
        return Prefix(draw(values))
    count = draw(st.integers(1, 3)) if sign.endswith("in") else 1
    return Comparison(name, sign, tuple(Value(draw(values), is_quoted=True) for _ in range(count)))


def _joined(parts: st.SearchStrategy[Condition]) -> st.SearchStrategy[Condition]:
    several = st.lists(parts, min_size=2, max_size=3)
    return st.one_of(parts.map(Not), several.map(all_of), several.map(_any_of))


def _any_of(parts: list[Condition]) -> Condition:
    return Or(tuple(part for one in parts for part in (one.parts if isinstance(one, Or) else (one,))))


TREES = st.recursive(st.one_of(comparisons(), NAMES.map(Has), TEXTS.map(Prefix)), _joined, max_leaves=8)

RUNS = st.builds(
    Run,
    status=st.sampled_from(["", "running", "failed"]),
    tags=st.lists(TEXTS, max_size=2),
    ended=st.none() | st.just(NOW),
    params=st.dictionaries(NAMES, st.none() | st.booleans() | st.integers() | st.floats() | TEXTS | st.lists(TEXTS)),
)


@given(st.one_of(st.text(), st.lists(st.sampled_from(PIECES), max_size=12).map(" ".join)))
@example("a < |")
def test_any_text_is_a_condition_that_can_be_asked_and_written_or_an_invalid_value(text: str) -> None:
    try:
        tree = parse(text)
    except InvalidValueError:
        return
    assert tree == parse(str(tree))
    assert matcher(tree, NOW)(Run()) in (True, False)


@given(TREES, RUNS)
def test_a_tree_is_the_tree_of_its_text(tree: Condition, run: Any) -> None:
    again = parse(str(tree))

    assert tree == again
    assert matcher(tree, NOW)(run) == matcher(again, NOW)(run)


@given(TREES, TREES, RUNS)
def test_the_laws_of_de_morgan_hold(one: Condition, other: Condition, run: Any) -> None:
    def fits(tree: Condition) -> bool:
        return matcher(tree, NOW)(run)

    assert fits(Not(And((one, other)))) == fits(Or((Not(one), Not(other))))
    assert fits(Not(Or((one, other)))) == fits(And((Not(one), Not(other))))
    assert fits(Not(Not(one))) == fits(one)
