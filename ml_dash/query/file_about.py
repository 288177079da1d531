"""What may be said of a file: its description, tags, bindrs and metadata."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ml_dash.errors import InvalidTypeError


def check_about(about: Mapping[str, object]) -> None:
    """Check what is to be stored about a file.

    Raises:
        InvalidTypeError: ``tags`` or ``bindrs`` is no list of strings, ``description`` no text, or ``metadata`` no dict.
    """
    for name in ("tags", "bindrs"):
        texts = about.get(name, ())
        if isinstance(texts, str) or not isinstance(texts, Sequence):
            raise InvalidTypeError(f"{name}={texts!r:.80} must be a list of strings")
        for text in texts:
            if not isinstance(text, str):
                raise InvalidTypeError(f"{name}={texts!r:.80} must be a list of strings; {text!r:.80} is none")
    description = about.get("description", "")
    if not isinstance(description, str):
        raise InvalidTypeError(f"description={description!r:.80} must be text; pass str(...) or metadata=")
    metadata = about.get("metadata", {})
    if not isinstance(metadata, Mapping):
        raise InvalidTypeError(f"metadata={metadata!r:.80} must be a dict; pass names and values")
