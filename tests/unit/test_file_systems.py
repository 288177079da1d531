"""Which file system holds a folder."""

from __future__ import annotations

import os
import sys

import pytest

from ml_dash import _file_systems
from ml_dash._file_systems import file_system_of, is_network

MOUNTS = [
    ("0:1", "/", "ext4"),
    ("0:2", "/data", "nfs4"),
    ("0:3", "/data/fast", "btrfs"),
    ("0:4", "/data/fast", "xfs"),
]


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_the_file_systems_of_this_machine():
    assert "tmpfs" == file_system_of("/dev/shm")
    assert "proc" == file_system_of("/proc/self")
    assert file_system_of(os.path.curdir)


@pytest.mark.parametrize(
    ("path", "expected"),
    [("/data", "nfs4"), ("/data/a/b", "nfs4"), ("/database", "ext4"), ("/data/fast/a", "xfs"), ("/", "ext4")],
)
def test_a_device_that_no_mount_has_is_found_by_its_path(monkeypatch, path, expected):
    monkeypatch.setattr(_file_systems, "_mounts", lambda: MOUNTS)
    monkeypatch.setattr(os, "major", lambda _: 999)
    monkeypatch.setattr(os.path, "realpath", os.path.abspath)

    assert expected == file_system_of(path)


def test_a_machine_without_a_list_of_mounts_says_nothing(monkeypatch):
    monkeypatch.setattr(_file_systems, "_mounts", list)

    assert "" == file_system_of("/")


def test_a_mount_point_may_have_spaces(monkeypatch, tmp_path):
    lines = tmp_path / "mountinfo"
    lines.write_text(
        "36 35 98:0 / /my\\040disk rw shared:1 master:2 - ext4 /dev/a rw\n1 2 3:4 / / rw - xfs b rw\nbad\n"
    )
    real = open
    monkeypatch.setattr("builtins.open", lambda path, **options: real(lines, **options))

    mounts = _file_systems._mounts()
    monkeypatch.undo()

    assert [("98:0", "/my disk", "ext4"), ("3:4", "/", "xfs")] == mounts


@pytest.mark.parametrize(
    ("kind", "expected"),
    [("nfs4", True), ("fuse.sshfs", True), ("fuse-overlayfs", False), ("ext4", False), ("", False)],
)
def test_which_file_systems_are_over_a_network(kind, expected):
    assert expected == is_network(kind)
