"""The headers of frames in their archives."""

from __future__ import annotations

import io
import tarfile

import pytest

from ml_dash.writer.shards import MAX_TAR_TIME, tar_member


@pytest.mark.parametrize(
    ("when", "expected"),
    [(1.9, 1), (0.0, 0), (-5.0, 0), (-1e12, 0), (MAX_TAR_TIME + 0.5, MAX_TAR_TIME), (2e11, MAX_TAR_TIME)],
)
def test_a_time_that_a_header_cannot_hold_becomes_the_closest(when, expected):
    header = tar_member("000000000.png", 0, when)
    with tarfile.open(fileobj=io.BytesIO(header + bytes(1024))) as archive:
        (member,) = archive.getmembers()

    assert expected == member.mtime
