"""``dxp`` and ``rdxp`` as programs use them, and functions decorated with ``@exp.run``."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
import json
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from ml_dash import Experiment, InvalidTypeError, ml_dash_experiment
from tests.support import lines, python_environment, run_python

PREFIX = "alice/walker/run-1"
SETTINGS = {"ML_DASH_USER": "alice", "DASH_PREFIX": "", "ML_DASH_PREFIX": "", "ML_DASH_ECHO": "0"}


def run_script(text, folder, name="train.py", **environment):
    """Write a script and run it in `folder`; its exit status and what it wrote to stderr."""
    script = folder / name
    script.parent.mkdir(parents=True, exist_ok=True)
    script.write_text(text)
    done = subprocess.run(
        [sys.executable, script],
        cwd=folder,
        env=python_environment({**SETTINGS, **environment}),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )
    return done.returncode, done.stderr


def only_run(root):
    """The folder of the one run below `root`."""
    [found] = root.rglob("experiment.json")
    return found.parent


def document(run):
    return json.loads((run / "experiment.json").read_text())


class TestImport:
    @pytest.mark.parametrize(("module", "name"), [("auto_start", "dxp"), ("remote_auto_start", "rdxp")])
    def test_it_leaves_no_file_no_socket_no_thread_and_no_child(self, tmp_path, module, name):
        code = f"""
import os, sys, threading
seen = []
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
def watch(event, arguments):
    if event.startswith(("socket.", "subprocess.", "os.mkdir", "os.fork", "_thread.start")):
        seen.append(event)
    elif event == "open" and isinstance(arguments[2], int) and arguments[2] & WRITING:
        seen.append(arguments)
sys.addaudithook(watch)
from ml_dash.{module} import {name}
print(repr({name}), seen, threading.active_count(), os.listdir("."))
open("seen", "w").close()
print(len(seen))
"""
        environment = {**SETTINGS, "PYTHONDONTWRITEBYTECODE": "1", "OPENBLAS_NUM_THREADS": "1"}

        assert ["Experiment(not used yet) [] 1 []", "1"] == run_python(
            code, tmp_path, environment=environment
        ).splitlines()

    def test_it_reads_no_setting(self, tmp_path):
        code = (
            "from ml_dash.auto_start import dxp\n"
            "import os\n"
            "from ml_dash import RUN\n"
            "os.environ.update(ML_DASH_ECHO='0', ML_DASH_USER='bob')\n"
            "os.mkdir('elsewhere'); os.chdir('elsewhere')\n"
            "RUN.prefix = '{user}/chosen/later'\n"
            "dxp.tags = ['late']\n"
            "with dxp.run: dxp.log('unseen')\n"
        )
        printed = run_python(code, tmp_path, environment={**SETTINGS, "ML_DASH_ECHO": "1"})
        run = tmp_path / "elsewhere/.dash/bob/chosen/later"

        assert "" == printed
        assert ("COMPLETED", ["late"]) == (document(run)["status"], document(run)["tags"])

    def test_a_setting_that_cannot_be_used_fails_the_first_use_and_not_the_import(self, tmp_path):
        code = (
            "from ml_dash.auto_start import dxp\n"
            "import os\n"
            "try: dxp.run\n"
            "except ValueError as error: print('ML_DASH_ENCODERS' in str(error))\n"
            "del os.environ['ML_DASH_ENCODERS']\n"
            "with dxp.run: dxp.log('x')\n"
        )
        printed = run_python(code, tmp_path, environment={**SETTINGS, "ML_DASH_ENCODERS": "many"})

        assert "True" == printed.strip()
        assert "COMPLETED" == document(only_run(tmp_path))["status"]


class TestDxp:
    def test_the_run_of_a_script_lies_where_the_script_does(self, tmp_path):
        (tmp_path / "pyproject.toml").touch()
        text = (
            "from ml_dash.auto_start import dxp\n"
            "with dxp.run as exp:\n"
            "    assert exp is dxp and exp.is_open\n"
            "    dxp.params.set(lr=0.1)\n"
            "    dxp.metrics('train').log(loss=0.5)\n"
        )
        status, said = run_script(text, tmp_path, "experiments/vision/resnet/train.py")
        run = only_run(tmp_path / ".dash")

        assert 0 == status
        place = run.relative_to(tmp_path / ".dash").parts
        assert ("alice", tmp_path.name, "vision", "resnet", "000") == (*place[:2], *place[4:6], place[-1])
        assert f"ml_dash: recording to {run}; nothing is sent to a server in this version\n" == said
        assert ("COMPLETED", {"lr": 0.1}) == (
            document(run)["status"],
            json.loads((run / "parameters.json").read_text())["data"],
        )

    def test_a_program_without_a_file(self, tmp_path):
        run_python("from ml_dash.auto_start import dxp\nwith dxp.run: dxp.log('x')", tmp_path, environment=SETTINGS)

        assert "COMPLETED" == document(only_run(tmp_path / ".dash"))["status"]

    def test_each_use_continues_the_same_run_and_the_first_says_where(self, tmp_path):
        text = (
            "from ml_dash.auto_start import dxp\n"
            "for round in range(3):\n"
            "    with dxp.run:\n"
            "        dxp.metrics('train').log(round=round)\n"
        )
        status, said = run_script(text, tmp_path)
        points = lines(only_run(tmp_path / ".dash") / "metrics/train/data.jsonl")

        assert (0, 1) == (status, said.count("recording to"))
        assert [(0, 0), (1, 1), (2, 2)] == [(point["index"], point["data"]["round"]) for point in points]

    def test_left_open_it_is_completed_at_the_end(self, tmp_path):
        status, _ = run_script("from ml_dash.auto_start import dxp\ndxp.run.start()\ndxp.log('x')\n", tmp_path)

        assert (0, "COMPLETED") == (status, document(only_run(tmp_path))["status"])

    @pytest.mark.parametrize("opening", ["with dxp.run:\n    ", "dxp.run.start()\n"])
    def test_an_exception_fails_the_run(self, tmp_path, opening):
        status, said = run_script(f"from ml_dash.auto_start import dxp\n{opening}raise ValueError('nan')\n", tmp_path)
        found = document(only_run(tmp_path))

        assert (1, True) == (status, said.endswith("ValueError: nan\n"))
        assert ("FAILED", "ValueError: nan") == (found["status"], found["status_reason"])

    @pytest.mark.parametrize(
        ("choice", "environment"),
        [
            ("dxp.run.prefix = 'alice/chosen/run'", {}),
            ("RUN.prefix = '{user}/chosen/run'", {}),
            ("", {"DASH_PREFIX": "alice/chosen/run"}),
        ],
    )
    def test_the_prefix_can_be_chosen_until_the_start(self, tmp_path, choice, environment):
        text = (
            "from ml_dash.auto_start import dxp\n"
            "from ml_dash import RUN\n"
            f"{choice}\n"
            "with dxp.run: dxp.log(dxp.prefix)\n"
        )
        run_script(text, tmp_path, **environment)

        assert tmp_path / ".dash/alice/chosen/run" == only_run(tmp_path)

    def test_before_the_start_a_stream_says_that_it_is_not_open(self, tmp_path):
        code = (
            "from ml_dash import ExperimentError\n"
            "from ml_dash.auto_start import dxp\n"
            "for use in (lambda: dxp.log('x'), lambda: dxp.metrics('train')):\n"
            "    try: use()\n"
            "    except ExperimentError as error: print('not open yet' in str(error))\n"
        )

        assert ["True", "True"] == run_python(code, tmp_path, environment=SETTINGS).splitlines()
        assert [] == list(tmp_path.iterdir())

    def test_threads_that_use_it_first_share_one_run(self, tmp_path):
        text = (
            "import threading\n"
            "from ml_dash.auto_start import dxp\n"
            "ready = threading.Barrier(8)\n"
            "def work(number):\n"
            "    ready.wait()\n"
            "    dxp.run.start().metrics('train').log(number=number)\n"
            "threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]\n"
            "[thread.start() for thread in threads]; [thread.join() for thread in threads]\n"
        )
        status, said = run_script(text, tmp_path)
        points = lines(only_run(tmp_path) / "metrics/train/data.jsonl")

        assert (0, 1) == (status, said.count("\n"))
        assert list(range(8)) == sorted(point["data"]["number"] for point in points)

    def test_rdxp_has_one_run_for_each_user(self, tmp_path):
        for _ in range(2):
            run_script(
                "from ml_dash.remote_auto_start import rdxp\nwith rdxp.run: rdxp.metrics('train').log(a=1)\n",
                tmp_path,
                DASH_PREFIX="not/this",
            )
        run = tmp_path / ".dash/alice/scratch/rdxp"

        assert run == only_run(tmp_path)
        assert [0, 1] == [point["index"] for point in lines(run / "metrics/train/data.jsonl")]


@pytest.fixture
def exp(tmp_path):
    """An experiment that a test may leave open."""
    experiment = Experiment(PREFIX, dash_root=tmp_path, echo=False)
    yield experiment
    experiment.run.cancel()


def status(tmp_path):
    found = document(tmp_path / PREFIX)
    return found["status"], found["status_reason"]


class TestRunAsADecorator:
    @pytest.mark.parametrize("name", ["experiment", "exp"])
    def test_the_function_gets_the_experiment_if_it_has_a_place_for_it(self, exp, tmp_path, name):
        scope = {"run": exp.run}
        exec(f"@run\ndef train(steps, *, {name}): return steps, {name}, {name}.is_open", scope)

        assert (3, exp, True) == scope["train"](3)
        assert not exp.is_open
        assert ("COMPLETED", None) == status(tmp_path)

    def test_a_function_without_a_place_gets_nothing(self, exp, tmp_path):
        @exp.run
        def train(steps, **options):
            """Docs."""
            exp.metrics("train").log(steps=steps)
            return options

        assert {"lr": 1} == train(3, lr=1)
        assert {} == train(4)
        assert ("train", "Docs.") == (train.__name__, train.__doc__)
        assert [3, 4] == [p["data"]["steps"] for p in lines(tmp_path / PREFIX / "metrics/train/data.jsonl")]

    def test_nothing_is_written_before_the_call(self, exp, tmp_path):
        exp.run(lambda: None)

        assert [] == list(tmp_path.iterdir())

    def test_an_exception_fails_the_run(self, exp, tmp_path):
        @exp.run
        def train():
            raise KeyError("gone")

        with pytest.raises(KeyError):
            train()
        assert ("FAILED", "KeyError: 'gone'") == status(tmp_path)

    def test_a_call_within_an_open_run_leaves_it_open(self, exp, tmp_path):
        @exp.run
        def part(depth):
            if depth:
                part(depth - 1)
            exp.log("still open")

        with exp.run:
            part(2)
            assert exp.is_open
        assert ("COMPLETED", None) == status(tmp_path)

    def test_an_exception_that_the_outer_call_handles_fails_nothing(self, exp, tmp_path):
        @exp.run
        def part(depth):
            if not depth:
                raise ValueError("tried in vain")
            with contextlib.suppress(ValueError):
                part(depth - 1)
            exp.log("still open")

        part(1)
        assert ("COMPLETED", None) == status(tmp_path)

    @pytest.mark.parametrize(
        ("failing", "expected"), [((), ("COMPLETED", None)), (("first", "last"), ("FAILED", "ValueError: first"))]
    )
    def test_of_calls_in_several_threads_the_last_closes_the_run(self, exp, tmp_path, failing, expected):
        """Two functions of one run, of which the first ends while the last is at work."""
        begun, ended = threading.Event(), threading.Event()

        def end(name):
            exp.log(name)
            if name in failing:
                raise ValueError(name)

        @exp.run
        def first():
            assert begun.wait(30)
            end("first")

        @exp.run
        def last():
            begun.set()
            assert ended.wait(30)
            end("last")

        with ThreadPoolExecutor() as pool:
            calls = pool.submit(first), pool.submit(last)
            errors = [repr(calls[0].exception()), ended.set(), repr(calls[1].exception())]

        assert [repr(ValueError(name)) if name in failing else "None" for name in ("first", "last")] == errors[::2]
        assert expected == status(tmp_path)
        assert ["first", "last"] == [line["message"] for line in lines(tmp_path / PREFIX / "logs/logs.jsonl")]

    def test_a_method(self, exp):
        class Trainer:
            lr = 0.1

            @exp.run
            def train(self, steps, exp):
                return self.lr, steps, exp

        assert (0.1, 3, exp) == Trainer().train(3)

    def test_a_partial_and_an_object_with_call(self, exp):
        class Trainer:
            def __call__(self, steps, exp):
                return steps, exp.is_open

        assert (3, True) == exp.run(functools.partial(Trainer(), 3))()
        assert (3, True) == exp.run(Trainer())(3)

    def test_it_may_not_be_called_with_what_it_gets(self, exp, tmp_path):
        @exp.run
        def train(exp):
            pass

        with pytest.raises(InvalidTypeError, match="gets 'exp' from its decorator"):
            train(exp=1)
        assert [] == list(tmp_path.iterdir())

    @pytest.mark.parametrize("what", [None, "train", int, staticmethod(len), classmethod(len)])
    def test_what_is_no_function_is_refused(self, exp, what):
        with pytest.raises(InvalidTypeError, match=r"a function, not around|is a (static|class)method already"):
            exp.run(what)


@pytest.fixture(params=["exp.run", "ml_dash_experiment"])
def decorate(request, exp, tmp_path):
    """Either decorator, for the same run."""
    if request.param == "exp.run":
        return exp.run
    return ml_dash_experiment(PREFIX, dash_root=tmp_path, echo=False)


class TestAsynchronousFunctions:
    def test_the_run_is_open_until_the_function_has_finished(self, decorate, tmp_path):
        @decorate
        async def train(steps, experiment):
            for step in range(steps):
                await asyncio.sleep(0)
                experiment.metrics("train").log(step=step)
            return experiment

        called = train(3)
        assert [] == list(tmp_path.iterdir())
        used = asyncio.run(called)

        assert inspect.iscoroutinefunction(train)
        assert not used.is_open
        assert ("COMPLETED", None) == status(tmp_path)
        assert [0, 1, 2] == [p["data"]["step"] for p in lines(tmp_path / PREFIX / "metrics/train/data.jsonl")]

    def test_an_exception_fails_the_run(self, decorate, tmp_path):
        @decorate
        async def train(experiment):
            await asyncio.sleep(0)
            raise ValueError("nan")

        with pytest.raises(ValueError, match="nan"):
            asyncio.run(train())
        assert ("FAILED", "ValueError: nan") == status(tmp_path)

    @pytest.mark.parametrize("order", [(1, 3), (3, 1)])
    def test_of_calls_that_are_gathered_the_last_closes_the_run(self, exp, tmp_path, order):
        @exp.run
        async def train(steps, experiment):
            for _ in range(steps):
                await asyncio.sleep(0)
            experiment.log(str(steps))
            if steps == 1:
                raise ValueError("nan")

        async def both():
            return await asyncio.gather(*map(train, order), return_exceptions=True)

        assert ["None", "ValueError('nan')"] == sorted(map(repr, asyncio.run(both())))
        assert ("FAILED", "ValueError: nan") == status(tmp_path)
        assert not exp.is_open

    def test_an_object_whose_call_is_asynchronous(self, decorate):
        class Trainer:
            async def __call__(self, experiment):
                await asyncio.sleep(0)
                return experiment.is_open

        assert asyncio.run(decorate(Trainer())())

    def test_a_generator_is_refused(self, decorate):
        def batches(experiment):
            yield 1

        async def async_batches(experiment):
            yield 1

        for function in (batches, async_batches, functools.partial(batches)):
            with pytest.raises(InvalidTypeError, match="is a generator"):
                decorate(function)
