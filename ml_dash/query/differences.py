"""Compare two runs as plain values: the JSON of ``ml-dash diff``, from which its screen is made as well."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ml_dash.records.values import flatten
from ml_dash.storage import layout
from ml_dash.storage.beneath import UnsafeFileError, read_file, warn_refused

if TYPE_CHECKING:
    from ml_dash.query.run import RunReader

DIFF_BYTES = 16 * 1024 * 1024
"""The largest code.diff that is read; a writer cuts it far below."""

_CHANGES_EACH_START = frozenset(
    {"version", "complete", "started_at", "recorded_at", "problems", "process.pid", "code.diff_sha256"}
)
"""Facts of the environment that differ between two starts of one program."""


def compare_runs(first: RunReader, second: RunReader) -> dict[str, Any]:
    """Compare the parameters, environment, packages, code and last values of two runs.

    Returns:
        ``a`` and ``b`` (the prefixes), ``equal`` (whether parameters, environment, packages and code are the same),
        ``params``, ``environment`` and ``packages`` (see ``changes``), ``code`` (see ``compare_code``), and ``metrics``:
        by ``metric/field`` the last values as ``a`` and ``b``; a run without such a field has no key there.
    """
    environments = [run.environment() for run in (first, second)]
    params = changes(first.params.get(), second.params.get())
    environment = changes(*map(_environment_facts, environments))
    packages = changes(*(_dict(environment.get("packages")) for environment in environments))
    code = compare_code(first, second)
    has_changes = any(
        part[kind] for part in (params, environment, packages) for kind in ("changed", "added", "removed")
    )
    values = [last_values(run) for run in (first, second)]
    return {
        "a": first.prefix,
        "b": second.prefix,
        "equal": not (has_changes or code["changed"]),
        "params": params,
        "environment": environment,
        "packages": packages,
        "code": code,
        "metrics": {
            name: {
                side: side_values[name] for side, side_values in zip("ab", values, strict=True) if name in side_values
            }
            for name in {**values[0], **values[1]}
        },
    }


def changes(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """Compare two dicts.

    Returns:
        ``changed`` (by name, ``a`` and ``b``), ``added`` (values that only the second has) and ``removed`` (values that
        only the first has).
    """
    common = [name for name in first if name in second]
    return {
        "changed": {
            name: {"a": first[name], "b": second[name]} for name in common if not same(first[name], second[name])
        },
        "added": {name: value for name, value in second.items() if name not in first},
        "removed": {name: value for name, value in first.items() if name not in second},
    }


def same(first: Any, second: Any) -> bool:
    """Whether two values are the same: NaN is the same as NaN, 1 as 1.0, but not as True."""
    return repr(first) == repr(second) or (
        type(first) is not bool and type(second) is not bool and bool(first == second)
    )


def last_values(run: RunReader) -> dict[str, Any]:
    """Return the last value of each field of each metric by ``metric/field``, or ``field`` for the unnamed metric."""
    return {
        f"{name}/{field}" if name else field: statistics["last"]
        for name in run.metrics.list()
        for field, statistics in run.metrics(name).stats()["fields"].items()
        if field != "_ts"
    }


def compare_code(first: RunReader, second: RunReader) -> dict[str, Any]:
    """Compare the commits of two runs, and their changes that were not committed.

    Returns:
        ``a`` and ``b`` (``commit``, ``branch``, ``dirty``; None if the run recorded no code), ``changed``, and ``diff``:
        a list of lines. ``diff_of`` says what they are: the recorded changes of the only run that has any (``a`` or
        ``b``), or, for ``both``, a unified diff between the changes of the two. It is None without lines.
    """
    sides = [_code(run) for run in (first, second)]
    texts = [recorded_changes(run) for run in (first, second)]
    commits = [side.get("commit") if side else None for side in sides]
    diff_of: str | None = None
    diff: list[str] = []
    if texts[0] != texts[1] and all(texts):
        import difflib

        names = [f"{run.prefix}/{layout.CODE_DIFF}" for run in (first, second)]
        diff_of, diff = "both", list(difflib.unified_diff(texts[0], texts[1], names[0], names[1], lineterm=""))
    elif texts[0] != texts[1]:
        diff_of, diff = ("a", texts[0]) if texts[0] else ("b", texts[1])
    changed = commits[0] != commits[1] or texts[0] != texts[1]
    return {"a": sides[0], "b": sides[1], "changed": changed, "diff_of": diff_of, "diff": diff}


def recorded_changes(run: RunReader) -> list[str]:
    """Read the lines of code.diff, the changes that were not committed; an empty list if there is none."""
    try:
        content = read_file(os.path.join(run.folder, layout.CODE_DIFF), DIFF_BYTES)
    except UnsafeFileError as error:
        warn_refused(error)
        return []
    except OSError:
        return []
    return content.decode("utf-8", "replace").replace("\r\n", "\n").replace("\r", "\n").splitlines()


def _code(run: RunReader) -> dict[str, Any] | None:
    code = _dict(run.environment().get("code"))
    return {name: code.get(name) for name in ("commit", "branch", "dirty")} if code else None


def _environment_facts(environment: Mapping[str, Any]) -> dict[str, Any]:
    """Return the environment as flat facts, without packages and code, which are compared by themselves."""
    kept = {name: value for name, value in environment.items() if name not in {"packages", "packages_left_out", "code"}}
    return {name: value for name, value in flatten(kept).items() if name not in _CHANGES_EACH_START and value != {}}


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
