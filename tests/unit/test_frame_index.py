"""The index of a frame stream: it follows the journals on disk, and numbers the frames of several writers."""

from __future__ import annotations

import os
import pickle
import threading
from pathlib import Path
from typing import Any

import pytest

from ml_dash.errors import StorageError
from ml_dash.query import frame_index
from ml_dash.query.frame_index import FrameIndex, frame_of
from tests.run_folders import lines


def frame(seq: int, time: float, **fields: Any) -> dict[str, Any]:
    return {"seq": seq, "timestamp": time, "shard": "shard-00000.tar", "offset": 512 * seq, "size": 10} | fields


def append(folder: Path, *frames: dict[str, Any], writer_id: str = "", ending: bytes = b"") -> None:
    name = f"data.{writer_id}.jsonl" if writer_id else "data.jsonl"
    with (folder / name).open("ab") as file:
        file.write(lines(*frames) + ending)


def numbers(index: FrameIndex) -> list[int]:
    view = index.refresh()
    return [entry["seq"] for entry in view.entries(range(view.count))]


def test_an_empty_stream_and_one_that_is_not_there_have_no_frames(tmp_path: Path) -> None:
    append(tmp_path)

    for folder in (tmp_path, tmp_path / "none"):
        view = FrameIndex(str(folder)).refresh()
        assert (0, 0, [], None) == (view.count, view.frame_bytes, view.times().tolist(), view.position_of(0))


def test_frames_are_found_by_number_and_times_are_by_position(tmp_path: Path) -> None:
    append(tmp_path, frame(0, 0.5), frame(1, 0.25), frame(4, 1.5))

    view = FrameIndex(str(tmp_path)).refresh()

    assert (3, 30, False) == (view.count, view.frame_bytes, view.has_several_writers)
    assert [0, 1, None, None, 2, None] == [view.position_of(number) for number in (0, 1, 2, 3, 4, 5)]
    assert [0.5, 0.25, 1.5] == view.times().tolist()
    assert [frame(4, 1.5), frame(0, 0.5)] == list(view.entries([2, 0]))


def test_numbers_that_do_not_ascend_are_sorted(tmp_path: Path) -> None:
    append(tmp_path, frame(3, 3.0), frame(1, 1.0), frame(2, 2.0))

    view = FrameIndex(str(tmp_path)).refresh()

    assert [1.0, 2.0, 3.0] == view.times().tolist()
    assert [None, 0, 1, 2, None] == [view.position_of(number) for number in range(5)]
    assert [1, 2, 3] == [entry["seq"] for entry in view.entries(range(3))]


def test_lines_that_are_added_are_read_once_they_are_whole(tmp_path: Path) -> None:
    index = FrameIndex(str(tmp_path))
    append(tmp_path, frame(0, 0.0), ending=b'{"seq": 1, "times')
    first = index.refresh()
    append(tmp_path, ending=b'tamp": 0.1, "shard": "shard-00000.tar", "offset": 0, "size": 5}\n')

    second = index.refresh()

    assert (1, 2, 15) == (first.count, second.count, second.frame_bytes)
    assert [0.0] == first.times().tolist(), "a view stays valid"
    assert second is index.refresh(), "nothing has changed"


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"\0\0\0",
        b"[1]",
        b'{"seq": 1}',
        *lines(
            frame(-1, 0.0),
            frame(2**63, 0.0),
            frame(1, float("nan")),
            frame(1, 10**400),
            frame(1, "now"),  # type: ignore[arg-type]
            frame(1, True),
            frame(1, 0.0, size="large"),
            frame(1, 0.0, offset=-512),
            frame(1, 0.0, shard="../../secret.tar"),
            frame(1, 0.0, shard="/etc/passwd"),
            frame(1, 0.0, shard=7),
        ).splitlines(),
    ],
)
def test_a_line_that_names_no_frame_is_passed_over(line: bytes, tmp_path: Path) -> None:
    append(tmp_path, frame(0, 0.0), ending=line + b"\n")
    append(tmp_path, frame(5, 0.5))

    assert frame_of(line) is None
    assert [0, 5] == numbers(FrameIndex(str(tmp_path)))


def test_frames_of_several_writers_are_numbered_by_time_and_name_their_writer(tmp_path: Path) -> None:
    append(tmp_path, frame(0, 1.0), frame(1, 3.0))
    append(tmp_path, frame(0, 2.0), frame(7, 4.0), writer_id="w2")

    view = FrameIndex(str(tmp_path)).refresh()

    assert ([1.0, 2.0, 3.0, 4.0], 40, True) == (view.times().tolist(), view.frame_bytes, view.has_several_writers)
    found = [(entry["seq"], entry["writer"], entry["writer_seq"]) for entry in view.entries(range(4))]
    assert [(0, "main", 0), (1, "w2", 0), (2, "main", 1), (3, "w2", 7)] == found
    assert [0, 3, None, None] == [view.position_of(number) for number in (0, 3, 4, -1)]


def test_a_second_writer_that_appears_changes_the_numbers_and_one_that_goes_changes_them_back(tmp_path: Path) -> None:
    append(tmp_path, frame(3, 1.0))
    index = FrameIndex(str(tmp_path))
    alone = numbers(index)
    append(tmp_path, frame(0, 0.0), writer_id="w2")
    both = numbers(index)
    (tmp_path / "data.w2.jsonl").unlink()

    assert ([3], [0, 1], [3]) == (alone, both, numbers(index))
    (tmp_path / "data.jsonl").unlink()
    assert [] == numbers(index)


def test_a_journal_that_was_cut_or_replaced_is_read_anew(tmp_path: Path) -> None:
    index = FrameIndex(str(tmp_path))
    append(tmp_path, frame(0, 0.0), frame(1, 0.1))
    before = numbers(index)
    os.truncate(tmp_path / "data.jsonl", 0)
    append(tmp_path, frame(5, 0.5))
    cut = numbers(index)
    (tmp_path / "other").write_bytes(lines(frame(8, 0.8), frame(9, 0.9)))
    (tmp_path / "other").replace(tmp_path / "data.jsonl")

    assert ([0, 1], [5], [8, 9]) == (before, cut, numbers(index))


def test_an_index_that_is_rewritten_or_removed_after_the_refresh_is_an_error(tmp_path: Path) -> None:
    append(tmp_path, frame(0, 0.0), frame(1, 0.1))
    view = FrameIndex(str(tmp_path)).refresh()
    (tmp_path / "data.jsonl").write_bytes(lines(frame(1, 0.1), frame(0, 0.0)))

    with pytest.raises(StorageError, match="was rewritten while it was read; read again"):
        list(view.entries([0]))
    (tmp_path / "data.jsonl").unlink()
    with pytest.raises(StorageError, match="was removed while it was read"):
        list(view.entries([0]))


def test_a_pickled_index_reads_the_disk_anew_and_a_forked_child_needs_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    append(tmp_path, frame(0, 0.0))
    index = FrameIndex(str(tmp_path))
    index.refresh()

    assert [0] == numbers(pickle.loads(pickle.dumps(index)))
    assert (True, False) == (index.is_for(str(tmp_path)), index.is_for("/elsewhere"))
    monkeypatch.setattr(frame_index.os, "getpid", lambda: -1)
    assert not index.is_for(str(tmp_path))


def test_threads_that_refresh_while_a_journal_grows_see_whole_frames(tmp_path: Path) -> None:
    append(tmp_path, frame(0, 0.0))
    index, wrong, done = FrameIndex(str(tmp_path)), [], threading.Event()

    def read() -> None:
        while not done.is_set():
            view = index.refresh()
            found = [entry["seq"] for entry in view.entries(range(view.count))]
            if found != list(range(view.count)) or len(view.times()) != view.count:
                wrong.append(found)

    threads = [threading.Thread(target=read) for _ in range(3)]
    for thread in threads:
        thread.start()
    for seq in range(1, 200):
        append(tmp_path, frame(seq, seq / 10))
    done.set()
    for thread in threads:
        thread.join()

    assert [] == wrong
    assert list(range(200)) == numbers(index)


def test_an_interrupt_while_the_index_is_read_makes_no_frame_count_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    append(tmp_path, *(frame(number, float(number)) for number in range(10)))
    index = FrameIndex(str(tmp_path))
    calls: list[bytes] = []

    def interrupted(line: bytes) -> dict[str, Any] | None:
        calls.append(line)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return frame_of(line)

    monkeypatch.setattr(frame_index, "frame_of", interrupted)
    with pytest.raises(KeyboardInterrupt):
        index.refresh()

    assert list(range(10)) == numbers(index)
