"""The RUN namespace: the settings that make a run's prefix.

Attributes of the class are the settings of this process; an instance has the final values of one experiment::

    RUN.entry = __file__                                    # my-project/experiments/vision/resnet/train.py
    RUN.path_stem                                           # "vision/resnet"
    Experiment(prefix=f"{RUN.user}/{RUN.project}/{RUN.path_stem}")
    Experiment(prefix="{user}/{project}/{path_stem}/{entry_stem}/{job_counter:03d}")

An attribute of the class, when read, is a plain value: the one that the next experiment would get. Only then are the
environment, the disk and the call stack read. A setting comes from the first of: the argument, the attribute of the
class, the environment (`DASH_PREFIX` before `ML_DASH_PREFIX`, `ML_DASH_USER` before `USER`,
`ML_DASH_API_URL`), the default.

`path_stem` tells where a script is in its project: it is the folder of the entry script below the project root, without a
leading `experiments`, `exps` or `scripts`. For a script directly in the root, or directly in such a folder, it is the
name of the script. Two scripts in one folder have the same `path_stem`, and differ in `entry_stem` (the script's name) and
`job_name` (time and counter). For an entry that is a folder, as of a sweep, it is that folder.
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
"""Numbers that are tried for one run: more jobs do not start within one second."""


class _Shared:
    """The settings of this process, with the counter and the id of the next experiment."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.settings: dict[str, Any] = {"job_counter": 0}
        self.next_id: int | None = None

    def after_fork(self) -> None:
        # Another thread may have held the lock, and the next id is the parent's.
        self.lock = threading.RLock()
        self.next_id = None

    def peek(self) -> dict[str, Any]:
        """Return the settings of the next experiment."""
        with self.lock:
            if self.next_id is None:
                self.next_id = generate_snowflake_id()
            return {"id": self.next_id, **self.settings}

    def take(self, *, count: bool) -> dict[str, Any]:
        """Return the settings of the next experiment, and count its id as used, and its counter if `count`."""
        with self.lock:
            taken = self.peek()
            self.next_id = None
            if count and isinstance(taken.get("job_counter"), int):
                self.settings["job_counter"] = taken["job_counter"] + 1
            return taken

    def store(self, name: str, value: Any) -> None:
        """Store a setting; None restores the default, except for the counter, which it stops."""
        with self.lock:
            kept = checked(name, value)
            if kept is None and name != "job_counter":
                self.reset(name)
            else:
                self.settings[name] = self._as_template(name, kept)

    def reset(self, name: str) -> None:
        """Restore a setting's default."""
        with self.lock:
            self.settings.pop(name, None)
            if name == "job_counter":
                self.settings[name] = 0

    def _as_template(self, name: str, value: Any) -> Any:
        # `RUN.job_name += "/seed-1"` works in the published client, where reading gives the template. Here it reads the
        # value of the next job and writes it back longer, which must not keep the jobs after it from counting on.
        values = Values(self.peek())
        try:
            template = values.template(name)
            expanded = values[name] if template else None
        except (ValueError, TypeError):  # the value that is replaced is invalid
            return value
        is_longer = template and expanded and value.startswith(expanded)
        return template + value.removeprefix(expanded) if is_longer else value


_shared = _Shared()
_fork.call_in_child(_shared.after_fork)


class _Namespace(type):
    """Makes the attributes of the class RUN settings: computed when read, checked when set, shared with subclasses."""

    if not TYPE_CHECKING:  # type checkers have the annotations of RUN, and should report other names

        def __getattr__(cls, name: str) -> Any:
            if name not in FIELDS:
                raise AttributeError(f"RUN has no attribute {name!r}; {advice(name, FIELDS)}")
            return Values(_shared.peek())[name]

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
    """The final configuration of one experiment; the class itself has the defaults of this process.

    Every setting is a keyword here, and an attribute of the class and of the instance. None means the default. The
    values of `user`, `project`, `path_stem`, `job_name` and `prefix` may have any attribute as a field in braces, by
    Python's format rules: `{now:%Y/%m-%d}`, `{job_counter:03d}`, `{EXP.id}` (`EXP.` may be left out). `{{` is a brace.

    Attributes:
        prefix: path of the run, `owner/project/.../name`; default
            `{user}/{project}/{now:%Y/%m-%d}/{path_stem}/{job_name}`. Can be set until the run is open; a template is
            expanded with the values before that, so `{EXP.name}` is the name that is replaced.
        owner, name: first and last segment of the prefix; owner is None if there is only one segment.
        project: on an instance the prefix's second segment (if it has one); on the class the project root's name,
            `scratch` without a root. A project with a slash is taken as `owner/project`.
        user: the owner of the runs.
        id: a unique and growing number of 64 bits for each instance, see `ml_dash.snowflake`.
        now: the local time, without time zone, at which ml_dash was first used in this process.
        date, datetime_str, timestamp: `now` as `YYYYMMDD`, as `YYYYMMDD.HHMMSS`, and in seconds since 1970.
        entry: absolute path of the script or folder that is run; default see `find_entry`.
        entry_stem: the script's file name without its ending, or the folder's name.
        project_root: absolute path of the project of `entry`, see `find_project_root`.
        path_stem: path of the entry in its project, such as `vision/resnet`.
        job_counter: 0 in the first instance, then 1, 2, ...; None on the class stops the counting.
        job_name: default `{now:%H.%M.%S}/{job_counter:03d}`.
        api_url: the server for `dash_url=True`.
        readme: the description of the run, or None; never expanded.
        debug: whether a debugger (pydevd) is attached.

    Raises:
        InvalidTypeError: a keyword is unknown, or a value has the wrong type.
        ConfigurationError: a template has an unknown field, or one without a value.
        InvalidNameError: the prefix cannot be a path on disk.
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
            known = [*FIELDS, *(own for own in vars(type(self)) if not own.startswith("_"))]
            raise AttributeError(f"{type(self).__name__} has no attribute {name!r}; {advice(name, known)}")

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
        """Whether the prefix is a default one, in which only the number differs between two starts in one second."""
        settings = self._values.settings
        return (
            self._is_counted
            and type(settings.get("job_counter")) is int
            and settings.get("job_name") is None
            and self._values.template("prefix") in NUMBERED
            and self.prefix == Values(settings)["prefix"]
        )

    def _take_next_number(self) -> None:
        """Change the prefix to the one with the next number, because another process has this one."""
        settings = self._values.settings
        self._values.settings = {**settings, "job_counter": settings["job_counter"] + 1}
        following = Values(self._values.settings)
        for name in ("job_counter", "job_name"):
            self._values.known[name] = following[name]
        self._settle(following["prefix"])

    def __repr__(self) -> str:
        return f"{type(self).__name__}(prefix={self.prefix!r})"


def claim_folder(run: RUN, root: str) -> None:
    """Make the folder of a run with a numbered prefix, under the first number that no other job of this second has.

    A run with a prefix of the user is not changed.

    Args:
        run: the configuration; its prefix and its counter become those of the free number.
        root: absolute path of the folder of all runs.
    """
    if not run._is_numbered:  # noqa: SLF001 - classes of one module
        return
    for _ in range(MOST_JOBS):
        folder = os.path.join(root, *run.prefix.split("/"))
        try:
            os.makedirs(os.path.dirname(folder), exist_ok=True)
            os.mkdir(folder)
        except FileExistsError:
            run._take_next_number()  # noqa: SLF001 - classes of one module
        except OSError:  # opening the run reports it
            return
        else:
            return
