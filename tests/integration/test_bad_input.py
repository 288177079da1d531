"""A wrong call raises one of our exceptions at the call, says what is wrong and what to do, and writes nothing."""

from __future__ import annotations

import contextlib
import math
from pathlib import Path

import numpy as np
import pytest

from ml_dash import BufferConfig, Experiment
from ml_dash.errors import (
    ConfigurationError,
    ExperimentError,
    InvalidNameError,
    InvalidTypeError,
    InvalidValueError,
    MlDashError,
    StorageError,
)
from tests.support import run_python, shown

PREFIX = "alice/walker/run-1"
PIXELS = np.zeros((8, 8, 3), np.uint8)

BAD_PATHS = {
    "..": "'..'",
    "a/../b": "'..'",
    "../../etc/passwd": "'..'",
    "./a": "'.'",
    "/absolute": "absolute",
    "": "empty",
    "a//b": "empty segment",
    "a/": "ends in a slash",
    "a\0b": "control character",
    "a\nb": "control character",
    "a\\b": "backslash",
    "x" * 256: "255",
    "/".join(["x" * 200] * 6): "1024",
    "a\udcff": "surrogate",
}
BUILDERS = {
    "metric": lambda exp, name: exp.metrics(name),
    "track": lambda exp, name: exp.tracks(name),
    "files": lambda exp, name: exp.files(name),
    "frames": lambda exp, name: exp.frames(name),
    "save_text": lambda exp, name: exp.files("ok").save_text("x", to=name),
    "save_json": lambda exp, name: exp.files("ok").save_json({}, to=name),
    "save_pkl": lambda exp, name: exp.files("ok").save_pkl({}, to=name),
    "save_blob": lambda exp, name: exp.files("ok").save_blob(b"x", to=name),
    "upload": lambda exp, name: exp.files("ok").upload(__file__, to=name),
    "metrics.log": lambda exp, name: exp.metrics.log(ok=1, **{name: {"loss": 1}}),
}


def tree(root):
    """Every file below a folder with its content, but for what a writer says of itself."""
    return {path: path.read_bytes() for path in Path(root).rglob("*") if path.is_file()}


@pytest.fixture
def exp(tmp_path):
    with Experiment(PREFIX, dash_root=tmp_path, echo=False, record_environment=False).run as exp:
        exp.flush()
        yield exp


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """One run for many wrong calls: that nothing was written is seen at each one."""
    root = tmp_path_factory.mktemp("shared")
    # What a run records of itself comes a moment after its start, and would look like something that a call wrote.
    with Experiment(PREFIX, dash_root=root, echo=False, record_environment=False).run as exp:
        yield exp


@pytest.fixture(scope="module")
def closed(tmp_path_factory):
    """An experiment that has ended, and what was obtained from it before."""
    experiment = Experiment(PREFIX, dash_root=tmp_path_factory.mktemp("closed"), echo=False)
    with experiment.run as exp:
        built = {name: build(exp) for name, (build, _) in BUILT_BEFORE.items()}
    return experiment, built


@contextlib.contextmanager
def refused(exp, error, *texts):
    """The block raises `error` with each of `texts`, and the run's files stay as they are."""
    exp.flush()
    before, published = tree(exp.folder), exp.health()["published"]
    with pytest.raises(error) as caught:
        yield
    exp.flush()

    assert isinstance(caught.value, MlDashError)
    for text in texts:
        assert text in str(caught.value)
    assert published == exp.health()["published"]
    assert before == tree(exp.folder)


class TestNames:
    @pytest.mark.parametrize(("name", "problem"), BAD_PATHS.items(), ids=[repr(name)[:20] for name in BAD_PATHS])
    @pytest.mark.parametrize("build", BUILDERS.values(), ids=BUILDERS)
    def test_a_path_that_cannot_be_a_place_on_disk(self, shared, build, name, problem):
        with refused(shared, InvalidNameError, problem):
            build(shared, name)

    @pytest.mark.parametrize(
        "name", [name for name in BAD_PATHS if name.strip("/") == name], ids=lambda name: repr(name)[:20]
    )
    def test_a_prefix_that_cannot_be_a_place_on_disk(self, tmp_path, name):
        with pytest.raises(ValueError) as caught:
            Experiment(name, dash_root=tmp_path)

        assert isinstance(caught.value, MlDashError)
        assert [] == list(tmp_path.iterdir())

    @pytest.mark.parametrize("name", [3, b"name", ["a"], object(), PIXELS], ids=lambda name: type(name).__name__)
    @pytest.mark.parametrize(
        "build",
        [build for key, build in BUILDERS.items() if key not in ("metrics.log", "upload")],
        ids=[key for key in BUILDERS if key not in ("metrics.log", "upload")],
    )
    def test_a_name_that_is_no_text(self, shared, build, name):
        with refused(shared, InvalidTypeError, "must be a str"):
            build(shared, name)

    @pytest.mark.parametrize(
        ("build", "name"),
        [
            ("metric", "train/data.jsonl"),
            ("track", "metadata.json/x"),
            ("track", "a/DATA.jsonl"),
            ("save_blob", None),
        ],
    )
    def test_names_of_our_own_files(self, exp, build, name):
        with refused(exp, InvalidNameError, "choose another name"):
            if name is None:
                exp.files.save_blob(b"x", to="index.jsonl")
            else:
                BUILDERS[build](exp, name)


class TestKeywords:
    @pytest.mark.parametrize(
        ("keyword", "closest"),
        [("tag", "tags"), ("read_me", "readme"), ("dashroot", "dash_root"), ("metdata", "metadata")],
    )
    def test_an_unknown_one_names_the_closest(self, tmp_path, keyword, closest):
        with pytest.raises(InvalidTypeError, match=f"'{keyword}'; did you mean '{closest}'"):
            Experiment(PREFIX, **{keyword: "x"})

    def test_an_unknown_option_of_a_folder(self, exp):
        with refused(exp, InvalidTypeError, "'tag'", "'tags'"):
            exp.files("models", tag=["a"])

    @pytest.mark.parametrize(
        ("option", "value"),
        [
            ("readme", 3),
            ("tags", "ppo"),
            ("tags", [1]),
            ("tags", 3),
            ("bindrs", "team"),
            ("metadata", [1]),
            ("metadata", "text"),
            ("metadata", {"a": {"b": object()}}),
            ("dash_root", 3),
            ("dash_root", None),
            ("dash_root", "a\0b"),
            ("frame_buffer_mb", 0),
            ("frame_buffer_mb", "64"),
            ("frame_policy", "wait"),
            ("echo", "yes"),
            ("buffer_config", {"encoders": 1}),
        ],
    )
    def test_a_setting_that_cannot_be_used(self, tmp_path, option, value):
        with pytest.raises((TypeError, ValueError)) as caught:
            Experiment(PREFIX, **{"dash_root": tmp_path, option: value})

        assert isinstance(caught.value, MlDashError)
        assert option in str(caught.value)
        assert [] == list(tmp_path.iterdir())

    def test_a_variable_that_cannot_be_used(self, tmp_path, monkeypatch):
        monkeypatch.setenv("ML_DASH_FRAME_BUFFER_MB", "much")
        with pytest.raises(ConfigurationError, match="ML_DASH_FRAME_BUFFER_MB='much'"):
            Experiment(PREFIX, dash_root=tmp_path)

    def test_a_setting_of_the_config_that_is_overridden(self, tmp_path):
        with pytest.raises(ConfigurationError, match="frame_buffer_mb=-1"):
            Experiment(PREFIX, dash_root=tmp_path, buffer_config=BufferConfig(), frame_buffer_mb=-1)


CALLS = {
    "log": lambda exp: exp.log("x"),
    "logs.info": lambda exp: exp.logs.info("x"),
    "logs.read": lambda exp: exp.logs.read(),
    "params.set": lambda exp: exp.params.set(a=1),
    "params.get": lambda exp: exp.params.get(),
    "metrics": lambda exp: exp.metrics("m").log(a=1),
    "metrics.log": lambda exp: exp.metrics.log(a=1),
    "tracks": lambda exp: exp.tracks("t").append(a=1, _ts=0),
    "track": lambda exp: exp.track("t"),
    "files": lambda exp: exp.files("f").save_blob(b"x", to="a"),
    "frames": lambda exp: exp.frames("f").append(PIXELS),
    "flush": lambda exp: exp.flush(),
}
BUILT_BEFORE = {
    "logs": (lambda exp: exp.logs, lambda logs: logs.info("x")),
    "params": (lambda exp: exp.params, lambda params: params.set(a=1)),
    "params.get": (lambda exp: exp.params, lambda params: params.get()),
    "metric": (lambda exp: exp.metrics("m"), lambda metric: metric.log(a=1)),
    "metric.read": (lambda exp: exp.metrics("m"), lambda metric: metric.read()),
    "metrics": (lambda exp: exp.metrics, lambda metrics: metrics.log(a=1, train={"b": 2})),
    "describe": (lambda exp: exp.metrics, lambda metrics: metrics("m", description="x")),
    "track": (lambda exp: exp.tracks("t"), lambda track: track.append(a=1, _ts=0)),
    "save_blob": (lambda exp: exp.files("f"), lambda files: files.save_blob(b"x", to="a")),
    "save_image": (lambda exp: exp.files("f"), lambda files: files.save_image(PIXELS, to="a.png")),
    "upload": (lambda exp: exp.files("f"), lambda files: files.upload(__file__)),
    "list": (lambda exp: exp.files("f"), lambda files: files.list()),
    "frames": (lambda exp: exp.frames("f"), lambda frames: frames.append(PIXELS)),
}


class TestNotOpen:
    @pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
    def test_before_the_start(self, tmp_path, call):
        experiment = Experiment(PREFIX, dash_root=tmp_path)
        with pytest.raises(ExperimentError, match=r"not open yet; use `with experiment\.run as exp:`"):
            call(experiment)
        assert [] == list(tmp_path.iterdir())

    @pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
    def test_after_the_end(self, closed, call):
        experiment, _ = closed
        before = tree(experiment.folder)
        with pytest.raises(ExperimentError, match="closed"):
            call(experiment)
        assert before == tree(experiment.folder)

    @pytest.mark.parametrize("name", BUILT_BEFORE)
    def test_what_was_obtained_before_the_end(self, closed, name):
        experiment, built = closed
        before = tree(experiment.folder)
        with pytest.raises(ExperimentError, match="closed"):
            BUILT_BEFORE[name][1](built[name])
        assert before == tree(experiment.folder)

    def test_a_name_that_no_experiment_has(self, exp):
        with pytest.raises(AttributeError, match="metric_s"):
            exp.metric_s  # noqa: B018 - the access is what is tested


class TestValues:
    @pytest.mark.parametrize(
        "call",
        [
            lambda exp, value: exp.log("x", bad=value),
            lambda exp, value: exp.log("x", metadata={"bad": value}),
            lambda exp, value: exp.params.set(good=1, deep={"bad": value}),
            lambda exp, value: exp.metrics("m").log(good=1, bad=value),
            lambda exp, value: exp.metrics.log(good=1, train={"ok": 1}, eval={"bad": value}),
            lambda exp, value: exp.tracks("t").append(good=1, bad=value, _ts=0),
            lambda exp, value: exp.tracks("t").append(deep={"bad": value}, _ts=0),
            lambda exp, value: exp.files.save_json({"good": 1, "bad": value}, to="a.json"),
            lambda exp, value: exp.files.save_blob(b"x", to="a", metadata={"bad": value}),
            lambda exp, value: exp.frames("f").append(PIXELS, bad=value),
        ],
    )
    @pytest.mark.parametrize("value", [object(), b"bytes", 1j, [object()]], ids=lambda value: type(value).__name__)
    def test_one_that_cannot_be_stored_is_named(self, shared, call, value):
        with refused(shared, InvalidTypeError, "bad"):
            call(shared, value)

    def test_one_that_contains_itself(self, exp):
        loop = {}
        loop["again"] = loop
        for call in (exp.params.set, exp.metrics("m").log, exp.metrics.log):
            with refused(exp, InvalidValueError, "itself"):
                call(loop=loop)

    @pytest.mark.parametrize("call", [lambda exp: exp.params.set(3), lambda exp: exp.params.set([("a", 1)])])
    def test_parameters_that_have_no_names(self, exp, call):
        with refused(exp, InvalidTypeError, "pass a dict"):
            call(exp)

    def test_a_group_of_metrics_with_a_key_that_is_no_text(self, exp):
        with refused(exp, InvalidTypeError, "a key of 'train' is 3"):
            exp.metrics.log(train={3: 1})


class TestTimestamps:
    @pytest.mark.parametrize(
        "value",
        ["soon", None, math.nan, math.inf, -math.inf, [1], {}, object(), 10**400, np.array([1.0, 2.0]), 1j],
        ids=shown,
    )
    @pytest.mark.parametrize(
        "call",
        [
            lambda exp, value: exp.tracks("t").append(q=1, _ts=value),
            lambda exp, value: exp.metrics("m").log(a=1, _ts=value),
            lambda exp, value: exp.metrics.log(a=1, _ts=value),
        ],
        ids=["track", "metric", "metrics"],
    )
    def test_one_that_is_no_finite_number(self, shared, call, value):
        with refused(shared, InvalidValueError, "_ts="):
            call(shared, value)

    def test_a_row_without_one(self, exp):
        with refused(exp, InvalidValueError, "_ts is missing"):
            exp.tracks("robot/pose").append(q=[1])
        with pytest.raises(ValueError):
            exp.tracks("robot/pose").append(q=[1])

    def test_a_field_that_is_the_rows_own(self, exp):
        with refused(exp, InvalidNameError, "'timestamp'", "_ts"):
            exp.tracks("robot/pose").append(timestamp=1, _ts=0)


class TestLogLines:
    @pytest.mark.parametrize(
        ("level", "hint"), [("inof", "'info'"), ("warnig", "'warn"), ("loud", "use one of"), (3, "use one of")]
    )
    def test_an_unknown_level(self, exp, level, hint):
        with refused(exp, InvalidValueError, repr(level), hint):
            exp.log("x", level=level)

    @pytest.mark.parametrize("message", [None, 3, b"x", ["x"]])
    def test_a_message_that_is_no_text(self, exp, message):
        with refused(exp, InvalidTypeError, "message must be str"):
            exp.log(message)

    def test_metadata_that_is_no_dict(self, exp):
        with refused(exp, InvalidTypeError, "metadata must be a dict"):
            exp.log("x", metadata=[1])


class TestFolders:
    def test_a_root_that_is_a_file(self, tmp_path):
        (tmp_path / "root").write_text("in the way")
        experiment = Experiment(PREFIX, dash_root=tmp_path / "root")
        with pytest.raises(StorageError, match="check dash_root") as caught:
            experiment.run.start()

        assert isinstance(caught.value, OSError)
        assert not experiment.is_open
        assert [tmp_path / "root"] == list(tmp_path.iterdir())

    def test_a_file_where_a_folder_of_the_prefix_belongs(self, tmp_path):
        (tmp_path / "alice").write_text("in the way")
        with pytest.raises(StorageError), Experiment(PREFIX, dash_root=tmp_path).run:
            pytest.fail("it must not open")

    def test_a_root_that_is_too_long(self, tmp_path):
        with pytest.raises(StorageError):
            Experiment(PREFIX, dash_root=tmp_path / ("x" * 300)).run.start()

    def test_an_experiment_can_be_started_once_the_way_is_free(self, tmp_path):
        (tmp_path / "alice").write_text("in the way")
        experiment = Experiment(PREFIX, dash_root=tmp_path, echo=False)
        with pytest.raises(StorageError):
            experiment.run.start()
        (tmp_path / "alice").unlink()
        with experiment.run as exp:
            exp.log("x")

        assert (tmp_path / PREFIX / "logs/logs.jsonl").exists()

    def test_a_root_that_may_not_be_written(self, tmp_path):
        """In a process of its own, which gives up root's right to write anywhere."""
        (tmp_path / "root").mkdir(mode=0o555)
        code = (
            "import os, ml_dash\n"
            "experiment = ml_dash.Experiment('a/b/c', dash_root='root')\n"
            "if os.geteuid() == 0: os.setuid(65534)\n"
            "try: experiment.run.start()\n"
            "except ml_dash.StorageError as error: print(error.errno, error)\n"
        )
        tmp_path.chmod(0o755)
        printed = run_python(code, tmp_path)

        assert printed.startswith("13 ")
        assert "check dash_root and its rights" in printed
        assert [] == list((tmp_path / "root").iterdir())


def test_an_error_of_a_wrong_call_leaves_the_run_as_good_as_new(exp):
    for call in (lambda: exp.metrics(".."), lambda: exp.log(3), lambda: exp.tracks("t").append(q=1)):
        with pytest.raises(MlDashError):
            call()
    exp.metrics("m").log(a=1)
    exp.tracks("t").append(q=1, _ts=0)

    assert (1, 1) == (exp.metrics("m").read()["total"], exp.tracks("t").read()["count"])
    assert (0, 0) == (exp.health()["errors"], exp.health()["records_refused"])
