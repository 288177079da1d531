from __future__ import annotations

import datetime as dt
import getpass
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import ml_dash
from ml_dash.errors import ConfigurationError, ExperimentError, InvalidNameError, InvalidTypeError
from ml_dash.run import namespace as run_module
from ml_dash.run import script as project_module
from ml_dash.run.namespace import RUN, find_entry, find_project_root

NOW = dt.datetime(2026, 11, 21, 8, 39, 57)  # noqa: DTZ001 - RUN.now has no time zone
CHECKOUT = str(Path(ml_dash.__file__).parent.parent)


@pytest.fixture(autouse=True)
def fresh_settings(monkeypatch):
    """Each test starts from the defaults, with a known user and time, and leaves nothing behind."""
    monkeypatch.setattr(run_module, "_shared", run_module._Shared())
    for variable in ("DASH_PREFIX", "ML_DASH_PREFIX", "ML_DASH_API_URL"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("ML_DASH_USER", "alice")
    RUN.now = NOW


@pytest.fixture
def project(tmp_path):
    """The tree of the documentation: my-project with experiments/vision/resnet/train.py."""
    root = tmp_path / "my-project"
    for script in ("experiments/vision/resnet/train.py", "experiments/nlp/bert/train.py", "train.py"):
        path = root / script
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
    (root / "pyproject.toml").write_text("")
    return root


def run_python(*arguments, cwd, **options):
    """Run Python in `cwd` and return the lines that it prints."""
    environment = {**os.environ, "PYTHONPATH": CHECKOUT, "ML_DASH_USER": "alice"}
    result = subprocess.run(
        [sys.executable, *arguments], cwd=cwd, env=environment, text=True, capture_output=True, timeout=60, **options
    )
    assert 0 == result.returncode, result.stderr
    return result.stdout.splitlines()


class TestPathStem:
    @pytest.mark.parametrize("folder", ["vision/resnet", "nlp/bert"])
    def test_the_tree_of_the_documentation(self, project, folder):
        RUN.entry = str(project / "experiments" / folder / "train.py")

        assert folder == RUN.path_stem
        assert str(project) == RUN.project_root
        assert f"alice/my-project/{folder}" == f"{RUN.user}/{RUN.project}/{RUN.path_stem}"

    def test_a_sweeps_folder_is_its_own_path_stem(self, project):
        RUN.entry = project / "experiments" / "vision" / "resnet"

        assert "vision/resnet" == RUN.path_stem
        assert "resnet" == RUN.entry_stem

    @pytest.mark.parametrize(
        ("script", "expected"),
        [
            ("train.py", "train"),
            ("experiments/train.py", "train"),
            ("exps/a/train.py", "a"),
            ("scripts/a/train.py", "a"),
            ("src/package/train.py", "src/package"),
            ("vision/experiments/train.py", "vision/experiments"),
            ("experiments/experiments/train.py", "experiments"),
            ("experiments/v1.2/train.py", "v1.2"),
        ],
    )
    def test_only_a_leading_container_folder_is_dropped(self, project, script, expected):
        RUN.entry = project / script

        assert expected == RUN.path_stem

    @pytest.mark.parametrize(("folder", "expected"), [("", "my-project"), ("experiments", "experiments")])
    def test_a_folder_without_a_path_of_its_own_gives_its_name(self, project, folder, expected):
        RUN.entry = project / folder

        assert expected == RUN.path_stem

    def test_two_scripts_of_one_folder_are_told_apart_by_entry_stem(self, project):
        prefixes = [
            RUN(
                entry=project / "experiments/nlp/bert" / name, prefix="{user}/{project}/{path_stem}/{entry_stem}"
            ).prefix
            for name in ("train.py", "evaluate.py")
        ]

        assert ["alice/my-project/nlp/bert/train", "alice/my-project/nlp/bert/evaluate"] == prefixes

    def test_a_script_outside_the_given_root_gives_its_name(self, project, tmp_path):
        RUN.project_root = tmp_path / "elsewhere"
        RUN.entry = project / "experiments/nlp/bert/train.py"

        assert "train" == RUN.path_stem
        assert "elsewhere" == RUN.project

    def test_a_relative_entry_stays_the_same_file_after_chdir(self, project, monkeypatch, tmp_path):
        monkeypatch.chdir(project / "experiments")
        RUN.entry = "vision/../vision/resnet/train.py"
        monkeypatch.chdir(tmp_path)

        assert str(project / "experiments/vision/resnet/train.py") == RUN.entry
        assert "vision/resnet" == RUN.path_stem

    def test_braces_in_a_folder_name_are_no_template(self, project):
        prefix = RUN(entry=project / "experiments/{odd}/train.py", prefix="{user}/{project}/{path_stem}").prefix

        assert "alice/my-project/{odd}" == prefix


class TestProjectRoot:
    @pytest.mark.parametrize("marker", project_module.PROJECT_MARKERS)
    def test_the_nearest_parent_with_a_marker(self, tmp_path, marker):
        inner = tmp_path / "outer" / "inner"
        (inner / "deep").mkdir(parents=True)
        (tmp_path / "outer" / "setup.py").write_text("")
        (inner / marker).write_text("")

        assert str(inner) == find_project_root(inner / "deep" / "train.py")

    def test_git_counts_only_without_another_marker(self, tmp_path):
        (tmp_path / "outer" / "inner" / ".git").mkdir(parents=True)
        assert str(tmp_path / "outer/inner") == find_project_root(tmp_path / "outer/inner")

        (tmp_path / "outer" / "setup.cfg").write_text("")
        assert str(tmp_path / "outer") == find_project_root(tmp_path / "outer/inner")

    def test_without_a_marker_it_is_the_current_directory(self, tmp_path, monkeypatch):
        (tmp_path / "a").mkdir()
        monkeypatch.chdir(tmp_path / "a")

        assert str(tmp_path / "a") == find_project_root(tmp_path / "b.py")
        assert str(tmp_path / "a") == find_project_root()

    def test_without_a_marker_the_project_is_scratch(self, tmp_path):
        RUN.entry = tmp_path / "train.py"

        assert "scratch" == RUN.project

    def test_verbose_says_what_was_found_on_stderr(self, project, capsys):
        find_project_root(project, verbose=True)

        assert f"[ml-dash] project root: {project}\n" == capsys.readouterr().err


class TestEntry:
    PRINT = "print(RUN.entry); print(RUN(prefix='{user}/{project}/{path_stem}').prefix)\n"

    def test_it_is_the_script_that_calls(self):
        assert str(Path(__file__)) == RUN.entry == RUN().entry == find_entry()

    def test_a_script_finds_itself_through_the_standard_library(self, project):
        """functools, contextlib and a thread of its own lie between the script and RUN."""
        script = project / "experiments/nlp/bert/train.py"
        script.write_text(
            "import contextlib, functools, threading\n"
            "from ml_dash.run import RUN\n"
            "@contextlib.contextmanager\n"
            "def opened():\n"
            "    yield RUN().entry\n"
            "with opened() as entry:\n"
            "    print(entry)\n"
            "print(functools.reduce(lambda a, b: RUN().entry, [1, 2]))\n"
            "thread = threading.Thread(target=functools.partial(RUN, prefix='a/b'))\n"
            "thread.start(); thread.join()\n"
            "found = []\n"
            "thread = threading.Thread(target=lambda: found.append(RUN().entry)); thread.start(); thread.join()\n"
            "print(*found)\n"
        )

        assert [str(script)] * 3 == run_python(str(script), cwd=project)

    def test_a_thread_without_a_frame_of_the_user_falls_back_to_main(self, project):
        script = project / "experiments/nlp/bert/train.py"
        script.write_text(
            "import threading, concurrent.futures\n"
            "from ml_dash.run import RUN\n"
            "with concurrent.futures.ThreadPoolExecutor() as pool:\n"
            "    print(pool.submit(RUN, prefix='{path_stem}/{entry_stem}').result().prefix)\n"
        )

        assert ["nlp/bert/train"] == run_python(str(script), cwd="/")

    def test_run_as_a_module(self, project):
        script = project / "experiments/nlp/bert/train.py"
        script.write_text("from ml_dash.run import RUN\n" + self.PRINT)
        expected = [str(script), "alice/my-project/nlp/bert"]

        assert expected == run_python("-m", "experiments.nlp.bert.train", cwd=project)

    def test_code_without_a_file_gives_the_current_directory(self, project):
        folder = project / "experiments/nlp"
        code = "from ml_dash.run import RUN\n" + self.PRINT

        expected = [str(folder), "alice/my-project/nlp"]
        assert expected == run_python("-c", code, cwd=folder)
        assert expected == run_python("-", cwd=folder, input=code)
        assert expected == run_python("-i", "-q", cwd=folder, input=code)

    def test_code_made_by_a_library_is_passed_over(self, project):
        """A dataclass's __init__ is made from text, with the globals of the user's module."""
        script = project / "experiments/nlp/bert/train.py"
        script.write_text(
            "import dataclasses\n"
            "from ml_dash.run import RUN\n"
            "@dataclasses.dataclass\n"
            "class Config:\n"
            "    run: RUN = dataclasses.field(default_factory=RUN)\n"
            "print(Config().run.entry)\n"
        )

        assert [str(script)] == run_python(str(script), cwd=project)

    def test_a_notebooks_cell_gives_the_notebooks_directory(self, project):
        pytest.importorskip("IPython")
        code = (
            "from IPython.core.interactiveshell import InteractiveShell\n"
            "import sys; del sys.modules['__main__'].__dict__['__file__']\n"
            "shell = InteractiveShell.instance()\n"
            "shell.run_cell('from ml_dash.run import RUN; print(RUN().entry)')\n"
        )
        (project / "kernel.py").write_text(code)

        assert str(project / "experiments") in run_python(str(project / "kernel.py"), cwd=project / "experiments")


class TestTemplates:
    def test_the_default_prefix(self, project):
        run = RUN(entry=project / "experiments/vision/resnet/train.py")

        assert "alice/my-project/2026/11-21/vision/resnet/08.39.57/000" == run.prefix
        assert ("alice", "my-project", "000") == (run.owner, run.project, run.name)

    @pytest.mark.parametrize(
        ("template", "expected"),
        [
            ("{user}/{project}/{now:%Y/%m-%d}", "alice/demo/2026/11-21"),
            ("{user}/{now.year}/{date}/{datetime_str}", "alice/2026/20261121/20261121.083957"),
            ("{user}/p/{job_counter:03d}", "alice/p/007"),
            ("{user}/p/{job_name}", "alice/p/08.39.57/007"),
            ("{user}/p/{id}/{id:x}", "alice/p/99/63"),
            ("{user!r}/p", "'alice'/p"),
            (
                "{EXP.user}/{EXP.project}/{EXP.date}/{EXP.datetime_str}/{EXP.id}",
                "alice/demo/20261121/20261121.083957/99",
            ),
            ("a/{{x}}/b", "a/{x}/b"),
            ("a/b", "a/b"),
        ],
    )
    def test_fields_follow_pythons_format_rules(self, template, expected):
        assert expected == RUN(prefix=template, project="demo", job_counter=7, id=99).prefix

    def test_templates_may_use_templates(self):
        run = RUN(prefix="{user}/p/{job_name}", job_name="{path_stem}-{now:%H}", path_stem="{user}_x")

        assert "alice/p/alice_x-08" == run.prefix
        assert "alice_x-08" == run.job_name

    def test_templates_that_need_each_other_are_refused(self):
        with pytest.raises(ConfigurationError, match="job_name -> path_stem -> job_name"):
            RUN(prefix="{job_name}", job_name="{path_stem}", path_stem="{job_name}")

    def test_the_name_of_a_prefix_cannot_be_used_in_it(self):
        with pytest.raises(ConfigurationError, match="prefix -> name -> prefix"):
            RUN(prefix="a/b/{EXP.name}")

    @pytest.mark.parametrize("template", ["{usr}/p", "{EXP.usr}/p"])
    def test_an_unknown_field_names_the_closest(self, template):
        with pytest.raises(ConfigurationError, match="no field 'usr'; did you mean 'user'"):
            RUN(prefix=template)

    @pytest.mark.parametrize("template", ["{", "}", "{}", "{0}/x", "{now:%Y", "{job_counter:zz}", "{now.yaer}"])
    def test_a_broken_template_is_quoted(self, template):
        with pytest.raises(ConfigurationError) as caught:
            RUN(prefix=f"a/{template}")

        assert repr(f"a/{template}") in str(caught.value)

    def test_a_field_without_a_value_never_becomes_the_text_none(self):
        with pytest.raises(ConfigurationError, match="'readme' has no value"):
            RUN(prefix="a/{readme}")

    def test_a_readme_is_not_a_template(self):
        assert "{json: 1}" == RUN(prefix="a/b", readme="{json: 1}").readme

    def test_a_later_prefix_is_expanded_with_the_values_of_before(self):
        run = RUN(prefix="alice/p/old")
        run.prefix = "{EXP.user}/{EXP.project}/{EXP.name}/{EXP.id}"

        assert f"alice/p/old/{run.id}" == run.prefix
        assert str(run.id) == run.name


class TestPrefix:
    @pytest.mark.parametrize(
        ("prefix", "expected"),
        [
            ("alice/p/a/b/run", ("alice", "p", "run")),
            ("alice/p/run", ("alice", "p", "run")),
            ("alice/p", ("alice", "p", "p")),
            ("/alice/p/run/", ("alice", "p", "run")),
            ("run", (None, "mine", "run")),
        ],
    )
    def test_owner_project_and_name(self, prefix, expected):
        run = RUN(prefix=prefix, project="mine")

        assert expected == (run.owner, run.project, run.name)
        assert prefix.strip("/") == run.prefix
        assert prefix == run._folder_path

    @pytest.mark.parametrize("prefix", ["", "/", "a//b", "a/../b", "a\\b", "a\0b", "x" * 256])
    def test_what_cannot_be_a_place_on_disk_is_refused(self, prefix):
        with pytest.raises(InvalidNameError):
            RUN(prefix=prefix)

    def test_a_refused_prefix_leaves_the_old_one(self):
        run = RUN(prefix="alice/p/run")
        for bad in ("a/../b", "a/{nothing}"):
            with pytest.raises(ValueError, match="prefix"):
                run.prefix = bad

        assert ("alice/p/run", "alice", "p", "run") == (run.prefix, run.owner, run.project, run.name)

    def test_it_stays_while_the_run_is_open(self):
        class OpenRun(RUN):
            _is_open = True

        run = OpenRun(prefix="alice/p/run")
        with pytest.raises(ExperimentError, match="'alice/p/run' and cannot become 'alice/p/other'"):
            run.prefix = "alice/p/other"

        assert "run" == run.name

    def test_owner_project_and_name_can_be_set_and_leave_the_prefix(self):
        run = RUN(prefix="alice/p/run")
        run.owner, run.project, run.name = "bob", "q", "walk"

        assert ("bob", "q", "walk", "alice/p/run") == (run.owner, run.project, run.name, run.prefix)

    def test_a_project_with_a_slash_is_owner_and_project(self, project):
        run = RUN(project="{user}/scratch", entry=project / "experiments/nlp/bert/train.py", job_name="x")

        assert "alice/scratch/2026/11-21/nlp/bert/x" == run.prefix

    def test_sources_in_their_order(self, monkeypatch):
        monkeypatch.setenv("ML_DASH_PREFIX", "{user}/old/env")
        assert "alice/old/env" == RUN().prefix == RUN.prefix

        monkeypatch.setenv("DASH_PREFIX", "{user}/new/env")
        assert "alice/new/env" == RUN().prefix == RUN.prefix

        RUN.prefix = "{user}/of/class"
        assert "alice/of/class" == RUN().prefix == RUN.prefix
        assert "an/argument" == RUN(prefix="an/argument").prefix
        assert "alice/of/class" == RUN(prefix=None).prefix


class TestNamespace:
    def test_the_class_gives_plain_values(self, project):
        RUN.entry = project / "train.py"

        assert "alice/my-project/2026/11-21/train/08.39.57/000" == RUN.prefix
        assert ("alice", "000", "my-project") == (RUN.owner, RUN.name, RUN.project)
        assert ("20261121", "20261121.083957", NOW.timestamp()) == (RUN.date, RUN.datetime_str, RUN.timestamp)
        assert (NOW, "08.39.57/000", 0, None, False) == (RUN.now, RUN.job_name, RUN.job_counter, RUN.readme, RUN.debug)
        assert "https://api.dash.ml" == RUN.api_url
        assert isinstance(RUN.id, int)

    def test_the_class_shows_what_the_next_experiment_gets(self):
        for _ in range(3):
            shown = RUN.id, RUN.job_counter, RUN.job_name, RUN.prefix
            run = RUN()
            assert shown == (run.id, run.job_counter, run.job_name, run.prefix)

    def test_settings_reach_later_instances_only(self):
        before = RUN(prefix="{user}/p/run")
        RUN.user = "bob"

        assert "alice/p/run" == before.prefix
        assert "bob/p/run" == RUN(prefix="{user}/p/run").prefix

    def test_a_setting_is_the_same_for_a_subclass(self):
        class Derived(RUN):
            pass

        Derived.user = "carol"

        assert "carol" == RUN.user == Derived.user == Derived(prefix="a/b").user

    def test_none_and_del_bring_the_default_back(self):
        for reset in (lambda: setattr(RUN, "user", None), lambda: delattr(RUN, "user")):
            RUN.user = "bob"
            reset()
            assert "alice" == RUN.user

    @pytest.mark.parametrize("use", [lambda: RUN.projct, lambda: setattr(RUN, "projct", "x")])
    def test_a_misspelt_attribute_names_the_closest(self, use):
        with pytest.raises(AttributeError, match="did you mean 'project'"):
            use()

    def test_a_misspelt_attribute_of_an_instance_names_the_closest(self):
        run = RUN(prefix="a/b")
        with pytest.raises(AttributeError, match="did you mean 'prefix'"):
            run.prefx = "c/d"
        with pytest.raises(AttributeError, match="did you mean 'prefix'"):
            run.prefx  # noqa: B018 - reading is what is tested

    def test_what_follows_from_another_setting_says_from_which(self):
        with pytest.raises(AttributeError, match=r"set that one") as caught:
            RUN.owner = "bob"

        assert "RUN.prefix" in str(caught.value)

    @pytest.mark.parametrize(
        ("name", "value"), [("user", 3), ("prefix", b"a/b"), ("entry", 3), ("now", "today"), ("debug", "yes")]
    )
    def test_a_value_of_the_wrong_type_is_refused(self, name, value):
        with pytest.raises(InvalidTypeError, match=f"RUN.{name} must be"):
            setattr(RUN, name, value)
        with pytest.raises(InvalidTypeError, match=f"RUN.{name} must be"):
            RUN(**{name: value})

    def test_an_unknown_keyword_names_the_closest(self):
        with pytest.raises(InvalidTypeError, match=r"RUN has no keyword 'prefx'; did you mean 'prefix'"):
            RUN(prefx="a/b")

    def test_the_text_of_an_instance_shows_its_prefix(self):
        assert "RUN(prefix='a/b')" == repr(RUN(prefix="a/b"))

    def test_a_changed_time_changes_the_dates_of_an_instance(self):
        run = RUN(prefix="a/b")
        assert "20261121" == run.date
        run.now = dt.datetime(2027, 1, 2)  # noqa: DTZ001 - as RUN.now

        assert "20270102" == run.date


class TestJobs:
    def test_instances_count_from_zero(self):
        assert ["000", "001", "002"] == [RUN(prefix="a/b/{job_counter:03d}").name for _ in range(3)]

    def test_an_explicit_counter_is_not_counted(self):
        assert 40 == RUN(prefix="a/b", job_counter=40).job_counter
        assert 0 == RUN.job_counter

    def test_setting_the_counter_starts_there(self):
        RUN.job_counter = 10

        assert [10, 11] == [RUN(prefix="a/b").job_counter for _ in range(2)]

    def test_none_stops_the_counting(self):
        RUN.job_counter = None

        assert RUN(prefix="a/b").job_counter is None
        with pytest.raises(ConfigurationError, match="'job_counter' has no value"):
            RUN(prefix="a/b/{job_name}")

    def test_an_f_string_in_a_loop_gives_a_prefix_of_its_own_to_each(self):
        prefixes = [RUN(prefix=f"{RUN.user}/p/{RUN.job_name}/{RUN.id}").prefix for _ in range(3)]

        assert 3 == len(set(prefixes))
        assert ["08.39.57/000", "08.39.57/001", "08.39.57/002"] == [prefix[8:20] for prefix in prefixes]

    def test_a_job_name_made_longer_goes_on_counting(self):
        RUN.job_name += "/seed-1"

        names = [RUN(prefix="a/b").job_name for _ in range(2)]
        assert ["08.39.57/000/seed-1", "08.39.57/001/seed-1"] == names

    def test_a_prefix_made_longer_goes_on_counting(self, project):
        RUN.entry = project / "train.py"
        RUN.prefix += "/seed-1"

        prefixes = [RUN().prefix for _ in range(2)]
        expected = [f"alice/my-project/2026/11-21/train/08.39.57/{n}/seed-1" for n in ("000", "001")]
        assert expected == prefixes

    def test_a_broken_template_can_be_replaced(self):
        RUN.job_name = "{nothing}"
        RUN.job_name = "fixed"

        assert "fixed" == RUN(prefix="a/b").job_name

    def test_threads_never_share_a_counter_or_an_id(self):
        made = []
        threads = [threading.Thread(target=lambda: made.extend(RUN(prefix="a/b") for _ in range(50))) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert list(range(200)) == sorted(run.job_counter for run in made)
        assert 200 == len({run.id for run in made})

    def test_a_forked_child_gets_an_id_of_its_own_and_never_hangs(self, tmp_path):
        code = (
            "import os\n"
            "from ml_dash.run import namespace as run\n"
            "from ml_dash.run import RUN\n"
            "shown = RUN.id\n"
            "with run._shared.lock:\n"
            "    pid = os.fork()\n"
            "    if pid == 0:\n"
            "        os._exit(0 if RUN(prefix='a/b').id != shown else 1)\n"
            "print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))\n"
        )

        assert ["0"] == run_python("-c", code, cwd=tmp_path)


class TestEnvironment:
    def test_it_is_read_when_used(self, monkeypatch):
        monkeypatch.setenv("ML_DASH_USER", "bob")
        monkeypatch.setenv("ML_DASH_API_URL", "http://dash.lab:3000")

        assert ("bob", "http://dash.lab:3000") == (RUN.user, RUN.api_url)
        assert "http://dash.lab:3000" == RUN(prefix="a/b").api_url

    def test_an_instance_keeps_what_it_has_read(self, monkeypatch):
        run = RUN(prefix="a/b")
        monkeypatch.setenv("ML_DASH_USER", "bob")

        assert "alice" == run.user

    def test_the_user_falls_back_to_the_login_name(self, monkeypatch):
        monkeypatch.delenv("ML_DASH_USER")
        monkeypatch.setenv("USER", "carol")
        assert "carol" == RUN.user

        monkeypatch.setenv("USER", "")
        assert getpass.getuser() == RUN.user

    def test_a_user_id_without_a_name_still_has_a_user(self, monkeypatch):
        def no_such_user():
            raise KeyError("getpwuid(): uid not found")

        monkeypatch.delenv("ML_DASH_USER")
        monkeypatch.delenv("USER", raising=False)
        monkeypatch.setattr(getpass, "getuser", no_such_user)

        assert f"uid-{os.getuid()}" == RUN.user

    def test_a_directory_services_user_is_one_segment(self, monkeypatch):
        monkeypatch.setenv("ML_DASH_USER", "LAB\\alice")

        assert "LAB_alice/p" == RUN(prefix="{user}/p").prefix

    def test_importing_reads_no_environment_and_no_heavy_package(self, tmp_path):
        code = (
            "import os, sys\n"
            "import ml_dash.run\n"
            "os.environ['ML_DASH_USER'] = 'late'\n"
            "print(ml_dash.run.RUN.user)\n"
            "print([m for m in ('numpy', 'cv2', 'pyarrow', 'httpx', 'wcwidth') if m in sys.modules])\n"
        )

        assert ["late", "[]"] == run_python("-c", code, cwd=tmp_path)
