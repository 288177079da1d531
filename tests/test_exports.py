"""The names that `import ml_dash` promises."""

from __future__ import annotations

import inspect

import pytest

import ml_dash
from ml_dash import _version, errors

# Adding a name here is a promise to keep it; removing one is a breaking change and needs a line in CHANGELOG.md.
PROMISED = {
    "BufferConfig",
    "Experiment",
    "LogBuilder",
    "LogLevel",
    "MLProject",
    "MLRun",
    "OperationMode",
    "RUN",
    "__version__",
    "ml_dash_experiment",
    "open_run",
    "runs",
}

ERRORS = {
    "AuthenticationError",
    "ConfigurationError",
    "ExperimentError",
    "InvalidNameError",
    "InvalidTypeError",
    "InvalidValueError",
    "MissingEntryError",
    "MissingExtraError",
    "MissingFileError",
    "NotOpenError",
    "MlDashError",
    "NetworkError",
    "StorageError",
}


def test_exactly_the_promised_names_are_exported_once_each() -> None:
    assert sorted(PROMISED | ERRORS) == sorted(ml_dash.__all__)


@pytest.mark.parametrize("name", sorted(PROMISED | ERRORS))
def test_an_exported_name_resolves(name: str) -> None:
    assert getattr(ml_dash, name) is not None


def test_dir_shows_the_exported_names() -> None:
    """Completion in a notebook offers them although they are loaded on first use."""
    assert PROMISED | ERRORS <= set(dir(ml_dash))


def test_a_name_that_does_not_exist_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no_such_name"):
        ml_dash.no_such_name  # noqa: B018  (the access is the test)


def test_every_error_class_is_exported() -> None:
    classes = {
        name for name, value in vars(errors).items() if inspect.isclass(value) and issubclass(value, errors.MlDashError)
    }

    assert ERRORS == classes


def test_every_error_is_drawn_in_the_tree_of_its_module() -> None:
    assert [] == [name for name in sorted(ERRORS) if name not in (errors.__doc__ or "")]


def test_the_version_is_the_one_that_the_build_reads() -> None:
    assert _version.__version__ == ml_dash.__version__
