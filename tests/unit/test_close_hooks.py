"""The end of a run that nobody ended, and the text of the exception that ended it."""

from __future__ import annotations

import sys

import pytest

from ml_dash.experiment.close_hooks import CloseHooks, describe_error, is_clean_exit


class UnprintableError(Exception):
    def __str__(self):
        raise RuntimeError("no text")


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ValueError("bad"), "ValueError: bad"),
        (KeyboardInterrupt(), "KeyboardInterrupt"),
        (UnprintableError(), "UnprintableError: <no text: RuntimeError>"),
    ],
)
def test_an_error_is_described_by_its_type_and_text(error, text):
    assert text == describe_error(error)


@pytest.mark.parametrize(
    ("error", "expected"),
    [(SystemExit(), True), (SystemExit(0), True), (SystemExit(1), False), (ValueError(), False)],
)
def test_only_an_exit_with_success_is_clean(error, expected):
    assert expected == is_clean_exit(error)


@pytest.fixture
def ends():
    """The calls of ``end``, and hooks that make them."""
    calls = []
    hooks = CloseHooks(lambda status, reason: calls.append((status, reason)))
    hooks.arm()
    yield calls, hooks
    hooks.disarm()


def test_a_run_that_is_open_at_exit_is_completed(ends, monkeypatch):
    calls, hooks = ends
    monkeypatch.delattr(sys, "last_exc", raising=False)
    monkeypatch.delattr(sys, "last_value", raising=False)
    hooks._at_exit()

    assert [("COMPLETED", None)] == calls


def test_a_run_that_is_open_when_an_exception_ends_the_program_failed(ends, monkeypatch):
    calls, hooks = ends
    monkeypatch.setattr(sys, "last_value", ValueError("bad"), raising=False)
    hooks._at_exit()

    assert [("FAILED", "ValueError: bad")] == calls


def test_nothing_is_ended_once_the_hooks_are_removed(ends):
    calls, hooks = ends
    hooks.disarm()
    hooks._at_exit()
    hooks.terminate()

    assert [] == calls
