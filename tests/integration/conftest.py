"""Open runs: one for each test, and one that the tests of a module share where a name of their own is enough.

Opening a run starts a process and closing it waits for that process, which together take longer than most tests.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest

from ml_dash import Experiment
from tests.support import PREFIX

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_numbers = itertools.count()


@pytest.fixture
def exp(tmp_path: Path) -> Iterator[Experiment]:
    """An open run of this test."""
    with Experiment(PREFIX, dash_root=tmp_path, echo=False).run as exp:
        yield exp


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """The folder of `exp`."""
    return tmp_path / PREFIX


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Experiment]:
    """An open run of this module."""
    with Experiment(PREFIX, dash_root=tmp_path_factory.mktemp("shared"), echo=False).run as exp:
        yield exp


@pytest.fixture
def own_name() -> str:
    """A name that no other test uses: of a metric, a track, a frame stream or a folder of files."""
    return f"own/{next(_numbers)}"
