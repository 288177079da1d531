"""How two runs differ, as plain values: the JSON of ``diff``, from which the screen is made as well."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ml_dash.records.values import flatten
from ml_dash.storage import layout

if TYPE_CHECKING:
    from ml_dash.query.run import RunReader

_OF_EVERY_START = frozenset(
    {"version", "complete", "started_at", "recorded_at", "problems", "process.pid", "code.diff_sha256"}
)
"""What differs from start to start and says nothing of a different environment."""


def differences(first: RunReader, second: RunReader) -> dict[str, Any]:
    """Everything that differs; ``equal`` says whether nothing of the parameters, environment and code does."""
    environments = [run.environment() for run in (first, second)]
    params = changes(first.params.get(), second.params.get())
    environment = changes(*(_facts(found) for found in environments))
    packages = changes(*(_mapping(found.get("packages")) for found in environments))
    code = code_difference(first, second)
    return {
        "a": first.prefix,
        "b": second.prefix,
        "equal": not (_any(params) or _any(environment) or _any(packages) or code["changed"]),
        "params": params,
        "environment": environment,
        "packages": packages,
        "code": code,
        "metrics": beside(last_values(first), last_values(second)),
    }


def changes(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """``changed`` (pairs), ``added`` (only the second has it) and ``removed`` (only the first), by name."""
    both = [name for name in first if name in second]
    return {
        "changed": {
            name: {"a": first[name], "b": second[name]} for name in both if not same(first[name], second[name])
        },
        "added": {name: value for name, value in second.items() if name not in first},
        "removed": {name: value for name, value in first.items() if name not in second},
    }


def beside(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """Pairs by name, the same ones too; a side that does not have it is left out."""
    sides = (("a", first), ("b", second))
    return {name: {side: values[name] for side, values in sides if name in values} for name in {**first, **second}}


def same(first: Any, second: Any) -> bool:
    """Whether two values are the same; NaN is the same as NaN, and 1 is not True."""
    return repr(first) == repr(second) or (
        type(first) is not bool and type(second) is not bool and bool(first == second)
    )


def last_values(run: RunReader) -> dict[str, Any]:
    """The last value of each field of each metric, as ``train/loss``."""
    found = {}
    for name in run.metrics.list():
        for field, about in run.metrics(name).stats()["fields"].items():
            if field != "_ts":
                found[f"{name}/{field}" if name else field] = about["last"]
    return found


def code_difference(first: RunReader, second: RunReader) -> dict[str, Any]:
    """The commits of both, whether each had changes, and how those differ.

    Returns:
        ``a`` and ``b`` (``commit``, ``branch``, ``dirty``; None if the run recorded no code), ``changed``, and ``diff`` with
        ``diff_of``: the changes that only one run (``a`` or ``b``) had, as they were recorded, or how the changes of
        ``both`` differ, as a unified diff of the two.
    """
    sides = [_code(run) for run in (first, second)]
    texts = [recorded_changes(run) for run in (first, second)]
    commits = [side.get("commit") if side else None for side in sides]
    changed = commits[0] != commits[1] or texts[0] != texts[1]
    which, lines = _diff(first, second, texts)
    return {"a": sides[0], "b": sides[1], "changed": changed, "diff_of": which, "diff": lines}


def recorded_changes(run: RunReader) -> list[str]:
    """The lines of the run's code.diff: what differed from its commit."""
    try:
        with open(os.path.join(run.folder, layout.CODE_DIFF), encoding="utf-8", errors="replace") as file:
            return file.read().splitlines()
    except OSError:
        return []


def _diff(first: RunReader, second: RunReader, texts: list[list[str]]) -> tuple[str | None, list[str]]:
    if texts[0] == texts[1]:
        return None, []
    if not texts[0] or not texts[1]:
        return ("a", texts[0]) if texts[0] else ("b", texts[1])
    import difflib

    names = [f"{run.prefix}/{layout.CODE_DIFF}" for run in (first, second)]
    return "both", list(difflib.unified_diff(texts[0], texts[1], names[0], names[1], lineterm=""))


def _code(run: RunReader) -> dict[str, Any] | None:
    code = _mapping(run.environment().get("code"))
    return {name: code.get(name) for name in ("commit", "branch", "dirty")} if code else None


def _facts(environment: Mapping[str, Any]) -> dict[str, Any]:
    """Everything but packages and code, which are compared on their own."""
    kept = {name: value for name, value in environment.items() if name not in {"packages", "packages_left_out", "code"}}
    return {name: value for name, value in flatten(kept).items() if name not in _OF_EVERY_START and value != {}}


def _any(found: Mapping[str, Any]) -> bool:
    return any(found[kind] for kind in ("changed", "added", "removed"))


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
