"""The details that a caller may store with a file: description, tags, bindrs and metadata."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypedDict

from ml_dash.errors import InvalidTypeError
from ml_dash.storage.names import unknown_keyword

ABOUT = ("description", "tags", "bindrs", "metadata")
"""The keys of ``About``."""


class About(TypedDict, total=False):
    """Details that are stored in a file's record. Each is optional; None means: not given.

    Attributes:
        description: text for people.
        tags: words to find the file by.
        bindrs: names of the resources or teams that the file belongs to.
        metadata: any values that JSON can hold, by name.
    """

    description: str | None
    tags: Sequence[str] | None
    bindrs: Sequence[str] | None
    metadata: Mapping[str, object] | None


def check_about(about: Mapping[str, object]) -> None:
    """Check the types of details. Keys other than those of ``About`` are not looked at.

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


def check_keywords(call: Callable[..., object], about: Mapping[str, object]) -> None:
    """Check the names of the details that a call was given as ``**about``.

    Raises:
        InvalidTypeError: a name is not in ``About``; the text names the closest keyword of the call.
    """
    unknown = next((name for name in about if name not in ABOUT), None)
    if unknown is not None:
        import inspect  # only for an error message

        parameters = inspect.signature(call).parameters.values()
        own = [parameter.name for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY]
        raise unknown_keyword(unknown, [*own, *ABOUT], f"{call.__name__}()")
