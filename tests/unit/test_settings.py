from __future__ import annotations

import dataclasses
import os
import re

import pytest

from ml_dash import BufferConfig
from ml_dash.errors import ConfigurationError
from tests.support import REPOSITORY

# The protocol between a shell's completion and click, which makes its name from that of the command.
SET_BY_CLICK = {"_ML_DASH_COMPLETE", "ML_DASH_COMPLETE"}


def test_the_defaults():
    config = BufferConfig()

    assert (64, "block", True) == (config.frame_buffer_mb, config.frame_policy, config.echo)
    assert (2.0, 60.0) == (config.sync_interval, config.close_timeout)
    assert 1 <= config.encoder_count <= 4


def test_an_empty_environment_gives_the_defaults():
    assert BufferConfig() == BufferConfig.from_env({})
    assert BufferConfig() == BufferConfig.from_env({"ML_DASH_ECHO": "  ", "ML_DASH_ENCODERS": ""})


OTHER = {int: ("7", 7), float: (" 1.5 ", 1.5), bool: ("off", False), str: ("drop", "drop")}


@pytest.mark.parametrize("field", dataclasses.fields(BufferConfig), ids=lambda field: field.name)
def test_every_setting_has_a_variable(field):
    text, value = OTHER[type(field.default)]
    if value == field.default:
        text, value = "yes", True
    config = BufferConfig.from_env({f"ML_DASH_{field.name.upper()}": text})

    assert dataclasses.replace(BufferConfig(), **{field.name: value}) == config


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", True),
        ("true", True),
        ("YES", True),
        ("On", True),
        ("0", False),
        ("False", False),
        ("no", False),
        ("OFF", False),
    ],
)
def test_truth_has_many_spellings(text, value):
    assert value is BufferConfig.from_env({"ML_DASH_ECHO": text}).echo


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("ML_DASH_ECHO", "maybe"),
        ("ML_DASH_FRAME_BUFFER_MB", "64MB"),
        ("ML_DASH_FRAME_BUFFER_MB", "1.5"),
        ("ML_DASH_FLUSH_INTERVAL", "soon"),
    ],
)
def test_a_variable_that_cannot_be_read_is_named(variable, text):
    with pytest.raises(ConfigurationError) as caught:
        BufferConfig.from_env({variable: text})

    assert f"{variable}={text!r}" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("frame_policy", "wait"),
        ("frame_policy", 3),
        ("frame_buffer_mb", 0),
        ("frame_buffer_mb", 65537),
        ("frame_buffer_mb", "64"),
        ("frame_buffer_mb", 1.5),
        ("frame_buffer_mb", True),
        ("encoders", -1),
        ("encoders", 65),
        ("sync_interval", 0),
        ("sync_interval", float("nan")),
        ("stall_timeout", float("inf")),
        ("close_timeout", -1.0),
        ("fault_timeout", "5"),
        ("echo", 1),
    ],
)
def test_a_value_that_cannot_work_is_refused_by_name(name, value):
    with pytest.raises(ConfigurationError) as caught:
        BufferConfig(**{name: value})
    with pytest.raises(ConfigurationError):
        BufferConfig().replaced(**{name: value})

    assert f"{name}={value!r}: must be" in str(caught.value)


def test_a_whole_number_of_seconds_is_fine():
    assert 5 == BufferConfig(sync_interval=5).sync_interval


def test_none_keeps_what_is_set():
    assert BufferConfig(encoders=3) == BufferConfig(encoders=3).replaced(encoders=None, echo=None)


def test_half_of_the_processors_encode(monkeypatch):
    counts = []
    for processors in (1, 2, 3, 6, 64):
        monkeypatch.setattr(os, "sched_getaffinity", lambda pid, n=processors: set(range(n)), raising=False)
        counts.append(BufferConfig().encoder_count)

    assert [1, 1, 1, 3, 4] == counts
    assert 9 == BufferConfig(encoders=9).encoder_count


@pytest.mark.parametrize("field", dataclasses.fields(BufferConfig), ids=lambda field: field.name)
def test_every_setting_stands_in_the_documentation_with_its_variable_and_default(field):
    page = (REPOSITORY / "docs/concepts/settings.md").read_text()
    [row] = [line for line in page.splitlines() if line.startswith(f"| `{field.name}` |")]

    cells = [cell.strip() for cell in row.split("|")]
    assert f"`ML_DASH_{field.name.upper()}`" == cells[2]
    default = (
        {True: "true", False: "false"}.get(field.default, field.default) if field.type == "bool" else field.default
    )
    assert str(default) in cells[3].replace("`", "")


def test_every_variable_that_the_code_reads_stands_in_the_documentation():
    page = (REPOSITORY / "docs/concepts/settings.md").read_text()
    read = {
        name
        for path in (REPOSITORY / "ml_dash").rglob("*.py")
        for name in re.findall(r"\b(?:ML_)?DASH_[A-Z_]*[A-Z]\b", path.read_text())
    }

    assert {"DASH_PREFIX", "ML_DASH_USER"} <= read
    assert [] == sorted(name for name in read - SET_BY_CLICK if name not in page)
