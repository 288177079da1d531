"""Users and passwords in URLs. A password may have any character, also those that end a host."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import re

_USER_IN_ADDRESS = ("ssh", "git+ssh", "ssh+git")
"""Schemes in which the user is part of the address."""


def credentials_end(rest: str) -> int:
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
    return last + 1 if has_path or not has_port(ahead) else 0


def has_port(authority: str) -> bool:
    """Whether the text after the last colon of a host is a port, or there is no colon."""
    host, _, port = authority.rpartition(":")
    return not host or port.isdecimal() or not port or authority.endswith("]")


def clean_host_and_path(scheme: str, rest: str, mask: str) -> str:
    """Return the part of a URL after ``scheme://`` without password, query and fragment; over ssh the user stays."""
    end = credentials_end(rest)
    user = rest[:end].rstrip("@").partition(":")[0] if scheme in _USER_IN_ADDRESS else ""
    host, slash, path = _patterns()["query start"].split(rest[end:], maxsplit=1)[0].partition("/")
    if not has_port(host):
        host = f"{host.partition(':')[0]}:{mask}"
    return f"{user}@{host}{slash}{path}" if user else f"{host}{slash}{path}"


def mask_users(text: str, mask: str) -> str:
    """Mask the users and passwords of all URLs in a text."""
    if "://" not in text or "@" not in text:
        return text
    parts: list[str] = []
    starts = [match.end() for match in _patterns()["scheme"].finditer(text)]
    if not starts:
        return text
    for start, following in zip(starts, [*starts[1:], len(text)], strict=True):
        address = _patterns()["address"].match(text, start, following)
        end = credentials_end(address[0]) if address else 0
        parts.append(f"{mask}@{text[start + end : following]}" if end else text[start:following])
    return text[: starts[0]] + "".join(parts)


@functools.cache
def _patterns() -> dict[str, re.Pattern[str]]:
    import re

    return {
        "authority": re.compile(r"[^/?#]*"),
        "query start": re.compile(r"[?#]"),
        # A scheme begins where no word goes on: so each position of a long text is tried once.
        "scheme": re.compile(r"(?<![a-z0-9+.-])[a-z][a-z0-9+.-]*://", re.IGNORECASE),
        "address": re.compile(r"[^\s\"']*"),
    }
