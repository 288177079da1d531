"""Crash tests use the default settings: a run records its environment, and long streams get columnar copies."""

from __future__ import annotations

import pytest

WITH_COPIES = ("killed", "disk")
"""Parts of the names of the modules whose runs get columnar copies. In the other modules, which have hundreds of runs, each
writer would only live a third of a second longer."""


@pytest.fixture(autouse=True)
def _with_what_is_on_by_default(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ML_DASH_RECORD_ENVIRONMENT", "1")
    if any(part in request.module.__name__ for part in WITH_COPIES):
        monkeypatch.delenv("ML_DASH_COLUMNAR_ROWS")
