"""Checks and repairs of run folders that are written by hand: each damage is found, and nothing intact is lost."""

from __future__ import annotations

import json
import shutil
import tarfile
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from ml_dash import open_run
from ml_dash.media.jpeg import encode_jpeg
from ml_dash.media.png import encode_png
from ml_dash.query.run import RunReader
from ml_dash.storage import compaction
from ml_dash.verify.findings import NumberSet, Report, format_numbers, format_ranges
from ml_dash.verify.repair import repair_run
from ml_dash.verify.run import verify_run
from tests.damage import (
    LONG_AGO,
    MENDABLE,
    NOT_ENOUGH,
    UNMENDABLE,
    append,
    change,
    crash,
    flip,
    overwrite,
    replace_line,
)
from tests.legacy.trees import OldRun
from tests.run_folders import PREFIX, RunFolder, lines

POINTS = 50
FRAMES = 6
ROWS = 40


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root with one run that two writers wrote, with something in every stream, and with columnar copies."""
    root = tmp_path_factory.mktemp("verify")
    run = RunFolder(root, frames_written=19)
    run.document("environment.json", complete=True, code=None)
    run.params(lr=0.1, **{"model.layers": 4})
    run.logs(*(f"step {step}" for step in range(POINTS)))
    run.metric("train", *({"loss": 1 / (step + 1)} for step in range(POINTS)))
    run.metric("train/inner", *({"reward": float(step)} for step in range(POINTS)))
    run.track("robot/arm", *({"timestamp": row / 10, "q": [row, 1.5]} for row in range(ROWS)))
    run.file("models/best.bin", b"weights" * 100, 7353347710644449)
    run.file("notes.txt", b"readme", 7353347710644450)
    images = [np.full((8, 8, 3), number * 20, np.uint8) for number in range(FRAMES)]
    run.frames("camera", *map(encode_jpeg, images))
    run.frames("depth", *map(encode_png, images))
    run.writer("w2")
    run.logs("from the other one", writer_id="w2")
    run.metric("train", {"loss": 7.0}, writer_id="w2")
    compaction.build(str(run.folder / "metrics/train/data.jsonl"), compaction.POINTS)
    compaction.build(str(run.folder / "tracks/robot/arm/data.jsonl"), compaction.ROWS)
    return root


@pytest.fixture
def root(healthy: Path, tmp_path: Path) -> Path:
    shutil.copytree(healthy, tmp_path / "runs")
    return tmp_path / "runs"


@pytest.fixture
def run(root: Path) -> Path:
    return root / PREFIX


def verify(run: Path) -> Report:
    return verify_run(str(run))


def repair(run: Path) -> Report:
    return repair_run(str(run), prefix=PREFIX)


def problems(report: Report) -> list[str]:
    return [finding.problem for finding in report.findings]


def told(report: Report) -> set[tuple[str, str, str]]:
    return {(finding.severity, finding.path, finding.problem) for finding in report.findings}


def contents(folder: Path) -> dict[str, bytes]:
    """Every file with its bytes; those that exist to be locked are left out."""
    files = (path for path in folder.rglob("*") if path.is_file() and not path.name.endswith(".lock"))
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


# --------------------------------------------------------------------------------------------------- what is healthy


def test_a_healthy_run_of_every_stream_and_two_writers_is_clean(run: Path) -> None:
    before = contents(run)

    report = verify(run)

    assert ([], True, "") == (report.findings, report.is_clean, report.live)
    read = sum(path.stat().st_size for path in run.rglob("*") if path.suffix in {".jsonl", ".parquet"})
    assert report.size >= read
    assert len(before) == report.files
    assert ([], []) == ((repaired := repair(run)).findings, repaired.repaired)
    assert before == contents(run)


def test_a_run_that_has_recorded_nothing_is_clean(tmp_path: Path) -> None:
    assert [] == verify(RunFolder(tmp_path).folder).findings


def test_bytes_that_were_read_are_reported_as_they_are_read(run: Path) -> None:
    read: list[int] = []

    report = verify_run(str(run), advance=read.append)

    assert report.size == sum(read)
    assert len(read) > 10


def test_a_tree_of_the_published_client_is_clean(tmp_path: Path) -> None:
    old = OldRun(tmp_path, "/bob/old/run")
    old.parameters({"lr": 0.1})
    old.logs((0, "one"), (1, "two"), sequence="2")
    old.metric("train", {"loss": float("nan")}, {"loss": 1.0})
    old.track("robot/arm", {"timestamp": 2.0, "q": 1}, {"timestamp": 1.0, "q": 2})
    old.file("/models/best.pt", b"weights", "7353347710644449")
    old.file("/models/gone.pt", b"weights", "7353347710644450", deleted=True)

    assert [] == verify(old.folder).findings


def test_what_a_crash_of_the_published_client_left_is_explained_and_repaired(tmp_path: Path) -> None:
    old = OldRun(tmp_path, "/bob/old/run")
    old.logs((0, "one"), (0, "two"), torn='{"sequ')
    old.metric("train", {"loss": 3.0}, {"loss": 2.0}, {"loss": 1.0}, indices=(0, 1, 1))
    old.text("files/77/lost.bin", "in no index")

    report = verify(old.folder)
    repaired = repair(old.folder)

    assert {
        ("warning", "logs/logs.jsonl", "ends in 6 bytes of a line that was never finished"),
        ("note", "logs/logs.jsonl", "the sequenceNumber 0 came up twice, as its client leaves it after a crash; "
         "the order of the lines counts"),
        ("note", "metrics/train/data.jsonl", "the index 1 came up twice, as its client leaves it after a crash; "
         "the order of the lines counts"),
        ("warning", "metrics/train/metadata.json", "says 2 points where the journal has 3"),
        ("warning", "files", "1 file is in no index: 77/lost.bin"),
    } == told(report)  # fmt: skip
    assert not repaired.is_clean, "the orphan is left where it is"
    assert {"files", "logs/logs.jsonl", "metrics/train/data.jsonl"} == {found.path for found in repaired.findings}
    points = open_run("bob/old/run", tmp_path).metrics("train").read()["data"]
    assert [3.0, 2.0, 1.0] == [point["data"]["loss"] for point in points]
    assert "in no index" == (old.folder / "files/77/lost.bin").read_text()


def test_a_copy_that_is_being_made_after_the_end_of_the_run_is_left_alone(run: Path) -> None:
    place = run / "metrics/train/.data.parquet.77.tmp"
    place.write_bytes(b"PAR1")

    assert ([], True) == (repair(run).findings, place.exists())


def test_versions_that_later_saves_have_replaced_are_a_note_and_deleted_ones_are_not(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    run.file("models/best.bin", b"first", 1)
    run.file("models/best.bin", b"second", 2)
    run.file("models/gone.bin", b"gone", 3, deletedAt=LONG_AGO)

    assert {("note", "files", "1 file is left of earlier saves of the same name")} == told(verify(run.folder))


def test_files_of_another_client_without_checksums_are_a_note(tmp_path: Path) -> None:
    old = OldRun(tmp_path, "/bob/old/run")
    for number in range(2):
        old.file(f"/models/{number}.pt", b"weights", str(number), checksum=None)

    expected = ("note", "files/.files_metadata.json", "2 files are listed without a checksum, and not compared")
    assert {expected} == told(verify(old.folder))


def test_an_entry_that_leads_out_of_the_run_is_not_followed(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    run.file("best.bin", b"weights", 1)
    (run.folder / "files/index.jsonl").write_bytes(
        lines({"id": "2", "path": "/../../..", "filename": "passwd", "deletedAt": None})
    )

    assert {
        ("note", "files", "the entry of 'passwd' leads out of the run, and is not looked at"),
        ("note", "files", "1 file is left of earlier saves of the same name"),
    } == told(verify(run.folder))


# ------------------------------------------------------------------------------------------ what a repair can mend


@pytest.mark.parametrize("name", MENDABLE)
def test_damage_is_found_repaired_once_and_nothing_intact_is_lost(name: str, root: Path, run: Path) -> None:
    damage, problem = MENDABLE[name]
    damage(run)
    damaged = contents(run)

    report = verify(run)
    after_verify = contents(run)
    repaired = repair(run)
    after_repair = contents(run)
    once_more = repair(run)

    assert not report.is_clean
    assert any(problem in one for one in problems(report)), problems(report)
    assert damaged == after_verify, "a check changes nothing"
    if name in NOT_ENOUGH:
        assert damaged == after_repair
        return
    assert (True, True) == (repaired.is_clean, once_more.is_clean), problems(repaired)
    assert (True, []) == (bool(repaired.repaired), once_more.repaired)
    assert after_repair == contents(run), "the second repair has nothing to do"
    assert_nothing_intact_is_lost(open_run(PREFIX, root), damaged, after_repair, name)


def assert_nothing_intact_is_lost(run: RunReader, before: dict[str, bytes], after: dict[str, bytes], name: str) -> None:
    """The content of each file is still there: in it, or in the original that was kept."""
    for path, content in before.items():
        if not path.endswith((".parquet", ".parquet.77.tmp")) and after.get(path) != content:
            kept = [
                text for other, text in after.items() if other.startswith(f"{path}.damaged-") or "leftover" in other
            ]
            is_document = path.endswith(".json")
            assert content in kept or is_document or content.startswith(after[path]) or after[path].startswith(content)
    points = [point["data"]["loss"] for point in run.metrics("train").read(limit=None)["data"]]
    frames = FRAMES - (name == "a cut frame")
    rows = ROWS - (name in {"a broken row", "a row without a time"})
    assert sorted([7.0, *(1 / (step + 1) for step in range(POINTS))]) == sorted(points)
    assert (FRAMES, frames) == (len(list(run.frames("camera").iter())), len(list(run.frames("depth").iter())))
    assert rows == run.tracks("robot/arm").read()["count"] == len(run.tracks("robot/arm").table())
    assert POINTS + 1 == len(run.logs.read())
    assert b"weights" * 100 == run.files.read_bytes("models/best.bin")
    assert ({} if name == "broken parameters" else {"lr": 0.1, "model.layers": 4}) == run.params.get()


def test_several_kinds_of_damage_are_repaired_at_once(run: Path) -> None:
    for name, (damage, _) in MENDABLE.items():
        if name not in {"an empty experiment.json", "broken environment", *NOT_ENOUGH, "half a header in the tar"}:
            damage(run) if "metadata" not in name else None

    first = repair(run)
    second = repair(run)

    assert (True, True) == (first.is_clean, second.is_clean), problems(first)
    assert [] == second.repaired


def test_an_original_that_is_replaced_is_kept_beside(run: Path) -> None:
    journal = run / "metrics/train/data.jsonl"
    replace_line("metrics/train/data.jsonl", 7, b"{broken")(run)
    append("metrics/train/data.jsonl", b'{"index"')(run)
    damaged = journal.read_bytes()

    report = repair(run)

    [kept] = journal.parent.glob("data.jsonl.damaged-*")
    assert damaged == kept.read_bytes()
    assert POINTS - 1 == len(journal.read_bytes().splitlines())
    expected = f"metrics/train/data.jsonl: 1 line was taken out; the original is kept as {kept.name}"
    assert expected in report.repaired
    assert ["the index 6 did not come up: points were lost there"] == problems(report)


def test_originals_of_one_second_are_all_kept(run: Path) -> None:
    for count in (1, 2):
        overwrite("environment.json", b"{" * count)(run)
        repair_run(str(run), now=7.0)

    kept = sorted((path.name, path.read_bytes()) for path in run.glob("environment.json.damaged-*"))
    assert [
        ("environment.json.damaged-19700101T000007Z", b"{"),
        ("environment.json.damaged-19700101T000007Z-2", b"{{"),
    ] == kept


def test_a_broken_experiment_json_is_made_anew_with_the_name_of_the_run(root: Path, run: Path) -> None:
    (run / "experiment.json").write_bytes(b'{"name": "se')

    repair(run)

    reader = open_run(PREFIX, root)
    expected = ("seed-1", "walker", "FAILED", PREFIX)
    assert expected == (reader.name, reader.project, reader.status, reader.document()["prefix"])
    assert reader.created_at is not None


def test_a_run_whose_machine_crashed_is_set_to_failed_with_a_reason(root: Path, run: Path) -> None:
    crash(run)

    repair(run)

    reader = open_run(PREFIX, root)
    assert ("FAILED", LONG_AGO) == (reader.status, reader.document()["ended_at"])
    assert "nobody writes the run any more (pid 7 on vm)" in (reader.status_reason or "")


def test_a_managed_run_reads_a_journal_anew_whose_lines_moved(run: Path) -> None:
    (run / "metrics.toml").write_bytes(b'# Journals up to: {"data.jsonl":9999}\nloss = 1.0\n')
    append("metrics/train/data.jsonl", b"broken\n")(run)

    repair(run)

    assert b"loss = 1.0\n" == (run / "metrics.toml").read_bytes()


@pytest.mark.parametrize(
    ("name", "line", "problem"),
    [
        ("metrics/train/data.jsonl", b'{"index": %d, "data": {"loss": 1.0}}\n' % 10**30, "line 51 has no index that a"),
        ("logs/logs.jsonl", b'{"sequenceNumber": %d}\n' % 2**63, "has no sequenceNumber that a writer gives"),
        ("tracks/robot/arm/data.jsonl", b'{"timestamp": 1%s}\n' % (b"0" * 400), "line 41 cannot be read"),
        ("logs/logs.jsonl", b"[" * 200_000 + b"]" * 200_000 + b"\n", "cannot be read"),
        ("files/index.jsonl", b'{"id": "7", "path": [], "filename": {}}\n', "line 3 cannot be read"),
    ],
    ids=["an index", "a number of the log", "a time", "a line that nests deep", "a path"],
)
def test_a_line_that_no_writer_writes_is_a_finding(name: str, line: bytes, problem: str, run: Path) -> None:
    append(name, line)(run)

    found = problems(verify(run))

    assert any(problem in one for one in found), found


def test_a_number_that_no_writer_gives_changes_no_count(run: Path) -> None:
    append("metrics/train/data.jsonl", b'{"index": %d, "data": {"loss": 1.0}}\n' % 10**30)(run)

    repair(run)

    assert POINTS + 1 == json.loads((run / "metrics/train/metadata.json").read_bytes())["totalDataPoints"]


def test_a_frame_that_is_damaged_is_taken_out_of_the_index_and_the_others_can_be_read(root: Path, run: Path) -> None:
    index = run / "frames/depth/data.jsonl"
    flip("frames/depth/shard-00000.tar", json.loads(index.read_text().splitlines()[2])["offset"])(run)
    before = index.read_bytes()

    report = verify(run)
    left = repair(run)

    [kept] = index.parent.glob("data.jsonl.damaged-*")
    assert ["line 3 names a frame that is not whole"] == problems(report)
    assert [0, 1, 3, 4, 5] == [entry["seq"] for entry, _ in open_run(PREFIX, root).frames("depth").iter()]
    assert before == kept.read_bytes()
    assert [
        ("warning", "the seq 2 did not come up: frames were lost there"),
        ("note", "1 of its members is in no index"),
    ] == [(finding.severity, finding.problem) for finding in left.findings]


def test_a_repaired_shard_is_a_tar_file_again(run: Path) -> None:
    shard = run / "frames/camera/shard-00000.tar"
    intact = shard.read_bytes()
    append("frames/camera/shard-00000.tar", intact[:512] + b"\xff\xd8\xff")(run)  # a header, and half of its frame

    repair(run)

    [kept] = shard.parent.glob("shard-00000.tar.damaged-*")
    assert (intact, intact[:512] + b"\xff\xd8\xff") == (shard.read_bytes(), kept.read_bytes())
    with tarfile.open(shard) as archive:
        assert [f"{number:09d}.jpg" for number in range(FRAMES)] == archive.getnames()


# ---------------------------------------------------------------------------------------- what can only be reported


@pytest.mark.parametrize("name", UNMENDABLE)
def test_damage_that_nothing_can_mend_is_reported_and_left_alone(name: str, run: Path) -> None:
    damage, problem = UNMENDABLE[name]
    damage(run)
    before = contents(run)

    found = problems(verify(run))
    repaired = repair(run)

    assert any(problem in one for one in found), found
    assert (False, []) == (repaired.is_clean, repaired.repaired)
    assert before == contents(run)


def test_frames_that_were_dropped_and_counted_are_no_damage(run: Path) -> None:
    index = run / "frames/camera/data.jsonl"
    parts = index.read_bytes().splitlines(keepends=True)
    index.write_bytes(b"".join(parts[:2] + parts[3:]))
    change("experiment.json", frames_dropped=1)(run)

    report = verify(run)

    assert report.is_clean
    assert "the seq 2 did not come up: frames that were dropped, and counted" in problems(report)


def test_a_stream_of_frames_with_two_writers_may_begin_anywhere(run: Path) -> None:
    other = encode_jpeg(np.zeros((8, 8, 3), np.uint8))
    RunFolder.frames(_open(run), "camera", other, writer_id="w2")
    index = run / "frames/camera/data.w2.jsonl"
    index.write_bytes(lines(json.loads(index.read_bytes()) | {"seq": 70}))

    assert [] == verify(run).findings


def _open(run: Path) -> RunFolder:
    """The folder of a run that is there already."""
    folder = RunFolder.__new__(RunFolder)
    folder.folder = run
    return folder


# ------------------------------------------------------------------------------------------------------- live runs


def test_a_run_that_was_just_heard_of_is_not_repaired(run: Path) -> None:
    append("logs/logs.jsonl", b'{"torn')(run)
    replace_line("metrics/train/data.jsonl", 7, b"{broken")(run)
    change("experiment.json", status="RUNNING", heartbeat_at=datetime.now(UTC).isoformat())(run)
    before = contents(run)

    report = repair(run)

    assert (True, []) == ("less than a minute ago" in report.live, report.repaired)
    assert ["line 7 cannot be read", "the index 6 did not come up: points were lost there"] == problems(report)
    assert before == contents(run), "an unfinished line is no damage of a live run"


# ------------------------------------------------------------------------------------------------ numbers in texts


class TestNumberSet:
    def test_duplicates_and_gaps_are_found_in_any_order(self) -> None:
        numbers = NumberSet()
        for number in (5, 6, 0, 1, 6, 9):
            numbers.add(number)

        assert ([range(6, 7)], [range(2, 5), range(7, 9)]) == numbers.examine()

    def test_numbers_before_the_first_are_missing_only_if_it_is_named(self) -> None:
        numbers = NumberSet()
        for number in (3, 4, 6):
            numbers.add(number)

        assert [range(3), range(5, 6)] == numbers.examine(0)[1]
        assert [range(5, 6)] == numbers.examine(None)[1]
        assert ([], []) == NumberSet().examine(None) == NumberSet().examine()


def test_numbers_are_listed_up_to_five() -> None:
    assert "line 3" == format_numbers([3], "line", "lines")
    assert "lines 3, 9 and 1,200" == format_numbers([3, 9, 1200], "line", "lines")
    assert "lines 0, 1, 2, 3, 4 and 5 more" == format_numbers(range(10), "line", "lines")
    assert "line 7" == format_ranges([range(7, 8)], "line", "lines")
    assert "lines 3-9 and 12" == format_ranges([range(3, 10), range(12, 13)], "line", "lines")
    assert "lines 0-18446744073709551615" == format_ranges([range(2**64)], "line", "lines")
