"""Copies of files: whole, with time and permissions, or not at all."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from ml_dash import open_run
from ml_dash.storage import disk
from tests.run_folders import RunFolder


@pytest.mark.parametrize("size", [0, 1, 3_000_001])
@pytest.mark.parametrize("way", ["clone", "copy_file_range", "blocks"])
def test_a_copy_is_the_file(tmp_path, monkeypatch, size, way):
    if way != "clone":
        monkeypatch.setattr(disk, "_clone", lambda source, target: False)
    if way == "blocks":

        def refuse(*_):
            raise OSError(errno.EXDEV, "another file system")

        monkeypatch.setattr(os, "copy_file_range", refuse)
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(os.urandom(size))
    source.chmod(0o640)
    os.utime(source, ns=(1_600_000_000_000_000_000, 1_600_000_000_123_456_000))

    assert size == disk.copy_file(str(source), str(target))
    assert source.read_bytes() == target.read_bytes()
    assert (0o640, 1_600_000_000_123_456_000) == (target.stat().st_mode & 0o777, target.stat().st_mtime_ns)


def test_a_file_that_the_kernel_makes_up_as_it_is_read(tmp_path):
    target = tmp_path / "target"
    disk.copy_file("/proc/version", str(target))

    assert Path("/proc/version").read_bytes() == target.read_bytes()


def test_a_file_that_keeps_changing_leaves_no_copy(tmp_path, monkeypatch):
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(b"1")
    copy = disk._copy
    attempts = []

    def copy_and_grow(reader, writer):
        attempts.append(copy(reader, writer))
        with source.open("ab") as file:
            file.write(b"1")
        return attempts[-1]

    monkeypatch.setattr(disk, "_copy", copy_and_grow)
    with pytest.raises(disk.ChangedError):
        disk.copy_file(str(source), str(target))
    assert list(range(1, disk.COPY_ATTEMPTS + 1)) == attempts
    assert not target.exists()


def test_a_disk_that_is_full_leaves_no_copy(tmp_path, monkeypatch):
    source = tmp_path / "source"
    source.write_bytes(b"1")

    def refuse(*_):
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(disk, "_copy", refuse)
    with pytest.raises(OSError, match="full"):
        disk.copy_file(str(source), str(tmp_path / "target"))
    assert not (tmp_path / "target").exists()


@pytest.mark.parametrize(("of_source", "expected"), [(0o777, 0o750), (0o4777, 0o750), (0o600, 0o600), (0o644, 0o640)])
def test_a_copy_of_a_strange_file_has_no_right_that_the_umask_takes(
    of_source: int, expected: int, tmp_path: Path
) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(b"x")
    source.chmod(of_source)
    before = os.umask(0o027)
    try:
        disk.copy_file(str(source), str(target), within_umask=True)
    finally:
        os.umask(before)

    assert expected == stat.S_IMODE(target.stat().st_mode)


def test_a_download_has_no_right_that_the_umask_takes(tmp_path):
    run = RunFolder(tmp_path / "runs")
    run.file("open.sh", b"x", 1).chmod(0o777)
    before = os.umask(0o027)
    try:
        copy = open_run(run.folder).files.download("open.sh", to=tmp_path / "copy.sh")
    finally:
        os.umask(before)

    assert 0o750 == stat.S_IMODE(Path(copy).stat().st_mode)
