"""Conditions of ``MLProject.search``: text for ``pandas.DataFrame.query``, checked before it is evaluated.

The text may come from a web page or a command line: only comparisons, arithmetic and the methods named here are
evaluated, so that no text can read a file or run code. Regular expressions are matched by RE2, whose time is proportional
to the text: that of Python can take for ever. Other searches use the grammar of ``catalog.filter``.
"""

from __future__ import annotations

import ast
import keyword
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from ml_dash.errors import InvalidTypeError, InvalidValueError
from ml_dash.query.tables import load_pandas

MAX_LENGTH = 10_000
"""Characters of a condition: a longer one could exhaust the stack of Python's parser."""

SHOWN_COLUMNS = 3
"""Columns named in an error as the nearest ones."""

METHODS = frozenset(
    {"abs", "between", "isin", "isna", "isnull", "notna", "notnull", "round"}  # of a column
    | {"contains", "endswith", "fullmatch", "join", "len", "lower", "match", "startswith", "strip", "upper"}  # of .str
)
ATTRIBUTES = frozenset({"str", "dt", "date", "day", "dayofweek", "hour", "minute", "month", "second", "year"})

_ALLOWED: tuple[type[ast.AST], ...] = (
    *(ast.Expression, ast.BoolOp, ast.UnaryOp, ast.Compare, ast.Constant, ast.List, ast.Tuple, ast.Load),
    *(ast.keyword, ast.boolop, ast.operator, ast.unaryop, ast.cmpop),
)
_OF_LISTS = frozenset({"isna", "isnull", "notna", "notnull"})
_OF_ITEMS = frozenset({"join", "len"})
_OPERATORS = frozenset({"and", "or", "not", "in", "is", "True", "False", "None"})
_FLAGS = {re.IGNORECASE: "i", re.MULTILINE: "m", re.DOTALL: "s"}
_QUOTED = re.compile(r"'(?:\\.|[^'\\])*'|\"(?:\\.|[^\"\\])*\"")
_SINGLE_EQUALS = re.compile(r"(?<![=!<>])=(?!=)")
_LETTER = re.compile(r"[^\W\d]")
_LANGUAGE = (
    "this is the language of pandas, as in status == 'COMPLETED' and lr < 1e-3; runs() takes conditions such as "
    "status = completed and lr < 1e-3"
)
_HINT = "put a name with a dot or a slash into backticks, as in `model.name` == 'CNN' and accuracy > 0.9"


def select_rows(frame: Any, text: str) -> Any:
    """The rows of a ``pandas.DataFrame`` that meet a condition.

    Args:
        frame: the table.
        text: such as ``accuracy > 0.9 and `model.name` == 'CNN'``.

    Raises:
        InvalidTypeError: it is no text.
        InvalidValueError: it is no condition on these columns; the text says why, and names the nearest columns.
    """
    if not isinstance(text, str):
        raise InvalidTypeError(f"query_string={text!r:.80} must be text, such as 'accuracy > 0.9'")
    if not text.strip() or len(text) > MAX_LENGTH:
        raise InvalidValueError(f"a query is text of 1 to {MAX_LENGTH} characters, such as 'accuracy > 0.9'")
    columns = [column for column in frame.columns if isinstance(column, str)]
    plain, names = _without_backticks(" ".join(text.splitlines()), set(columns))
    plain = plain.strip()
    tree = _parsed(text, plain, columns)
    used = _checked(text, plain, tree, names, columns)
    values = {name: frame[column] for name, column in used.items()}
    for name, column in values.items():
        if getattr(column.dtype, "tz", None) is not None:
            values[name] = column.dt.tz_convert(
                None
            )  # in UTC: pandas reads the text beside it as a time without a zone

    def refuse(name: str, what: str) -> InvalidValueError:
        shown = used[name] if name not in names else f"`{used[name]}`"
        return InvalidValueError(
            f"query {text!r:.200}: the column {used[name]!r} {what}; compare their items, as in ('x' in {shown}), "
            f"or how many there are, as in {shown}.str.len() > 0"
        )

    plain, members = _with_membership(plain, tree, values, refuse)
    pd = load_pandas()
    safe = _safe_series(pd)
    columns_in_use = {name: safe(column) for name, column in values.items()}
    return frame[_evaluated(pd, text, plain, columns_in_use | members)]


def _safe_series(pd: Any) -> Any:
    """A ``pandas.Series`` whose regular expressions are matched in linear time, also in what its methods return."""

    def contains(self: Any, pat: str, case: bool = True, flags: int = 0, na: Any = None, regex: bool = True) -> Any:
        return found(self, pat if regex else re.escape(pat), case, flags, na)

    def match(self: Any, pat: str, case: bool = True, flags: int = 0, na: Any = None) -> Any:
        return found(self, rf"\A(?:{pat})", case, flags, na)

    def fullmatch(self: Any, pat: str, case: bool = True, flags: int = 0, na: Any = None) -> Any:
        return found(self, rf"\A(?:{pat})\z", case, flags, na)

    def found(methods: Any, pattern: str, case: bool, flags: int, na: Any) -> Any:
        return _matches(methods._data, pattern, case=case, flags=flags, na=na)  # noqa: SLF001

    methods = {"contains": contains, "match": match, "fullmatch": fullmatch}
    strings = type("SafeStrings", (pd.Series.str,), methods)
    own: dict[str, Any] = {"str": property(strings)}
    own["_constructor"] = property(lambda _: series)
    series = type("SafeSeries", (pd.Series,), own)
    return series


def _matches(column: Any, pattern: str, *, case: bool, flags: int, na: Any) -> Any:
    """For each row whether its text has a match; ``na``, or False, where there is no text.

    Raises:
        ValueError: RE2 cannot read the pattern, or a flag is unknown.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    if flags & ~sum(_FLAGS):
        raise ValueError(f"flags={flags} is none of {', '.join(f'{int(flag)} ({flag.name})' for flag in _FLAGS)}")
    letters = "".join(letter for flag, letter in _FLAGS.items() if flags & flag)
    texts = [value.encode("utf-8", "replace") if isinstance(value, str) else None for value in column.tolist()]
    array = pa.array(texts, pa.large_binary()).cast(pa.large_string())
    whole = f"(?{letters}){pattern}" if letters else pattern
    matches = pc.match_substring_regex(array, pattern=whole, ignore_case=not case)
    filled = [na if match is None and isinstance(na, bool) else bool(match) for match in matches.to_pylist()]
    return type(column)(filled, index=column.index, dtype=bool)


def _without_backticks(text: str, columns: set[str]) -> tuple[str, dict[str, str]]:
    """The text with a plain name for each one in backticks, and the column of each plain name."""
    names: dict[str, str] = {}
    parts: list[str] = []
    for is_name, part in _split(text):
        if not is_name:
            parts.append(part)
            continue
        name = f"column_{len(names)}_"
        while name in columns or name in text:
            name += "_"
        names[name] = part
        parts.append(f" {name} ")
    return "".join(parts), names


def _split(text: str) -> Iterator[tuple[bool, str]]:
    """The parts of a text in turn, and whether each was in backticks. Backticks within quotes do not count."""
    start, quote, position = 0, "", 0
    while position < len(text):
        letter = text[position]
        if quote:
            position += letter == "\\"
            quote = "" if letter == quote else quote
        elif letter in "'\"":
            quote = letter
        elif letter == "@":
            raise InvalidValueError(
                f"query {text!r:.200}: there are no variables (@); write the value itself, and in backticks a name "
                "that has an @"
            )
        elif letter == "`":
            end = text.find("`", position + 1)
            if end < 0:
                raise InvalidValueError(f"query {text!r:.200}: a backtick is not closed; {_HINT}")
            yield False, text[start:position]
            yield True, text[position + 1 : end]
            start, position = end + 1, end
        position += 1
    yield False, text[start:]


def _parsed(text: str, plain: str, columns: Sequence[str]) -> ast.Expression:
    try:
        return ast.parse(plain, mode="eval")
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        hint = _in_backticks(plain, columns)
        if _SINGLE_EQUALS.search(_QUOTED.sub("''", plain)):
            reason = f"write == for equality; {hint}" if hint else "write == for equality"
            raise InvalidValueError(f"query {text!r:.200} cannot be read: {reason}; {_LANGUAGE}") from None
        reason = hint or getattr(error, "msg", None) or str(error)
        raise InvalidValueError(f"query {text!r:.200} cannot be read: {reason}; {_HINT}") from None


def _checked(
    text: str, plain: str, tree: ast.Expression, names: Mapping[str, str], columns: Sequence[str]
) -> dict[str, str]:
    """The columns that are used, by the name in the plain text."""
    called = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    used: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            _check_attribute(text, plain, node, columns, is_called=id(node) in called)
        elif isinstance(node, ast.Name):
            used[node.id] = names.get(node.id, node.id)
        elif not _is_harmless(node):
            raise InvalidValueError(
                f"query {text!r:.200}: {ast.unparse(node)!r:.80} is no part of a condition; {_HINT}"
            )
    for column in used.values():
        if column not in columns:
            hint = _in_backticks(plain, columns) or _nearest(column, columns)
            raise InvalidValueError(f"query {text!r:.200}: there is no column {column!r}; {hint}")
    if not used:
        raise InvalidValueError(f"query {text!r:.200} names no column; compare one, as in accuracy > 0.9")
    return used


def _is_harmless(node: ast.AST) -> bool:
    """Whether it can be evaluated safely: quickly, and calling nothing but methods of columns."""
    if isinstance(node, ast.Call):
        return isinstance(node.func, ast.Attribute)
    if not isinstance(node, ast.BinOp):
        return isinstance(node, _ALLOWED)
    if isinstance(node.op, ast.Pow):  # of numbers alone it could be one of any length
        return isinstance(node.right, ast.Constant) and any(isinstance(part, ast.Name) for part in ast.walk(node.left))
    # Text or a list times a number, and text % a number, would be of any size. pandas refuses that of columns.
    return not isinstance(node.op, (ast.Mult, ast.Mod)) or not any(map(_is_sequence, (node.left, node.right)))


def _is_sequence(node: ast.AST) -> bool:
    """Whether it may be text or a list that is written in the condition."""
    if isinstance(node, ast.Constant):
        return isinstance(node.value, (str, bytes))
    if isinstance(node, ast.BinOp):
        return _is_sequence(node.left) or _is_sequence(node.right)
    if isinstance(node, ast.BoolOp):
        return any(map(_is_sequence, node.values))
    if isinstance(node, ast.Call):
        return _is_sequence(node.func)
    if isinstance(node, ast.Attribute):
        return _is_sequence(node.value)
    if isinstance(node, ast.UnaryOp):
        return _is_sequence(node.operand)
    return isinstance(node, (ast.List, ast.Tuple))


def _is_allowed(node: ast.Attribute, *, is_called: bool) -> bool:
    """Whether it is a known method or attribute of a column. A join of a join could have any size."""
    if node.attr not in (METHODS if is_called else ATTRIBUTES) or _is_sequence(node.value):
        return False
    is_of_column = isinstance(node.value, ast.Attribute) and isinstance(node.value.value, ast.Name)
    return node.attr != "join" or is_of_column


def _check_attribute(text: str, plain: str, node: ast.Attribute, columns: Sequence[str], *, is_called: bool) -> None:
    """Refuse an attribute that is not allowed; a name with a dot gets advice on backticks."""
    if _is_allowed(node, is_called=is_called):
        return
    name = ast.unparse(node)
    if hint := _in_backticks(plain, columns):
        raise InvalidValueError(f"query {text!r:.200}: {hint}; {_HINT}")
    raise InvalidValueError(
        f"query {text!r:.200}: {name!r:.80} is neither a column nor a method that can be used; "
        f"{_nearest(name, columns)}; {_HINT}"
    )


def _evaluated(pd: Any, text: str, plain: str, columns: dict[str, Any]) -> Any:
    """For each row whether it meets the condition."""
    # Without the variables of the caller, and with the engine that needs no further package.
    options = {"local_dict": {}, "global_dict": {}, "resolvers": [columns], "parser": "pandas", "engine": "python"}
    try:
        result = pd.eval(plain.strip(), **options)
    except Exception as error:  # pandas raises many types for values that cannot be compared
        advice = _advice_on_values(columns)
        raise InvalidValueError(f"query {text!r:.200} failed: {type(error).__name__}: {error}; {advice}") from error
    is_series = isinstance(result, pd.Series)
    if is_series and result.dtype == object:
        is_series = set(map(type, result.dropna())) <= {bool}
    elif is_series:
        is_series = pd.api.types.is_bool_dtype(result)
    if not is_series:
        raise InvalidValueError(
            f"query {text!r:.200} gives no yes or no for each run; compare something, as in `lr` > 0.1"
        )
    return result.fillna(False).astype(bool)


def _advice_on_values(columns: Mapping[str, Any]) -> str:
    if any(getattr(column.dtype, "kind", "") == "M" for column in columns.values()):
        return "compare a time with text such as '2026-03-01' or '2026-03-01 12:00', and other values with their type"
    return "compare numbers with numbers, and text with text in quotes"


def _in_backticks(plain: str, columns: Sequence[str]) -> str:
    """Advice on the first column that is named without the backticks that it needs; empty if there is none."""
    bare = _QUOTED.sub("''", plain)
    plain_names = {
        column
        for column in columns
        if column.isidentifier() and (not keyword.iskeyword(column) or column in _OPERATORS)
    }
    odd = [column for column in columns if _LETTER.search(column) and column not in plain_names]
    for column in sorted(odd, key=len, reverse=True):
        if column in bare and re.search(rf"(?<!\w){re.escape(column)}(?!\w)", bare):
            return f"write `{column}` in backticks"
    return ""


def _nearest(name: str, columns: Sequence[str]) -> str:
    import difflib

    by_text = {column.lower(): column for column in columns}
    tails = [column for column in columns if column.lower().endswith((f".{name.lower()}", f"/{name.lower()}"))]
    near = tails or [by_text[text] for text in difflib.get_close_matches(name.lower(), list(by_text), n=SHOWN_COLUMNS)]
    if not near:
        return f"there are {len(columns)} columns, such as {', '.join(map(repr, columns[:SHOWN_COLUMNS]))}; put text in quotes"
    return f"the nearest are {', '.join(f'`{column}`' for column in near[:SHOWN_COLUMNS])}"


def _with_membership(
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
        elif not _is_use_of_lists(node, above) and all(value is None or _is_list(value) for value in lists[node.id]):
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


def _is_use_of_lists(node: ast.Name, above: Mapping[int, ast.AST]) -> bool:
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
