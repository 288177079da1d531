"""Rows of one timestamp are one row, whenever, by whom and in however many sessions they were appended."""

from __future__ import annotations

import itertools
import tempfile
from contextlib import contextmanager

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ml_dash import Experiment

NUMBERS = itertools.count()

TIMES = st.sampled_from([-3.5, -0.0, 0.0, 1e-9, 1.0, 2, 1e12, 1e300])
VALUES = st.integers(0, 99) | st.none() | st.lists(st.integers(0, 9), max_size=2)
FIELDS = st.dictionaries(st.sampled_from(["q", "e", "n"]), VALUES, max_size=3)
APPEND = st.tuples(st.just("append"), TIMES, FIELDS)
OTHER = st.tuples(st.sampled_from(["flush", "flush", "reopen"]))
ACTIONS = st.lists(APPEND | APPEND | APPEND | OTHER, max_size=16)
TWO_WRITERS = st.lists(st.tuples(st.integers(0, 1), APPEND | APPEND | OTHER), max_size=16)

# Each opening and closing takes some 100 ms; so one experiment serves all examples, and each has a topic of its own.
few = settings(max_examples=12, suppress_health_check=[HealthCheck.too_slow])


class Writer:
    """An experiment that is opened again on demand."""

    def __init__(self, root):
        self.exp = Experiment("alice/merge/run", dash_root=root, echo=False)
        self.exp.run.start()

    def act(self, topic, action, rows, rename=str):
        """Do one action, with the experiment and with ``rows``, which says what the track should hold."""
        if action[0] == "append":
            _, when, fields = action
            fields = {rename(name): value for name, value in fields.items()}
            self.exp.tracks(topic).append(fields, _ts=when)
            rows.setdefault(float(when), {"timestamp": float(when)}).update(fields)
        elif action[0] == "flush":
            self.exp.tracks.flush()
        else:
            self.exp.run.complete()
            self.exp.run.start()


def in_order(rows):
    return [rows[when] for when in sorted(rows)]


@contextmanager
def writers(count):
    """That many experiments of one prefix, open at the same time."""
    with tempfile.TemporaryDirectory() as root:
        opened = [Writer(root) for _ in range(count)]
        try:
            yield opened
        finally:
            for writer in opened:
                writer.exp.run.complete()


def test_the_later_call_wins_across_flushes_and_sessions():
    with writers(1) as [writer]:

        @few
        @given(ACTIONS)
        def check(actions):
            topic, rows = f"robot/{next(NUMBERS)}", {}
            for action in actions:
                writer.act(topic, action, rows)
            appended = [action for action in actions if action[0] == "append"]

            assert {"entries": in_order(rows), "count": len(rows)} == writer.exp.tracks(topic).read()
            assert [len(appended)] * bool(appended) == [t["totalEntries"] for t in writer.exp.tracks.list(topic)]

        check()


def test_two_writers_at_once_fill_one_row_together():
    """Each has fields of its own, as between two processes nobody can say which call was later."""
    with writers(2) as both:

        @few
        @given(TWO_WRITERS)
        def check(actions):
            topic, rows = f"robot/{next(NUMBERS)}", {}
            for number, action in actions:
                both[number].act(topic, action, rows, lambda name, number=number: f"{name}{number}")
            for writer in both:
                writer.exp.flush()

            assert [in_order(rows)] * 2 == [writer.exp.tracks(topic).list_entries() for writer in both]

        check()
