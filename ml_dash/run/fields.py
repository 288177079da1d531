"""The fields of RUN: their types, their defaults, and how values follow from each other."""

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
"""Default templates of a prefix; the second is for a project that has its owner in its name."""

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
"""Settings with a default from outside, read when an instance is made, so that they do not change during its life."""
_TEMPLATES = frozenset({"user", "project", "prefix", "path_stem", "job_name"})
# Fields that follow from a setting, and that setting.
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
    import getpass  # loads termios and more; most machines set USER

    try:
        return _one_segment(getpass.getuser())
    except (KeyError, OSError, ImportError):  # a container's user id without a name
        return f"uid-{os.getuid()}" if hasattr(os, "getuid") else "user"


def _one_segment(user: str) -> str:
    # Directory services have DOMAIN\user, and a user is one segment of the prefix.
    return user.replace("\\", "_").replace("/", "_")


def _default_project(values: Values) -> str:
    explicit = values.settings.get("project_root")
    root = explicit or marked_root(values["entry"])
    return os.path.basename(root or "") or DEFAULT_PROJECT


def _default_prefix(values: Values) -> str:
    for variable in PREFIX_VARIABLES:
        if os.environ.get(variable):
            return os.environ[variable]
    # A project with a slash is `owner/project`.
    return NUMBERED["/" in values["project"]]


# The default of each setting, and the value of each field that follows from settings.
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
# Settings whose default is a template.
_DEFAULT_TEMPLATES: dict[str, Callable[[Values], str]] = {
    "prefix": _default_prefix,
    "job_name": lambda _: DEFAULT_JOB_NAME,
}


class Values(Mapping[str, Any]):
    """All fields, computed from settings: each value when it is first read, and expanded if it is a template."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self.settings = settings
        self.known: dict[str, Any] = {}
        self._in_progress: list[str] = []

    def __getitem__(self, name: str) -> Any:
        if name not in FIELDS:
            raise KeyError(name)
        if name not in self.known:
            self.known[name] = self._compute(name)
        return self.known[name]

    def __iter__(self) -> Iterator[str]:
        return iter(FIELDS)

    def __len__(self) -> int:
        return len(FIELDS)

    def template(self, name: str) -> str | None:
        """Return the template of a setting; None if its value does not come from a template."""
        default = _DEFAULT_TEMPLATES.get(name)
        text = self.settings.get(name) if name in _TEMPLATES else None
        return str(text) if text is not None else default and default(self)

    def _compute(self, name: str) -> Any:
        if name in self._in_progress:
            chain = " -> ".join([*self._in_progress[self._in_progress.index(name) :], name])
            raise ConfigurationError(f"the value of {name!r} depends on itself: {chain}")
        self._in_progress.append(name)
        try:
            template = self.template(name)
            if template is not None:
                return expand(template, self, f"RUN.{name}")
            value = self.settings.get(name)
            return _DEFAULTS[name](self) if value is None else value
        finally:
            self._in_progress.pop()


def parse_prefix(prefix: str) -> tuple[str | None, str | None, str]:
    """Return owner, project and name of a prefix, without slashes around it.

    One segment is a name without owner and project; of two, the second is both the project and the name.

    Raises:
        InvalidNameError: the prefix cannot be a path on disk, see `ml_dash.storage.names.check_path`.
    """
    segments = check_prefix(prefix.strip("/"))
    if len(segments) == 1:
        return None, None, segments[0]
    return segments[0], segments[1], segments[-1]


def checked(name: str, value: Any) -> Any:
    """Check a setting's value and return it as it is kept; None stands for the default.

    Raises:
        InvalidTypeError: the value has the wrong type.
    """
    if value is None:
        return None
    fits = isinstance(value, _TYPES[name])
    if not fits:
        expected = " or ".join(kind.__name__ for kind in _TYPES[name])
        raise InvalidTypeError(f"RUN.{name} must be {expected}, not {type(value).__name__}: {quote(value)}")
    if name in {"entry", "project_root"}:
        return os.path.abspath(value)  # so that it is still the same file after a change of the current directory
    return value
