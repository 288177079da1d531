"""What ``open_run`` takes for a run, and what it says of what is not there."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from ml_dash import Experiment, ExperimentError, MissingFileError, open_run

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Three runs, two of which have the same name."""
    for prefix in ("alice/walker/seed-1", "alice/walker/seed-2", "bob/walker/seed-2"):
        (tmp_path / prefix).mkdir(parents=True)
        (tmp_path / prefix / "experiment.json").write_text("{}")
    return tmp_path


@pytest.mark.parametrize("name", ["seed-1", "walker/seed-1", "seed-1/", "alice/walker/seed-1"])
def test_the_end_of_a_prefix_is_enough_if_only_one_run_has_it(tree: Path, name: str) -> None:
    run = open_run(name, dash_root=tree)

    assert (str(tree / "alice/walker/seed-1"), "alice/walker/seed-1") == (run.folder, run.prefix)


def test_an_end_that_several_runs_have_names_them(tree: Path) -> None:
    with pytest.raises(ExperimentError, match="2 runs end in 'seed-2': alice/walker/seed-2, bob/walker/seed-2;"):
        open_run("seed-2", dash_root=tree)


@pytest.mark.parametrize("name", ["eed-1", "/seed-1", "walker", "/", ""])
def test_what_is_no_end_of_whole_names_is_not_taken_for_one(tree: Path, name: str) -> None:
    with pytest.raises(MissingFileError, match=f"there is no run '{name}' below .*; there is '\\w+/walker/seed-"):
        open_run(name, dash_root=tree)


def test_a_name_without_its_folder_brings_up_the_run(tree: Path) -> None:
    with pytest.raises(MissingFileError, match="there is 'alice/walker/seed-1'"):
        open_run("sed-1", dash_root=tree)


def test_frames_of_a_stream_that_is_not_there_name_those_that_are(tmp_path: Path) -> None:
    with Experiment("a/b/c", dash_root=str(tmp_path), echo=False).run as exp:
        exp.frames("camera/front").append(np.zeros((8, 8, 3), np.uint8))
    run = open_run("a/b/c", dash_root=tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty/experiment.json").write_text("{}")

    with pytest.raises(MissingFileError, match=r"^frames 'cam' has no frame 0; the run has frames 'camera/front'$"):
        run.frames("cam").read(0)
    with pytest.raises(MissingFileError, match=r"has no frame at or before 1\.0; the run has frames 'camera/front'$"):
        run.frames("cam").at(1.0)
    with pytest.raises(MissingFileError, match=r"has no frame 7; it has 1 of them$"):
        run.frames("camera/front").read(7)
    with pytest.raises(MissingFileError, match=r"has no frame 0; the run has no frames at all$"):
        open_run("empty", dash_root=tmp_path).frames("cam").read_bytes(0)
