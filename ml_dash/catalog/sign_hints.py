"""Signs and words of other languages that people write in conditions, and what to write instead. Pure."""

from __future__ import annotations

UNICODE_SIGNS = {"≤": "<=", "≥": ">=", "≠": "!="}
"""Signs of mathematics, and the sign of a condition with the same meaning."""

DOUBLED_SIGNS = {"=<": "<=", "=>": ">=", "<>": "!=", "><": "!=", "===": "=", "!==": "!="}
"""Two signs in a row, as they are written elsewhere."""

STATUS_WORDS = {
    **dict.fromkeys(("done", "finished", "complete", "success", "succeeded", "ok"), "completed"),
    **dict.fromkeys(("error", "crashed", "fail"), "failed"),
    **dict.fromkeys(("canceled", "aborted", "stopped", "killed", "interrupted"), "cancelled"),
    **dict.fromkeys(("active", "alive"), "live"),
}
"""Words of other programs for a status."""

_WORDS = {
    **dict.fromkeys(("like", "ilike", "contains", "includes", "matches"), "NAME ~ text, or tags has ppo for an item"),
    **dict.fromkeys(("startswith", "endswith"), "NAME ~ text, or a glob such as alice/*"),
    "between": "NAME >= 1 and NAME <= 2",
    **dict.fromkeys(("equals", "eq"), "NAME = value"),
    **dict.fromkeys(("exists", "present"), "has(NAME)"),
}


def sign_hint(word: str, name: str) -> str:
    """Advice for a word that follows a name but is no sign; empty if it is not known.

    Args:
        word: the word, such as ``between``, or one that begins with a sign of mathematics.
        name: the name before it.
    """
    if word[:1] in UNICODE_SIGNS:
        return f"write {name} {UNICODE_SIGNS[word[0]]} {word[1:].strip() or 'value'}"
    advice = _WORDS.get(word.lower())
    return "" if advice is None else f"write {advice.replace('NAME', name)}"
