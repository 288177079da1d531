"""Every Python example of the published client's pages runs as it stands there, and records what it says.

Each is a script in a folder of its own, with a home that is empty. What an example takes for granted, such as
``train_epoch()``, stands above it. Examples that name a server run without that line.
"""

from __future__ import annotations

import inspect
import json
import re
import shutil
import subprocess
import sys

import cv2
import numpy as np
import pytest

import ml_dash
from ml_dash import Experiment, MLProject, OperationMode
from ml_dash.streams.tracks import Track
from tests.seeds import experiments_newer, experiments_older, manager, readme, tracks
from tests.support import REPOSITORY, lines, python_environment

IMPORT = "from ml_dash import Experiment\n"
OPEN = IMPORT + "exp = Experiment('robotics/training').run.start()\n"
MINE = "alice/project/my-experiment"

# The longest example saves 10000 images; this only bounds a hang.
SECONDS = 100


@pytest.fixture
def play(tmp_path):
    """Run an example as a script; what it wrote to stderr."""

    def run(code, before="", script="train.py", *, exports="", ends_with=0):
        path = tmp_path / "work" / script
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(before + code)
        (tmp_path / "home").mkdir()
        done = subprocess.run(
            ["bash", "-c", f'{exports}\nexec "$0" "$@"', sys.executable, path],
            cwd=tmp_path / "work",
            env=python_environment(
                {"HOME": str(tmp_path / "home"), "ML_DASH_USER": "alice", "DASH_PREFIX": "", "ML_DASH_PREFIX": ""}
            ),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=SECONDS,
        )
        assert ends_with == done.returncode, done.stderr
        assert [] == list((tmp_path / "home").iterdir())
        return done.stderr

    return run


@pytest.fixture
def dash(tmp_path):
    """The folder of all runs."""
    return tmp_path / "work" / ".dash"


def document(run):
    return json.loads((run / "experiment.json").read_text())


def status(run):
    return document(run)["status"]


def params(run):
    return json.loads((run / "parameters.json").read_text())["data"]


def messages(run):
    return [line["message"] for line in lines(run / "logs/logs.jsonl")]


def points(run, name="train"):
    return [line["data"] for line in lines(run / "metrics" / name / "data.jsonl")]


def rows(run, topic):
    return lines(run / "tracks" / topic / "data.jsonl")


def stored(run):
    """The file of each entry of the index, in the order of saving: `files/<folder>/<id>/<name>`."""
    entries = json.loads((run / "files/.files_metadata.json").read_text())["files"]
    return [run / "files" / entry["path"].strip("/") / entry["id"] / entry["filename"] for entry in entries]


def documented(block):
    """The parameters of a block that shows a signature."""
    scope = {}
    exec(f"from __future__ import annotations\ndef shown({block.partition('(')[2].rstrip()}: ...", scope)
    return dict(inspect.signature(scope["shown"]).parameters)


class TestReadme:
    def test_option_a_the_singleton(self, play, dash):
        said = play(readme.SINGLETON, "def train_one_epoch(): return 0.5\n")
        [run] = [path.parent for path in dash.rglob("experiment.json")]

        assert (1, 1) == (said.count("\n"), said.count(f"recording to {run}"))
        assert "alice/scratch" == "/".join(run.relative_to(dash).parts[:2])
        assert ("COMPLETED", ["Training started"]) == (status(run), messages(run))
        assert {"learning_rate": 0.001, "batch_size": 32} == params(run)
        assert [(0.5, epoch) for epoch in range(10)] == [(point["loss"], point["epoch"]) for point in points(run)]

    def test_option_b_an_experiment_of_your_own(self, play, dash):
        play(readme.OWN_EXPERIMENT)
        run = dash / "alice/my-project/my-experiment"

        assert ("COMPLETED", ["Hello!"], {"lr": 0.001}) == (status(run), messages(run), params(run))

    def test_option_c_local_mode(self, play, dash):
        play(readme.LOCAL_MODE)
        run = dash / "my-project/my-experiment"

        assert ("COMPLETED", ["Running locally"]) == (status(run), messages(run))

    @pytest.mark.slow
    def test_background_buffering(self, play, dash):
        before = IMPORT + "import numpy as np\nframe, loss, acc = np.full((4, 4, 3), 7, np.uint8), 0.5, 0.9\n"
        play(readme.BUFFERING, before, exports=readme.BUFFERING_SETTINGS)
        run = dash / "my-project/exp"
        found = document(run)

        assert ("COMPLETED", 10000, 0, 0) == tuple(
            found[key] for key in ("status", "frames_written", "frames_dropped", "records_refused")
        )
        assert [f"Step {number}" for number in range(10000)] == messages(run)
        assert [{"loss": 0.5, "accuracy": 0.9}] * 10000 == [
            {name: point[name] for name in ("loss", "accuracy")} for point in points(run)
        ]
        files = stored(run)
        assert [f"frame_{number}.jpg" for number in range(10000)] == [path.name for path in files]
        assert all(path.read_bytes()[:2] == b"\xff\xd8" for path in files)

    def test_track_api(self, play, dash):
        play(readme.TRACKS, IMPORT + "position, ctrl = [0.1, 0.2, 0.3], [1.0, -1.0]\n")
        run = dash / "robotics/training"

        assert "COMPLETED" == status(run)
        assert [(step, 0.1, 0.2, 0.3) for step in range(1000)] == [
            tuple(row[name] for name in ("step", "x", "y", "z")) for row in rows(run, "robot/position")
        ]
        assert [(step, 1.0, -1.0) for step in range(1000)] == [
            tuple(row[name] for name in ("step", "motor1", "motor2")) for row in rows(run, "robot/control")
        ]

    def test_numpy_images(self, play, dash):
        before = (
            IMPORT + "class renderer:\n"
            "    def render():\n"
            "        return (np.indices((48, 64)).sum(0)[..., None] * [1, 2, 0]).astype(np.uint8)\n"
        )
        play(readme.IMAGES, before)
        run = dash / "vision/training"
        pixels = (np.indices((48, 64)).sum(0)[..., None] * [0, 2, 1]).astype(np.uint8)
        pictures = [cv2.imread(str(path)) for path in stored(run)]

        assert ("COMPLETED", 3) == (status(run), document(run)["frames_written"])
        assert {"frame.png", "frame.jpg"} == {path.name for path in stored(run)}
        assert np.array_equal(pixels, pictures[0])
        for picture in pictures[1:]:
            assert 4 > cv2.absdiff(pixels, picture).mean()


class TestExperimentsNewer:
    def test_the_constructor_takes_what_is_documented(self):
        ours = inspect.signature(Experiment).parameters
        wanted = documented(experiments_newer.CONSTRUCTOR)

        assert 8 == len(wanted)
        assert {name: (ours[name].kind, ours[name].default) for name in wanted} == {
            name: (parameter.kind, parameter.default) for name, parameter in wanted.items()
        }

    def test_context_manager(self, play, dash):
        play(experiments_newer.CONTEXT_MANAGER, "open('model.pth', 'wb').write(b'weights')\n")
        run = dash / MINE

        assert ("COMPLETED", ["Training started"]) == (status(run), messages(run))
        assert ({"learning_rate": 0.001}, [(0.5, 1)]) == (
            params(run),
            [(point["loss"], point["epoch"]) for point in points(run)],
        )
        assert [b"weights"] == [path.read_bytes() for path in stored(run)]


class TestExperimentsOlder:
    @pytest.mark.parametrize("name", ["CONTEXT_MANAGER", "DIRECT"])
    def test_context_manager_and_direct(self, play, dash, name):
        play(getattr(experiments_older, name))
        run = dash / MINE

        assert ("COMPLETED", ["Training started"]) == (status(run), messages(run))
        assert {"learning_rate": 0.001} == params(run)

    def test_decorator(self, play, dash):
        play(experiments_older.DECORATOR + "assert 'Training complete!' == result\n", "def train_epoch(): return 0.5\n")
        run = dash / MINE

        assert ("COMPLETED", ["Training started"]) == (status(run), messages(run))
        assert list(range(10)) == [point["epoch"] for point in points(run)]

    @pytest.mark.parametrize("place", ["vision/resnet", "nlp/bert"])
    def test_the_path_of_a_script(self, play, dash, tmp_path, place):
        """The tree of the page: `my-project/experiments/vision/resnet/train.py` below a pyproject.toml."""
        root = tmp_path / "work/my-project"
        root.mkdir(parents=True)
        (root / "pyproject.toml").touch()
        play(experiments_older.ENTRY, script=f"my-project/experiments/{place}/train.py")
        run, script = dash / "alice/my-project" / place, str(root / "experiments" / place / "train.py")

        assert ("COMPLETED", [f"Running from {script}"]) == (status(run), messages(run))
        assert {"script": script} == params(run)

    def test_a_sweep(self, play, dash, tmp_path):
        (tmp_path / "work/my-project").mkdir(parents=True)
        (tmp_path / "work/my-project/pyproject.toml").touch()
        play(
            experiments_older.SWEEP,
            "sweep_configs = [{'lr': 0.1}, {'lr': 0.01}]\n",
            script="my-project/experiments/vision/sweep/train.py",
        )
        runs = [dash / f"alice/vision/sweep/job_{number:03d}" for number in range(2)]

        assert [("COMPLETED", {"lr": 0.1}), ("COMPLETED", {"lr": 0.01})] == [(status(run), params(run)) for run in runs]

    def test_local_mode(self, play, dash):
        play(experiments_older.LOCAL_MODE, IMPORT)

        assert ("COMPLETED", ["Using local storage"]) == (status(dash / MINE), messages(dash / MINE))

    def test_remote_mode(self, play, dash):
        play(experiments_older.REMOTE_MODE, IMPORT)

        assert ("COMPLETED", ["Using remote server"]) == (status(dash / MINE), messages(dash / MINE))

    def test_metadata(self, play, dash):
        play(experiments_older.METADATA, IMPORT)
        found = document(dash / "alice/computer-vision/resnet50-imagenet")

        assert "ResNet-50 training with new augmentation" == found["description"]
        assert (["resnet", "imagenet", "baseline"], ["gpu-cluster", "team-a"]) == (found["tags"], found["bindrs"])

    def test_automatic_status(self, play, dash):
        """The first half of the example completes the run, the second opens it again and fails it."""
        first, second = experiments_older.AUTOMATIC_STATUS.split("# Exception handling")
        between = (
            "import json; assert 'COMPLETED' == json.load(open('.dash/alice/ml/training/experiment.json'))['status']"
        )
        said = play(f"{first}{between}\n#{second}", IMPORT, ends_with=1)
        found = document(dash / "alice/ml/training")

        assert said.endswith("ValueError: Training failed!\n")
        assert ("FAILED", "ValueError: Training failed!") == (found["status"], found["status_reason"])
        assert ["Training..."] * 2 == messages(dash / "alice/ml/training")

    @pytest.mark.parametrize(
        ("training", "expected", "logged"),
        [
            ("pass", "COMPLETED", []),
            ("raise KeyboardInterrupt", "CANCELLED", []),
            ("raise ValueError('nan')", "FAILED", ["Error: nan"]),
        ],
    )
    def test_manual_status(self, play, dash, training, expected, logged):
        block = experiments_older.MANUAL_STATUS
        assert 1 == block.count("# ... training code ...")
        play(block.replace("# ... training code ...", training))
        run = dash / "alice/ml/training"

        assert (expected, ["Training...", *logged]) == (status(run), messages(run))

    def test_resuming(self, play, dash):
        play(experiments_older.RESUMING, IMPORT)
        run = dash / "alice/ml/long-training"

        assert ("COMPLETED", ["Starting epoch 1", "Resuming from checkpoint"]) == (status(run), messages(run))
        assert [(0.5, 1), (0.3, 2)] == [(point["loss"], point["epoch"]) for point in points(run)]

    def test_operations_and_the_storage_structure(self, play, dash):
        play(experiments_older.OPERATIONS, IMPORT + "open('model.pth', 'wb').write(b'weights')\n")
        run = dash / "alice/test/demo"

        assert ("COMPLETED", ["Training started"]) == (status(run), messages(run))
        assert {"lr": 0.001, "batch_size": 32} == params(run)
        assert [(0.5, 1)] == [(point["loss"], point["epoch"]) for point in points(run)]
        [model] = (run / "files/models").rglob("model.pth")
        assert ([model], b"weights") == (stored(run), model.read_bytes())
        assert re.fullmatch(r"files/models/\d{26}/model\.pth", str(model.relative_to(run)))


class TestTracks:
    def test_basic_usage(self, play, dash):
        play(tracks.BASIC)
        run = dash / "robotics/training"

        assert "COMPLETED" == status(run)
        assert [
            {"timestamp": step / 30.0, "q": [0.1, -0.22, 0.45], "e": [0.5, 0.0, 0.6]} for step in range(1000)
        ] == rows(run, "robot/pose")

    def test_entries_of_one_timestamp_are_one_row(self, play):
        after = (
            'assert [{"timestamp": 0.0, "frame_id": 0, "path": "frame_0.png"}]'
            ' == exp.tracks("camera/rgb").read()["entries"]\n'
        )
        play(tracks.MERGING + after, OPEN)

    def test_read_takes_what_is_documented(self):
        ours = inspect.signature(Track.read).parameters
        wanted = documented(tracks.READ)

        assert [*wanted] == [*ours][1:]
        assert [parameter.default for parameter in wanted.values()] == [ours[name].default for name in wanted]

    def test_reading(self, play):
        before = OPEN + 'for step in range(31): exp.tracks("robot/pose").append(q=step, _ts=step / 2)\n'
        after = (
            'assert (list(range(31)), list(range(21))) == tuple([r["q"] for r in d["entries"]] for d in (data, window))\n'
            "import io, pyarrow.parquet\n"
            'assert list(range(31)) == pyarrow.parquet.read_table(io.BytesIO(parquet))["q"].to_pylist()\n'
        )
        play(tracks.READING + after, before)

    def test_flushing(self, play):
        before = OPEN + 'for step in range(100): exp.tracks("robot/pose").append(q=step, _ts=step)\n'
        after = 'assert 100 == len(open(".dash/robotics/training/tracks/robot/pose/data.jsonl").readlines())\n'
        play(tracks.FLUSHING + after, before)

    def test_aligning_with_frames(self, play, dash):
        play(tracks.FRAMES, OPEN + "import numpy as np\nframe, q_step = np.full((4, 4, 3), 7, np.uint8), [0.1, 0.2]\n")
        run = dash / "robotics/training"
        names = [f"frame_{step:05d}.jpg" for step in range(1000)]

        assert names == [path.name for path in stored(run) if path.is_file()]
        assert [(name, [0.1, 0.2]) for name in names] == [(row["frame"], row["q"]) for row in rows(run, "robot/pose")]
        assert "COMPLETED" == status(run)


def test_a_run_without_a_folder_of_its_own_is_recorded_in_the_home_folder(tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("HOME", str(tmp_path))
    experiment = Experiment("a/b/c", dash_url="https://api.dash.ml", dash_root=None, echo=False)
    with experiment.run as exp:
        exp.metrics("train").log(loss=0.5)

    run = ml_dash.open_run("a/b/c", dash_root=str(tmp_path / ".dash/spool"))
    assert [0.5] == [point["data"]["loss"] for point in run.metrics("train").read()["data"]]
    assert str(tmp_path / ".dash/spool/a/b/c") in capfd.readouterr().err


@pytest.mark.parametrize("dash_url", [None, False, ""])
def test_a_run_needs_a_folder_or_a_server(dash_url):
    with pytest.raises(ValueError, match=r"name a folder.* or a server with dash_url="):
        Experiment("a/b/c", dash_url=dash_url, dash_root=None)


@pytest.mark.parametrize("dash_url", [None, False, True, "https://api.dash.ml"])
def test_a_run_is_local_whatever_server_is_named(tmp_path, dash_url):
    assert Experiment("a/b", dash_url=dash_url, dash_root=tmp_path).mode is OperationMode.LOCAL


@pytest.mark.parametrize("block", [readme.OWN_EXPERIMENT, experiments_older.REMOTE_MODE])
def test_an_example_that_names_a_server_records_here_and_says_so_once(play, dash, block):
    """Nobody is to believe that the run is elsewhere."""
    said = play(block, IMPORT)

    assert 1 == said.count("nothing is sent to a server in this version")
    assert dash.exists()


@pytest.mark.parametrize("mode", [pytest.param("offline", marks=pytest.mark.ecosystem), "disabled"])
def test_the_quick_start_of_ml_manager(tmp_path, play, mode):
    """It runs as it is written; without the network, which wandb would need."""
    package = tmp_path / "built/ml_manager"
    shutil.copytree(REPOSITORY / "ml_dash/manager/ml_manager", package)  # as the build does
    places = " ".join(
        f"{name}={tmp_path}/own" for name in ("WANDB_DIR", "WANDB_CACHE_DIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME")
    )
    paths = f'PYTHONPATH="{package.parent}:$PYTHONPATH" WANDB_MODE={mode} WANDB_SILENT=true {places}'
    play(manager.QUICK_START, exports=f"mkdir {tmp_path}/own; export {paths}")
    project = MLProject(tmp_path / "work/checkpoints")

    found = project.search("accuracy > 0.95")
    assert [(0.96, 0.95, "BERT")] == [*found[["accuracy", "f1_score", "model.name"]].itertuples(index=False, name=None)]
    assert {"CNN", "BERT"} == {run.config["model"]["name"] for run in project}
    assert {"COMPLETED"} == set(project.df["status"])
