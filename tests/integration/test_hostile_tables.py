"""Runs that another user has prepared, as ``MLRun`` and the tables of runs read them: nothing of the reader's changes."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
import tracemalloc
import warnings
from pathlib import Path

import pytest

from ml_dash import MLProject, MLRun, runs
from ml_dash.catalog import index, index_cache, walk
from ml_dash.errors import InvalidValueError, MlDashError, StorageError
from ml_dash.managed import store
from ml_dash.managed.toml_values import MAX_KEY_PARTS, parse
from ml_dash.records.values import MAX_INTEGER_BITS
from tests.support import SUBPROCESS_SECONDS, python_environment

CONFIG = 'lr = 1\n[_meta]\nstatus = "COMPLETED"\n'
POINT = '{"index":0,"data":{"loss":"$(id >/tmp/x)","_ts":1e9}}\n'
SECRET = b"alias ll=ls"
OTHER_USER = 2**31 - 7

JOURNAL = "metrics/None/data.jsonl"
DOCUMENTS = ("config.toml", "metrics.toml", "experiment.json", "parameters.json", "environment.json")
FILES = (*DOCUMENTS, JOURNAL, ".lock", ".manager.open", ".manager.lock", ".manager.open.lock")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ML_DASH_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def bashrc(tmp_path: Path) -> Path:
    path = tmp_path / "bashrc"
    path.write_bytes(SECRET)
    return path


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run whose process was killed: metrics.toml is missing."""
    return make_run(tmp_path / "runs")


def make_run(base: Path, name: str = "x") -> Path:
    folder = base / "p" / name
    (folder / "metrics/None").mkdir(parents=True)
    (folder / "config.toml").write_text(CONFIG)
    (folder / JOURNAL).write_text(POINT)
    return folder


def load(run: Path) -> MLRun:
    return MLRun.load(run.name, run.parent.parent, "p")


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def put(path: Path, kind: str, target: Path) -> None:
    """Put something that is no regular file in the place of a file."""
    path.unlink(missing_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "loop":
        path.symlink_to(path.name)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        path.symlink_to(target)


class TestLoad:
    @pytest.mark.parametrize("name", [".metrics.toml.tmp-manager", ".metrics.toml.tmp-PID", "metrics.toml"])
    def test_nothing_is_written_through_a_link(self, run: Path, bashrc: Path, name: str) -> None:
        (run / name.replace("PID", str(os.getpid()))).symlink_to(bashrc)

        try:
            loss = load(run).metrics["loss"]
        except StorageError as error:
            loss = str(error)

        assert ("$(id >/tmp/x)" in loss or "link" in loss, SECRET) == (True, bashrc.read_bytes())

    def test_a_killed_run_of_ones_own_gets_its_metrics(self, run: Path) -> None:
        load(run)

        assert 'loss = "$(id >/tmp/x)"' in (run / "metrics.toml").read_text()

    def test_nothing_at_all_is_written_into_the_folder_of_another_user(
        self, run: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
    ) -> None:
        for name in (".manager.open", ".lock"):
            (run / name).touch()
        before = contents(run)
        monkeypatch.setattr(os, "geteuid", lambda: OTHER_USER)

        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert "$(id >/tmp/x)" == load(run).metrics["loss"]
            [found] = MLProject(run.parent.parent).search("lr == 1", return_objects=True)
            assert "$(id >/tmp/x)" == found.metrics["loss"]

        assert (before, ("", "")) == (contents(run), tuple(capfd.readouterr()))

    def test_a_metrics_file_of_another_user_is_not_replaced(self, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (run / "metrics.toml").write_text("loss = 1\n")
        real = os.lstat

        def lstat(path: str, **options: int) -> os.stat_result:
            status = real(path, **options)
            is_metrics = str(path).endswith("metrics.toml")
            return os.stat_result((*status[:4], OTHER_USER, *status[5:10])) if is_metrics else status

        monkeypatch.setattr(os, "lstat", lstat)
        load(run)

        assert "loss = 1\n" == (run / "metrics.toml").read_text()

    @pytest.mark.parametrize("kind", ["fifo", "link", "loop", "device", "folder", "deep", "huge"])
    @pytest.mark.parametrize("name", FILES)
    def test_what_is_no_file_is_neither_waited_for_nor_followed(
        self, run: Path, bashrc: Path, name: str, kind: str
    ) -> None:
        put_bad(run / name, kind, bashrc)
        start = time.monotonic()

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with contextlib.suppress(MlDashError):
                load(run)

        assert SECRET == bashrc.read_bytes()
        assert time.monotonic() - start < 8

    def test_a_folder_of_metrics_that_is_a_link_is_not_read(self, run: Path, tmp_path: Path) -> None:
        (run / "metrics").rename(tmp_path / "work")
        (run / "metrics").symlink_to(tmp_path / "work")

        with pytest.warns(UserWarning, match="link, which is not followed"):
            assert {} == load(run).metrics

    def test_whoever_holds_the_lock_of_another_users_run_holds_nobody_up(
        self, run: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(os, "geteuid", lambda: OTHER_USER)
        monkeypatch.setattr(store.RunFiles, "is_being_written", lambda _: True)
        start = time.monotonic()

        load(run)

        assert time.monotonic() - start < 2

    @pytest.mark.parametrize(
        "data",
        [
            {".".join(["a"] * 500): 1},
            {".".join(["a"] * 20_000): 1},
            {"x": json.loads('{"a":' * 200 + "1" + "}" * 200)},
            {"x": json.loads("[" * 230 + "]" * 230)},
            {"x": {"__ml_dash__": "table", "value": 5}},
        ],
    )
    def test_a_point_that_nests_too_deep_is_passed_over(self, run: Path, data: dict[str, object]) -> None:
        with (run / JOURNAL).open("a") as file:
            file.write(json.dumps({"index": 1, "data": data | {"_ts": 2e9}}) + "\n")

        metrics = [load(run).metrics, MLProject(run.parent.parent).get_run("x").metrics]

        assert ["$(id >/tmp/x)"] * 2 == [one["loss"] for one in metrics]

    def test_facts_of_the_wrong_type_are_passed_over(self, run: Path) -> None:
        (run / "config.toml").write_text("[_meta]\nstatus = 5\nstatus_reason = []\n[_wandb]\nentity = 1\nurl = [2]\n")
        (run / "experiment.json").write_text('{"status": ["x"], "status_reason": 7}')

        loaded = load(run)

        assert ("UNKNOWN", None, None) == (loaded.status, loaded.wandb_entity, loaded.get_wandb_url())


BAD_TOML = {
    "dotted": ".".join(["a"] * 20_000) + " = 1\n",
    "quoted": " . ".join(['"a"'] * 20_000) + " = 1\n",
    "header": f"[{'.'.join(['a'] * 20_000)}]\n",
    "inline": f"x = {{ {'.'.join(['a'] * 20_000)} = 1 }}\n",
    "lists": f"x = {'[' * 20_000}\n",
    "tables": "x = " + "{a=" * 20_000 + "\n",
    "headers": "\n".join(f"[{'.'.join(f'a{i}' for i in range(n))}]" for n in (50, 99))
    + "\nx = "
    + "[" * 150
    + "]" * 150,
    "hexadecimal": f"x = 0x{'F' * 5000}\n",
    "decimal": f"x = {'9' * 5000}\n",
    "binary": "\xff\xfe",
    "kind": 'x = "',
}


class TestToml:
    @pytest.mark.parametrize("name", BAD_TOML)
    def test_a_bad_one_is_a_problem_of_its_run_alone(self, run: Path, name: str) -> None:
        bad = make_run(run.parent.parent, "bad")
        (bad / "config.toml").write_text(BAD_TOML[name], encoding="latin-1")
        start = time.monotonic()

        project = MLProject(run.parent.parent)
        with pytest.raises(StorageError, match=r"config\.toml is damaged"):
            load(bad)

        assert (["x"], [str(bad)]) == (list(project.df["run_id"]), [problem.folder for problem in project.problems])
        assert "config.toml is damaged" in project.problems[0].reason
        assert "x" in str(project.df) + project.df.to_csv()
        assert time.monotonic() - start < 8

    def test_one_that_is_too_large_is_named(self, run: Path) -> None:
        bad = make_run(run.parent.parent, "bad")
        with (bad / "config.toml").open("wb") as file:
            file.truncate(store.TOML_BYTES + 1)

        project = MLProject(run.parent.parent)
        with pytest.raises(StorageError, match="larger than"):
            load(bad)

        assert (1, True) == (len(project), "larger than" in project.problems[0].reason)

    def test_dots_within_text_and_comments_are_no_parts_of_a_key(self) -> None:
        dots = ".".join(["a"] * 1000)
        texts = [f'"{dots}"', f"'{dots}'", f'"""x"{dots}\\""""""', f"'''{dots}''''", f'["{dots}", 1.5] # {dots}']
        text = "\n".join(f"x{number} = {value}" for number, value in enumerate(texts))

        assert dots == parse(text.encode())["x0"]

    def test_the_limits_themselves_are_allowed(self) -> None:
        key = ".".join(["a"] * MAX_KEY_PARTS)
        number = 2**MAX_INTEGER_BITS - 1

        values = parse(f"{key} = {number:#x}".encode())
        for _ in range(MAX_KEY_PARTS):
            [values] = values.values()

        assert number == values

    def test_a_table_that_claims_to_be_a_value_stays_a_table(self, run: Path) -> None:
        (run / "config.toml").write_text('x = {__ml_dash__ = "table", value = 5}\n')

        assert {"__ml_dash__": "table", "value": 5} == load(run).config["x"]


class TestTables:
    @pytest.mark.parametrize("kind", ["fifo", "link", "loop", "device"])
    @pytest.mark.parametrize("name", [*DOCUMENTS, JOURNAL, "metrics/train/data.jsonl", "metrics/train/data.parquet"])
    def test_one_bad_run_hides_no_other(self, run: Path, bashrc: Path, name: str, kind: str) -> None:
        base = run.parent.parent
        put(make_run(base, "bad") / name, kind, bashrc)
        (base / "alice/exp/bad").mkdir(parents=True)
        (base / "alice/exp/bad/parameters.json").write_text('{"lr": 2}')
        put(base / "alice/exp/bad" / name, kind, bashrc)
        start = time.monotonic()

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            project = MLProject(base)

        shown = set(project.df["run_id"]) | {Path(problem.folder).name for problem in project.problems}
        assert {"x", "bad"} <= shown | {Path(name).name for name in shown}
        assert "x" in set(project.df["run_id"])
        assert SECRET == bashrc.read_bytes()
        assert time.monotonic() - start < 10

    def test_what_is_not_read_is_named(self, run: Path, bashrc: Path) -> None:
        base = run.parent.parent
        put(make_run(base, "bad") / "config.toml", "link", bashrc)
        put(make_run(base, "worse") / JOURNAL, "fifo", bashrc)

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            project = MLProject(base)

        assert ["x"] == list(project.df["run_id"])
        assert [
            "config.toml cannot be read: it is a link, which is not followed",
            "data.jsonl cannot be read: it is a link, or no regular file",
        ] == [problem.reason for problem in project.problems]

    def test_a_table_of_chosen_runs_warns_of_those_that_are_left_out(self, run: Path, bashrc: Path) -> None:
        base = run.parent.parent
        for name in ("good", "bad\x1bc"):
            (base / f"alice/exp/{name}").mkdir(parents=True)
            (base / f"alice/exp/{name}/parameters.json").write_text('{"lr": 2}')
        put(base / "alice/exp/bad\x1bc/experiment.json", "link", bashrc)

        with pytest.warns(
            UserWarning, match=r"left out: alice/exp/bad\\x1bc \(experiment.json cannot be read: it is a li"
        ):
            frame = runs(base, match="alice/*").dataframe()

        assert ["alice/exp/good"] == list(frame["run_id"])

    def test_one_run_with_very_many_parameters_takes_no_columns_of_the_others(self, run: Path) -> None:
        base = run.parent.parent
        for number in range(300):
            folder = base / f"alice/exp/{number}"
            folder.mkdir(parents=True)
            (folder / "experiment.json").write_text("{}")
            (folder / "parameters.json").write_text(json.dumps({"lr": number, f"own{number}": 1}))
        big = base / "alice/exp/big"
        big.mkdir()
        (big / "parameters.json").write_text(json.dumps({"lr": -1} | {f"p{number}": 1 for number in range(100_000)}))
        tracemalloc.start()

        projects = [MLProject(base) for _ in range(2)]
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()

        for project in projects:
            assert (302, index.MAX_COLUMNS) == project.df.shape
            assert set(range(300)) | {-1} <= set(project.df["lr"])
            assert 1 == project.df["own299"].sum()
            [problem] = project.problems
            assert (str(big), "a table of 302 runs has at most 10,000") == (
                problem.folder,
                problem.reason.partition(": ")[2],
            )
            assert int(problem.reason.split()[0].replace(",", "")) > 89_000
        assert peak < 400e6
        big.rename(base.parent / "aside")
        without = MLProject(base)
        assert ([], 300) == (without.problems, sum(str(name).startswith("own") for name in without.df.columns))

    def test_many_runs_with_many_parameters_each_stay_within_the_limit(
        self, run: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(index, "BATCH_CELLS", 500)
        monkeypatch.setattr(index, "MAX_COLUMNS", 300)
        base = run.parent.parent
        for number in range(20):
            folder = base / f"alice/exp/{number:02}"
            folder.mkdir(parents=True)
            names = {f"p{number}.{k}": 1 for k in range(200 if number % 2 else 5)}
            (folder / "parameters.json").write_text(json.dumps({"lr": number} | names))

        project = MLProject(base)

        assert (21, True) == (len(project), len(project.df.columns) <= 300)
        assert all(f"p{number}.4" in project.df for number in range(0, 20, 2))
        assert 10 == len(project.problems)
        assert list(range(20)) == sorted(project.df["lr"].drop(project.df.index[-1]))

    def test_a_tree_of_bad_runs_hangs_nothing_and_hides_no_good_run(self, run: Path, bashrc: Path) -> None:
        base = run.parent.parent
        for kind in ("fifo", "link", "loop", "device", "folder", "deep", "huge"):
            for number, name in enumerate(ALL_FILES):
                put_bad(make_run(base, f"{kind}-{number}") / name, kind, bashrc)
                folder = base / "alice/bad" / f"{kind}-{number}"
                folder.mkdir(parents=True)
                (folder / "parameters.json").write_text('{"lr": 2}')
                put_bad(folder / name, kind, bashrc)
        (base / "alice/good/\x1b]0;pwned\x07").mkdir(parents=True)
        (base / "alice/good/\x1b]0;pwned\x07/parameters.json").write_text('{"lr": 3}')
        (base / "alice/good/\x1b]0;pwned\x07/metrics/train").mkdir(parents=True)
        (base / "alice/good/\x1b]0;pwned\x07/metrics/train/data.jsonl").write_text('{"index":0,"data":{"loss":1.5}}\n')

        done = subprocess.run(
            [sys.executable, "-W", "always", "-c", READ_ALL, str(base)],
            env=python_environment(),
            capture_output=True,
            timeout=SUBPROCESS_SECONDS,
            check=False,
        )

        assert 0 == done.returncode, done.stderr[-3000:]
        assert SECRET == bashrc.read_bytes()
        assert b"\x1b" not in done.stdout + done.stderr
        shown = json.loads(done.stdout)
        assert [3] == shown["good"]
        assert "p/x" in shown["managed"]
        bad = {f"alice/bad/{kind}-{number}" for kind in ("fifo", "device") for number in range(len(ALL_FILES))}
        assert bad <= set(shown["ls"])
        assert bad <= set(shown["table"]) | {folder.removeprefix(f"{base}/") for folder in shown["problems"]}


READ_ALL = """
import json, resource, sys, warnings
resource.setrlimit(resource.RLIMIT_AS, (6 << 30, 6 << 30))
from click.testing import CliRunner
from ml_dash import MLProject, runs
from ml_dash.cli.main import cli

base = sys.argv[1]
project = MLProject(base)
found = runs(base)
frame = found.dataframe()
good = runs(base, "lr = 3 or train/loss.min > 1e9")
listed = CliRunner().invoke(cli, ["ls", "--root", base, "--json"])
plain = CliRunner().invoke(cli, ["ls", "--root", base, "lr > 0 or train/loss.max > 0"])
assert (listed.exit_code, plain.exit_code) == (0, 0), (listed.output, plain.output)
sys.stdout.write(plain.output.partition("{")[0] * 0)
print(json.dumps({
    "good": [run.params.get()["lr"] for run in good if "good" in run.prefix],
    "managed": [path for path in project._index.paths if path.startswith("p/")],
    "table": sorted(set(project.df["run_id"]) | set(frame["run_id"])),
    "ls": [json.loads(line)["run"] for line in listed.stdout.splitlines()],
    "problems": [problem.folder for problem in project.problems],
}))
"""
ALL_FILES = (
    *DOCUMENTS,
    JOURNAL,
    *("metrics/train/data.jsonl", "metrics/train/data.parquet", "metrics/train/metadata.json", "metrics/train.jsonl"),
    *("logs/logs.jsonl", "files/index.jsonl", "files/.files_metadata.json", "tracks/pose/data.jsonl"),
    *("frames/cam/data.jsonl", "frames/cam/shard-00000.tar", "code.diff", ".writers/w.json"),
    *(".lock", ".manager.open", ".manager.lock", "metrics"),
)


def put_bad(path: Path, kind: str, target: Path) -> None:
    """Put something bad in the place of a file."""
    if path.is_dir():
        shutil.rmtree(path)
    if kind in ("fifo", "link", "loop", "device"):
        put(path, kind, target)
        return
    path.unlink(missing_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    if kind == "folder":
        path.mkdir()
    elif kind == "deep":
        path.write_text("[" * 100_000 + "\n")
    else:
        with path.open("wb") as file:
            file.truncate(1 << 40)


class TestCache:
    """The index of a tree, in a cache folder where others may write."""

    @pytest.fixture(autouse=True)
    def steady(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(walk, "YOUNG_NS", -(10**9))  # every file is known at once

    def folder(self, run: Path) -> Path:
        return Path(index_cache.folder_of(str(run.parent.parent)))

    @pytest.mark.parametrize("level", [0, 1, 2])
    def test_a_link_to_the_users_files_is_neither_cleaned_nor_written(
        self, run: Path, tmp_path: Path, level: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        home = tmp_path / "home"
        (home / "deep").mkdir(parents=True)
        for name in ("bashrc", "thesis.jsonl", "index", "deep/key.pem"):
            (home / name).write_bytes(SECRET)
            os.utime(home / name, (0, 0))
        before = contents(home)
        link = [self.folder(run), *self.folder(run).parents][level]
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(home)
        if level == 2:
            (home / "index").unlink()
            before = contents(home)
            real = os.lstat
            monkeypatch.setattr(os, "lstat", lambda path: _of_other_user(real(path), Path(path) == link))

        assert ["x"] == list(MLProject(run.parent.parent).df["run_id"])

        assert before == contents(home)

    def test_only_left_over_files_of_the_cache_are_removed(self, run: Path) -> None:
        MLProject(run.parent.parent)
        folder = self.folder(run)
        for name in ("thesis.jsonl", ".index.tmp-1", ".index.tmp-abc"):
            (folder / name).write_bytes(SECRET)
            os.utime(folder / name, (0, 0))
        (folder / ".index.tmp-2").symlink_to(folder / "thesis.jsonl")
        (run / "config.toml").write_text(CONFIG + "# changed\n")

        MLProject(run.parent.parent)

        assert {"index", "thesis.jsonl", ".index.tmp-2"} == {path.name for path in folder.iterdir()}

    def test_a_link_in_the_place_of_a_temporary_file_or_of_the_index_is_not_written_through(
        self, run: Path, bashrc: Path
    ) -> None:
        self.folder(run).mkdir(parents=True)
        for name in ("index", f".index.tmp-{os.getpid()}"):
            (self.folder(run) / name).symlink_to(bashrc)

        MLProject(run.parent.parent)

        assert SECRET == bashrc.read_bytes()

    @pytest.mark.parametrize("level", [0, 1, 2])
    def test_an_index_in_the_folder_of_another_user_is_not_believed(
        self, run: Path, level: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        root = str(run.parent.parent)
        MLProject(root)
        assert index_cache.load(root) is not None
        foreign = [self.folder(run), *self.folder(run).parents][level].stat()
        before = contents(self.folder(run))
        real = os.fstat
        monkeypatch.setattr(os, "fstat", lambda fd: _of_other_user(real(fd), os.path.samestat(real(fd), foreign)))

        (run / "config.toml").write_text(CONFIG.replace("1", "2"))

        assert ([2], None) == (list(MLProject(root).df["lr"]), index_cache.load(root))
        assert before == contents(self.folder(run))

    def test_an_index_that_another_user_made_is_not_believed(self, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        root = str(run.parent.parent)
        MLProject(root)
        foreign = (self.folder(run) / "index").stat()
        real = os.fstat
        monkeypatch.setattr(os, "fstat", lambda fd: _of_other_user(real(fd), os.path.samestat(real(fd), foreign)))

        assert index_cache.load(root) is None

    def test_the_folders_of_the_cache_are_private(self, run: Path) -> None:
        self.folder(run).mkdir(parents=True, mode=0o755)

        MLProject(run.parent.parent)

        assert [0o700] * 2 == [path.stat().st_mode & 0o777 for path in (self.folder(run), self.folder(run).parent)]


def _of_other_user(status: os.stat_result, is_foreign: bool) -> os.stat_result:
    """The status of a file, as if another user owned it."""
    return os.stat_result((*status[:4], OTHER_USER, *status[5:10])) if is_foreign else status


class TestSearch:
    """Patterns that take Python's regular expressions for ever, on texts, and on texts mixed with numbers."""

    @pytest.fixture(params=["texts", "mixed"])
    def project(self, run: Path, request: pytest.FixtureRequest) -> MLProject:
        base = run.parent.parent
        texts = ["a" * 40 + "!", "b\nc", "ABC"] + ([5, True, None] if request.param == "mixed" else ["5", "x", "y"])
        for number, value in enumerate(texts):
            folder = base / f"alice/exp/{number}"
            folder.mkdir(parents=True)
            (folder / "parameters.json").write_text(json.dumps({"name": value}))
        return MLProject(base)

    @pytest.mark.parametrize("method", ["contains", "match", "fullmatch"])
    @pytest.mark.parametrize("pattern", ["(a+)+$", "(a|aa)+$", "(.*a){25}$", "(a*)*z", "(?i)(a+)+$"])
    def test_no_pattern_runs_for_ever(self, project: MLProject, method: str, pattern: str) -> None:
        start = time.monotonic()

        found = project.search(f"name.str.lower().str.{method}('{pattern}') or name.str.{method}('{pattern}')")

        assert time.monotonic() - start < 8
        assert len(found) <= 1

    @pytest.mark.parametrize("pattern", [r"(?=(a+)+$)", r"(a+)\\1+$", r"(?!(a+)+$)", "("])
    def test_a_pattern_that_needs_more_than_linear_time_is_refused(self, project: MLProject, pattern: str) -> None:
        with pytest.raises(InvalidValueError, match="failed"):
            project.search(f"name.str.contains('{pattern}')")

    @pytest.mark.parametrize(
        ("query", "count"),
        [
            ("name.str.contains('a+!')", 1),
            ("name.str.contains('a.c', case=False)", 1),
            ("name.str.contains('a.c', flags=2)", 1),
            ("name.str.contains('b.c', flags=16)", 1),
            ("name.str.contains('+', regex=False)", 0),
            ("name.str.contains('!', regex=False)", 1),
            ("name.str.match('a')", 1),
            ("name.str.match('c')", 0),
            ("name.str.fullmatch('A.C')", 1),
            ("name.str.fullmatch('A|AB|B')", 0),
            ("name.str.upper().str.contains('B')", 2),
            ("name.str.len() > 2", 3),
            ("name.str.contains('zzz', na=True)", None),
        ],
    )
    def test_what_a_pattern_finds(self, project: MLProject, query: str, count: int | None) -> None:
        found = project.search(query)

        without_text = sum(not isinstance(value, str) for value in project.df["name"].tolist())
        assert (without_text if count is None else count) == len(found)
