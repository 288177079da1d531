"""Mask passwords and tokens in command lines, variables and URLs before they are recorded.

A secret is found by a word before it (``--api-key=...``, ``password: ...``) or by its shape (``ghp_...``). One with
neither is not found, such as a password that is an argument by itself. Where the end of a secret is not clear, the rest
of the argument is masked with it.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import re

MASK = "***"
"""Replaces a secret."""

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
"""Words before ``key`` that make it a secret; a key alone may be one of a dict or of a random generator."""

_TEXT_TOKENS = frozenset({"special", "stop", "added", "extra", "mask", "pad", "eos", "bos", "image", "text"})
"""Words before ``tokens`` that mean those of a language model."""

_QUERY_NAMES = frozenset({"sig", "signature", "key", "code"})
"""Names of secrets in the query of a URL; elsewhere they mean something else."""

_USER_IN_ADDRESS = ("ssh", "git+ssh", "ssh+git")
"""Schemes in which the user is part of the address."""

_HINTS = (
    *("pass", "pwd", "secret", "token", "key", "auth", "cred", "jwt", "cookie", "bearer", "@", "eyj", "aiza"),
    *("ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_", "glpat-", "hf_", "sk-", "xox", "akia", "asia"),
    *("?sig", "&sig", "-signature", "?code", "&code"),
)
"""Text in lower case without any of these has nothing to mask. Most texts need no pattern for that reason."""


def mask_arguments(arguments: Iterable[str]) -> list[str]:
    """Mask the secrets of a command line: ``--token=x``, ``--token x``, ``db.password=x``, tokens by their shape.

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
    """Mask the secrets in one text. If it is ``name=value`` with a secret name, the whole value is masked."""
    lower = text.lower()
    if not any(hint in lower for hint in _HINTS):
        return text
    name, equals, value = text.partition("=")
    if equals and value and _patterns()["name"].fullmatch(name) and _hides(name, value):
        return f"{name}={MASK}"
    return _patterns()["token"].sub(MASK, _mask_assigned(_mask_users(text)))


def is_secret_name(name: str) -> bool:
    """Whether a flag, a key or a variable of that name holds a secret, by its last word."""
    return _kind(name) == "secret"


def _kind(name: str) -> str:
    """Classify a name: ``secret``, ``tokens`` (which may be a number of them), ``key`` (which may be of a dict), or empty."""
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
    """Whether a value under that name is a secret."""
    kind = _kind(name)
    if kind == "tokens":
        return not _patterns()["number"].fullmatch(value)
    if kind == "key":
        return bool(_patterns()["random"].fullmatch(value))
    return kind == "secret"


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
        return _patterns()["token"].sub(MASK, f"{scheme}://{_clean_host_and_path(scheme.lower(), rest)}")
    user, at, host = address.rpartition("@")
    name, colon, _ = user.partition(":")
    if at and colon and "/" in name:  # no scheme, or a broken one
        return f"{MASK}@{mask_text(host)}"
    if not at or "/" in name:
        return mask_text(address)
    return _patterns()["token"].sub(MASK, f"{name}@{host}")


def _credentials_end(rest: str) -> int:
    """Return the offset of the host in the part of a URL after ``scheme://``: after the ``@`` of its user, or 0.

    A password may have any character, also those that end a host. So a slash after the last ``@`` tells a host from a
    version: ``host/x@v2.git`` has no user, and ``user:1/2@host/x.git`` has one.
    """
    last = rest.rfind("@")
    if last < 0:
        return 0
    authority = _patterns()["authority"].match(rest)
    ahead = authority[0] if authority else ""
    inside = ahead.rfind("@")
    if inside == last:
        return last + 1
    if inside < 0 and ":" not in ahead:
        return 0
    has_path = "/" in rest[last:]
    if inside >= 0:
        return (last if has_path else inside) + 1
    return last + 1 if has_path or not _has_port(ahead) else 0


def _has_port(authority: str) -> bool:
    """Whether the text after the last colon of a host is a port, or there is no colon."""
    host, _, port = authority.rpartition(":")
    return not host or port.isdecimal() or not port or authority.endswith("]")


def _clean_host_and_path(scheme: str, rest: str) -> str:
    """Return the part of a URL after ``scheme://`` without password, query and fragment; over ssh the user stays."""
    end = _credentials_end(rest)
    user = rest[:end].rstrip("@").partition(":")[0] if scheme in _USER_IN_ADDRESS else ""
    host, slash, path = _patterns()["query start"].split(rest[end:], maxsplit=1)[0].partition("/")
    if not _has_port(host):
        host = f"{host.partition(':')[0]}:{MASK}"
    return f"{user}@{host}{slash}{path}" if user else f"{host}{slash}{path}"


def _mask_users(text: str) -> str:
    """Mask the users and passwords of all URLs in a text."""
    if "://" not in text or "@" not in text:
        return text
    parts: list[str] = []
    starts = [match.end() for match in _patterns()["scheme"].finditer(text)]
    for start, following in zip(starts, [*starts[1:], len(text)], strict=True):
        address = _patterns()["address"].match(text, start, following)
        end = _credentials_end(address[0]) if address else 0
        parts.append(f"{MASK}@{text[start + end : following]}" if end else text[start:following])
    return text[: starts[0]] + "".join(parts) if starts else text


def _mask_assigned(text: str) -> str:
    """Mask the values after ``=`` or ``:`` of secret names, anywhere in the text."""
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
    """Return the offset at which the value of a name ends; that of its start if it is no secret."""
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
    """Compile the patterns when first needed: most command lines have nothing to mask, and a run has to start quickly."""
    import re

    shapes = (
        *(r"gh[pousr]_\w{16,}", r"github_pat_\w{16,}", r"glpat-[\w-]{16,}", r"hf_\w{16,}", r"sk-[\w-]{16,}"),
        *(r"xox[a-z]-[\w-]{10,}", r"(?:AKIA|ASIA)[A-Z0-9]{16}", r"AIza[\w-]{30,}"),
        r"eyJ[\w-]{8,}\.[\w-]{8,}(?:\.[\w-]*)?",
    )
    return {
        "authority": re.compile(r"[^/?#]*"),
        "query start": re.compile(r"[?#]"),
        # A scheme begins where no word goes on: so each position of a long text is tried once.
        "scheme": re.compile(r"(?<![a-z0-9+.-])[a-z][a-z0-9+.-]*://", re.IGNORECASE),
        "address": re.compile(r"[^\s\"']*"),
        "name": re.compile(r"[-+~]*[\w./@-]+"),
        "word": re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+"),
        "number": re.compile(r"[-+]?[\d._,]+(?:e[-+]?\d+)?[kmbgt]?|true|false|none|null|", re.IGNORECASE),
        "random": re.compile(r"(?=\D*\d)(?=[^A-Za-z]*[A-Za-z])[A-Za-z0-9+=]{20,}"),
        # A name begins where no name goes on: so each position of a long text is tried once. Or it is the first argument
        # of a call in Python, such as setdefault("TOKEN", "x").
        "assignment": re.compile(
            r"(?<![\w.-])([\w.-]+)\\*[\"']?\]?\s*(?:[=:]\s*)|\(\s*[\"']([\w.-]+)[\"']\s*,\s*", re.ASCII
        ),
        "query": re.compile(r"[^\s&#\"']+"),
        "plain": re.compile(r"[^\s,;&)}\]]*"),
        # Only where the closing quote is clearly the end.
        "quoted": re.compile(r"(?:\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*')(?=[ \t]*(?:[,;)}\]&\n]|\Z))", re.DOTALL),
        "token": re.compile(rf"(?<![A-Za-z0-9])(?:{'|'.join(shapes)})"),
    }
