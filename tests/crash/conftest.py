"""Crashes are tested with what users have: the run's own record of its surroundings, and columnar copies at the end."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _with_what_is_on_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ML_DASH_RECORD_ENVIRONMENT", "1")
    monkeypatch.delenv("ML_DASH_COLUMNAR_ROWS")
