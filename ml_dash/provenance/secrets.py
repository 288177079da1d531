"""Mask passwords, tokens and keys in all text that a run records of itself: command lines, logs, reasons, differences.

A secret is found by a word before it (``--api-key=...``, ``password: ...``) or by its shape (``ghp_...``). One with
neither is not found, such as a password that is an argument by itself. Where the end of a secret is not clear, the rest
of its line is masked with it. The time is proportional to the length of the text, and a text keeps its lines.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from ml_dash.provenance.private_keys import mask_private_keys
from ml_dash.provenance.secret_names import HINTS as NAME_HINTS
from ml_dash.provenance.secret_names import MOST_CODE, hides, is_code, is_secret_name, kind_of_name
from ml_dash.provenance.secret_shapes import HINTS as SHAPE_HINTS
from ml_dash.provenance.secret_shapes import has_long_run, looks_random, mask_shapes
from ml_dash.provenance.secret_urls import clean_host_and_path, mask_users

if TYPE_CHECKING:
    import re

__all__ = ["MASK", "clean_address", "is_secret_name", "mask_arguments", "mask_diff", "mask_text", "mask_values"]

MASK = "***"
"""Replaces a secret."""

LONGEST_VALUE = 1_000
"""Characters of a value that are read to classify it."""

_QUERY_NAMES = frozenset({"sig", "signature", "key", "code"})
"""Names of secrets in the query of a URL; elsewhere they name other things."""

_ASSIGNED_HINTS = (*NAME_HINTS, "sig=", "signature=", "code=", "identified")
_HINTS = (*_ASSIGNED_HINTS, *SHAPE_HINTS, "://", "-p", "-u", "--user", "-a ", "-w ")

_PATH_WORDS = frozenset(
    ("token", "tokens", "pat", "key", "keys", "apikey", "secret", "auth", "priv", "private", "basic")
)
"""Parts of a path after which a token may follow."""

_USUAL = frozenset(
    (
        *("gpu", "cpu", "cuda", "tpu", "train", "test", "eval", "dev", "prod", "debug", "main", "default", "all"),
        *("none", "auto", "true", "false", "fp16", "fp32", "bf16", "int8", "int4", "local", "fast", "slow"),
    )
)
"""Values of ``-p`` that are no passwords."""

_FILLERS = frozenset(
    (
        *(
            "to",
            "or",
            "and",
            "is",
            "for",
            "with",
            "as",
            "in",
            "if",
            "the",
            "a",
            "an",
            "must",
            "was",
            "can",
            "has",
            "be",
        ),
        *("needs", "not", "requires", "option", "flag", "argument", "instead", "when"),
    )
)
"""Words that follow a flag in a sentence, and are no values of it."""

_SHORT = frozenset(("-p", "-u", "--user", "--proxy-user"))
_SCHEMES = frozenset(("bearer", "basic"))
_KEYWORDS = (
    "class",
    "def",
    "in",
    "if",
    "elif",
    "while",
    "for",
    "with",
    "import",
    "from",
    "lambda",
    "except",
    "else",
    "->",
)


def mask_arguments(arguments: Iterable[str]) -> list[str]:
    """Mask the secrets of a command line: ``--token=x``, ``--token x``, ``db.password=x``, tokens by their shape."""
    masked: list[str] = []
    flag, before, several, has_user = "", "", False, False
    for argument in arguments:
        if argument in {"=", ":"} and kind_of_name(before):  # password = x
            argument_flag, hidden = before, False
        else:
            hidden = bool(flag) and _hides_after(flag, argument, has_user)
            argument_flag = argument if not hidden and _is_flag(argument) else ""
        is_scheme = hidden and argument.lower() in _SCHEMES  # Authorization: Bearer x
        masked.append(argument if is_scheme else MASK if hidden else _mask_argument(argument))
        before = argument
        if not is_scheme and not (hidden and several and not argument.startswith("-")):
            has_user = has_user or flag in {"-u", "--user", "--username", "-U"}
            flag = argument_flag
            several = flag.rstrip(":=").lower().endswith("s")  # --tokens a b
    return masked


def mask_text(text: str) -> str:
    """Mask the secrets in a text."""
    if not may_have_secrets(text):
        return text
    text = mask_private_keys(text, MASK)
    if "://" in text:
        text = _patterns()["path"].sub(lambda match: match[1] + _mask_path(match[2]), mask_users(text, MASK))
    text = mask_shapes(text, MASK)
    if _has_any(_ASSIGNED_HINTS, text.lower()):
        text = _patterns()["sentence"].sub(_mask_in_sentence, _patterns()["netrc"].sub(_keep_first, text))
        text = _mask_assigned(_mask_blocks(text))
    return _mask_flags(text)


def may_have_secrets(text: str) -> bool:
    """Whether a text may have a secret. False settles most texts in a microsecond."""
    return _has_any(_HINTS, text.lower()) or has_long_run(text)


def _has_any(hints: tuple[str, ...], lower: str) -> bool:
    for hint in hints:  # noqa: SIM110 - any() takes three times as long, and each log line is checked
        if hint in lower:
            return True
    return False


def mask_values(value: Any, *, by_name: bool = True) -> Any:
    """Mask the secrets in the texts of a JSON value.

    Args:
        value: a text, number, list or dict.
        by_name: whether the value of a key such as ``password`` is masked as a whole.
    """
    if isinstance(value, str):
        return mask_text(value)
    if isinstance(value, list):
        return [mask_values(item, by_name=by_name) for item in value]
    if not isinstance(value, dict):
        return value
    return {
        mask_text(name): _mask_all(name, item) if by_name and kind_of_name(name) else mask_values(item, by_name=by_name)
        for name, item in value.items()
    }


def mask_diff(diff: str) -> tuple[str, int]:
    """Mask the secrets in the output of ``git diff``. Returns it and the number of lines that were masked."""
    lines = diff.split("\n")
    marks = [line[:1] if line[:1] in {"+", "-", " "} else "" for line in lines]
    texts = [line[len(mark) :] for line, mark in zip(lines, marks, strict=True)]
    masked = mask_text("\n".join(texts)).split("\n")
    places = sum(one != other for one, other in zip(texts, masked, strict=True))
    return "\n".join(mark + text for mark, text in zip(marks, masked, strict=True)), places


def clean_address(address: str) -> str:
    """Return the address of a repository without credentials, query and fragment.

    ``https://user:token@host/x.git`` becomes ``https://host/x.git``. Over ssh the user stays, because it is part of the
    address: ``git@host:x.git``.
    """
    transport, colons, rest = address.partition("::")
    if colons and "/" not in transport and "@" not in transport:
        return f"{transport}::{MASK}" if transport == "ext" else f"{transport}::{clean_address(rest)}"
    scheme, separator, rest = address.partition("://")
    if separator:
        return _mask_repository(f"{scheme}://{clean_host_and_path(scheme.lower(), rest, MASK)}")
    user, at, place = address.rpartition("@")
    name, colon, _ = user.partition(":")
    if at and colon and "/" in name:  # no scheme, or a broken one
        return f"{MASK}@{_mask_repository(place)}"
    if not at or "/" in name:
        return _mask_repository(address)
    return _mask_repository(f"{name}@{place}")


def _mask_argument(argument: str) -> str:
    """Mask an argument; after the ``=`` of a secret name as a whole, whatever it contains."""
    name, equals, value = argument.partition("=")
    if equals and value and may_have_secrets(name) and _patterns()["name"].fullmatch(name) and hides(name, value):
        return f"{name}={MASK}"
    return mask_text(argument)


def _is_flag(argument: str) -> bool:
    if argument.lower() in _SCHEMES or argument in _SHORT:
        return True
    is_flag = argument[:1] == "-" or argument[-1:] in {":", "="}
    return is_flag and "=" not in argument[:-1] and kind_of_name(argument) != ""


def _hides_after(flag: str, value: str, has_user: bool) -> bool:
    """Whether the argument after a flag is a secret."""
    if flag in _SHORT:
        return _hides_short(flag, value, has_user)
    if flag.lower() in _SCHEMES:
        return mask_shapes(f"{flag} {value}", MASK) != f"{flag} {value}"
    return not value.startswith("--") and hides(flag, value)


def _hides_short(flag: str, value: str, has_user: bool) -> bool:
    """Whether the argument after ``-p`` is a password, or after ``-u`` a user and a password: other programs mean other things."""
    if flag != "-p":
        user, colon, password = value.partition(":")
        is_address = password.startswith(("//", "\\")) or (user.isdecimal() and password.isdecimal())
        return bool(user and colon and password) and not is_address
    if value.startswith("-") or not value:
        return False
    return has_user or not (value.lower() in _USUAL or _patterns()["usual"].fullmatch(value))


def _mask_all(name: str, value: Any) -> Any:
    """Mask every text and secret number below a secret name."""
    if isinstance(value, str):
        return MASK if hides(name, value) else mask_text(value)
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, (int, float)):
        return MASK if kind_of_name(name) in {"secret", "weak"} and hides(name, str(value)) else value
    if isinstance(value, list):
        return [_mask_all(name, item) for item in value]
    return {mask_text(key): _mask_all(key if kind_of_name(key) else name, item) for key, item in value.items()}


def _mask_repository(address: str) -> str:
    """Mask the tokens in the path of a repository: its own name is seldom random."""
    parts = address.split("/")
    for number, part in enumerate(parts):
        before = parts[number - 1].lower() if number else ""
        user, at, place = part.rpartition("@") if number < 3 else ("", "", part)
        if _is_token_of_path(place.removesuffix(".git"), before, strictly=True):
            host, colon, _ = place.partition(":")
            place = f"{host}:{MASK}" if colon and number == 0 else MASK
        parts[number] = user + at + place
    return _mask_assigned(mask_shapes("/".join(parts), MASK))


def _mask_path(path: str) -> str:
    parts = path.split("/")
    for number, part in enumerate(parts):
        if _is_token_of_path(part, parts[number - 1].lower() if number else "", strictly=False):
            parts[number] = MASK
    return "/".join(parts)


def _is_token_of_path(part: str, before: str, *, strictly: bool) -> bool:
    """Whether a part of a path is a token: it looks random. Unless ``strictly``, hashes of commits and files are none."""
    if len(part) < 8:
        return False
    if before in _PATH_WORDS and _patterns()["mixed"].search(part) and "\\" not in part:
        return True
    if strictly:
        return len(part) >= 16 and looks_random(part) and _patterns()["long run"].search(part) is not None
    run = _patterns()["long run"].search(part) if len(part) >= 24 else None
    return run is not None and looks_random(run[0]) and not (run[0].islower() or run[0].isupper())


def _mask_assigned(text: str) -> str:
    """Mask the values after ``=`` or ``:`` of secret names, anywhere in the text."""
    parts: list[str] = []
    done = line_end = 0
    for match in _patterns()["assignment"].finditer(text):
        if match.start() >= done and match.end() < len(text):
            if line_end < match.end():  # looked for once in each line
                line_end = text.find("\n", match.end())
                line_end = len(text) if line_end < 0 else line_end
            start, end = _secret_of(text, match, line_end)
            if end > start:
                parts += [text[done:start], MASK]
                done = end
    return "".join([*parts, text[done:]])


def _secret_of(text: str, name: re.Match[str], end: int) -> tuple[int, int]:
    """Return the start and the end of the value of a name; they are equal if it is no secret.

    Args:
        text: the whole text.
        name: the match of the name and the sign after it.
        end: the end of its line.
    """
    start = name.end()
    before = text[max(0, name.start() - 12) : name.start()]
    word = name["name"] or name["call"] or name["tag"] or name["entry"] or "password"
    if kind_of_name(word) == "key" and (
        before.endswith("login(") or before[-1:].isspace()
    ):  # wandb.login(key=, api key:
        word = "".join(f"{part}_" for part in before.split()[-1:] if part.isalpha() or part.endswith("login(")) + word
    kind = kind_of_name(word)
    if before[-1:] in {"?", "&", "#"}:
        is_secret = (bool(kind) and kind != "key") or word.lower().rpartition("-")[2] in _QUERY_NAMES
        queried = _patterns()["query"].match(text, start)
        return start, queried.end() if is_secret and queried else start
    if not kind or ((name["sign"] or "").startswith(":") and _is_no_assignment(before, text, start)):
        return start, start
    if kind == "weak" and text[name.end("name") : name.end("name") + 2] == " :":  # of a text with markup
        return start, start
    if kind in {"token", "tokens"} and kind_of_name(f"{before.split()[-1]}_{word}" if before.split() else word) == "":
        return start, start
    if name["tag"]:
        closing = text.find("</", start, end)
        return start, end if closing < 0 else closing
    annotated = _patterns()["annotation"].match(text, start)
    if annotated is not None and name["sign"] is not None:
        start = annotated.end()
    quoted = _patterns()["quoted"].match(text, start, end)
    plain = quoted or _patterns()["plain"].match(text, start, min(end, start + LONGEST_VALUE))
    value = plain[0] if plain else ""
    if not hides(word, value[:LONGEST_VALUE]) or ((name["sign"] or "") == "==" and not quoted):
        return start, start
    if quoted is None and (
        _patterns()["stays"].match(text, start, end) or is_code(word, text[start : min(end, start + MOST_CODE + 1)])
    ):
        return start, start
    if quoted is None and name["sign"] == "=":  # token=x loss=0.1
        quoted = _patterns()["one of several"].match(text, start, end)
    return start, quoted.end() if quoted else end


def _is_no_assignment(before: str, text: str, start: int) -> bool:
    """Whether a colon belongs to code (``class Token:``, ``auth::Token``) or to an address (``//token:80``)."""
    words = before.split()
    follows = text[start : start + 3]
    is_code = follows in {'"""', "'''"} or follows[:1] == ":" or before.endswith(("//", "::"))
    return is_code or bool(words and words[-1] in _KEYWORDS)


def _mask_flags(text: str) -> str:
    """Mask the values of flags in a command line within a text: ``--token x``, ``-u user:x``, ``-p x``."""
    if "-" not in text:
        return text
    text = _patterns()["flag"].sub(_mask_flag, text)
    if "-p" in text or "-P" in text or "-a " in text or "-w " in text:
        text = _patterns()["glued"].sub(_keep_first, text)
    return text


def _keep_first(match: re.Match[str]) -> str:
    return match[1] + MASK


def _mask_in_sentence(match: re.Match[str]) -> str:
    """Mask a value after a name in a sentence if it has quotes, a colon before it, or letters and digits."""
    value = match[2].strip("\"'.,;:)")
    is_mixed = len(value) > 5 and not value.isalpha() and not value.isdecimal() and value[:1].isalnum()
    is_mixed = (
        is_mixed and any(map(str.isdigit, value)) and any(map(str.isalpha, value)) and not set("=:()[]{}/") & set(value)
    )
    is_quoted = match[2] != value and match[2][0] in {"'", '"'} and not match[1].lower().startswith(("token", "secret"))
    words = match[1].rstrip().removesuffix("->").rstrip(" :").split()
    is_named = len(words) > 1 and match[1].rstrip().endswith((":", "->")) and hides("password", match[2])
    return match[1] + MASK if (is_quoted and value) or is_mixed or is_named else match[0]


def _mask_flag(match: re.Match[str]) -> str:
    flag, space, value = match.groups()
    bare = value.rstrip(".,;:!?)")
    if flag in _SHORT:
        is_tool = _patterns()["tool"].search(match.string, max(0, match.start() - 200), match.start()) is not None
        hidden = (flag != "-p" or is_tool) and _hides_short(flag, value, is_tool)
    else:
        hidden = not value.startswith("--") and bare.lower() not in _FILLERS and hides(flag, bare)
    return f"{flag}{space}{MASK}" if hidden else match[0]


def _mask_blocks(text: str) -> str:
    """Mask values that begin in the line after their name: blocks of YAML, texts in three quotes, items of lists."""
    if "\n" not in text:
        return text
    lines = text.split("\n")
    number = 0
    while number < len(lines) - 1:
        name = _patterns()["block"].fullmatch(lines[number]) if len(lines[number]) < LONGEST_VALUE else None
        number += 1
        if name is None or kind_of_name(name[2]) not in {"secret", "weak", "token"}:
            continue
        if name[3].endswith(('"""', "'''")):
            number = _mask_quotes(lines, number, name[3][-3:])
        else:
            number = _mask_block(lines, number, name)
    return "\n".join(lines)


def _mask_quotes(lines: list[str], number: int, quotes: str) -> int:
    """Mask the lines up to three quotes. Returns the number of the next line."""
    while number < len(lines):
        end = lines[number].find(quotes)
        lines[number] = MASK + (lines[number][end:] if end >= 0 else "")
        number += 1
        if end >= 0:
            break
    return number


def _mask_block(lines: list[str], number: int, name: re.Match[str]) -> int:
    """Mask the values in the lines that are indented deeper than the name. Returns the number of the next line."""
    indent, opening = len(name[1]), name[3]
    while number < len(lines):
        line = lines[number]
        blank = len(line) - len(line.lstrip())
        item = _patterns()["item"].fullmatch(line) if len(line) < 4 * LONGEST_VALUE else None
        is_list_item = opening == "" and item is not None and item[1].strip() == "-"  # may stand below its name
        if line.strip() and blank <= indent and not is_list_item:
            break
        if opening[:1] in {"|", ">"}:
            lines[number] = line[:blank] + MASK if line.strip() else line
        elif item is not None and not (item[2] and opening != "{") and _is_secret_item(name[2], item[3]):
            lines[number] = f"{item[1]}{item[2] or ''}{MASK}{item[4]}"
        elif opening == "":  # a table, whose own names tell what is secret
            break
        number += 1
    return number


def _is_secret_item(name: str, value: str) -> bool:
    return hides(name, value) and not is_code(name, value)


@functools.cache
def _patterns() -> dict[str, re.Pattern[str]]:
    """Compile the patterns when first needed: most command lines have nothing to mask, and a run has to start quickly."""
    import re

    return {
        "name": re.compile(r"[-+~]*[\w./@-]+"),
        # A name begins where no name goes on: so each position of a long text is tried once. Or it is an entry with a name
        # and a value, the first argument of a call such as setdefault("TOKEN", "x"), a tag, or a word before quotes.
        "assignment": re.compile(
            r"(?<![\w.-])(?:name|key)[\"']?[ \t]*[:=][ \t]*[\"']?(?P<entry>[\w.-]{1,100})[\"']?,?\s{1,60}[\"']?value[\"']?[ \t]*[:=][ \t]*"
            r"|(?<![\w.-])(?P<name>[\w.-]+)\\*[\"']?\]?[ \t]*(?P<sign>=>|==|\?=|<-|[=:])[ \t]*(?:\r?\n[ \t]*(?=[\"']))?"
            r"|\(\s*[\"'](?P<call>[\w.-]+)[\"']\s*(?:,|\)\s*(?:or\b|\|\||\?\?))\s*"
            r"|<(?P<tag>[\w.:-]{0,60}(?:(?i:pass|pwd|secret|token|key|auth|cred))[\w.:-]{0,60})(?:\s[^<>\n]{0,200})?>"
            r"|(?<![\w.-])(?P<said>(?i:password|passwd|identified by)) (?=[\"'])",
            re.ASCII,
        ),
        "query": re.compile(r"[^\s&#\"'<>]+"),
        "plain": re.compile(r"[^\s,;&)}\]]*"),
        # Already masked, a placeholder, or the start of a block, which is masked already.
        "stays": re.compile(
            r"\*{3}(?:[,;)}\]&\"']|\s*\Z)"
            r"|(?:\$\{[^{}\s]*\}|\{\{?[\w.! :]{1,60}\}\}?|<[\w -]{1,60}>)(?:\Z|[\s,;)}\]\"'&])"
            r"|(?:[|>][+-]?|[\[({]|[rbuf]?(?:\"\"\"|'\'\'))[ \t]*\r?\Z"
        ),
        "one of several": re.compile(r"[^\s\"'\[{(,]+(?=[ \t]+[\w.-]{1,64}=)"),
        # Only where the closing quote is clearly the end.
        "quoted": re.compile(
            r"[bBuUrRfF]{0,2}(?:\"(?:[^\"\\\n]|\\.)*\"|'(?:[^'\\\n]|\\.)*')(?=[ \t]*(?:[,;:)}\]&\n#\r]|\Z))"
        ),
        "annotation": re.compile(
            r"(?:(?:str|bytes|int|Any|object|SecretStr|Optional|Union|Final|ClassVar|String|SecretString)\b[\w.\[\], |]{0,60}?) ?= ?(?!=)"
        ),
        "flag": re.compile(r"(?<![\w-])(--?[A-Za-z][\w.-]*)([ \t]+)(\"[^\"\n]*\"|'[^'\n]*'|[^\s\"']+)", re.ASCII),
        "glued": re.compile(
            r"(\b(?:(?:mysql\w*|mariadb|sshpass|7za?|plink|pscp)\b[^\n|;]{0,100}? -p|redis-cli\b[^\n|;]{0,100}? -a[ ]"
            r"|zip\b[^\n|;]{0,100}? -P[ ]?|ldap\w+\b[^\n|;]{0,100}? -w[ ]))([^\s-][^\s]*)",
            re.ASCII,
        ),
        # In a sentence: "password for bob: x", "api key provided: x", "the passcode 'x'".
        "sentence": re.compile(
            r"\b((?:password|passphrase|passcode|passwd|api[ _-]?key|secret|token)(?:[ ](?:for|of)[ ][^\s:]{1,60})?"
            r"(?:[ ](?:is|was|provided|given))?(?:[ ]?(?::|->))?[ ])([\"'][^\"'\n]{1,200}[\"']|[^\s\"']{4,})",
            re.IGNORECASE | re.ASCII,
        ),
        "tool": re.compile(
            r"\b(?:mysql\w*|mariadb|sshpass|docker|podman|login|psql|ldapsearch|smbclient|curl|-u|--user)\b"
        ),
        "usual": re.compile(
            r"[-+]?[\d.,:]+[a-z%]?|[~.]?[\w.-]*/\S*|[~.].*|[\w-]+\.[a-z]{1,5}|[A-Za-z]:\\\S*", re.ASCII
        ),
        "path": re.compile(r"(://[^\s/\"'<>?#]+/)([^\s\"'<>?#]+)"),
        "mixed": re.compile(r"[0-9]"),
        "long run": re.compile(r"[A-Za-z0-9]{16,}"),
        "block": re.compile(
            r"([ \t]*)(?:- )?[\"']?([\w.-]{1,100})[\"']?[ \t]*[:=][ \t]*(|[|>][+-]?|[\[({]|[rbuf]?(?:\"\"\"|'''))[ \t]*\r?"
        ),
        "item": re.compile(
            r"([ \t]*(?:- )?)([\"']?[\w.-]+[\"']?[ \t]*:[ \t]*)?([\"'][^\"']*[\"']|[^\s\"':=]+)([ \t]*,?[ \t]*\r?)"
        ),
        "netrc": re.compile(r"\b(login[ \t]+\S+[ \t]+password[ \t]+)(\S+)", re.IGNORECASE),
    }
