"""Templates as a pure function of a text and a mapping."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from ml_dash.errors import ConfigurationError
from ml_dash.run.templates import advice, expand

FIELDS = {"user": "alice", "step": 7, "readme": None}


class Counting(Mapping):
    """Fields that remember which of them were worked out."""

    def __init__(self):
        self.read = []

    def __getitem__(self, name):
        self.read.append(name)
        return FIELDS[name]

    def __iter__(self):
        return iter(FIELDS)

    def __len__(self):
        return len(FIELDS)


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("plain", "plain"),
        ("{user}/{step:03d}", "alice/007"),
        ("{EXP.user}/{EXP.step:x}", "alice/7"),
        ("{{user}}", "{user}"),
        ("{user!r:>8}", " 'alice'"),
    ],
)
def test_fields_are_replaced(template, expected):
    assert expected == expand(template, FIELDS, "RUN.prefix")


def test_only_the_fields_of_the_template_are_worked_out():
    fields = Counting()
    expand("plain", fields, "RUN.prefix")
    assert [] == fields.read

    expand("{EXP.step}/{user}", fields, "RUN.prefix")
    assert ["step", "user"] == fields.read


@pytest.mark.parametrize(
    ("template", "problem"),
    [
        ("{usr}", "no field 'usr'; did you mean 'user'"),
        ("{EXP.xyz}", "no field 'xyz'; there are: readme, step, user"),
        ("{readme}", "'readme' has no value"),
        ("{}", "a field has no name"),
        ("{step", "RUN.prefix = '{step' cannot be expanded"),
        ("{step:zz}", "cannot be expanded"),
        ("{step.missing}", "cannot be expanded"),
    ],
)
def test_what_cannot_be_expanded_says_why(template, problem):
    with pytest.raises(ConfigurationError, match=problem):
        expand(template, FIELDS, "RUN.prefix")


def test_advice_is_the_closest_field_or_all():
    assert "did you mean 'step'?" == advice("stp", FIELDS)
    assert "there are: readme, step, user" == advice("zzz", FIELDS)
