"""Columns of lists in a pandas condition: ``'baseline' in tags``, which pandas would compare with whole lists."""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from typing import Any

_OF_LISTS = frozenset({"isna", "isnull", "notna", "notnull"})
_OF_ITEMS = frozenset({"join", "len"})


def with_membership(
    plain: str, tree: ast.Expression, columns: Mapping[str, Any], refuse: Callable[[str, str], Exception]
) -> tuple[str, dict[str, Any]]:
    """Evaluate each ``<value> in <column>`` of a condition, for columns of lists.

    Args:
        plain: the condition, on one line.
        tree: the parsed condition.
        columns: a ``pandas.Series`` for each name in it.
        refuse: makes the error for any other use of such a column, from its name and the reason.

    Returns:
        The condition with a name in place of each ``<value> in <column>``, and a ``pandas.Series`` of booleans for each.
    """
    above = {id(child): node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
    lists = {name: values for name, column in columns.items() if any(map(_is_list, values := column.tolist()))}
    matches: list[tuple[int, int, Any]] = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.Name) or node.id not in lists:
            continue
        parent = above.get(id(node))
        if isinstance(parent, ast.Compare) and _is_membership(parent, node):
            matches.append((parent.col_offset, parent.end_col_offset or 0, _having(parent, columns[node.id])))
        elif not _is_harmless(node, above) and all(value is None or _is_list(value) for value in lists[node.id]):
            raise refuse(node.id, "holds lists")
    return _replaced(plain, sorted(matches, key=lambda part: part[0], reverse=True), columns)


def _replaced(
    plain: str, matches: list[tuple[int, int, Any]], columns: Mapping[str, Any]
) -> tuple[str, dict[str, Any]]:
    names: dict[str, Any] = {}
    text = plain.encode()  # a tree counts bytes
    for start, end, values in matches:
        name = f"member_{len(names)}_"
        while name in columns or name in plain:
            name += "_"
        names[name] = values
        text = b"%b %b %b" % (text[:start], name.encode(), text[end:])
    return text.decode(), names


def _is_membership(comparison: ast.Compare, column: ast.Name) -> bool:
    is_single = len(comparison.ops) == 1 and comparison.comparators[0] is column
    return (
        is_single and isinstance(comparison.ops[0], (ast.In, ast.NotIn)) and isinstance(comparison.left, ast.Constant)
    )


def _having(comparison: ast.Compare, column: Any) -> Any:
    """For each row whether its list has the item; for a cell that is no list whether it is the item."""
    assert isinstance(comparison.left, ast.Constant)
    item = comparison.left.value
    has = [item in value if _is_list(value) else value == item for value in column.tolist()]
    is_in = isinstance(comparison.ops[0], ast.In)
    return type(column)([bool(one) is is_in for one in has], index=column.index, dtype=bool)


def _is_harmless(node: ast.Name, above: Mapping[int, ast.AST]) -> bool:
    """Whether it is ``tags.isna()``, ``tags.str.len()`` or the like."""
    method = above.get(id(node))
    if not isinstance(method, ast.Attribute):
        return False
    if method.attr != "str":
        return method.attr in _OF_LISTS
    of_items = above.get(id(method))
    return isinstance(of_items, ast.Attribute) and of_items.attr in _OF_ITEMS


def _is_list(value: object) -> bool:
    return isinstance(value, list)
