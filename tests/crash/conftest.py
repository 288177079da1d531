"""Crashes are tested with what users have: the run's own record of its surroundings, and columnar copies at the end."""

from __future__ import annotations

import pytest

WITH_COPIES = ("killed", "disk")
"""In the names of the modules whose runs get copies. In the others a writer would only live longer, a third of a second
for each run, and these have hundreds of runs."""


@pytest.fixture(autouse=True)
def _with_what_is_on_by_default(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ML_DASH_RECORD_ENVIRONMENT", "1")
    if any(part in request.module.__name__ for part in WITH_COPIES):
        monkeypatch.delenv("ML_DASH_COLUMNAR_ROWS")
