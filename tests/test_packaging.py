"""What is shipped: the wheel, the source archive, and what lies at the top of the checkout."""

from __future__ import annotations

import email
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from ml_dash import _version
from tests.support import REPOSITORY

if TYPE_CHECKING:
    from email.message import Message
    from pathlib import Path

TOP_LEVEL = {
    "CHANGELOG.md",
    "LICENSE",
    "README.md",
    "docs",
    "examples",
    "ml_dash",
    "pyproject.toml",
    "tests",
    "tox.ini",
}

# The build backend itself, without a build frontend: nothing is downloaded.
BUILD = "import sys, hatchling.build as b; print(b.build_wheel(sys.argv[1])); print(b.build_sdist(sys.argv[1]))"

BUILD_SECONDS = 60


@dataclass(frozen=True)
class Built:
    """The two archives of one build."""

    wheel: Path
    sdist: Path

    def wheel_names(self) -> set[str]:
        with zipfile.ZipFile(self.wheel) as archive:
            return set(archive.namelist())

    def sdist_names(self) -> set[str]:
        """Names below the archive's top folder."""
        with tarfile.open(self.sdist) as archive:
            return {name.partition("/")[2] for name in archive.getnames()}

    def metadata(self) -> Message:
        with zipfile.ZipFile(self.wheel) as archive:
            [name] = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
            return email.message_from_string(archive.read(name).decode())


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    folder = tmp_path_factory.mktemp("dist")
    done = subprocess.run(
        [sys.executable, "-c", BUILD, str(folder)],
        cwd=REPOSITORY,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=BUILD_SECONDS,
        check=False,
    )
    assert 0 == done.returncode, done.stderr
    wheel, sdist = done.stdout.split()[-2:]
    return Built(folder / wheel, folder / sdist)


def test_the_wheel_holds_the_package_and_nothing_else(built: Built) -> None:
    tops = {name.partition("/")[0] for name in built.wheel_names()}

    assert {"ml_dash", f"ml_dash-{_version.__version__}.dist-info"} == tops


def test_the_wheel_holds_every_module(built: Built) -> None:
    modules = {str(path.relative_to(REPOSITORY)) for path in (REPOSITORY / "ml_dash").rglob("*.py")}

    assert set() == modules - built.wheel_names()


def test_the_wheel_says_that_it_is_typed(built: Built) -> None:
    assert "ml_dash/py.typed" in built.wheel_names()


def test_the_wheel_carries_the_licence(built: Built) -> None:
    assert f"ml_dash-{_version.__version__}.dist-info/licenses/LICENSE" in built.wheel_names()
    assert "MIT" == built.metadata()["License-Expression"]


def test_the_metadata_has_the_version_of_the_package(built: Built) -> None:
    assert _version.__version__ == built.metadata()["Version"]


def test_the_metadata_shows_the_readme(built: Built) -> None:
    assert (REPOSITORY / "README.md").read_text().strip() == str(built.metadata().get_payload()).strip()


def test_the_metadata_names_each_extra(built: Built) -> None:
    assert {"dev", "docs", "manager", "server", "video"} == set(built.metadata().get_all("Provides-Extra", []))


def test_the_source_archive_can_be_built_and_tested(built: Built) -> None:
    """Who packages it for a distribution finds the tests and their configuration."""
    needed = {"pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "tox.ini", "tests/conftest.py"}

    assert set() == needed - built.sdist_names()


def test_the_source_archive_holds_no_leftovers(built: Built) -> None:
    assert [] == [name for name in built.sdist_names() if "__pycache__" in name or name.startswith((".venv", ".tox"))]


def test_the_top_of_the_checkout_holds_only_what_is_expected() -> None:
    """Dot files belong to tools; everything else must be known."""
    found = {entry.name for entry in REPOSITORY.iterdir() if not entry.name.startswith(".")}

    assert TOP_LEVEL == found


def test_the_linter_and_the_type_checker_have_one_version() -> None:
    """`pip install .[dev]` and `tox -e lint,typing` must not disagree about what is clean."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    pinned = [item for item in project["optional-dependencies"]["dev"] if "~=" in item]
    tox = (REPOSITORY / "tox.ini").read_text()

    assert ["mypy", "ruff"] == sorted(item.partition("~=")[0] for item in pinned)
    assert [] == [item for item in pinned if f"deps = {item}\n" not in tox]
