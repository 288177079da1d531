"""The same run opened more than once at a time: by two processes, twice by one, and again afterwards."""

from __future__ import annotations

from pathlib import Path

import pytest

from ml_dash.storage import layout, reading, track_reading
from ml_dash.storage.documents import read_document
from ml_dash.storage.journal import read_objects
from tests.crash.programs import ending, messages, others, points, run, run_folder, running, shards
from tests.run_contents import frame_bytes
from tests.support import wait_until

pytestmark = pytest.mark.crash

POINTS = 500
IMAGES = 20

# Logs one set of records under a name; `exp` is open.
LOAD = f"""
def load(exp, who):
    exp.params.set({{who: {{"seed": 1}}, "last": who}})
    for i in range({POINTS}):
        exp.metrics("train").log(who=who, i=i)
        exp.log(f"{{who}} {{i}}")
        exp.tracks("robot/pose").append(_ts=float(i), **{{who: i}})
        if i % ({POINTS} // {IMAGES}) == 0:
            exp.files("frames").save_image(np.full((16, 16, 3), 200, np.uint8), to=f"{{who}}-{{i}}.png")
            exp.frames("camera").append(np.full((16, 16, 3), 100, np.uint8), _ts=float(i))
"""

ONE_OF_TWO = """
wait_for_the_test()
exp = experiment().run.start()
say("opened")
load(exp, sys.argv[0].split("/")[-1].removesuffix(".py"))
assert exp.flush()
health = exp.health()
say("health", health["records_refused"], health["frames_dropped"], health["errors"], health["writer_restarts"])
exp.run.complete()
"""


def assert_whole(folder: Path, names: list[str]) -> None:
    """Check that every record logged under each of `names` is there exactly once for every kind of reader."""
    found = points(folder)
    lines = messages(folder)
    run = run_folder(folder)
    files = {entry["filename"] for entry in reading.read_files(run)}
    for name in names:
        assert list(range(POINTS)) == [point["i"] for point in found if point["who"] == name]
        assert [f"{name} {i}" for i in range(POINTS)] == [line for line in lines if line.startswith(f"{name} ")]
        assert {f"{name}-{i}.png" for i in range(0, POINTS, POINTS // IMAGES)} <= files
    assert len(names) * POINTS == len(found) == len(lines)
    assert len(names) * IMAGES == len(files)
    rows = track_reading.merged_rows(run, "robot/pose")
    assert [{"timestamp": float(i)} | dict.fromkeys(names, i) for i in range(POINTS)] == rows
    frames = reading.read_frames(run, "camera")
    assert len(names) * IMAGES == len(frames)
    assert all(frame_bytes(run, "camera", frame).startswith(b"\xff\xd8") for frame in frames)
    parameters = reading.read_parameters(run)
    assert parameters.pop("last") in names
    assert {f"{name}.seed": 1 for name in names} == parameters
    listed = read_document(Path(run, layout.FILES_METADATA))
    assert files == {entry["filename"] for entry in listed["files"]}


def assert_own_files(folder: Path, names: list[str]) -> None:
    """Check that no file was written to by two writers."""
    paths = [Path(run_folder(folder), "metrics/train", shard) for shard in shards(folder)]
    writers = [{point["data"]["who"] for point in read_objects(str(path))} for path in paths]
    assert sorted(({name} for name in names), key=str) == sorted(writers, key=str)


def test_two_processes_that_open_a_run_at_the_same_moment_lose_and_double_nothing(tmp_path):
    with running(LOAD + ONE_OF_TWO, tmp_path, "one") as one, running(LOAD + ONE_OF_TWO, tmp_path, "two") as two:
        one.release()
        two.release()
        for program in (one, two):
            assert ["0", "0", "0", "0"] == program.expect("health")
            assert 0 == program.wait(), program.errors()
    assert ("COMPLETED", None) == ending(tmp_path)
    assert ["COMPLETED"] == others(tmp_path)
    assert_whole(tmp_path, ["one", "two"])
    assert_own_files(tmp_path, ["one", "two"])

    run(LOAD + "with experiment().run as exp:\n    load(exp, 'three')\n", tmp_path)
    assert_whole(tmp_path, ["one", "two", "three"])
    assert 2 == len(shards(tmp_path)), "the run is nobody's any more, so it is continued where the first writer ended"


def test_one_process_may_open_a_run_twice_and_again_afterwards(tmp_path):
    code = (
        LOAD
        + """
first, second = experiment().run.start(), experiment().run.start()
threads = [threading.Thread(target=load, args=(first, "one")), threading.Thread(target=load, args=(second, "two"))]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
say("tags", bool(first.session.writer_id), bool(second.session.writer_id))
say("seen", len(second.metrics("train").read(limit=None)["data"]))
second.run.complete()
first.run.complete()
with first.run as again:
    say("again", bool(again.session.writer_id))
    load(again, "three")
"""
    )
    tags, seen, again = run(code, tmp_path)
    assert "tags False True" == tags
    # What the other one has published and not yet written is not waited for.
    assert POINTS <= int(seen.split()[1]) <= 2 * POINTS
    assert "again False" == again
    assert ("COMPLETED", None) == ending(tmp_path)
    assert_whole(tmp_path, ["one", "two", "three"])
    assert 2 == len(shards(tmp_path))


def test_a_second_writer_that_fails_leaves_the_run_to_the_first(tmp_path):
    """The run's status is that of its first writer; those of the others are in files beside it."""
    code = """
first = experiment().run.start()
second = experiment().run.start()
second.log("second")
second.run.fail("its own reason")
first.log("first")
first.run.complete()
"""
    run(code, tmp_path)
    assert ("COMPLETED", None) == ending(tmp_path)
    assert ["FAILED"] == others(tmp_path)
    assert ["first", "second"] == sorted(messages(tmp_path))


@pytest.mark.parametrize("dies", ["first", "second"])
def test_the_death_of_one_writer_leaves_the_other_at_work(tmp_path, dies):
    code = """
exp = experiment().run.start()
exp.log("before")
exp.flush()
say("tag", bool(exp.session.writer_id))
wait_for_the_test()
exp.log("after")
exp.run.complete()
"""
    with running(code, tmp_path, "first") as first:
        assert ["False"] == first.expect("tag")
        with running(code, tmp_path, "second") as second:
            assert ["True"] == second.expect("tag")
            dead, alive = (first, second) if dies == "first" else (second, first)
            dead.process.kill()
            dead.wait()
            alive.release()
            assert 0 == alive.wait(), alive.errors()
    expected = ("FAILED", ["COMPLETED"]) if dies == "first" else ("COMPLETED", ["FAILED"])
    wait_until(lambda: expected == (ending(tmp_path)[0], others(tmp_path)), 30, "the dead one's writer finishes")
    assert ["after", "before", "before"] == sorted(messages(tmp_path))
