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

import os
import threading
from datetime import datetime
from typing import TYPE_CHECKING, Any

from ml_dash import _fork
from ml_dash.errors import ExperimentError, InvalidTypeError
from ml_dash.run.fields import DERIVED, FIELDS, NUMBERED, SETTINGS, SETTLED, Values, checked, parse_prefix
from ml_dash.run.script import find_entry, find_project_root
from ml_dash.run.templates import advice, expand
from ml_dash.snowflake import generate_snowflake_id
from ml_dash.storage.names import quote, unknown_keyword

__all__ = ["RUN", "find_entry", "find_project_root", "parse_prefix"]


MOST_JOBS = 10_000
"""Starts within one second that each get a number of their own; nobody starts as many."""


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
            kept = checked(name, value)
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
        values = Values(self.look())
        try:
            template = values.template(name)
            shown = values[name] if template else None
        except (ValueError, TypeError):  # what is being replaced cannot be used
            return value
        return template + value[len(shown) :] if template and shown and value.startswith(shown) else value


_shared = _Shared()
_fork.call_in_child(_shared.after_fork)


class _Namespace(type):
    """Makes the attributes of the class RUN settings: read lazily, checked when set, the same for subclasses."""

    if not TYPE_CHECKING:  # type checkers know the attributes from the annotations of RUN, and should report others

        def __getattr__(cls, name: str) -> Any:
            if name not in FIELDS:
                raise AttributeError(f"RUN has no attribute {name!r}; {advice(name, FIELDS)}")
            return Values(_shared.look())[name]

    def __setattr__(cls, name: str, value: Any) -> None:
        if name in SETTINGS:
            _shared.store(name, value)
        elif name.startswith("_") or (name not in DERIVED and hasattr(cls, name)):
            super().__setattr__(name, value)
        else:
            raise AttributeError(_cannot_set(name))

    def __delattr__(cls, name: str) -> None:
        if name in SETTINGS:
            _shared.reset(name)
        else:
            super().__delattr__(name)


def _cannot_set(name: str) -> str:
    if name in DERIVED:
        return f"RUN.{name} follows from RUN.{DERIVED[name]}; set that one"
    return f"RUN has no setting {name!r}; {advice(name, FIELDS)}"


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

    _is_counted: bool
    _folder_path: str

    def __init__(self, **settings: Any) -> None:
        unknown = next((name for name in settings if name not in SETTINGS), None)
        if unknown is not None:
            raise unknown_keyword(unknown, SETTINGS, type(self).__name__)
        given = {name: checked(name, value) for name, value in settings.items() if value is not None}
        self._is_counted = "job_counter" not in given
        self._values = Values({**_shared.take(count=self._is_counted), **given})
        for name in SETTLED:
            self._values[name]
        self._settle(self._values["prefix"])

    if not TYPE_CHECKING:  # as in _Namespace

        def __getattr__(self, name: str) -> Any:
            if name in FIELDS and "_values" in self.__dict__:
                return self._values[name]
            raise AttributeError(f"{type(self).__name__} has no attribute {name!r}; {advice(name, self._names())}")

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "prefix":
            self._set_prefix(value)
        elif name in FIELDS:
            self._values.known[name] = checked(name, value) if name in SETTINGS else value
            if name == "now":
                for derived in ("date", "datetime_str", "timestamp"):
                    self._values.known.pop(derived, None)
        elif name.startswith("_") or hasattr(type(self), name):
            super().__setattr__(name, value)
        else:
            raise AttributeError(_cannot_set(name))

    def _names(self) -> list[str]:
        """What a name that is not there may have been meant as."""
        return [*FIELDS, *(name for name in vars(type(self)) if not name.startswith("_"))]

    def _set_prefix(self, prefix: Any) -> None:
        if self._is_open:
            raise ExperimentError(
                f"the prefix is {self.prefix!r} and cannot become {quote(prefix)} while the run is open; close it first"
            )
        if prefix is None:
            raise InvalidTypeError("prefix must be str, not None")
        self._settle(expand(checked("prefix", prefix), self._values, "prefix"))

    def _settle(self, prefix: str) -> None:
        owner, project, name = parse_prefix(prefix)
        known = self._values.known
        known.update(prefix=prefix.strip("/"), owner=owner, name=name)
        if project is not None:
            known["project"] = project
        self._folder_path = prefix

    @property
    def _is_open(self) -> bool:
        """Whether the prefix can no longer be changed."""
        return False

    @property
    def _is_numbered(self) -> bool:
        """Whether nobody chose the prefix, so that only its number keeps two starts in one second apart."""
        settings = self._values.settings
        return (
            self._is_counted
            and type(settings.get("job_counter")) is int
            and settings.get("job_name") is None
            and self._values.template("prefix") in NUMBERED
            and self.prefix == Values(settings)["prefix"]
        )

    def _take_next_number(self) -> None:
        """Another process has this number: the prefix becomes the one with the next."""
        settings = self._values.settings
        self._values.settings = {**settings, "job_counter": settings["job_counter"] + 1}
        following = Values(self._values.settings)
        for name in ("job_counter", "job_name"):
            self._values.known[name] = following[name]
        self._settle(following["prefix"])

    def __repr__(self) -> str:
        return f"{type(self).__name__}(prefix={self.prefix!r})"


def claim_folder(run: RUN, root: str) -> None:
    """Make the folder of a run whose prefix is numbered, under the first free number.

    Other jobs start in the same second. A run whose prefix somebody chose is left alone.

    Args:
        run: the configuration; its prefix and its counter change to those of the free number.
        root: absolute path of the folder of all runs.
    """
    if not run._is_numbered:
        return
    for _ in range(MOST_JOBS):
        folder = os.path.join(root, *run.prefix.split("/"))
        try:
            os.makedirs(os.path.dirname(folder), exist_ok=True)
            os.mkdir(folder)
        except FileExistsError:
            run._take_next_number()
        except OSError:  # opening the run reports it
            return
        else:
            return
