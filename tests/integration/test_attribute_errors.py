"""What is written by habit from elsewhere is answered with what to write here, and nothing is stored."""

from __future__ import annotations

import functools
import inspect
import itertools
import operator
import pydoc
import traceback

import numpy as np
import pytest

import ml_dash
from ml_dash import (
    Experiment,
    ExperimentError,
    InvalidNameError,
    InvalidTypeError,
    InvalidValueError,
    MLProject,
    MLRun,
    open_run,
    runs,
)
from tests.support import run_python

PREFIX = "alice/walker/seeds/run-7"
FRAME = np.zeros((4, 6, 3), np.uint8)


@pytest.fixture
def make(tmp_path):
    return lambda **more: Experiment(PREFIX, **{"dash_root": str(tmp_path), "echo": False, **more})


@pytest.fixture
def exp(make):
    with make().run as exp:
        yield exp


def said(error, call):
    with pytest.raises(error) as caught:
        call()
    return str(caught.value)


class TestNamesThatAreNotThere:
    @pytest.mark.parametrize(
        ("path", "advice"),
        [
            (("warn",), "use exp.logs.warn(...)"),
            (("info",), "use exp.logs.info(...)"),
            (("finish",), "use exp.run.complete()"),
            (("close",), "use exp.run.complete()"),
            (("stop",), "use exp.run.complete()"),
            (("metrcs",), "did you mean 'metrics'?"),
            (("save",), "use exp.files.save(value, to=name)"),
            (("run", "stop"), "use complete(), fail(reason) or cancel(reason)"),
            (("run", "finish"), "use complete(), fail(reason) or cancel(reason)"),
            (("run", "end"), "use complete(), fail(reason) or cancel(reason)"),
            (("run", "close"), "use complete(), fail(reason) or cancel(reason)"),
            (("run", "strat"), "did you mean 'start'?"),
            (("params", "lr"), "use exp.params.get()['lr']"),
            (("params", "sett"), "did you mean 'set'?"),
            (("tracks", "append"), "use exp.tracks(topic).append(..., _ts=t)"),
            (("frames", "append"), "use exp.frames(topic).append(frame)"),
            (("logs", "inof"), "did you mean 'info'?"),
            (("files", "read_json"), "use json.loads(exp.files.read_text(path))"),
            (("files", "save_imge"), "did you mean 'save_image'?"),
        ],
    )
    def test_the_text_names_what_to_write(self, make, path, advice):
        with make().run as exp:
            held = functools.reduce(getattr, path[:-1], exp)
            text = said(AttributeError, lambda: getattr(held, path[-1]))
        assert text.endswith(f"{path[-1]!r}; {advice}")

    def test_one_stream_names_its_own_way_to_write(self, exp):
        assert "use log(...)" in said(AttributeError, lambda: exp.metrics("train").append)
        assert "use append(..., _ts=t)" in said(AttributeError, lambda: exp.tracks("pose").log)
        assert "use append(..., _ts=t)" in said(AttributeError, lambda: exp.track("pose").log)
        assert "use append(frame)" in said(AttributeError, lambda: exp.frames("camera").log)
        assert "did you mean 'save_text'?" in said(AttributeError, lambda: exp.files("models").savetext)

    def test_readers_name_the_closest(self, make, tmp_path):
        with make().run as exp:
            exp.params.set(lr=0.1)
        run, many, project = open_run(exp.folder), runs(tmp_path), MLProject(tmp_path)

        assert said(AttributeError, lambda: run.metric).endswith(
            "RunReader has no attribute 'metric'; did you mean 'metrics'?"
        )
        assert "did you mean 'dataframe'?" in said(AttributeError, lambda: many.datafram)
        assert "did you mean 'search'?" in said(AttributeError, lambda: project.serch)
        assert "did you mean 'dash_root'?" in said(InvalidTypeError, lambda: open_run(PREFIX, root=tmp_path))
        assert "did you mean 'status'?" in said(InvalidTypeError, lambda: runs(tmp_path, statsu="failed"))

    def test_a_managed_run_names_the_closest(self, tmp_path):
        run = MLRun.create({"lr": 0.1}, tmp_path, "p", wandb_mode="disabled")
        text = said(AttributeError, lambda: run.add_metric)
        run.finish()
        assert "did you mean 'add_metrics'?" in text

    def test_parameters_have_no_items(self, exp):
        assert "read them with exp.params.get()['lr']" in said(InvalidTypeError, lambda: exp.params["lr"])
        assert "use exp.params.set({'lr': 3})" in said(InvalidTypeError, lambda: operator.setitem(exp.params, "lr", 3))

    def test_a_type_has_its_article(self, exp):
        assert "an int" in said(InvalidTypeError, lambda: exp.params.set(5))
        assert "an int" in said(InvalidValueError, lambda: exp.files.save(5))
        assert "a float" in said(InvalidValueError, lambda: exp.files.save(5.0))

    def test_what_tools_ask_every_object_for_is_plainly_not_there(self, exp):
        for held in (exp, exp.run, exp.params, exp.metrics, exp.metrics("train"), exp.files, exp.logs):
            assert not hasattr(held, "_ipython_display_")
            assert not hasattr(held, "__array__")

    def test_the_package_names_the_closest(self):
        assert said(AttributeError, lambda: ml_dash.Expriment).endswith("; did you mean 'Experiment'?")
        assert said(AttributeError, lambda: ml_dash.openrun).endswith("; did you mean 'open_run'?")

    def test_looking_for_the_closest_is_paid_by_mistakes_only(self, tmp_path):
        code = (
            "import sys, ml_dash\nfrom ml_dash import Experiment\n"
            "with Experiment('a/b/c', dash_root='runs', record_environment=False, echo=False).run as exp:\n"
            "    exp.metrics('train').log(loss=1)\n"
            "print('difflib' in sys.modules)\n"
        )
        assert "False\n" == run_python(code, tmp_path)

    def test_python_adds_no_second_suggestion(self, exp):
        with pytest.raises(AttributeError) as caught:
            _ = exp.metrcs
        assert 1 == "".join(traceback.format_exception(caught.value)).count("id you mean")

    def test_the_parts_inside_are_not_listed(self, exp, make):
        inside = {"session", "after_fork_in_child", "channel", "clock", "writer_id", "warn"}
        public = {"run", "logs", "params", "metrics", "tracks", "files", "frames", "track", "log", "flush", "tags"}

        assert set() == inside & set(dir(exp))
        assert public <= set(dir(exp))
        assert public <= set(dir(make()))


class TestHelp:
    def test_signatures_show_no_address(self, exp):
        calls = (exp.log, exp.logs, exp.logs.log, exp.tracks("pose").append, exp.run, exp.files.save_image)
        assert [] == [call for call in calls if " at 0x" in str(inspect.signature(call))]
        assert "_ts: 'Any' = <not given>" in str(inspect.signature(exp.tracks("pose").append))

    def test_calls_that_return_something_say_what(self, exp):
        held = (exp.params, exp.metrics, exp.metrics("train"), exp.tracks("pose"), exp.files, exp.frames("camera"))
        silent = []
        for name, call in itertools.chain.from_iterable(
            inspect.getmembers(type(one), inspect.isfunction) for one in held
        ):
            text = inspect.getdoc(call) or ""
            is_silent = not any(part in text for part in ("Returns:", "Yields:")) and text[:5] not in ("Retur", "Wait ")
            if not name.startswith("_") and is_silent and inspect.signature(call).return_annotation != "None":
                silent.append(call.__qualname__)
        assert [] == silent

    def test_tools_list_an_experiment_that_is_not_open(self, make):
        experiment = make()
        before = dict(inspect.getmembers(experiment))
        with experiment.run as exp:
            held = [exp.params, exp.metrics, exp.metrics("train"), exp.tracks, exp.files, exp.frames, exp.logs]
        after = dict(inspect.getmembers(experiment))

        assert not {"params", "files"} & {*before, *after}
        assert {"run", "prefix", "log", "health"} <= {*before} & {*after}
        assert not hasattr(experiment, "params")
        for one in held:
            assert inspect.getmembers(one)
            assert type(one).__name__ in pydoc.render_doc(one)

    def test_an_error_of_a_closed_run_has_no_second_suggestion(self, make):
        experiment = make()
        with pytest.raises(ExperimentError) as caught:
            _ = experiment.logs
        assert 0 == "".join(traceback.format_exception(caught.value)).count("id you mean")


class TestTheLifeOfARun:
    def test_the_run_is_no_call(self, make):
        text = said(InvalidTypeError, lambda: make().run())
        assert text.startswith("leave the parentheses out: `with Experiment(...).run as exp:`")

    def test_a_closed_run_says_how_to_read_it(self, make, tmp_path):
        experiment = make()
        with experiment.run as exp:
            exp.params.set(lr=0.1)

        text = said(ExperimentError, lambda: experiment.params)
        call = f"ml_dash.open_run('{PREFIX}', dash_root='{tmp_path}')"
        assert f"the experiment is closed; to read it: {call}; to log to it: open it again" == text
        assert {"lr": 0.1} == open_run(PREFIX, dash_root=str(tmp_path)).params.get()

    def test_the_usual_root_is_left_out(self, make, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        experiment = make(dash_root=".dash")
        with experiment.run:
            pass

        assert f"ml_dash.open_run('{PREFIX}');" in said(ExperimentError, lambda: experiment.log("text"))

    @pytest.mark.parametrize("keyword", ["params", "config", "hparams"])
    def test_parameters_are_set_later(self, make, keyword):
        assert f"{keyword}=: use exp.params.set(...) once the run is open" == said(
            InvalidTypeError, lambda: make(**{keyword: {"lr": 0.1}})
        )

    @pytest.mark.parametrize("keyword", ["zzqq", "_folder_path"])
    def test_a_keyword_that_is_like_none_lists_each_argument_once(self, make, keyword):
        listed = said(InvalidTypeError, lambda: make(**{keyword: 1})).rpartition("it has: ")[2].split(", ")

        assert sorted(set(listed)) == listed
        assert {"prefix", "readme", "tags", "dash_root"} <= set(listed)
        assert [] == [name for name in listed if name.startswith("_")]

    def test_what_follows_from_a_setting_is_no_keyword(self, make):
        assert "did you mean 'entry'" in said(InvalidTypeError, lambda: make(entry_stem="train"))

    def test_streams_show_which_run_they_are_of(self, exp):
        for name in ("params", "metrics", "tracks", "files", "logs", "frames"):
            assert f"<{name} of '{PREFIX}'>" == repr(getattr(exp, name))
        assert f"<files 'models' of '{PREFIX}'>" == repr(exp.files("models"))


class TestCalls:
    def test_an_image_without_a_name(self, exp):
        save = exp.files("images").save_image

        assert "save_image: the name is given by keyword: write to='a.png'" == said(
            InvalidTypeError, lambda: save(FRAME, "a.png")
        )
        assert "write to='a.png'" in said(InvalidTypeError, lambda: save(FRAME, "a.png", to="b.png"))
        assert "write to='name.png'" in said(InvalidTypeError, lambda: save(FRAME))
        assert [] == exp.files.list()

    def test_values_after_a_message(self, exp):
        calls = (
            (InvalidValueError, lambda: exp.log("step %s", 3)),
            (InvalidValueError, lambda: exp.log("step %s", "three")),
            (InvalidTypeError, lambda: exp.logs.info("step %s", 3)),
            (InvalidTypeError, lambda: exp.logs.warn("step %s", "three")),
        )
        for error, call in calls:
            assert "format the message yourself, f'...', and pass values as keywords" in said(error, call)
        assert [] == list(exp.logs.read())

    def test_a_time_that_is_named_otherwise(self, exp):
        calls = (
            lambda: exp.frames("camera").append(FRAME, ts=3.0),
            lambda: exp.frames("camera").append(FRAME, timestamp=3.0),
            lambda: exp.tracks("pose").append(x=1, ts=3.0),
            lambda: exp.tracks("pose").append({"x": 1, "ts": 3.0}),
            lambda: exp.tracks("pose").append(x=1, timestamp=3.0),
            lambda: exp.track("pose").append(x=1, ts=3.0),
        )
        for call in calls:
            assert "did you mean _ts=...?" in said(InvalidNameError, call)
        assert 0 == exp.health()["published"] - 1  # the one that opened the run

    def test_a_field_may_be_named_ts_beside_the_time(self, exp):
        exp.frames("camera").append(FRAME, _ts=1.0, ts=3.0)
        exp.tracks("pose").append(ts=3.0, _ts=1.0)
        exp.metrics("train").log(ts=3.0)  # such as the time steps of a policy

        assert 3.0 == exp.frames("camera").list()[0]["ts"]
        assert [{"ts": 3.0, "timestamp": 1.0}] == exp.tracks("pose").list_entries()
        assert 3.0 == exp.metrics("train").read()["data"][0]["data"]["ts"]

    def test_a_parameter_is_not_assigned(self, exp):
        with pytest.raises(AttributeError, match=r"'lr' cannot be assigned; use exp\.params\.set\(lr=3\)"):
            exp.params.lr = 3
        assert {} == exp.params.get()

    def test_a_subclass_may_keep_what_it_likes(self, tmp_path):
        class Own(Experiment):
            pass

        own = Own(PREFIX, dash_root=str(tmp_path), echo=False)
        own.best = 3
        assert (3, True) == (own.best, "best" in dir(own))

    @pytest.mark.parametrize(
        ("module", "call"),
        [
            ("av", "files.save_video([numpy.zeros((4, 6), 'u1')], to='clip.mp4')"),
            ("pandas", "metrics('train').dataframe()"),
            ("pandas", "tracks('pose').dataframe()"),
        ],
    )
    def test_the_advice_for_a_missing_package_names_the_package(self, tmp_path, module, call):
        code = (
            "import sys\nclass Absent:\n    def find_spec(self, name, *rest):\n"
            f"        if name == {module!r}: raise ModuleNotFoundError(name)\n"
            "sys.meta_path.insert(0, Absent())\nimport numpy, ml_dash\n"
            "with ml_dash.Experiment('a/b/c', dash_root='runs', record_environment=False, echo=False).run as exp:\n"
            "    exp.metrics('train').log(loss=1)\n    exp.tracks('pose').append(x=1, _ts=1)\n"
            f"    try:\n        exp.{call}\n"
            "    except ml_dash.MissingExtraError as error:\n        print(error)\n"
        )
        assert run_python(code, tmp_path).endswith(f"; run: pip install {module}\n")
