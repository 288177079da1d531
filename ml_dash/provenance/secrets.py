"""What must not be recorded: passwords and tokens in command lines and variables.

A word tells what is secret (``--api-key=...``, ``password: ...``), or the shape of the value does (``ghp_...``). What
neither shows cannot be known, such as a password that is an argument of its own. Where a secret ends is not always
clear; then the rest of the argument is masked with it.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import TYPE_CHECKING

from ml_dash.provenance.urls import clean_place, mask_users

if TYPE_CHECKING:
    import re

MASK = "***"
"""What stands in the place of a secret."""

_SECRET_ENDINGS = ("password", "passwd", "passphrase", "passcode", "secret", "token", "apikey", "credential")
_SECRET_WORDS = frozenset({"pass", "pwd", "auth", "authorization", "jwt", "cookie", "bearer", "cred", "creds"})
_KEY_OWNERS = frozenset(
    (
        *("api", "access", "private", "secret", "auth", "encryption", "signing", "account", "master", "admin", "user"),
        *("license", "deploy", "service", "storage", "session", "webhook", "hmac", "ssh", "sas", "rsa", "gpg", "tls"),
        *("wandb", "openai", "anthropic", "hf", "huggingface", "aws", "azure", "gcp", "google", "gemini", "github"),
        *("gitlab", "cohere", "mistral", "groq", "openrouter", "together", "replicate", "deepseek", "xai", "comet"),
        *("neptune", "mlflow", "clearml", "dash", "slack", "stripe", "datadog", "sendgrid", "twilio"),
    )
)
"""Words that make a ``key`` a secret; a key alone may be one of a dict or of a random generator."""

_TEXT_TOKENS = frozenset({"special", "stop", "added", "extra", "mask", "pad", "eos", "bos", "image", "text"})
"""Words that make ``tokens`` a model's."""

_QUERY_NAMES = frozenset({"sig", "signature", "key", "code"})
"""Names that tell of a secret in an address, and of something else elsewhere."""

_HINTS = (
    *("pass", "pwd", "secret", "token", "key", "auth", "cred", "jwt", "cookie", "bearer", "@", "eyj", "aiza"),
    *("ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_", "glpat-", "hf_", "sk-", "xox", "akia", "asia"),
    *("?sig", "&sig", "-signature", "?code", "&code"),
)
"""Text in lower case without any of these has nothing to mask; most text is settled by that, without a pattern."""


def mask_arguments(arguments: Iterable[str]) -> list[str]:
    """A command line with its secrets masked: ``--token=x``, ``--token x``, ``db.password=x``, tokens by their shape.

    Args:
        arguments: the command line, one item for each argument.
    """
    masked: list[str] = []
    flag, several = "", False
    for argument in arguments:
        hidden = bool(flag) and not argument.startswith("--") and _hides(flag, argument)
        masked.append(MASK if hidden else mask_text(argument))
        if not (hidden and several and not argument.startswith("-")):
            is_flag = argument[:1] == "-" or argument[-1:] in {":", "="}
            is_flag = is_flag and "=" not in argument[:-1] and _kind(argument) != ""
            flag = argument if is_flag and not hidden else ""
            several = flag.rstrip(":=").lower().endswith("s")  # --tokens a b
    return masked


def mask_text(text: str) -> str:
    """One text with its secrets masked. What follows the ``=`` of a secret name goes as a whole."""
    lower = text.lower()
    if not any(hint in lower for hint in _HINTS):
        return text
    name, equals, value = text.partition("=")
    if equals and value and _patterns()["name"].fullmatch(name) and _hides(name, value):
        return f"{name}={MASK}"
    return _patterns()["token"].sub(MASK, _mask_assigned(mask_users(text, MASK)))


def is_secret_name(name: str) -> bool:
    """Whether a flag, a key or a variable of that name holds a secret: its last word says so."""
    return _kind(name) == "secret"


def _kind(name: str) -> str:
    """Whether a name is of a ``secret``, of ``tokens`` that may be counted, of a ``key`` to something, or neither."""
    if not any(hint in name.lower() for hint in _HINTS):
        return ""
    words = [word.lower() for word in _patterns()["word"].findall(name)]
    if not words:
        return ""
    last, before = words[-1], words[-2] if len(words) > 1 else ""
    if last in {"key", "keys"}:
        return "secret" if before in _KEY_OWNERS else "key"
    if last == "tokens":
        return "" if before in _TEXT_TOKENS else "tokens"
    return "secret" if last in _SECRET_WORDS or last.removesuffix("s").endswith(_SECRET_ENDINGS) else ""


def _hides(name: str, value: str) -> bool:
    """Whether a value is the secret that its name lets one expect."""
    kind = _kind(name)
    if kind == "tokens":
        return not _patterns()["number"].fullmatch(value)
    if kind == "key":
        return bool(_patterns()["random"].fullmatch(value))
    return kind == "secret"


def clean_address(address: str) -> str:
    """The address of a repository without credentials, query and fragment.

    ``https://user:token@host/x.git`` is ``https://host/x.git``. Over ssh the user stays, who is part of the address:
    ``git@host:x.git``.
    """
    transport, colons, rest = address.partition("::")
    if colons and "/" not in transport and "@" not in transport:
        return f"{transport}::{MASK}" if transport == "ext" else f"{transport}::{clean_address(rest)}"
    scheme, separator, rest = address.partition("://")
    if separator:
        return _patterns()["token"].sub(MASK, f"{scheme}://{clean_place(scheme.lower(), rest, MASK)}")
    user, at, place = address.rpartition("@")
    name, colon, _ = user.partition(":")
    if at and colon and "/" in name:  # no scheme, or a broken one
        return f"{MASK}@{mask_text(place)}"
    if not at or "/" in name:
        return mask_text(address)
    return _patterns()["token"].sub(MASK, f"{name}@{place}")


def _mask_assigned(text: str) -> str:
    """Mask what follows the ``=`` or ``:`` of a secret name, anywhere in the text."""
    parts: list[str] = []
    done = 0
    for match in _patterns()["assignment"].finditer(text):
        if match.start() >= done and match.end() < len(text):
            end = _end_of_secret(text, match)
            if end > match.end():
                parts += [text[done : match.end()], MASK]
                done = end
    return "".join([*parts, text[done:]])


def _end_of_secret(text: str, name: re.Match[str]) -> int:
    """Where the value of a name ends; at its start if it is none to mask."""
    start = name.end()
    if name[1] is None and name[2] is None:
        return start
    word = name[1] or name[2]
    if text[max(0, name.start() - 1) : name.start()] in {"?", "&"}:
        is_secret = is_secret_name(word) or word.lower().rpartition("-")[2] in _QUERY_NAMES
        value = _patterns()["query"].match(text, start)
        return value.end() if is_secret and value else start
    plain = _patterns()["plain"].match(text, start)
    if not _hides(word, plain[0] if plain else ""):
        return start
    quoted = _patterns()["quoted"].match(text, start)
    return quoted.end() if quoted else len(text)


@functools.cache
def _patterns() -> dict[str, re.Pattern[str]]:
    """Made when first needed: most command lines have nothing to mask, and starting a run is to be quick."""
    import re

    shapes = (
        *(r"gh[pousr]_\w{16,}", r"github_pat_\w{16,}", r"glpat-[\w-]{16,}", r"hf_\w{16,}", r"sk-[\w-]{16,}"),
        *(r"xox[a-z]-[\w-]{10,}", r"(?:AKIA|ASIA)[A-Z0-9]{16}", r"AIza[\w-]{30,}"),
        r"eyJ[\w-]{8,}\.[\w-]{8,}(?:\.[\w-]*)?",
    )
    return {
        "name": re.compile(r"[-+~]*[\w./@-]+"),
        "word": re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+"),
        "number": re.compile(r"[-+]?[\d._,]+(?:e[-+]?\d+)?[kmbgt]?|true|false|none|null|", re.IGNORECASE),
        "random": re.compile(r"(?=\D*\d)(?=[^A-Za-z]*[A-Za-z])[A-Za-z0-9+=]{20,}"),
        # A name begins where no name goes on: so each place of a long text is looked at once. Or, in Python, it is the
        # first argument of a call, such as setdefault("TOKEN", "x").
        "assignment": re.compile(
            r"(?<![\w.-])([\w.-]+)\\*[\"']?\]?\s*(?:[=:]\s*)|\(\s*[\"']([\w.-]+)[\"']\s*,\s*", re.ASCII
        ),
        "query": re.compile(r"[^\s&#\"']+"),
        "plain": re.compile(r"[^\s,;&)}\]]*"),
        # Only where it is clear that it ends there.
        "quoted": re.compile(r"(?:\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*')(?=[ \t]*(?:[,;)}\]&\n]|\Z))", re.DOTALL),
        "token": re.compile(rf"(?<![A-Za-z0-9])(?:{'|'.join(shapes)})"),
    }
