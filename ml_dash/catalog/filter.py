"""The grammar of conditions on runs, such as ``lr < 1e-3 and tags has ppo``: text -> syntax tree -> text. Pure.

Grammar::

    condition  = and-part { "or" and-part }
    and-part   = not-part { "and" not-part }
    not-part   = "not" not-part | "(" condition ")" | term
    term       = name sign value              sign: = == != < <= > >= ~ !~ has since until
               | name ["not"] "in" "(" value { "," value } ")"
               | "has" "(" name ")" | name "is" ["not"] "missing"
               | prefix or glob

Words that stand for operators may have any case. ``str(tree)`` is text that ``parse`` reads as the same tree.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, NoReturn

from ml_dash.catalog.literals import TIMES, number_of, seconds_of, time_of
from ml_dash.catalog.sign_hints import DOUBLED_SIGNS, STATUS_WORDS, UNICODE_SIGNS, sign_hint
from ml_dash.errors import InvalidTypeError, InvalidValueError
from ml_dash.storage.names import closest

MAX_LENGTH = 10_000
"""Characters of a condition."""

MAX_DEPTH = 50
"""Parentheses and ``not`` within each other: enough for any hand-written text, and far from Python's stack limit."""

MAX_TERMS = 1_000
"""Comparisons, and values in lists, of one condition: each costs about a microsecond for each run."""

STATUSES = ("running", "completed", "failed", "cancelled", "live", "none")
"""What ``status`` is compared with: ``live`` is a running one with a recent heartbeat, ``none`` a run without a status."""

TEXT, LIST, TIME, SPAN, STATUS = "text", "list", "time", "span", "status"
FIELDS = {
    "prefix": TEXT,
    "run": TEXT,
    "name": TEXT,
    "project": TEXT,
    "owner": TEXT,
    "host": TEXT,
    "status": STATUS,
    "tags": LIST,
    "bindrs": LIST,
    "created": TIME,
    "started": TIME,
    "ended": TIME,
    "duration": SPAN,
}
"""The names that every run has, and the kind of their values. Any other name is a parameter or a metric."""

WILDCARDS = frozenset("*?[")
"""Characters that make a prefix a glob."""

PARAMETER, METRIC = "params.", "metrics."
"""Put before a name, they say that it is a parameter's or a metric's, whatever else has that name."""

STATISTICS = (".min", ".max", ".mean")
"""Follow the name of a metric's field; the name alone is its last value."""

_ORDER = frozenset({"<", "<=", ">", ">="})
_EQUAL = frozenset({"=", "!=", "in", "not in"})
_CONTAINS = frozenset({"~", "!~"})
NEGATED = {"!=": "=", "not in": "in", "!~": "~"}
_SIGNS_OF = {
    TEXT: _EQUAL | _CONTAINS | _ORDER,
    STATUS: _EQUAL | _CONTAINS,
    LIST: _EQUAL | _CONTAINS | {"has"},
    TIME: _EQUAL | _ORDER,
    SPAN: _EQUAL | _ORDER,
    None: _EQUAL | _CONTAINS | _ORDER | {"has"},
}
_OPERATOR_WORDS = frozenset({"in", "not", "has", "is", "since", "until"})
_RESERVED = frozenset({"and", "or", "not"})

_TOKEN = re.compile(
    r"""\s*(?:
        (?P<sign>==|!=|<=|>=|!~|=|<|>|~)
      | (?P<mark>[(),])
      | (?P<text>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')
      | (?P<name>`(?:[^`]|``)*`)
      | (?P<word>(?:[^\s()=<>!~,"'`]|!(?![=~]))+)
      | (?P<end>\Z)
    )""",
    re.VERBOSE | re.DOTALL,
)
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)

_SIGNS = ("=", "!=", "<", "<=", ">", ">=", "~", "!~", "in", "not in", "has")
_SHOWN = 120
"""Characters of a condition that an error repeats."""


# ----------------------------------------------------------------------------------------------------- the syntax tree


@dataclass(frozen=True, slots=True)
class Value:
    """What a name is compared with.

    Attributes:
        text: the text, without quotes.
        is_quoted: whether it is text for certain; else it may be a number, ``true``, ``false`` or ``null`` too.
    """

    text: str
    is_quoted: bool = False

    def __str__(self) -> str:
        return self.text if not self.is_quoted and _is_plain_value(self.text) else _quoted(self.text)


@dataclass(frozen=True, slots=True)
class Comparison:
    """``lr < 1e-3``.

    Attributes:
        name: a field's, a parameter's or a metric's.
        sign: ``= != < <= > >= ~ !~ has``, ``in`` or ``not in``.
        values: one; for ``in`` and ``not in`` one or more.
    """

    name: str
    sign: str
    values: tuple[Value, ...]

    def __str__(self) -> str:
        values = ", ".join(map(str, self.values))
        return f"{_shown(self.name)} {self.sign} {f'({values})' if self.sign.endswith('in') else values}"


@dataclass(frozen=True, slots=True)
class Has:
    """``has(lr)``: the run has a value, a group of parameters or a metric of that name."""

    name: str

    def __str__(self) -> str:
        return f"has({_shown(self.name)})"


@dataclass(frozen=True, slots=True)
class Prefix:
    """``alice/*``: a glob over the prefix; without a wildcard the run of that prefix and every run below it."""

    pattern: str

    def __str__(self) -> str:
        return self.pattern if _is_word(self.pattern) else _quoted(self.pattern)


@dataclass(frozen=True, slots=True)
class Predicate:
    """A parameter's value that a function of the caller's accepts. It has no text form that can be parsed."""

    parameter: str
    accepts: Callable[[Any], bool]

    def __str__(self) -> str:
        return f"{self.accepts!r}({_shown(PARAMETER + self.parameter)})"


@dataclass(frozen=True, slots=True)
class Not:
    """The opposite of a condition."""

    part: Condition

    def __str__(self) -> str:
        return f"not ({self.part})" if isinstance(self.part, (And, Or)) else f"not {self.part}"


@dataclass(frozen=True, slots=True)
class And:
    """All parts are met; without any it is every run. Make it with ``all_of``."""

    parts: tuple[Condition, ...]

    def __str__(self) -> str:
        return " and ".join(f"({part})" if isinstance(part, Or) else str(part) for part in self.parts)


@dataclass(frozen=True, slots=True)
class Or:
    """At least one part is met."""

    parts: tuple[Condition, ...]

    def __str__(self) -> str:
        return " or ".join(map(str, self.parts))


Condition = Comparison | Has | Prefix | Predicate | Not | And | Or


def all_of(conditions: Sequence[Condition]) -> Condition:
    """One condition that is met where all of these are."""
    parts = [part for one in conditions for part in (one.parts if isinstance(one, And) else (one,))]
    return parts[0] if len(parts) == 1 else And(tuple(parts))


def leaves(condition: Condition) -> Iterator[Comparison | Has | Prefix | Predicate]:
    """Every part of a condition that has no parts itself."""
    if isinstance(condition, Not):
        yield from leaves(condition.part)
    elif isinstance(condition, (And, Or)):
        for part in condition.parts:
            yield from leaves(part)
    else:
        yield condition


def _is_word(text: str) -> bool:
    return _is_plain_value(text) and text[0] not in "!&|"


def _is_plain_value(text: str) -> bool:
    """Whether a value needs no quotes: a word that may also begin with a sign of Python or of a shell."""
    match = _TOKEN.match(text)
    return match is not None and match["word"] == text and text.lower() not in _RESERVED


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _is_bare_name(text: str) -> bool:
    """Whether a name needs no backticks: a word, and no number but ``nan`` and ``inf``."""
    return _is_word(text) and (number_of(text) is None or text.isalpha())


def _shown(name: str) -> str:
    return name if _is_bare_name(name) else "`" + name.replace("`", "``") + "`"


# ----------------------------------------------------------------------------------------------------- text to tree


def parse(text: str) -> Condition:
    """Read a condition; a blank text is met by every run.

    Raises:
        InvalidTypeError: it is no text.
        InvalidValueError: it is no condition, or beyond a limit; the message says what is wrong, where, and what to
            write.
    """
    if not isinstance(text, str):
        raise InvalidTypeError(f"where={text!r:.80} must be text, such as 'lr < 1e-3 and status = failed'")
    if len(text) > MAX_LENGTH:
        raise InvalidValueError(f"a condition has at most {MAX_LENGTH:,} characters, this one has {len(text):,}")
    return _Parser(text).condition()


def is_condition(text: str) -> bool:
    """Whether a text is meant as a condition, rather than as one folder, prefix or glob."""
    try:
        return not isinstance(parse(text), Prefix) and bool(text.strip())
    except InvalidValueError:
        return not set("=<>~").union(UNICODE_SIGNS).isdisjoint(text)


class _Token(NamedTuple):
    kind: str
    text: str
    start: int


class _Parser:
    """One pass over a text; one method for each rule of the grammar."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = self._split()
        self._next = 0
        self._terms = 0

    def condition(self) -> Condition:
        if self._peek().kind == "end":
            return And(())
        condition = self._or(0)
        token = self._peek()
        if token.kind != "end":
            self._refuse_rest(token)
        return condition

    def _or(self, depth: int) -> Condition:
        parts = [self._and(depth)]
        while self._accept_word("or"):
            parts.append(self._and(depth))
        flat = [part for one in parts for part in (one.parts if isinstance(one, Or) else (one,))]
        return flat[0] if len(flat) == 1 else Or(tuple(flat))

    def _and(self, depth: int) -> Condition:
        parts = [self._not(depth)]
        while self._accept_word("and"):
            parts.append(self._not(depth))
        return all_of(parts)

    def _not(self, depth: int) -> Condition:
        token = self._peek()
        if depth > MAX_DEPTH:
            self._fail(token, f"parentheses and 'not' nest deeper than {MAX_DEPTH} levels", "write a flatter condition")
        if self._accept_word("not"):
            return Not(self._not(depth + 1))
        if not self._accept_mark("("):
            return self._term()
        condition = self._or(depth + 1)
        if not self._accept_mark(")"):
            if self._peek().kind != "end":
                self._refuse_rest(self._peek())
            self._fail(token, "this parenthesis is not closed", "write ) where it ends")
        return condition

    def _term(self) -> Condition:
        token = self._take()
        self._count_term(token)
        following = self._peek()
        if token.kind == "word" and token.text.lower() == "has" and following == ("mark", "(", following.start):
            self._take()
            name = self._name(self._take())
            if not self._accept_mark(")"):
                self._fail(self._peek(), "has() takes one name", "write has(lr)")
            return Has(name)
        is_operator = following.kind == "sign" or (
            following.kind == "word" and following.text.lower() in _OPERATOR_WORDS
        )
        if is_operator:
            return self._comparison(token)
        if token.kind not in ("word", "text") or (token.kind == "word" and not _is_word(token.text)):
            self._refuse_term(token)
        sign = next((sign for sign in UNICODE_SIGNS if token.kind == "word" and sign in token.text), None)
        if sign is not None:
            name, _, value = token.text.partition(sign)
            self._fail(token, f"{sign!r} is no sign", f"{sign_hint(sign + value, name)}, or quotes around a prefix")
        return Prefix(_plain(token))

    def _comparison(self, token: _Token) -> Condition:
        if token.kind == "text" and self._peek().text.lower() == "in":
            self._fail(token, f"{token.text} is no name", f"write LIST has {token.text}, as in tags has {token.text}")
        name = self._name(token)
        at = self._take()
        word = at.text.lower()
        if word == "is":
            is_there = self._accept_word("not")
            if not self._accept_word("missing"):
                self._fail(self._peek(), "'is' goes with 'missing'", f"write {name} is missing, or {name} = null")
            return Has(name) if is_there else Not(Has(name))
        if word == "not" and not self._accept_word("in"):
            self._fail(at, f"'not' follows {name!r:.80}", f"write {name} not in (a, b), or 'not' before {name!r:.80}")
        sign = {"==": "=", "since": ">=", "until": "<=", "not": "not in"}.get(word, word)
        self._check_sign(name, sign, at)
        values = self._list(name, at) if sign.endswith("in") else (self._value(name, at),)
        if name in ("prefix", "run") and sign in _EQUAL:
            globs = tuple(Prefix(value.text) for value in values)
            one_of: Condition = globs[0] if len(globs) == 1 else Or(globs)
            return Not(one_of) if sign in NEGATED else one_of
        return Comparison(name, sign, values)

    def _check_sign(self, name: str, sign: str, at: _Token) -> None:
        kind = FIELDS.get(name)
        if sign in _SIGNS_OF[kind] and (kind == TIME or at.text.lower() not in ("since", "until")):
            return
        if kind is None:
            times = ", ".join(field for field, kind in FIELDS.items() if kind == TIME)
            self._fail(at, f"{at.text!r:.80} is for times", f"compare {times}, or write {name} >= ...")
        known = [known for known in _SIGNS if known in _SIGNS_OF[kind]]
        self._fail(at, f"{name!r:.80} cannot be compared with {at.text!r:.80}", f"it takes {' '.join(known)}")

    def _list(self, name: str, at: _Token) -> tuple[Value, ...]:
        if not self._accept_mark("("):
            of = self._peek().text
            advice = f"write {of} has {name}" if FIELDS.get(of) == LIST else f"write {name} in (a, b), or LIST has ITEM"
            self._fail(self._peek(), "a list of values is missing", advice)
        values = [self._value(name, at)]
        while self._accept_mark(","):
            self._count_term(self._peek())
            values.append(self._value(name, at))
        if not self._accept_mark(")"):
            self._fail(self._peek(), "the list is not closed", "put commas between values and ) after the last")
        return tuple(values)

    def _value(self, name: str, at: _Token) -> Value:
        token = self._take()
        advice = "write a number, a word, or text in quotes"
        if token.kind == "end":
            self._fail(token, f"a value is missing after {at.text!r:.80}", advice)
        if token.kind == "sign":
            instead = DOUBLED_SIGNS.get(at.text + token.text)
            advice = f"write {name} {instead} value" if instead else advice
            self._fail(token, f"{at.text + token.text!r:.80} is no sign", advice)
        if token.kind not in ("word", "text") or token.text.lower() in _RESERVED:
            self._fail(token, f"{token.text!r:.80} is no value", advice)
        value = Value(_plain(token), token.kind == "text")
        kind = FIELDS.get(name)
        if kind == STATUS and at.text not in _CONTAINS and value.text.lower() not in STATUSES:
            near = STATUS_WORDS.get(value.text.lower()) or closest(value.text, STATUSES)
            known = f"did you mean {near!r}?" if near else f"use one of {', '.join(STATUSES)}"
            self._fail(token, f"{value.text!r:.80} is no status", known)
        if kind == TIME and time_of(value.text) is None:
            self._fail(token, f"{value.text!r:.80} is no time", f"write {TIMES}")
        if kind == SPAN and seconds_of(value.text) is None:
            self._fail(token, f"{value.text!r:.80} is no duration", "write seconds, or 90min, 12h, 2d or 1w")
        return value

    def _name(self, token: _Token) -> str:
        if token.kind == "name":
            return token.text[1:-1].replace("``", "`")
        if token.kind == "word" and _is_bare_name(token.text):
            return token.text
        if token.kind == "end":
            self._fail(token, "a name is missing", "write one, such as lr")
        advice = "write the name first, as in lr > 0.5 or lr > 0 and lr < 1, and an odd name in backticks"
        return self._fail(token, f"{token.text!r:.80} is no name", advice)

    def _refuse_term(self, token: _Token) -> NoReturn:
        if token.kind == "end":
            self._fail(token, "a condition is missing at the end", "write one, such as lr < 0.1")
        if token.kind == "name":
            self._fail(
                token, f"{token.text} is not compared with anything", f"write {token.text} = 1, or has({token.text})"
            )
        if token.text.lower() in ("and", "or"):
            self._fail(token, f"{token.text!r:.80} has nothing on its left", "write a condition before it")
        if token.text[0] in "!&|":
            self._refuse_symbol(token)
        self._fail(token, f"{token.text!r:.80} is where a condition should begin", "write one, such as lr < 0.1")

    def _refuse_symbol(self, token: _Token) -> NoReturn:
        self._fail(token, f"{token.text!r:.20} is no operator", "write 'and', 'or' and 'not'")

    def _refuse_rest(self, token: _Token) -> NoReturn:
        if token.text == ")":
            self._fail(token, "this parenthesis was not opened", "leave it out, or write ( before")
        if token.text[0] in "!&|":
            self._refuse_symbol(token)
        before = self._tokens[self._next - 1].text if self._next else ""
        if token.kind == "word" and (hint := sign_hint(token.text, before)):
            self._fail(token, f"{token.text!r:.80} is no sign", hint)
        if token.kind == "sign":
            self._fail(
                token, "a comparison has one sign", "put 'and' or 'or' between conditions, as in lr > 1 and lr < 3"
            )
        self._fail(
            token,
            f"{token.text!r:.80} is not expected here",
            "put 'and' or 'or' between conditions, text with blanks in quotes, a name with blanks in backticks",
        )

    def _split(self) -> list[_Token]:
        tokens: list[_Token] = []
        position = 0
        while not tokens or tokens[-1].kind != "end":
            match = _TOKEN.match(self._text, position)
            if match is None or match.lastgroup is None:
                rest = self._text[position:]
                quote = _Token("", "", position + len(rest) - len(rest.lstrip()))
                self._fail(
                    quote, f"the quote {self._text[quote.start]} is not closed", "write it at the end of the text, too"
                )
            kind = match.lastgroup
            tokens.append(_Token(kind, match[kind], match.start(kind)))
            position = match.end()
        return tokens

    def _peek(self) -> _Token:
        return self._tokens[self._next]

    def _take(self) -> _Token:
        token = self._tokens[self._next]
        self._next += token.kind != "end"
        return token

    def _accept_word(self, word: str) -> bool:
        is_next = self._peek().kind == "word" and self._peek().text.lower() == word
        self._next += is_next
        return is_next

    def _accept_mark(self, mark: str) -> bool:
        is_next = self._peek().kind == "mark" and self._peek().text == mark
        self._next += is_next
        return is_next

    def _count_term(self, token: _Token) -> None:
        self._terms += 1
        if self._terms > MAX_TERMS:
            self._fail(token, f"there are more than {MAX_TERMS:,} comparisons and values", "write a shorter condition")

    def _fail(self, token: _Token, problem: str, advice: str) -> NoReturn:
        shown = self._text if len(self._text) <= _SHOWN else f"{self._text[:_SHOWN]}..."
        where = "at the end" if token.kind == "end" else f"at character {token.start + 1}"
        raise InvalidValueError(f"condition {shown!r}, {where}: {problem}; {advice}")


def _plain(token: _Token) -> str:
    """The text of a token without quotes."""
    if token.kind == "word":
        return token.text
    return _ESCAPE.sub(lambda found: {"n": "\n", "t": "\t"}.get(found[1], found[1]), token.text[1:-1])
