from __future__ import annotations

import pytest

from ml_dash.storage import layout


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (layout.logs(), "logs/logs.jsonl"),
        (layout.logs("host-1-2"), "logs/logs.host-1-2.jsonl"),
        (layout.metric_folder("train/loss"), "metrics/train/loss"),
        (layout.metric_folder(None), "metrics/None"),
        (layout.data("metrics/a"), "metrics/a/data.jsonl"),
        (layout.data("metrics/a", "h-1"), "metrics/a/data.h-1.jsonl"),
        (layout.track_folder("robot/arm"), "tracks/robot/arm"),
        (layout.old_track_folder("robot/arm"), "tracks/robot_arm"),
        (layout.frames_folder("cam/0"), "frames/cam/0"),
        (layout.file_index(), "files/index.jsonl"),
        (layout.file_index("h-1"), "files/index.h-1.jsonl"),
        (layout.blob("/", "123", "a.pt"), "files/123/a.pt"),
        (layout.blob("/ckpt/best", "123", "a.pt"), "files/ckpt/best/123/a.pt"),
    ],
)
def test_where_everything_lies(path, expected):
    assert expected == path


@pytest.mark.parametrize(
    ("name", "stem", "expected"),
    [
        ("data.jsonl", "data", True),
        ("data.host-12-345.jsonl", "data", True),
        ("index.jsonl", "index", True),
        ("logs.jsonl", "data", False),
        ("metadata.json", "data", False),
        ("data.jsonl.tmp", "data", False),
        (".data.jsonl.tmp-12", "data", False),
        ("database.jsonl", "data", False),
        ("data.parquet", "data", False),
    ],
)
def test_which_files_are_a_journal(name, stem, expected):
    assert expected is layout.is_shard(name, stem)
