"""The fields of RUN: what each may be, what it is when nobody has set it, and what follows from which."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any

from ml_dash.errors import ConfigurationError, InvalidTypeError
from ml_dash.run.script import entry_stem, find_entry, find_project_root, marked_root, path_stem
from ml_dash.run.templates import expand
from ml_dash.snowflake import generate_snowflake_id
from ml_dash.storage.names import check_prefix, quote

DEFAULT_API_URL = "https://api.dash.ml"
DEFAULT_PROJECT = "scratch"
DEFAULT_JOB_NAME = "{now:%H.%M.%S}/{job_counter:03d}"
DEFAULT_PREFIX = "{user}/{project}/{now:%Y/%m-%d}/{path_stem}/{job_name}"
NUMBERED = (DEFAULT_PREFIX, DEFAULT_PREFIX.removeprefix("{user}/"))
"""The templates of a prefix that nobody chose; in the second, the project names its owner."""

PREFIX_VARIABLES = ("DASH_PREFIX", "ML_DASH_PREFIX")
USER_VARIABLES = ("ML_DASH_USER", "USER")
API_URL_VARIABLE = "ML_DASH_API_URL"

_STARTED = datetime.now()  # noqa: DTZ005 - local time for names; naive, as users compare it with datetime.now()

_TYPES: dict[str, tuple[type, ...]] = {
    "user": (str,),
    "api_url": (str,),
    "project": (str,),
    "prefix": (str,),
    "readme": (str,),
    "id": (int, str),
    "now": (datetime,),
    "project_root": (str, os.PathLike),
    "entry": (str, os.PathLike),
    "path_stem": (str,),
    "job_counter": (object,),
    "job_name": (str,),
    "debug": (bool,),
}
SETTINGS = tuple(_TYPES)
SETTLED = ("user", "api_url", "entry", "project_root", "debug")
"""Read from outside when an instance is made, so that they stay the same for its life."""
_TEMPLATES = frozenset({"user", "project", "prefix", "path_stem", "job_name"})
# What follows from a setting, and from which one.
DERIVED = {
    "owner": "prefix",
    "name": "prefix",
    "entry_stem": "entry",
    "date": "now",
    "datetime_str": "now",
    "timestamp": "now",
}
FIELDS = (*SETTINGS, *DERIVED)


def _default_user() -> str:
    for variable in USER_VARIABLES:
        if os.environ.get(variable):
            return _one_segment(os.environ[variable])
    import getpass  # loads termios and more, and most machines set USER

    try:
        return _one_segment(getpass.getuser())
    except (KeyError, OSError, ImportError):  # a container's user id without a name
        return f"uid-{os.getuid()}" if hasattr(os, "getuid") else "user"


def _one_segment(user: str) -> str:
    # Directory services give DOMAIN\user, and a user is one segment of the prefix.
    return user.replace("\\", "_").replace("/", "_")


def _default_project(values: Values) -> str:
    explicit = values.settings.get("project_root")
    root = explicit or marked_root(values["entry"])
    return os.path.basename(root or "") or DEFAULT_PROJECT


def _default_prefix(values: Values) -> str:
    for variable in PREFIX_VARIABLES:
        if os.environ.get(variable):
            return os.environ[variable]
    # A project with a slash is already `owner/project`.
    return NUMBERED["/" in values["project"]]


# What a setting is when nobody has set it, and what follows from the settings.
_DEFAULTS: dict[str, Callable[[Values], Any]] = {
    "user": lambda _: _default_user(),
    "api_url": lambda _: os.environ.get(API_URL_VARIABLE) or DEFAULT_API_URL,
    "project": _default_project,
    "readme": lambda _: None,
    "id": lambda _: generate_snowflake_id(),
    "now": lambda _: _STARTED,
    "project_root": lambda values: find_project_root(values["entry"]),
    "entry": lambda _: find_entry(),
    "path_stem": lambda values: path_stem(values["entry"], values["project_root"]),
    "job_counter": lambda _: None,
    "debug": lambda _: "pydevd" in sys.modules,
    "owner": lambda values: parse_prefix(values["prefix"])[0],
    "name": lambda values: parse_prefix(values["prefix"])[2],
    "entry_stem": lambda values: entry_stem(values["entry"]),
    "date": lambda values: values["now"].strftime("%Y%m%d"),
    "datetime_str": lambda values: values["now"].strftime("%Y%m%d.%H%M%S"),
    "timestamp": lambda values: values["now"].timestamp(),
}
# The settings whose default is itself a template.
_DEFAULT_TEMPLATES: dict[str, Callable[[Values], str]] = {
    "prefix": _default_prefix,
    "job_name": lambda _: DEFAULT_JOB_NAME,
}


class Values(Mapping[str, Any]):
    """What follows from settings: each value is worked out when first read, and expanded if it is a template."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self.settings = settings
        self.known: dict[str, Any] = {}
        self._under_way: list[str] = []

    def __getitem__(self, name: str) -> Any:
        if name not in FIELDS:
            raise KeyError(name)
        if name not in self.known:
            self.known[name] = self._work_out(name)
        return self.known[name]

    def __iter__(self) -> Iterator[str]:
        return iter(FIELDS)

    def __len__(self) -> int:
        return len(FIELDS)

    def template(self, name: str) -> str | None:
        """Return the text that a setting is expanded from, or None if its value is not made from a text."""
        default = _DEFAULT_TEMPLATES.get(name)
        text = self.settings.get(name) if name in _TEMPLATES else None
        return str(text) if text is not None else default and default(self)

    def _work_out(self, name: str) -> Any:
        if name in self._under_way:
            chain = " -> ".join([*self._under_way[self._under_way.index(name) :], name])
            raise ConfigurationError(f"the value of {name!r} needs itself: {chain}")
        self._under_way.append(name)
        try:
            template = self.template(name)
            if template is not None:
                return expand(template, self, f"RUN.{name}")
            value = self.settings.get(name)
            return _DEFAULTS[name](self) if value is None else value
        finally:
            self._under_way.pop()


def parse_prefix(prefix: str) -> tuple[str | None, str | None, str]:
    """Return owner, project and name of a prefix; slashes around it do not count.

    One segment is a name without owner and project; of two, the second is both the project and the name.

    Raises:
        InvalidNameError: the prefix cannot be a place on disk, see `ml_dash.storage.names.check_path`.
    """
    segments = check_prefix(prefix.strip("/"))
    if len(segments) == 1:
        return None, None, segments[0]
    return segments[0], segments[1], segments[-1]


def checked(name: str, value: Any) -> Any:
    """Return a setting's value as it is kept; None stands for the default."""
    if value is None:
        return None
    _require_type(name, value)
    if name in {"entry", "project_root"}:
        return os.path.abspath(value)  # a program that changes directory later still means the same file
    return value


def _require_type(name: str, value: object) -> None:
    if not isinstance(value, _TYPES[name]):
        expected = " or ".join(kind.__name__ for kind in _TYPES[name])
        raise InvalidTypeError(f"RUN.{name} must be {expected}, not {type(value).__name__}: {quote(value)}")
