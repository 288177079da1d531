"""The wheel, the source archive, and the top of the checkout hold the right files."""

from __future__ import annotations

import configparser
import email
import re
import shutil
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

# What `uv sync` and `uv build` add to a checkout; git ignores it.
UV_OUTPUT = {"dist", "uv.lock"}

# The build backend itself, without a build frontend: nothing is downloaded.
BUILD = "import sys, hatchling.build as b; print(getattr(b, sys.argv[1])(sys.argv[2]))"

# Import a package from a folder of installed files, which a `.pth` file may extend, and print where it was found.
IMPORT = """
import site, sys
sys.path.insert(0, sys.argv[1])
site.addsitedir(sys.argv[1])
import ml_dash, ml_manager
from ml_manager import MLRun, MLProject
assert MLRun is ml_dash.MLRun and MLProject is ml_dash.MLProject
print(ml_manager.__file__)
"""

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


def build(kind: str, source: Path, folder: Path) -> Path:
    """Let the build backend make one archive of `source`: a "wheel", an "editable" wheel, or an "sdist"."""
    return folder / run([sys.executable, "-c", BUILD, f"build_{kind}", str(folder)], source).split()[-1]


def run(command: list[str], cwd: Path) -> str:
    """Run a command that must succeed and return what it printed."""
    done = subprocess.run(
        command, cwd=cwd, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=BUILD_SECONDS, check=False
    )
    assert 0 == done.returncode, done.stderr
    return done.stdout


def unpack(wheel: Path, folder: Path) -> Path:
    """Put the files of a wheel into a folder, as an installation does."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    folder = tmp_path_factory.mktemp("dist")
    return Built(build("wheel", REPOSITORY, folder), build("sdist", REPOSITORY, folder))


def test_the_wheel_holds_the_two_packages_and_nothing_else(built: Built) -> None:
    tops = {name.partition("/")[0] for name in built.wheel_names()}

    assert {"ml_dash", "ml_manager", f"ml_dash-{_version.__version__}.dist-info"} == tops


def test_the_wheel_holds_every_module(built: Built) -> None:
    modules = {str(path.relative_to(REPOSITORY)) for path in (REPOSITORY / "ml_dash").rglob("*.py")}

    moved = {re.sub("^ml_dash/manager/ml_manager/", "ml_manager/", name) for name in modules}
    assert set() == moved - built.wheel_names()


def test_the_wheel_says_that_it_is_typed(built: Built) -> None:
    assert {"ml_dash/py.typed", "ml_manager/py.typed"} <= built.wheel_names()


@pytest.mark.parametrize("kind", ["wheel", "editable"])
def test_a_program_may_import_the_manager_by_its_own_name(kind: str, tmp_path: Path) -> None:
    """`from ml_manager import MLRun, MLProject` works after `pip install .` and after `pip install -e .`."""
    if kind == "editable":
        pytest.importorskip("editables", reason="hatchling needs it for an editable install")
    site = unpack(build(kind, REPOSITORY, tmp_path), tmp_path / "site")

    assert str(site / "ml_manager/__init__.py") == run([sys.executable, "-c", IMPORT, str(site)], tmp_path).strip()


def test_a_wheel_of_the_source_archive_holds_the_same_files(built: Built, tmp_path: Path) -> None:
    """`uv build` makes the wheel from the source archive."""
    with tarfile.open(built.sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    [source] = tmp_path.iterdir()
    wheel = build("wheel", source, tmp_path)

    assert built.wheel_names() == Built(wheel, built.sdist).wheel_names()


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
    """A packager of a distribution finds the tests and their configuration."""
    needed = {"pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "tox.ini", "tests/conftest.py"}

    assert set() == needed - built.sdist_names()


def test_the_source_archive_holds_no_leftovers(built: Built) -> None:
    assert [] == [name for name in built.sdist_names() if "__pycache__" in name or name.startswith((".venv", ".tox"))]


def test_the_top_of_the_checkout_holds_only_what_is_expected() -> None:
    """Dot files belong to tools; everything else must be known."""
    names = {entry.name for entry in REPOSITORY.iterdir() if not entry.name.startswith(".")}

    assert TOP_LEVEL == names - UV_OUTPUT


def test_the_extra_dev_brings_the_tools_of_a_contributor() -> None:
    """The extra brings each tool that the contributing page names."""
    extras = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    inner = {extra for item in extras["dev"] for extra in re.findall(r"ml-dash\[(.*)\]", item)}
    items = [item for name in ["dev", *",".join(inner).split(",")] for item in extras[name]]
    promised = {"furo", "mypy", "myst-parser", "pytest", "pytest-asyncio", "ruff", "sphinx", "sphinx-autobuild"}

    assert set() == promised - {re.split(r"[^A-Za-z0-9_-]", item)[0] for item in items}


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
@pytest.mark.parametrize(
    ("target", "command"),
    [
        ("html", "python -m sphinx -W --keep-going -b html . _build/html"),
        ("live", "python -m sphinx_autobuild --watch ../ml_dash . _build/html"),
        ("clean", "rm -rf _build"),
    ],
)
def test_the_documentation_is_built_served_and_deleted_by_make(target: str, command: str) -> None:
    assert command == run(["make", "--dry-run", "--no-print-directory", target], REPOSITORY / "docs").strip()


def test_the_linter_and_the_type_checker_have_one_version() -> None:
    """`pip install .[dev]` and `tox -e lint,typing` must not disagree about what is clean."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    pinned = [item for item in project["optional-dependencies"]["dev"] if "~=" in item]
    tox = (REPOSITORY / "tox.ini").read_text()

    assert ["mypy", "ruff"] == sorted(item.partition("~=")[0] for item in pinned)
    assert [] == [item for item in pinned if f"deps = {item}\n" not in tox]


def test_each_part_of_the_tests_has_a_marker_and_an_environment() -> None:
    """`tox` runs every test once: the main part is the tests without the marker of another part."""
    tox = configparser.ConfigParser(interpolation=None)
    tox.read(REPOSITORY / "tox.ini")
    main, *parts = tox["tox"]["env_list"].split(", ")
    markers = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]["pytest"]["ini_options"]["markers"]
    expression = re.search('-m "(.*?)"', tox["testenv"]["commands"])

    assert "py" == main
    assert set(parts) <= {marker.partition(":")[0] for marker in markers}
    assert [f"-m {part}" for part in parts] == [
        re.search(r"-m \w+", tox[f"testenv:{part}"]["commands"])[0] for part in parts
    ]
    assert parts == expression[1].removeprefix("not ").split(" and not ")
