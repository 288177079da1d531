"""The log: builders, echo, reading by level, time and text, and Python's logging."""

from __future__ import annotations

import datetime
import json
import logging
import os
import re
import time

import pytest

from ml_dash import Experiment
from ml_dash.errors import ExperimentError, InvalidTypeError, InvalidValueError
from ml_dash.query.logs import LogReader
from ml_dash.streams.log_handler import MAX_NESTED, to_level

PREFIX = "alice/walker/run-1"


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """One open run; each test looks only at the lines that it logs itself."""
    with Experiment(PREFIX, dash_root=tmp_path_factory.mktemp("shared"), echo=False).run as exp:
        yield exp


@pytest.fixture
def log(shared):
    """The log, and what was logged since the test began."""
    before = len(shared.logs.read())
    yield shared.logs, lambda: shared.logs.read()[before:]
    shared.logs.echo = False


@pytest.fixture
def logger():
    """A logger that nothing else listens to; the test runner's own handlers raise what ours must not."""
    return logging.Logger("tests.logs", logging.DEBUG)  # noqa: LOG001 - one that getLogger() does not know


class Finished:
    """A run that nobody writes, as a reader sees it."""

    def __init__(self, folder):
        self.folder = str(folder)

    def flush(self, timeout=None):
        return True


def write_log(folder, name, *lines):
    (folder / "logs").mkdir(exist_ok=True)
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / "logs" / name).write_text(text)


def messages(lines):
    return [line["message"] for line in lines]


class TestBuilders:
    def test_a_line_can_get_its_metadata_before_its_text(self, shared, log):
        _, logged = log
        builder = shared.log(metadata={"a": 1}, b=2)
        builder.info("first", c=3)
        builder.error("second", a=4)

        expected = [("info", "first", {"a": 1, "b": 2, "c": 3}), ("error", "second", {"a": 4, "b": 2})]
        assert expected == [(line["level"], line["message"], line["metadata"]) for line in logged()]

    @pytest.mark.parametrize("level", ["debug", "info", "warn", "warning", "error", "fatal", "critical"])
    def test_the_builder_and_the_log_have_a_method_for_each_level(self, log, level):
        logs, logged = log
        getattr(logs.log(), level)("built")
        getattr(logs, level)("called", metadata={"a": 1}, b=2)

        written = {"warning": "warn", "critical": "fatal"}.get(level, level)
        assert [(written, "built"), (written, "called")] == [(line["level"], line["message"]) for line in logged()]
        assert {"a": 1, "b": 2} == logged()[1]["metadata"]

    def test_values_may_be_named_like_what_the_call_has_itself(self, shared, log):
        logs, lines = log
        logs.info("door", level=3)
        logs.warn("door", metadata={"a": 1}, level="upper")
        logs.log(metadata={"a": 1}).error("door", level=2, metadata={"b": 2})

        assert [
            ("info", {"level": 3}),
            ("warn", {"a": 1, "level": "upper"}),
            ("error", {"a": 1, "b": 2, "level": 2}),
        ] == [(line["level"], line["metadata"]) for line in lines()]

    def test_a_builder_alone_logs_nothing(self, shared, log):
        shared.log(metadata={"a": 1})

        assert [] == log[1]()

    def test_a_level_without_a_message_is_a_message_forgotten(self, shared, log):
        with pytest.raises(InvalidTypeError, match="message must be str, it is missing"):
            shared.log(level="error")

        assert [] == log[1]()

    @pytest.mark.parametrize("level", [["info"], {}, 3, b"info"])
    def test_a_level_that_is_no_text_is_refused(self, shared, log, level):
        with pytest.raises(InvalidValueError, match=re.escape(f"level={level!r} is not a log level; use one of debug")):
            shared.log("text", level=level)

        assert [] == log[1]()

    @pytest.mark.parametrize("metadata", [[1], "text", 3])
    def test_metadata_of_a_builder_that_is_no_dict_is_refused(self, shared, metadata):
        with pytest.raises(InvalidTypeError, match="metadata must be a dict"):
            shared.log(metadata=metadata)

    def test_a_builder_of_a_closed_run_says_so(self, tmp_path):
        with Experiment(PREFIX, dash_root=tmp_path, echo=False).run as exp:
            builder = exp.log(metadata={"a": 1})

        with pytest.raises(ExperimentError, match="closed"):
            builder.info("too late")


def test_echo_can_be_switched_while_the_run_is_open(log, capfd):
    logs, logged = log
    logs.info("silent")
    logs.echo = True
    logs.info("shown")
    logs.echo = False
    logs.info("silent again")

    assert "[INFO] shown\n" == capfd.readouterr().out
    assert ["silent", "shown", "silent again"] == messages(logged())


LINES = [
    {"sequenceNumber": 0, "timestamp": "2026-03-01T09:00:00.000000Z", "level": "debug", "message": "Start"},
    {"sequenceNumber": 1, "timestamp": "2026-03-01T09:00:01.250000Z", "level": "info", "message": "epoch 1"},
    {"sequenceNumber": 2, "timestamp": "2026-03-01T09:00:02Z", "level": "warn", "message": "grad CLIPPED at epoch 1"},
    {"sequenceNumber": 3, "timestamp": "2026-03-01T10:00:03.000001+01:00", "level": "error", "message": "NaN?"},
    {"sequenceNumber": 4, "timestamp": "2026-03-01T09:00:04.000000Z", "level": "CRITICAL", "message": "epoch 2"},
]
SECOND = datetime.datetime(2026, 3, 1, 9, 0, 1, 250_000, tzinfo=datetime.UTC)


class TestReading:
    @pytest.fixture
    def reader(self, tmp_path):
        write_log(tmp_path, "logs.jsonl", *LINES)
        return LogReader(Finished(tmp_path))

    @pytest.mark.parametrize(
        ("asked", "numbers"),
        [
            ({}, [0, 1, 2, 3, 4]),
            ({"level": "info"}, [1]),
            ({"level": "WARNING"}, [2]),
            ({"level": ["debug", "fatal"]}, [0, 4]),
            ({"level": []}, []),
            ({"min_level": "warn"}, [2, 3, 4]),
            ({"min_level": "debug"}, [0, 1, 2, 3, 4]),
            ({"level": ["info", "error"], "min_level": "warn"}, [3]),
            ({"start": SECOND}, [1, 2, 3, 4]),
            ({"end": SECOND}, [0, 1]),
            ({"start": SECOND.astimezone()}, [1, 2, 3, 4]),
            ({"start": SECOND.astimezone().replace(tzinfo=None)}, [1, 2, 3, 4]),
            ({"start": SECOND.timestamp(), "end": SECOND.timestamp()}, [1]),
            ({"start": "2026-03-01T09:00:02Z", "end": "2026-03-01T10:00:03.000001+01:00"}, [2, 3]),
            ({"end": "2026-03-01T09:00:03Z"}, [0, 1, 2]),
            ({"contains": "EPOCH"}, [1, 2, 4]),
            ({"contains": "clipped"}, [2]),
            ({"contains": re.compile(r"epoch \d$")}, [1, 2, 4]),
            ({"contains": re.compile("EPOCH")}, []),
            ({"limit": 2}, [3, 4]),
            ({"limit": 0}, []),
            ({"limit": 99}, [0, 1, 2, 3, 4]),
            ({"limit": 10**30}, [0, 1, 2, 3, 4]),
            ({"contains": "epoch", "limit": 2}, [2, 4]),
            ({"contains": "epoch", "min_level": "info", "end": "2026-03-01T09:00:03Z", "limit": 1}, [2]),
        ],
    )
    def test_lines_are_chosen_by_level_time_and_text(self, reader, asked, numbers):
        assert numbers == [line["sequenceNumber"] for line in reader.read(**asked)]

    @pytest.mark.parametrize(
        ("asked", "error", "text"),
        [
            ({"level": "wran"}, InvalidValueError, "did you mean 'warn'"),
            ({"level": ["info", "loud"]}, InvalidValueError, "'loud'"),
            ({"level": 3}, InvalidTypeError, "level=3"),
            ({"min_level": "high"}, InvalidValueError, "'high'"),
            ({"start": "yesterday"}, InvalidValueError, "start='yesterday' is no time"),
            ({"end": float("nan")}, InvalidValueError, "end=nan"),
            ({"end": 1e300}, InvalidValueError, "end=1e"),
            ({"start": [1]}, InvalidTypeError, "start="),
            ({"start": True}, InvalidTypeError, "start=True"),
            ({"contains": 3}, InvalidTypeError, "contains=3"),
            ({"contains": re.compile(b"x")}, InvalidTypeError, "contains="),
            ({"limit": -1}, InvalidValueError, "limit=-1"),
            ({"limit": 1.5}, InvalidTypeError, "limit=1.5"),
            ({"limit": True}, InvalidTypeError, "limit=True"),
        ],
    )
    def test_an_argument_that_cannot_be_used_is_named(self, reader, asked, error, text):
        with pytest.raises(error, match=re.escape(text)):
            reader.read(**asked)

    def test_lines_of_several_writers_come_by_time_and_keep_their_own_order(self, tmp_path):
        stamps = [f"2026-03-01T09:00:0{second}.000000Z" for second in range(4)]
        write_log(tmp_path, "logs.jsonl", *({"timestamp": stamps[i], "message": f"a{i}"} for i in (0, 2)))
        write_log(tmp_path, "logs.host-1.jsonl", *({"timestamp": stamps[i], "message": f"b{i}"} for i in (1, 3)))

        assert ["a0", "b1", "a2", "b3"] == messages(LogReader(Finished(tmp_path)).read())
        assert ["a2", "b3"] == messages(LogReader(Finished(tmp_path)).read(limit=2))

    def test_a_line_without_a_time_is_left_out_only_where_time_matters(self, tmp_path):
        write_log(tmp_path, "logs.jsonl", {"message": "when?", "level": "info"}, LINES[0], {"timestamp": 3})
        reader = LogReader(Finished(tmp_path))

        assert 3 == len(reader.read())
        assert ["Start"] == messages(reader.read(start=0))
        assert [] == reader.read(level="error")

    def test_a_run_without_a_log_has_no_lines(self, tmp_path):
        assert [] == LogReader(Finished(tmp_path)).read(limit=3, contains="x")

    def test_what_was_just_logged_is_within_the_times_around_it(self, log):
        logs, _ = log
        start = time.time()
        logs.info("between")
        end = time.time()

        assert ["between"] == messages(logs.read(start=start, end=end))


class TestHandler:
    def test_records_become_lines_with_their_origin(self, log, logger):
        logs, logged = log
        logger.addHandler(logs.handler())
        logger.warning("loss is %d", 3, extra={"step": 7})
        [line] = logged()

        assert ("warn", "loss is 3") == (line["level"], line["message"])
        assert {"logger": "tests.logs", "file": __file__, "line": line["metadata"]["line"], "step": 7} == line[
            "metadata"
        ]

    @pytest.mark.parametrize(
        ("number", "level"),
        [
            (1, "debug"),
            (10, "debug"),
            (20, "info"),
            (25, "info"),
            (30, "warn"),
            (40, "error"),
            (50, "fatal"),
            (99, "fatal"),
        ],
    )
    def test_each_number_of_logging_has_a_level(self, number, level):
        assert level == to_level(number)

    def test_an_exception_is_kept_with_its_traceback(self, log, logger):
        logs, logged = log
        logger.addHandler(logs.handler())
        try:
            raise KeyError("no such weight")
        except KeyError:
            logger.exception("loading failed")
        [line] = logged()

        assert ("error", "loading failed") == (line["level"], line["message"])
        assert line["metadata"]["exception"].startswith("Traceback")
        assert line["metadata"]["exception"].endswith("KeyError: 'no such weight'")

    @pytest.mark.parametrize("level", ["warn", "WARNING", logging.WARNING])
    def test_less_serious_records_can_be_left_out(self, log, logger, level):
        logs, logged = log
        logger.addHandler(logs.handler(level))
        logger.info("chatter")
        logger.error("matters")

        assert ["matters"] == messages(logged())

    @pytest.mark.parametrize("level", ["loud", 1.5, None, True])
    def test_a_level_that_does_not_exist_is_refused(self, shared, level):
        with pytest.raises(InvalidValueError, match="level"):
            shared.logs.handler(level)

    def test_a_line_of_the_handler_is_not_echoed(self, log, logger, capfd):
        logs, _ = log
        logs.echo = True
        logger.addHandler(logs.handler())
        logger.error("printed by others")

        assert ("", "") == capfd.readouterr()

    def test_a_formatter_decides_about_the_text(self, log, logger):
        logs, logged = log
        handler = logs.handler()
        handler.setFormatter(logging.Formatter("<%(levelname)s> %(message)s"))
        logger.addHandler(handler)
        logger.info("x")

        assert ["<INFO> x"] == messages(logged())

    def test_a_record_that_cannot_be_formatted_is_kept_as_it_is(self, log, logger):
        logs, logged = log
        logger.addHandler(logs.handler())
        logger.info("%d apples", "many")

        assert ["%d apples ('many',)"] == messages(logged())

    def test_a_value_that_cannot_be_stored_costs_only_itself(self, log, logger):
        logs, logged = log
        logger.addHandler(logs.handler())
        logger.info("with a lock", extra={"lock": object()})
        [line] = logged()

        assert {"logger", "file", "line"} == set(line["metadata"])

    def test_text_that_logs_while_it_is_made_does_not_go_round_for_ever(self, log, logger):
        class Chatty:
            def __str__(self):
                logger.info("being made: %s", self)
                return "made"

        logs, logged = log
        logger.addHandler(logs.handler())
        logger.info("%s", Chatty())

        assert MAX_NESTED == len(logged())
        assert "made" == logged()[-1]["message"]

    def test_it_raises_nothing_whatever_is_logged(self, log, logger):
        class Hostile:
            def __str__(self):
                raise RuntimeError("no")

            __repr__ = __str__

        logs, logged = log
        logger.addHandler(logs.handler())
        logger.info("%s", Hostile())
        logger.info(Hostile())
        logger.info("still here")

        assert "still here" == logged()[-1]["message"]

    def test_it_is_harmless_after_the_run_and_works_again_with_it(self, tmp_path, logger):
        experiment = Experiment(PREFIX, dash_root=tmp_path, echo=False)
        with experiment.run as exp:
            logger.addHandler(exp.logs.handler())
            logger.info("first")
        logger.error("nobody listens")
        with experiment.run as exp:
            logger.info("second")

            assert ["first", "second"] == messages(exp.logs.read())

    def test_a_forked_child_logs_beside_its_parent(self, tmp_path, logger):
        with Experiment(PREFIX, dash_root=tmp_path, echo=False).run as exp:
            logger.addHandler(exp.logs.handler())
            logger.info("parent")
            pid = os.fork()
            if pid == 0:
                logger.info("child")
                exp.run.complete()
                os._exit(0)

            assert (pid, 0) == os.waitpid(pid, 0)
            assert ["child", "parent"] == sorted(messages(exp.logs.read()))
