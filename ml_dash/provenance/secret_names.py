"""Tell names of secrets (``password``, ``api_key``) from others, and secrets from other values of such names."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import re

HINTS = (
    *("pass", "pwd", "pw", "pin", "otp", "secret", "token", "key", "auth", "cred", "jwt", "cookie", "bearer"),
    *("csrf", "xsrf", "mnemonic", "webhook", "sessionid"),
)
"""A name of a secret, in lower case, contains one of these."""

_ENDINGS = ("password", "passwd", "passphrase", "passcode", "secret", "credential", "mnemonic")
_GLUED = (
    "apikey",
    "secretkey",
    "accesskey",
    "privatekey",
    "authkey",
    "accountkey",
    "signingkey",
    "masterkey",
    "passkey",
)
_GLUED_OWNERS = (
    "db",
    "my",
    "user",
    "smtp",
    "root",
    "admin",
    "mysql",
    "pg",
    "redis",
    "mail",
    "ssh",
    "ftp",
    "vault",
    "svn",
)
_STRONG = frozenset((*(f"{owner}pass" for owner in _GLUED_OWNERS), *(f"{owner}pw" for owner in _GLUED_OWNERS), "pwd"))
_WEAK = frozenset(
    (
        *("pass", "pw", "pin", "otp", "totp", "auth", "authorization", "jwt", "cookie", "cookies", "bearer", "cred"),
        *("creds", "csrf", "xsrf", "webhook", "webhooks", "sessionid", "passwordless"),
    )
)
"""Words with other meanings too: with a small number or a fraction they are counts."""

_KEY_OWNERS = frozenset(
    (
        *("api", "access", "private", "secret", "auth", "encryption", "signing", "account", "master", "admin", "user"),
        *("license", "deploy", "service", "storage", "session", "webhook", "hmac", "ssh", "sas", "rsa", "gpg", "tls"),
        *("wandb", "openai", "anthropic", "hf", "huggingface", "aws", "azure", "gcp", "google", "gemini", "github"),
        *("gitlab", "cohere", "mistral", "groq", "openrouter", "together", "replicate", "deepseek", "xai", "comet"),
        *("neptune", "mlflow", "clearml", "dash", "slack", "stripe", "datadog", "sendgrid", "twilio", "subscription"),
        *(
            "functions",
            "client",
            "server",
            "host",
            "shared",
            "consumer",
            "app",
            "application",
            "bot",
            "pem",
            "ssl",
            "login",
        ),
    )
)
"""Words that make a ``key`` a secret; a key alone may be one of a dict or of a random generator."""

_TOKEN_OWNERS = _KEY_OWNERS | {"refresh", "id", "bearer", "csrf", "xsrf", "personal", "security"}

_TEXT_TOKENS = frozenset(
    (
        *("special", "stop", "added", "extra", "mask", "pad", "eos", "bos", "unk", "sep", "cls", "image", "text"),
        *("next", "first", "last", "prev", "previous", "start", "end", "prompt", "input", "output", "new", "current"),
        *("video", "audio", "vocab", "max", "min", "num", "per", "single", "each", "unexpected", "word"),
    )
)
"""Words before the ``token`` of a language model."""

_ABSENT = frozenset(("invalid", "missing", "expired", "unexpected", "bad", "unknown", "no", "wrong", "unused"))
"""First words of names without a value, such as the exception ``InvalidToken``."""

_CARRIERS = frozenset(("data", "value", "string", "base64", "raw", "plain", "b", "url", "str"))
"""Last words of names that give the form of a secret: ``client-key-data``."""

_NO_SECRETS = frozenset(
    (
        *("", "true", "false", "none", "null", "nil", "yes", "no", "on", "off", "ok", "set", "unset", "missing"),
        *("invalid", "expired", "valid", "required", "optional", "enabled", "disabled", "failed", "success", "unknown"),
        *(
            "empty",
            "redacted",
            "hidden",
            "masked",
            "refreshed",
            "revoked",
            "rotated",
            "accepted",
            "rejected",
            "default",
        ),
        *("auto", "str", "int", "float", "bool", "bytes", "any", "object", "string", "number", "...", "not"),
    )
)
"""Values that are no secrets, whatever their name."""

_ROOTS = frozenset(
    (
        *("self", "cls", "args", "cfg", "config", "conf", "settings", "opt", "opts", "options", "flags", "hparams"),
        *("params", "kwargs", "request", "ctx", "context", "os", "env", "environ", "secrets", "tokenizer", "torch"),
    )
)
"""Objects of code whose attributes are settings."""

_VERBS = frozenset(
    (
        *("get", "load", "read", "make", "fetch", "create", "input", "encode", "decode", "next", "len", "str", "int"),
        *("bool", "getattr", "field", "secretstr", "tuple", "list", "dict", "random", "generate", "getenv", "getpass"),
    )
)
"""First words of functions whose result may be assigned to a secret name."""

MOST_CODE = 200
"""Characters after a name that are read to tell code from a value."""


def is_secret_name(name: str) -> bool:
    """Whether a flag, a key or a variable of that name holds a secret; its last word decides."""
    return kind_of_name(name) in {"secret", "weak", "token"}


@functools.lru_cache(1024)
def kind_of_name(name: str) -> str:
    """Classify a name.

    Returns:
        ``secret``: a secret, whatever the value. ``weak``: a secret unless the value is a small number. ``token``: the
        same of a token. ``tokens``: tokens that may be a model's, or counted. ``key``: a key to something. Empty: none.
    """
    lower = name.lower()
    if not any(hint in lower for hint in HINTS):
        return ""
    words = [word.lower() for word in _patterns()["word"].findall(name[-MOST_CODE:])]
    while len(words) > 1 and words[-1] in _CARRIERS:
        words.pop()
    if not words or (words[0] in _ABSENT and len(words) > 1):
        return ""
    last, before = words[-1], words[-2] if len(words) > 1 else ""
    if last in {"key", "keys"}:
        return "secret" if before in _KEY_OWNERS else "key"
    if last == "tokens":
        return "" if before in _TEXT_TOKENS else "tokens"
    if last.endswith("token"):
        return "" if before in _TEXT_TOKENS else "secret" if before in _TOKEN_OWNERS or last != "token" else "token"
    if last in _STRONG or last.removesuffix("s").endswith((*_ENDINGS, *_GLUED)):
        return "secret"
    return "weak" if last in _WEAK else ""


def hides(name: str, value: str) -> bool:
    """Whether a value under that name is a secret.

    Args:
        name: a flag, a key or a variable.
        value: the value, or its start.
    """
    kind = kind_of_name(name)
    if not kind:
        return False
    patterns = _patterns()
    bare = value.strip("\"'`").rstrip(".,;:!").lower()
    if bare in _NO_SECRETS or patterns["placeholder"].fullmatch(value.strip("\"'")):
        return False
    if kind == "tokens":
        return bool(patterns["mixed"].search(value)) and not patterns["number"].fullmatch(value)
    if kind == "key":
        return bool(patterns["random"].fullmatch(value))
    if kind == "weak":
        is_path = value[:1] in {"/", "~"} and name.lower().endswith("pwd")
        return not (is_path or patterns["small"].fullmatch(value))
    if kind == "token":
        return not patterns["count"].fullmatch(value)
    return not (name.lower().endswith("pwd") and value[:1] in {"/", "~"})


def is_code(name: str, rest: str) -> bool:
    """Whether the text after a name is code that refers to a secret: ``token=args.token``.

    Args:
        name: the name of the secret.
        rest: the rest of its line.
    """
    patterns = _patterns()
    head = rest[:MOST_CODE].removeprefix("await ")
    path = patterns["path"].match(head)
    if path is None:
        return False
    first, dot, _ = path[0].lower().partition(".")
    is_attribute = bool(dot) and (first in _ROOTS or kind_of_name(name) in {"token", "tokens"})
    after = head[path.end() :]
    if after[:1] in {"(", "["}:
        verb = path[0].rpartition(".")[2].lower().lstrip("_").partition("_")[0]
        is_call = verb in _VERBS or is_attribute
        return is_call and patterns["calm"].fullmatch(after.rstrip()) is not None and len(rest) <= MOST_CODE
    if after and patterns["after"].match(after) is None:
        return False
    if kind_of_name(name) == "token" and patterns["class"].fullmatch(path[0]):
        return True
    return (bool(dot) and first in _ROOTS) or _last_part(path[0]) == _last_part(name)


def _last_part(path: str) -> str:
    return path.rpartition(".")[2].lstrip("_")


@functools.cache
def _patterns() -> dict[str, re.Pattern[str]]:
    import re

    return {
        "word": re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+"),
        "number": re.compile(r"[-+]?[\d._,/%]+(?:e[-+]?\d+)?[kmbgt%]?(?:/[\d.]+[kmbgt]?)?|true|false", re.IGNORECASE),
        "small": re.compile(r"[-+]?(?:\d{1,3}|\d*\.\d+(?:e[-+]?\d+)?|\d+(?:\.\d+)?[%s]|\d+/\d+)[,;:]?", re.IGNORECASE),
        "count": re.compile(r"[-+]?(?:\d{1,5}|\d*\.\d+(?:e[-+]?\d+)?|[\d.]+[kmbgt%s]|\d+/\d+)[,;:]?", re.IGNORECASE),
        "random": re.compile(r"(?=\D*\d)(?=[^A-Za-z]*[A-Za-z])[A-Za-z0-9+=]{20,}"),
        # Eight characters with a letter and a digit side by side, as tokens have.
        "mixed": re.compile(r"[A-Za-z]\d[\w.+/=-]{6,}|[\w.+/=-]{6,}(?:\d[A-Za-z]|[A-Za-z]\d)|[A-Za-z]\w*\d-\w*\d"),
        "placeholder": re.compile(
            r"</?[^<>\s]*>|<\|[^<>\s]*\|>|\[[A-Z]+\]|\$\{[^{}\s]*\}|\{\{?[^{}\"']*\}\}?|%\(\w+\)s|%s"
        ),
        "path": re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*"),
        "calm": re.compile(r"(?:[\w\s.,:*\[\](){}|=+-]|[\"'][A-Z_][A-Z0-9_]*[\"']|None)*"),
        "class": re.compile(r"(?:[A-Z][a-z]+){2,}"),
        "after": re.compile(r"[,)\]};:\s]"),
    }
