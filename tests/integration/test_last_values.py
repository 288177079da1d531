"""A run that diverged shows it: NaN is the last value everywhere, not the last number before it."""

from __future__ import annotations

import json
import math

import pytest
from click.testing import CliRunner

import ml_dash
from ml_dash import Experiment, MLProject
from ml_dash.cli import exits
from ml_dash.cli.main import cli


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("diverged")
    for name, losses in (("good", [3.0, 2.0, 1.0]), ("bad", [1.0, math.inf, 3.0, math.nan]), ("worst", [math.nan])):
        with Experiment(f"a/b/{name}", dash_root=str(root), echo=False).run as exp:
            exp.params.set(lr=math.inf, seed=1)
            for epoch, loss in enumerate(losses):
                exp.metrics("train").log(loss=loss)
                exp.metrics.log(epoch=epoch)
    return root


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ML_DASH_CACHE_DIR", str(tmp_path / "cache"))


def call(*arguments):
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


@pytest.mark.parametrize("name", ["bad", "worst"])
def test_every_reader_says_that_the_last_value_is_no_number(root, name):
    run = ml_dash.open_run(f"a/b/{name}", dash_root=str(root))
    frames = [ml_dash.runs(str(root)).dataframe(), MLProject(root).df]
    listed = call("ls", root, "--columns", "run,train/loss").stdout
    shown = json.loads(call("show", name, "-r", root, "--json").stdout)["metrics"]
    differences = json.loads(call("diff", "good", name, "-r", root, "--json").stdout)["metrics"]

    assert math.isnan(run.metrics("train").stats()["fields"]["loss"]["last"])
    assert all(math.isnan(frame.set_index("run_id").loc[f"a/b/{name}", "train/loss"]) for frame in frames)
    assert [f"a/b/{name}", "NaN"] in [line.split() for line in listed.splitlines()]
    assert ["NaN"] == [about["last"] for about in shown if about["field"] == "loss"]
    assert {"a": 1.0, "b": "NaN"} == differences["train/loss"]
    assert "NaN" in call("show", name, "-r", root).stdout
    assert "null" not in call("diff", "good", name, "-r", root).stdout


def test_a_search_finds_the_runs_that_diverged(root):
    assert {"a/b/bad", "a/b/worst"} == set(MLProject(root).search("`train/loss`.isna()")["run_id"])


def test_a_field_of_the_unnamed_metric_is_a_column_of_ls(root):
    listed = call("ls", root, "--columns", "run,epoch")

    assert exits.OK == listed.exit_code
    assert {"0", "2", "3"} == {line.split()[-1] for line in listed.stdout.splitlines() if line.startswith("a/b")}
    assert "did you mean 'epoch'?" in call("ls", root, "--columns", "epoc").stderr


def test_nothing_to_draw_is_an_error(root, tmp_path):
    for arguments in ((), ("--png", tmp_path / "x.png")):
        result = call("plot", "worst", "train/loss", "-r", root, *arguments)

        assert exits.NOT_FOUND == result.exit_code
        assert "train/loss of a/b/worst has no finite value to draw" in result.stderr
    assert not (tmp_path / "x.png").exists()


def test_parameters_that_are_not_finite_are_exported_as_metrics_are(root, tmp_path):
    assert exits.OK == call("export", "bad", "-r", root, "--to", "csv", "-o", tmp_path / "out").exit_code

    assert '"lr","float","inf"' in (tmp_path / "out/params.csv").read_text()


def test_verify_checks_the_root_that_it_is_given(root, tmp_path, monkeypatch):
    broken = tmp_path / "broken"
    with Experiment("a/b/c", dash_root=str(broken), echo=False).run as exp:
        exp.files.save_text("text", to="a.txt")
        stored = exp.files.list()[0]
    (broken / "a/b/c/files" / stored["id"] / "a.txt").write_text("other")
    (tmp_path / ".dash").symlink_to(root)
    monkeypatch.chdir(tmp_path)

    assert exits.OK == call("verify").exit_code
    result = call("verify", "--root", broken)

    assert exits.NOT_FOUND == result.exit_code
    assert "a.txt" in result.stdout
    assert "does not exist" in call("verify", "--root", tmp_path / "nowhere").stderr
