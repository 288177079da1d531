"""Crashes are tested with what users have: the run's own record of its surroundings is on."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _with_the_record_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ML_DASH_RECORD_ENVIRONMENT", "1")
