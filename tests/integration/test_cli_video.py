"""``ml-dash video``: what it makes, and what it says where it cannot."""

from __future__ import annotations

import builtins
import json
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from click.testing import CliRunner

from ml_dash import Experiment
from ml_dash.cli import exits
from ml_dash.cli.main import cli

if TYPE_CHECKING:
    from pathlib import Path

    from click.testing import Result

PREFIX = "alice/walker/filmed"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("video")
    with Experiment(PREFIX, dash_root=str(root), echo=False).run as exp:
        for number in range(20):
            exp.frames("camera/front").append(np.full((32, 48, 3), number * 10, np.uint8), _ts=number * 0.1)
    with Experiment("alice/walker/blind", dash_root=str(root), echo=False).run as exp:
        exp.log("nothing to see")
    return root


def call(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["video", *map(str, arguments)], prog_name="ml-dash")


def frames_in(path: Path) -> int:
    av: Any = pytest.importorskip("av")
    with av.open(str(path)) as video:
        return sum(1 for _ in video.decode(video=0))


def test_the_frames_of_a_stream_become_a_video(root: Path, tmp_path: Path) -> None:
    target = tmp_path / "new" / "clip.mp4"

    result = call("filmed", "camera/front", "-r", root, "-o", target)

    assert (exits.OK, "") == (result.exit_code, result.stderr)
    assert result.stdout.startswith(f"{target}  ")
    assert 20 == frames_in(target)


def test_a_part_of_them_is_taken_and_told_as_json(root: Path, tmp_path: Path) -> None:
    target = tmp_path / "clip.mp4"
    target.write_text("one that is replaced")
    part = ("--start", 0.45, "--end", 1.55, "--step", 2, "--fps", 10, "--quality", 50)

    result = call(PREFIX, "camera/front", "-r", root, "-o", target, *part, "--json")

    expected = {"run": PREFIX, "topic": "camera/front", "path": str(target), "bytes": target.stat().st_size}
    assert expected == json.loads(result.stdout)
    assert 6 == frames_in(target)  # 0.5, 0.7 .. 1.5


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (("filmed", "camera/frnt"), exits.NOT_FOUND, "has no frames 'camera/frnt'; did you mean 'camera/front'?"),
        (("filmed", "zzz"), exits.NOT_FOUND, "has no frames 'zzz'; it has camera/front"),
        (("blind", "zzz"), exits.NOT_FOUND, "has no frames 'zzz'; it has none at all"),
        (("filmed", "camera/front", "--start", 50), exits.USAGE, "has no frames to export"),
        (("filmed", "camera/front", "--fps", 0), exits.USAGE, "fps"),
        (("nothing", "camera/front"), exits.NOT_FOUND, "no run 'nothing'"),
    ],
)
def test_what_cannot_be_filmed_is_told_in_one_line(
    root: Path, tmp_path: Path, arguments: tuple[object, ...], status: int, said: str
) -> None:
    result = call(*arguments, "-r", root, "-o", tmp_path / "clip.mp4")

    [line] = result.stderr.splitlines()
    assert said in line
    assert (status, []) == (result.exit_code, list(tmp_path.iterdir()))


def test_a_name_that_is_no_videos_is_wrong_usage(root: Path, tmp_path: Path) -> None:
    result = call("filmed", "camera/front", "-r", root, "-o", tmp_path / "clip.avi")

    assert exits.USAGE == result.exit_code
    assert ".mp4, .webm, .gif" in result.stderr


def test_without_pyav_it_says_what_to_install(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = builtins.__import__

    def without_av(name: str, *rest: Any, **options: Any) -> Any:
        if name == "av" or name.startswith("av."):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return found(name, *rest, **options)

    for name in [name for name in sys.modules if name == "av" or name.startswith("av.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(builtins, "__import__", without_av)

    result = call("filmed", "camera/front", "-r", root, "-o", tmp_path / "clip.mp4")

    assert (exits.NOT_FOUND, "ml-dash: videos need PyAV; run: pip install av\n") == (result.exit_code, result.stderr)
