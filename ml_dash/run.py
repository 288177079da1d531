"""The RUN namespace: where a run's prefix comes from.

Attributes of the class are the settings of this process, each instance holds the settled values of one experiment::

    RUN.entry = __file__                                    # my-project/experiments/vision/resnet/train.py
    RUN.path_stem                                           # "vision/resnet"
    Experiment(prefix=f"{RUN.user}/{RUN.project}/{RUN.path_stem}")
    Experiment(prefix="{user}/{project}/{path_stem}/{entry_stem}/{job_counter:03d}")

Reading an attribute of the class always gives a plain value, the one that the next experiment would get; nothing is
read from the environment, the disk or the call stack before that. A setting comes from, first to last: the argument,
the attribute of the class, the environment (`DASH_PREFIX` before `ML_DASH_PREFIX`, `ML_DASH_USER` before `USER`,
`ML_DASH_API_URL`), the default.

Where a script is, in its project: `path_stem` is the folder of the entry script below the project root, without a
leading `experiments`, `exps` or `scripts`. A script directly in the root, or directly in such a folder, gives its own
name. Two scripts of one folder share their `path_stem`; `entry_stem` (the script's name) and `job_name` (time and
counter) tell them apart. An entry that is a folder, as for a sweep, is its own `path_stem`.
"""

from __future__ import annotations

import functools
import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from ml_dash.errors import ConfigurationError, ExperimentError, InvalidTypeError
from ml_dash.project import entry_stem, find_entry, find_project_root, marked_root, path_stem
from ml_dash.snowflake import generate_snowflake_id
from ml_dash.storage.names import check_prefix, closest, quote, unknown_keyword

DEFAULT_API_URL = "https://api.dash.ml"
DEFAULT_PROJECT = "scratch"
DEFAULT_JOB_NAME = "{now:%H.%M.%S}/{job_counter:03d}"
DEFAULT_PREFIX = "{user}/{project}/{now:%Y/%m-%d}/{path_stem}/{job_name}"

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
_SETTINGS = tuple(_TYPES)
_SETTLED = ("user", "api_url", "entry", "project_root", "debug")
"""Read from outside when an instance is made, so that they stay the same for its life."""
_TEMPLATES = frozenset({"user", "project", "prefix", "path_stem", "job_name"})
# What follows from a setting, and from which one.
_DERIVED = {
    "owner": "prefix",
    "name": "prefix",
    "entry_stem": "entry",
    "date": "now",
    "datetime_str": "now",
    "timestamp": "now",
}
_FIELDS = (*_SETTINGS, *_DERIVED)


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


def _default_project(values: _Values) -> str:
    explicit = values.settings.get("project_root")
    root = explicit or marked_root(values["entry"])
    return os.path.basename(root or "") or DEFAULT_PROJECT


def _default_prefix(values: _Values) -> str:
    for variable in PREFIX_VARIABLES:
        if os.environ.get(variable):
            return os.environ[variable]
    # A project with a slash is already `owner/project`.
    return DEFAULT_PREFIX.removeprefix("{user}/") if "/" in values["project"] else DEFAULT_PREFIX


# What a setting is when nobody has set it, and what follows from the settings.
_DEFAULTS: dict[str, Callable[[_Values], Any]] = {
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
_DEFAULT_TEMPLATES: dict[str, Callable[[_Values], str]] = {
    "prefix": _default_prefix,
    "job_name": lambda _: DEFAULT_JOB_NAME,
}


class _Values(Mapping[str, Any]):
    """What follows from settings: each value is worked out when first read, and expanded if it is a template."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self.settings = settings
        self.known: dict[str, Any] = {}
        self._under_way: list[str] = []

    def __getitem__(self, name: str) -> Any:
        if name not in _FIELDS:
            raise KeyError(name)
        if name not in self.known:
            self.known[name] = self._work_out(name)
        return self.known[name]

    def __iter__(self) -> Iterator[str]:
        return iter(_FIELDS)

    def __len__(self) -> int:
        return len(_FIELDS)

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
                return _expand(template, self, f"RUN.{name}")
            value = self.settings.get(name)
            return _DEFAULTS[name](self) if value is None else value
        finally:
            self._under_way.pop()


class _Exp:
    """What `{EXP.name}` and the like are looked up on: the same fields as without `EXP.`."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = values

    def __getattr__(self, name: str) -> Any:
        return _field(name, self._values)


@functools.cache
def _formatter() -> Any:
    """Python's format rules over named fields; a field without a value is an error, never the text `None`."""
    import string  # compiles a pattern of its own, and most prefixes hold no template

    class Formatter(string.Formatter):
        def get_value(self, key: int | str, args: Any, kwargs: Mapping[str, Any]) -> Any:  # noqa: ARG002 - string's own
            if not isinstance(key, str):
                raise ConfigurationError(
                    "a field has no name; write for example {user}, or {{}} for the braces themselves"
                )
            return _Exp(kwargs) if key == "EXP" else _field(key, kwargs)

    return Formatter()


def _field(name: str, values: Mapping[str, Any]) -> Any:
    if name not in _FIELDS:
        raise ConfigurationError(f"there is no field {name!r}; {_advice(name)}")
    value = values[name]
    if value is None:
        raise ConfigurationError(f"the field {name!r} has no value; set RUN.{name} or leave it out")
    return value


def _advice(name: str) -> str:
    near = closest(name, _FIELDS)
    return f"did you mean {near!r}?" if near else f"there are: {', '.join(sorted(_FIELDS))}"


def _expand(template: str, values: Mapping[str, Any], where: str) -> str:
    if "{" not in template and "}" not in template:
        return template
    try:
        expanded: str = _formatter().vformat(template, (), values)
    except (ValueError, TypeError, AttributeError, LookupError) as error:
        raise ConfigurationError(f"{where} = {quote(template)} cannot be expanded: {error}") from error
    return expanded


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


def _checked(name: str, value: Any) -> Any:
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


class _Shared:
    """The settings of this process, with the counter and the id that the next experiment gets."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.settings: dict[str, Any] = {"job_counter": 0}
        self.next_id: int | None = None

    def after_fork(self) -> None:
        # Another thread may have held the lock, and the id stays the parent's.
        self.lock = threading.RLock()
        self.next_id = None

    def look(self) -> dict[str, Any]:
        """Return the settings of the next experiment."""
        with self.lock:
            if self.next_id is None:
                self.next_id = generate_snowflake_id()
            return {"id": self.next_id, **self.settings}

    def take(self, *, count: bool) -> dict[str, Any]:
        """Return the settings of the next experiment and use up its id, and its counter if `count`."""
        with self.lock:
            taken = self.look()
            self.next_id = None
            if count and isinstance(taken.get("job_counter"), int):
                self.settings["job_counter"] = taken["job_counter"] + 1
            return taken

    def store(self, name: str, value: Any) -> None:
        """Keep a setting; None brings the default back, except for the counter, which it stops."""
        with self.lock:
            kept = _checked(name, value)
            if kept is None and name != "job_counter":
                self.reset(name)
            else:
                self.settings[name] = self._as_template(name, kept)

    def reset(self, name: str) -> None:
        """Bring a setting's default back."""
        with self.lock:
            self.settings.pop(name, None)
            if name == "job_counter":
                self.settings[name] = 0

    def _as_template(self, name: str, value: Any) -> Any:
        # `RUN.job_name += "/seed-1"` reads a plain value and writes it back longer: the next jobs must still count.
        values = _Values(self.look())
        try:
            template = values.template(name)
            shown = values[name] if template else None
        except (ValueError, TypeError):  # what is being replaced cannot be used
            return value
        return template + value[len(shown) :] if template and shown and value.startswith(shown) else value


_shared = _Shared()
if hasattr(os, "register_at_fork"):  # Windows has no fork
    os.register_at_fork(after_in_child=_shared.after_fork)


class _Namespace(type):
    """Makes the attributes of the class RUN settings: read lazily, checked when set, the same for subclasses."""

    if not TYPE_CHECKING:  # type checkers know the attributes from the annotations of RUN, and should report others

        def __getattr__(cls, name: str) -> Any:
            if name not in _FIELDS:
                raise AttributeError(f"RUN has no attribute {name!r}; {_advice(name)}")
            return _Values(_shared.look())[name]

    def __setattr__(cls, name: str, value: Any) -> None:
        if name in _SETTINGS:
            _shared.store(name, value)
        elif name.startswith("_") or (name not in _DERIVED and hasattr(cls, name)):
            super().__setattr__(name, value)
        else:
            raise AttributeError(_cannot_set(name))

    def __delattr__(cls, name: str) -> None:
        if name in _SETTINGS:
            _shared.reset(name)
        else:
            super().__delattr__(name)


def _cannot_set(name: str) -> str:
    if name in _DERIVED:
        return f"RUN.{name} follows from RUN.{_DERIVED[name]}; set that one"
    return f"RUN has no setting {name!r}; {_advice(name)}"


class RUN(metaclass=_Namespace):
    """One experiment's settled configuration; the class itself holds the defaults of this process.

    Every setting is a keyword here, and an attribute of the class and of the instance. None means: the default. In
    `user`, `project`, `path_stem`, `job_name` and `prefix` every attribute can be used as a field in braces, by
    Python's format rules: `{now:%Y/%m-%d}`, `{job_counter:03d}`, `{EXP.id}` (`EXP.` may be left out). `{{` is a brace.

    Attributes:
        prefix: where the run is, `owner/project/.../name`; default
            `{user}/{project}/{now:%Y/%m-%d}/{path_stem}/{job_name}`. Can be set until the run is open; a template is
            expanded with the values of before, so `{EXP.name}` is the name that is being replaced.
        owner, name: first and last segment of the prefix; owner is None if there is one segment only.
        project: on an instance the prefix's second segment (if it has one); on the class the project root's name,
            `scratch` where no root is found. One that holds a slash is taken as `owner/project`.
        user: whose runs these are.
        id: a number of 64 bits, unique and growing, see `ml_dash.snowflake`; each instance has its own.
        now: a datetime, local and without time zone: when ml_dash was first used in this process.
        date, datetime_str, timestamp: `now` as `YYYYMMDD`, as `YYYYMMDD.HHMMSS`, and in seconds since 1970.
        entry: the script or folder that is being run, absolute; default see `find_entry`.
        entry_stem: the script's file name without its ending, or the folder's name.
        project_root: the folder of the project that `entry` belongs to, absolute; see `find_project_root`.
        path_stem: where the entry is in its project, such as `vision/resnet`.
        job_counter: 0 in the first instance, then 1, 2, ...; None on the class stops the counting.
        job_name: default `{now:%H.%M.%S}/{job_counter:03d}`.
        api_url: the server for `dash_url=True`.
        readme: the description of the run, or None; never expanded.
        debug: whether a debugger (pydevd) is attached.

    Raises:
        InvalidTypeError: a keyword is unknown, or a value has the wrong type.
        ConfigurationError: a template has an unknown field, or one without a value.
        InvalidNameError: the prefix cannot be a place on disk.
    """

    user: str
    api_url: str
    project: str
    prefix: str
    readme: str | None
    id: int | str
    now: datetime
    project_root: str
    entry: str
    path_stem: str
    job_counter: int | None
    job_name: str
    debug: bool
    owner: str | None
    name: str
    entry_stem: str
    date: str
    datetime_str: str
    timestamp: float

    _open = False  # while True, the prefix stays
    _folder_path: str

    def __init__(self, **settings: Any) -> None:
        unknown = next((name for name in settings if name not in _SETTINGS), None)
        if unknown is not None:
            raise unknown_keyword(unknown, _SETTINGS, type(self).__name__)
        given = {name: _checked(name, value) for name, value in settings.items() if value is not None}
        self._values = _Values({**_shared.take(count="job_counter" not in given), **given})
        for name in _SETTLED:
            self._values[name]
        self._settle(self._values["prefix"])

    if not TYPE_CHECKING:  # as in _Namespace

        def __getattr__(self, name: str) -> Any:
            if name in _FIELDS and "_values" in self.__dict__:
                return self._values[name]
            raise AttributeError(f"{type(self).__name__} has no attribute {name!r}; {_advice(name)}")

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "prefix":
            self._set_prefix(value)
        elif name in _FIELDS:
            self._values.known[name] = _checked(name, value) if name in _SETTINGS else value
            if name == "now":
                for derived in ("date", "datetime_str", "timestamp"):
                    self._values.known.pop(derived, None)
        elif name.startswith("_") or hasattr(type(self), name):
            super().__setattr__(name, value)
        else:
            raise AttributeError(_cannot_set(name))

    def _set_prefix(self, prefix: Any) -> None:
        if self._open:
            raise ExperimentError(
                f"the prefix is {self.prefix!r} and cannot become {quote(prefix)} while the run is open; close it first"
            )
        if prefix is None:
            raise InvalidTypeError("prefix must be str, not None")
        self._settle(_expand(_checked("prefix", prefix), self._values, "prefix"))

    def _settle(self, prefix: str) -> None:
        owner, project, name = parse_prefix(prefix)
        known = self._values.known
        known.update(prefix=prefix.strip("/"), owner=owner, name=name)
        if project is not None:
            known["project"] = project
        self._folder_path = prefix

    def __repr__(self) -> str:
        return f"{type(self).__name__}(prefix={self.prefix!r})"
