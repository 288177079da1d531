"""Users and passwords in addresses. A password may have any character in it, also those that end the place of a host."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import re

_KEEPS_USER = ("ssh", "git+ssh", "ssh+git")


def credentials_end(rest: str) -> int:
    """Where the host of an address begins: after the ``@`` of its user, or at 0 without one.

    A version is told from a host by what follows: ``host/x@v2.git`` has no user, and ``user:1/2@host/x.git`` has one.

    Args:
        rest: what follows ``scheme://``.
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
    return last + 1 if has_path or not has_port(ahead) else 0


def has_port(authority: str) -> bool:
    """Whether what follows the last colon of a host is a port, or there is none."""
    host, _, port = authority.rpartition(":")
    return not host or port.isdecimal() or not port or authority.endswith("]")


def clean_place(scheme: str, rest: str, mask: str) -> str:
    """What follows ``scheme://``, without its password, query and fragment; over ssh the user stays.

    Args:
        scheme: in lower case.
        rest: what follows.
        mask: stands where a host should have a port and has something else.
    """
    end = credentials_end(rest)
    user = rest[:end].rstrip("@").partition(":")[0] if scheme in _KEEPS_USER else ""
    place = _patterns()["query"].split(rest[end:], maxsplit=1)[0]
    host, slash, path = place.partition("/")
    if not has_port(host):
        host = f"{host.partition(':')[0]}:{mask}"
    return f"{user}@{host}{slash}{path}" if user else f"{host}{slash}{path}"


def mask_users(text: str, mask: str) -> str:
    """A text with the users of all addresses in it masked, passwords with them."""
    if "://" not in text or "@" not in text:
        return text
    parts: list[str] = []
    starts = [match.end() for match in _patterns()["scheme"].finditer(text)]
    for start, following in zip(starts, [*starts[1:], len(text)], strict=True):
        found = _patterns()["address"].match(text, start, following)
        end = credentials_end(found[0]) if found else 0
        parts.append(f"{mask}@{text[start + end : following]}" if end else text[start:following])
    return text[: starts[0]] + "".join(parts) if starts else text


@functools.cache
def _patterns() -> dict[str, re.Pattern[str]]:
    import re

    return {
        "authority": re.compile(r"[^/?#]*"),
        "query": re.compile(r"[?#]"),
        # A scheme begins where no word goes on: so each place of a long text is looked at once.
        "scheme": re.compile(r"(?<![a-z0-9+.-])[a-z][a-z0-9+.-]*://", re.IGNORECASE),
        "address": re.compile(r"[^\s\"']*"),
    }
