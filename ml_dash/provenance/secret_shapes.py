"""Mask secrets with a known shape: tokens with a known prefix, private keys, values of HTTP headers."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import re

# A prefix and the pattern after it. With ~ only random text is masked, because words begin like that too.
_TOKENS: tuple[tuple[str, str], ...] = (
    *((f"gh{kind}_", r"\w{16,}") for kind in "pousr"),
    ("github_pat_", r"\w{16,}"),
    *((f"gl{kind}-", r"[\w.-]{16,}") for kind in ("pat", "dt", "rt", "cbt", "ptt", "ft", "soat", "imt", "agent")),
    ("GR1348941", r"[\w-]{16,}"),
    ("hf_", r"~\w{16,}"),
    ("api_org_", r"~\w{16,}"),
    ("sk-", r"~[\w-]{16,}"),
    ("xox", r"[a-z]-[\w-]{10,}"),
    ("xapp-", r"[\w-]{10,}"),
    ("xwfp-", r"[\w-]{10,}"),
    *(
        (prefix, r"[A-Z0-9]{16}(?![A-Za-z0-9])(?:[\"'\s:,;/=|]{1,5}[A-Za-z0-9/+=]{40}(?![A-Za-z0-9/+=]))?")
        for prefix in ("AKIA", "ASIA", "ABIA", "ACCA")
    ),
    ("AIza", r"[\w-]{30,}"),
    ("ya29.", r"[\w.-]{16,}"),
    ("GOCSPX-", r"[\w-]{16,}"),
    ("1//0", r"~[\w-]{30,}"),
    ("npm_", r"~\w{16,}"),
    ("pypi-", r"~[\w-]{16,}"),
    *((f"{kind}_{where}_", r"\w{10,}") for kind in ("sk", "rk") for where in ("live", "test", "prod")),
    ("whsec_", r"~[\w+/=]{16,}"),
    ("SG.", r"~[\w.-]{16,}"),
    ("gsk_", r"~\w{16,}"),
    ("xai-", r"~[\w-]{16,}"),
    ("nvapi-", r"~[\w-]{16,}"),
    ("r8_", r"~\w{16,}"),
    ("dapi", r"~[A-Za-z0-9]{20,}(?:-\d)?"),
    ("AGE-SECRET-KEY-", r"\w{10,}"),
    ("AGE-PLUGIN-", r"[\w-]{20,}"),
    ("dckr_", r"\w{3}_[\w-]{16,}"),
    *((f"do{kind}_v1_", r"\w{16,}") for kind in "por"),
    *((f"shp{kind}_", r"~\w{16,}") for kind in ("at", "ss", "ca", "pa")),
    *((f"sq0{kind}-", r"[\w-]{16,}") for kind in ("csp", "atp", "idp")),
    ("figd_", r"~[\w-]{16,}"),
    ("lin_api_", r"~\w{16,}"),
    ("ntn_", r"~\w{16,}"),
    ("secret_", r"~[A-Za-z0-9]{32,}"),
    ("PMAK-", r"[\w-]{16,}"),
    *((f"NR{kind}-", r"[\w-]{16,}") for kind in ("AK", "JS", "II")),
    ("glc_", r"~[\w+/=]{16,}"),
    ("glsa_", r"~\w{16,}"),
    *((f"hv{kind}.", r"~[\w-]{16,}") for kind in "sbr"),
    *((f"dp.{kind}.", r"~[\w.]{16,}") for kind in ("pt", "st", "ct", "sa")),
    ("fo1_", r"~[\w-]{16,}"),
    ("pul-", r"~\w{16,}"),
    ("rubygems_", r"~\w{16,}"),
    ("sntrys_", r"[\w+/=-]{16,}"),
    ("sntryu_", r"[\w+/=-]{16,}"),
    ("tskey-", r"[\w-]{16,}"),
    ("ATATT3", r"[\w=-]{16,}"),
    ("ATCTT3", r"[\w=-]{16,}"),
    ("ATBB", r"~\w{16,}"),
    ("LTAI", r"~[A-Za-z0-9]{12,}"),
    ("sbp_", r"~\w{16,}"),
    ("sb_secret_", r"~[\w-]{16,}"),
    ("re_", r"~\w{20,}"),
    ("pplx-", r"~\w{16,}"),
    ("fw_", r"~\w{20,}"),
    ("csk-", r"~\w{16,}"),
    ("tgp_v1_", r"~[\w-]{16,}"),
    ("esecret_", r"~\w{16,}"),
    ("jina_", r"~\w{20,}"),
    ("ak-", r"~[A-Za-z0-9]{20,}"),
    ("as-", r"~[A-Za-z0-9]{20,}"),
    ("wandb_v1_", r"~\w{16,}"),
    ("pcsk_", r"~\w{16,}"),
    ("lsv2_", r"[a-z]{2}_\w{16,}"),
    ("pk-lf-", r"~[\w-]{16,}"),
    ("tvly-", r"~[\w-]{16,}"),
    ("phx_", r"~\w{16,}"),
    ("xkeysib-", r"[\w-]{16,}"),
    ("xsmtpsib-", r"[\w-]{16,}"),
    *((f"EZ{kind}K", r"~\w{20,}") for kind in "AT"),
    ("apify_api_", r"~\w{16,}"),
    ("rpa_", r"~\w{16,}"),
    ("CLOJARS_", r"~\w{16,}"),
    ("cio", r"~[A-Za-z0-9]{32,}"),
    ("dt0c01.", r"[\w.]{16,}"),
    ("CFPAT-", r"[\w-]{16,}"),
    ("pat-", r"~[\w-]{20,}"),
    ("key-", r"[a-f0-9]{32}"),
    ("SK", r"[a-f0-9]{32}"),
)
"""Tokens of the services that secret scanners know, and of services for machine learning."""

_ADDRESSES = (
    ("hooks.slack.com/", r"[\w/-]{8,}"),
    ("webhook.office.com/webhookb2/", r"[\w/@.-]{8,}"),
    ("hooks.zapier.com/hooks/catch/", r"[\w/-]{8,}"),
    ("/api/webhooks/", r"[\w/-]{8,}"),
)
"""Webhooks: their address alone gives access. The prefix stays."""

_LONGEST_TOKEN = 2_000

HINTS = ("bearer ", "basic ", "-----", "$")
"""A text with a secret of these shapes has a long run or, in lower case, one of these."""

_STOP_WORDS = frozenset(
    (
        *("of", "token", "tokens", "auth", "authentication", "is", "was", "in", "scheme", "format", "header", "and"),
        *("or", "the", "a", "an", "for", "with", "to", "from", "not", "are", "were", "type", "by", "realm", "at", "on"),
        *("authorization", "prefix", "missing", "required", "expected", "invalid", "credentials", "string", "value"),
    )
)


def has_long_run(text: str) -> bool:
    """Whether a text has a run of letters and digits as long as the shortest token."""
    return _pattern("long").search(text) is not None


def mask_shapes(text: str, mask: str) -> str:
    """Mask the tokens of known shapes in a text."""
    if has_long_run(text):
        text = _mask_tokens(text, mask)
    if "$" in text:
        text = _pattern("crypt").sub(mask, text)
    lower = text.lower()
    if "bearer " in lower:
        text = _pattern("bearer").sub(lambda match: _mask_bearer(match, mask), text)
    return _pattern("basic").sub(lambda match: _mask_basic(match, mask), text) if "basic " in lower else text


def _mask_tokens(text: str, mask: str) -> str:
    for prefix, rest in _TOKENS:
        if prefix in text:
            text = _token_pattern(prefix, rest.lstrip("~")).sub(_masker(mask, not rest.startswith("~")), text)
    for prefix, rest in _ADDRESSES:
        if prefix in text:
            text = _address_pattern(prefix, rest).sub(prefix + mask, text)
    if "eyJ" in text:  # a JSON web token; the whole run is matched, so that each character is tried once
        text = _pattern("jwt").sub(lambda match: mask if "." in match[0] else match[0], text)
    if ":A" in text:
        text = _pattern("telegram").sub(mask, text)
    return _pattern("azure").sub(mask, text) if "Q~" in text else text


def looks_random(text: str) -> bool:
    """Whether a text has ten or more letters and digits in a row that are mixed like those of a token."""
    return any(_is_mixed(run) for run in _pattern("run").findall(text[:_LONGEST_TOKEN]))


def _is_mixed(run: str) -> bool:
    """Whether small letters, capitals and digits alternate more than twice, or once in a long run."""
    kinds = [(letter.isdigit(), letter.isupper()) for letter in run]
    changes = sum(one != other for one, other in itertools.pairwise(kinds))
    return not run.isdigit() and (changes > 2 or (changes > 0 and len(run) >= 24))


def _masker(mask: str, is_certain: bool) -> str | Callable[[re.Match[str]], str]:
    return mask if is_certain else lambda match: mask if looks_random(match[0]) else match[0]


def _mask_bearer(match: re.Match[str], mask: str) -> str:
    word = match[2].rstrip(".,:;)").lower()
    return match[0] if word in _STOP_WORDS or match[2].startswith(("<", "{", "$")) else match[1] + mask


def _mask_basic(match: re.Match[str], mask: str) -> str:
    """Mask the value of a Basic header: a user, a colon and a password in base64."""
    import base64

    value = match[2].rstrip("=")
    try:
        decoded = base64.b64decode(value[: len(value) // 4 * 4])
    except ValueError:
        return match[0]
    return match[1] + mask if b":" in decoded or (len(value) >= 16 and looks_random(value)) else match[0]


# Each pattern is compiled when a text first needs it: all of them would take half as long as the start of a run.


@functools.cache
def _token_pattern(prefix: str, rest: str) -> re.Pattern[str]:
    """Compile the pattern of a token. The literal prefix makes its search quick."""
    import re

    plain = re.escape(prefix)
    return re.compile(rf"{plain}(?<![A-Za-z0-9]{plain}){rest}", re.ASCII)


@functools.cache
def _address_pattern(prefix: str, rest: str) -> re.Pattern[str]:
    import re

    return re.compile(re.escape(prefix) + rest, re.ASCII)


_NAMED = {
    "long": r"[\w.~-]{14}",
    "jwt": r"eyJ(?<![A-Za-z0-9]eyJ)[\w.-]{17,}",
    "telegram": r"(?<![0-9])\d{5,16}:A[\w-]{30,}",
    "azure": r"(?<![\w.~-])[\w.~-]{3}\dQ~[\w.~-]{20,}",
    "crypt": r"\$(?:2[abxy]|[56y]|argon2(?:id|i|d))\$[\w./$,=+-]{20,}",
    "bearer": r"(?<![A-Za-z0-9])([Bb][Ee][Aa][Rr][Ee][Rr][ \t]{1,8})([^\s,;\"'*]+)",
    "basic": r"(?<![A-Za-z0-9])([Bb][Aa][Ss][Ii][Cc][ \t]{1,8})([A-Za-z0-9+/_-]{6,}={0,2})",
    "run": r"[A-Za-z0-9]{10,}",
}


@functools.cache
def _pattern(name: str) -> re.Pattern[str]:
    import re

    return re.compile(_NAMED[name], re.ASCII)
