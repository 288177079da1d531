"""What must not be recorded: passwords and tokens in command lines, variables and addresses.

A word tells what is secret (``--api-key=...``, ``password: ...``), or the shape of the value does (``ghp_...``). What
neither shows cannot be known, such as a password that is an argument of its own.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import re

MASK = "***"
"""What stands in the place of a secret."""

_SECRET_ENDINGS = ("password", "passwd", "passphrase", "secret", "token", "apikey", "credential", "credentials")
_SECRET_WORDS = frozenset({"pass", "pwd", "auth", "authorization", "jwt", "cookie", "secrets", "bearer"})
_KEY_OWNERS = frozenset({"api", "access", "private", "secret", "auth", "encryption", "signing", "account", "wandb"})
"""Words that make a ``key`` a secret; a key alone may be one of a dict or of a random generator."""

_HINTS = (
    *("pass", "pwd", "secret", "token", "key", "auth", "cred", "jwt", "cookie", "bearer", "@", "eyj", "aiza"),
    *("ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_", "glpat-", "hf_", "sk-", "xox", "akia", "asia"),
)
"""Text in lower case without any of these has nothing to mask; most text is settled by that, without a pattern."""

_KEEPS_USER = ("ssh", "git+ssh", "ssh+git")


def mask_arguments(arguments: Iterable[str]) -> list[str]:
    """A command line with its secrets masked: ``--token=x``, ``--token x``, ``db.password=x``, tokens by their shape.

    Args:
        arguments: the command line, one item for each argument.
    """
    masked: list[str] = []
    secret_follows = False
    for argument in arguments:
        masked.append(MASK if secret_follows and not argument.startswith("--") else mask_text(argument))
        secret_follows = argument.startswith("-") and "=" not in argument and is_secret_name(argument)
    return masked


def mask_text(text: str) -> str:
    """One text with its secrets masked. What follows the ``=`` of a secret name goes as a whole."""
    lower = text.lower()
    if not any(hint in lower for hint in _HINTS):
        return text
    name, equals, value = text.partition("=")
    if equals and value and _patterns()["name"].fullmatch(name) and is_secret_name(name):
        return f"{name}={MASK}"
    text = _patterns()["user"].sub(rf"\1{MASK}@", text)
    return _patterns()["token"].sub(MASK, _mask_assigned(text))


def is_secret_name(name: str) -> bool:
    """Whether a flag, a key or a variable of that name holds a secret: its last word says so."""
    if not any(hint in name.lower() for hint in _HINTS):
        return False
    words = [word.lower() for word in _patterns()["word"].findall(name)]
    if not words:
        return False
    last = words[-1]
    if last in {"key", "keys"}:
        return len(words) > 1 and words[-2] in _KEY_OWNERS
    return last in _SECRET_WORDS or last.endswith(_SECRET_ENDINGS)


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
        return _patterns()["token"].sub(MASK, f"{scheme}://{_clean_place(scheme.lower(), rest)}")
    user, at, place = address.rpartition("@")
    if not at or "/" in user.partition(":")[0]:
        return mask_text(address)
    return _patterns()["token"].sub(MASK, f"{user.partition(':')[0]}@{place}")


def _clean_place(scheme: str, rest: str) -> str:
    rest = rest.partition("?")[0].partition("#")[0]
    authority, slash, path = rest.partition("/")
    user, at, host = authority.rpartition("@")
    if not at and not authority.rpartition(":")[2].isdecimal() and ":" in authority and "@" in path:
        user, _, rest = rest.rpartition("@")  # a password with a slash in it
        host, slash, path = rest.partition("/")
    user = user.partition(":")[0] if scheme in _KEEPS_USER else ""
    return f"{user}@{host}{slash}{path}" if user else f"{host}{slash}{path}"


def _mask_assigned(text: str) -> str:
    """Mask what follows the ``=`` or ``:`` of a secret name, anywhere in the text."""
    parts: list[str] = []
    done = 0
    for match in _patterns()["assignment"].finditer(text):
        if match.start() >= done and is_secret_name(match[1]):
            value = _patterns()["value"].match(text, match.end())
            if value is not None:
                parts += [text[done : match.end()], MASK]
                done = value.end()
    return "".join([*parts, text[done:]])


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
        # A name begins where no name goes on: so each place of a long text is looked at once.
        "user": re.compile(r"(?<![a-z0-9+.-])([a-z][a-z0-9+.-]*://)[^/\s\"']*@", re.IGNORECASE),
        "assignment": re.compile(r"(?<![\w.-])([\w.-]+)[\"']?\s*[=:]\s*"),
        "value": re.compile(r"(?:Bearer|Basic|Token)\s+[^\s\"']+|\"[^\"]*\"?|'[^']*'?|[^\s,;&\"']+", re.IGNORECASE),
        "token": re.compile(rf"(?<![A-Za-z0-9])(?:{'|'.join(shapes)})"),
    }
